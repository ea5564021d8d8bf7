// FileWriter: the lease that a write needs, and what becomes of chunks when others have had the file.
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "fs/client/file_writer.h"

namespace cairn {

namespace {
constexpr Duration kLeaseAgain = std::chrono::milliseconds(5);  // it was recalled before it arrived
constexpr Duration kBatch = std::chrono::milliseconds(10);      // after the lease came
constexpr Duration kBatchPause = std::chrono::milliseconds(1);  // between two writes of one
constexpr Duration kLowerAfter = std::chrono::seconds(5);       // nothing was written for so long
}  // namespace

Task<Result<void>> FileWriter::ensure_lease(TimePoint until, bool beside_recall) {
  for (;;) {
    let_go_of_idle();
    if (batching_ && may_write()) co_return Result<void>();
    while (!shared_.leases.settled(inode_) && !(beside_recall && recall_is_over())) {
      Result<void> waited = co_await shared_.leases.wait_news(until);
      if (!waited) co_return Error(ErrorCode::kIo, "the lease was not given back in time");
    }
    if (size_in_doubt_ && !dirty()) {
      Result<void> asked = co_await ask_size(until);
      if (!asked) co_return asked;
      continue;
    }
    if (may_write() || (beside_recall && has_turn())) co_return Result<void>();
    Result<void> valid = co_await shared_.master.wait_valid(until);
    if (!valid) co_return valid;
    Semaphore::Permit turn = co_await lease_mutex_.lock();
    if (shared_.leases.exclusive(inode_)) continue;
    if (shared_.world.clock().now() >= until) co_return Error(ErrorCode::kIo, "no write lease in time");
    WriteLeaseRequest request;
    request.inode = inode_;
    // A recall of what we hold is answered meanwhile: two who both want to write do not wait for one another.
    auto reply = co_await shared_.master.ask_until(request, until);
    if (!reply) co_return reply.error();
    SessionId session = shared_.master.session();
    take_attributes(reply->attributes, reply->lease);
    co_await check_chunks();
    if (session != shared_.master.session()) continue;  // the lease went with it
    if (shared_.leases.granted_exclusive(inode_, reply->lease, !reply->locked_elsewhere)) {
      granted_ = shared_.world.clock().now();
      continue;
    }
    Result<void> slept = co_await tasks_.sleep_for(kLeaseAgain);
    if (!slept) co_return slept;
  }
}

// ---------------------------------------------------------------- what was stored in a mapping

Task<Result<void>> FileWriter::write_pages(uint64_t offset, Buffer data) {
  if (offset + data.size() > kMaxFileSizeBytes) co_return Error(ErrorCode::kFileTooBig);
  ++writing_pages_;
  Result<void> written = co_await write_pages_until(offset, std::move(data), deadline());
  --writing_pages_;
  shared_.leases.tell_news();
  // The kernel says so to one who syncs, if there is one, and only that it was an input/output error.
  if (!written)
    log_warning("client.pages_not_written", "inode={} offset={} error={}", inode_, offset,
                quoted(written.error().message()));
  co_return written;
}

Task<Result<void>> FileWriter::write_pages_until(uint64_t offset, Buffer data, TimePoint until) {
  uint64_t losses = losses_;
  bool asked = false;
  for (;;) {
    if (losses != losses_) co_return last_error_;  // what the pages were made of may be old
    if (may_write() || has_turn()) {
      Result<Semaphore::Permit> turn = co_await take_turn(until);
      if (!turn) co_return turn.error();
      if (losses != losses_ || (!may_write() && !has_turn())) continue;
      without_lease_ = without_lease_ || !shared_.leases.exclusive(inode_);
      Writing writing(*this);
      // Not waited for: a recall may wait for these pages, and the kernel has them in its memory as long as this lasts.
      Semaphore::Permit room;
      (void)shared_.memory.try_acquire(data.size(), room);
      Result<void> written = co_await write_locked(offset, std::move(data), std::move(room), until);
      co_return written;
    }
    if (shared_.leases.going(inode_) && !recall_is_over()) {
      Result<void> turn = co_await ask_for_turn(until);
      if (!turn) co_return turn;
      continue;
    }
    if (!asking_) {
      if (no_lease_ && asked) co_return *std::exchange(no_lease_, std::nullopt);
      no_lease_.reset();  // the answer to somebody who did not wait for it
      asking_ = true;
      tasks_.spawn(ask_for_lease(until));
    }
    asked = true;
    Result<void> waited = co_await shared_.leases.wait_news(until);
    if (!waited) co_return Error(ErrorCode::kIo, "no write lease in time");
  }
}

// Others who are asked, too, may have such pages of the same chunk: one after the other.
Task<Result<void>> FileWriter::ask_for_turn(TimePoint until) {
  uint64_t recall = shared_.leases.newest_recall(inode_);
  WriteLeaseRequest request;
  request.inode = inode_;
  request.renew = true;
  auto reply = co_await shared_.master.ask_until(request, until);
  if (!reply && !reply.failed_with(ErrorCode::kWait)) co_return reply.error();
  // Not being asked, it is like anybody who wants to write; but the recall here ends only when this is written.
  if (!reply) over_ = recall;
  shared_.leases.tell_news();
  if (!reply || recall != shared_.leases.newest_recall(inode_)) co_return Result<void>();
  take_attributes(reply->attributes, reply->lease);
  co_await check_chunks();
  turn_ = recall;
  co_return Result<void>();
}

Task<Result<void>> FileWriter::ask_size(TimePoint until) {
  GetAttributesRequest request;
  request.inode = inode_;
  auto reply = co_await shared_.master.ask_until(request, until);
  if (!reply) co_return reply.error();
  size_in_doubt_ = false;
  if (!dirty() && reply->attributes.change >= base_.change) truncated(reply->attributes);
  co_return Result<void>();
}

// Beside whoever waits for it: a recall may come first.
Task<void> FileWriter::ask_for_lease(TimePoint until) {
  Result<void> leased = co_await ensure_lease(until, true);
  asking_ = false;
  no_lease_.reset();
  if (!leased) no_lease_ = leased.error();
  shared_.leases.tell_news();
}

Task<Result<void>> FileWriter::show_pages() {
  if (!without_lease_) co_return Result<void>();
  Result<void> leased = co_await ensure_lease(deadline());  // whoever had something has given it back
  if (leased) without_lease_ = false;
  co_return leased;
}

// ---------------------------------------------------------------- it is recalled, or lowered

Task<void> FileWriter::finish_batch() {
  TimePoint end = granted_ + kBatch;
  batching_ = true;
  for (bool goes_on = true; goes_on && shared_.world.clock().now() < end && shared_.leases.exclusive(inode_);) {
    uint64_t before = generation_;
    shared_.leases.tell_news();  // to who waits to write
    Result<void> slept = co_await tasks_.sleep_for(kBatchPause);
    goes_on = slept && (generation_ != before || writing_ > 0);
  }
  batching_ = false;
}

Task<void> FileWriter::give_up_lease(bool forget) {
  // Not for a commit under way that has nothing more to make durable, or for a change of times: they may wait at the
  // master for whoever waits for us.
  Result<void> synced;
  if (dirty() || mtime_) synced = co_await sync_as(SyncKind::kAll);
  if (!synced && dirty()) {
    log_error("client.recall_lost_data", "inode={} error={}", inode_, quoted(synced.error().message()));
    discard();
    failed(synced.error());
  }
  if (forget) retire_clean();
  lease_seen_ = shared_.world.clock().now();
}

bool FileWriter::may_lower() const {
  bool quiet = written_ + kLowerAfter < shared_.world.clock().now();
  return quiet && writing_ == 0 && !dirty() && !syncing_ && shared_.leases.exclusive(inode_);
}

void FileWriter::lower_lease() {
  lease_seen_ = shared_.world.clock().now();
  shared_.leases.lower(inode_);
}

// What the master says of the file. If its content moved while we had no lease on it, the chunks that we know are no
// longer ours.
void FileWriter::take_attributes(const Attributes& attributes, const Lease& lease) {
  if (attributes.change < base_.change) return;  // a commit's answer came first
  bool moved = attributes.data_change != base_.data_change;
  base_ = attributes;
  if (moved) retire_clean();
  if (!dirty()) size_ = attributes.size;
  shared_.learned(attributes, lease, false);
}

void FileWriter::retire_clean() {
  if (dirty()) return;
  while (!chunks_.empty())
    retire(chunks_.begin()->first);
}

// Somebody else may have opened a chunk meanwhile and then not written, or lost what was written: the content has not
// moved, but what is written with the old version would be refused for good.
Task<void> FileWriter::check_chunks() {
  std::vector<uint32_t> indexes;
  for (auto& [index, chunk] : chunks_)
    indexes.push_back(index);
  for (uint32_t index : indexes) {
    auto found = chunks_.find(index);
    if (found == chunks_.end() || dirty()) continue;
    std::shared_ptr<ChunkWriter> writer = found->second.writer;
    RenewGrantRequest request;
    request.chunk = writer->chunk();
    auto reply = co_await shared_.master.ask(request);
    bool ours = reply ? reply->version == writer->version() : !reply.failed_with(ErrorCode::kStale);
    found = chunks_.find(index);
    if (!ours && !dirty() && found != chunks_.end() && found->second.writer == writer) retire(index);
  }
}

void FileWriter::moved_elsewhere(const Attributes& attributes) {
  if (dirty() || attributes.data_change == base_.data_change || attributes.change < base_.change) return;
  base_ = attributes;
  size_ = attributes.size;
  retire_clean();
}

}  // namespace cairn
