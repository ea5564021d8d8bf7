#include "common/runtime/timer_queue.h"

#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <vector>

namespace cairn {
namespace {

TimePoint at(int ms) {
  return TimePoint(std::chrono::milliseconds(ms));
}

TEST(TimerQueue, RunsDueTimersByTimeThenByOrderOfAdding) {
  TimerQueue queue;
  std::string ran;
  queue.add(at(20), [&] { ran += "b"; });
  queue.add(at(10), [&] { ran += "a"; });
  queue.add(at(20), [&] { ran += "c"; });
  queue.add(at(30), [&] { ran += "d"; });
  EXPECT_EQ(queue.next(), at(10));
  EXPECT_EQ(queue.run_due(at(20)), 3u);
  EXPECT_EQ(ran, "abc");
  EXPECT_EQ(queue.next(), at(30));
}

TEST(TimerQueue, TimerAddedByATimerWaitsForTheNextCall) {
  TimerQueue queue;
  std::string ran;
  queue.add(at(10), [&] {
    ran += "a";
    queue.add(at(5), [&] { ran += "late"; });
  });
  queue.add(at(11), [&] { ran += "b"; });
  EXPECT_EQ(queue.run_due(at(20)), 2u);
  EXPECT_EQ(ran, "ab");
  EXPECT_EQ(queue.run_due(at(20)), 1u);
  EXPECT_EQ(ran, "ablate");
}

TEST(TimerQueue, TimerMayCancelAnotherThatIsDueAndItself) {
  TimerQueue queue;
  std::string ran;
  Clock::TimerId self = 0;
  Clock::TimerId other = 0;
  self = queue.add(at(10), [&] {
    ran += "a";
    queue.cancel(other);
    queue.cancel(self);
  });
  other = queue.add(at(10), [&] { ran += "b"; });
  queue.run_due(at(10));
  EXPECT_EQ(ran, "a");
  EXPECT_TRUE(queue.empty());
  queue.cancel(12345);
}

TEST(TimerQueue, CancelDestroysWhatTheTimerHolds) {
  TimerQueue queue;
  auto held = std::make_shared<int>(1);
  Clock::TimerId timer = queue.add(at(10), [held] {});
  EXPECT_EQ(held.use_count(), 2);
  queue.cancel(timer);
  EXPECT_EQ(held.use_count(), 1);
}

TEST(TimerQueue, DestructorOfADroppedTimerMayCancelOthers) {
  TimerQueue queue;
  struct Canceller {
    TimerQueue* queue;
    Clock::TimerId timer;
    ~Canceller() { queue->cancel(timer); }
  };
  Clock::TimerId second = queue.add(at(20), [] {});
  auto canceller = std::make_shared<Canceller>(&queue, second);
  queue.add(at(10), [canceller] {});
  canceller.reset();
  queue.clear();
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace cairn
