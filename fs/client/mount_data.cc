// Mount: open files and their data.
#include <utility>

#include "common/base/log.h"
#include "fs/client/mount.h"

namespace cairn {

namespace {
// Between attempts to get a lease that was gone before it came.
constexpr Duration kLeaseAgain = std::chrono::milliseconds(1);
constexpr Duration kLeaseAgainMax = std::chrono::milliseconds(50);
constexpr int kLeaseRounds = 10;
}  // namespace

FileSystem::HandleId Mount::add_handle(Inode& inode, OpenFlagsFs flags) {
  HandleId id = next_handle_++;
  Handle handle{.inode = inode.attributes.inode, .flags = flags};
  if (inode.opens++ == 0) leases_.pin(handle.inode, true);
  if (std::exchange(inode.parked, false)) std::erase(parked_, handle.inode);
  inode.forgotten = false;
  inode.told_open = true;
  closed_.erase(handle.inode);
  if (flags.write) {
    FileWriter& writer = writer_of(inode);
    ++writer.writers;
    handle.errors_seen = writer.error_count();
  }
  handles_.emplace(id, handle);
  return id;
}

Task<Result<void>> Mount::truncate_open(InodeId inode) {
  Changes changes;
  changes.size = 0;
  Result<AttributesView> cut = co_await set_attributes(inode, changes);
  if (!cut) co_return cut.error();
  co_return Result<void>();
}

// As long as it lives no close of the inode is told.
class Mount::Opening {
 public:
  Opening(Mount& mount, InodeId inode) : mount_(mount), inode_(inode) { ++mount_.opening_[inode]; }
  ~Opening() {
    if (--mount_.opening_[inode_] == 0) mount_.opening_.erase(inode_);
  }
  Opening(const Opening&) = delete;
  Opening& operator=(const Opening&) = delete;

