#include "common/locks/lock_waits.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr InodeId kFile{1}, kOther{2};
constexpr LockMode kShared = LockMode::kShared, kExclusive = LockMode::kExclusive;

FileLock lock(uint64_t owner, LockMode mode, uint64_t start = 0, uint64_t end = kLockRangeEnd) {
  return {.session = SessionId(1 + owner % 2), .owner = owner, .mode = mode, .start = start, .end = end};
}

class Waits : public ::testing::Test {
 protected:
  void hold(InodeId inode, const FileLock& held) { ASSERT_TRUE(locks_[inode].set(held)); }
  bool circle(LockWaits::Id id) {
    return waits_.in_a_circle(id, [this](InodeId inode) { return locks_[inode]; });
  }
  LockWaits waits_;
  std::map<InodeId, InodeLocks> locks_;
};

TEST_F(Waits, TheFirstGoesAndThoseWhoAgreeWithIt) {
  auto first = waits_.add(kFile, lock(1, kShared), 0);
  waits_.add(kFile, lock(2, kExclusive), 0);
  auto third = waits_.add(kFile, lock(3, kShared), 0);
  EXPECT_THAT(waits_.free_now(kFile, {}), ElementsAre(first, third));
  InodeLocks held;
  ASSERT_TRUE(held.set(lock(9, kExclusive)));
  EXPECT_THAT(waits_.free_now(kFile, held), IsEmpty());
  EXPECT_THAT(waits_.free_now(kOther, {}), IsEmpty());
}

TEST_F(Waits, WhoComesAgainHasItsPlace) {
  auto first = waits_.add(kFile, lock(1, kExclusive), 0);
  uint64_t place = waits_.find(first)->place;
  waits_.add(kFile, lock(2, kExclusive), 0);
  waits_.remove(first);
  auto again = waits_.add(kFile, lock(1, kExclusive), place);
  EXPECT_THAT(waits_.free_now(kFile, {}), ElementsAre(again));
}

TEST_F(Waits, TwoWhoWaitForEachOtherAreACircle) {
  hold(kFile, lock(1, kExclusive));
  hold(kOther, lock(2, kExclusive));
  auto one = waits_.add(kOther, lock(1, kExclusive), 0);
  EXPECT_FALSE(circle(one));
  auto two = waits_.add(kFile, lock(2, kShared), 0);
  EXPECT_TRUE(circle(two));
  waits_.remove(two);
  EXPECT_FALSE(circle(one));
}

TEST_F(Waits, ThreeInACircleAndOneWhoOnlyLooksAtIt) {
  hold(kFile, lock(1, kExclusive, 0, 9));
  hold(kFile, lock(2, kExclusive, 10, 19));
  hold(kFile, lock(3, kExclusive, 20, 29));
  auto first = waits_.add(kFile, lock(1, kExclusive, 10, 19), 0);
  auto second = waits_.add(kFile, lock(2, kExclusive, 20, 29), 0);
  EXPECT_FALSE(circle(first) || circle(second));
  auto outside = waits_.add(kFile, lock(4, kExclusive, 0, 9), 0);
  EXPECT_FALSE(circle(outside));
  auto third = waits_.add(kFile, lock(3, kShared, 0, 5), 0);
  EXPECT_TRUE(circle(third));
  EXPECT_FALSE(circle(outside));  // it waits for a circle, and is not in it
}

TEST_F(Waits, FlocksAreNotLookedAt) {
  FileLock one = lock(1, kExclusive), two = lock(2, kExclusive);
  one.kind = two.kind = LockKind::kFlock;
  hold(kFile, one);
  hold(kOther, two);
  waits_.add(kOther, one, 0);
  EXPECT_FALSE(circle(waits_.add(kFile, two, 0)));
}

TEST_F(Waits, AreCountedBySessionAndInode) {
  auto one = waits_.add(kFile, lock(1, kShared), 0);
  waits_.add(kFile, lock(3, kShared), 0);
  EXPECT_EQ(waits_.of_session(SessionId(2)), 2u);
  EXPECT_TRUE(waits_.others_wait(kFile, SessionId(1)));
  EXPECT_FALSE(waits_.others_wait(kFile, SessionId(2)));
  waits_.remove(one);
  waits_.remove(one);
  EXPECT_EQ(waits_.of_session(SessionId(2)), 1u);
  waits_.clear();
  EXPECT_EQ(waits_.size(), 0u);
  EXPECT_THAT(waits_.inodes(), IsEmpty());
}

}  // namespace
}  // namespace cairn
