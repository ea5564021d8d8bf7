#include "fs/fuse/inode_traffic.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace cairn {

namespace {

uint64_t page_begin(uint64_t offset) {
  return offset / kKernelPageBytes * kKernelPageBytes;
}

ByteRange whole_pages(ByteRange range) {
  uint64_t end = page_begin(range.end);
  if (end < range.end) end = end > kFileEnd - kKernelPageBytes ? kFileEnd : end + kKernelPageBytes;
  return {page_begin(range.begin), end};
}

}  // namespace

std::vector<ByteRange> without(ByteRange range, std::vector<ByteRange> taken) {
  std::ranges::sort(taken, {}, &ByteRange::begin);
  std::vector<ByteRange> left;
  for (const ByteRange& part : taken) {
    if (!part.overlaps(range)) continue;
    if (part.begin > range.begin) left.push_back({range.begin, part.begin});
    range.begin = part.end;
    if (range.begin >= range.end) return left;
  }
  left.push_back(range);
  return left;
}

void InodeTraffic::add(std::vector<ByteRange>& ranges, ByteRange range, size_t max) {
  range = whole_pages(range);
  auto covers = [range](const ByteRange& one) { return one.begin <= range.begin && range.end <= one.end; };
  if (std::ranges::any_of(ranges, covers)) return;
  if (!ranges.empty() && range.begin <= ranges.back().end && ranges.back().begin <= range.end) {
    ranges.back() = {std::min(range.begin, ranges.back().begin), std::max(range.end, ranges.back().end)};
    return;
  }
  ranges.push_back(range);
  if (ranges.size() <= max) return;
  ByteRange all = ranges.front();
  for (const ByteRange& one : ranges)
    all = {std::min(all.begin, one.begin), std::max(all.end, one.end)};
  ranges = {all};
}

void InodeTraffic::drop_if_idle(InodeId inode) {
  auto found = inodes_.find(inode);
  if (found != inodes_.end() && found->second.idle()) inodes_.erase(found);
}

uint64_t InodeTraffic::read_began(InodeId inode, ByteRange range) {
  inodes_[inode].reads.emplace(next_, Read{.range = whole_pages(range)});
  return next_++;
}

bool InodeTraffic::read_is_old(InodeId inode, uint64_t read) {
  return std::exchange(inodes_[inode].reads.at(read).old, false);
}

void InodeTraffic::read_answered(InodeId inode, uint64_t read) {
  State& state = inodes_[inode];
  auto own = state.reads.find(read);
  CHECK(own != state.reads.end());
  ByteRange range = own->second.range;
  state.reads.erase(own);
  if (state.pass) add(state.answered, range);
  for (auto& [id, write] : state.writes) {
    // Not as one: a page between them may be one that the WRITE holds.
    if (whole_pages(write.range).overlaps(range)) add(write.read, range, SIZE_MAX);
  }
  drop_if_idle(inode);
}

uint64_t InodeTraffic::write_began(InodeId inode, ByteRange range, TimePoint now, bool holds_parts) {
  inodes_[inode].writes.emplace(next_, Write{.range = range, .began = now, .holds_parts = holds_parts});
  return next_++;
}

std::vector<ByteRange> InodeTraffic::read_during(InodeId inode, uint64_t write) {
  return std::exchange(inodes_[inode].writes.at(write).read, {});
}

void InodeTraffic::write_answered(InodeId inode, uint64_t write) {
  State& state = inodes_[inode];
  auto own = state.writes.find(write);
  CHECK(own != state.writes.end());
  ByteRange range = whole_pages(own->second.range);
  state.writes.erase(own);
  for (auto& [id, read] : state.reads)
    read.old = read.old || read.range.overlaps(range);
  drop_if_idle(inode);
}

std::vector<ByteRange> InodeTraffic::partial_pages(InodeId inode, ByteRange range, TimePoint begun_by) const {
  auto found = inodes_.find(inode);
  if (found == inodes_.end()) return {};
  std::vector<ByteRange> pages;
  auto take = [&](uint64_t offset) {
    ByteRange page{page_begin(offset), page_begin(offset) + kKernelPageBytes};
    if (page.overlaps(range) && std::ranges::find(pages, page) == pages.end()) pages.push_back(page);
  };
  for (const auto& [id, write] : found->second.writes) {
    if (!write.holds_parts || write.began > begun_by) continue;
    if (write.range.begin % kKernelPageBytes != 0) take(write.range.begin);
    if (write.range.end % kKernelPageBytes != 0) take(write.range.end);
  }
  return pages;
}

void InodeTraffic::change_began(InodeId directory) {
  ++inodes_[directory].changes;
}

void InodeTraffic::change_answered(InodeId directory) {
  State& state = inodes_[directory];
  CHECK(state.changes > 0);
  --state.changes;
  drop_if_idle(directory);
}

bool InodeTraffic::changing(InodeId directory) const {
  auto found = inodes_.find(directory);
  return found != inodes_.end() && found->second.changes > 0;
}

void InodeTraffic::begin_pass(InodeId inode, bool hold_reads) {
  State& state = inodes_[inode];
  CHECK(!state.pass);
  state.pass = true;
  state.hold_reads = hold_reads;
}

std::vector<ByteRange> InodeTraffic::end_pass(InodeId inode) {
  State& state = inodes_[inode];
  CHECK(state.pass);
  std::vector<ByteRange> again = std::move(state.answered);
  for (const auto& [id, read] : state.reads)
    add(again, read.range);
  state.answered.clear();
  state.pass = state.hold_reads = false;
  state.through = {};
  drop_if_idle(inode);
  return again;
}

bool InodeTraffic::holds(InodeId inode, ByteRange range) const {
  auto found = inodes_.find(inode);
  if (found == inodes_.end() || !found->second.hold_reads) return false;
  return !found->second.through.overlaps(range);
}

void InodeTraffic::let_through(InodeId inode, ByteRange range) {
  inodes_[inode].through = range;
  drop_if_idle(inode);
}

}  // namespace cairn
