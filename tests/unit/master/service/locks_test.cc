// Locks through the service: who decides, who waits for whom, and who is told.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/master/service/sim_master.h"

namespace cairn {
namespace {

using ::testing::IsEmpty;
using testing::milliseconds;
using testing::seconds;
using testing::SimClient;
using testing::SimMaster;
using ::testing::SizeIs;

constexpr LockMode kUnlock = LockMode::kUnlock, kShared = LockMode::kShared, kExclusive = LockMode::kExclusive;

MasterSettings settings() {
  MasterSettings settings;
  settings.session_time = seconds(3);
  return settings;
}

FileLock lock(LockMode mode, uint64_t start = 0, uint64_t end = kLockRangeEnd, uint64_t owner = 7) {
  return {.owner = owner, .mode = mode, .start = start, .end = end, .pid = 77};
}

class Locks : public ::testing::Test {
 protected:
  Locks() {
    file_ = make("x");
    other_ = make("y");
  }
  // Nobody holds it.
  InodeId make(const std::string& name) {
    auto made = anna_.mutate(CreateOp{.parent = kRootInode, .name = name, .mode = 0644});
    CHECK(made);
    CHECK(anna_.ask(ReturnLeasesRequest{.term = anna_.term(), .inodes = {made->attributes.inode}}));
    return made->attributes.inode;
  }
  SetLockOp setting(const FileLock& lock, InodeId inode) { return {.inode = inode, .lock = lock}; }
  SetLockOp setting(const FileLock& lock) { return setting(lock, file_); }
  MutationReply set(SimClient& who, const FileLock& lock, InodeId inode = {}) {
    Result<MutationReply> reply = who.mutate(setting(lock, inode ? inode : file_));
    CHECK(reply);
    return *reply;
  }
  auto wait(SimClient& who, const FileLock& lock, InodeId inode = {}, uint64_t number = 1) {
    return who.begin(WaitLockRequest{.inode = inode ? inode : file_, .lock = lock, .wait = number});
  }
  // The recall of a kind that this session has, 0 if none.
  uint64_t recalled(SimClient& who, RecallKind kind) {
    for (const Recall& recall : who.recalls()) {
      if (recall.inode == file_ && recall.kind == kind) return recall.sequence;
    }
    return 0;
  }
  void alive() {
    CHECK(anna_.ask(RenewSessionRequest{.known_term = anna_.term()}));
    CHECK(bert_.ask(RenewSessionRequest{.known_term = bert_.term()}));
  }

