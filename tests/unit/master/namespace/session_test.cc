// Sessions: exactly once, log time, what is left of one that has ended; the cluster's own record.
#include "tests/unit/master/namespace/machine_fixture.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using ExactlyOnce = MachineTest;
using SessionTime = MachineTest;
using SessionEnd = MachineTest;

SessionMutation numbered(SessionId session, uint64_t sequence, uint64_t first, MetaOp op) {
  return {.session = session, .sequence = sequence, .first_unacknowledged = first, .now = 5, .op = std::move(op)};
}

TEST_F(ExactlyOnce, RepeatAfterOthersGetsTheOldReply) {
  const SessionMutation first = numbered(session, 1, 1, CreateOp{.parent = kRootInode, .name = "a"});
  const MutationReply reply = *leader.ask<MutationReply>(first);
  ASSERT_TRUE(leader.ask<MutationReply>(numbered(session, 2, 1, UnlinkOp{.parent = kRootInode, .name = "a"})));
  MutationReply again = *leader.ask<MutationReply>(first);
  EXPECT_TRUE(std::exchange(again.repeated, false)) << "no lease may come with it";
  EXPECT_EQ(again, reply);
  EXPECT_FALSE(find(kRootInode, "a"));
}

TEST_F(ExactlyOnce, ErrorsAreKeptToo) {
  const SessionMutation unlink_none = numbered(session, 1, 1, UnlinkOp{.parent = kRootInode, .name = "a"});
  EXPECT_ERROR(leader.ask<MutationReply>(unlink_none), ErrorCode::kNotFound);
  ASSERT_TRUE(leader.ask<MutationReply>(numbered(session, 2, 1, CreateOp{.parent = kRootInode, .name = "a"})));
  EXPECT_ERROR(leader.ask<MutationReply>(unlink_none), ErrorCode::kNotFound);
  EXPECT_TRUE(find(kRootInode, "a"));
}

TEST_F(ExactlyOnce, OvertakenMutationIsStillApplied) {
  ASSERT_TRUE(leader.ask<MutationReply>(numbered(session, 2, 1, CreateOp{.parent = kRootInode, .name = "b"})));
  ASSERT_TRUE(leader.ask<MutationReply>(numbered(session, 1, 1, CreateOp{.parent = kRootInode, .name = "a"})));
  EXPECT_TRUE(find(kRootInode, "a"));
}

TEST_F(ExactlyOnce, AcknowledgedSequencesAreRefused) {
  const SessionMutation first = numbered(session, 1, 1, CreateOp{.parent = kRootInode, .name = "a"});
  ASSERT_TRUE(leader.ask<MutationReply>(first));
  ASSERT_TRUE(leader.ask<MutationReply>(numbered(session, 2, 2, CreateOp{.parent = kRootInode, .name = "b"})));
  EXPECT_ERROR(leader.ask<MutationReply>(first), ErrorCode::kBadMessage);
  EXPECT_ERROR(leader.ask<MutationReply>(numbered(session, 3, 4, CreateOp{.parent = kRootInode, .name = "c"})),
               ErrorCode::kBadMessage);
  EXPECT_ERROR(leader.ask<MutationReply>(numbered(session, 2 + 4096, 2, CreateOp{.parent = kRootInode, .name = "c"})),
               ErrorCode::kBadMessage);
}

TEST_F(ExactlyOnce, AcknowledgedRepliesAreForgotten) {
  for (uint64_t i = 1; i <= 20; ++i) {
    ASSERT_TRUE(
        leader.ask<MutationReply>(numbered(session, i, 1, CreateOp{.parent = kRootInode, .name = std::to_string(i)})));
  }
  ASSERT_TRUE(leader.ask<MutationReply>(numbered(session, 21, 20, CreateOp{.parent = kRootInode, .name = "last"})));
  std::vector<uint64_t> kept;
  const std::string prefix = keys::prefix(keys::Kind::kReply, session.value);
  auto it = leader.store().iterate();
  for (it->seek(prefix); it->valid() && it->key().starts_with(prefix); it->next())
    kept.push_back(keys::second_id(it->key()));
  EXPECT_THAT(kept, ElementsAre(20, 21));
}

TEST_F(ExactlyOnce, RepeatInTheSameEntry) {
  const SessionMutation m = numbered(session, 1, 1, CreateOp{.parent = kRootInode, .name = "a"});
  const std::vector<Reply> replies = leader.entry({m, m});
  ASSERT_TRUE(replies[0] && replies[1]);
  MutationReply again = std::get<MutationReply>(*replies[1]);
  EXPECT_TRUE(std::exchange(again.repeated, false));
  EXPECT_EQ(std::get<MutationReply>(*replies[0]), again);
  EXPECT_EQ(machine().counters().inodes, 2u);
}

