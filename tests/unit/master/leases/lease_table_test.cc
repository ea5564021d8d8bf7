#include "master/leases/lease_table.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

constexpr SessionId kAnna{1}, kBert{2}, kCora{3};
constexpr InodeId kDir{10}, kFile{11}, kOther{12};

Touched name(const std::string& what = "x") {
  return {.inode = kDir, .kind = RecallKind::kName, .name = what};
}
Touched object(InodeId inode, RecallKind kind) {
  return {.inode = inode, .kind = kind, .name = {}};
}

class LeaseTableTest : public ::testing::Test {
 protected:
  LeaseTableTest() { table_.begin_term(7); }

  bool share(SessionId session, InodeId inode) { return given(table_.share(session, inode, table_.mark(), true)); }
  static bool given(const Lease& lease) { return lease.duration_ms != 0; }
  ChangeId begin(SessionId by, Touched touched) { return table_.begin_change(by, {std::move(touched)}); }
  bool take(SessionId session, InodeId inode) {
    ChangeId change = begin(session, object(inode, RecallKind::kWriter));
    answer_all(change);
    bool taken = given(table_.make_exclusive(change, session, inode));
    table_.end_change(change);
    return taken;
  }
  void answer_all(ChangeId change) {
    for (auto asked = table_.recalls_for(change); !asked.empty(); asked = table_.recalls_for(change)) {
      for (const LeaseTable::Asked& one : asked)
        EXPECT_TRUE(table_.answered(one.session, {.sequence = one.recall.sequence}).known);
    }
  }
  // The only recall of the change.
  LeaseTable::Asked only(ChangeId change) {
    std::vector<LeaseTable::Asked> asked = table_.recalls_for(change);
    EXPECT_EQ(asked.size(), 1u);
    return asked.empty() ? LeaseTable::Asked{} : asked.front();
  }

  LeaseTable table_;
};

// ---------------------------------------------------------------- reads

TEST_F(LeaseTableTest, ReadersShareAndCommandsDoNot) {
  EXPECT_TRUE(share(kAnna, kFile));
  EXPECT_TRUE(share(kBert, kFile));
  EXPECT_TRUE(share(kBert, kFile));
  EXPECT_FALSE(given(table_.share(kCora, kFile, table_.mark(), false)));
  EXPECT_EQ(table_.shared_count(), 2u);
  EXPECT_TRUE(table_.holds(kAnna, kFile));
  EXPECT_FALSE(table_.holds(kCora, kFile));
  EXPECT_EQ(table_.shared_of(kBert), 1u);
}

TEST_F(LeaseTableTest, NumbersRiseOverGrantsAndRecalls) {
  Lease first = table_.share(kAnna, kFile, table_.mark(), true);
  Lease second = table_.share(kBert, kFile, table_.mark(), true);
  EXPECT_EQ(first.term, 7u);
  EXPECT_LT(first.sequence, second.sequence);
  ChangeId change = begin(kAnna, object(kFile, RecallKind::kAttributes));
  uint64_t recall = only(change).recall.sequence;
  EXPECT_LT(second.sequence, recall);
  table_.answered(kBert, {.sequence = recall});
  table_.end_change(change);
  EXPECT_LT(recall, table_.share(kBert, kFile, table_.mark(), true).sequence);
}

TEST_F(LeaseTableTest, ALateReadHasNoLease) {
  LeaseTable::Mark before = table_.mark();
  ChangeId change = begin(kAnna, object(kFile, RecallKind::kAttributes));
  LeaseTable::Mark during = table_.mark();
  table_.end_change(change);
  EXPECT_FALSE(given(table_.share(kBert, kFile, before, true)));
  EXPECT_FALSE(given(table_.share(kBert, kFile, during, true)));
  EXPECT_TRUE(given(table_.share(kBert, kFile, table_.mark(), true)));
}

TEST_F(LeaseTableTest, AReadDuringAChangeHasNoLease) {
  ChangeId change = begin(kAnna, name());
  EXPECT_FALSE(share(kBert, kDir));
  EXPECT_FALSE(share(kAnna, kDir));
  EXPECT_TRUE(share(kBert, kFile));
  ChangeId second = begin(kCora, name("y"));
  table_.end_change(change);
  EXPECT_FALSE(share(kBert, kDir));
  table_.end_change(second);
  EXPECT_TRUE(share(kBert, kDir));
}

