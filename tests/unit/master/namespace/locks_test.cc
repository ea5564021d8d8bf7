// Locks of files in the state: exactly once, gone with their session, their inode, or by an administrator's word.
#include "tests/unit/master/namespace/machine_fixture.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

class Locks : public MachineTest {
 protected:
  void SetUp() override {
    MachineTest::SetUp();
    file_ = make("a");
    other_ = leader.open_session();
  }
  InodeId make(const std::string& name) {
    return leader.mutate(session, CreateOp{.parent = kRootInode, .name = name})->attributes.inode;
  }
  static FileLock lock(uint64_t owner, LockMode mode, uint64_t start = 0, uint64_t end = kLockRangeEnd) {
    return {.owner = owner, .kind = LockKind::kPosix, .mode = mode, .start = start, .end = end, .pid = 77};
  }
  static FileLock flock(uint64_t owner, LockMode mode) {
    return {.owner = owner, .kind = LockKind::kFlock, .mode = mode};
  }
  Result<MutationReply> set(SessionId who, const FileLock& lock) {
    return leader.mutate(who, SetLockOp{.inode = file_, .lock = lock});
  }
  bool got(SessionId who, const FileLock& lock) {
    Result<MutationReply> reply = set(who, lock);
    EXPECT_TRUE(reply);
    return reply && !reply->conflict;
  }
  size_t records(keys::Kind kind) {
    size_t count = 0;
    auto it = leader.store().iterate();
    for (it->seek(keys::prefix(kind)); it->valid() && it->key().starts_with(keys::prefix(kind)); it->next())
      ++count;
    return count;
  }

  InodeId file_;
  SessionId other_;
};

constexpr LockMode kUnlock = LockMode::kUnlock, kShared = LockMode::kShared, kExclusive = LockMode::kExclusive;

TEST_F(Locks, AConflictNamesWhoIsInTheWayAndChangesNothing) {
  ASSERT_TRUE(got(session, lock(7, kExclusive, 10, 19)));
  Result<MutationReply> reply = set(other_, lock(7, kShared, 0, 10));
  ASSERT_TRUE(reply && reply->conflict);
  EXPECT_EQ(reply->conflict->session, session);
  EXPECT_EQ(reply->conflict->start, 10u);
  EXPECT_EQ(reply->conflict->pid, 77u);
  EXPECT_THAT(machine().locks(file_).all(), SizeIs(1));
  EXPECT_TRUE(got(other_, lock(7, kShared, 0, 9)));
  EXPECT_TRUE(got(session, lock(7, kUnlock)));
  EXPECT_TRUE(got(other_, lock(7, kShared, 0, 10)));
}

TEST_F(Locks, NobodySetsOneInTheNameOfAnotherSession) {
  FileLock forged = lock(7, kExclusive);
  forged.session = other_;
  ASSERT_TRUE(got(session, forged));
  EXPECT_EQ(machine().locks(file_).all().at(0).session, session);
}

TEST_F(Locks, AFlockThatChangesItsModeIsGivenUpFirst) {
  ASSERT_TRUE(got(session, flock(1, kShared)));
  ASSERT_TRUE(got(other_, flock(2, kShared)));
  EXPECT_FALSE(got(session, flock(1, kExclusive)));  // and has lost the shared one
  EXPECT_TRUE(got(other_, flock(2, kExclusive)));
  EXPECT_FALSE(got(session, flock(1, kShared)));
}

TEST_F(Locks, BadOnesAreRefused) {
  EXPECT_ERROR(set(session, lock(7, kShared, 5, 4)), ErrorCode::kInvalid);
  EXPECT_ERROR(leader.mutate(session, SetLockOp{.inode = InodeId{999}, .lock = lock(7, kShared)}), ErrorCode::kStale);
  EXPECT_ERROR(leader.mutate(session, ReplaceLocksOp{.inode = file_, .locks = {lock(7, kUnlock)}}),
               ErrorCode::kInvalid);
  EXPECT_THAT(machine().locks(file_).all(), IsEmpty());
  EXPECT_EQ(records(keys::Kind::kSessionLocks), 0u);
}