TEST_F(ExactlyOnce, FailedCommandLeavesItsNeighboursAlone) {
  const std::vector<Reply> replies =
      leader.entry({numbered(session, 1, 1, CreateOp{.parent = kRootInode, .name = "a"}),
                    numbered(session, 2, 1, CreateOp{.parent = kRootInode, .name = "a"}), RemoveServer{ServerId{99}},
                    numbered(session, 3, 1, CreateOp{.parent = kRootInode, .name = "b"})});
  EXPECT_TRUE(replies[0]);
  EXPECT_FALSE(replies[1]);
  EXPECT_FALSE(replies[2]);
  EXPECT_TRUE(replies[3]);
  EXPECT_THAT(names(kRootInode), ElementsAre("a", "b"));
}

TEST_F(ExactlyOnce, ClocksFarAheadAreNotBelieved) {
  SessionMutation m = leader.mutation(session, CreateOp{.parent = kRootInode, .name = "a"});
  const FileTime right = m.now;
  m.now = INT64_MAX;
  const Attributes a = leader.ask<MutationReply>(m)->attributes;
  EXPECT_GT(a.mtime, right);
  EXPECT_LT(a.mtime, right + 11'000'000'000);
}

TEST_F(SessionTime, RunsOutInLogTime) {
  leader.tick(kSessionMs - 1);
  EXPECT_TRUE(machine().session(session));
  leader.pass(1);
  EXPECT_THAT(leader.ask<TickReply>(Tick{})->ended, ElementsAre(session));
  EXPECT_ERROR(machine().session(session), ErrorCode::kSessionEnded);
  EXPECT_ERROR(mutate(CreateOp{.parent = kRootInode, .name = "a"}), ErrorCode::kSessionEnded);
  EXPECT_THAT(leader.ask<RenewSessionsReply>(RenewSessions{{session}})->ended, ElementsAre(session));
  EXPECT_EQ(machine().counters().sessions, 0u);
}

TEST_F(SessionTime, RenewalGivesTheFullTimeAgain) {
  leader.pass(kSessionMs - 1);
  EXPECT_THAT(leader.ask<RenewSessionsReply>(RenewSessions{{session, SessionId{99}}})->ended,
              ElementsAre(SessionId{99}));
  leader.tick(kSessionMs - 1);
  EXPECT_TRUE(machine().session(session));
  leader.tick(1);
  EXPECT_FALSE(machine().session(session));
}

TEST_F(SessionTime, RenewalInTheSameEntryCounts) {
  leader.pass(kSessionMs);
  leader.entry({RenewSessions{{session}}, Tick{}});
  EXPECT_TRUE(machine().session(session));
}

TEST_F(SessionTime, NewLeaderGivesTheFullTimeAgain) {
  leader.pass(kSessionMs - 1);
  leader.next_term();
  leader.tick(0);
  leader.tick(kSessionMs - 1);
  EXPECT_TRUE(machine().session(session));
  leader.tick(1);
  EXPECT_FALSE(machine().session(session));
}

TEST_F(SessionTime, LogTimeNeverFalls) {
  leader.tick(5000);
  const uint64_t before = machine().log_time_ms();
  ASSERT_TRUE(machine().apply(LogEntry{.context = {.index = 1'000'000, .term = 2, .log_time_ms = 3}}));
  EXPECT_EQ(machine().log_time_ms(), before);
}

TEST_F(SessionEnd, TakesEverythingWithIt) {
  const InodeId orphan = file(kRootInode, "orphan");
  ASSERT_TRUE(commit(orphan, 0, grant()));
  ASSERT_TRUE(unlink(kRootInode, "orphan", {session}));
  for (int i = 0; i < 5; ++i)
    grant();
  ASSERT_TRUE(leader.tell(EndSession{session}));
  EXPECT_EQ(machine().counters().sessions, 0u);
  leader.settle();
  leader.tick();
  EXPECT_THAT(machine().sessions(), IsEmpty());
  EXPECT_EQ(machine().counters().granted, 0u);
  EXPECT_EQ(machine().counters().chunks, 0u);
  EXPECT_EQ(machine().counters().orphans, 0u);
  EXPECT_EQ(machine().counters().inodes, 1u);
  for (keys::Kind kind : {keys::Kind::kReply, keys::Kind::kSession, keys::Kind::kOpenChunk, keys::Kind::kOrphan,
                          keys::Kind::kSessionOrphan}) {
    auto it = leader.store().iterate();
    it->seek(keys::prefix(kind));
    EXPECT_FALSE(it->valid() && it->key().starts_with(keys::prefix(kind))) << static_cast<char>(kind);
  }
  EXPECT_TRUE(leader.tell(EndSession{session}));
}

TEST_F(SessionEnd, OrphanThatAnotherHoldsStays) {
  const SessionId other = leader.open_session();
  const InodeId f = file(kRootInode, "f");
  ASSERT_TRUE(unlink(kRootInode, "f", {session, other}));
  ASSERT_TRUE(leader.tell(EndSession{session}));
  leader.settle();
  EXPECT_THAT(*machine().orphan_holders(f, ReadMode::kMayBlock), ElementsAre(other));
  ASSERT_TRUE(leader.tell(CloseInodes{other, {f}}));
  EXPECT_ERROR(machine().get_attributes(f, ReadMode::kMayBlock), ErrorCode::kStale);
}

TEST_F(SessionEnd, ManyGrantsGoInSteps) {
  const std::vector<ServerId> chain = {ServerId{1}, ServerId{2}};
  for (int i = 0; i < 3; ++i)
    ASSERT_TRUE(mutate(GrantChunksOp{.placements = std::vector(1000, chain)}));
  ASSERT_TRUE(leader.tell(EndSession{session}));
  leader.tick(0);
  EXPECT_GT(machine().counters().granted, 1900u);
  leader.settle();
  EXPECT_EQ(machine().counters().granted, 0u);
  EXPECT_EQ(machine().counters().garbage, 6000u);
}

TEST(Cluster, IsMadeOnce) {
  Leader leader;
  EXPECT_ERROR(leader.ask<OpenSessionReply>(OpenSession{}), ErrorCode::kUnavailable);
  EXPECT_TRUE(leader.tell(Tick{}));
  EXPECT_FALSE(leader.machine().has_cluster());
  EXPECT_ERROR(leader.tell(MakeCluster{}), ErrorCode::kInvalid);
  EXPECT_ERROR(leader.tell(MakeCluster{.cluster = ClusterId{5}, .default_goal = 10}), ErrorCode::kInvalid);
  ASSERT_TRUE(leader.tell(MakeCluster{.cluster = ClusterId{5}, .root_mode = 01777}));
  EXPECT_EQ(leader.machine().cluster().cluster, ClusterId{5});
  EXPECT_ERROR(leader.tell(MakeCluster{.cluster = ClusterId{6}}), ErrorCode::kExists);
  const Attributes root = *leader.machine().get_attributes(kRootInode, ReadMode::kMayBlock);
  EXPECT_EQ(root.mode, 01777u);
  EXPECT_EQ(root.nlink, 2u);
  EXPECT_EQ(root.goal, 3);
  EXPECT_EQ(leader.ask<OpenSessionReply>(OpenSession{})->cluster, ClusterId{5});
}

TEST(Cluster, MinCopiesNeverAboveGoalOrExpectedServers) {
  auto min_copies = [](MakeCluster make) {
    Leader leader;
    leader.make_cluster(make);
    return leader.machine().cluster().default_min_copies;
  };
  EXPECT_EQ(min_copies({.expected_servers = 1}), 1);
  EXPECT_EQ(min_copies({.expected_servers = 2}), 2);
  EXPECT_EQ(min_copies({.default_goal = 1}), 1);
  EXPECT_EQ(min_copies({}), 2);
}

TEST(Cluster, KeepsTheKeyBefore) {
  Leader leader;
  leader.make_cluster();
  ASSERT_TRUE(leader.tell(RotateKeys{{.id = 1, .key = "a"}}));
  ASSERT_TRUE(leader.tell(RotateKeys{{.id = 2, .key = "b"}}));
  ASSERT_TRUE(leader.tell(RotateKeys{{.id = 5, .key = "c"}}));
  EXPECT_ERROR(leader.tell(RotateKeys{{.id = 5, .key = "d"}}), ErrorCode::kConflict);
  EXPECT_ERROR(leader.tell(RotateKeys{{.id = 6}}), ErrorCode::kInvalid);
  const std::vector<CapabilityKey> keys = leader.machine().cluster().keys;
  ASSERT_THAT(keys, SizeIs(2));
  EXPECT_EQ(keys[0].id, 5u);
  EXPECT_EQ(keys[1].key, "b");
}

}  // namespace
}  // namespace cairn