TEST_F(LeaseTableTest, AReadFromBeforeAWriterGaveBackHasNoLease) {
  ASSERT_TRUE(take(kAnna, kFile));
  LeaseTable::Mark mark = table_.mark();
  EXPECT_TRUE(table_.lower(kAnna, kFile, true));
  EXPECT_FALSE(given(table_.share(kBert, kFile, mark, true)));
}

TEST_F(LeaseTableTest, AMarkOfAnotherTermIsWorthNothing) {
  share(kAnna, kFile);
  LeaseTable::Mark mark = table_.mark();
  table_.begin_term(8);
  EXPECT_FALSE(given(table_.share(kAnna, kFile, mark, true)));
  EXPECT_FALSE(table_.holds(kAnna, kFile));
  EXPECT_EQ(table_.shared_count(), 0u);
}

TEST(LeaseTableSlots, OneSlotCostsLeasesAndNothingElse) {
  LeaseTable table({.slots = 1});
  table.begin_term(1);
  LeaseTable::Mark mark = table.mark();
  ChangeId change = table.begin_change(kAnna, {object(kFile, RecallKind::kAttributes)});
  table.end_change(change);
  EXPECT_EQ(table.share(kBert, kOther, mark, true).duration_ms, 0u);  // another inode, the same slot
  EXPECT_NE(table.share(kBert, kOther, table.mark(), true).duration_ms, 0u);
}

// ---------------------------------------------------------------- recalls of each kind

TEST_F(LeaseTableTest, ANameIsRecalledFromOthersAndTheLeaseStays) {
  share(kAnna, kDir);
  share(kBert, kDir);
  share(kCora, kFile);
  ChangeId change = begin(kAnna, name("foo"));
  LeaseTable::Asked asked = only(change);
  EXPECT_EQ(asked.session, kBert);
  EXPECT_EQ(asked.recall.kind, RecallKind::kName);
  EXPECT_EQ(asked.recall.name, "foo");
  EXPECT_EQ(asked.recall.inode, kDir);
  EXPECT_EQ(table_.pending(change), 1u);
  EXPECT_EQ(table_.pending_of(kBert, 0), std::vector<Recall>{asked.recall});
  EXPECT_TRUE(table_.pending_of(kBert, asked.recall.sequence).empty());
  LeaseTable::Answered answered = table_.answered(kBert, {.sequence = asked.recall.sequence});
  EXPECT_TRUE(answered.known);
  EXPECT_EQ(answered.complete, change);
  EXPECT_TRUE(table_.recalls_for(change).empty());
  EXPECT_TRUE(table_.holds(kBert, kDir));
}

TEST_F(LeaseTableTest, WhoDoesWithoutTheLeaseSaysSoWithTheAnswer) {
  share(kBert, kDir);
  ChangeId change = begin(kAnna, name());
  table_.answered(kBert, {.sequence = only(change).recall.sequence, .returned = true});
  EXPECT_FALSE(table_.holds(kBert, kDir));
  EXPECT_TRUE(table_.recalls_for(change).empty());
}

TEST_F(LeaseTableTest, ContentTakesTheLeaseAway) {
  share(kBert, kFile);
  share(kCora, kFile);
  ChangeId change = begin(kAnna, object(kFile, RecallKind::kContent));
  std::vector<LeaseTable::Asked> asked = table_.recalls_for(change);
  ASSERT_EQ(asked.size(), 2u);
  EXPECT_EQ(table_.answered(asked[0].session, {.sequence = asked[0].recall.sequence}).complete, 0u);
  EXPECT_EQ(table_.answered(asked[1].session, {.sequence = asked[1].recall.sequence}).complete, change);
  EXPECT_EQ(table_.shared_count(), 0u);
}

TEST_F(LeaseTableTest, AttributesOfWhatSomebodyWritesAreCommittedFirst) {
  ASSERT_TRUE(take(kBert, kFile));
  ChangeId change = begin(kAnna, object(kFile, RecallKind::kAttributes));
  LeaseTable::Asked first = only(change);
  EXPECT_EQ(first.recall.kind, RecallKind::kReader);
  table_.answered(kBert, {.sequence = first.recall.sequence});
  EXPECT_EQ(table_.writer(kFile), std::nullopt);
  LeaseTable::Asked second = only(change);
  EXPECT_EQ(second.recall.kind, RecallKind::kAttributes);
  table_.answered(kBert, {.sequence = second.recall.sequence});
  EXPECT_TRUE(table_.recalls_for(change).empty());
  EXPECT_TRUE(table_.holds(kBert, kFile));
}

