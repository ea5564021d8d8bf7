// FileLocks: the locks that programs on this mount have on files (docs/decisions/008-locks.md). Where the inode's
// exclusive lease says that nobody else has any, they are decided here, without a message; else by the master.
//
// Loop thread only. stop() is awaited before it goes, when the MasterLink has been closed.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "common/base/metrics.h"
#include "common/locks/inode_locks.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "fs/client/file_system.h"
#include "fs/client/lease_keeper.h"
#include "fs/client/master_link.h"

namespace cairn {

class FileLocks {
 public:
  using HandleId = FileSystem::HandleId;

  FileLocks(World& world, MasterLink& master, LeaseKeeper& leases, Duration request_timeout);
  ~FileLocks();
  // Asked for when locks would better be decided here: takes the exclusive lease, in the background.
  void set_want_lease(std::function<void(InodeId)> want) { want_lease_ = std::move(want); }
  // Told of handles whose locks are gone though nobody has said so.
  void on_lost(std::function<void(const std::set<HandleId>&)> callback) { on_lost_ = std::move(callback); }
  // Nothing is asked of the master any more.
  Task<void> stop();
  void abandon() { tasks_.reset(); }  // instead of it, when the process crashes (in the simulator)

  // As FileSystem::set_lock() and the others.
  Task<Result<void>> set(InodeId inode, HandleId handle, FileLock lock, std::shared_ptr<LockWait> wait);
  Task<Result<std::optional<FileLock>>> test(InodeId inode, FileLock lock);
  Task<void> release_owner(InodeId inode, uint64_t owner);
  Task<void> release_handle(InodeId inode, HandleId handle);
  bool any(InodeId inode) const;

  // The exclusive lease is about to go: the master knows all locks when this is done, and decides.
  Task<void> hand_over(InodeId inode);
  // The lease is needed for locks, or was a moment ago.
  bool keeps_lease(InodeId inode) const;
  // What the lease is not needed for any more. Called now and then.
  std::vector<InodeId> forget_unused();

  // All locks of the inode are gone (an administrator), or all of all (the session has ended). Gives the handles
  // through which they were set.
  Task<std::set<HandleId>> broken(InodeId inode);
  std::set<HandleId> lost();

 private:
  // One inode that is locked here, or was a moment ago. Its locks have session 0.
  struct State {
    explicit State(Executor& executor) : mutex(executor) {}
    InodeLocks mine;                              // as programs see them
    InodeLocks known;                             // as the master knows them
    std::map<uint64_t, std::set<HandleId>> used;  // by owner: through which handles; none: it is being released
    Mutex mutex;                                  // whoever changes them
    uint32_t users = 0;
    uint32_t waiting = 0;  // at the master: what others do with these locks it must hear
    uint32_t alone = 0;    // answers in a row that met nobody
    bool unsure = false;   // whether `known` is what the master knows: an answer was lost
    TimePoint last_use{};
  };
  class Using;  // keeps a State while somebody works on it

  State* find(InodeId inode);
  bool decides(InodeId inode, const State& state) const;
  // With the state's mutex held. No value: nobody was in the way.
  Task<Result<std::optional<FileLock>>> try_set(InodeId inode, State& state, FileLock lock);
  Task<Result<std::optional<FileLock>>> set_at_master(InodeId inode, State& state, FileLock lock);
  Task<Result<void>> tell_all(InodeId inode, State& state);
  // What a program believes, though the master may not have heard of it: it is told later.
  void apply_unsure(InodeId inode, State& state, const FileLock& lock);
  Task<void> put_back(InodeId inode, State& state, FileLock lock, std::vector<FileLock> had);
  Task<Result<void>> wait_at_master(InodeId inode, const FileLock& lock, std::shared_ptr<LockWait> wait,
                                    uint64_t& place);
  Task<void> cancel_wait(uint64_t number);
  Task<void> release(InodeId inode, std::vector<uint64_t> owners);
  Task<void> tell_later(InodeId inode);
  void consider_lease(InodeId inode, State& state, const MutationReply& reply, uint64_t tenure);
  static std::set<HandleId> handles_of(const State& state);

  World& world_;
  MasterLink& master_;
  LeaseKeeper& leases_;
  const Duration request_timeout_;
  std::function<void(InodeId)> want_lease_;
  std::function<void(const std::set<HandleId>&)> on_lost_;
  std::map<InodeId, std::unique_ptr<State>> states_;
  uint64_t next_wait_ = 1;
  bool stopping_ = false;
  Counter& here_;
  Counter& at_master_;
  std::unique_ptr<TaskGroup> tasks_;
};

}  // namespace cairn
