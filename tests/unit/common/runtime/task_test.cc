#include "common/runtime/task.h"

#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/runtime/future.h"
#include "manual_loop.h"

namespace cairn {
namespace {

Task<int> answer() {
  co_return 42;
}

Task<int> add_one(Task<int> task) {
  int value = co_await std::move(task);
  co_return value + 1;
}

Task<std::unique_ptr<std::string>> make_text(std::string text) {
  co_return std::make_unique<std::string>(std::move(text));
}

Task<std::string> read_text(std::string text) {
  std::unique_ptr<std::string> made = co_await make_text(std::move(text));
  co_return *made;
}

Task<int> count_to(int n) {
  int sum = 0;
  for (int i = 0; i < n; ++i) {
    int one = co_await answer();
    sum += one - 41;
  }
  co_return sum;
}

Task<void> log_end(std::vector<std::string>* log, std::string name) {
  log->push_back(std::move(name));
  co_return;
}

// Says in the log when its frame goes.
struct Grave {
  std::vector<std::string>* log;
  std::string name;
  ~Grave() {
    if (log) log->push_back("gone " + name);
  }
};

Task<int> wait_inner(Future<int> future, std::vector<std::string>* log) {
  Grave grave{log, "inner"};
  Result<int> value = co_await std::move(future);
  log->push_back("resumed");
  co_return value ? *value : -static_cast<int>(value.code());
}

Task<int> wait_outer(Future<int> future, std::vector<std::string>* log) {
  Grave grave{log, "outer"};
  int value = co_await wait_inner(std::move(future), log);
  co_return value;
}

class TaskTest : public testing::Test {
 protected:
  ManualLoop loop;
  std::vector<std::string> log;
};

TEST_F(TaskTest, IsLazyUntilAwaited) {
  {
    Task<void> task = log_end(&log, "ran");
  }
  EXPECT_TRUE(log.empty());
}

TEST_F(TaskTest, GivesValuesThroughSeveralFrames) {
  TaskGroup group(loop, loop);
  std::optional<int> value;
  group.spawn(keep(add_one(add_one(answer())), &value));
  EXPECT_EQ(value, 44);
  std::optional<std::string> text;
  group.spawn(keep(read_text("a text that is longer than the small buffer of a string"), &text));
  EXPECT_EQ(text, "a text that is longer than the small buffer of a string");
}

TEST_F(TaskTest, MillionAwaitsThatDoNotWaitUseNoStack) {
  TaskGroup group(loop, loop);
  std::optional<int> value;
  group.spawn(keep(count_to(1'000'000), &value));
  EXPECT_EQ(value, 1'000'000);
}

TEST_F(TaskTest, DestroyingSuspendedTaskDestroysWhatItAwaits) {
  Promise<int> promise(loop);
  {
    TaskGroup group(loop, loop);
    std::optional<int> value;
    group.spawn(keep(wait_outer(promise.future(), &log), &value));
    EXPECT_EQ(group.size(), 1u);
  }
  EXPECT_EQ(log, (std::vector<std::string>{"gone inner", "gone outer"}));
  promise.set(1);
  loop.drain();
  EXPECT_EQ(log.size(), 2u);
}

TEST_F(TaskTest, WaiterDestroyedBetweenSetAndItsPostIsForgotten) {
  Promise<int> promise(loop);
  {
    TaskGroup group(loop, loop);
    std::optional<int> value;
    group.spawn(keep(wait_outer(promise.future(), &log), &value));
    promise.set(1);
    EXPECT_EQ(loop.posted(), 1u);
  }
  loop.drain();
  EXPECT_EQ(log, (std::vector<std::string>{"gone inner", "gone outer"}));
}

TEST_F(TaskTest, SetResumesByPostNotInside) {
  TaskGroup group(loop, loop);
  Promise<int> promise(loop);
  std::optional<int> value;
  group.spawn(keep(wait_outer(promise.future(), &log), &value));
  promise.set(7);
  EXPECT_FALSE(value);
  loop.drain();
  EXPECT_EQ(value, 7);
}

TEST_F(TaskTest, FirstSetWins) {
  TaskGroup group(loop, loop);
  Promise<int> promise(loop);
  std::optional<int> value;
  promise.set(7);
  promise.set(8);
  group.spawn(keep(wait_outer(promise.future(), &log), &value));
  EXPECT_EQ(value, 7);
}

TEST_F(TaskTest, PromiseThatGoesAwayCancels) {
  TaskGroup group(loop, loop);
  std::optional<int> value;
  {
    Promise<int> promise(loop);
    group.spawn(keep(wait_outer(promise.future(), &log), &value));
  }
  loop.drain();
  EXPECT_EQ(value, -static_cast<int>(ErrorCode::kCancelled));
}

TEST_F(TaskTest, ReplacedPromiseCancelsTheOldWaiter) {
  TaskGroup group(loop, loop);
  std::optional<int> value;
  Promise<int> promise(loop);
  group.spawn(keep(wait_outer(promise.future(), &log), &value));
  promise = Promise<int>(loop);
  loop.drain();
  EXPECT_EQ(value, -static_cast<int>(ErrorCode::kCancelled));
  EXPECT_FALSE(promise.is_set());
}

}  // namespace
}  // namespace cairn
