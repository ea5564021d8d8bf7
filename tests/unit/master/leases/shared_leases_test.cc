#include "master/leases/shared_leases.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

#include "common/base/random.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr SessionId kA{1}, kB{2}, kC{3};
constexpr InodeId kFile{10}, kOther{11};

// Lease time 1,000 ms; a waiter that has not asked for 2,000 ms has gone away.
class Leases : public ::testing::Test {
 protected:
  bool acquire(SessionId session, InodeId inode = kFile) {
    return table.acquire(session, inode, now).lease.has_value();
  }
  bool renew(SessionId session) { return table.renew(session, kFile, now).has_value(); }
  uint32_t share(SessionId session, InodeId inode = kFile) { return table.share(session, inode, now).duration_ms; }

  SharedLeases table;
  uint64_t now = 5000;
};

TEST_F(Leases, SharedIsGivenToAllAgainAndAgain) {
  EXPECT_EQ(share(kA), 1000u);
  EXPECT_EQ(share(kB), 1000u);
  EXPECT_EQ(share(kA), 1000u);
  EXPECT_EQ(table.size(), 2u);
}

TEST_F(Leases, SequencesRiseAndCarryTheTerm) {
  table.begin_term(7, 0);
  const Lease a = table.share(kA, kFile, now);
  const Lease b = *table.acquire(kA, kOther, now).lease;
  EXPECT_EQ(a.term, 7u);
  EXPECT_GT(b.sequence, a.sequence);
}

TEST_F(Leases, NothingIsSharedWhileAnotherWritesOrWaits) {
  ASSERT_TRUE(acquire(kA));
  EXPECT_EQ(share(kB), 0u);
  EXPECT_EQ(share(kA), 1000u);
  EXPECT_EQ(share(kB, kOther), 1000u);
  ASSERT_FALSE(acquire(kB));
  EXPECT_EQ(share(kA), 0u);
  now += 1000;
  EXPECT_EQ(share(kC), 0u);  // nobody holds it, but somebody waits
}

TEST_F(Leases, ExclusiveIsForOneAtATime) {
  ASSERT_TRUE(acquire(kA));
  EXPECT_EQ(table.holder(kFile, now), kA);
  const SharedLeases::Acquired refused = table.acquire(kB, kFile, now);
  EXPECT_FALSE(refused.lease);
  EXPECT_EQ(refused.try_again_ms, now + 1000);
  EXPECT_TRUE(acquire(kB, kOther));
  now += 1000;
  EXPECT_EQ(table.holder(kFile, now), std::nullopt);
  EXPECT_TRUE(acquire(kB));
  EXPECT_EQ(table.holder(kFile, now), kB);
}

TEST_F(Leases, RenewedWhileUsedUntilAnotherWaits) {
  ASSERT_TRUE(acquire(kA));
  for (int i = 0; i < 5; ++i) {
    now += 900;
    EXPECT_TRUE(renew(kA));
  }
  ASSERT_FALSE(acquire(kB));
  EXPECT_FALSE(renew(kA));
  EXPECT_EQ(table.holder(kFile, now), kA);  // until it gives it back, or its time is over
  EXPECT_TRUE(table.release(kA, kFile, now));
  EXPECT_TRUE(acquire(kB));
}

TEST_F(Leases, RenewingWhatRanOutAndNobodyTookIsFine) {
  ASSERT_TRUE(acquire(kA));
  now += 5000;
  EXPECT_TRUE(renew(kA));
  now += 5000;
  table.expire(now);
  EXPECT_TRUE(renew(kA));
  now += 1000;
  ASSERT_TRUE(acquire(kB));
  EXPECT_FALSE(renew(kA));
}

TEST_F(Leases, WaitersAreServedInTheirOrder) {
  ASSERT_TRUE(acquire(kA));
  ASSERT_FALSE(acquire(kB));
  ASSERT_FALSE(acquire(kC));
  ASSERT_FALSE(acquire(kB));  // asking again keeps the place
  table.release(kA, kFile, now);
  EXPECT_FALSE(acquire(kC));
  EXPECT_FALSE(acquire(kA));
  EXPECT_TRUE(acquire(kB));
  table.release(kB, kFile, now);
  EXPECT_FALSE(acquire(kA));
  EXPECT_TRUE(acquire(kC));
}

TEST_F(Leases, HolderThatAsksAgainQueuesBehindThoseWhoWait) {
  ASSERT_TRUE(acquire(kA));
  ASSERT_FALSE(acquire(kB));
  EXPECT_FALSE(acquire(kA));
  now += 1000;
  EXPECT_TRUE(acquire(kB));
}

TEST_F(Leases, SilentWaiterLosesItsPlace) {
  ASSERT_TRUE(acquire(kA));
  ASSERT_FALSE(acquire(kB));
  now += 2001;
  EXPECT_TRUE(acquire(kC));
}

TEST_F(Leases, WaiterThatGivesUpIsForgotten) {
  ASSERT_TRUE(acquire(kA));
  ASSERT_FALSE(acquire(kB));
  table.forget_waiter(kB, kFile);
  EXPECT_TRUE(renew(kA));
}

TEST_F(Leases, ReleasingWhatIsNotHeldDoesNothing) {
  ASSERT_TRUE(acquire(kA));
  EXPECT_FALSE(table.release(kB, kFile, now));
  EXPECT_EQ(table.holder(kFile, now), kA);
  EXPECT_FALSE(table.release(kA, kFile, now));
  EXPECT_EQ(table.size(), 0u);
}

