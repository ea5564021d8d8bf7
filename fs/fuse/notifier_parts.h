// What the Notifier's sources share.
#pragma once

#include <atomic>
#include <optional>

#include "fs/fuse/notifier.h"

namespace cairn {

struct Notifier::Call {
  explicit Call(Executor& executor) : returned(executor) {}
  InodeId inode;
  TimePoint since{};
  bool logged = false;
  bool left = false;  // nobody waits for it
  uint64_t id = 0;
  // Shared with whoever makes the kernel's call, perhaps on another thread.
  std::shared_ptr<std::atomic<bool>> begun = std::make_shared<std::atomic<bool>>(false);
  std::optional<int> answer;
  Condition returned;
};

// Holds an inode's lane.
class Notifier::InLane {
 public:
  InLane(Lanes& lanes, InodeId inode, Executor& executor) : lanes_(lanes), inode_(inode) {
    std::unique_ptr<Lane>& slot = lanes_[inode];
    if (!slot) slot = std::make_unique<Lane>(executor);
    lane_ = slot.get();
    ++lane_->users;
  }
  InLane(const InLane&) = delete;
  InLane& operator=(const InLane&) = delete;
  ~InLane() {
    turn_ = {};
    if (--lane_->users == 0) lanes_.erase(inode_);
  }
  Mutex& turn() { return lane_->turn; }
  void take(Semaphore::Permit turn) { turn_ = std::move(turn); }

 private:
  Lanes& lanes_;
  InodeId inode_;
  Lane* lane_ = nullptr;
  Semaphore::Permit turn_;
};

// A recall that stop() waits for.
class Notifier::UnderWay {
 public:
  explicit UnderWay(Notifier& notifier) : notifier_(notifier) { change(1); }
  UnderWay(const UnderWay&) = delete;
  UnderWay& operator=(const UnderWay&) = delete;
  ~UnderWay() { change(-1); }

 private:
  void change(int by) {
    notifier_.under_way_ += static_cast<size_t>(by);
    notifier_.waiting_.set(static_cast<double>(notifier_.under_way_));
    if (notifier_.under_way_ == 0) notifier_.idle_.notify_all();
  }
  Notifier& notifier_;
};

}  // namespace cairn
