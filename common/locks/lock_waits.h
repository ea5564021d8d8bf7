// LockWaits: who waits for which lock. In which order they are let go, and who waits in a circle.
//
// Pure: it knows no locks; whoever asks brings those of an inode (InodeLocks). Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "common/locks/inode_locks.h"

namespace cairn {

class LockWaits {
 public:
  using Id = uint64_t;
  struct Wait {
    InodeId inode;
    FileLock lock;
    uint64_t place = 0;  // lower ones go first
  };

  // At its `place`, or at the end of all (0).
  Id add(InodeId inode, const FileLock& lock, uint64_t place);
  void remove(Id id);
  const Wait* find(Id id) const;

  // Those who could all have their locks now, one after the other, in the order of their places: whoever conflicts with
  // somebody before it in this list is not in it.
  std::vector<Id> free_now(InodeId inode, InodeLocks locks) const;
  // Its owner waits for somebody, who waits for somebody, ..., who waits for its owner. Only fcntl's locks count.
  using LocksOf = std::function<InodeLocks(InodeId)>;
  bool in_a_circle(Id id, const LocksOf& locks_of) const;

  std::vector<InodeId> inodes() const;
  std::vector<Wait> of_inode(InodeId inode) const;  // in their order
  size_t of_session(SessionId session) const;
  bool others_wait(InodeId inode, SessionId session) const;
  size_t size() const { return waits_.size(); }
  void clear();

 private:
  Id last_ = 0;
  uint64_t last_place_ = 0;
  std::map<Id, Wait> waits_;
  std::map<InodeId, std::set<std::pair<uint64_t, Id>>> queues_;  // by place
  std::map<LockOwner, std::set<Id>> owners_;                     // that wait for a lock of fcntl
  std::map<SessionId, size_t> sessions_;
};

}  // namespace cairn
