// A chunk and its writer: grants, commits, raises, sealing (docs/consistency.md, "Versions").
#include "common/base/units.h"
#include "tests/unit/master/namespace/chunk_fixture.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using Grant = ChunkTest;
using Commit = ChunkTest;
using Raise = ChunkTest;
using Seal = ChunkTest;

TEST_F(Grant, NamesTheChainWithAddresses) {
  const ChunkGrant g = grant({3, 1, 2});
  EXPECT_EQ(g.version, 1u);
  EXPECT_EQ(g.min_copies, 2);
  EXPECT_THAT(g.replicas, ElementsAre(ReplicaAddress{ServerId{3}, "host3:1"}, ReplicaAddress{ServerId{1}, "host1:1"},
                                      ReplicaAddress{ServerId{2}, "host2:1"}));
  EXPECT_EQ(chunk(g.chunk).refs, 0u);
  EXPECT_EQ(machine().counters().granted, 1u);
  EXPECT_EQ(machine().counters().chunks, 0u);
}

TEST_F(Grant, IdsAreNeverUsedAgain) {
  const ChunkGrant a = grant();
  ASSERT_TRUE(mutate(ReturnChunksOp{{a.chunk}}));
  EXPECT_GT(grant().chunk.value, a.chunk.value);
}

TEST_F(Grant, BelowMinCopiesFails) {
  EXPECT_ERROR(mutate(GrantChunksOp{.placements = {servers({1})}}), ErrorCode::kTooFewReplicas);
  EXPECT_TRUE(mutate(GrantChunksOp{.placements = {servers({1, 2})}}));
  EXPECT_TRUE(mutate(GrantChunksOp{.goal = 1, .placements = {servers({1})}}));
}

TEST_F(Grant, WrongServersFailAndGrantNothing) {
  EXPECT_ERROR(mutate(GrantChunksOp{.placements = {servers({1, 2}), servers({1, 1})}}), ErrorCode::kInvalid);
  EXPECT_ERROR(mutate(GrantChunksOp{.placements = {servers({1, 2}), servers({1, 9})}}), ErrorCode::kNotFound);
  EXPECT_ERROR(mutate(GrantChunksOp{}), ErrorCode::kInvalid);
  EXPECT_EQ(machine().counters().granted, 0u);
  EXPECT_THAT(*machine().chunks(ChunkId{}, 10), IsEmpty());
}

TEST_F(Grant, ReturnedOnlyIfUnusedAndOnes) {
  const SessionId other = leader.open_session();
  const ChunkGrant unused = grant(), used = grant();
  ASSERT_TRUE(commit(file(kRootInode, "f"), 0, used));
  ASSERT_TRUE(leader.mutate(other, ReturnChunksOp{{unused.chunk}}));
  EXPECT_EQ(machine().counters().granted, 1u);
  ASSERT_TRUE(mutate(ReturnChunksOp{{unused.chunk, used.chunk, ChunkId{999}}}));
  EXPECT_EQ(machine().counters().granted, 0u);
  EXPECT_EQ(machine().counters().chunks, 1u);
}

TEST_F(Commit, AttachesAndMovesSizeAndTimes) {
  const InodeId f = file(kRootInode, "f");
  const Attributes before = attributes(f);
  const ChunkGrant g = grant();
  const Attributes after =
      mutate(
          CommitOp{.inode = f,
                   .size_at_least = 5000,
                   .mtime = 1234,
                   .chunks = {{.index = 0, .chunk = g.chunk, .version = 1, .allocated_bytes = 8192, .length = 5000}}})
          ->attributes;
  EXPECT_EQ(after.size, 5000u);
  EXPECT_EQ(after.mtime, 1234);
  EXPECT_EQ(after.allocated_bytes, 8192u);
  EXPECT_GT(after.data_change, before.data_change);
  EXPECT_GT(after.ctime, before.ctime);
  EXPECT_EQ(chunk(g.chunk).owner, f);
  EXPECT_EQ(chunk(g.chunk).length, 5000u);
  EXPECT_EQ(machine().counters().healthy, 1u);
  EXPECT_EQ(machine().counters().open, 1u);
  EXPECT_EQ(machine().counters().granted, 0u);
}

