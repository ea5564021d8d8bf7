// RecallDesk: the leader's side of recalls (docs/decisions/007-recalls.md): tells sessions what is asked of them, takes
// their answers, lets changes and readers wait for these, and ends (fences) a session that does not answer in its time.
//
// No session believes in its leases for longer than its oldest unanswered recall plus the session's time: no renewal is
// answered with more. So when that time has passed, and the session has ended, what it held is nobody's.
//
// Loop thread only. Waits end with kNotLeader when this master no longer leads.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "common/base/metrics.h"
#include "common/proto/meta_types.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "master/leases/lease_table.h"
#include "master/service/core.h"

namespace cairn {

class RecallDesk {
 public:
  RecallDesk(MasterCore& core, LeaseTable& table);
  ~RecallDesk();

  // `sessions`: all that there are. Until their time is over they may believe in what the leader before has told them.
  void start_leading(const std::vector<SessionId>& sessions);
  void stop_leading();
  Task<void> stop();
  // Ends the session by a command in the log, and says so by session_ended().
  void on_fence(std::function<Task<void>(SessionId)> fence) { fence_ = std::move(fence); }

  // ---- what clients ask
  Task<Result<TakeRecallsReply>> take(TakeRecallsRequest request, TimePoint deadline);
  Result<EmptyReply> answer(const AnswerRecallsRequest& request);
  Result<LeaseNumberReply> give_back(const ReturnLeasesRequest& request);
  // Up to which number grants are over for what has just been given back.
  LeaseNumberReply number() const { return {.term = table_.term(), .sequence = table_.mark().at}; }

  // ---- changes
  // A change that is under way; it ends with this object, whatever way its operation takes.
  class Change {
   public:
    Change() = default;
    Change(Change&& other) noexcept : desk_(std::exchange(other.desk_, nullptr)), id_(other.id_) {}
    Change& operator=(Change&& other) noexcept {
      end();
      desk_ = std::exchange(other.desk_, nullptr);
      id_ = other.id_;
      return *this;
    }
    ~Change() { end(); }
    ChangeId id() const { return id_; }
    void end();

   private:
    friend class RecallDesk;
    Change(RecallDesk* desk, ChangeId id) : desk_(desk), id_(id) {}
    RecallDesk* desk_ = nullptr;
    ChangeId id_ = 0;
  };
  Change begin(SessionId by, std::vector<Touched> touched);
  // Asks everybody who has to forget something, and waits for all of them.
  Task<Result<void>> ask_all(ChangeId change, TimePoint deadline);
  // All answers to what has been asked.
  Task<Result<void>> wait_answered(ChangeId change, TimePoint deadline);
  // Until nobody else changes this inode.
  Task<Result<void>> wait_alone(ChangeId change, InodeId inode, TimePoint deadline);
  // Until what another session has written to it is committed, if some session holds it exclusively.
  Task<Result<void>> wait_written(InodeId inode, SessionId reader, TimePoint deadline);
  // Until this session has answered what it was asked about this inode.
  Task<Result<void>> wait_own(SessionId session, InodeId inode, TimePoint deadline);
  // Of those that have been asked for all they have of this inode one at a time may write what was stored in mappings
  // of it: until it has answered. kWait: this session has not been asked, or has answered.
  Task<Result<void>> wait_turn(SessionId session, InodeId inode, TimePoint deadline);
  // Tells the session that its locks on the inode were taken away.
  void locks_broken(SessionId session, InodeId inode) { tell({table_.locks_broken(session, inode)}); }
  // For how long the session has not answered what it was asked about the inode; zero if there is nothing.
  Duration unanswered_for(SessionId session, InodeId inode) const;
  // Some session has given back an exclusive lease by itself.
  void lowered() { lowered_.notify_all(); }

  // ---- sessions
  // How long the session's time is, if it is told so now. Remembered.
  uint32_t grant_time(SessionId session);
  // It has ended. `by_itself`: it has asked for that, and believes in nothing any more. Else what it holds goes when
  // its time is over.
  void session_ended(SessionId session, bool by_itself);

 private:
  // One session, and who waits for its recalls.
  struct Told {
    explicit Told(Executor& executor) : wake(executor) {}
    Condition wake;
    TimePoint valid_until{};              // it may believe in its leases until then
    std::map<uint64_t, TimePoint> asked;  // unanswered: number, and when
    bool ended = false;
    bool fencing = false;
  };
  friend class Change;

  std::shared_ptr<Told> told_of(SessionId session);
  void tell(const std::vector<LeaseTable::Asked>& asked);
  void complete(ChangeId change);
  void end_change(ChangeId change);
  void end_leases(SessionId session);
  Duration session_time() const;
  Task<void> run(uint64_t leadership);
  TimePoint look_after(TimePoint now);
  // Another session has the turn, and waits for none itself.
  bool waits_for_turn(SessionId session) const;
  void excuse(SessionId session, TimePoint now);
  Task<void> fence(SessionId session, uint64_t leadership);

  MasterCore& core_;
  LeaseTable& table_;
  uint64_t leadership_ = 0;  // moves with each change: what waits ends
  std::function<Task<void>(SessionId)> fence_;
  std::unordered_map<SessionId, std::shared_ptr<Told>> told_;  // shared with the requests that wait for recalls
  std::set<SessionId> unanswered_;                             // those with something in `asked`
  std::map<SessionId, TimePoint> lingering_;                   // ended; their leases go then
  std::map<ChangeId, std::unique_ptr<Condition>> changes_;     // that wait for answers
  Condition ended_;
  Condition lowered_;
  std::map<RecallKind, Counter*> recalls_;
  Counter& answered_;
  Histogram& latency_;
  std::map<InodeId, SessionId> turns_;
  std::multimap<SessionId, InodeId> waiting_for_turn_;
  Counter& fenced_;
  Gauge& shared_;
  Gauge& exclusive_;
  TaskGroup tasks_;
};

}  // namespace cairn
