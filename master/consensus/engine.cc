#include "master/consensus/engine.h"

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <optional>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/runtime/future.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "master/consensus/applier.h"
#include "master/consensus/log_writer.h"
#include "master/consensus/peers.h"
#include "master/consensus/raft_core.h"
#include "master/consensus/recovery.h"
#include "master/proto/log_entry.h"

namespace cairn {

namespace {

constexpr size_t kEntriesInFlight = 4;  // then commands wait for one another and share an entry
constexpr Duration kHousekeepingInterval = 1s;
// Room in the log without which no ordinary entry is taken: a whole entry, and what ends a segment.
constexpr uint64_t kLogRoomMinBytes = 2 * kMaxEntryBytes;
constexpr uint16_t kRoomThresholdKib = kLogRoomMinBytes / kKiB;
// Records that must go in even then: a term, and entries of the log's own, which are smaller.
constexpr uint64_t kOwnRecordBytes = 4 * kKiB;

using Waiter = Promise<Committed>;

struct Batch {
  RaftEntryPtr entry;
  std::vector<Waiter> waiters;  // of each command; empty for an entry of the log's own
  bool handed_over = false;     // to apply
};

class RaftLog final : public ReplicatedLog {
 public:
  RaftLog(World& world, ReplicatedLogOptions options, StateMachine& machine, Peers* peers)
      : world_(world),
        executor_(world.executor()),
        clock_(world.clock()),
        options_(std::move(options)),
        machine_(machine),
        peers_(peers),
        checkpoint_mutex_(executor_),
        housekeeping_wake_(executor_),
        changed_(executor_),
        tasks_(executor_, clock_) {}
  ~RaftLog() override;

  Result<void> start(RecoveredMaster recovered);
  Task<Result<void>> wait_until_leading();

  Task<Result<Committed>> propose(Proposal proposal) override;
  Task<Result<void>> read_barrier() override;
  bool leading() const override { return leading_; }
  Term term() const override { return cairn_raft_term(core_); }
  uint64_t log_time_ms() const override;
  LogStatus status() const override;
  Task<Result<LogIndex>> checkpoint() override;
  Task<void> stop() override;

 private:
  // Proposals and entries.
  Future<Committed> enqueue(Proposal proposal);
  void schedule_flush();
  void flush();
  void send_open_entry();
  void submit(std::shared_ptr<RaftEntry> entry, std::vector<Waiter> waiters, bool own);
  void submit_own_entry();
  Error refusal(int status) const;
  Error not_leader() const;
  static void answer_all(std::vector<Waiter> waiters, const Error& error);

  // The core and what it asks for.
  uint64_t now_ms() const;
  void after_step(int status, const CairnRaftUpdate& update);
  void take_entries(const CairnRaftUpdate& update);
  void take_messages(const CairnRaftUpdate& update);
  void send_waiting_messages();
  void follow_state();
  void follow_commit();
  void hand_over();
  void arm_timer();
  void on_timer();
  void on_durable(uint64_t number);
  void on_applied(std::vector<AppliedEntry> applied);
  void fail(const Error& error);

  // What runs beside.
  Task<void> tick();
  Task<void> keep_house();
  Task<void> checkpoint_when_due();
  bool checkpoint_due() const;
  uint64_t room_bytes() const;

  World& world_;
  Executor& executor_;
  Clock& clock_;
  const ReplicatedLogOptions options_;
  StateMachine& machine_;
  Peers* const peers_;

  std::optional<MasterFolder> folder_;
  std::unique_ptr<LogStore> store_;
  std::unique_ptr<SnapshotStore> snapshots_;
  CairnRaft* core_ = nullptr;

  bool failed_ = false;
  bool stopping_ = false;
  bool leading_ = false;
  TimePoint leading_since_;
  uint64_t log_time_base_ms_ = 0;  // at leading_since_
  uint64_t last_log_time_ms_ = 0;  // of the newest entry
  LogIndex own_term_index_ = 0;    // the first entry of this leadership; 0: not yet sent
  TimePoint last_submit_;

