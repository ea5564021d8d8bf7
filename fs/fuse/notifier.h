// Notifier: tells the kernel what to forget (KernelCaches of fs/client), by the recipe of docs/consistency.md,
// "What the kernel keeps".
//
// A notification may block behind requests that the loop has yet to answer, so the loop goes on meanwhile. One
// that blocks behind a request which itself may wait for another mount (a change of that directory, a WRITE of part of
// that page) is left alone, and the recall goes on another way: mounts that wait for one another would hang.
//
// One that blocks too long is logged, and at last the connection is given up: a mount that ends beats one that hangs.
// Loop thread only. The channel must outlive stop().
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "common/base/metrics.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "common/runtime/world.h"
#include "fs/client/file_system.h"
#include "fs/fuse/kernel_device.h"
#include "fs/fuse/kernel_state.h"

namespace cairn {

struct Notification {
  enum class Kind { kAttributes, kPages, kEntry };
  Kind kind = Kind::kAttributes;
  InodeId inode;        // of a name: its directory
  uint64_t offset = 0;  // of pages; attributes go with them
  uint64_t size = 0;    // 0: to the end
  std::string name;
};

// The kernel's side; 0 or -errno. (KernelChannel; a twin in tests.)
class KernelNotifications {
 public:
  virtual ~KernelNotifications() = default;
  // As KernelDevice::notify().
  virtual Task<int> notify(Notification what, std::shared_ptr<std::atomic<bool>> begun) = 0;
  // All names that the kernel holds are looked up again before they are used. Never blocks. -EINVAL where the kernel
  // cannot (before 6.16).
  virtual int advance_epoch() = 0;
};

struct NotifierOptions {
  Duration log_after = std::chrono::seconds(10);
  // Every request is answered within its deadline (60 s), so a notification that waits for longer waits for nothing.
  Duration give_up_after = std::chrono::seconds(90);
  // How long the kernel gets before it is asked what it waits for.
  Duration patience = std::chrono::milliseconds(10);
  // Where no own request is known that the kernel could be waiting for.
  Duration long_patience = std::chrono::milliseconds(500);
  size_t at_once = kNotificationsAtOnce;
};

class Notifier final : public KernelCaches {
 public:
  // `give_up` is called once, when a notification has blocked too long.
  Notifier(World& world, KernelNotifications& kernel, KernelState& state, std::function<void()> give_up,
           NotifierOptions options = {});
  ~Notifier() override;

  // After INIT: whether there is an epoch. (It advances once; the kernel holds nothing yet.)
  void probe();

  // Recalls.
  Task<void> forget_pages(InodeId inode) override;
  Task<void> forget_attributes(InodeId inode) override;
  Task<void> forget_name(InodeId directory, std::string name) override;
  Task<void> forget_everything() override;

  // The kernel's pages are wrong for a reason of our own: not a recall.
  Task<void> drop_pages(InodeId inode);
  // Those that a WRITE has changed behind the kernel. No page of them is under a WRITE of a part.
  Task<void> drop_range(InodeId inode, ByteRange range);

  // A READ that has come waits here while a pass over the pages wants none.
  Task<void> read_may_begin(InodeId inode, ByteRange range);
  // For DirectoryHandles::plus_taken().
  void names_taken() { advance(); }

  size_t under_way() const { return under_way_; }
  // Waits until none is under way: the connection must be going on, or be aborted.
  Task<void> stop();

 private:
  // One notification: shared by the task that runs it and by the one that waits, which may stop waiting.
  struct Call;
  using CallPtr = std::shared_ptr<Call>;
  struct Lane {  // one after the other
    explicit Lane(Executor& executor) : turn(executor) {}
    Mutex turn;
    size_t users = 0;
  };
  using Lanes = std::unordered_map<InodeId, std::unique_ptr<Lane>>;
  class InLane;
  class UnderWay;

  CallPtr send(Notification what);
  Task<void> run(CallPtr call, Notification what);
  // True if it came back within `patience` of its start.
  Task<bool> back_within(CallPtr call, Duration patience);
  Task<int> back(CallPtr call);
  void leave(const CallPtr& call);
  bool many_left() const { return left_ >= options_.at_once / 2; }

  // Gives whether the kernel knows the inode, so that its attributes have been forgotten too.
  Task<bool> drop_all_pages(InodeId inode);
  Task<bool> pass_over(InodeId inode, std::vector<ByteRange> ranges);
  Task<void> drop_when_answered(InodeId inode, ByteRange page);
  Task<void> drop_attributes(InodeId inode);
  Task<void> drop_name(InodeId directory, std::string name);
  Task<bool> try_name(InodeId directory, std::string name);
  Task<void> drop_names_by_epoch(InodeId directory);
  Task<void> drop_known(std::shared_ptr<std::vector<InodeId>> inodes);
  void advance();
  Task<void> watch();

  World& world_;
  KernelNotifications& kernel_;
  KernelState& state_;
  std::function<void()> give_up_;
  const NotifierOptions options_;
  Counter& sent_;
  Gauge& waiting_;
  Counter& left_alone_;
  Counter& epochs_;
  Lanes page_lanes_;
  Lanes name_lanes_;
  std::map<uint64_t, CallPtr> running_;
  std::unordered_map<InodeId, CallPtr> stuck_names_;  // left alone: further ones would wait behind it
  uint64_t next_ = 1;
  size_t left_ = 0;  // of running_: nobody waits for them
  size_t under_way_ = 0;
  bool gave_up_ = false;
  Condition idle_;
  Condition reads_;  // held READs look again
  TaskGroup tasks_;
};

}  // namespace cairn