TEST_F(Commit, NeverShrinks) {
  const InodeId f = file(kRootInode, "f");
  ASSERT_TRUE(mutate(CommitOp{.inode = f, .size_at_least = 5000}));
  EXPECT_EQ(mutate(CommitOp{.inode = f, .size_at_least = 100})->attributes.size, 5000u);
}

TEST_F(Commit, RecountsAllocatedBytes) {
  const InodeId f = file(kRootInode, "f");
  const ChunkGrant g = grant();
  ASSERT_TRUE(commit(f, 0, g, 8192));
  ASSERT_TRUE(commit(f, 0, g, 4096));
  EXPECT_EQ(attributes(f).allocated_bytes, 4096u);
  EXPECT_EQ(machine().counters().allocated_bytes, 4096u);
}

TEST_F(Commit, ClearsSetIdBits) {
  const InodeId f = create(kRootInode, "f", FileType::kRegular, 06755)->attributes.inode;
  EXPECT_EQ(mutate(CommitOp{.inode = f, .size_at_least = 1, .clear_set_id = true})->attributes.mode, 0755u);
}

TEST_F(Commit, OfAnotherSessionsChunkIsStale) {
  const InodeId f = file(kRootInode, "f");
  const ChunkGrant g = grant();
  const SessionId other = leader.open_session();
  EXPECT_ERROR(
      leader.mutate(other, CommitOp{.inode = f, .size_at_least = 1, .chunks = {{.chunk = g.chunk, .version = 1}}}),
      ErrorCode::kStale);
}

TEST_F(Commit, OfAnotherVersionFails) {
  const InodeId f = file(kRootInode, "f");
  ChunkGrant g = grant();
  g.version = 2;
  EXPECT_ERROR(commit(f, 0, g), ErrorCode::kNewVersion);
  const uint64_t version = begin(raise(g.chunk, {1, 2}));
  ASSERT_TRUE(leader.tell(FinishRaise{.chunk = g.chunk, .version = version, .replicas = specs({1, 2})}));
  g.version = 1;
  EXPECT_ERROR(commit(f, 0, g), ErrorCode::kOldVersion);
  g.version = version;
  EXPECT_TRUE(commit(f, 0, g));
}

TEST_F(Commit, WriterIsCutOffWhenItsChunkIsBeingRecovered) {
  const InodeId f = file(kRootInode, "f");
  const ChunkGrant g = grant();
  ASSERT_TRUE(commit(f, 0, g));
  // Its own raise does not cut it off: what it has synced is on all survivors.
  begin(raise(g.chunk, {1, 2}));
  EXPECT_TRUE(commit(f, 0, g));
  BeginRaise recovery = raise(g.chunk, {1, 2, 3});
  recovery.session = SessionId{};
  begin(recovery);
  EXPECT_ERROR(commit(f, 0, g), ErrorCode::kOldVersion);
}

TEST_F(Commit, FailingChangesNothing) {
  const InodeId f = file(kRootInode, "f");
  const ChunkGrant a = grant(), b = grant();
  const Attributes before = attributes(f);
  EXPECT_ERROR(mutate(CommitOp{.inode = f,
                               .size_at_least = 2 * kChunkSizeBytes,
                               .chunks = {{.index = 0, .chunk = a.chunk, .version = 1},
                                          {.index = 1, .chunk = b.chunk, .version = 7}}}),
               ErrorCode::kNewVersion);
  EXPECT_EQ(attributes(f), before);
  EXPECT_EQ(machine().counters().granted, 2u);
  EXPECT_THAT(*machine().layout(f, 0, 2, ReadMode::kMayBlock), IsEmpty());
}

TEST_F(Commit, ToAnOrphanIsFineToARemovedInodeStale) {
  const InodeId f = file(kRootInode, "f");
  ASSERT_TRUE(unlink(kRootInode, "f", {session}));
  EXPECT_TRUE(commit(f, 0, grant()));
  ASSERT_TRUE(mutate(ReleaseOrphansOp{{f}}));
  EXPECT_EQ(machine().counters().chunks, 0u);
  EXPECT_ERROR(commit(f, 0, grant()), ErrorCode::kStale);
}

TEST_F(Commit, WhereAnotherChunkIsFails) {
  const InodeId f = file(kRootInode, "f");
  ASSERT_TRUE(commit(f, 0, grant()));
  EXPECT_ERROR(commit(f, 0, grant()), ErrorCode::kConflict);
}

