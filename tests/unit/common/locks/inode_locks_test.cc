#include "common/locks/inode_locks.h"

#include <array>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <memory>

#include "common/base/random.h"

namespace cairn {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr SessionId kHere{1}, kThere{2};

FileLock posix(uint64_t owner, LockMode mode, uint64_t start, uint64_t end, SessionId session = kHere) {
  return {.session = session, .owner = owner, .kind = LockKind::kPosix, .mode = mode, .start = start, .end = end};
}
FileLock flock(uint64_t owner, LockMode mode, SessionId session = kHere) {
  return {.session = session, .owner = owner, .kind = LockKind::kFlock, .mode = mode};
}
constexpr LockMode kUnlock = LockMode::kUnlock, kShared = LockMode::kShared, kExclusive = LockMode::kExclusive;

TEST(InodeLocks, OnlySharedLocksOfOthersGoTogether) {
  InodeLocks locks;
  ASSERT_TRUE(locks.set(posix(7, kShared, 0, 9)));
  EXPECT_FALSE(locks.conflict(posix(8, kShared, 0, 9)));
  EXPECT_TRUE(locks.conflict(posix(8, kExclusive, 9, 20)));
  EXPECT_FALSE(locks.conflict(posix(8, kExclusive, 10, 20)));
  EXPECT_FALSE(locks.conflict(posix(7, kExclusive, 0, 9)));         // its own
  EXPECT_TRUE(locks.conflict(posix(7, kExclusive, 0, 9, kThere)));  // the same number elsewhere is somebody else
  EXPECT_FALSE(locks.conflict(flock(8, kExclusive)));               // another world
}

TEST(InodeLocks, UnlockingTheMiddleLeavesBothSides) {
  InodeLocks locks;
  ASSERT_TRUE(locks.set(posix(7, kExclusive, 0, kLockRangeEnd)));
  ASSERT_TRUE(locks.set(posix(7, kUnlock, 10, 19)));
  ASSERT_THAT(locks.all(), SizeIs(2));
  EXPECT_EQ(locks.all()[0], posix(7, kExclusive, 0, 9));
  EXPECT_EQ(locks.all()[1], posix(7, kExclusive, 20, kLockRangeEnd));
}

TEST(InodeLocks, WhatTouchesInOneModeIsOneLock) {
  InodeLocks locks;
  ASSERT_TRUE(locks.set(posix(7, kShared, 0, 9)));
  ASSERT_TRUE(locks.set(posix(7, kShared, 20, 29)));
  ASSERT_TRUE(locks.set(posix(7, kShared, 10, 19)));
  ASSERT_THAT(locks.all(), SizeIs(1));
  EXPECT_EQ(locks.all()[0], posix(7, kShared, 0, 29));
  ASSERT_TRUE(locks.set(posix(7, kExclusive, 5, 9)));  // and in another it is not
  EXPECT_THAT(locks.all(), SizeIs(3));
}

TEST(InodeLocks, ImpossibleRangesAreRefused) {
  InodeLocks locks;
  EXPECT_TRUE(locks.set(posix(7, kShared, 5, 4)).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(locks.set(posix(7, kShared, 5, uint64_t{1} << 63)).failed_with(ErrorCode::kInvalid));
  FileLock half = flock(7, kShared);
  half.end = 10;
  EXPECT_TRUE(locks.set(half).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(locks.empty());
}

TEST(InodeLocks, TooManyAreRefusedAndFewerNever) {
  InodeLocks locks;
  for (uint64_t i = 0; i < kInodeLocksMax; ++i)
    ASSERT_TRUE(locks.set(posix(7, kShared, 3 * i, 3 * i + 1)));
  InodeLocks before = locks;
  EXPECT_TRUE(locks.set(posix(8, kShared, 0, 0)).failed_with(ErrorCode::kNoLocks));
  EXPECT_TRUE(locks.set(posix(7, kExclusive, 1, 1)).failed_with(ErrorCode::kNoLocks));
  EXPECT_EQ(locks, before);
  EXPECT_TRUE(locks.set(posix(7, kUnlock, 0, 1)));
  EXPECT_THAT(locks.all(), SizeIs(kInodeLocksMax - 1));
}

TEST(InodeLocks, OwnersAndSessionsGoAsAWhole) {
  InodeLocks locks;
  ASSERT_TRUE(locks.set(posix(7, kShared, 0, 9)));
  ASSERT_TRUE(locks.set(flock(7, kShared)));
  ASSERT_TRUE(locks.set(posix(8, kShared, 0, 9)));
  ASSERT_TRUE(locks.set(posix(7, kShared, 0, 9, kThere)));
  EXPECT_TRUE(locks.has_others(kHere));
  EXPECT_TRUE(locks.release({kHere, 7}));
  EXPECT_FALSE(locks.release({kHere, 7}));
  EXPECT_THAT(locks.of_session(kHere), SizeIs(1));
  EXPECT_TRUE(locks.release_session(kHere));
  EXPECT_FALSE(locks.has_session(kHere));
  EXPECT_THAT(locks.all(), SizeIs(1));
}

TEST(InodeLocks, DamagedBytesAreNoLocks) {
  InodeLocks locks;
  ASSERT_TRUE(locks.set(posix(7, kShared, 0, 9)));
  std::string bytes = encode(locks);
  InodeLocks read;
  ASSERT_TRUE(decode(bytes, read));
  EXPECT_EQ(read, locks);
  for (size_t length = 0; length < bytes.size(); ++length)
    EXPECT_FALSE(decode(std::string_view(bytes).substr(0, length), read)) << length;
  bytes[0] = 2;
  EXPECT_TRUE(decode(bytes, read).failed_with(ErrorCode::kCorrupt));
}

// Byte by byte, who has what: the simplest thing that can be right.
class ByteModel {
 public:
  static constexpr uint64_t kBytes = 24;
  using Key = std::pair<LockOwner, LockKind>;

  bool free_for(const FileLock& wanted) const {
    for (const auto& [key, bytes] : held_) {
      if (key.second != wanted.kind || key.first == owner_of(wanted)) continue;
      for (uint64_t at = wanted.start; at <= last(wanted); ++at) {
        bool excludes = bytes[at] == kExclusive || (bytes[at] == kShared && wanted.mode == kExclusive);
        if (wanted.mode != kUnlock && excludes) return false;
      }
    }
    return true;
  }
  void set(const FileLock& lock) {
    auto& bytes = held_.try_emplace({owner_of(lock), lock.kind}, nothing()).first->second;
    for (uint64_t at = lock.start; at <= last(lock); ++at)
      bytes[at] = lock.mode;
  }
  void release(const LockOwner& owner) {
    for (auto& [key, bytes] : held_) {
      if (key.first == owner) bytes = nothing();
    }
  }
  LockMode at(const Key& key, uint64_t byte) const {
    auto found = held_.find(key);
    return found == held_.end() ? kUnlock : found->second[byte];
  }

 private:
  using Bytes = std::array<LockMode, kBytes>;
  static Bytes nothing() {
    Bytes bytes;
    bytes.fill(kUnlock);
    return bytes;
  }
  // What is beyond the model's end is as its last byte.
  static uint64_t last(const FileLock& lock) { return std::min(lock.end, kBytes - 1); }
  std::map<Key, Bytes> held_;
};

void expect_same(const InodeLocks& locks, const ByteModel& model) {
  for (uint64_t session = 1; session <= 2; ++session) {
    for (uint64_t owner = 1; owner <= 3; ++owner) {
      for (LockKind kind : {LockKind::kPosix, LockKind::kFlock}) {
        std::array<LockMode, ByteModel::kBytes> bytes;
        bytes.fill(kUnlock);
        const FileLock* previous = nullptr;
        for (const FileLock& lock : locks.all()) {
          if (lock.session != SessionId(session) || lock.owner != owner || lock.kind != kind) continue;
          if (previous) {
            ASSERT_GT(lock.start, previous->end);
            ASSERT_FALSE(lock.start == previous->end + 1 && lock.mode == previous->mode);
          }
          for (uint64_t at = lock.start; at <= std::min(lock.end, ByteModel::kBytes - 1); ++at)
            bytes[at] = lock.mode;
          previous = &lock;
        }
        for (uint64_t at = 0; at < ByteModel::kBytes; ++at)
          ASSERT_EQ(bytes[at], model.at({{SessionId(session), owner}, kind}, at));
      }
    }
  }
}

TEST(InodeLocks, AreWhatAModelOfBytesSays) {
  std::unique_ptr<Random> seeded = make_seeded_random(42);
  Random& random = *seeded;
  for (int round = 0; round < 200; ++round) {
    InodeLocks locks;
    ByteModel model;
    for (int step = 0; step < 60; ++step) {
      FileLock lock = posix(1 + random.below(3), static_cast<LockMode>(1 + random.below(3)), 0, kLockRangeEnd,
                            SessionId(1 + random.below(2)));
      if (random.chance(1, 10)) {
        locks.release(owner_of(lock));
        model.release(owner_of(lock));
      } else {
        if (random.chance(1, 5)) {
          lock.kind = LockKind::kFlock;
        } else {
          lock.start = random.below(ByteModel::kBytes - 1);
          if (random.chance(3, 4)) lock.end = lock.start + random.below(ByteModel::kBytes - 1 - lock.start);
        }
        ASSERT_EQ(!locks.conflict(lock), model.free_for(lock));
        if (!model.free_for(lock)) continue;
        std::vector<FileLock> had = locks.within(lock);
        InodeLocks undone = locks;
        ASSERT_TRUE(locks.set(lock));
        model.set(lock);
        // What was there can be put back.
        InodeLocks back = locks;
        FileLock none = lock;
        none.mode = kUnlock;
        ASSERT_TRUE(back.set(none));
        for (const FileLock& piece : had)
          ASSERT_TRUE(back.set(piece));
        ASSERT_EQ(back, undone);
      }
      expect_same(locks, model);
      InodeLocks again;
      ASSERT_TRUE(decode(encode(locks), again));
      ASSERT_EQ(again, locks);
    }
  }
}

}  // namespace
}  // namespace cairn
