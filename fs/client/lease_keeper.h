// LeaseKeeper: which leases this mount holds, and the recalls that take them away
// (docs/decisions/007-recalls.md). Whoever answers from what is known asks it first; whoever gets an answer from the
// master tells it.
//
// Loop thread only. Bounded: at most `leases_max` shared leases; the least recently used are given back. stop() is
// awaited before it goes, when the MasterLink has been closed.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "common/base/metrics.h"
#include "common/proto/meta_types.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "fs/client/master_link.h"

namespace cairn {

class LeaseKeeper {
 public:
  // `late_max`: no answer comes later than that after its question.
  LeaseKeeper(World& world, MasterLink& master, size_t leases_max, Duration late_max);
  ~LeaseKeeper();

  // What to do when the master asks for something: forget it here and in the kernel, write what is dirty. Completes
  // when the master may go on; false: the lease would stay, but nothing here needs it any more (it is returned).
  // Recalls of different inodes run side by side, those of one inode in order.
  using Handler = std::function<Task<bool>(Recall)>;
  // Leases are about to be given back: what they cover is forgotten here and in the kernel when it completes.
  using Forget = std::function<Task<void>(InodeId)>;
  // Begins to wait for recalls; the session is open.
  void start(Handler handler, Forget forget);
  // What is held exclusively is given back only when nothing is being written: asked before.
  void set_busy(std::function<bool(InodeId)> busy) { busy_ = std::move(busy); }
  // Nothing is asked of the master any more; before it is closed.
  void stop_asking() { stopping_ = true; }
  Task<void> stop();
  // Instead of stop(), when the process crashes (in the simulator): nothing waits any more in what the handler uses.
  void abandon();

  // ---- what is held. All are false while the session is suspended.
  bool shared(InodeId inode) const;  // at least shared
  bool exclusive(InodeId inode) const;
  // A recall of it is being worked on: answers to the kernel about it carry no timeout, and what is known of it is not
  // used for answers.
  bool recalling(InodeId inode) const;
  // Likewise, and reads go on as before: it may be waiting for them, and whoever asked waits for it.
  bool reads_as_before(InodeId inode) const;
  // The recall that is being worked on takes away what is held. What a process has stored in a mapping is written now,
  // exclusive lease or not: the kernel lets go of its pages, and so the recall is answered, only when they are written.
  bool going(InodeId inode) const;
  // Until something about recalls or leases of some inode has changed. kTimeout at the deadline.
  Task<Result<void>> wait_news(TimePoint deadline) { return settled_.wait_until(world_.clock(), deadline); }
  void tell_news() { settled_.notify_all(); }
  // Neither is it being recalled, nor lowered: the exclusive lease may be asked for.
  bool settled(InodeId inode) const { return !recalling(inode) && !lowering_.contains(inode); }
  bool usable(InodeId inode) const { return shared(inode) && !recalling(inode); }
  // The newest recall of those that are waiting or being worked on: never the same number for two. 0: there is none.
  uint64_t newest_recall(InodeId inode) const;
  // Moves with each recall of it.
  uint64_t last_recall(InodeId inode) const;
  // What the kernel may be told about something that is held, at most: what is left of the session's time. Zero:
  // nothing.
  Duration left(InodeId inode) const;

  // ---- what answers bring
  // True if the lease is held from now on, so that what came with it may be kept: not when it is of an older term, or
  // was recalled before it arrived.
  bool granted(InodeId inode, const Lease& lease) { return accept(inode, lease, false); }
  // `locks_too`: nobody else has locks on the inode, so they are decided here (FileLocks).
  bool granted_exclusive(InodeId inode, const Lease& lease, bool locks_too = false);
  void used(InodeId inode);              // keeps it from being given back early
  void pin(InodeId inode, bool pinned);  // open: not given back

  // ---- locks of files, while the exclusive lease is held (docs/decisions/008-locks.md)
  bool decides_locks(InodeId inode) const;
  // The number of this time of holding the exclusive lease; 0: it is not held. decide_locks() does nothing if it has
  // ended, or a recall has come.
  uint64_t tenure(InodeId inode) const;
  void decide_locks(InodeId inode, uint64_t tenure);
  void stop_deciding_locks(InodeId inode);