TEST_F(Commit, OneChunkTwiceFails) {
  const ChunkGrant g = grant();
  ASSERT_TRUE(commit(file(kRootInode, "f"), 0, g));
  EXPECT_ERROR(commit(file(kRootInode, "g"), 0, g), ErrorCode::kStale);
}

TEST_F(Commit, OfAChunkCutOffByATruncateIsStale) {
  const InodeId f = file(kRootInode, "f");
  const ChunkGrant g = grant();
  ASSERT_TRUE(commit(f, 0, g));
  ASSERT_TRUE(resize(f, 0));
  EXPECT_ERROR(commit(f, 0, g), ErrorCode::kStale);
}

TEST_F(Commit, BeyondTheEndIsRefused) {
  const ChunkGrant g = grant();
  EXPECT_ERROR(mutate(CommitOp{.inode = file(kRootInode, "f"),
                               .size_at_least = 1,
                               .chunks = {{.index = 1, .chunk = g.chunk, .version = 1}}}),
               ErrorCode::kInvalid);
}

TEST_F(Commit, CanSeal) {
  const InodeId f = file(kRootInode, "f");
  const ChunkGrant g = grant();
  ASSERT_TRUE(mutate(
      CommitOp{.inode = f,
               .size_at_least = 10,
               .chunks = {{.chunk = g.chunk, .version = 1, .allocated_bytes = 4096, .length = 10, .seal = true}}}));
  EXPECT_EQ(chunk(g.chunk).state, ChunkState::kSealed);
  EXPECT_EQ(chunk(g.chunk).length, 10u);
  EXPECT_EQ(machine().counters().open, 0u);
  EXPECT_THAT(*machine().open_chunks(session, ChunkId{}, 10), IsEmpty());
}

TEST_F(Commit, ThatOnlySealsIsNoChangeOfTheFile) {
  const InodeId f = file(kRootInode, "f");
  const ChunkGrant g = grant();
  CommitOp op{.inode = f,
              .size_at_least = 10,
              .chunks = {{.chunk = g.chunk, .version = 1, .allocated_bytes = 4096, .length = 10}}};
  ASSERT_TRUE(mutate(op));
  const Attributes before = attributes(f);
  op.size_at_least.reset();
  op.chunks[0].seal = true;
  EXPECT_EQ(mutate(op)->attributes, before);
  EXPECT_EQ(attributes(f), before);
  EXPECT_EQ(chunk(g.chunk).state, ChunkState::kSealed);
}

TEST_F(Commit, DoesNotSealWhileSomebodyJoins) {
  const InodeId f = file(kRootInode, "f");
  const ChunkGrant g = grant({1, 2});
  ASSERT_TRUE(commit(f, 0, g));
  const uint64_t version = begin(raise(g.chunk, {1, 2}, {3}));
  std::vector<ReplicaSpec> replicas = specs({1, 2, 3});
  replicas[2].state = ReplicaState::kJoining;
  ASSERT_TRUE(leader.tell(FinishRaise{.chunk = g.chunk, .version = version, .replicas = replicas}));
  ASSERT_TRUE(mutate(
      CommitOp{.inode = f, .chunks = {{.chunk = g.chunk, .version = version, .allocated_bytes = 4096, .seal = true}}}));
  EXPECT_EQ(chunk(g.chunk).state, ChunkState::kOpen);
  EXPECT_ERROR(leader.tell(SealChunk{.chunk = g.chunk, .version = version}), ErrorCode::kConflict);
  ASSERT_TRUE(leader.tell(MarkReplica{.chunk = g.chunk, .expected_version = version, .server = ServerId{3}}));
  EXPECT_TRUE(leader.tell(SealChunk{.chunk = g.chunk, .version = version, .length = 1}));
}

