#include "common/runtime/poll_governor.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

const TimePoint kStart{std::chrono::seconds(5)};

// Asks whether to poll each 100 us, tells it what came, and counts the polls.
int polls(PollGovernor& governor, TimePoint start, int times, auto found) {
  int polled = 0;
  for (int i = 0; i < times; ++i) {
    TimePoint now = start + i * 100us;
    if (governor.budget(now) == Duration::zero()) continue;
    ++polled;
    if (found(polled)) {
      governor.found_work();
    } else {
      governor.missed(now);
    }
  }
  return polled;
}

TEST(PollGovernor, NeverPollsWithoutABudget) {
  PollGovernor governor(Duration::zero());
  EXPECT_EQ(governor.budget(kStart), Duration::zero());
}

TEST(PollGovernor, GoesOnWhileEverySecondPollFindsWork) {
  PollGovernor governor(50us);
  EXPECT_EQ(polls(governor, kStart, 1000, [](int i) { return i % 2 == 0; }), 1000);
}

TEST(PollGovernor, AlmostStopsWhenPollsFindNothing) {
  PollGovernor governor(50us);
  EXPECT_LT(polls(governor, kStart, 10'000, [](int) { return false; }), 60);
}

TEST(PollGovernor, StartsAgainSoonAfterWorkReturns) {
  PollGovernor governor(50us);
  polls(governor, kStart, 10'000, [](int) { return false; });
  // The longest pause is 64 ms: 640 of these steps.
  EXPECT_GT(polls(governor, kStart + 1s, 2000, [](int) { return true; }), 1300);
}

TEST(PollGovernor, PausesAtOnceWhenItsCoreIsTaken) {
  PollGovernor governor(50us);
  polls(governor, kStart, 100, [](int) { return true; });
  governor.preempted(kStart + 1s);
  EXPECT_EQ(governor.budget(kStart + 1s + 15ms), Duration::zero());
  EXPECT_EQ(governor.budget(kStart + 1s + 17ms), 50us);
}

}  // namespace
}  // namespace cairn
