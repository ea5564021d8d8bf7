#include "common/runtime/memory_content.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace cairn {

namespace {
// Reserved and never written: all files share it.
const auto& zero_page() {
  static const auto page = std::make_shared<std::array<std::byte, MemoryContent::kPageBytes>>();
  return page;
}

// Calls fn(page index, offset in the page, offset in the range, size) for each page of [offset, offset + size).
template <class F>
void each_page(uint64_t offset, uint64_t size, F fn) {
  uint64_t done = 0;
  while (done < size) {
    uint64_t within = (offset + done) % MemoryContent::kPageBytes;
    uint64_t here = std::min(MemoryContent::kPageBytes - within, size - done);
    fn((offset + done) / MemoryContent::kPageBytes, within, done, here);
    done += here;
  }
}
}  // namespace

uint64_t MemoryContent::missing_bytes(uint64_t offset, uint64_t size) const {
  if (size == 0) return 0;
  uint64_t first = offset / kPageBytes;
  uint64_t end = (offset + size + kPageBytes - 1) / kPageBytes;
  auto there = std::distance(live_.pages.lower_bound(first), live_.pages.lower_bound(end));
  return (end - first - static_cast<uint64_t>(there)) * kPageBytes;
}

size_t MemoryContent::read(uint64_t offset, std::span<std::byte> out) const {
  if (offset >= live_.size) return 0;
  size_t size = std::min<uint64_t>(out.size(), live_.size - offset);
  each_page(offset, size, [&](uint64_t index, uint64_t within, uint64_t done, uint64_t here) {
    auto page = live_.pages.find(index);
    if (page == live_.pages.end()) {
      std::memset(out.data() + done, 0, here);
    } else {
      std::memcpy(out.data() + done, page->second->data() + within, here);
    }
  });
  return size;
}

MemoryContent::Page& MemoryContent::writable_page(State& state, uint64_t index) {
  std::shared_ptr<Page>& page = state.pages[index];
  if (!page) {
    page = std::make_shared<Page>();
  } else if (page.use_count() > 1) {
    page = std::make_shared<Page>(*page);
  }
  return *page;
}

void MemoryContent::put(State& state, uint64_t offset, std::span<const std::byte> data) {
  each_page(offset, data.size(), [&](uint64_t index, uint64_t within, uint64_t done, uint64_t here) {
    std::memcpy(writable_page(state, index).data() + within, data.data() + done, here);
  });
  if (!data.empty()) state.size = std::max(state.size, offset + data.size());
}

void MemoryContent::apply(State& state, const Change& change) {
  uint64_t end = change.offset + change.size;
  switch (change.kind) {
    case Change::Kind::kWrite:
      put(state, change.offset, change.data);
      return;
    case Change::Kind::kTruncate:
      if (change.size < state.size) {
        state.pages.erase(state.pages.lower_bound((change.size + kPageBytes - 1) / kPageBytes), state.pages.end());
        uint64_t within = change.size % kPageBytes;
        if (within != 0 && state.pages.contains(change.size / kPageBytes)) {
          Page& last = writable_page(state, change.size / kPageBytes);
          std::memset(last.data() + within, 0, kPageBytes - within);
        }
      }
      state.size = change.size;
      return;
    case Change::Kind::kAllocate:
      state.size = std::max(state.size, end);
      [[fallthrough]];
    case Change::Kind::kAllocateKeepSize:
      each_page(change.offset, change.size,
                [&](uint64_t index, uint64_t, uint64_t, uint64_t) { state.pages.try_emplace(index, zero_page()); });
      return;
    case Change::Kind::kPunchHole:
      each_page(change.offset, change.size, [&](uint64_t index, uint64_t within, uint64_t, uint64_t here) {
        if (here == kPageBytes) {
          state.pages.erase(index);
        } else if (state.pages.contains(index)) {
          std::memset(writable_page(state, index).data() + within, 0, here);
        }
      });
      return;
  }
}

void MemoryContent::change(Change change) {
  apply(live_, change);
  unsynced_.push_back(std::move(change));
}

void MemoryContent::write(uint64_t offset, std::vector<std::byte> data) {
  if (data.empty()) return;
  uint64_t size = data.size();
  change(Change{Change::Kind::kWrite, offset, size, std::move(data)});
}
void MemoryContent::truncate(uint64_t size) {
  change(Change{Change::Kind::kTruncate, 0, size, {}});
}
void MemoryContent::allocate(uint64_t offset, uint64_t size, bool keep_size) {
  change(Change{keep_size ? Change::Kind::kAllocateKeepSize : Change::Kind::kAllocate, offset, size, {}});
}
void MemoryContent::punch_hole(uint64_t offset, uint64_t size) {
  change(Change{Change::Kind::kPunchHole, offset, size, {}});
}

void MemoryContent::sync() {
  // Only what the changes touched is looked at: a sync after a small write of a large file costs little.
  for (const Change& change : unsynced_) {
    if (change.kind == Change::Kind::kTruncate) {
      // Later writes may have put pages back beyond it: those are theirs to bring.
      durable_.pages.erase(durable_.pages.lower_bound(change.size / kPageBytes), durable_.pages.end());
      auto last = live_.pages.find(change.size / kPageBytes);
      if (last != live_.pages.end()) durable_.pages.insert_or_assign(last->first, last->second);
      continue;
    }
    uint64_t first = change.offset / kPageBytes;
    uint64_t end = (change.offset + change.size + kPageBytes - 1) / kPageBytes;
    durable_.pages.erase(durable_.pages.lower_bound(first), durable_.pages.lower_bound(end));
    durable_.pages.insert(live_.pages.lower_bound(first), live_.pages.lower_bound(end));
  }
  durable_.size = live_.size;
  unsynced_.clear();
}

void MemoryContent::apply_part(State& state, const Change& write, Random& keep) {
  uint64_t sector = keep.chance(1, 2) ? 512 : kPageBytes;
  std::span<const std::byte> data(write.data);
  uint64_t done = 0;
  while (done < data.size()) {
    uint64_t here = std::min<uint64_t>(sector - (write.offset + done) % sector, data.size() - done);
    if (keep.chance(1, 2)) put(state, write.offset + done, data.subspan(done, here));
    done += here;
  }
}

void MemoryContent::crash(Random* keep) {
  if (keep) {
    for (const Change& change : unsynced_) {
      uint64_t fate = keep->below(3);
      if (fate == 0) continue;
      if (fate == 1 || change.kind != Change::Kind::kWrite) {
        apply(durable_, change);
      } else {
        apply_part(durable_, change, *keep);
      }
    }
  }
  live_ = durable_;
  unsynced_.clear();
}

void MemoryContent::flip_byte(uint64_t offset) {
  if (offset >= live_.size) return;
  auto flip = [offset](State& state) {
    if (offset < state.size) writable_page(state, offset / kPageBytes)[offset % kPageBytes] ^= std::byte{0x5a};
  };
  bool shared = false;
  auto live = live_.pages.find(offset / kPageBytes);
  auto durable = durable_.pages.find(offset / kPageBytes);
  if (live != live_.pages.end() && durable != durable_.pages.end()) shared = live->second == durable->second;
  flip(live_);
  if (shared) {
    durable_.pages[offset / kPageBytes] = live_.pages[offset / kPageBytes];
  } else {
    flip(durable_);
  }
}

}  // namespace cairn