  // The entry that is being filled.
  LogEntryBuilder open_;
  std::vector<std::unique_ptr<DecodedCommand>> open_decoded_;
  std::vector<Waiter> open_waiters_;
  bool flush_scheduled_ = false;
  uint64_t queued_bytes_ = 0;  // of the open entry and those in flight

  std::shared_ptr<RaftEntry> submitting_;  // during cairn_raft_submit()
  std::deque<Batch> in_flight_;            // appended here, not yet applied; consecutive
  uint64_t unwritten_bytes_ = 0;           // of entries handed to the writer
  struct Writing {
    uint64_t number;
    LogIndex index;
    uint64_t bytes;
  };
  std::deque<Writing> writing_;      // entries that are on their way to the disk
  std::deque<StoredEntry> changes_;  // entries that change the configuration and are not known to be committed
  LogIndex committed_ = 0;
  LogIndex handed_over_ = 0;
  LogIndex applied_ = 0;
  struct WaitingMessage {
    uint64_t number;  // of the write it waits for
    RaftMessage message;
  };
  std::deque<WaitingMessage> messages_;
  struct BarrierWaiter {
    LogIndex index;
    Promise<void> promise;
  };
  std::vector<BarrierWaiter> barriers_;

  Clock::TimerId timer_ = 0;
  uint64_t timer_ms_ = 0;

