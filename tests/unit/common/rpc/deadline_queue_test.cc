#include "common/rpc/deadline_queue.h"

#include <gtest/gtest.h>
#include <set>

namespace cairn {
namespace {

TimePoint at(int ms) {
  return TimePoint(std::chrono::milliseconds(ms));
}

TEST(DeadlineQueue, GivesTheEarliestFirst) {
  DeadlineQueue queue;
  auto live = [](uint64_t) { return true; };
  queue.push(at(30), 3, 0, live);
  queue.push(at(10), 1, 1, live);
  queue.push(at(20), 2, 2, live);
  EXPECT_EQ(queue.earliest(), at(10));
  EXPECT_EQ(queue.pop(), 1u);
  EXPECT_EQ(queue.pop(), 2u);
  EXPECT_EQ(queue.pop(), 3u);
  EXPECT_TRUE(queue.empty());
}

// Calls with far deadlines that are answered at once must not pile up until then.
TEST(DeadlineQueue, WhatHasEndedDoesNotPileUp) {
  DeadlineQueue queue;
  std::set<uint64_t> waiting;
  auto live = [&](uint64_t id) { return waiting.contains(id); };
  for (uint64_t id = 1; id <= 100'000; ++id) {
    waiting.insert(id);
    if (id > 5) waiting.erase(id - 5);
    queue.push(at(60'000 + static_cast<int>(id)), id, waiting.size(), live);
    ASSERT_LE(queue.size(), 100u);
  }
  std::set<uint64_t> popped;
  while (!queue.empty())
    popped.insert(queue.pop());
  for (uint64_t id : waiting)
    EXPECT_TRUE(popped.contains(id)) << id;
}

}  // namespace
}  // namespace cairn