 private:
  Mount& mount_;
  InodeId inode_;
};

// The master's list of who has what open decides what becomes of a file without names. A close that comes to it after
// this open, or a new leader that is told what is open here in the middle of it, must not take the inode off that list.
Task<Result<FileSystem::Opened>> Mount::open(InodeId inode, OpenFlagsFs flags) {
  if (flags.write || flags.truncate) {
    Result<void> allowed = writable();
    if (!allowed) co_return allowed.error();
  }
  while (telling_closed_.contains(inode))
    co_await told_closed_.wait();
  // The kernel may not have taken in yet that its name is gone.
  if (is_gone(inode)) co_return Error(ErrorCode::kStale, "the file was removed");
  Opening opening(*this, inode);
  for (SessionId session; session != master_.session();) {  // what was opened under the one before is open no more
    session = master_.session();
    Result<void> done = co_await open_under_session(inode, flags);
    if (done) continue;
    Inode* state = find(inode);  // the master may count it as open whatever was answered
    if (!state || state->opens == 0) tell_closed_soon(inode);
    co_return done.error();
  }
  Inode& state = *find(inode);
  Opened opened;
  opened.handle = add_handle(state, flags);
  opened.attributes = seen_here(state.attributes);
  co_return opened;
}

Task<Result<void>> Mount::open_under_session(InodeId inode, OpenFlagsFs flags) {
  // A file that the master believes to be open here, and that has not changed, is opened again without a word.
  Inode* before = find(inode);
  if (!before || !before->told_open || !known(inode)) {
    Result<void> told = co_await open_at_master(inode, flags);
    if (!told) co_return told;
  }
  Inode& state = *find(inode);
  ++state.operations;
  Result<void> cut;
  if (flags.truncate && seen_here(state.attributes).size > 0) cut = co_await truncate_open(inode);
  --state.operations;
  co_return cut;
}

Task<Result<void>> Mount::open_at_master(InodeId inode, OpenFlagsFs flags) {
  OpenRequest request;
  request.inode = inode;
  request.write = flags.write;
  auto reply = co_await master_.ask(request);
  if (!reply) co_return reply.error();
  hear(reply->attributes, reply->lease);
  Inode& state = inode_state(reply->attributes);
  state.told_open = true;
  ++state.operations;
  co_await learn_and_forget_pages(reply->attributes);
  --state.operations;
  co_return Result<void>();
}

Result<FileSystem::HandleId> Mount::opened_by_create(InodeId inode, OpenFlagsFs flags) {
  Inode* state = find(inode);
  if (!state) return Error(ErrorCode::kStale, "inode " + to_string(inode) + " was not created here");
  state->here_only = leases_.exclusive(inode);
  return add_handle(*state, flags);
}

Result<void> Mount::unseen_error(Handle& handle) {
  if (std::exchange(handle.locks_lost, false)) return Error(ErrorCode::kIo, "locks of this handle were lost");
  Inode* state = find(handle.inode);
  if (!state || !state->writer || !handle.flags.write) return {};
  if (handle.errors_seen == state->writer->error_count()) return {};
  handle.errors_seen = state->writer->error_count();
  return state->writer->last_error();
}

Task<Result<void>> Mount::prepare_read(InodeId inode) {
  Duration pause = kLeaseAgain;
  int rounds = options_.mountpoint.empty() ? 1 : kLeaseRounds;  // others than mounts get no leases to read
  for (int round = 0; round < rounds; ++round) {
    if (leases_.shared(inode) || leases_.reads_as_before(inode)) {
      leases_.used(inode);
      co_return Result<void>();
    }
    if (round > 0) {
      Result<void> slept = co_await tasks_.sleep_for(pause);
      if (!slept) co_return slept;
      pause = std::min(2 * pause, kLeaseAgainMax);
    }
    GetAttributesRequest request;
    request.inode = inode;
    auto reply = co_await master_.ask(request);
    if (!reply) co_return reply.error();
    hear(reply->attributes, reply->lease);
    // Not waited for: the kernel holds the page of this very READ, and what is read now is new.
    if (learn(reply->attributes, false) && caches_) tasks_.spawn(caches_->forget_pages(inode));
  }
  co_return Result<void>();  // others change it all the time; what is read now is as of now
}

Task<Result<Payload>> Mount::read(HandleId id, uint64_t offset, uint32_t size) {
  auto handle = handles_.find(id);
  if (handle == handles_.end()) co_return Error(ErrorCode::kBadHandle);
  Inode* state = find(handle->second.inode);
  CHECK(state);
  ++state->operations;
  while (state->hold_reads && leases_.recalling(state->attributes.inode))
    (void)co_await leases_.wait_news(kNever);
  state->pages_given = true;  // the kernel holds those of this very READ
  Result<void> prepared = co_await prepare_read(state->attributes.inode);
  uint64_t end = seen_here(state->attributes).size;
  if (!prepared || offset >= end) {
    --state->operations;
    co_return prepared ? Result<Payload>(Payload{}) : Result<Payload>(prepared.error());
  }
  uint32_t within = static_cast<uint32_t>(std::min<uint64_t>(size, end - offset));
  state->pages_given = true;
  Result<Payload> data = Payload{};
  if (state->writer && state->writer->gathered_overlaps(offset, within)) {
    Result<void> sent = co_await state->writer->flush();
    if (!sent) data = sent.error();
  }
  if (!state->reader)
    state->reader = std::make_unique<FileReader>(world_, master_, servers_, leases_, state->attributes.inode);
  if (data) data = co_await state->reader->read(offset, within, state->writer.get());
  --state->operations;
  InodeId inode = state->attributes.inode;
  bool covered = leases_.shared(inode) || leases_.reads_as_before(inode);
  // Nobody would tell the kernel that the pages have changed.
  if (!covered && caches_) tasks_.spawn(caches_->forget_pages(inode));
  co_return data;
}

Task<Result<void>> Mount::write(HandleId id, uint64_t offset, Buffer data) {
  auto handle = handles_.find(id);
  if (handle == handles_.end()) co_return Error(ErrorCode::kBadHandle);
  if (handle->second.flags.append) {
    Result<uint64_t> at = co_await append(id, std::move(data));
    if (!at) co_return at.error();
    co_return Result<void>();
  }
  Result<void> unseen = unseen_error(handle->second);
  if (!unseen) co_return unseen;
  Inode* state = find(handle->second.inode);
  CHECK(state);
  FileWriter& writer = writer_of(*state);
  ++state->operations;
  Result<void> written = co_await writer.write(offset, std::move(data));
  --state->operations;
  if (!written) error_told(id, writer);
  co_return written;
}

Task<Result<void>> Mount::write_pages(HandleId id, uint64_t offset, Buffer data) {
  auto handle = handles_.find(id);
  if (handle == handles_.end()) co_return Error(ErrorCode::kBadHandle);
  // Stored under a session that has ended: others may have written the same pages since.
  if (forgetting_ > 0) co_return Error(ErrorCode::kIo, "the session with the master has ended");
  Inode* state = find(handle->second.inode);
  CHECK(state);
  FileWriter& writer = writer_of(*state);
  ++state->operations;
  Result<void> written = co_await writer.write_pages(offset, std::move(data));
  --state->operations;
  co_return written;  // the kernel tells those who sync
}

Task<Result<uint64_t>> Mount::append(HandleId id, Buffer data) {
  auto handle = handles_.find(id);
  if (handle == handles_.end()) co_return Error(ErrorCode::kBadHandle);
  Result<void> unseen = unseen_error(handle->second);
  if (!unseen) co_return unseen.error();
  Inode* state = find(handle->second.inode);
  CHECK(state);
  FileWriter& writer = writer_of(*state);
  ++state->operations;
  Result<uint64_t> at = co_await writer.append(std::move(data));
  --state->operations;
  if (!at) error_told(id, writer);
  co_return at;
}

// Told where it happened: not once more by this handle.
void Mount::error_told(HandleId id, const FileWriter& writer) {
  auto handle = handles_.find(id);
  if (handle != handles_.end()) handle->second.errors_seen = writer.error_count();
}

Task<Result<void>> Mount::flush(HandleId id) {
  auto handle = handles_.find(id);
  if (handle == handles_.end()) co_return Error(ErrorCode::kBadHandle);
  Inode* state = find(handle->second.inode);
  if (!handle->second.flags.write || !state || !state->writer) co_return Result<void>();
  ++state->operations;
  Result<void> flushed = co_await state->writer->flush();
  if (flushed) flushed = co_await state->writer->show_pages();
  --state->operations;
  auto again = handles_.find(id);
  if (again == handles_.end()) co_return flushed;
  Result<void> unseen = unseen_error(again->second);
  co_return flushed ? std::move(unseen) : std::move(flushed);
}

Task<Result<void>> Mount::fsync(HandleId id, bool data_only) {
  auto handle = handles_.find(id);
  if (handle == handles_.end()) co_return Error(ErrorCode::kBadHandle);
  Inode* state = find(handle->second.inode);
  if (!state || !state->writer) co_return unseen_error(handle->second);
  ++state->operations;
  Result<void> synced = co_await state->writer->sync(data_only);
  if (synced) synced = co_await state->writer->show_pages();
  --state->operations;
  auto again = handles_.find(id);
  if (again == handles_.end()) co_return synced;
  Result<void> unseen = unseen_error(again->second);
  co_return synced ? std::move(unseen) : std::move(synced);
}

// Every change of a name is on the masters' disks when it is answered.
Task<Result<void>> Mount::fsync_directory(InodeId) {
  co_return Result<void>();
}

Task<void> Mount::release(HandleId id) {
  auto handle = handles_.find(id);
  if (handle == handles_.end()) co_return;
  co_await locks_.release_handle(handle->second.inode, id);
  handle = handles_.find(id);
  if (handle == handles_.end()) co_return;
  Inode* state = find(handle->second.inode);
  OpenFlagsFs flags = handle->second.flags;
  InodeId inode = handle->second.inode;
  handles_.erase(handle);
  if (!state) co_return;
  --state->opens;
  if (flags.write && --state->writer->writers == 0) {
    bool last = state->opens == 0 && !opening_.contains(inode);
    if (last && state->attributes.nlink == 0 && known_here_only(*state)) {
      state->gone = true;
      state->writer->discard();
    } else {
      state->writer->last_close();
    }
  }
  if (state->opens > 0) co_return;
  leases_.pin(inode, false);
  bool again = !flags.write && state->attributes.nlink > 0 && !state->forgotten && leases_.shared(inode);
  if (again) {
    park(inode);
  } else {
    tell_closed_soon(inode);
  }
}

void Mount::tell_closed_soon(InodeId inode) {
  if (Inode* state = find(inode)) state->told_open = false;
  closed_.insert(inode);
}

void Mount::forget(InodeId inode) {
  Inode* state = find(inode);
  if (!state) return;
  state->forgotten = true;
  if (state->opens == 0) unpark(inode);
  if (state->opens == 0 && state->operations == 0 && !state->writer) inodes_.erase(inode);
}

}  // namespace cairn
