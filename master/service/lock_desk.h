// LockDesk: the leader's side of locks that somebody waits for (docs/decisions/008-locks.md): queues, circles, and who
// else is interested in the locks of an inode just now.
//
// Not in the log: a new leader begins with nothing, and those who wait ask it. Loop thread only. Waits end with
// kNotLeader when this master no longer leads.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "common/base/metrics.h"
#include "common/locks/lock_waits.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "master/service/core.h"
#include "master/service/recall_desk.h"

namespace cairn {

class LockDesk {
 public:
  LockDesk(MasterCore& core, RecallDesk& recalls);

  void stop_leading();
  Task<void> stop();

  // From here to the end of this object nobody else is told that the inode's locks are its own to decide. Whoever was
  // told so before holds the inode exclusively, and is found by RecallDesk::wait_written().
  class Interest {
   public:
    Interest() = default;
    Interest(Interest&& other) noexcept : desk_(std::exchange(other.desk_, nullptr)), place_(other.place_) {}
    Interest& operator=(Interest&& other) noexcept {
      end();
      desk_ = std::exchange(other.desk_, nullptr);
      place_ = other.place_;
      return *this;
    }
    ~Interest() { end(); }

   private:
    friend class LockDesk;
    using Place = std::multiset<std::pair<InodeId, SessionId>>::iterator;
    Interest(LockDesk* desk, Place place) : desk_(desk), place_(place) {}
    void end() {
      if (LockDesk* desk = std::exchange(desk_, nullptr)) desk->interested_.erase(place_);
    }
    LockDesk* desk_ = nullptr;
    Place place_;
  };
  Interest interest(InodeId inode, SessionId session) { return {this, interested_.insert({inode, session})}; }
  // Another session has a lock on the inode, waits for one, or is about to get one.
  bool locked_elsewhere(InodeId inode, SessionId session) const;

  // Until the lock may be free, or it is cancelled, or some seconds have passed.
  Task<Result<WaitLockReply>> wait(WaitLockRequest request, TimePoint deadline);
  void cancel(const CancelWaitRequest& request);

  // The locks of the inode are others than before.
  void changed(InodeId inode);
  void session_ended(SessionId session);

  std::vector<FileLock> waiting(InodeId inode) const;  // in their order
  std::vector<InodeId> waited_for() const { return waits_.inodes(); }

 private:
  struct Waiter {
    explicit Waiter(Executor& executor) : wake(executor) {}
    Condition wake;
    bool over = false;
  };
  Task<Result<WaitLockReply>> wait_in_queue(WaitLockRequest request, std::shared_ptr<Waiter> waiter, LockWaits::Id id,
                                            TimePoint until);
  void let_go(LockWaits::Id id);
  Task<void> look_again(InodeId inode);

  MasterCore& core_;
  RecallDesk& recalls_;
  uint64_t leadership_ = 0;
  LockWaits waits_;
  std::map<LockWaits::Id, std::shared_ptr<Waiter>> waiters_;  // shared with the requests that wait
  std::map<std::pair<SessionId, uint64_t>, LockWaits::Id> numbers_;
  std::multiset<std::pair<InodeId, SessionId>> interested_;
  std::set<InodeId> looking_again_;
  Gauge& waiting_;
  Counter& deadlocks_;
  TaskGroup tasks_;
};

}  // namespace cairn