TEST_F(LeaseTableTest, AnotherWriterTakesEverything) {
  ASSERT_TRUE(take(kBert, kFile));
  ChangeId change = begin(kAnna, object(kFile, RecallKind::kWriter));
  LeaseTable::Asked asked = only(change);
  EXPECT_EQ(asked.recall.kind, RecallKind::kWriter);
  EXPECT_FALSE(given(table_.make_exclusive(change, kAnna, kFile)));  // not before the answer
  table_.answered(kBert, {.sequence = asked.recall.sequence});
  EXPECT_FALSE(table_.holds(kBert, kFile));
  EXPECT_TRUE(given(table_.make_exclusive(change, kAnna, kFile)));
  EXPECT_EQ(table_.writer(kFile), kAnna);
  EXPECT_EQ(table_.exclusive_count(), 1u);
}

TEST_F(LeaseTableTest, AReaderMakesTheWriterKeepItShared) {
  ASSERT_TRUE(take(kAnna, kFile));
  EXPECT_FALSE(table_.recall_for_reader(kFile, kAnna));
  EXPECT_FALSE(table_.recall_for_reader(kOther, kBert));
  std::optional<LeaseTable::Asked> asked = table_.recall_for_reader(kFile, kBert);
  ASSERT_TRUE(asked);
  EXPECT_EQ(asked->session, kAnna);
  EXPECT_EQ(asked->recall.kind, RecallKind::kReader);
  EXPECT_TRUE(table_.reader_pending(kFile));
  EXPECT_FALSE(table_.recall_for_reader(kFile, kCora));  // once is enough
  EXPECT_FALSE(share(kBert, kFile));
  EXPECT_TRUE(table_.answered(kAnna, {.sequence = asked->recall.sequence}).known);
  EXPECT_FALSE(table_.reader_pending(kFile));
  EXPECT_EQ(table_.writer(kFile), std::nullopt);
  EXPECT_TRUE(table_.holds(kAnna, kFile));
  EXPECT_TRUE(share(kBert, kFile));
}

TEST_F(LeaseTableTest, LateDoubledAndInventedAnswersDoNothing) {
  share(kBert, kFile);
  ChangeId change = begin(kAnna, object(kFile, RecallKind::kContent));
  uint64_t sequence = only(change).recall.sequence;
  EXPECT_FALSE(table_.answered(kBert, {.sequence = sequence + 1}).known);
  EXPECT_FALSE(table_.answered(kCora, {.sequence = sequence}).known);  // somebody else's
  EXPECT_EQ(table_.pending(change), 1u);
  EXPECT_TRUE(table_.answered(kBert, {.sequence = sequence}).known);
  table_.end_change(change);
  share(kBert, kFile);
  EXPECT_FALSE(table_.answered(kBert, {.sequence = sequence}).known);
  EXPECT_TRUE(table_.holds(kBert, kFile));
}

TEST_F(LeaseTableTest, ARecallOutlivesItsChangeAndNothingIsGivenBeforeItsAnswer) {
  share(kBert, kFile);
  ChangeId change = begin(kAnna, object(kFile, RecallKind::kContent));
  uint64_t sequence = only(change).recall.sequence;
  table_.end_change(change);  // the one who asked has gone away
  EXPECT_FALSE(share(kBert, kFile));
  EXPECT_TRUE(share(kCora, kFile));
  EXPECT_EQ(table_.oldest_pending(kBert), sequence);
  LeaseTable::Answered answered = table_.answered(kBert, {.sequence = sequence});
  EXPECT_TRUE(answered.known);
  EXPECT_EQ(answered.complete, 0u);
  EXPECT_FALSE(table_.holds(kBert, kFile));
  EXPECT_TRUE(share(kBert, kFile));
}

// ---------------------------------------------------------------- who gets what after a change

TEST_F(LeaseTableTest, WhoChangedItHasTheLeaseUnlessAnotherChangedItToo) {
  ChangeId one = begin(kAnna, name("x"));
  EXPECT_TRUE(given(table_.share_changed(one, kDir, true)));
  EXPECT_FALSE(given(table_.share_changed(one, kDir, false)));
  ChangeId other = begin(kBert, name("y"));
  EXPECT_FALSE(given(table_.share_changed(one, kDir, true)));
  table_.end_change(other);
  EXPECT_FALSE(given(table_.share_changed(one, kDir, true)));  // which was later?
  table_.end_change(one);
  EXPECT_FALSE(given(table_.share_changed(one, kDir, true)));
}