  SimMaster master_{1, settings()};
  SimClient anna_{master_, "anna"};
  SimClient bert_{master_, "bert"};
  InodeId file_, other_;
};

TEST_F(Locks, AnAnswerSaysWhetherAnybodyElseIsThere) {
  MutationReply first = set(anna_, lock(kShared, 0, 9));
  EXPECT_FALSE(first.conflict || first.locked_elsewhere || first.leased_elsewhere);
  MutationReply second = set(bert_, lock(kShared, 20, 29));
  EXPECT_FALSE(second.conflict);
  EXPECT_TRUE(second.locked_elsewhere);
  MutationReply third = set(bert_, lock(kExclusive, 0, 0));
  ASSERT_TRUE(third.conflict);
  EXPECT_EQ(third.conflict->session, anna_.session());
  ASSERT_TRUE(bert_.ask(GetAttributesRequest{.inode = file_}));
  EXPECT_TRUE(set(anna_, lock(kShared, 5, 5)).leased_elsewhere);
}

TEST_F(Locks, WhoeverDecidesByItselfIsRecalledFirst) {
  Result<WriteLeaseReply> leased = anna_.ask(WriteLeaseRequest{.inode = file_});
  ASSERT_TRUE(leased);
  EXPECT_FALSE(leased->locked_elsewhere);
  auto setting_it = bert_.begin_mutation(setting(lock(kShared)));
  EXPECT_FALSE(master_.done(setting_it, milliseconds(300)));
  uint64_t recall = recalled(anna_, RecallKind::kReader);
  ASSERT_NE(recall, 0u);
  // While she is asked nobody else gets to decide: not she herself either.
  leased = anna_.ask(WriteLeaseRequest{.inode = file_}, milliseconds(300));
  EXPECT_TRUE(!leased || leased->locked_elsewhere);
  ASSERT_TRUE(anna_.mutate(ReplaceLocksOp{.inode = file_, .locks = {lock(kExclusive, 0, 9)}}));
  anna_.answer(recall);
  ASSERT_TRUE(master_.done(setting_it, milliseconds(500)));
  ASSERT_TRUE(**setting_it);
  EXPECT_TRUE((**setting_it)->conflict);
}

TEST_F(Locks, NoLeaseSaysThatLocksAreFreeWhileAnotherSessionHasSome) {
  set(anna_, lock(kShared));
  Result<WriteLeaseReply> leased = bert_.ask(WriteLeaseRequest{.inode = file_});
  ASSERT_TRUE(leased);
  EXPECT_TRUE(leased->locked_elsewhere);
  set(anna_, lock(kUnlock));  // takes away, and so waits for nobody
  leased = bert_.ask(WriteLeaseRequest{.inode = file_});
  ASSERT_TRUE(leased);
  EXPECT_FALSE(leased->locked_elsewhere);
}

TEST_F(Locks, WhoWaitsIsToldWhenItMayTryAgain) {
  set(anna_, lock(kExclusive));
  auto waiting = wait(bert_, lock(kExclusive));
  EXPECT_FALSE(master_.done(waiting, milliseconds(500)));
  set(anna_, lock(kUnlock));
  ASSERT_TRUE(master_.done(waiting, milliseconds(200)));
  EXPECT_TRUE(**waiting);
  EXPECT_FALSE(set(bert_, lock(kExclusive)).conflict);
}

TEST_F(Locks, WhoWaitsForNothingIsToldAtOnce) {
  auto waiting = wait(bert_, lock(kExclusive));
  EXPECT_TRUE(master_.done(waiting, milliseconds(200)));
}

TEST_F(Locks, OnlyTheFirstOfThoseWhoWouldExcludeOneAnotherIsWoken) {
  SimClient carl(master_, "carl");
  set(anna_, lock(kExclusive));
  auto first = wait(bert_, lock(kExclusive));
  master_.simulator().run_for(milliseconds(50));
  auto second = wait(carl, lock(kExclusive));
  master_.simulator().run_for(milliseconds(50));
  set(anna_, lock(kUnlock));
  ASSERT_TRUE(master_.done(first, milliseconds(200)));
  EXPECT_FALSE(master_.done(second, milliseconds(500)));
  // Bert has changed his mind, or died: the next one is let go a second later.
  EXPECT_TRUE(master_.done(second, seconds(2)));
}

TEST_F(Locks, AWaitThatIsCancelledEnds) {
  set(anna_, lock(kExclusive));
  auto waiting = wait(bert_, lock(kExclusive), {}, 5);
  EXPECT_FALSE(master_.done(waiting, milliseconds(200)));
  ASSERT_TRUE(bert_.ask(CancelWaitRequest{.wait = 4}));
  ASSERT_TRUE(anna_.ask(CancelWaitRequest{.wait = 5}));  // somebody else's
  EXPECT_FALSE(master_.done(waiting, milliseconds(200)));
  ASSERT_TRUE(bert_.ask(CancelWaitRequest{.wait = 5}));
  EXPECT_TRUE(master_.done(waiting, milliseconds(200)));
}

TEST_F(Locks, ACircleIsFoundAcrossSessions) {
  set(anna_, lock(kExclusive), file_);
  set(bert_, lock(kExclusive), other_);
  auto first = wait(anna_, lock(kExclusive), other_);
  EXPECT_FALSE(master_.done(first, milliseconds(200)));
  auto second = wait(bert_, lock(kShared), file_);
  ASSERT_TRUE(master_.done(second, milliseconds(200)));
  EXPECT_TRUE((**second).failed_with(ErrorCode::kDeadlock));
  EXPECT_FALSE(master_.done(first, milliseconds(200)));
}

TEST_F(Locks, WhoWaitsHasThoseWhoDecideByThemselvesRecalled) {
  ASSERT_TRUE(anna_.ask(WriteLeaseRequest{.inode = file_}));
  auto waiting = wait(bert_, lock(kShared));
  EXPECT_FALSE(master_.done(waiting, milliseconds(200)));
  uint64_t recall = recalled(anna_, RecallKind::kReader);
  ASSERT_NE(recall, 0u);
  anna_.answer(recall);
  EXPECT_TRUE(master_.done(waiting, milliseconds(200)));
}

TEST_F(Locks, ASessionThatEndsFreesItsLocksAtOnce) {
  set(anna_, lock(kExclusive));
  auto waiting = wait(bert_, lock(kExclusive));
  EXPECT_FALSE(master_.done(waiting, milliseconds(200)));
  ASSERT_TRUE(anna_.ask(CloseSessionRequest{}));
  ASSERT_TRUE(master_.done(waiting, milliseconds(200)));
  EXPECT_FALSE(set(bert_, lock(kExclusive)).conflict);
}

TEST_F(Locks, TestingSeesWhatIsInTheWay) {
  set(anna_, lock(kShared, 10, 19));
  Result<TestLockReply> found = bert_.ask(TestLockRequest{.inode = file_, .lock = lock(kExclusive)});
  ASSERT_TRUE(found && found->conflict);
  EXPECT_EQ(found->conflict->start, 10u);
  EXPECT_EQ(found->conflict->pid, 77u);
  found = bert_.ask(TestLockRequest{.inode = file_, .lock = lock(kShared)});
  EXPECT_TRUE(found && !found->conflict);
  EXPECT_TRUE(bert_.ask(TestLockRequest{.inode = file_, .lock = lock(kShared, 9, 8)}).failed_with(ErrorCode::kInvalid));
}

TEST_F(Locks, ANewLeaderHasThemAndWaitsForClaims) {
  ASSERT_TRUE(anna_.ask(WriteLeaseRequest{.inode = other_}));  // she decides these by herself
  set(anna_, lock(kExclusive));
  master_.restart();
  Result<RenewSessionReply> renewed = bert_.ask(RenewSessionRequest{.known_term = bert_.term()});
  ASSERT_TRUE(renewed && renewed->reclaim);
  bert_.set_term(renewed->term);
  anna_.set_term(renewed->term);
  ASSERT_TRUE(bert_.ask(RenewSessionRequest{.known_term = renewed->term}));
  auto setting_it = bert_.begin_mutation(setting(lock(kShared), other_));
  EXPECT_FALSE(master_.done(setting_it, milliseconds(300)));  // nobody knows yet who decides
  ASSERT_TRUE(anna_.ask(RenewSessionRequest{.known_term = renewed->term, .leases = {{other_, true}}}));
  EXPECT_FALSE(master_.done(setting_it, milliseconds(300)));
  std::vector<Recall> recalls = anna_.recalls();
  ASSERT_THAT(recalls, SizeIs(1));
  EXPECT_EQ(recalls[0].inode, other_);
  anna_.answer(recalls[0].sequence);
  ASSERT_TRUE(master_.done(setting_it, milliseconds(300)));
  EXPECT_TRUE(set(bert_, lock(kShared)).conflict);  // what was in the log
}

TEST_F(Locks, BreakingAsksDoesAndTells) {
  ASSERT_TRUE(anna_.ask(WriteLeaseRequest{.inode = file_}));
  auto waiting = wait(bert_, lock(kExclusive));
  auto breaking = bert_.begin(BreakLocksRequest{.inode = file_});
  EXPECT_FALSE(master_.done(breaking, milliseconds(300)));
  ASSERT_TRUE(anna_.mutate(ReplaceLocksOp{.inode = file_, .locks = {lock(kExclusive)}}));
  anna_.answer(recalled(anna_, RecallKind::kReader));
  ASSERT_TRUE(master_.done(breaking, milliseconds(300)));
  ASSERT_TRUE(**breaking);
  ASSERT_THAT((**breaking)->locks, SizeIs(1));
  EXPECT_EQ((**breaking)->locks[0].lock.session, anna_.session());
  ASSERT_THAT((**breaking)->sessions, SizeIs(1));
  EXPECT_EQ((**breaking)->sessions[0].host, "anna");
  uint64_t told = recalled(anna_, RecallKind::kLocksBroken);
  ASSERT_NE(told, 0u);
  EXPECT_TRUE(master_.done(waiting, milliseconds(300)));
  // Her lease is as it was.
  anna_.answer(told, true);
  Result<WhyReply> why = bert_.ask(WhyRequest{.inode = file_});
  ASSERT_TRUE(why);
  ASSERT_THAT(why->leases, SizeIs(1));
  EXPECT_EQ(why->leases[0].session, anna_.session());
  EXPECT_THAT(why->locks, IsEmpty());
}

TEST_F(Locks, ListingAndWhyShowWhoHoldsAndWhoWaits) {
  set(anna_, lock(kExclusive, 0, 9));
  auto waiting = wait(bert_, lock(kShared));
  master_.simulator().run_for(milliseconds(100));
  Result<ListLocksReply> all = bert_.ask(ListLocksRequest{});
  ASSERT_TRUE(all);
  ASSERT_THAT(all->locks, SizeIs(2));
  EXPECT_FALSE(all->locks[0].waits);
  EXPECT_TRUE(all->locks[1].waits);
  EXPECT_THAT(all->sessions, SizeIs(2));
  ASSERT_TRUE(anna_.ask(GetAttributesRequest{.inode = file_}));
  auto changing = bert_.begin_mutation(SetAttributesOp{.inode = file_, .mode = 0600});
  master_.simulator().run_for(milliseconds(100));
  Result<WhyReply> why = bert_.ask(WhyRequest{.inode = file_});
  ASSERT_TRUE(why);
  ASSERT_THAT(why->changes, SizeIs(1));
  EXPECT_EQ(why->changes[0].session, bert_.session());
  EXPECT_EQ(why->changes[0].unanswered, 1u);
  ASSERT_THAT(why->leases, SizeIs(1));
  EXPECT_TRUE(why->leases[0].recalled);
  EXPECT_GE(why->leases[0].recalled_ms, 50u);
  EXPECT_THAT(why->locks, SizeIs(2));
}

TEST_F(Locks, ClaimsOfLocksInSomebodysWayAreRefused) {
  set(anna_, lock(kExclusive));
  EXPECT_TRUE(bert_.mutate(ReplaceLocksOp{.inode = file_, .locks = {lock(kShared)}}).failed_with(ErrorCode::kConflict));
  // While another session decides by itself nobody gets past it either.
  ASSERT_TRUE(anna_.ask(WriteLeaseRequest{.inode = other_}));
  auto claimed = bert_.begin_mutation(ReplaceLocksOp{.inode = other_, .locks = {lock(kShared)}});
  EXPECT_FALSE(master_.done(claimed, milliseconds(300)));
}

}  // namespace
}  // namespace cairn