  // Exclusive to shared, by ourselves; the master is told, many at a time.
  void lower(InodeId inode);

  // For the renewal with a new leader: all that is held. It is of the leader's term when all of it has been told.
  std::vector<HeldLease> held(uint64_t term);
  void told(uint64_t term);
  // Asks what has been recalled by now, and takes note of it. False: no answer.
  Task<bool> catch_up();
  // The session has ended: nothing is held.
  void lost();

  size_t shared_count() const { return leases_.size() - exclusive_count_; }
  size_t exclusive_count() const { return exclusive_count_; }

 private:
  struct Held {
    uint64_t term = 0;
    uint64_t sequence = 0;
    uint64_t told_to = 0;  // the term of a new leader that hears of it
    bool exclusive = false;
    uint64_t tenure = 0;  // of the exclusive lease
    bool decides_locks = false;
    bool returning = false;  // not used any more; returned when the kernel's timeouts are over
    bool returned = false;   // the master is being told
    bool in_doubt = false;   // it has been told, and may not have answered: not claimed of another one, nor taken again
    std::list<InodeId>::iterator use;
  };
  struct Order {  // of a grant or a recall
    uint64_t term = 0;
    uint64_t sequence = 0;
    auto operator<=>(const Order&) const = default;
  };
  struct Note {
    TimePoint at{};
    InodeId inode;
    uint64_t sequence = 0;
  };
  struct Queue {
    std::deque<std::pair<uint64_t, Recall>> waiting;  // with their terms
    bool running = false;
    bool going = false;
    bool for_nobody = false;  // the session that was asked has ended
    uint64_t newest = 0;      // of this process's own count: the masters' numbers begin anew with each term
  };

  bool accept(InodeId inode, const Lease& lease, bool exclusive);
  Held* find(InodeId inode);
  const Held* find(InodeId inode) const;
  void erase(InodeId inode);
  Task<Result<void>> give_back(std::vector<InodeId> shared, std::vector<InodeId> exclusive);
  void give_back_least_used(size_t count);
  void received(TakeRecallsReply reply);
  void note(InodeId inode, Order order);
  void lowered(InodeId inode);
  // The master's answer to a lease given back or lowered: grants of it that are on their way are over.
  void given_back(InodeId inode, const LeaseNumberReply& number);
  void forget_notes();
  Task<void> take_forever();
  Task<Result<size_t>> take(bool at_once);
  Task<void> work_on(InodeId inode);
  void worked_on(uint64_t term, const Recall& recall, bool kept);
  Task<void> answer_forever();
  Task<void> return_forever();
  Task<void> lower_forever();

  World& world_;
  MasterLink& master_;
  const size_t leases_max_;
  const Duration late_max_;
  Handler handler_;
  Forget forget_;
  std::function<bool(InodeId)> busy_;
  bool stopping_ = false;

  std::unordered_map<InodeId, Held> leases_;
  size_t exclusive_count_ = 0;
  uint64_t last_tenure_ = 0;
  std::list<InodeId> uses_;  // of shared leases that are in use, the least recently used first
  std::unordered_map<InodeId, uint32_t> pins_;
  std::unordered_map<InodeId, Order> recalled_;  // the highest of the inode
  std::deque<Note> notes_;                       // what to forget of recalled_ and done_, the oldest first
  struct Returning {
    InodeId inode;
    TimePoint when{};
  };
  std::deque<Returning> returns_;
  std::set<InodeId> lowering_;  // the master has not answered yet

  uint64_t term_ = 0;   // of the last recall that was received,
  uint64_t after_ = 0;  // and its number
  std::unordered_map<InodeId, Queue> queues_;
  uint64_t queued_ = 0;               // counts recalls
  std::map<uint64_t, bool> recalls_;  // of term_: true: handled
  std::vector<RecallAnswer> answers_;
  Condition settled_;
  Condition answers_there_;
  Condition returns_there_;
  Condition lowering_there_;
  Counter& received_;
  std::unique_ptr<TaskGroup> tasks_;  // null: abandoned
};

}  // namespace cairn