TEST_F(LeaseTableTest, OwnChangesOfOneDirectoryDoNotDisturbEachOther) {
  ChangeId before = begin(kBert, name("a"));
  table_.end_change(before);
  ChangeId one = begin(kAnna, name("x"));
  ChangeId two = begin(kAnna, name("y"));
  EXPECT_TRUE(given(table_.share_changed(one, kDir, true)));
  table_.end_change(one);
  EXPECT_TRUE(given(table_.share_changed(two, kDir, true)));
}

TEST_F(LeaseTableTest, WhatWasMadeIsSharedWithItsMakerUnlessItHasChangedSince) {
  ChangeId change = begin(kAnna, name("x"));
  EXPECT_TRUE(given(table_.share_changed(change, kFile, true)));
  ChangeId other = begin(kBert, object(kOther, RecallKind::kAttributes));
  table_.end_change(other);
  EXPECT_FALSE(given(table_.share_changed(change, kOther, true)));
}

TEST_F(LeaseTableTest, ANewFileIsItsMakersUnlessSomebodyHasSeenIt) {
  EXPECT_TRUE(given(table_.make_exclusive_new(kAnna, kFile)));
  EXPECT_EQ(table_.writer(kFile), kAnna);
  share(kBert, kOther);
  EXPECT_FALSE(given(table_.make_exclusive_new(kAnna, kOther)));
}

// ---------------------------------------------------------------- exclusive

TEST_F(LeaseTableTest, TwoUpgradesAreServedOneAfterTheOther) {
  share(kAnna, kFile);
  share(kBert, kFile);
  ChangeId first = begin(kAnna, object(kFile, RecallKind::kWriter));
  LeaseTable::Asked asked = only(first);
  EXPECT_EQ(asked.session, kBert);
  EXPECT_EQ(asked.recall.kind, RecallKind::kContent);
  ChangeId second = begin(kBert, object(kFile, RecallKind::kWriter));
  table_.answered(kBert, {.sequence = asked.recall.sequence});
  EXPECT_FALSE(table_.alone(first, kFile));
  table_.end_change(second);  // it asks again behind the first
  ASSERT_TRUE(table_.alone(first, kFile));
  EXPECT_TRUE(given(table_.make_exclusive(first, kAnna, kFile)));
  EXPECT_EQ(table_.shared_of(kAnna), 0u);
  table_.end_change(first);
  EXPECT_TRUE(take(kBert, kFile));
  EXPECT_FALSE(table_.holds(kAnna, kFile));
}

TEST_F(LeaseTableTest, AnExclusiveLeaseIsNotGivenWhileSomebodyElseChangesTheFile) {
  ChangeId take = begin(kAnna, object(kFile, RecallKind::kWriter));
  ChangeId other = begin(kBert, object(kFile, RecallKind::kAttributes));
  EXPECT_FALSE(given(table_.make_exclusive(take, kAnna, kFile)));
  table_.end_change(other);
  EXPECT_TRUE(given(table_.make_exclusive(take, kAnna, kFile)));
}

TEST_F(LeaseTableTest, TheHolderGivesBackOrLowersByItself) {
  ASSERT_TRUE(take(kAnna, kFile));
  EXPECT_TRUE(given(table_.exclusive_of(kAnna, kFile)));
  EXPECT_FALSE(given(table_.exclusive_of(kBert, kFile)));
  EXPECT_FALSE(table_.lower(kBert, kFile, true));
  EXPECT_TRUE(table_.lower(kAnna, kFile, true));
  EXPECT_TRUE(table_.holds(kAnna, kFile));
  ASSERT_TRUE(take(kAnna, kFile));
  EXPECT_TRUE(table_.lower(kAnna, kFile, false));
  EXPECT_FALSE(table_.holds(kAnna, kFile));
}

TEST_F(LeaseTableTest, WhatIsAskedBackIsNotConfirmedAsHeld) {
  ASSERT_TRUE(take(kAnna, kFile));
  std::optional<LeaseTable::Asked> asked = table_.recall_for_reader(kFile, kBert);
  EXPECT_FALSE(given(table_.exclusive_of(kAnna, kFile)));
  EXPECT_FALSE(share(kAnna, kFile));
}

