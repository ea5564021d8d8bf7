// Mount: fallocate and lseek.
#include <algorithm>
#include <utility>

#include "fs/client/mount.h"

namespace cairn {

Task<Result<void>> FileSystem::change_range(HandleId, RangeChange, uint64_t, uint64_t, bool) {
  co_return Error(ErrorCode::kNotSupported);
}

Task<Result<uint64_t>> FileSystem::seek(HandleId, uint64_t, bool) {
  co_return Error(ErrorCode::kNotSupported);
}

Task<Result<void>> Mount::change_range(HandleId id, RangeChange change, uint64_t offset, uint64_t length,
                                       bool keep_size) {
  auto handle = handles_.find(id);
  if (handle == handles_.end()) co_return Error(ErrorCode::kBadHandle);
  if (offset > kMaxFileSizeBytes || length > kMaxFileSizeBytes - offset) co_return Error(ErrorCode::kFileTooBig);
  Result<void> unseen = unseen_error(handle->second);
  if (!unseen) co_return unseen;
  Inode* state = find(handle->second.inode);
  CHECK(state);
  FileWriter& writer = writer_of(*state);
  ++state->operations;
  bool zero = change == RangeChange::kZero;
  Result<void> done;
  Result<void> room;
  if (!zero) room = co_await room_for(*state, offset, length);
  if (room && zero) done = co_await writer.zero(offset, length);
  if (room && done && !keep_size) done = co_await writer.make_longer(offset + length);
  --state->operations;
  if (!done) error_told(id, writer);
  co_return room ? done : room;
}

// There is room now for what the file does not have yet. Others may use it before the caller does.
Task<Result<void>> Mount::room_for(Inode& state, uint64_t offset, uint64_t length) {
  uint64_t size = seen_here(state.attributes).size;
  uint64_t there = std::min(std::max(size, offset) - offset, length);
  if (length == there) co_return Result<void>();
  Result<StatFsReply> space = co_await stat_fs(state.attributes.inode);
  if (!space) co_return space.error();
  if (length - there > space->free_bytes) co_return Error(ErrorCode::kNoSpace, "there is not so much room");
  co_return Result<void>();
}

Task<Result<uint64_t>> Mount::seek(HandleId id, uint64_t offset, bool data) {
  auto handle = handles_.find(id);
  if (handle == handles_.end()) co_return Error(ErrorCode::kBadHandle);
  Inode* state = find(handle->second.inode);
  CHECK(state);
  ++state->operations;
  Result<uint64_t> found = co_await seek_in(*state, offset, data);
  --state->operations;
  co_return found;
}

Task<Result<uint64_t>> Mount::seek_in(Inode& state, uint64_t offset, bool data) {
  InodeId inode = state.attributes.inode;
  Result<void> prepared = co_await prepare_read(inode);
  if (!prepared) co_return prepared.error();
  // What a process has stored in a mapping, and nobody has synced, is data, too.
  if (state.writer && state.writer->writers > 0 && caches_) co_await caches_->forget_pages(inode);
  if (state.writer && state.writer->dirty()) {
    Result<void> sent = co_await state.writer->flush();
    if (!sent) co_return sent.error();
  }
  uint64_t end = seen_here(state.attributes).size;
  if (offset >= end) co_return Error(ErrorCode::kBeyondEnd);
  if (!state.reader) state.reader = std::make_unique<FileReader>(world_, master_, servers_, leases_, inode);
  Result<uint64_t> found = co_await state.reader->seek(offset, end, data, state.writer.get());
  if (found && data && *found == end) co_return Error(ErrorCode::kBeyondEnd);
  co_return found;
}

}  // namespace cairn
