#include "tests/sim/file_model.h"

#include <algorithm>

#include "common/base/units.h"

namespace cairn {

namespace {
constexpr uint64_t kMargin = 4096;
}

std::byte model_byte(uint64_t write, uint64_t offset) {
  if (write == 0) return std::byte{0};
  uint64_t x = write * 0x9E3779B97F4A7C15ull + offset / 8;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  x ^= x >> 31;
  return static_cast<std::byte>((x >> (offset % 8 * 8)) & 0xff);
}

// ---------------------------------------------------------------- content

void FileContent::split(uint64_t at) {
  auto next = extents_.upper_bound(at);
  if (next == extents_.begin()) return;
  auto extent = std::prev(next);
  if (extent->first == at || extent->second.first <= at) return;
  extents_[at] = extent->second;
  extent->second.first = at;
}

void FileContent::put(uint64_t begin, uint64_t end, uint64_t write) {
  if (begin >= end) return;
  split(begin);
  split(end);
  extents_.erase(extents_.lower_bound(begin), extents_.lower_bound(end));
  if (write != 0) extents_[begin] = {end, write};
  size_ = std::max(size_, end);
}

void FileContent::set_size(uint64_t size) {
  split(size);
  extents_.erase(extents_.lower_bound(size), extents_.end());
  size_ = size;
}

uint64_t FileContent::write_at(uint64_t offset) const {
  auto next = extents_.upper_bound(offset);
  if (next == extents_.begin()) return 0;
  auto extent = std::prev(next);
  return offset < extent->second.first ? extent->second.second : 0;
}

std::optional<uint64_t> FileContent::first_difference(uint64_t offset, std::span<const std::byte> data) const {
  uint64_t end = offset + data.size();
  auto next = extents_.upper_bound(offset);
  if (next != extents_.begin() && std::prev(next)->second.first > offset) next = std::prev(next);
  for (uint64_t at = offset; at < end;) {
    uint64_t write = 0;
    uint64_t stop = end;
    if (next != extents_.end() && next->first <= at) {
      write = next->second.second;
      stop = std::min(end, next->second.first);
      ++next;
    } else if (next != extents_.end()) {
      stop = std::min(end, next->first);
    }
    for (; at < stop; ++at) {
      if (data[at - offset] != model_byte(write, at)) return at;
    }
  }
  return std::nullopt;
}

// ---------------------------------------------------------------- file

void FileModel::begin_write(uint64_t begin, uint64_t end, uint64_t write, bool after_loss) {
  pending_.push_back({.after_loss = after_loss, .begin = begin, .end = end, .write = write});
}

void FileModel::end_write() {
  const Pending& last = pending_.back();
  current_.put(last.begin, last.end, last.write);
}

void FileModel::begin_truncate(uint64_t size) {
  pending_.push_back({.truncate = true, .after_loss = false, .begin = 0, .end = size, .write = 0});
}

// The cut is in the masters' log; of what was written below it nothing more is promised than before.
void FileModel::end_truncate() {
  uint64_t size = pending_.back().end;
  pending_.pop_back();
  current_.set_size(size);
  durable_.set_size(size);
  for (Pending& pending : pending_)
    pending.end = std::min(pending.end, size);
  std::erase_if(pending_, [](const Pending& pending) { return pending.begin >= pending.end; });
}

void FileModel::synced() {
  durable_ = current_;
  pending_.clear();
}

bool FileModel::size_is_possible(uint64_t size) const {
  std::set<uint64_t> possible = {durable_.size()};
  uint64_t reached = durable_.size();
  for (const Pending& pending : pending_) {
    if (pending.truncate) {
      possible.insert(pending.end);
      continue;
    }
    if (pending.after_loss) {
      std::set<uint64_t> before = possible;
      for (uint64_t earlier : before)
        possible.insert(std::max(earlier, pending.end));
    }
    // A write across the border of chunks is two.
    uint64_t border = pending.end / kChunkSizeBytes * kChunkSizeBytes;
    if (border > pending.begin) possible.insert(std::max(reached, border));
    reached = std::max(reached, pending.end);
    possible.insert(reached);
  }
  return possible.contains(size);
}

std::vector<std::pair<uint64_t, uint64_t>> FileModel::regions(uint64_t size) const {
  std::vector<std::pair<uint64_t, uint64_t>> all;
  auto add = [&](uint64_t begin, uint64_t end) {
    begin = begin > kMargin ? begin - kMargin : 0;
    end = std::min(end + kMargin, size);
    if (begin < end) all.emplace_back(begin, end);
  };
  for (const auto& [begin, extent] : durable_.extents())
    add(begin, extent.first);
  for (const auto& [begin, extent] : current_.extents())
    add(begin, extent.first);
  for (const Pending& pending : pending_)
    add(pending.begin, pending.truncate ? pending.begin : pending.end);
  add(size > kMargin ? size - kMargin : 0, size);
  std::ranges::sort(all);
  std::vector<std::pair<uint64_t, uint64_t>> merged;
  for (const auto& [begin, end] : all) {
    if (!merged.empty() && begin <= merged.back().second) {
      merged.back().second = std::max(merged.back().second, end);
    } else {
      merged.emplace_back(begin, end);
    }
  }
  return merged;
}

void FileModel::begin_adoption(uint64_t size) {
  adopted_ = FileContent();
  adopted_.set_size(size);
}

std::optional<uint64_t> FileModel::adopt(uint64_t offset, std::span<const std::byte> data) {
  bool cut = std::ranges::any_of(pending_, [](const Pending& pending) { return pending.truncate; });
  uint64_t run_begin = offset;
  uint64_t run_write = 0;
  for (uint64_t at = offset; at < offset + data.size(); ++at) {
    std::byte found = data[at - offset];
    auto possible = [&](uint64_t write) { return model_byte(write, at) == found; };
    std::optional<uint64_t> write;
    uint64_t before = durable_.write_at(at);
    for (auto pending = pending_.rbegin(); pending != pending_.rend() && !write; ++pending) {
      if (!pending->truncate && pending->begin <= at && at < pending->end && possible(pending->write))
        write = pending->write;
    }
    if (!write && possible(before)) write = before;
    if (!write && cut && possible(0)) write = 0;
    if (!write) return at;
    if (*write == run_write) continue;
    adopted_.put(run_begin, at, run_write);
    run_begin = at;
    run_write = *write;
  }
  adopted_.put(run_begin, offset + data.size(), run_write);
  return std::nullopt;
}

void FileModel::end_adoption() {
  durable_ = adopted_;
  current_ = adopted_;
  pending_.clear();
}

std::string FileModel::describe(uint64_t offset) const {
  std::string text = "offset " + std::to_string(offset) + ": durable write " +
                     std::to_string(durable_.write_at(offset)) + ", current write " +
                     std::to_string(current_.write_at(offset)) + ", pending";
  for (const Pending& pending : pending_) {
    if (pending.truncate) {
      text += " truncate(" + std::to_string(pending.end) + ")";
    } else if (pending.begin <= offset && offset < pending.end) {
      text += " " + std::to_string(pending.write) + "[" + std::to_string(pending.begin) + "," +
              std::to_string(pending.end) + ")";
    }
  }
  return text + "; sizes " + std::to_string(durable_.size()) + ", " + std::to_string(current_.size());
}

}  // namespace cairn
