#include "fs/fuse/notifier.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/runtime/real_world.h"

namespace cairn {
namespace {

using namespace std::chrono_literals;

// A kernel in which some notifications wait until they are let go.
class TwinKernel : public KernelNotifications {
 public:
  explicit TwinKernel(Executor& executor) : go_(executor) {}

  Task<int> notify(Notification what, std::shared_ptr<std::atomic<bool>> begun) override {
    *begun = true;
    std::string call = text_of(what);
    calls_.push_back(call);
    most_ = std::max(most_, ++inside_[what.inode.value]);
    uint64_t before = let_go_;
    while (let_go_ == before && call.starts_with(held_))
      co_await go_.wait();
    --inside_[what.inode.value];
    co_return answer_;
  }
  int advance_epoch() override {
    if (!epoch_) return -EINVAL;
    calls_.push_back("epoch");
    return 0;
  }

  // Calls that begin so wait.
  void hold(const std::string& calls) { held_ = calls; }
  void let_go() {
    held_ = "nothing";
    ++let_go_;
    go_.notify_all();
  }
  void answer(int value) { answer_ = value; }
  void has_epoch(bool has) { epoch_ = has; }
  const std::vector<std::string>& calls() const { return calls_; }
  size_t count(const std::string& call) const { return static_cast<size_t>(std::ranges::count(calls_, call)); }
  void forget_calls() { calls_.clear(); }
  int most_at_once() const { return most_; }

 private:
  static std::string text_of(const Notification& what) {
    std::string end = what.size == 0 ? "end" : std::to_string(what.offset + what.size);
    switch (what.kind) {
      case Notification::Kind::kAttributes:
        return "attributes " + to_string(what.inode);
      case Notification::Kind::kPages:
        return "pages " + to_string(what.inode) + " " + std::to_string(what.offset) + ".." + end;
      case Notification::Kind::kEntry:
        return "entry " + to_string(what.inode) + " " + what.name;
    }
    return "unknown";
  }

  std::vector<std::string> calls_;
  std::map<uint64_t, int> inside_;
  int most_ = 0;
  std::string held_ = "nothing";
  uint64_t let_go_ = 0;
  int answer_ = 0;
  bool epoch_ = true;
  Condition go_;
};

using Calls = std::vector<std::string>;

class NotifierTest : public ::testing::Test {
 protected:
  NotifierTest()
      : world_(RealWorld::make({})),
        kernel_(world_->executor()),
        state_(world_->clock(), 5s),
        tasks_(world_->executor(), world_->clock()) {
    for (uint64_t i = 2; i < 10; ++i) {
      state_.inodes.looked_up({.inode = InodeId(i)});
      state_.inodes.pages_given(InodeId(i));
      state_.inodes.attributes_given(InodeId(i), world_->clock().now() + 1h);
    }
  }

  void make(NotifierOptions options = {}) {
    notifier_ = std::make_unique<Notifier>(*world_, kernel_, state_, [this] { give_up(); }, options);
    notifier_->probe();
    kernel_.forget_calls();
  }
  void give_up() {
    ++gave_up_;
    kernel_.let_go();
  }
  // Runs `work` on the loop, then stops the notifier.
  void run(Task<void> work) { world_->run(run_all(std::move(work))); }
  Task<int> run_all(Task<void> work) {
    co_await std::move(work);
    kernel_.let_go();
    co_await tasks_.stop();
    co_await notifier_->stop();
    co_return 0;
  }
  Task<void> until(std::function<bool()> condition) {
    for (int i = 0; i < 5000 && !condition(); ++i) {
      Result<void> slept = co_await tasks_.sleep_for(1ms);
      if (!slept) co_return;
    }
    EXPECT_TRUE(condition());
  }
  Task<void> forget_pages(InodeId inode) {
    co_await notifier_->forget_pages(inode);
    ++done_;
  }
  Task<void> forget_name(InodeId directory, std::string name) {
    co_await notifier_->forget_name(directory, std::move(name));
    ++done_;
  }
  Task<void> read(InodeId inode, ByteRange range) {
    co_await notifier_->read_may_begin(inode, range);
    ++reads_;
  }

