// FileWriter: ranges that become zeros, and files that become longer (fallocate).
#include <algorithm>
#include <set>
#include <utility>

#include "fs/client/file_writer.h"

namespace cairn {

Task<Result<void>> FileWriter::change_range(uint64_t offset, uint64_t length, bool zero, uint64_t size_at_least) {
  TimePoint until = deadline();
  for (;;) {
    Result<void> leased = co_await ensure_lease(until);
    if (!leased) co_return leased;
    Result<Semaphore::Permit> turn = co_await take_turn(until);
    if (!turn) co_return turn.error();
    if (!may_write()) continue;
    Writing writing(*this);
    lease_seen_ = written_ = shared_.world.clock().now();
    uint64_t end = std::min(offset + length, size_);
    Result<void> done;
    if (zero && offset < end) done = co_await zero_locked(offset, end, until);
    // Also where only a part was done: it is to be durable soon.
    if (size_at_least > size_ || (zero && offset < end)) {
      if (done) size_ = std::max(size_, size_at_least);
      mtime_ = shared_.master.now();
      ++generation_;
      dirty_ = true;
      plan_write_back(kWriteBackDelay);
    }
    co_return done;
  }
}

// Chunk by chunk: what the file has no chunk for is a hole already.
Task<Result<void>> FileWriter::zero_locked(uint64_t offset, uint64_t end, TimePoint until) {
  uint64_t losses = losses_;
  Result<void> sent = co_await send_gathered(false, until);
  if (!sent) co_return sent;
  Result<std::vector<uint32_t>> indexes = co_await chunks_between(chunk_index(offset), chunk_index(end - 1), until);
  if (!indexes) co_return indexes.error();
  for (uint32_t index : *indexes) {
    Result<std::shared_ptr<ChunkWriter>> found = co_await writer_for(index, until, false);
    if (!found) co_return found.error();
    std::shared_ptr<ChunkWriter> writer = *found;
    if (!writer) continue;
    Result<void> room = co_await writer->wait_for_room(until);
    if (losses != losses_) co_return last_error_;  // and the lease with it
    if (!room) co_return room;
    uint64_t begin = uint64_t{index} * kChunkSizeBytes;
    auto from = static_cast<uint32_t>(std::max(offset, begin) - begin);
    auto to = static_cast<uint32_t>(std::min<uint64_t>(end - begin, writer->length()));
    if (from < to) writer->submit(WriteKind::kZero, from, to - from, {}, {}, false);
  }
  co_return Result<void>();
}

Task<Result<std::vector<uint32_t>>> FileWriter::chunks_between(uint32_t first, uint32_t last, TimePoint until) {
  std::set<uint32_t> indexes;
  for (const auto& [index, chunk] : chunks_) {
    if (index >= first && index <= last) indexes.insert(index);
  }
  for (uint64_t next = first; next <= last;) {
    GetLayoutRequest request;
    request.inode = inode_;
    request.first_index = static_cast<uint32_t>(next);
    request.count = static_cast<uint32_t>(std::min<uint64_t>(last - next + 1, UINT32_MAX));
    auto reply = co_await shared_.master.ask_until(request, until);
    if (!reply) co_return reply.error();
    for (const ChunkLocation& location : reply->chunks)
      indexes.insert(location.index);
    if (reply->chunks.size() < kLayoutChunksMax) break;
    next = uint64_t{reply->chunks.back().index} + 1;
  }
  co_return std::vector<uint32_t>(indexes.begin(), indexes.end());
}

}  // namespace cairn
