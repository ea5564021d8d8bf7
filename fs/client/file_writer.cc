#include "fs/client/file_writer.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/log.h"
#include "common/base/units.h"

namespace cairn {

namespace {
constexpr uint64_t kGatherBytes = kMiB;         // what is sent as one write
constexpr size_t kStagingBytes = 128 * kKiB;    // small pieces are put together in buffers of this size
constexpr size_t kSmallPieceBytes = 16 * kKiB;  // what counts as small
// Files that are closed one after another are made durable together, on these beats: one sync on each server for many,
// instead of one each. Short, because until then other mounts see the file as it was before.
constexpr Duration kCloseBeat = std::chrono::milliseconds(25);
// How long a writer waits while fewer servers are there than min_copies (docs/consistency.md).
constexpr Duration kServersWait = std::chrono::seconds(30);
constexpr Duration kAskAgain = std::chrono::milliseconds(500);
constexpr Duration kWriteBackRetry = std::chrono::seconds(1);
}  // namespace

FileWriter::FileWriter(WriterShared& shared, Attributes attributes)
    : shared_(shared),
      inode_(attributes.inode),
      base_(attributes),
      size_(attributes.size),
      lease_mutex_(shared.world.executor()),
      write_mutex_(shared.world.executor()),
      sync_mutex_(shared.world.executor()),
      tasks_(shared.world.executor(), shared.world.clock()) {
  lease_seen_ = written_ = shared.world.clock().now();
}

FileWriter::~FileWriter() = default;

// ---------------------------------------------------------------- writing

Task<Result<void>> FileWriter::write(uint64_t offset, Buffer data) {
  if (offset + data.size() > kMaxFileSizeBytes) co_return Error(ErrorCode::kFileTooBig);
  TimePoint until = deadline();
  // Room first: whoever has the lease and the turn waits for servers only, and a recall for no other file's data.
  Result<Semaphore::Permit> room = co_await shared_.memory.acquire_until(data.size(), shared_.world.clock(), until);
  if (!room) co_return Error(ErrorCode::kIo, "what was written before is not on disk in time");
  for (;;) {
    Result<void> leased = co_await ensure_lease(until);
    if (!leased) co_return leased;
    Result<Semaphore::Permit> turn = co_await take_turn(until);
    if (!turn) co_return turn.error();
    if (!may_write()) continue;
    Writing writing(*this);
    Result<void> written = co_await write_locked(offset, std::move(data), std::move(*room), until);
    co_return written;
  }
}

Task<Result<uint64_t>> FileWriter::append(Buffer data) {
  TimePoint until = deadline();
  Result<Semaphore::Permit> room = co_await shared_.memory.acquire_until(data.size(), shared_.world.clock(), until);
  if (!room) co_return Error(ErrorCode::kIo, "what was written before is not on disk in time");
  for (;;) {
    Result<void> leased = co_await ensure_lease(until);
    if (!leased) co_return leased.error();
    Result<Semaphore::Permit> turn = co_await take_turn(until);
    if (!turn) co_return turn.error();
    if (!may_write()) continue;
    Writing writing(*this);
    uint64_t offset = size_;
    if (offset + data.size() > kMaxFileSizeBytes) co_return Error(ErrorCode::kFileTooBig);
    Result<void> written = co_await write_locked(offset, std::move(data), std::move(*room), until);
    if (!written) co_return written.error();
    co_return offset;
  }
}

Task<Result<Semaphore::Permit>> FileWriter::take_turn(TimePoint until) {
  Result<Semaphore::Permit> turn = co_await write_mutex_.acquire_until(1, shared_.world.clock(), until);
  if (!turn) co_return Error(ErrorCode::kIo, "an earlier write of the file does not end in time");
  co_return turn;
}

// `room` goes with the first piece; there is a second one only where a chunk ends.
Task<Result<void>> FileWriter::write_locked(uint64_t offset, Buffer data, Semaphore::Permit room, TimePoint until) {
  uint64_t losses = losses_;
  lease_seen_ = written_ = shared_.world.clock().now();
  while (!data.empty()) {
    uint64_t in_chunk = kChunkSizeBytes - offset % kChunkSizeBytes;
    size_t size = static_cast<size_t>(std::min<uint64_t>(data.size(), in_chunk));
    Buffer piece = data.slice(0, size);
    data = data.slice(size, data.size() - size);
    if (!gathers(offset, size)) {
      Result<void> sent = co_await send_gathered(false, until);
      if (!sent) plan_write_back(kWriteBackDelay);  // what was accepted before is to be durable soon all the same
      if (!sent) co_return sent;
    }
    if (losses != losses_) co_return last_error_;  // and the lease with it
    gather(offset, std::move(piece), std::exchange(room, {}));
    offset += size;
    size_ = std::max(size_, offset);
    mtime_ = shared_.master.now();
    ++generation_;
    if (gathered_bytes_ >= kGatherBytes || offset % kChunkSizeBytes == 0) {
      Result<void> sent = co_await send_gathered(false, until);
      if (!sent) plan_write_back(kWriteBackDelay);
      if (!sent) co_return sent;
    }
  }
  plan_write_back(kWriteBackDelay);
  co_return Result<void>();
}

// True if [offset, offset + size) goes on where the gathered run ends, in the same chunk.
bool FileWriter::gathers(uint64_t offset, uint64_t size) const {
  if (gathered_bytes_ == 0) return true;
  return offset == gathered_offset_ + gathered_bytes_ && offset % kChunkSizeBytes != 0 &&
         gathered_bytes_ + size <= kGatherBytes;
}

void FileWriter::gather(uint64_t offset, Buffer piece, Semaphore::Permit permit) {
  if (gathered_bytes_ == 0) gathered_offset_ = offset;
  gathered_bytes_ += piece.size();
  if (permit.units() > 0) gathered_permits_.push_back(std::move(permit));
  bool small = piece.size() < kSmallPieceBytes;
  bool room = staging_.size() - staging_used_ >= piece.size();
  if (!small || gathered_.empty()) {
    gathered_.push_back(std::move(piece));
    staging_ = Buffer();
    staging_used_ = 0;
    return;
  }
  if (!room) {
    staging_ = Buffer::allocate(kStagingBytes);
    staging_used_ = 0;
  }
  std::memcpy(staging_.mutable_span().data() + staging_used_, piece.data(), piece.size());
  if (staging_used_ == 0) {
    gathered_.push_back(staging_.slice(0, piece.size()));
  } else {
    size_t begin = staging_used_ - gathered_.back().size();
    gathered_.back() = staging_.slice(begin, gathered_.back().size() + piece.size());
  }
  staging_used_ += piece.size();
}

Task<Result<void>> FileWriter::send_gathered(bool sync, TimePoint until) {
  if (gathered_bytes_ == 0) co_return Result<void>();
  uint32_t index = chunk_index(gathered_offset_);
  uint64_t losses = losses_;
  Result<std::shared_ptr<ChunkWriter>> writer = co_await writer_for(index, until);
  Result<void> room;
  if (!writer) {
    room = writer.error();
  } else {
    room = co_await (*writer)->wait_for_room(until);
  }
  if (losses != losses_) co_return last_error_;
  if (gathered_bytes_ == 0) co_return Result<void>();  // cut off, or the file is gone
  bool nobody_answered = writer ? !(*writer)->broken() : is_masters_trouble(writer.code());
  if (!room && nobody_answered) {
    // No master, or too few replicas, for as long as anybody waits; they may come back, and the data is still here.
    plan_write_back(kWriteBackRetry);
    co_return room;
  }
  Payload data = std::exchange(gathered_, {});
  std::vector<Semaphore::Permit> permits = std::exchange(gathered_permits_, {});
  uint64_t size = std::exchange(gathered_bytes_, 0);
  staging_ = Buffer();
  staging_used_ = 0;
  if (!room) {  // the last word: it can never be written
    failed(room.error());
    co_return room;
  }
  dirty_ = true;
  (*writer)->submit(WriteKind::kData, static_cast<uint32_t>(gathered_offset_ % kChunkSizeBytes),
                    static_cast<uint32_t>(size), std::move(data), std::move(permits), sync);
  co_return Result<void>();
}

Task<Result<std::shared_ptr<ChunkWriter>>> FileWriter::writer_for(uint32_t index, TimePoint deadline, bool make) {
  // What a writer kept when it broke is lost, and nobody may have waited for it: that is told before anything else is
  // written, or the next fsync would succeed without it.
  std::optional<Error> broken = broken_chunk();
  if (broken) co_return *broken;
  auto found = chunks_.find(index);
  if (found != chunks_.end()) co_return found->second.writer;
  ChunkWriter::Owner owner{.inode = inode_, .index = index};
  OpenChunk opened;
  uint64_t losses = losses_;
  SessionId session = shared_.master.session();  // whose lease it is done under
  bool there = index * kChunkSizeBytes < base_.size;
  if (there) {
    OpenChunkRequest request;
    request.inode = inode_;
    request.index = index;
    TimePoint until = std::min(shared_.world.clock().now() + kServersWait, deadline);
    auto reply = co_await shared_.master.ask_until(request, deadline, session);
    while (reply.failed_with(ErrorCode::kTooFewReplicas) && shared_.world.clock().now() < until) {
      Result<void> slept = co_await tasks_.sleep_for(kAskAgain);
      if (!slept) co_return slept.error();
      reply = co_await shared_.master.ask_until(request, deadline, session);
    }
    if (reply) {
      opened.committed_version = reply->grant.version;
      opened.committed_length = static_cast<uint32_t>(reply->length);
      opened.writer =
          std::make_shared<ChunkWriter>(shared_.world, shared_.master, shared_.servers, owner, std::move(reply->grant),
                                        reply->sequence, reply->length, reply->limit);
    } else if (!reply.failed_with(ErrorCode::kNotFound)) {
      co_return reply.error();
    }
  }
  if (!opened.writer && !make) co_return nullptr;
  if (!opened.writer) {
    Result<ChunkGrant> grant = co_await shared_.grants.take(base_.goal, base_.min_copies, deadline);
    if (!grant) co_return grant.error();
    opened.writer = std::make_shared<ChunkWriter>(shared_.world, shared_.master, shared_.servers, owner,
                                                  std::move(*grant), 0, 0, UINT32_MAX);
  }
  if (losses != losses_) co_return last_error_;
  std::shared_ptr<ChunkWriter> writer = opened.writer;
  chunks_[index] = std::move(opened);
  co_return writer;
}

// ---------------------------------------------------------------- durable

Task<Result<void>> FileWriter::flush() {
  TimePoint until = deadline();
  {
    Result<Semaphore::Permit> turn = co_await take_turn(until);
    if (!turn) co_return turn.error();
    Result<void> sent = co_await send_gathered(false, until);
    if (!sent) co_return sent;
  }
  std::vector<uint32_t> indexes;
  for (auto& [index, chunk] : chunks_)
    indexes.push_back(index);
  for (uint32_t index : indexes) {
    auto found = chunks_.find(index);
    if (found == chunks_.end()) continue;
    std::shared_ptr<ChunkWriter> writer = found->second.writer;
    uint64_t errors = error_count_;
    Result<void> accepted = co_await writer->wait_accepted(until);
    if (!accepted && error_count_ != errors) accepted = last_error_;  // lost meanwhile: handles have been told why
    if (!accepted && error_count_ == errors) failed(accepted.error());
    if (!accepted) co_return accepted;
  }
  co_return Result<void>();
}

Task<Result<void>> FileWriter::sync(bool data_only) {
  Result<void> synced = co_await sync_as(data_only ? SyncKind::kData : SyncKind::kAll);
  co_return synced;
}

bool FileWriter::must_commit(SyncKind kind) const {
  if (size_ > base_.size) return true;
  for (const auto& [index, chunk] : chunks_) {
    if (chunk.committed_version != chunk.writer->version() || chunk.committed_length != chunk.writer->length())
      return true;
    if (chunk.writer->trimmed() && !chunk.committed_trim) return true;
  }
  return kind != SyncKind::kData && mtime_.has_value();
}

Task<Result<void>> FileWriter::sync_as(SyncKind kind) {
  TimePoint until = deadline();
  // The one before may wait for servers, too.
  Result<Semaphore::Permit> turn = co_await sync_mutex_.acquire_until(1, shared_.world.clock(), until);
  if (!turn) co_return Error(ErrorCode::kIo, "what is being made durable is not on disk in time");
  bool to_seal = kind == SyncKind::kBackground && writers == 0 && !chunks_.empty();
  if (!dirty() && !mtime_ && !to_seal) co_return Result<void>();
  syncing_ = true;
  Result<void> done;
  Written written;
  {
    Result<Semaphore::Permit> write_turn = co_await take_turn(until);
    if (write_turn) {
      done = co_await send_gathered(kind != SyncKind::kBackground, until);
    } else {
      done = write_turn.error();
    }
    written = written_so_far();
  }
  uint64_t generation = generation_;
  uint64_t errors = error_count_;
  uint64_t losses = losses_;
  for (bool again = done.has_value(); again;) {
    done = co_await sync_chunks(until);
    // Whoever opens the file to write while its chunks are being sealed waits for that: then they are opened anew.
    bool seal = kind == SyncKind::kBackground && writers == 0 && !chunks_.empty();
    Semaphore::Permit nobody_writes;
    if (done && seal) nobody_writes = co_await write_mutex_.lock();
    // What there is now is of the next session: nothing that was found out before is right for it.
    if (losses != losses_) done = last_error_;
    if (losses != losses_) break;
    seal = seal && writers == 0 && generation == generation_ && gathered_bytes_ == 0;
    std::map<uint32_t, uint64_t> versions;
    for (const auto& [index, chunk] : chunks_)
      versions[index] = chunk.writer->version();
    bool leased = shared_.leases.exclusive(inode_);
    bool needed = must_commit(kind);
    if (done && (seal || needed)) done = co_await commit(written, seal, until);
    // Without the lease another mount may have a chunk by now that was only to be sealed; and it may be known already.
    bool taken = done.failed_with(ErrorCode::kStale) || (done.failed_with(ErrorCode::kOldVersion) && !leased);
    taken = taken && error_count_ == errors;  // else it went with the session
    bool retired = taken && (retire_settled() || chunks_.size() < versions.size());
    if (taken && seal && !needed) done = Result<void>();
    again = !done && retired;
    if (!again && done.failed_with(ErrorCode::kOldVersion) && shared_.world.clock().now() < until)
      again = co_await ask_versions(std::move(versions), errors);
  }
  if (done && generation == generation_ && gathered_bytes_ == 0 && !must_commit(SyncKind::kData)) dirty_ = false;
  // A chunk broke while its commit was on its way, and the masters have settled it: that is the error, and what else
  // was written is still here.
  std::optional<Error> broken = broken_chunk();
  if (!done && broken) done = *broken;
  // The session ended meanwhile, and what was here is lost already: handles have been told why.
  bool told = !done && !broken && error_count_ != errors;
  if (told) done = last_error_;
  // The master's last word: the chunk, or the file, is somebody else's. Asking again would change nothing.
  bool refused = !told && (done.failed_with(ErrorCode::kStale) || done.failed_with(ErrorCode::kOldVersion) ||
                           done.failed_with(ErrorCode::kConflict));
  if (refused) {
    log_error("client.commit_refused", "inode={} error={}", inode_, quoted(done.error().message()));
    discard();
  }
  // What could not be done in the background because nobody answered is still here, and is tried again: no error yet.
  bool lost = refused || broken;
  if (!done && !told && (kind != SyncKind::kBackground || lost)) failed(done.error());
  syncing_ = false;
  co_await stop_retired();
  co_return done;
}

// The master has raised the version of a chunk by itself (a replica came back) before the commit reached it. True if
// that is what happened: the chunks are known again, what a replica may lack is sent again, and the commit may be too.
// A reader may have found out before us, and have dropped what was in the file already.
Task<bool> FileWriter::ask_versions(std::map<uint32_t, uint64_t> refused, uint64_t errors) {
  bool moved = false;
  for (const auto& [index, version] : refused) {
    auto found = chunks_.find(index);
    if (found != chunks_.end()) {
      std::shared_ptr<ChunkWriter> writer = found->second.writer;
      co_await writer->refused_as_old(version);
      moved = moved || (!writer->broken() && writer->version() > version);
    } else {
      moved = true;
    }
  }
  co_return moved&& errors == error_count_;
}

Task<Result<void>> FileWriter::sync_chunks(TimePoint until) {
  std::vector<std::shared_ptr<ChunkWriter>> writers_to_sync;
  for (auto& [index, chunk] : chunks_) {
    if (!chunk.writer->durable()) writers_to_sync.push_back(chunk.writer);
  }
  // sync() of one chunk asks all replicas at once; a file has few chunks that are not durable, and they were sent long
  // before.
  for (const std::shared_ptr<ChunkWriter>& writer : writers_to_sync) {
    Result<void> synced = co_await writer->sync(until);
    // Cut off meanwhile; what was lost is told by whoever lost it.
    bool retired = synced.failed_with(ErrorCode::kCancelled);
    if (!synced && !retired) co_return synced;
  }
  co_return Result<void>();
}

FileWriter::Written FileWriter::written_so_far() const {
  Written written{.size = size_, .mtime = mtime_, .lengths = {}};
  for (const auto& [index, chunk] : chunks_)
    written.lengths[index] = chunk.writer->length();
  return written;
}

Task<Result<void>> FileWriter::commit(Written written, bool seal, TimePoint until) {
  CommitOp op;
  op.inode = inode_;
  // Only what was written since: meanwhile another mount may have made the file shorter, or this one.
  uint64_t size = std::min(written.size, size_);
  if (size > base_.size) op.size_at_least = size;
  op.mtime = written.mtime;
  for (auto& [index, chunk] : chunks_) {
    auto length = written.lengths.find(index);
    if (length == written.lengths.end()) continue;
    const ChunkWriter& writer = *chunk.writer;
    bool sealed = seal && writer.durable() && !writer.broken();
    bool known = chunk.committed_version == writer.version() && chunk.committed_length == length->second &&
                 chunk.committed_allocated == writer.allocated_bytes() && (!writer.trimmed() || chunk.committed_trim);
    if (known && !sealed) continue;
    CommitOp::Chunk item;
    item.index = index;
    item.chunk = writer.chunk();
    item.version = writer.version();
    item.length = length->second;
    item.allocated_bytes = writer.allocated_bytes();
    item.trimmed = writer.trimmed() && !chunk.committed_trim;  // once: a later cut sets a new limit
    item.seal = sealed;
    op.chunks.push_back(item);
  }
  std::vector<CommitOp::Chunk> items = op.chunks;
  Result<MutationReply> reply = co_await shared_.master.mutate_until(std::move(op), until);
  if (!reply) co_return reply.error();
  for (const CommitOp::Chunk& item : items) {
    auto found = chunks_.find(item.index);
    if (found == chunks_.end() || found->second.writer->chunk() != item.chunk) continue;
    found->second.committed_version = item.version;
    found->second.committed_length = item.length;
    found->second.committed_allocated = item.allocated_bytes;
    found->second.committed_trim = found->second.committed_trim || item.trimmed;
    if (item.seal) retire(item.index);
  }
  if (mtime_ == written.mtime) mtime_.reset();
  base_ = reply->attributes;
  shared_.learned(reply->attributes, reply->lease, true);
  co_return Result<void>();
}

void FileWriter::plan_write_back(Duration delay) {
  if (write_back_planned_) return;
  write_back_planned_ = true;
  tasks_.spawn(write_back(delay));
}

Task<void> FileWriter::write_back(Duration delay) {
  for (;;) {
    Result<void> slept = co_await tasks_.sleep_for(delay);
    write_back_planned_ = false;
    if (!slept) co_return;
    Result<void> synced = co_await sync_as(SyncKind::kBackground);
    // What could not be done because nobody answered is tried again: the data is still here.
    if (!synced) log_warning("client.write_back_failed", "inode={} error={}", inode_, quoted(synced.error().message()));
    if (synced || !dirty() || write_back_planned_) co_return;
    write_back_planned_ = true;
    delay = kWriteBackRetry;
  }
}

void FileWriter::last_close() {
  let_go_of_idle();
  if (!dirty() && !mtime_ && chunks_.empty()) return;
  tasks_.spawn(finish());  // also what is durable already is to be sealed
}

Task<void> FileWriter::finish() {
  TimePoint now = shared_.world.clock().now();
  Result<void> slept = co_await tasks_.sleep_for(kCloseBeat - now.time_since_epoch() % kCloseBeat);
  if (!slept) co_return;
  Result<void> synced = co_await sync_as(SyncKind::kBackground);
  if (synced) co_return;
  // No handle is left to be told.
  log_warning("client.write_back_failed", "inode={} error={}", inode_, quoted(synced.error().message()));
  if (dirty()) plan_write_back(kWriteBackRetry);
}

// ---------------------------------------------------------------- what else happens to the file

void FileWriter::overlay(Attributes& attributes) const {
  if (!dirty() && !mtime_) return;
  attributes.size = std::max(attributes.size, size_);
  if (!mtime_) return;
  attributes.mtime = *mtime_;
  attributes.ctime = std::max(attributes.ctime, *mtime_);
}

void FileWriter::truncated(const Attributes& attributes) {
  base_ = attributes;
  size_ = attributes.size;
  size_in_doubt_ = false;
  mtime_.reset();
  // Written while the cut was on its way (the kernel lets an open with O_TRUNC go beside it): it was there before.
  if (gathered_bytes_ > 0 && gathered_offset_ + gathered_bytes_ > size_) drop_gathered();
  uint32_t keep = chunk_index(attributes.size);  // chunks wholly below the new end stay as they are
  while (!chunks_.empty() && chunks_.rbegin()->first >= keep)
    retire(chunks_.rbegin()->first);
  if (chunks_.empty()) dirty_ = false;
}

uint64_t FileWriter::unsynced_bytes() const {
  uint64_t bytes = gathered_bytes_;
  for (const auto& [index, chunk] : chunks_)
    bytes += chunk.writer->unsynced_bytes();
  return bytes;
}

std::shared_ptr<ChunkWriter> FileWriter::chunk(uint32_t index) {
  let_go_of_idle();
  auto found = chunks_.find(index);
  return found == chunks_.end() ? nullptr : found->second.writer;
}

bool FileWriter::gathered_overlaps(uint64_t offset, uint64_t size) const {
  return gathered_bytes_ > 0 && offset < gathered_offset_ + gathered_bytes_ && gathered_offset_ < offset + size;
}

std::optional<Error> FileWriter::broken_chunk() const {
  for (const auto& [index, chunk] : chunks_) {
    if (chunk.writer->broken()) return chunk.writer->broken();
  }
  return std::nullopt;
}

void FileWriter::failed(Error error) {
  log_warning("client.write_failed", "inode={} error={}", inode_, quoted(error.message()));
  ++error_count_;
  last_error_ = std::move(error);
  drop_broken();
  shared_.gave_up(inode_);
  if (chunks_.empty() && gathered_bytes_ == 0) {  // nothing is left to be saved: the file is as the master has it
    dirty_ = false;
    mtime_.reset();
    size_ = base_.size;
  }
}

void FileWriter::retire(uint32_t index) {
  auto found = chunks_.find(index);
  retired_.push_back(std::move(found->second.writer));
  chunks_.erase(found);
}

void FileWriter::drop_broken() {
  for (auto it = chunks_.begin(); it != chunks_.end();) {
    auto next = std::next(it);
    if (it->second.writer->broken()) retire(it->first);
    it = next;
  }
}

Task<void> FileWriter::stop_retired() {
  if (stopping_retired_) co_return;
  stopping_retired_ = true;
  while (!retired_.empty()) {
    std::shared_ptr<ChunkWriter> writer = std::move(retired_.back());
    retired_.pop_back();
    co_await writer->stop();
  }
  stopping_retired_ = false;
}

bool FileWriter::superseded(uint32_t index) {
  auto found = chunks_.find(index);
  if (found == chunks_.end()) return false;
  const OpenChunk& chunk = found->second;
  bool committed =
      chunk.committed_version == chunk.writer->version() && chunk.committed_length == chunk.writer->length();
  if (!chunk.writer->durable() || !committed) return false;
  retire(index);
  return true;
}

void FileWriter::let_go_of_idle() {
  TimePoint now = shared_.world.clock().now();
  if (shared_.leases.exclusive(inode_)) lease_seen_ = now;
  if (lease_seen_ + std::chrono::milliseconds(kWriterKeepsChunksMs) > now) return;
  (void)retire_settled();
}

bool FileWriter::retire_settled() {
  std::vector<uint32_t> indexes;
  for (const auto& [index, chunk] : chunks_)
    indexes.push_back(index);
  bool any = false;
  for (uint32_t index : indexes)
    any = superseded(index) || any;
  return any;
}

void FileWriter::lose(Error error) {
  bool lost = dirty() || mtime_ || writing_pages_ > 0;
  ++losses_;
  discard();
  if (lost) failed(std::move(error));
}

void FileWriter::drop_gathered() {
  gathered_.clear();
  gathered_permits_.clear();
  gathered_bytes_ = 0;
}

void FileWriter::discard() {
  while (!chunks_.empty())
    retire(chunks_.begin()->first);
  drop_gathered();
  dirty_ = false;
  mtime_.reset();
  tasks_.spawn(stop_retired());  // they hold memory
}

Task<void> FileWriter::stop() {
  co_await tasks_.stop();
  while (!chunks_.empty())
    retire(chunks_.begin()->first);
  co_await stop_retired();
}

}  // namespace cairn