  Task<void> others_go_on();
  Task<void> forget_unknown();
  Task<void> forget_attributes_on_their_way();
  Task<void> read_during_passes();
  Task<void> read_that_the_pass_waits_for();
  Task<void> read_under_way_at_the_end();
  Task<void> forget_pages_around_a_write();
  Task<void> forget_pages_while_a_write_comes();
  Task<void> forget_names();
  Task<void> forget_name_while_changing();
  Task<void> forget_name_and_a_change_comes();
  Task<void> forget_name_under_way_listing();
  Task<void> forget_all();

  std::unique_ptr<RealWorld> world_;
  TwinKernel kernel_;
  KernelState state_;
  std::unique_ptr<Notifier> notifier_;
  int gave_up_ = 0;
  int done_ = 0;
  int reads_ = 0;
  TaskGroup tasks_;
};

// ---------------------------------------------------------------- pages and attributes

Task<void> NotifierTest::others_go_on() {
  kernel_.hold("pages 2");
  tasks_.spawn(forget_pages(InodeId(2)));
  tasks_.spawn(forget_pages(InodeId(2)));
  for (uint64_t i = 3; i < 10; ++i)
    co_await notifier_->forget_pages(InodeId(i));
  EXPECT_EQ(0, done_);
  kernel_.let_go();
  co_await until([this] { return done_ == 2; });
}

TEST_F(NotifierTest, OneThatBlocksHoldsBackItsInodeOnly) {
  make();
  run(others_go_on());
  EXPECT_EQ(1, kernel_.most_at_once());
  EXPECT_EQ(0, gave_up_);
}

Task<void> NotifierTest::forget_unknown() {
  co_await notifier_->forget_pages(InodeId(77));
  co_await notifier_->forget_attributes(InodeId(77));
  co_await notifier_->forget_name(InodeId(77), "x");
}

TEST_F(NotifierTest, WhatTheKernelDoesNotKnowIsNotAskedAbout) {
  make();
  run(forget_unknown());
  EXPECT_EQ(Calls{}, kernel_.calls());
}

Task<void> NotifierTest::forget_attributes_on_their_way() {
  // The kernel has not yet taken in the reply with the inode: "unknown" means "not yet".
  kernel_.answer(-ENOENT);
  tasks_.spawn(notifier_->forget_attributes(InodeId(2)));
  co_await until([this] { return kernel_.calls().size() >= 3; });
  EXPECT_EQ(0ns, state_.times.of_attributes(InodeId(2), 1s));
  kernel_.answer(0);
  co_await until([this] { return notifier_->under_way() == 0; });
  EXPECT_EQ(1s, state_.times.of_attributes(InodeId(2), 1s));
  kernel_.forget_calls();
  co_await notifier_->forget_attributes(InodeId(2));  // none have been given since
}

TEST_F(NotifierTest, AttributesThatAreOnTheirWayAreForgottenOnceTheyArrive) {
  make();
  run(forget_attributes_on_their_way());
  EXPECT_EQ(Calls{}, kernel_.calls());
}

Task<void> NotifierTest::read_during_passes() {
  ByteRange first{0, 4096}, other{65'536, 69'632};
  kernel_.hold("pages 2");
  tasks_.spawn(forget_pages(InodeId(2)));
  for (size_t pass = 1; pass <= 2; ++pass) {
    co_await until([this, pass] { return kernel_.count("pages 2 0..end") == pass; });
    EXPECT_FALSE(state_.traffic.holds(InodeId(2), first));
    state_.traffic.read_answered(InodeId(2), state_.traffic.read_began(InodeId(2), first));
    kernel_.let_go();
    kernel_.hold(pass == 1 ? "pages 2" : "pages 2 0..4096");
  }
  // The third covers only what was read, and is the last: new reads wait.
  co_await until([this] { return kernel_.count("pages 2 0..4096") == 1; });
  tasks_.spawn(read(InodeId(2), other));
  EXPECT_EQ(0, reads_);
  EXPECT_EQ(0, done_);
  kernel_.let_go();
  co_await until([this] { return done_ == 1 && reads_ == 1; });
}

TEST_F(NotifierTest, PagesThatAreReadMeanwhileAreDroppedAgainAndAtLastReadsWait) {
  make();
  run(read_during_passes());
  EXPECT_EQ((Calls{"pages 2 0..end", "pages 2 0..end", "pages 2 0..4096"}), kernel_.calls());
}

Task<void> NotifierTest::read_that_the_pass_waits_for() {
  ByteRange first{0, 4096};
  kernel_.hold("pages 2");
  tasks_.spawn(forget_pages(InodeId(2)));
  for (size_t pass = 1; pass <= 2; ++pass) {
    co_await until([this, pass] { return kernel_.count("pages 2 0..end") == pass; });
    state_.traffic.read_answered(InodeId(2), state_.traffic.read_began(InodeId(2), first));
    kernel_.let_go();
    kernel_.hold(pass == 1 ? "pages 2" : "pages 2 0..4096");
  }
  co_await until([this] { return kernel_.count("pages 2 0..4096") == 1; });
  tasks_.spawn(read(InodeId(2), first));
  // The notification does not come back: it may be behind this very read.
  co_await until([this] { return reads_ == 1; });
  EXPECT_EQ(0, done_);
  kernel_.let_go();
  co_await until([this] { return done_ == 1; });
}

TEST_F(NotifierTest, AReadThatThePassMayBeWaitingForIsLetThrough) {
  make();
  run(read_that_the_pass_waits_for());
}

Task<void> NotifierTest::read_under_way_at_the_end() {
  uint64_t under_way = state_.traffic.read_began(InodeId(2), {8192, 10'000});
  tasks_.spawn(forget_pages(InodeId(2)));
  // The pass may have been past the page when the read came: what it brings is older.
  co_await until([this] { return kernel_.count("pages 2 8192..12288") > 0; });
  EXPECT_EQ(0, done_);
  state_.traffic.read_answered(InodeId(2), under_way);
  co_await until([this] { return done_ == 1; });
}

TEST_F(NotifierTest, AReadThatIsUnderWayAtTheEndOfAPassCounts) {
  make();
  run(read_under_way_at_the_end());
}

Task<void> NotifierTest::forget_pages_around_a_write() {
  uint64_t write = state_.traffic.write_began(InodeId(2), {4096, 8192 + 10}, world_->clock().now(), true);
  kernel_.hold("pages 2 8192..12288");  // as the kernel does with a page that is not up to date
  co_await notifier_->forget_pages(InodeId(2));
  EXPECT_EQ((Calls{"pages 2 0..8192", "pages 2 12288..end", "pages 2 8192..12288"}), kernel_.calls());
  state_.traffic.write_answered(InodeId(2), write);
}

TEST_F(NotifierTest, APageUnderAnOwnUnansweredWriteIsNotWaitedFor) {
  make();
  run(forget_pages_around_a_write());
  EXPECT_EQ(0, gave_up_);
}

Task<void> NotifierTest::forget_pages_while_a_write_comes() {
  kernel_.hold("pages 2");
  tasks_.spawn(forget_pages(InodeId(2)));
  co_await until([this] { return kernel_.calls().size() == 1; });
  uint64_t write = state_.traffic.write_began(InodeId(2), {100, 200}, world_->clock().now(), true);
  co_await until([this] { return kernel_.calls().size() == 2; });
  EXPECT_EQ("pages 2 4096..end", kernel_.calls().back());
  EXPECT_EQ(0, done_);
  kernel_.let_go();
  co_await until([this] { return done_ == 1; });
  EXPECT_EQ(1u, kernel_.count("pages 2 0..4096"));
  state_.traffic.write_answered(InodeId(2), write);
}

TEST_F(NotifierTest, ANotificationBehindAWriteThatCameIsLeftAlone) {
  make();
  run(forget_pages_while_a_write_comes());
}

TEST_F(NotifierTest, OneThatIsStuckEndsTheConnectionOnce) {
  make({.log_after = 10ms, .give_up_after = 50ms});
  kernel_.hold("pages 2");
  run(forget_pages(InodeId(2)));
  EXPECT_EQ(1, gave_up_);
}

// ---------------------------------------------------------------- names

Task<void> NotifierTest::forget_names() {
  state_.times.of_name(InodeId(2), 10s);
  co_await notifier_->forget_name(InodeId(3), "x");  // nothing was given of it
  EXPECT_EQ(Calls{"attributes 3"}, kernel_.calls());
  co_await notifier_->forget_name(InodeId(2), "x");
  EXPECT_EQ((Calls{"attributes 3", "attributes 2", "entry 2 x"}), kernel_.calls());
  // After a conflict names get no timeout for a while.
  EXPECT_EQ(0ns, state_.times.of_name(InodeId(2), 10s));
}

TEST_F(NotifierTest, ANameIsForgottenIfTheKernelMayHoldIt) {
  make();
  run(forget_names());
}

Task<void> NotifierTest::forget_name_while_changing() {
  state_.times.of_name(InodeId(2), 10s);
  state_.traffic.change_began(InodeId(2));
  TimePoint until = state_.times.names_until(InodeId(2));
  co_await notifier_->forget_name(InodeId(2), "x");
  EXPECT_EQ(0u, kernel_.count("entry 2 x"));
  if (kernel_.count("epoch") == 0) EXPECT_GE(world_->clock().now(), until);
  state_.traffic.change_answered(InodeId(2));
}

TEST_F(NotifierTest, WhileAnOwnChangeIsUnderWayNamesAreForgottenByTheEpoch) {
  make();
  run(forget_name_while_changing());
  EXPECT_EQ(1u, kernel_.count("epoch"));
}

TEST_F(NotifierTest, WithoutAnEpochTheTimeoutsThatWereGivenAreWaitedFor) {
  kernel_.has_epoch(false);
  make();
  run(forget_name_while_changing());  // 1 s, whatever the file system allows
  EXPECT_EQ(0u, kernel_.count("epoch"));
}

Task<void> NotifierTest::forget_name_and_a_change_comes() {
  state_.times.of_name(InodeId(2), 10s);
  kernel_.hold("entry 2");
  tasks_.spawn(forget_name(InodeId(2), "x"));
  co_await until([this] { return kernel_.count("entry 2 x") == 1; });
  EXPECT_EQ(0, done_);
  state_.traffic.change_began(InodeId(2));
  co_await until([this] { return done_ == 1; });
  EXPECT_EQ(1u, kernel_.count("epoch"));
  // Others do not queue behind the one that is stuck.
  state_.traffic.change_answered(InodeId(2));
  EXPECT_EQ(0u, kernel_.count("entry 2 y"));
  co_await notifier_->forget_name(InodeId(2), "y");
  EXPECT_EQ(0u, kernel_.count("entry 2 y"));
}

TEST_F(NotifierTest, ANotificationBehindAChangeThatCameIsLeftAlone) {
  make();
  run(forget_name_and_a_change_comes());
}

Task<void> NotifierTest::forget_name_under_way_listing() {
  uint64_t handle = state_.directories.open(InodeId(2));
  state_.times.of_name(InodeId(2), 10s);
  state_.directories.plus_given(handle, world_->clock().now());
  state_.traffic.change_began(InodeId(2));
  co_await notifier_->forget_name(InodeId(2), "x");
  EXPECT_EQ(2u, kernel_.count("epoch"));
  EXPECT_TRUE(state_.directories.plus_taken(handle));
  EXPECT_FALSE(state_.directories.plus_taken(handle));
  state_.traffic.change_answered(InodeId(2));
}

TEST_F(NotifierTest, NamesOfAListingThatTheKernelMayStillTakeInAreForgottenAfterIt) {
  make();
  run(forget_name_under_way_listing());
}

Task<void> NotifierTest::forget_all() {
  for (uint64_t i = 3; i < 10; ++i)
    state_.inodes.attributes_forgotten(InodeId(i));
  state_.times.of_name(InodeId(4), 300ms);
  TimePoint until = state_.times.all_names_until();
  co_await notifier_->forget_everything();
  if (kernel_.count("epoch") == 0) EXPECT_GE(world_->clock().now(), until);
  Calls calls = kernel_.calls();
  std::erase(calls, "epoch");
  std::ranges::sort(calls);
  Calls expected;
  for (uint64_t i = 2; i < 10; ++i)
    expected.push_back("pages " + std::to_string(i) + " 0..end");
  EXPECT_EQ(expected, calls);
}

TEST_F(NotifierTest, EverythingIsForgottenOnce) {
  make();
  run(forget_all());
  EXPECT_EQ(1u, kernel_.count("epoch"));
}

TEST_F(NotifierTest, EverythingIsForgottenWithoutAnEpochToo) {
  kernel_.has_epoch(false);
  make();
  run(forget_all());
}

}  // namespace
}  // namespace cairn
