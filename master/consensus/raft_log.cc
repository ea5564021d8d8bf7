#include "master/consensus/raft_log.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"

namespace cairn {

namespace {
constexpr size_t kEntriesInFlight = 4;  // then commands wait for one another and share an entry
// Room in the log without which no ordinary entry is taken: a whole entry, and what ends a segment.
constexpr uint64_t kLogRoomMinBytes = 2 * kMaxEntryBytes;
constexpr uint16_t kRoomThresholdKib = kLogRoomMinBytes / kKiB;
// Records that must go in even then: a term, and entries of the log's own, which are smaller.
constexpr uint64_t kOwnRecordBytes = 4 * kKiB;
constexpr Duration kGoodbye = 1s;  // to hand leadership over, and for what is on its way, when this master stops
}  // namespace

// ---------------------------------------------------------------- starting and stopping

RaftLog::~RaftLog() {
  alive_.reset();
  if (timer_ != 0) clock_.cancel(timer_);
  // Pools first: their threads use the stores.
  applier_.reset();
  writer_.reset();
  checkpoint_pool_.reset();
  files_pool_.reset();
  cairn_raft_free(core_);
}

Result<void> RaftLog::start(RecoveredMaster recovered) {
  folder_.emplace(std::move(recovered.folder));
  store_ = std::move(recovered.log);
  snapshots_ = std::move(recovered.checkpoints);
  const MasterIdentity& identity = folder_->identity();
  files_pool_ = world_.make_pool("log-files", 1);
  checkpoint_pool_ = world_.make_pool("checkpoint", 1);
  writer_ = std::make_unique<LogWriter>(world_, *store_,
                                        LogWriter::Callbacks{.durable = [this](uint64_t number) { on_durable(number); },
                                                             .failed = [this](const Error& error) { fail(error); }});
  applier_ = std::make_unique<Applier>(
      world_, machine_, *store_, recovered.state_index, recovered.position,
      Applier::Callbacks{.applied = [this](std::vector<AppliedEntry> applied) { on_applied(std::move(applied)); },
                         .failed = [this](const Error& error) { fail(error); }});
  last_log_time_ms_ = recovered.last_log_time_ms;
  handed_over_ = applied_ = recovered.state_index;
  durable_ = store_->last_index();

  auto ms = [](Duration duration) { return static_cast<unsigned>(duration / 1ms); };
  core_ =
      cairn_raft_new(identity.master.value, identity.address.c_str(), static_cast<unsigned>(world_.random().next_u64()),
                     ms(options_.election_timeout), ms(options_.heartbeat), kRoomThresholdKib);
  if (core_ == nullptr) return ErrorCode::kNoMemory;

  std::vector<CairnRaftEntry> entries;
  entries.reserve(recovered.entries.entries.size());
  for (const RecoveredLog::Entry& entry : recovered.entries.entries)
    entries.push_back({entry.term, entry.type, nullptr, 0});
  for (const StoredEntry& change : recovered.changes) {
    CairnRaftEntry& entry = entries[change.index - recovered.entries.first_index];
    entry.data = change.payload.data();
    entry.size = change.payload.size();
    changes_.push_back(change);
  }
  std::optional<Checkpoint> newest = snapshots_->newest();
  CairnRaftSnapshot snapshot{};
  if (newest) {
    snapshot_index_ = newest->meta.index;
    snapshot = {.index = newest->meta.index,
                .term = newest->meta.term,
                .configuration = newest->meta.configuration.data(),
                .configuration_size = newest->meta.configuration.size(),
                .configuration_index = newest->meta.configuration_index};
  }
  log_info("master.log_recovered", "term={} first={} last={} state={} checkpoint={} cut_bytes={} state_rebuilt={}",
           recovered.entries.term, store_->first_index(), store_->last_index(), recovered.state_index, snapshot_index_,
           recovered.entries.cut_bytes, recovered.state_rebuilt);
  CairnRaftUpdate update;
  int status = cairn_raft_start(core_, now_ms(), recovered.entries.term, recovered.entries.voted_for,
                                newest ? &snapshot : nullptr, recovered.entries.first_index, entries.data(),
                                static_cast<unsigned>(entries.size()), &update);
  after_step(status, update);
  tasks_.on_stop([this] { housekeeping_wake_.notify_all(); });
  tasks_.spawn(tick());
  tasks_.spawn(keep_house());
  return {};
}

Task<Result<void>> RaftLog::wait_until_leading() {
  // With other voters somebody else may lead: the caller need not wait for that.
  while (!failed_ && is_sole_voter() && (own_term_index_ == 0 || applied_ < own_term_index_)) {
    co_await changed_.wait();
  }
  if (failed_) co_return Error(ErrorCode::kIo, "the master's log failed while it was opened");
  co_return Result<void>();
}

Task<void> RaftLog::stop() {
  // Somebody else goes on at once instead of after an election timeout.
  if (leading_ && !failed_ && !is_sole_voter()) {
    [[maybe_unused]] Result<void> handed = co_await transfer_leadership(MasterId(), clock_.now() + kGoodbye);
  }
  stopping_ = true;
  flush();
  // Among several what is on its way may never be committed: its outcome is unknown then.
  TimePoint patience = is_sole_voter() ? kNever : clock_.now() + kGoodbye;
  auto busy = [this] { return (leading_ && !in_flight_.empty()) || applied_ < handed_over_; };
  while (!failed_ && !retired_ && busy()) {
    Result<void> more = co_await changed_.wait_until(clock_, applied_ < handed_over_ ? kNever : patience);
    if (!more) break;
  }
  for (Batch& batch : in_flight_) {
    answer_all(std::exchange(batch.waiters, {}), Error(ErrorCode::kUnavailable, "this master stops"));
  }
  end_reads(ErrorCode::kCancelled);
  co_await tasks_.stop();
  if (timer_ != 0) clock_.cancel(std::exchange(timer_, 0));
  {
    // A checkpoint that somebody asked for.
    Semaphore::Permit permit = co_await checkpoint_mutex_.lock();
  }
  retired_ = true;  // what still arrives finds nothing that could answer
  co_await applier_->close();
}

Task<Result<std::unique_ptr<ReplicatedLog>>> ReplicatedLog::open(World& world, ReplicatedLogOptions options,
                                                                 StateMachine& machine, Peers* peers) {
  // The machine belongs to the thread "apply"; it has none yet, so this one stands in for it.
  std::unique_ptr<BlockingPool> pool = world.make_pool("recovery", 1);
  std::string boot_id = world.boot_id();
  Result<RecoveredMaster> recovered = co_await pool->run(
      [&disk = world.disk(), options, boot_id, &machine] { return recover_master(disk, options, boot_id, machine); });
  if (!recovered) co_return recovered.error();
  auto log = std::make_unique<RaftLog>(world, std::move(options), machine, peers);
  Result<void> started = log->start(std::move(*recovered));
  if (!started) co_return started.error();
  Result<void> leads = co_await log->wait_until_leading();
  if (!leads) co_return leads.error();
  co_return std::unique_ptr<ReplicatedLog>(std::move(log));
}

// ---------------------------------------------------------------- proposals

Task<Result<Committed>> RaftLog::propose(Proposal proposal) {
  if (stopping_ || failed_) co_return ErrorCode::kCancelled;
  if (!leading_) co_return not_leader();
  if (proposal.bytes.size() > kMaxCommandBytes) co_return Error(ErrorCode::kTooBig, "command for the master's log");
  if (disk_low_ && !proposal.may_use_reserve) co_return no_room("the master's disk is nearly full");
  if (queued_bytes_ + proposal.bytes.size() > kMaxQueuedProposalBytes)
    co_return Error(ErrorCode::kOverload, "the master's log");
  Future<Committed> future = enqueue(std::move(proposal));
  Result<Committed> result = co_await std::move(future);
  co_return result;
}

Future<Committed> RaftLog::enqueue(Proposal proposal) {
  size_t size = proposal.bytes.size() + kLogEntryCommandOverheadBytes;
  if (open_.size() + size > kMaxEntryBytes) send_open_entry();
  open_.add(proposal.bytes);
  open_decoded_.push_back(std::move(proposal.decoded));
  open_waiters_.emplace_back(executor_);
  queued_bytes_ += size;
  schedule_flush();
  return open_waiters_.back().future();
}

// After everything else that this turn of the loop has to do: what arrived together shares an entry.
void RaftLog::schedule_flush() {
  if (std::exchange(flush_scheduled_, true)) return;
  executor_.post([this, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    flush_scheduled_ = false;
    flush();
  });
}

void RaftLog::flush() {
  if (!failed_ && leading_ && open_.count() > 0 && in_flight_.size() < kEntriesInFlight) send_open_entry();
}

void RaftLog::send_open_entry() {
  auto entry = std::make_shared<RaftEntry>();
  last_log_time_ms_ = std::max(last_log_time_ms_, log_time_ms());
  entry->type = CAIRN_RAFT_COMMAND;
  entry->payload =
      open_.finish({.log_time_ms = last_log_time_ms_, .wall_ns = clock_.wall().ns, .seed = world_.random().next_u64()});
  entry->decoded = std::move(open_decoded_);
  open_decoded_.clear();
  std::vector<Waiter> waiters = std::move(open_waiters_);
  open_waiters_.clear();
  submit(std::move(entry), std::move(waiters), false);
}

// An entry without commands: the first of a leadership, and ticks. It goes in as long as there is any room at all.
void RaftLog::submit_own_entry() {
  auto entry = std::make_shared<RaftEntry>();
  last_log_time_ms_ = std::max(last_log_time_ms_, log_time_ms());
  entry->type = CAIRN_RAFT_COMMAND;
  LogEntryBuilder empty;
  entry->payload =
      empty.finish({.log_time_ms = last_log_time_ms_, .wall_ns = clock_.wall().ns, .seed = world_.random().next_u64()});
  submit(std::move(entry), {}, true);
}

uint64_t RaftLog::room_bytes() const {
  uint64_t room = store_->writable_bytes();
  // A spare that is still being made is no reason to refuse: the log makes one on the way if it must.
  if (disk_has_room_) room += options_.segment_size_bytes / 2;
  return room > unwritten_bytes_ ? room - unwritten_bytes_ : 0;
}

void RaftLog::submit(std::shared_ptr<RaftEntry> entry, std::vector<Waiter> waiters, bool own) {
  uint64_t size = entry->payload.size();
  uint64_t command_bytes = own ? 0 : size - kLogEntryHeaderBytes;
  uint64_t room_kib = std::min<uint64_t>(room_bytes() / kKiB, UINT16_MAX);
  if (own) room_kib = room_bytes() >= kOwnRecordBytes ? kRoomThresholdKib : 0;
  // The core asks whether a majority has room; without any here this master could not go on.
  if (room_kib < kRoomThresholdKib) {
    queued_bytes_ -= command_bytes;
    answer_all(std::move(waiters), no_room("the log of the master that leads"));
    return;
  }
  cairn_raft_set_capacity(core_, static_cast<uint16_t>(room_kib));
  last_submit_ = clock_.now();
  submitting_ = entry;
  entry->term = cairn_raft_term(core_);
  CairnRaftEntry core_entry{.term = entry->term, .type = entry->type, .data = entry->payload.data(), .size = size};
  CairnRaftUpdate update;
  int status = cairn_raft_submit(core_, now_ms(), &core_entry, &update);
  if (status == CAIRN_RAFT_NO_SPACE || status == CAIRN_RAFT_NOT_LEADER || status == CAIRN_RAFT_CANNOT_CHANGE) {
    submitting_.reset();
    queued_bytes_ -= command_bytes;
    answer_all(std::move(waiters), refusal(status));
    return;
  }
  // take_entries() makes the batch.
  after_step(status, update);
  submitting_.reset();
  if (failed_) return;
  CHECK(!in_flight_.empty() && in_flight_.back().entry == entry);
  in_flight_.back().waiters = std::move(waiters);
}

// Somebody with room may be about to lead: then nobody needs to hear of this disk.
Error RaftLog::no_room(std::string where) const {
  return stepping_aside_ ? Error(ErrorCode::kNotLeader) : Error(ErrorCode::kNoSpace, std::move(where));
}

Error RaftLog::refusal(int status) const {
  if (status == CAIRN_RAFT_NOT_LEADER) return not_leader();
  if (status == CAIRN_RAFT_CANNOT_CHANGE) return Error(ErrorCode::kBusy, "another change of the group is under way");
  return Error(ErrorCode::kNoSpace, "no room in the log of a majority of masters");
}

Error RaftLog::not_leader() const {
  const char* address = "";
  uint64_t id = cairn_raft_leader(core_, &address);
  if (id == 0 || id == self().value) return ErrorCode::kNotLeader;
  return Error(ErrorCode::kNotLeader,
               to_string(MasterId(id)) + " " + address + " " + std::to_string(cairn_raft_term(core_)));
}

void RaftLog::answer_all(std::vector<Waiter> waiters, const Error& error) {
  for (Waiter& waiter : waiters)
    waiter.set(error);
}

// ---------------------------------------------------------------- status

LogStatus RaftLog::status() const {
  LogStatus status;
  status.leading = leading_;
  status.term = term();
  status.master = self();
  const char* address = "";
  status.leader = MasterId(cairn_raft_leader(core_, &address));
  status.leader_address = address;
  status.last = cairn_raft_last_index(core_);
  status.committed = committed_;
  status.applied = applied_;
  status.first = store_->first_index();
  status.checkpoint = snapshot_index_;
  status.log_bytes = store_->disk_bytes();
  status.disk_low = disk_low_;
  status.member = is_member(self());
  status.removed = removed_ && !status.member;
  return status;
}

}  // namespace cairn