// ---------------------------------------------------------------- sessions

TEST_F(LeaseTableTest, ReclaimTakesRightClaimsAndRefusesWrongOnes) {
  EXPECT_TRUE(table_.reclaim(kAnna, {{kDir, false}, {kFile, true}}));
  EXPECT_TRUE(table_.reclaim(kAnna, {{kFile, true}}));  // the page came twice
  EXPECT_TRUE(table_.reclaim(kBert, {{kDir, false}}));
  EXPECT_EQ(table_.reclaim(kBert, {{kFile, false}}).code(), ErrorCode::kConflict);
  EXPECT_EQ(table_.reclaim(kBert, {{kFile, true}}).code(), ErrorCode::kConflict);
  EXPECT_EQ(table_.reclaim(kCora, {{kDir, true}}).code(), ErrorCode::kConflict);
  EXPECT_EQ(table_.writer(kFile), kAnna);
  EXPECT_FALSE(table_.holds(kBert, kFile));
  EXPECT_FALSE(table_.holds(kCora, kDir));
}

TEST_F(LeaseTableTest, NothingIsLeftOfASessionThatHasEnded) {
  share(kBert, kDir);
  share(kCora, kDir);
  ASSERT_TRUE(take(kBert, kFile));
  ChangeId change = begin(kAnna, name());
  std::vector<LeaseTable::Asked> asked = table_.recalls_for(change);
  ASSERT_EQ(asked.size(), 2u);
  EXPECT_TRUE(table_.end_session(kCora).empty());
  EXPECT_EQ(table_.end_session(kBert), std::vector<ChangeId>{change});
  EXPECT_TRUE(table_.recalls_for(change).empty());
  EXPECT_EQ(table_.shared_count(), 0u);
  EXPECT_EQ(table_.exclusive_count(), 0u);
  EXPECT_FALSE(table_.answered(kBert, {.sequence = asked[0].recall.sequence}).known);
  EXPECT_TRUE(table_.end_session(kBert).empty());
}

TEST_F(LeaseTableTest, ANewTermKnowsNothingOfTheOneBefore) {
  share(kBert, kDir);
  ChangeId change = begin(kAnna, name());
  uint64_t sequence = only(change).recall.sequence;
  table_.begin_term(8);
  EXPECT_FALSE(table_.answered(kBert, {.sequence = sequence}).known);
  EXPECT_EQ(table_.pending(change), 0u);
  ChangeId next = begin(kAnna, name());
  EXPECT_NE(next, change);
  table_.end_change(change);
  EXPECT_FALSE(share(kBert, kDir));  // the new change is still under way
}

TEST_F(LeaseTableTest, HoldersAreNamedWithWhatTheyAreAsked) {
  share(kCora, kDir);
  share(kBert, kDir);
  ChangeId change = begin(kBert, name());
  table_.recalls_for(change);
  EXPECT_EQ(table_.holders(kDir),
            (std::vector<LeaseTable::Holder>{{.session = kBert}, {.session = kCora, .recalled = true}}));
  ASSERT_TRUE(take(kAnna, kFile));
  EXPECT_EQ(table_.holders(kFile), (std::vector<LeaseTable::Holder>{{.session = kAnna, .exclusive = true}}));
}

// ---------------------------------------------------------------- bounds

TEST(LeaseTableBounds, BeyondThemNobodyGetsMoreAndTheGreediestIsAsked) {
  LeaseTable table({.leases_max = 32, .session_max = 24});
  table.begin_term(1);
  auto share = [&](SessionId session, uint64_t inode) {
    return table.share(session, InodeId{inode}, table.mark(), true).duration_ms != 0;
  };
  for (uint64_t i = 1; i <= 8; ++i)
    EXPECT_TRUE(share(kAnna, i));
  EXPECT_FALSE(table.greediest());
  for (uint64_t i = 1; i <= 24; ++i)
    EXPECT_TRUE(share(kBert, i));
  EXPECT_FALSE(share(kBert, 25));
  EXPECT_FALSE(share(kCora, 1));
  EXPECT_TRUE(share(kAnna, 1));  // has it
  std::optional<LeaseTable::Asked> asked = table.greediest();
  ASSERT_TRUE(asked);
  EXPECT_EQ(asked->session, kBert);
  EXPECT_EQ(asked->recall.kind, RecallKind::kGiveBack);
  EXPECT_EQ(asked->recall.count, 4u);
  std::optional<LeaseTable::Asked> next = table.greediest();  // Bert has been asked
  ASSERT_TRUE(next);
  EXPECT_EQ(next->session, kAnna);
  EXPECT_FALSE(table.greediest());
  table.give_back(kBert, {InodeId{1}, InodeId{2}, InodeId{3}, InodeId{4}, InodeId{999}});
  EXPECT_TRUE(table.answered(kBert, {.sequence = asked->recall.sequence}).known);
  EXPECT_EQ(table.shared_of(kBert), 20u);
  EXPECT_FALSE(table.greediest());
  EXPECT_TRUE(share(kCora, 1));
}

