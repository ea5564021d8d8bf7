// Checkpoints to and from other masters: for one whose log is too far behind what the leader still has. The core's own
// way (InstallSnapshot handled by raft_step()) has no way back when the transfer fails; here the core is not told until
// the checkpoint is whole on disk, and then the process starts from it as it would after a crash.
#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "master/consensus/raft_log.h"

namespace cairn {

namespace {
constexpr uint32_t kPartBytes = kMiB;
constexpr Duration kAskTimeout = std::chrono::seconds(10);
constexpr Duration kPinned = std::chrono::seconds(60);  // a checkpoint, since somebody last read a part of it
constexpr Duration kFetchAgain = 1s;
constexpr Duration kOfferFresh = std::chrono::seconds(2);  // a leader repeats it with each heartbeat
}  // namespace

// The leader says that it no longer has what this log lacks. What is surely the same on both sides it may not know. It
// must have the last entry of that itself, for its term, which goes with the entries behind it.
void RaftLog::on_snapshot_offer(const RaftMessage& message) {
  if (leading_ || message.core.term != term()) return;
  offer_term_ = term();
  offered_ = clock_.now();
  LogIndex known = std::min(committed_, durable_);
  LogIndex leaders_first = message.core.commit;
  if (known >= leaders_first) {
    RaftMessage result;
    result.core.type = CAIRN_RAFT_MESSAGE_APPEND_ENTRIES_RESULT;
    result.core.term = term();
    result.core.index = known;
    result.core.features = 1;  // the capacity counts
    result.core.capacity_kib = static_cast<uint16_t>(std::min<uint64_t>(room_bytes() / kKiB, UINT16_MAX));
    return send(message.from, message.from_address, std::move(result));
  }
  if (fetch_mutex_.free() > 0) tasks_.spawn(fetch_checkpoint(message.from, message.from_address));
}

Task<void> RaftLog::fetch_checkpoint(MasterId from, std::string address) {
  Semaphore::Permit permit = co_await fetch_mutex_.lock();
  if (failed_ || retired_ || stopping_ || peers_ == nullptr) co_return;
  std::string question =
      encode_checkpoint_question({.cluster = folder_->identity().cluster, .to = from, .part = false});
  Result<std::string> manifest = co_await peers_->ask(from, address, question, clock_.now() + kAskTimeout);
  Result<Checkpoint> checkpoint = manifest ? snapshots_->decode_manifest(*manifest, "the checkpoint of " + address)
                                           : Result<Checkpoint>(manifest.error());
  Result<void> fetched = checkpoint ? Result<void>() : Result<void>(checkpoint.error());
  // It may have caught up by itself.
  if (fetched && checkpoint->meta.index <= committed_) co_return;
  if (fetched) {
    log_info("checkpoint.fetching", "from={} index={} files={}", address, checkpoint->meta.index,
             checkpoint->files.size());
    fetched = co_await fetch_files(from, address, *checkpoint);
  }
  if (failed_ || retired_ || stopping_ || fetched.failed_with(ErrorCode::kCancelled)) co_return;
  if (fetched) {
    co_await retire(*checkpoint);
    co_return;
  }
  log_warning("checkpoint.fetch_failed", "from={} error={}", address, quoted(fetched.error().message()));
  // The leader offers it again with each heartbeat: not so often.
  [[maybe_unused]] Result<void> slept = co_await tasks_.sleep_for(kFetchAgain);
}

Task<Result<void>> RaftLog::fetch_files(MasterId from, std::string address, Checkpoint checkpoint) {
  SnapshotStore& snapshots = *snapshots_;
  Result<void> done = co_await files_pool_->run(
      [&snapshots, checkpoint]() -> Result<void> { return snapshots.begin_incoming(checkpoint); });
  if (!done) co_return done;
  for (const CheckpointFile& file : checkpoint.files) {
    Result<uint64_t> there = co_await files_pool_->run(
        [&snapshots, name = file.name]() -> Result<uint64_t> { return snapshots.incoming_bytes(name); });
    if (!there) co_return there.error();
    // What an earlier attempt left is checked at the end; an empty file is written once, too.
    uint64_t offset = std::min(*there, file.size);
    do {
      if (failed_ || retired_ || stopping_) co_return ErrorCode::kCancelled;
      CheckpointQuestion question{.cluster = folder_->identity().cluster,
                                  .to = from,
                                  .part = true,
                                  .index = checkpoint.meta.index,
                                  .term = checkpoint.meta.term,
                                  .file = file.name,
                                  .offset = offset,
                                  .length = static_cast<uint32_t>(std::min<uint64_t>(kPartBytes, file.size - offset))};
      Result<std::string> part;
      if (question.length > 0)
        part = co_await peers_->ask(from, address, encode_checkpoint_question(question), clock_.now() + kAskTimeout);
      if (!part) co_return part.error();
      if (part->size() != question.length)
        co_return Error(ErrorCode::kBadMessage, address + " gave another part of " + file.name + " than it was asked for");
      uint64_t at = offset;
      offset += part->size();
      done = co_await files_pool_->run([&snapshots, name = file.name, at, bytes = std::move(*part)]() -> Result<void> {
        return snapshots.write_incoming(name, at, bytes);
      });
      if (!done) co_return done;
    } while (offset < file.size);
  }
  done = co_await files_pool_->run(
      [&snapshots, checkpoint]() -> Result<void> { return snapshots.check_incoming(checkpoint); });
  co_return done;
}

// Whether the checkpoint is still what this log lacks. A leader that says so in this term has found that the logs differ
// at or before its first entry, so nothing behind that was ever acknowledged here; unless it has sent entries since.
bool RaftLog::still_lacks(LogIndex index) const {
  return !leading_ && offer_term_ == term() && clock_.now() - offered_ < kOfferFresh && committed_ < index &&
         cairn_raft_follower_match(core_) < index;
}

// From here on nothing is heard or said: term and vote on disk stay what they are, and nothing is acknowledged that
// recovery would throw away.
Task<void> RaftLog::retire(Checkpoint checkpoint) {
  Semaphore::Permit permit = co_await checkpoint_mutex_.lock();
  if (failed_ || stopping_ || !still_lacks(checkpoint.meta.index)) co_return;
  retired_ = true;
  if (timer_ != 0) clock_.cancel(std::exchange(timer_, 0));
  // What recovery shall do is written down first: without the checkpoint it does nothing.
  MasterFolder::Replacement replacement{.index = checkpoint.meta.index, .term = checkpoint.meta.term};
  Result<void> done = co_await files_pool_->run(
      [&snapshots = *snapshots_, &folder = *folder_, checkpoint, replacement]() -> Result<void> {
        Result<void> noted = folder.set_replacement(replacement);
        if (!noted) return noted;
        return snapshots.take_incoming(checkpoint);
      });
  if (!done) {
    fail(done.error());
    co_return;
  }
  log_info("master.starting_anew", "index={} term={}", replacement.index, replacement.term);
  changed_.notify_all();
  if (options_.on_reopen) options_.on_reopen();
}

// ---------------------------------------------------------------- to others

Task<Result<std::string>> RaftLog::serve(std::string bytes) {
  if (failed_ || retired_ || stopping_) co_return ErrorCode::kCancelled;
  Result<CheckpointQuestion> question = decode_checkpoint_question(bytes);
  if (!question) co_return question.error();
  const MasterIdentity& identity = folder_->identity();
  if (question->cluster != identity.cluster || question->to != identity.master)
    co_return Error(ErrorCode::kWrongCluster, "this is master " + to_string(identity.master) + " of cluster " +
                                                  to_string(identity.cluster));
  if (!question->part) {
    std::optional<Checkpoint> newest = snapshots_->newest();
    if (!newest) co_return Error(ErrorCode::kNotFound, "no checkpoint has been made here yet");
    pinned_checkpoint_ = newest->meta.index;
    pinned_until_ = clock_.now() + kPinned;
    co_return snapshots_->encode_manifest(*newest);
  }
  if (question->index == pinned_checkpoint_) pinned_until_ = clock_.now() + kPinned;
  Result<std::string> part = co_await files_pool_->run(
      [&snapshots = *snapshots_, question = *question] {
        return snapshots.read_part(question.index, question.term, question.file, question.offset, question.length);
      });
  co_return part;
}

}  // namespace cairn
