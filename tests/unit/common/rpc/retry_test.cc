#include "common/rpc/retry.h"

#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <vector>

#include "tests/unit/common/runtime/test_worlds.h"

namespace cairn {
namespace {

// On simulated time.
class RetryTest : public testing::Test {
 protected:
  std::unique_ptr<TestWorld> test_world = make_sim_test_world();
  World& world = test_world->world();
  TaskGroup tasks{world.executor(), world.clock()};

  struct Attempt {
    TimePoint when;
    TimePoint deadline;
  };
  std::vector<Attempt> attempts;
  std::vector<Result<int>> results;  // of the attempts, in order; the last one for all further ones
  Duration takes = Duration::zero();

  Task<Result<int>> attempt(TimePoint deadline) {
    attempts.push_back({world.clock().now(), deadline});
    if (takes != Duration::zero()) {
      Result<void> slept = co_await tasks.sleep_for(takes);
      (void)slept;
    }
    size_t number = std::min(attempts.size(), results.size()) - 1;
    co_return results[number];
  }

  Result<int> run(TimePoint deadline, RetryOptions options) {
    std::optional<Result<int>> result;
    test_world->run(run_into(deadline, options, &result));
    return std::move(*result);
  }
  Task<void> run_into(TimePoint deadline, RetryOptions options, std::optional<Result<int>>* out) {
    Result<int> result =
        co_await retry(tasks, world.random(), deadline, options, [this](TimePoint until) { return attempt(until); });
    *out = std::move(result);
  }
  TimePoint in(Duration duration) { return world.clock().now() + duration; }
};

Error gone() {
  return Error(ErrorCode::kUnavailable, "gone");
}

TEST_F(RetryTest, TheFirstSuccessIsTheResult) {
  results = {gone(), Error(ErrorCode::kTimeout), Error(ErrorCode::kOverload), 42, 43};
  Result<int> result = run(in(10s), {});
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(*result, 42);
  EXPECT_EQ(attempts.size(), 4u);
}

TEST_F(RetryTest, WhatWillNotGetBetterIsNotTriedAgain) {
  results = {Error(ErrorCode::kNotFound, "x")};
  EXPECT_TRUE(run(in(10s), {}).failed_with(ErrorCode::kNotFound));
  EXPECT_EQ(attempts.size(), 1u);
}

TEST_F(RetryTest, PausesDoubleUpToTheirBound) {
  results = {gone()};
  EXPECT_TRUE(run(in(10s), {.pause_min = 100ms, .pause_max = 800ms}).failed_with(ErrorCode::kUnavailable));
  ASSERT_GE(attempts.size(), 6u);
  Duration bound = 100ms;
  for (size_t i = 1; i < attempts.size(); ++i) {
    Duration pause = attempts[i].when - attempts[i - 1].when;
    EXPECT_GE(pause, bound / 2) << i;
    EXPECT_LE(pause, bound + 1ms) << i;
    bound = std::min<Duration>(2 * bound, 800ms);
  }
}

TEST_F(RetryTest, PausesAreNotTheSameForAll) {
  Backoff a(world.random(), 100ms, 1s);
  Backoff b(world.random(), 100ms, 1s);
  EXPECT_NE(a.next(), b.next());
}

TEST_F(RetryTest, NothingIsTriedAfterTheDeadline) {
  results = {gone()};
  TimePoint deadline = in(2s);
  Result<int> result = run(deadline, {.pause_min = 100ms, .pause_max = 300ms});
  EXPECT_TRUE(result.failed_with(ErrorCode::kUnavailable));
  EXPECT_EQ(result.error().context, "gone");  // the last attempt's own error
  EXPECT_LT(attempts.back().when, deadline);
  EXPECT_LE(world.clock().now(), deadline);
}

TEST_F(RetryTest, AnAttemptHasItsOwnDeadlineWithinTheWhole) {
  takes = 400ms;
  results = {Error(ErrorCode::kTimeout)};
  TimePoint deadline = in(1s);
  EXPECT_TRUE(run(deadline, {.pause_min = 10ms, .attempt_timeout = 400ms}).failed_with(ErrorCode::kTimeout));
  ASSERT_EQ(attempts.size(), 3u);
  EXPECT_EQ(attempts[0].deadline, attempts[0].when + 400ms);
  EXPECT_EQ(attempts[1].deadline, attempts[1].when + 400ms);
  EXPECT_EQ(attempts[2].deadline, deadline);
}

Task<void> stop(TestWorld* test_world, TaskGroup* tasks, Duration delay) {
  TaskGroup own(test_world->world().executor(), test_world->world().clock());
  Result<void> slept = co_await own.sleep_for(delay);
  EXPECT_TRUE(slept);
  co_await tasks->stop();
}

TEST_F(RetryTest, AStoppedGroupEndsThePause) {
  results = {gone()};
  std::optional<Result<int>> result;
  tasks.spawn(run_into(in(3600s), {.pause_min = 600s, .pause_max = 600s}, &result));
  test_world->run(stop(test_world.get(), &tasks, 1s));
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(result->failed_with(ErrorCode::kCancelled));
  EXPECT_EQ(attempts.size(), 1u);
}

}  // namespace
}  // namespace cairn