  bool disk_low_ = false;
  bool disk_has_room_ = false;  // for more than one segment above the reserve, when last looked
  bool spare_failed_ = false;
  LogIndex snapshot_index_ = 0;            // the newest that the core knows
  uint64_t checkpointed_bytes_ = 0;        // LogStore::appended_bytes() then
  std::optional<TimePoint> first_change_;  // applied and in no checkpoint
  Mutex checkpoint_mutex_;
  Condition housekeeping_wake_;
  Condition changed_;  // applied_, leading_ or in_flight_

  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // what is posted to the loop holds it weakly
  std::unique_ptr<BlockingPool> files_pool_;                    // spares, purges, free space
  std::unique_ptr<BlockingPool> checkpoint_pool_;
  std::unique_ptr<LogWriter> writer_;
  std::unique_ptr<Applier> applier_;
  TaskGroup tasks_;
};

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
  while (!failed_ && cairn_raft_is_sole_voter(core_, folder_->identity().master.value) &&
         (own_term_index_ == 0 || applied_ < own_term_index_)) {
    co_await changed_.wait();
  }
  if (failed_) co_return Error(ErrorCode::kIo, "the master's log failed while it was opened");
  co_return Result<void>();
}

Task<void> RaftLog::stop() {
  stopping_ = true;
  flush();
  while (!failed_ && (!in_flight_.empty() || applied_ < handed_over_))
    co_await changed_.wait();
  co_await tasks_.stop();
  if (timer_ != 0) clock_.cancel(std::exchange(timer_, 0));
  {
    // A checkpoint that somebody asked for.
    Semaphore::Permit permit = co_await checkpoint_mutex_.lock();
  }
  co_await applier_->close();
}

Task<Result<std::unique_ptr<ReplicatedLog>>> open_log(World& world, ReplicatedLogOptions options, StateMachine& machine,
                                                      Peers* peers) {
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
  if (disk_low_ && !proposal.may_use_reserve) co_return Error(ErrorCode::kNoSpace, "the master's disk is nearly full");
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
  cairn_raft_set_capacity(core_, static_cast<uint16_t>(room_kib));
  last_submit_ = clock_.now();
  submitting_ = entry;
  entry->term = cairn_raft_term(core_);
  CairnRaftEntry core_entry{.term = entry->term, .type = entry->type, .data = entry->payload.data(), .size = size};
  CairnRaftUpdate update;
  int status = cairn_raft_submit(core_, now_ms(), &core_entry, &update);
  if (status == CAIRN_RAFT_NO_SPACE || status == CAIRN_RAFT_NOT_LEADER) {
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

Error RaftLog::refusal(int status) const {
  if (status == CAIRN_RAFT_NOT_LEADER) return not_leader();
  return Error(ErrorCode::kNoSpace, "no room in the log of a majority of masters");
}

Error RaftLog::not_leader() const {
  const char* address = "";
  uint64_t id = cairn_raft_leader(core_, &address);
  if (id == 0 || id == folder_->identity().master.value) return ErrorCode::kNotLeader;
  return Error(ErrorCode::kNotLeader,
               to_string(MasterId(id)) + " " + address + " " + std::to_string(cairn_raft_term(core_)));
}

void RaftLog::answer_all(std::vector<Waiter> waiters, const Error& error) {
  for (Waiter& waiter : waiters)
    waiter.set(error);
}

// ---------------------------------------------------------------- the core

uint64_t RaftLog::now_ms() const {
  return static_cast<uint64_t>(clock_.now().time_since_epoch() / 1ms);
}

uint64_t RaftLog::log_time_ms() const {
  if (!leading_) return last_log_time_ms_;
  return log_time_base_ms_ + static_cast<uint64_t>((clock_.now() - leading_since_) / 1ms);
}

// The order of one step: term and vote, then entries, to the writer, which keeps it; messages when the term and vote
// before them are durable, beside the writing of entries; apply up to the commit index.
void RaftLog::after_step(int status, const CairnRaftUpdate& update) {
  if (status != 0) {
    fail(Error(ErrorCode::kIo, std::string("libraft: ") + cairn_raft_error(core_, status)));
    return;
  }
  bool state_changed = update.state_changed;
  bool commit_changed = update.commit_changed;
  if (update.term_or_vote_changed) writer_->write_term(cairn_raft_term(core_), cairn_raft_voted_for(core_));
  take_messages(update);
  take_entries(update);
  // From here on the core may be stepped again; `update` is no longer good.
  if (state_changed) follow_state();
  if (commit_changed) follow_commit();
  arm_timer();
}

void RaftLog::take_entries(const CairnRaftUpdate& update) {
  for (unsigned i = 0; i < update.n_entries; ++i) {
    const CairnRaftEntry& core_entry = update.entries[i];
    std::shared_ptr<RaftEntry> entry;
    if (submitting_ != nullptr && core_entry.data == submitting_->payload.data()) {
      entry = submitting_;
    } else {
      // The core's own: a new leader's first entry among several voters.
      entry = std::make_shared<RaftEntry>();
      entry->type = static_cast<uint8_t>(core_entry.type);
      entry->payload.assign(static_cast<const char*>(core_entry.data), core_entry.size);
    }
    entry->index = update.entries_index + i;
    entry->term = core_entry.term;
    if (entry->type == CAIRN_RAFT_CHANGE) changes_.push_back({entry->index, entry->term, entry->type, entry->payload});
    CHECK(in_flight_.empty() || in_flight_.back().entry->index + 1 == entry->index);
    in_flight_.push_back({.entry = entry});
    unwritten_bytes_ += record_size(entry->payload.size());
    uint64_t number = writer_->write(entry);
    writing_.push_back({number, entry->index, record_size(entry->payload.size())});
  }
}

void RaftLog::take_messages(const CairnRaftUpdate& update) {
  if (peers_ == nullptr) return;
  for (unsigned i = 0; i < update.n_messages; ++i) {
    messages_.push_back({writer_->last_number(), RaftMessage{update.messages[i], update.messages[i].to_address}});
  }
  send_waiting_messages();
}

void RaftLog::send_waiting_messages() {
  while (!messages_.empty() && messages_.front().number <= writer_->durable_number()) {
    peers_->send(messages_.front().message);
    messages_.pop_front();
  }
}

void RaftLog::follow_state() {
  bool leads = cairn_raft_state(core_) == CAIRN_RAFT_LEADER;
  if (leads == leading_) return;
  if (leads) {
    leading_since_ = clock_.now();
    log_time_base_ms_ = last_log_time_ms_;
    leading_ = true;
    own_term_index_ = 0;
    log_info("master.leading", "term={} log_time_ms={}", term(), log_time_base_ms_);
    if (options_.on_leadership) options_.on_leadership(true, term());
    submit_own_entry();
    if (!failed_ && !in_flight_.empty()) own_term_index_ = in_flight_.back().entry->index;
    return;
  }
  leading_ = false;
  own_term_index_ = 0;
  log_info("master.not_leading", "term={}", term());
  if (options_.on_leadership) options_.on_leadership(false, term());
  // What was not sent did not happen; of what was, nobody knows.
  open_.finish({});
  open_decoded_.clear();
  answer_all(std::exchange(open_waiters_, {}), not_leader());
  for (Batch& batch : in_flight_) {
    answer_all(std::exchange(batch.waiters, {}),
               Error(ErrorCode::kUnavailable, "leadership was lost: the outcome is unknown"));
  }
  queued_bytes_ = 0;
  for (BarrierWaiter& waiter : std::exchange(barriers_, {}))
    waiter.promise.set(not_leader());
  changed_.notify_all();
}

void RaftLog::follow_commit() {
  committed_ = std::max<LogIndex>(committed_, cairn_raft_commit_index(core_));
  while (!failed_ && !changes_.empty() && changes_.front().index <= committed_) {
    StoredEntry change = std::move(changes_.front());
    changes_.pop_front();
    CairnRaftUpdate update;
    int status =
        cairn_raft_configured(core_, now_ms(), change.index, change.payload.data(), change.payload.size(), &update);
    after_step(status, update);
  }
  hand_over();
}

// Gives apply what is committed: from memory where it was appended by this process, else from the log.
void RaftLog::hand_over() {
  if (failed_ || handed_over_ >= committed_) return;
  LogIndex in_memory_from = in_flight_.empty() ? committed_ + 1 : in_flight_.front().entry->index;
  if (handed_over_ + 1 < in_memory_from) {
    LogIndex upto = std::min(committed_, in_memory_from - 1);
    applier_->replay(handed_over_ + 1, upto);
    handed_over_ = upto;
  }
  std::vector<RaftEntryPtr> entries;
  for (Batch& batch : in_flight_) {
    if (batch.entry->index > committed_) break;
    if (std::exchange(batch.handed_over, true)) continue;
    entries.push_back(batch.entry);
    handed_over_ = batch.entry->index;
  }
  if (!entries.empty()) applier_->apply(std::move(entries));
}

void RaftLog::on_durable(uint64_t number) {
  if (failed_) return;
  LogIndex index = 0;
  while (!writing_.empty() && writing_.front().number <= number) {
    index = writing_.front().index;
    unwritten_bytes_ -= writing_.front().bytes;
    writing_.pop_front();
  }
  if (peers_ != nullptr) send_waiting_messages();
  if (index != 0) {
    CairnRaftUpdate update;
    int status = cairn_raft_persisted(core_, now_ms(), index, &update);
    after_step(status, update);
  }
  if (!spare_failed_ && store_->needs_spare()) housekeeping_wake_.notify_all();
}

void RaftLog::on_applied(std::vector<AppliedEntry> applied) {
  if (failed_) return;
  for (AppliedEntry& entry : applied) {
    applied_ = entry.index;
    if (entry.commands > 0 && !first_change_) first_change_ = clock_.now();
    if (in_flight_.empty() || in_flight_.front().entry->index != entry.index) continue;  // read back from the log
    Batch batch = std::move(in_flight_.front());
    in_flight_.pop_front();
    if (batch.waiters.empty()) continue;
    queued_bytes_ -= batch.entry->payload.size() - kLogEntryHeaderBytes;
    CHECK(batch.waiters.size() == entry.replies.size());
    for (size_t i = 0; i < batch.waiters.size(); ++i) {
      batch.waiters[i].set(Committed{entry.index, entry.term, entry.log_time_ms, std::move(entry.replies[i])});
    }
  }
  auto ready =
      std::partition(barriers_.begin(), barriers_.end(), [this](const BarrierWaiter& w) { return w.index > applied_; });
  for (auto waiter = ready; waiter != barriers_.end(); ++waiter)
    waiter->promise.set({});
  barriers_.erase(ready, barriers_.end());
  flush();
  changed_.notify_all();
}

void RaftLog::arm_timer() {
  if (failed_) return;
  uint64_t next_ms = cairn_raft_next_timeout_ms(core_);
  if (timer_ != 0) {
    // A timer that fires early looks again; most steps only move the time further away.
    if (next_ms >= timer_ms_) return;
    clock_.cancel(timer_);
  }
  timer_ms_ = next_ms;
  timer_ = clock_.call_at(TimePoint(std::chrono::milliseconds(next_ms)), [this] { on_timer(); });
}

void RaftLog::on_timer() {
  timer_ = 0;
  if (failed_) return;
  if (now_ms() >= cairn_raft_next_timeout_ms(core_)) {
    CairnRaftUpdate update;
    int status = cairn_raft_timeout(core_, now_ms(), &update);
    after_step(status, update);
  }
  arm_timer();
}

void RaftLog::fail(const Error& error) {
  if (std::exchange(failed_, true)) return;
  log_error("master.log_failed", "error={}", quoted(error.message()));
  changed_.notify_all();
  housekeeping_wake_.notify_all();
  if (!options_.on_fatal) std::abort();
  options_.on_fatal(error);
}

// ---------------------------------------------------------------- reads and status

Task<Result<void>> RaftLog::read_barrier() {
  if (stopping_ || failed_) co_return ErrorCode::kCancelled;
  if (!leading_) co_return not_leader();
  // With one voter nobody else can have led since: having applied everything up to this leadership's first entry is
  // enough, because what was acknowledged after it has been applied too.
  if (own_term_index_ != 0 && applied_ >= own_term_index_) co_return Result<void>();
  barriers_.push_back({own_term_index_, Promise<void>(executor_)});
  Future<void> future = barriers_.back().promise.future();
  Result<void> result = co_await std::move(future);
  co_return result;
}

LogStatus RaftLog::status() const {
  LogStatus status;
  status.leading = leading_;
  status.term = term();
  status.master = folder_->identity().master;
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
  return status;
}

// ---------------------------------------------------------------- what runs beside

Task<void> RaftLog::tick() {
  while (true) {
    Result<void> slept = co_await tasks_.sleep_for(options_.tick_interval);
    if (!slept || failed_) co_return;
    if (!leading_) continue;
    // Without it nothing can be read: if there was no room when leading began, again.
    bool wanted = own_term_index_ == 0;
    // Any entry carries the time.
    bool quiet = clock_.now() - last_submit_ >= options_.tick_interval && in_flight_.empty();
    if (quiet && options_.ticks_wanted && options_.ticks_wanted()) wanted = true;
    if (!wanted) continue;
    LogIndex last = cairn_raft_last_index(core_);
    submit_own_entry();
    if (!failed_ && own_term_index_ == 0 && cairn_raft_last_index(core_) > last) {
      own_term_index_ = last + 1;
      for (BarrierWaiter& waiter : barriers_)
        waiter.index = own_term_index_;
    }
  }
}

Task<void> RaftLog::keep_house() {
  while (!tasks_.stop_requested() && !failed_) {
    Result<DiskSpace> space = co_await files_pool_->run([&disk = world_.disk(), &store = *store_,
                                                         folder = options_.folder, reserve = options_.reserve_bytes,
                                                         segment = options_.segment_size_bytes]() -> Result<DiskSpace> {
      Result<DiskSpace> found = disk.space(folder);
      if (!found || !store.needs_spare() || found->free_bytes < reserve + segment) return found;
      Result<void> prepared = store.prepare_spare();
      if (!prepared) return prepared.error();
      return disk.space(folder);
    });
    if (space.failed_with(ErrorCode::kCancelled)) co_return;
    spare_failed_ = store_->needs_spare();
    if (!space && !space.failed_with(ErrorCode::kNoSpace)) {
      fail(space.error());
      co_return;
    }
    bool low = !space || space->free_bytes < options_.reserve_bytes;
    if (low != disk_low_) log_warning("master.disk_low", "low={} free_bytes={}", low, space ? space->free_bytes : 0);
    disk_low_ = low;
    // Two, because it was looked at up to an interval ago.
    disk_has_room_ = space && space->free_bytes >= options_.reserve_bytes + 2 * options_.segment_size_bytes;
    if (checkpoint_due() && checkpoint_mutex_.free() > 0) tasks_.spawn(checkpoint_when_due());
    if (tasks_.stop_requested() || failed_) co_return;
    // Woken or not, it looks.
    [[maybe_unused]] Result<void> woken =
        co_await housekeeping_wake_.wait_until(clock_, clock_.now() + kHousekeepingInterval);
  }
}

bool RaftLog::checkpoint_due() const {
  if (applied_ <= snapshot_index_) return false;
  if (store_->appended_bytes() - checkpointed_bytes_ >= options_.checkpoint_log_bytes) return true;
  return first_change_ && clock_.now() - *first_change_ >= options_.checkpoint_interval;
}

Task<void> RaftLog::checkpoint_when_due() {
  Result<LogIndex> made = co_await checkpoint();
  if (!made && !made.failed_with(ErrorCode::kCancelled))
    log_error("checkpoint.failed", "error={}", quoted(made.error().message()));
}

Task<Result<LogIndex>> RaftLog::checkpoint() {
  Semaphore::Permit permit = co_await checkpoint_mutex_.lock();
  if (failed_) co_return ErrorCode::kCancelled;
  TimePoint started = clock_.now();
  uint64_t bytes = store_->appended_bytes();
  std::optional<TimePoint> first_change = std::exchange(first_change_, std::nullopt);
  Result<Checkpoint> made =
      co_await checkpoint_pool_->run([&machine = machine_, &snapshots = *snapshots_, &applier = *applier_,
                                      boot_id = world_.boot_id()]() -> Result<Checkpoint> {
        Result<Checkpoint> checkpoint = snapshots.make(
            [&machine](const std::string& target, const std::function<void()>& freeze) {
              return machine.checkpoint(target, freeze);
            },
            [&applier] { return applier.position(); }, boot_id);
        if (!checkpoint) return checkpoint;
        Result<void> removed = snapshots.remove_old();
        if (!removed) return removed.error();
        return checkpoint;
      });
  if (failed_) co_return ErrorCode::kCancelled;
  if (!made) {
    if (first_change) first_change_ = first_change;
    co_return made.error();
  }
  checkpointed_bytes_ = bytes;
  const CheckpointMeta& meta = made->meta;
  LogIndex upto = std::min(snapshots_->log_not_needed_upto(),
                           store_->trailing_index(meta.index, options_.trailing_entries, options_.trailing_bytes));
  if (meta.index > snapshot_index_) {
    snapshot_index_ = meta.index;
    CairnRaftSnapshot snapshot{.index = meta.index,
                               .term = meta.term,
                               .configuration = meta.configuration.data(),
                               .configuration_size = meta.configuration.size(),
                               .configuration_index = meta.configuration_index};
    CairnRaftUpdate update;
    int status =
        cairn_raft_snapshot_taken(core_, now_ms(), &snapshot, static_cast<unsigned>(meta.index - upto), &update);
    after_step(status, update);
    if (failed_) co_return ErrorCode::kCancelled;
  }
  Result<void> purged =
      co_await files_pool_->run([&store = *store_, upto]() -> Result<void> { return store.purge(upto); });
  if (!purged) co_return purged.error();
  log_info("checkpoint.made", "index={} files={} ms={} log_first={}", meta.index, made->files.size(),
           (clock_.now() - started) / 1ms, store_->first_index());
  co_return meta.index;
}

}  // namespace

Task<Result<std::unique_ptr<ReplicatedLog>>> ReplicatedLog::open(World& world, ReplicatedLogOptions options,
                                                                 StateMachine& machine, Peers* peers) {
  return open_log(world, std::move(options), machine, peers);
}

}  // namespace cairn
