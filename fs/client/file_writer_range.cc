// FileWriter: ranges that become zeros, and files that become longer (fallocate).
#include <algorithm>
#include <utility>

#include "fs/client/chunk_search.h"
#include "fs/client/file_writer.h"

namespace cairn {

Task<Result<void>> FileWriter::make_longer(uint64_t size) {
  TimePoint until = deadline();
  for (;;) {
    Result<void> leased = co_await ensure_lease(until);
    if (!leased) co_return leased;
    Result<Semaphore::Permit> turn = co_await take_turn(until);
    if (!turn) co_return turn.error();
    if (!may_write()) continue;
    if (size > size_) {
      size_ = size;
      changed_range();
    }
    co_return Result<void>();
  }
}

// Chunk by chunk, each with a turn of its own: others may look at the file, or take the lease, in between.
Task<Result<void>> FileWriter::zero(uint64_t offset, uint64_t length) {
  uint64_t at = offset;
  for (TimePoint until = deadline(); at < offset + length;) {
    Result<void> leased = co_await ensure_lease(until);
    if (!leased) co_return leased;
    Result<Semaphore::Permit> turn = co_await take_turn(until);
    if (!turn) co_return turn.error();
    if (!may_write()) continue;
    Writing writing(*this);
    uint64_t end = std::min(offset + length, size_);
    if (at >= end) break;
    changed_range();  // before anything is waited for: whoever takes the lease back waits for this turn then
    Result<uint64_t> next = co_await zero_next(at, end, until);
    if (!next) co_return next.error();
    at = *next;
    until = deadline();
  }
  co_return Result<void>();
}

void FileWriter::changed_range() {
  lease_seen_ = written_ = shared_.world.clock().now();
  mtime_ = shared_.master.now();
  ++generation_;
  dirty_ = true;
  plan_write_back(kWriteBackDelay);
}

// The next chunk that has something in [at, end): what the file has no chunk for is a hole already. Gives how far it is
// done.
Task<Result<uint64_t>> FileWriter::zero_next(uint64_t at, uint64_t end, TimePoint until) {
  uint64_t losses = losses_;
  Result<void> sent = co_await send_gathered(false, until);
  if (!sent) co_return sent.error();
  uint64_t last = (end - 1) / kChunkSizeBytes;
  uint64_t index = at / kChunkSizeBytes;
  uint64_t ours = next_chunk(chunk_index(at)).value_or(UINT32_MAX);
  if (ours != index) {
    Result<uint64_t> theirs = co_await next_chunk_of(shared_.master, inode_, index, last, until);
    if (!theirs) co_return theirs.error();
    index = std::min(ours, *theirs);
  }
  if (index > last) co_return end;
  Result<std::shared_ptr<ChunkWriter>> found = co_await writer_for(static_cast<uint32_t>(index), until, false);
  if (!found) co_return found.error();
  std::shared_ptr<ChunkWriter> writer = *found;
  uint64_t begin = index * kChunkSizeBytes;
  if (!writer) co_return begin + kChunkSizeBytes;
  Result<void> room = co_await writer->wait_for_room(until);
  if (losses != losses_) co_return last_error_;  // and the lease with it
  if (!room) co_return room.error();
  auto from = static_cast<uint32_t>(std::max(at, begin) - begin);
  auto to = static_cast<uint32_t>(std::min<uint64_t>(end - begin, writer->length()));
  if (from < to) writer->submit(WriteKind::kZero, from, to - from, {}, {}, false);
  co_return begin + kChunkSizeBytes;
}

}  // namespace cairn