TEST_F(Leases, NewTermGivesNoExclusiveLeaseBeforeTheOldOnesHaveRunOut) {
  ASSERT_TRUE(acquire(kA));
  table.begin_term(2, now);
  EXPECT_EQ(table.holder(kFile, now), std::nullopt);
  const SharedLeases::Acquired refused = table.acquire(kB, kFile, now);
  EXPECT_FALSE(refused.lease);
  EXPECT_EQ(refused.try_again_ms, now + 1000);
  EXPECT_FALSE(renew(kB));
  EXPECT_FALSE(renew(kA));
  now += 1000;
  EXPECT_TRUE(acquire(kB));
}

TEST_F(Leases, OpenFilesAreKnownByInodeAndBySession) {
  table.open(kB, kFile);
  table.open(kA, kFile);
  table.open(kA, kFile);
  table.open(kA, kOther);
  EXPECT_THAT(table.holders(kFile), ElementsAre(kA, kB));
  EXPECT_EQ(table.open_files(kA), 2u);
  table.close(kA, kFile);
  table.close(kC, kFile);
  EXPECT_THAT(table.holders(kFile), ElementsAre(kB));
  EXPECT_EQ(table.open_files(kA), 1u);
  table.reclaim(kA, {kFile, InodeId{99}});
  EXPECT_THAT(table.holders(kFile), ElementsAre(kA, kB));
  EXPECT_THAT(table.holders(kOther), ElementsAre(kA));  // opened here, while the list was on its way
  EXPECT_THAT(table.holders(InodeId{99}), ElementsAre(kA));
}

TEST_F(Leases, EndedSessionLeavesNothing) {
  ASSERT_TRUE(acquire(kA));
  table.open(kA, kFile);
  share(kA, kOther);
  ASSERT_FALSE(acquire(kB));
  EXPECT_TRUE(table.end_session(kA));
  EXPECT_THAT(table.holders(kFile), IsEmpty());
  EXPECT_TRUE(acquire(kB));
  EXPECT_FALSE(table.end_session(kB));
  EXPECT_EQ(table.size(), 0u);
}

TEST_F(Leases, EndedWaiterIsForgotten) {
  ASSERT_TRUE(acquire(kA));
  ASSERT_FALSE(acquire(kB));
  EXPECT_FALSE(table.end_session(kB));
  EXPECT_TRUE(renew(kA));
}

TEST_F(Leases, TableIsBoundedAndGetsFreeAgain) {
  table = SharedLeases({.leases_max = 10});
  for (uint64_t i = 1; i <= 10; ++i)
    EXPECT_EQ(share(kA, InodeId{i}), 1000u);
  EXPECT_EQ(share(kA, kOther), 0u);
  EXPECT_EQ(share(kA, InodeId{1}), 1000u);
  for (uint64_t i = 1; i <= 10; ++i)
    EXPECT_TRUE(acquire(kA, InodeId{i}));  // readers do not keep writers out
  EXPECT_FALSE(acquire(kA, kOther));
  now += 1001;
  table.expire(now);
  EXPECT_EQ(table.size(), 0u);
  EXPECT_EQ(share(kA, kOther), 1000u);
  EXPECT_TRUE(acquire(kA, kOther));
}

TEST_F(Leases, UnheldSinceTheFirstQuestionUntilSomebodyGetsIt) {
  EXPECT_EQ(table.unheld_since(kFile, now), now);
  const uint64_t asked = now;
  now += 5000;
  table.expire(now);
  EXPECT_EQ(table.unheld_since(kFile, now), asked);
  ASSERT_TRUE(acquire(kA));
  now += 500;
  EXPECT_EQ(table.unheld_since(kFile, now), now) << "somebody holds it";
  now += 600;
  table.expire(now);
  // It has run out, and is watched anew: what was before the lease does not count.
  EXPECT_EQ(table.unheld_since(kFile, now), now);
  const uint64_t again = now;
  now += 20'000;
  EXPECT_EQ(table.unheld_since(kFile, now), again);
  ASSERT_TRUE(renew(kB));  // a holder that this leader did not know of
  now += 1001;
  EXPECT_EQ(table.unheld_since(kFile, now), now);
}

TEST_F(Leases, WhatNobodyAsksAboutIsNotWatched) {
  const uint64_t asked = now;
  EXPECT_EQ(table.unheld_since(kFile, now), asked);
  now += 60'000;
  table.expire(now);
  EXPECT_EQ(table.unheld_since(kFile, now), now);
}

// Whatever happens in whatever order: never two holders at once, and nobody is refused for ever.
TEST_F(Leases, RandomRequestsNeverGiveTwoHolders) {
  std::unique_ptr<Random> random = make_seeded_random(3);
  std::map<SessionId, uint64_t> until;  // what each session believes
  uint64_t given = 0;
  for (int step = 0; step < 50'000; ++step) {
    now += random->below(400);
    const SessionId session{1 + random->below(4)};
    switch (random->below(4)) {
      case 0:
      case 1: {
        if (acquire(session)) until[session] = now + 1000, ++given;
        break;
      }
      case 2:
        if (until[session] > now && renew(session)) until[session] = now + 1000;
        break;
      case 3:
        if (random->chance(1, 3)) {
          table.release(session, kFile, now);
          until[session] = 0;
        }
        break;
    }
    int holders = 0;
    for (const auto& [who, end] : until)
      holders += end > now;
    ASSERT_LE(holders, 1) << "step " << step;
  }
  EXPECT_GT(given, 1000u);
}

}  // namespace
}  // namespace cairn
