// LeaseKeeper: which leases this mount holds, and the recalls that take them away
// (docs/decisions/007-recalls.md). Whoever answers from what is known asks it first; whoever gets an answer from the
// master tells it.
//
// Loop thread only. Bounded: at most `leases_max` shared leases; the least recently used are given back.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "common/proto/meta_types.h"
#include "common/runtime/task_group.h"
#include "fs/client/master_link.h"

namespace cairn {

class LeaseKeeper {
 public:
  LeaseKeeper(World& world, MasterLink& master, size_t leases_max);
  ~LeaseKeeper();

  // What to do when the master asks for something: forget it here and in the kernel, write what is dirty. Completes
  // when the master may go on; false: the lease would stay, but nothing here needs it any more (it is returned).
  // Recalls of different inodes run side by side, those of one inode in order.
  using Handler = std::function<Task<bool>(Recall)>;
  // Begins to wait for recalls; the session is open.
  void start(Handler handler);
  Task<void> stop();

  // ---- what is held. All are false while the session is suspended.
  bool shared(InodeId inode) const;  // at least shared
  bool exclusive(InodeId inode) const;
  // A recall of it is being worked on: answers to the kernel about it carry no timeout.
  bool recalling(InodeId inode) const;
  // What the kernel may be told about something that is held, at most: what is left of the session's time. Zero:
  // nothing.
  Duration left(InodeId inode) const;

  // ---- what answers bring
  // True if the lease is held from now on: not when it is of an older term, or was recalled before it arrived.
  bool granted(InodeId inode, const Lease& lease);
  bool granted_exclusive(InodeId inode, const Lease& lease);
  void lowered(InodeId inode);           // exclusive to shared, by ourselves
  void dropped(InodeId inode);           // not held any more; tells the master lazily if it was
  void used(InodeId inode);              // keeps it from being given back early
  void pin(InodeId inode, bool pinned);  // open: not given back

  // For the renewal with a new master.
  std::vector<HeldLease> held() const;
  // The session has ended: nothing is held.
  void lost();

  size_t shared_count() const;
  size_t exclusive_count() const;
};

}  // namespace cairn
