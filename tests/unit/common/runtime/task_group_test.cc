#include "common/runtime/task_group.h"

#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/runtime/future.h"
#include "common/runtime/sync.h"
#include "manual_loop.h"

namespace cairn {
namespace {

using Log = std::vector<std::string>;

Task<void> sleep_then_log(TaskGroup* group, Duration duration, Log* log, std::string name) {
  Result<void> slept = co_await group->sleep_for(duration);
  log->push_back(name + (slept ? "" : " cancelled"));
}

Task<void> await_future(Future<void> future, Log* log, std::string name) {
  Result<void> result = co_await std::move(future);
  log->push_back(name + (result ? "" : " cancelled"));
}

Task<void> stop_then_log(TaskGroup* group, Log* log, std::string name) {
  co_await group->stop();
  log->push_back(std::move(name));
}

class TaskGroupTest : public testing::Test {
 protected:
  ManualLoop loop;
  Log log;
};

TEST_F(TaskGroupTest, SleepersWakeInTheOrderOfTheirTimes) {
  TaskGroup group(loop, loop);
  group.spawn(sleep_then_log(&group, 30ms, &log, "c"));
  group.spawn(sleep_then_log(&group, 10ms, &log, "a"));
  group.spawn(sleep_then_log(&group, 20ms, &log, "b"));
  loop.advance(9ms);
  EXPECT_TRUE(log.empty());
  loop.advance(30ms);
  EXPECT_EQ(log, (Log{"a", "b", "c"}));
  EXPECT_EQ(group.size(), 0u);
}

TEST_F(TaskGroupTest, StopEndsSleepsAndWaitsForTasks) {
  TaskGroup group(loop, loop);
  TaskGroup outside(loop, loop);
  Promise<void> promise(loop);
  group.spawn(sleep_then_log(&group, 1s, &log, "sleeper"));
  group.spawn(await_future(promise.future(), &log, "waiter"));
  outside.spawn(stop_then_log(&group, &log, "stopped"));
  outside.spawn(stop_then_log(&group, &log, "stopped too"));
  loop.drain();
  EXPECT_EQ(log, (Log{"sleeper cancelled"}));
  EXPECT_TRUE(group.stop_requested());
  EXPECT_EQ(loop.timers(), 0u);
  promise.set({});
  loop.drain();
  EXPECT_EQ(log, (Log{"sleeper cancelled", "waiter", "stopped", "stopped too"}));
}

TEST_F(TaskGroupTest, StopOfAnEmptyGroupEndsAtOnce) {
  TaskGroup group(loop, loop);
  TaskGroup outside(loop, loop);
  outside.spawn(stop_then_log(&group, &log, "stopped"));
  EXPECT_EQ(log, (Log{"stopped"}));
}

TEST_F(TaskGroupTest, NothingStartsAfterStop) {
  TaskGroup group(loop, loop);
  TaskGroup outside(loop, loop);
  outside.spawn(stop_then_log(&group, &log, "stopped"));
  group.spawn(sleep_then_log(&group, 0ms, &log, "late"));
  EXPECT_EQ(group.size(), 0u);
  outside.spawn(sleep_then_log(&group, 1s, &log, "sleep"));
  EXPECT_EQ(log, (Log{"stopped", "sleep cancelled"}));
}

TEST_F(TaskGroupTest, StopCallbacksRunOnceUnlessTakenBack) {
  TaskGroup group(loop, loop);
  TaskGroup outside(loop, loop);
  group.on_stop([&] { log.push_back("first"); });
  uint64_t second = group.on_stop([&] { log.push_back("second"); });
  group.forget_on_stop(second);
  uint64_t fourth = 0;
  group.on_stop([&] {
    log.push_back("third");
    group.forget_on_stop(fourth);
  });
  fourth = group.on_stop([&] { log.push_back("fourth"); });
  outside.spawn(stop_then_log(&group, &log, "stopped"));
  EXPECT_EQ(log, (Log{"first", "third", "stopped"}));
  group.on_stop([&] { log.push_back("at once"); });
  EXPECT_EQ(log.back(), "at once");
}

TEST_F(TaskGroupTest, DestroyedGroupCancelsItsTimers) {
  {
    TaskGroup group(loop, loop);
    group.spawn(sleep_then_log(&group, 1s, &log, "never"));
    EXPECT_EQ(loop.timers(), 1u);
  }
  EXPECT_EQ(loop.timers(), 0u);
  loop.advance(2s);
  EXPECT_TRUE(log.empty());
}

TEST_F(TaskGroupTest, DestroyedGroupTellsWhoAwaitsItsStop) {
  TaskGroup outside(loop, loop);
  Promise<void> promise(loop);
  {
    TaskGroup group(loop, loop);
    group.spawn(await_future(promise.future(), &log, "never"));
    outside.spawn(stop_then_log(&group, &log, "stopped"));
    loop.drain();
    EXPECT_TRUE(log.empty());
  }
  loop.drain();
  EXPECT_EQ(log, (Log{"stopped"}));
}

// What a connection does: the task keeps alive the object that owns the group it runs in.
struct Connection {
  Connection(ManualLoop& loop, Log* log_in) : log(log_in), tasks(loop, loop) {}
  ~Connection() { log->push_back("connection gone"); }
  Log* log;
  TaskGroup tasks;
};

Task<void> hold(std::shared_ptr<Connection> self, Future<void> future) {
  Result<void> result = co_await std::move(future);
  self->log->push_back(result ? "done" : "cancelled");
}

TEST_F(TaskGroupTest, TaskMayOwnTheLastReferenceToItsGroupsOwner) {
  Promise<void> promise(loop);
  auto connection = std::make_shared<Connection>(loop, &log);
  connection->tasks.spawn(hold(connection, promise.future()));
  connection.reset();
  promise.set({});
  loop.drain();
  EXPECT_EQ(log, (Log{"done", "connection gone"}));
}

Task<void> hold_permit(Semaphore* semaphore, Future<void> future) {
  Semaphore::Permit permit = co_await semaphore->acquire(1);
  Result<void> result = co_await std::move(future);
  (void)result;
}

Task<void> log_when_free(Semaphore* semaphore, Log* log) {
  Semaphore::Permit permit = co_await semaphore->acquire(1);
  log->push_back("got it");
}

TEST_F(TaskGroupTest, DestroyingFramesReleasesWhatTheyHoldToOthers) {
  Semaphore semaphore(loop, 1);
  TaskGroup others(loop, loop);
  Promise<void> promise(loop);
  {
    TaskGroup group(loop, loop);
    group.spawn(hold_permit(&semaphore, promise.future()));
    others.spawn(log_when_free(&semaphore, &log));
    EXPECT_TRUE(log.empty());
  }
  loop.drain();
  EXPECT_EQ(log, (Log{"got it"}));
}

Task<void> child(Semaphore* of_parent) {
  Semaphore::Permit permit = co_await of_parent->acquire(1);
}

Task<void> parent(ManualLoop* loop, TaskGroup* group, Future<void> future) {
  Semaphore mine(*loop, 1);
  Semaphore::Permit taken = co_await mine.acquire(1);
  group->spawn(child(&mine));
  Result<void> result = co_await std::move(future);
  (void)result;
}

TEST_F(TaskGroupTest, ChildrenAreDestroyedBeforeTheFrameThatTheyUse) {
  Promise<void> promise(loop);
  {
    TaskGroup group(loop, loop);
    group.spawn(parent(&loop, &group, promise.future()));
    EXPECT_EQ(group.size(), 2u);
  }
  EXPECT_EQ(loop.posted(), 0u);
}

}  // namespace
}  // namespace cairn