TEST_F(Raise, DropsAReplicaThatFailed) {
  const ChunkGrant g = grant();
  ASSERT_TRUE(commit(file(kRootInode, "f"), 0, g));
  const uint64_t version = begin(raise(g.chunk, {1, 3}));
  EXPECT_EQ(version, 2u);
  EXPECT_EQ(chunk(g.chunk).version, 1u);
  EXPECT_THAT(*machine().chunks_to_repair(ChunkId{}, 10), SizeIs(1));
  ASSERT_TRUE(leader.tell(FinishRaise{.chunk = g.chunk, .version = 2, .replicas = specs({1, 3})}));
  const ChunkRecord after = chunk(g.chunk);
  EXPECT_EQ(after.version, 2u);
  EXPECT_EQ(after.state, ChunkState::kOpen);
  EXPECT_EQ(after.session, session);
  EXPECT_FALSE(after.pending);
  EXPECT_EQ(after.replica_on(ServerId{2}), nullptr);
  EXPECT_EQ(machine().counters().under_goal, 1u);
  EXPECT_THAT(*machine().chunks_on(ServerId{2}, ChunkId{}, 10), IsEmpty());
  leader.pass(kGraceMs);
  EXPECT_THAT(garbage_of(2), ElementsAre(g.chunk));
  EXPECT_THAT(garbage_of(1), IsEmpty());
}

TEST_F(Raise, OpensASealedChunkForAnotherSession) {
  const ChunkId id = sealed();
  const SessionId other = leader.open_session();
  BeginRaise open = raise(id, {1, 2, 3});
  open.session = other;
  const uint64_t version = begin(open);
  ASSERT_TRUE(leader.tell(FinishRaise{.chunk = id, .version = version, .replicas = specs({1, 2, 3})}));
  EXPECT_EQ(chunk(id).session, other);
  EXPECT_EQ(chunk(id).state, ChunkState::kOpen);
  EXPECT_THAT(*machine().open_chunks(other, ChunkId{}, 10), SizeIs(1));
}

TEST_F(Raise, ChunkOpenForAnotherIsBusy) {
  const ChunkGrant g = grant();
  ASSERT_TRUE(commit(file(kRootInode, "f"), 0, g));
  BeginRaise theirs = raise(g.chunk, {1, 2, 3});
  theirs.session = leader.open_session();
  EXPECT_ERROR(leader.ask<RaiseBegun>(theirs), ErrorCode::kBusy);
}

TEST_F(Raise, ComparesBeforeItSwaps) {
  const ChunkId id = sealed();
  BeginRaise wrong = raise(id, {1, 2, 3});
  wrong.expected_version = 9;
  EXPECT_ERROR(leader.ask<RaiseBegun>(wrong), ErrorCode::kConflict);
  wrong = raise(id, {1, 2, 3});
  wrong.expected_state = ChunkState::kOpen;
  EXPECT_ERROR(leader.ask<RaiseBegun>(wrong), ErrorCode::kConflict);
  const BeginRaise first = raise(id, {1, 2, 3});
  begin(first);
  EXPECT_ERROR(leader.ask<RaiseBegun>(first), ErrorCode::kConflict);
  EXPECT_ERROR(leader.tell(FinishRaise{.chunk = id, .version = 9, .replicas = specs({1, 2})}), ErrorCode::kConflict);
  EXPECT_ERROR(leader.ask<RaiseBegun>(BeginRaise{.chunk = ChunkId{999}}), ErrorCode::kNotFound);
}

TEST_F(Raise, VersionsOfAbandonedRaisesAreNotUsedAgain) {
  const ChunkId id = sealed();
  EXPECT_EQ(begin(raise(id, {1, 2}, {4})), 2u);
  ASSERT_TRUE(leader.tell(AbandonRaise{id, 2}));
  EXPECT_FALSE(chunk(id).pending);
  EXPECT_EQ(begin(raise(id, {1, 2, 3})), 3u);
  EXPECT_ERROR(leader.tell(AbandonRaise{id, 2}), ErrorCode::kConflict);
  EXPECT_EQ(begin(raise(id, {1, 2})), 4u);  // replaces the one that is pending
  leader.pass(kGraceMs);
  ASSERT_TRUE(leader.tell(FinishRaise{.chunk = id, .version = 4, .replicas = specs({1, 2})}));
  EXPECT_THAT(garbage_of(4), ElementsAre(id));
}