TEST(LeaseTableBounds, OneSessionHasABoundOfItsOwn) {
  LeaseTable table({.session_max = 4});
  table.begin_term(1);
  for (uint64_t i = 1; i <= 4; ++i)
    EXPECT_NE(table.make_exclusive_new(kAnna, InodeId{i}).duration_ms, 0u);
  EXPECT_EQ(table.make_exclusive_new(kAnna, InodeId{5}).duration_ms, 0u);
  std::vector<HeldLease> claims;
  for (uint64_t i = 10; i < 30; ++i)
    claims.push_back({InodeId{i}, false});
  EXPECT_EQ(table.reclaim(kAnna, claims).code(), ErrorCode::kConflict);
}

TEST_F(LeaseTableTest, WhatIsHeldExclusivelyIsNotGivenBackWithTheShared) {
  ASSERT_TRUE(take(kAnna, kFile));
  share(kAnna, kDir);
  table_.give_back(kAnna, {kFile, kDir});
  table_.give_back(kBert, {kFile});
  EXPECT_EQ(table_.writer(kFile), kAnna);
  EXPECT_FALSE(table_.holds(kAnna, kDir));
}

TEST_F(LeaseTableTest, PendingRecallsAreToldInPages) {
  share(kBert, kDir);
  ChangeId change = table_.begin_change(kAnna, {name("x"), name("y"), name("z")});
  EXPECT_EQ(table_.recalls_for(change).size(), 3u);
  std::vector<Recall> page = table_.pending_of(kBert, 0, 2);
  ASSERT_EQ(page.size(), 2u);
  std::vector<Recall> rest = table_.pending_of(kBert, page.back().sequence, 2);
  ASSERT_EQ(rest.size(), 1u);
  EXPECT_EQ(rest[0].name, "z");
}

TEST_F(LeaseTableTest, BrokenLocksAreToldAndChangeNoLease) {
  ASSERT_TRUE(take(kAnna, kFile));
  ASSERT_TRUE(share(kBert, kOther));
  LeaseTable::Asked anna = table_.locks_broken(kAnna, kFile);
  LeaseTable::Asked bert = table_.locks_broken(kBert, kOther);
  EXPECT_EQ(anna.recall.kind, RecallKind::kLocksBroken);
  EXPECT_EQ(table_.oldest_pending(kAnna, kFile), anna.recall.sequence);
  EXPECT_EQ(table_.oldest_pending(kAnna, kOther), 0u);
  EXPECT_TRUE(table_.answered(kAnna, {.sequence = anna.recall.sequence, .returned = true}).known);
  EXPECT_TRUE(table_.answered(kBert, {.sequence = bert.recall.sequence, .returned = true}).known);
  EXPECT_EQ(table_.writer(kFile), kAnna);
  EXPECT_TRUE(table_.holds(kBert, kOther));
  EXPECT_FALSE(table_.answered(kAnna, {.sequence = anna.recall.sequence}).known);
}

TEST_F(LeaseTableTest, ChangesUnderWayAreListed) {
  share(kBert, kDir);
  ChangeId change = table_.begin_change(kAnna, {name("x"), object(kFile, RecallKind::kAttributes)});
  (void)table_.recalls_for(change);
  std::vector<LeaseTable::Changing> all = table_.changing(kDir);
  ASSERT_EQ(all.size(), 1u);
  EXPECT_EQ(all[0], (LeaseTable::Changing{.by = kAnna, .touched = name("x"), .pending = 1}));
  EXPECT_EQ(table_.changing(kFile).size(), 1u);
  table_.end_change(change);
  EXPECT_TRUE(table_.changing(kDir).empty());
}

}  // namespace
}  // namespace cairn