TEST_F(Locks, ReplacingIsAllOrNothing) {
  ASSERT_TRUE(got(session, lock(7, kExclusive, 0, 9)));
  ASSERT_TRUE(got(other_, lock(8, kExclusive, 20, 29)));
  EXPECT_ERROR(leader.mutate(session, ReplaceLocksOp{.inode = file_, .locks = {lock(9, kShared, 15, 20)}}),
               ErrorCode::kConflict);
  EXPECT_EQ(machine().locks(file_).of_session(session).at(0).owner, 7u);
  ASSERT_TRUE(leader.mutate(session, ReplaceLocksOp{.inode = file_, .locks = {lock(9, kShared, 15, 19)}}));
  ASSERT_THAT(machine().locks(file_).of_session(session), SizeIs(1));
  EXPECT_EQ(machine().locks(file_).of_session(session).at(0).owner, 9u);
  ASSERT_TRUE(leader.mutate(session, ReplaceLocksOp{.inode = file_, .locks = {}}));
  EXPECT_FALSE(machine().locks(file_).has_session(session));
}

TEST_F(Locks, ReleasingTakesAnOwnersLocksOfBothKinds) {
  ASSERT_TRUE(got(session, lock(7, kExclusive)));
  ASSERT_TRUE(got(session, flock(7, kExclusive)));
  ASSERT_TRUE(leader.mutate(session, ReleaseLocksOp{.inode = file_, .owners = {7, 8}}));
  EXPECT_THAT(machine().locks(file_).all(), IsEmpty());
  EXPECT_EQ(records(keys::Kind::kLocks), 0u);
}

TEST_F(Locks, ThoseOfASessionThatHasEndedAreNobodysAtOnce) {
  ASSERT_TRUE(got(session, lock(7, kExclusive)));
  ASSERT_TRUE(leader.tell(EndSession{session}));
  EXPECT_THAT(machine().locks(file_).all(), IsEmpty());
  EXPECT_TRUE(got(other_, lock(7, kExclusive)));
  leader.settle();
  EXPECT_EQ(records(keys::Kind::kSessionLocks), 1u);
  ASSERT_TRUE(leader.tell(EndSession{other_}));
  leader.settle();
  EXPECT_EQ(records(keys::Kind::kLocks), 0u);
  EXPECT_EQ(records(keys::Kind::kSessionLocks), 0u);
}

TEST_F(Locks, SetAndEndedInOneEntryLeavesNothing) {
  const SessionMutation set = leader.mutation(session, SetLockOp{.inode = file_, .lock = lock(7, kExclusive)});
  leader.entry({set, EndSession{session}, Tick{}});
  leader.settle();
  EXPECT_EQ(records(keys::Kind::kLocks), 0u);
  EXPECT_EQ(records(keys::Kind::kSessionLocks), 0u);
}

TEST_F(Locks, OutliveARestart) {
  ASSERT_TRUE(got(session, lock(7, kExclusive)));
  leader.restart();
  EXPECT_FALSE(got(other_, lock(7, kShared)));
  EXPECT_THAT(machine().locked_inodes({}, 10), ElementsAre(file_));
}

TEST_F(Locks, GoWithTheirInode) {
  ASSERT_TRUE(got(session, lock(7, kExclusive)));
  ASSERT_TRUE(leader.mutate(other_, UnlinkOp{.parent = kRootInode, .name = "a"}));
  EXPECT_EQ(records(keys::Kind::kLocks), 0u);
  EXPECT_EQ(records(keys::Kind::kSessionLocks), 0u);
}

TEST_F(Locks, AnAdministratorTakesAllAway) {
  ASSERT_TRUE(got(session, lock(7, kShared)));
  ASSERT_TRUE(got(other_, lock(7, kShared)));
  ASSERT_TRUE(leader.tell(BreakLocks{file_}));
  EXPECT_THAT(machine().locks(file_).all(), IsEmpty());
  EXPECT_TRUE(leader.tell(BreakLocks{file_}));
  EXPECT_EQ(records(keys::Kind::kSessionLocks), 0u);
}

TEST_F(Locks, TooManyOnOneFileAreRefused) {
  std::vector<FileLock> many;
  for (uint64_t i = 0; i < kInodeLocksMax; ++i)
    many.push_back(lock(7, kShared, 2 * i, 2 * i));
  ASSERT_TRUE(leader.mutate(session, ReplaceLocksOp{.inode = file_, .locks = many}));
  EXPECT_ERROR(set(other_, lock(7, kShared)), ErrorCode::kNoLocks);
}

}  // namespace
}  // namespace cairn
