#include "fs/fuse/notifier.h"

#include <atomic>
#include <cerrno>
#include <gtest/gtest.h>
#include <map>
#include <mutex>
#include <semaphore>
#include <string>
#include <vector>

#include "common/runtime/real_world.h"

namespace cairn {
namespace {

// A kernel whose notifications about some inodes wait until they are let go.
class TwinKernel : public KernelNotifications {
 public:
  int invalidate_attributes(InodeId inode) override { return take("attributes", inode); }
  int invalidate_pages(InodeId inode, uint64_t, uint64_t) override { return take("pages", inode); }
  int invalidate_entry(InodeId parent, const std::string& name) override { return take("entry " + name, parent); }

  void hold(InodeId inode) { held_ = inode.value; }
  void let_go(int count = 1) { go_.release(count); }
  void answer(int value) { answer_ = value; }
  std::vector<std::string> calls() {
    std::scoped_lock lock(mutex_);
    return calls_;
  }
  int most_at_once() const { return most_; }

 private:
  int take(const std::string& what, InodeId inode) {
    {
      std::scoped_lock lock(mutex_);
      calls_.push_back(what + " " + to_string(inode));
      most_ = std::max(most_.load(), ++inside_[inode.value]);
    }
    if (held_ == inode.value) go_.acquire();
    std::scoped_lock lock(mutex_);
    --inside_[inode.value];
    return answer_;
  }

  std::mutex mutex_;
  std::vector<std::string> calls_;
  std::map<uint64_t, int> inside_;
  std::atomic<int> most_ = 0;
  std::atomic<uint64_t> held_ = 0;
  std::atomic<int> answer_ = 0;
  std::counting_semaphore<> go_{0};
};

class NotifierTest : public ::testing::Test {
 protected:
  NotifierTest() : world_(RealWorld::make({})) {
    for (uint64_t i = 2; i < 10; ++i)
      inodes_.looked_up({.inode = InodeId(i)});
  }

  void make(NotifierOptions options = {}) {
    notifier_ = std::make_unique<Notifier>(*world_, kernel_, inodes_, [this] { give_up(); }, options);
  }
  void give_up() {
    ++gave_up_;
    kernel_.let_go(100);
  }
  // Runs `work` on the loop, then stops the notifier.
  void run(Task<void> work) { world_->run(run_all(std::move(work))); }
  Task<int> run_all(Task<void> work) {
    co_await std::move(work);
    co_await notifier_->stop();
    co_return 0;
  }

  std::unique_ptr<RealWorld> world_;
  TwinKernel kernel_;
  InodeTable inodes_;
  std::unique_ptr<Notifier> notifier_;
  int gave_up_ = 0;
};

Task<void> forget_one(Notifier* notifier, InodeId inode, int* done) {
  co_await notifier->forget_pages(inode);
  ++*done;
}

Task<void> others_go_on(RealWorld* world, TwinKernel* kernel, Notifier* notifier, std::vector<int>* done_at_release) {
  TaskGroup tasks(world->executor(), world->clock());
  kernel->hold(InodeId(2));
  int held = 0, free = 0;
  tasks.spawn(forget_one(notifier, InodeId(2), &held));
  tasks.spawn(forget_one(notifier, InodeId(2), &held));
  for (uint64_t i = 3; i < 10; ++i)
    co_await forget_one(notifier, InodeId(i), &free);
  *done_at_release = {held, free};
  kernel->let_go(2);
  co_await tasks.stop();
  done_at_release->push_back(held);
}

TEST_F(NotifierTest, OneThatBlocksHoldsBackItsInodeOnly) {
  make();
  std::vector<int> done;
  run(others_go_on(world_.get(), &kernel_, notifier_.get(), &done));
  EXPECT_EQ((std::vector<int>{0, 7, 2}), done);
  EXPECT_EQ(1, kernel_.most_at_once());
  EXPECT_EQ(0, gave_up_);
}

Task<void> forget_unknown(Notifier* notifier) {
  co_await notifier->forget_pages(InodeId(77));
  co_await notifier->forget_attributes(InodeId(77));
  co_await notifier->forget_entry(InodeId(77), "x");
}

TEST_F(NotifierTest, WhatTheKernelDoesNotKnowIsNotAskedAbout) {
  make();
  run(forget_unknown(notifier_.get()));
  EXPECT_TRUE(kernel_.calls().empty());
}

Task<void> forget_attributes_of_two(TwinKernel* kernel, Notifier* notifier, World* world) {
  // The kernel has not yet taken in the reply with the inode: "unknown" means "not yet".
  kernel->answer(-ENOENT);
  TaskGroup tasks(world->executor(), world->clock());
  tasks.spawn(notifier->forget_attributes(InodeId(2)));
  while (kernel->calls().size() < 3) {
    Result<void> slept = co_await tasks.sleep_for(1ms);
    if (!slept) co_return;
  }
  kernel->answer(0);
  co_await tasks.stop();
}

TEST_F(NotifierTest, AttributesThatAreOnTheirWayAreForgottenOnceTheyArrive) {
  make();
  run(forget_attributes_of_two(&kernel_, notifier_.get(), world_.get()));
  EXPECT_GE(kernel_.calls().size(), 4u);
  EXPECT_EQ("attributes 2", kernel_.calls().back());
}

Task<void> forget_name(Notifier* notifier) {
  co_await notifier->forget_entry(InodeId(2), "x");
}

TEST_F(NotifierTest, ANameThatTheKernelDoesNotHoldStillEndsTheListing) {
  make();
  kernel_.answer(-ENOENT);
  run(forget_name(notifier_.get()));
  EXPECT_EQ((std::vector<std::string>{"entry x 2", "pages 2"}), kernel_.calls());
}

Task<void> forget_held(Notifier* notifier, TwinKernel* kernel) {
  kernel->hold(InodeId(2));
  co_await notifier->forget_pages(InodeId(2));
}

TEST_F(NotifierTest, OneThatIsStuckEndsTheConnectionOnce) {
  make({.log_after = 10ms, .give_up_after = 50ms});
  run(forget_held(notifier_.get(), &kernel_));
  EXPECT_EQ(1, gave_up_);
}

}  // namespace
}  // namespace cairn
