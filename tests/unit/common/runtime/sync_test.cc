#include "common/runtime/sync.h"

#include <gtest/gtest.h>
#include <optional>
#include <string>
#include <vector>

#include "common/runtime/task_group.h"
#include "manual_loop.h"

namespace cairn {
namespace {

using Log = std::vector<std::string>;

Task<void> use(Semaphore* semaphore, uint64_t units, TaskGroup* group, Duration hold, Log* log, std::string name) {
  Semaphore::Permit permit = co_await semaphore->acquire(units);
  log->push_back("+" + name);
  Result<void> slept = co_await group->sleep_for(hold);
  (void)slept;
  log->push_back("-" + name);
}

Task<void> wait_for_change(Condition* condition, Log* log, std::string name) {
  co_await condition->wait();
  log->push_back(std::move(name));
}

class SyncTest : public testing::Test {
 protected:
  ManualLoop loop;
  Log log;
};

TEST_F(SyncTest, MutexAdmitsOneAtATimeInOrder) {
  Mutex mutex(loop);
  TaskGroup group(loop, loop);
  group.spawn(use(&mutex, 1, &group, 10ms, &log, "a"));
  group.spawn(use(&mutex, 1, &group, 10ms, &log, "b"));
  group.spawn(use(&mutex, 1, &group, 10ms, &log, "c"));
  EXPECT_EQ(mutex.waiting(), 2u);
  loop.advance(40ms);
  EXPECT_EQ(log, (Log{"+a", "-a", "+b", "-b", "+c", "-c"}));
  EXPECT_EQ(mutex.free(), 1u);
}

TEST_F(SyncTest, SmallRequestDoesNotOvertakeALargeOne) {
  Semaphore semaphore(loop, 10);
  TaskGroup group(loop, loop);
  group.spawn(use(&semaphore, 6, &group, 10ms, &log, "six"));
  group.spawn(use(&semaphore, 8, &group, 10ms, &log, "eight"));
  group.spawn(use(&semaphore, 1, &group, 10ms, &log, "one"));
  EXPECT_EQ(log, (Log{"+six"}));
  Semaphore::Permit permit;
  EXPECT_FALSE(semaphore.try_acquire(1, permit));
  loop.advance(100ms);
  EXPECT_EQ(log, (Log{"+six", "-six", "+eight", "+one", "-eight", "-one"}));
}

TEST_F(SyncTest, MoreThanTheTotalWaitsForAll) {
  Semaphore semaphore(loop, 4);
  TaskGroup group(loop, loop);
  group.spawn(use(&semaphore, 1, &group, 10ms, &log, "one"));
  group.spawn(use(&semaphore, 1000, &group, 10ms, &log, "all"));
  loop.advance(5ms);
  EXPECT_EQ(log, (Log{"+one"}));
  loop.advance(100ms);
  EXPECT_EQ(semaphore.free(), 4u);
}

TEST_F(SyncTest, DestroyedWaiterLeavesTheLineAndLetsOthersPass) {
  Semaphore semaphore(loop, 2);
  TaskGroup others(loop, loop);
  others.spawn(use(&semaphore, 1, &others, 1s, &log, "holder"));
  {
    TaskGroup group(loop, loop);
    group.spawn(use(&semaphore, 2, &group, 1s, &log, "crashed"));
    others.spawn(use(&semaphore, 1, &others, 1s, &log, "behind"));
    loop.drain();
    EXPECT_EQ(log, (Log{"+holder"}));
  }
  loop.drain();
  EXPECT_EQ(log, (Log{"+holder", "+behind"}));
}

TEST_F(SyncTest, UnitsGrantedToAFrameThatIsDestroyedBeforeItRunsComeBack) {
  Semaphore semaphore(loop, 1);
  {
    TaskGroup group(loop, loop);
    Semaphore::Permit held;
    EXPECT_TRUE(semaphore.try_acquire(1, held));
    group.spawn(use(&semaphore, 1, &group, 1s, &log, "crashed"));
    held = {};
    EXPECT_EQ(semaphore.free(), 0u);  // granted; its post waits
  }
  loop.drain();
  EXPECT_EQ(semaphore.free(), 1u);
  EXPECT_TRUE(log.empty());
}

TEST_F(SyncTest, PermitMovesAndReleasesOnce) {
  Semaphore semaphore(loop, 3);
  Semaphore::Permit a;
  Semaphore::Permit b;
  EXPECT_TRUE(semaphore.try_acquire(1, a));
  EXPECT_TRUE(semaphore.try_acquire(2, b));
  a = std::move(b);
  EXPECT_EQ(semaphore.free(), 1u);
  EXPECT_EQ(a.units(), 2u);
  EXPECT_EQ(b.units(), 0u);
  a = {};
  EXPECT_EQ(semaphore.free(), 3u);
}

TEST_F(SyncTest, SemaphoreDestroyedUnderAPermitStopsTheProcess) {
  EXPECT_DEATH(
      {
        Semaphore::Permit permit;
        Semaphore semaphore(loop, 1);
        semaphore.try_acquire(1, permit);
      },
      "free_ == total_");
}

TEST_F(SyncTest, ConditionWakesEverybodyWhoWaitsInOrder) {
  Condition condition(loop);
  TaskGroup group(loop, loop);
  group.spawn(wait_for_change(&condition, &log, "a"));
  group.spawn(wait_for_change(&condition, &log, "b"));
  loop.drain();
  EXPECT_TRUE(log.empty());
  condition.notify_all();
  group.spawn(wait_for_change(&condition, &log, "later"));
  loop.drain();
  EXPECT_EQ(log, (Log{"a", "b"}));
  condition.notify_all();
  loop.drain();
  EXPECT_EQ(log.size(), 3u);
}

TEST_F(SyncTest, ConditionTimesOutAndForgetsItsTimer) {
  Condition condition(loop);
  TaskGroup group(loop, loop);
  std::optional<Result<void>> timed;
  std::optional<Result<void>> notified;
  group.spawn(keep(condition.wait_until(loop, loop.now() + 10ms), &timed));
  group.spawn(keep(condition.wait_until(loop, loop.now() + 20ms), &notified));
  loop.advance(15ms);
  ASSERT_TRUE(timed);
  EXPECT_TRUE(timed->failed_with(ErrorCode::kTimeout));
  EXPECT_FALSE(notified);
  condition.notify_all();
  loop.drain();
  ASSERT_TRUE(notified);
  EXPECT_TRUE(notified->has_value());
  EXPECT_EQ(loop.timers(), 0u);
}

TEST_F(SyncTest, ConditionForgetsDestroyedWaiters) {
  Condition condition(loop);
  {
    TaskGroup group(loop, loop);
    std::optional<Result<void>> result;
    group.spawn(keep(condition.wait_until(loop, loop.now() + 10ms), &result));
    group.spawn(wait_for_change(&condition, &log, "crashed"));
    group.spawn(wait_for_change(&condition, &log, "crashed too"));
  }
  EXPECT_EQ(loop.timers(), 0u);
  condition.notify_all();
  loop.advance(1s);
  EXPECT_TRUE(log.empty());
}

}  // namespace
}  // namespace cairn
