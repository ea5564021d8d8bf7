// RaftLog: the engine behind ReplicatedLog. It drives libraft's core (raft_core.h): events go in, and what the core
// asks for goes to the writer of the log, to apply, and to the peers. Internal to this folder; made by
// ReplicatedLog::open().
//
//   raft_log.cc          starting and stopping, proposals, reads
//   raft_log_core.cc     the core's steps
//   raft_log_peers.cc    messages to and from other masters
//   raft_log_reads.cc    reads: that nobody else leads
//   raft_log_members.cc  who belongs to the group, who leads it
//   raft_log_fetch.cc    checkpoints to and from other masters
//   raft_log_house.cc    what runs beside: ticks, spare segments, checkpoints
//
// Thread and lifetime rules: engine.h.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "common/runtime/future.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "master/consensus/applier.h"
#include "master/consensus/engine.h"
#include "master/consensus/log_writer.h"
#include "master/consensus/peers.h"
#include "master/consensus/raft_core.h"
#include "master/consensus/raft_message.h"
#include "master/consensus/recovery.h"
#include "master/proto/log_entry.h"

namespace cairn {

class RaftLog final : public ReplicatedLog {
 public:
  RaftLog(World& world, ReplicatedLogOptions options, StateMachine& machine, Peers* peers)
      : world_(world),
        executor_(world.executor()),
        clock_(world.clock()),
        options_(std::move(options)),
        machine_(machine),
        peers_(peers),
        fetch_mutex_(executor_),
        checkpoint_mutex_(executor_),
        housekeeping_wake_(executor_),
        changed_(executor_),
        tasks_(executor_, clock_) {}
  ~RaftLog() override;

  Result<void> start(RecoveredMaster recovered);
  Task<Result<void>> wait_until_leading();

  Task<Result<Committed>> propose(Proposal proposal) override;
  Task<Result<void>> read_barrier() override;
  std::vector<GroupMember> members() const override;
  Task<Result<void>> add_member(MasterId master, std::string address, TimePoint deadline) override;
  Task<Result<void>> remove_member(MasterId master, TimePoint deadline) override;
  Task<Result<void>> transfer_leadership(MasterId to, TimePoint deadline) override;
  void receive(std::string_view bytes) override;
  Task<Result<std::string>> serve(std::string question) override;
  bool leading() const override { return leading_; }
  Term term() const override { return cairn_raft_term(core_); }
  uint64_t log_time_ms() const override;
  LogStatus status() const override;
  Task<Result<LogIndex>> checkpoint() override;
  Task<void> stop() override;

 private:
  using Waiter = Promise<Committed>;
  struct Batch {
    RaftEntryPtr entry;
    std::vector<Waiter> waiters;  // of each command; empty for an entry of the log's own
    bool handed_over = false;     // to apply
  };

  // Proposals and entries.
  Future<Committed> enqueue(Proposal proposal);
  void schedule_flush();
  void flush();
  void send_open_entry();
  void submit(std::shared_ptr<RaftEntry> entry, std::vector<Waiter> waiters, bool own);
  void submit_own_entry();
  Error no_room(std::string where) const;
  Error refusal(int status) const;
  Error not_leader() const;
  MasterId self() const { return folder_->identity().master; }
  bool is_sole_voter() const { return cairn_raft_is_sole_voter(core_, self().value); }
  static void answer_all(std::vector<Waiter> waiters, const Error& error);

  // The core and what it asks for.
  uint64_t now_ms() const;
  void after_step(int status, const CairnRaftUpdate& update);
  void take_entries(const CairnRaftUpdate& update);
  std::shared_ptr<RaftEntry> entry_of(const CairnRaftUpdate& update, unsigned i);
  void truncate_from(LogIndex index);
  void remember(const RaftEntryPtr& entry);
  void follow_state();
  void follow_commit();
  void hand_over();
  void arm_timer();
  void on_timer();
  void on_durable(uint64_t number);
  void on_applied(std::vector<AppliedEntry> applied);
  void fail(const Error& error);

  // Messages.
  void take_messages(const CairnRaftUpdate& update);
  void send_waiting_messages();
  void send(MasterId to, const std::string& address, RaftMessage message);
  void send_entries(const CairnRaftMessage& core, MasterId to, const std::string& address,
                    std::span<const RaftEntryPtr> entries);
  Task<void> send_stored_entries(CairnRaftMessage core, MasterId to, std::string address);
  std::optional<std::vector<RaftEntryPtr>> remembered(LogIndex from, uint64_t count) const;
  void step_received(const RaftMessage& message);
  bool can_take(const RaftMessage& message) const;
  bool is_member(MasterId master) const;

  // Reads.
  void start_read_round();
  void send_probes();
  void on_read_probe(const RaftMessage& message);
  void on_read_echo(const RaftMessage& message);
  void end_reads(const Error& error);
  Task<void> repeat_probes();

  // The group.
  Task<Result<void>> change_members(std::vector<GroupMember> members, TimePoint deadline);
  Task<Result<void>> wait_changed(TimePoint deadline);

  // Checkpoints of others.
  void on_snapshot_offer(const RaftMessage& message);
  Task<void> fetch_checkpoint(MasterId from, std::string address);
  Task<Result<void>> fetch_files(MasterId from, std::string address, Checkpoint checkpoint);
  bool still_lacks(LogIndex index) const;
  Task<void> retire(Checkpoint checkpoint);

  // What runs beside.
  Task<void> tick();
  Task<void> keep_house();
  Task<void> step_aside();
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
  std::vector<std::shared_ptr<RaftEntry>> receiving_;  // during cairn_raft_receive(), and the first one's index
  LogIndex receiving_from_ = 0;
  std::deque<RaftEntryPtr> remembered_;  // the newest entries, consecutive, for other masters
  uint64_t remembered_bytes_ = 0;
  uint64_t unapplied_bytes_ = 0;         // of in_flight_
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
  LogIndex durable_ = 0;  // on this disk
  LogIndex handed_over_ = 0;
  LogIndex applied_ = 0;
  uint64_t term_number_ = 0;  // of the newest write of term and vote: messages wait for it
  struct WaitingMessage {
    uint64_t number;  // of the write it waits for
    CairnRaftMessage core;
    MasterId to;
    std::string address;
  };
  std::deque<WaitingMessage> messages_;
  std::map<MasterId, TimePoint> heard_;
  TimePoint complained_{};  // of a message that does not fit: not each one gets a line
  bool removed_ = false;

  // One round of probes serves all reads that wait when it begins.
  struct ReadRound {
    uint64_t number = 0;
    std::set<MasterId> echoed;
    std::vector<Promise<void>> waiters;
  };
  std::optional<ReadRound> round_;
  std::vector<Promise<void>> next_round_;
  uint64_t round_number_ = 0;
  bool repeating_probes_ = false;

  bool retired_ = false;  // a checkpoint of another master waits to be opened
  Mutex fetch_mutex_;
  Term offer_term_ = 0;  // in which a leader last said that it has only a checkpoint for this master, and when
  TimePoint offered_{};
  uint64_t pinned_checkpoint_ = 0;  // another master fetches it
  TimePoint pinned_until_{};
  TimePoint next_step_aside_{};
  bool stepping_aside_ = false;  // for want of room: leadership is being handed over
  struct BarrierWaiter {
    LogIndex index;
    Promise<void> promise;
  };
  std::vector<BarrierWaiter> barriers_;

  Clock::TimerId timer_ = 0;
  uint64_t timer_ms_ = 0;
  uint64_t last_timeout_ms_ = 0;

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

}  // namespace cairn
