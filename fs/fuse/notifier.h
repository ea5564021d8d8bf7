// Notifier: tells the kernel what to forget (KernelCaches of fs/client). A notification may block behind requests that
// the loop has yet to answer, so each runs on a thread of a pool; at most one at a time for an inode, so that one that
// blocks does not hold the others back (docs/consistency.md).
//
// One that blocks too long is logged, and at last the connection is given up: a mount that ends beats one that hangs.
// Loop thread only. The channel must outlive stop().
#pragma once

#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "common/base/metrics.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "common/runtime/world.h"
#include "fs/client/file_system.h"
#include "fs/fuse/inode_table.h"

namespace cairn {

// The kernel's side; 0 or -errno. Called on pool threads, several at a time. (KernelChannel; a twin in tests.)
class KernelNotifications {
 public:
  virtual ~KernelNotifications() = default;
  virtual int invalidate_attributes(InodeId inode) = 0;
  virtual int invalidate_pages(InodeId inode, uint64_t offset,
                               uint64_t size) = 0;  // size 0: to the end; attributes too
  virtual int invalidate_entry(InodeId parent, const std::string& name) = 0;
};

struct NotifierOptions {
  Duration log_after = std::chrono::seconds(10);
  // Every request is answered within its deadline (60 s), so a notification that waits for longer waits for nothing.
  Duration give_up_after = std::chrono::seconds(90);
  size_t threads = 16;
};

class Notifier final : public KernelCaches {
 public:
  // `inodes` says which the kernel knows. `give_up` is called once, when a notification has blocked too long.
  Notifier(World& world, KernelNotifications& kernel, const InodeTable& inodes, std::function<void()> give_up,
           NotifierOptions options = {});
  ~Notifier() override;

  Task<void> forget_pages(InodeId inode) override;
  Task<void> forget_attributes(InodeId inode) override;
  // A name in a directory, and the directory's cached listing.
  Task<void> forget_entry(InodeId parent, std::string name);

  size_t under_way() const { return under_way_; }
  // Waits until none is under way: the connection must be going on, or be aborted.
  Task<void> stop();

 private:
  struct Lane {  // notifications of one inode, one after the other
    explicit Lane(Executor& executor) : turn(executor) {}
    Mutex turn;
    size_t users = 0;
  };
  // Runs `call` in the inode's lane; gives what the kernel answered.
  Task<int> notify(InodeId inode, std::move_only_function<int()> call);
  Task<void> watch();
  Task<Result<int>> run_on_pool(std::move_only_function<int()> call);

  World& world_;
  KernelNotifications& kernel_;
  const InodeTable& inodes_;
  std::function<void()> give_up_;
  const NotifierOptions options_;
  std::unique_ptr<BlockingPool> pool_;
  Counter& sent_;
  Gauge& waiting_;
  std::unordered_map<InodeId, std::unique_ptr<Lane>> lanes_;
  struct Running {
    InodeId inode;
    TimePoint since;
    bool logged = false;
  };
  std::map<uint64_t, Running> running_;
  uint64_t next_ = 1;
  size_t under_way_ = 0;
  bool gave_up_ = false;
  Condition idle_;
  TaskGroup tasks_;
};

}  // namespace cairn