TEST_F(Raise, NeverBelowMinCopiesForAWriter) {
  const ChunkId id = sealed();
  EXPECT_ERROR(leader.ask<RaiseBegun>(raise(id, {1})), ErrorCode::kTooFewReplicas);
  const uint64_t version = begin(raise(id, {1}, {4}));
  EXPECT_ERROR(leader.tell(FinishRaise{.chunk = id, .version = version, .replicas = specs({1})}),
               ErrorCode::kTooFewReplicas);
  std::vector<ReplicaSpec> replicas = specs({1, 4});
  replicas[1].state = ReplicaState::kJoining;
  EXPECT_TRUE(leader.tell(FinishRaise{.chunk = id, .version = version, .replicas = replicas}));
  EXPECT_EQ(machine().counters().one_copy, 1u);
}

TEST_F(Raise, NeedsACopyAmongTheSurvivors) {
  const ChunkId id = sealed();
  ASSERT_TRUE(leader.tell(MarkReplicas{.server = ServerId{1}, .state = ReplicaState::kBad, .chunks = {{id, 0}}}));
  EXPECT_ERROR(leader.ask<RaiseBegun>(raise(id, {1, 2})), ErrorCode::kInvalid);
  EXPECT_ERROR(leader.ask<RaiseBegun>(raise(id, {2, 4})), ErrorCode::kInvalid);
  EXPECT_ERROR(leader.ask<RaiseBegun>(raise(id, {}, {4, 5})), ErrorCode::kTooFewReplicas);
  EXPECT_ERROR(leader.ask<RaiseBegun>(raise(id, {2, 3}, {3})), ErrorCode::kInvalid);
  EXPECT_ERROR(leader.ask<RaiseBegun>(raise(id, {2, 2})), ErrorCode::kInvalid);
  EXPECT_ERROR(leader.ask<RaiseBegun>(raise(id, {2}, {9})), ErrorCode::kNotFound);
  // A bad replica may join again.
  EXPECT_TRUE(leader.ask<RaiseBegun>(raise(id, {2, 3}, {1})));
}

TEST_F(Raise, OnlyItsMembersFinishIt) {
  const ChunkId id = sealed();
  const uint64_t version = begin(raise(id, {1, 2}));
  EXPECT_ERROR(leader.tell(FinishRaise{.chunk = id, .version = version, .replicas = specs({1, 3})}),
               ErrorCode::kInvalid);
  EXPECT_ERROR(leader.tell(FinishRaise{.chunk = id, .version = version, .replicas = specs({1, 1})}),
               ErrorCode::kInvalid);
}

TEST_F(Raise, ForASessionThatHasEndedIsNotFinished) {
  const ChunkId id = sealed();
  const uint64_t version = begin(raise(id, {1, 2, 3}));
  ASSERT_TRUE(leader.tell(EndSession{session}));
  EXPECT_ERROR(leader.tell(FinishRaise{.chunk = id, .version = version, .replicas = specs({1, 2, 3})}),
               ErrorCode::kSessionEnded);
  BeginRaise recovery = raise(id, {1, 2, 3});
  recovery.session = SessionId{};
  const uint64_t next = begin(recovery);
  EXPECT_ERROR(leader.tell(FinishRaise{.chunk = id, .version = next, .replicas = specs({1, 2, 3})}),
               ErrorCode::kInvalid);
  EXPECT_TRUE(leader.tell(
      FinishRaise{.chunk = id, .version = next, .replicas = specs({1, 2, 3}), .seal = FinishRaise::Seal{4096, 4096}}));
  EXPECT_EQ(chunk(id).state, ChunkState::kSealed);
}

TEST_F(Seal, OnlyOnceAndOnlyWhenAttached) {
  const ChunkGrant g = grant();
  EXPECT_ERROR(leader.tell(SealChunk{.chunk = g.chunk, .version = 1}), ErrorCode::kConflict);
  ASSERT_TRUE(commit(file(kRootInode, "f"), 0, g));
  EXPECT_ERROR(leader.tell(SealChunk{.chunk = g.chunk, .version = 2}), ErrorCode::kConflict);
  EXPECT_TRUE(leader.tell(SealChunk{.chunk = g.chunk, .version = 1, .length = 9}));
  EXPECT_EQ(chunk(g.chunk).length, 9u);
  EXPECT_ERROR(leader.tell(SealChunk{.chunk = g.chunk, .version = 1}), ErrorCode::kConflict);
}

}  // namespace
}  // namespace cairn
