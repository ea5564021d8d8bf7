#include "chunkserver/store/shared_ranges.h"

#include <algorithm>
#include <iterator>

namespace cairn {

void SharedRanges::put(uint32_t first, Count count) {
  ranges_[first] = count;
  changes_[first] = count;
}

void SharedRanges::erase(uint32_t first) {
  ranges_.erase(first);
  changes_[first] = std::nullopt;
}

// No range has `block` inside it after this.
void SharedRanges::split_at(uint32_t block) {
  auto it = ranges_.upper_bound(block);
  if (it == ranges_.begin()) return;
  --it;
  uint32_t first = it->first;
  Count count = it->second;
  if (first == block || first + count.blocks <= block) return;
  put(first, {block - first, count.references});
  put(block, {first + count.blocks - block, count.references});
}

// Joins equal neighbours around [first, end].
void SharedRanges::merge(uint32_t first, uint32_t end) {
  auto it = ranges_.lower_bound(first);
  if (it != ranges_.begin()) --it;
  while (it != ranges_.end() && it->first <= end) {
    auto next = std::next(it);
    if (next == ranges_.end()) return;
    if (it->first + it->second.blocks == next->first && it->second.references == next->second.references) {
      Count joined{it->second.blocks + next->second.blocks, it->second.references};
      uint32_t at = it->first;
      erase(next->first);
      put(at, joined);
      it = ranges_.find(at);
    } else {
      it = next;
    }
  }
}

void SharedRanges::add(Blocks blocks) {
  uint32_t end = blocks.first + blocks.blocks;
  split_at(blocks.first);
  split_at(end);
  for (uint32_t at = blocks.first; at < end;) {
    auto it = ranges_.lower_bound(at);
    if (it != ranges_.end() && it->first == at) {
      put(at, {it->second.blocks, it->second.references + 1});
      at += ranges_[at].blocks;
      continue;
    }
    uint32_t gap_end = it == ranges_.end() ? end : std::min(end, it->first);
    put(at, {gap_end - at, 2});
    at = gap_end;
  }
  merge(blocks.first, end);
}

std::vector<SharedRanges::Blocks> SharedRanges::release(Blocks blocks) {
  std::vector<Blocks> gone;
  uint32_t end = blocks.first + blocks.blocks;
  split_at(blocks.first);
  split_at(end);
  for (uint32_t at = blocks.first; at < end;) {
    auto it = ranges_.lower_bound(at);
    if (it != ranges_.end() && it->first == at) {
      Count count = it->second;
      if (count.references == 2) {
        erase(at);  // one is left: not shared any more
      } else {
        put(at, {count.blocks, count.references - 1});
      }
      at += count.blocks;
      continue;
    }
    uint32_t gap_end = it == ranges_.end() ? end : std::min(end, it->first);
    gone.push_back({at, gap_end - at});
    at = gap_end;
  }
  merge(blocks.first, end);
  return gone;
}

bool SharedRanges::shared(uint32_t block) const {
  auto it = ranges_.upper_bound(block);
  if (it == ranges_.begin()) return false;
  --it;
  return block < it->first + it->second.blocks;
}

}  // namespace cairn
