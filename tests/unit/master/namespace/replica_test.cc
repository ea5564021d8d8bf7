// What becomes of replicas: repair, restarts, garbage, chunks whose writer has died (docs/consistency.md, "Versions").
#include "common/base/units.h"
#include "tests/unit/master/namespace/chunk_fixture.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

using Replicas = ChunkTest;
using Garbage = ChunkTest;
using Recovery = ChunkTest;

TEST_F(Replicas, RepairReplacesOne) {
  const ChunkId id = sealed();
  ASSERT_TRUE(leader.tell(SetReplicas{.chunk = id, .expected_version = 1, .replicas = specs({1, 2, 4})}));
  EXPECT_THAT(*machine().chunks_on(ServerId{4}, ChunkId{}, 10), SizeIs(1));
  EXPECT_THAT(*machine().chunks_on(ServerId{3}, ChunkId{}, 10), IsEmpty());
  EXPECT_EQ(machine().counters().healthy, 1u);
  leader.pass(kGraceMs);
  EXPECT_THAT(garbage_of(3), ElementsAre(id));
  // Back to where the same version waits to be deleted: not before that is settled.
  EXPECT_ERROR(leader.tell(SetReplicas{.chunk = id, .expected_version = 1, .replicas = specs({1, 2, 3})}),
               ErrorCode::kConflict);
  ASSERT_TRUE(leader.tell(RemoveGarbage{ServerId{3}, {id}}));
  EXPECT_TRUE(leader.tell(SetReplicas{.chunk = id, .expected_version = 1, .replicas = specs({1, 2, 3})}));
}

TEST_F(Replicas, NotForAnOpenChunkNorForAnotherVersion) {
  const ChunkGrant g = grant();
  ASSERT_TRUE(commit(file(kRootInode, "g"), 0, g));
  EXPECT_ERROR(leader.tell(SetReplicas{.chunk = g.chunk, .expected_version = 1, .replicas = specs({1, 2, 4})}),
               ErrorCode::kConflict);
  const ChunkId id = sealed();
  EXPECT_ERROR(leader.tell(SetReplicas{.chunk = id, .expected_version = 2, .replicas = specs({1, 2, 4})}),
               ErrorCode::kConflict);
  begin(raise(id, {1, 2}));
  EXPECT_ERROR(leader.tell(SetReplicas{.chunk = id, .expected_version = 1, .replicas = specs({1, 2, 4})}),
               ErrorCode::kConflict);
}

TEST_F(Replicas, NeverFewerCopiesThanTheGoalAsksFor) {
  const ChunkId id = sealed();
  EXPECT_ERROR(leader.tell(SetReplicas{.chunk = id, .expected_version = 1, .replicas = specs({1, 2})}),
               ErrorCode::kTooFewReplicas);
  EXPECT_ERROR(leader.tell(SetReplicas{.chunk = id, .expected_version = 1}), ErrorCode::kTooFewReplicas);
  ASSERT_TRUE(leader.tell(SetReplicas{.chunk = id, .expected_version = 1, .replicas = specs({1, 2, 3, 4})}));
  EXPECT_EQ(machine().counters().over_goal, 1u);
  EXPECT_TRUE(leader.tell(SetReplicas{.chunk = id, .expected_version = 1, .replicas = specs({2, 3, 4})}));
}

TEST_F(Replicas, BadOneIsMarkedAndHealed) {
  const ChunkId id = sealed();
  ASSERT_TRUE(leader.tell(
      MarkReplicas{.server = ServerId{2}, .state = ReplicaState::kBad, .chunks = {{id, 1}, {ChunkId{999}, 0}}}));
  EXPECT_EQ(machine().counters().under_goal, 1u);
  EXPECT_THAT(*machine().chunks_to_repair(ChunkId{}, 10), SizeIs(1));
  EXPECT_ERROR(leader.tell(MarkReplica{
                   .chunk = id, .expected_version = 1, .server = ServerId{2}, .expected = ReplicaState::kMissing}),
               ErrorCode::kConflict);
  ASSERT_TRUE(leader.tell(
      MarkReplica{.chunk = id, .expected_version = 1, .server = ServerId{2}, .expected = ReplicaState::kBad}));
  EXPECT_EQ(machine().counters().healthy, 1u);
  EXPECT_THAT(*machine().chunks_to_repair(ChunkId{}, 10), IsEmpty());
}

TEST_F(Replicas, ReportOfAnotherVersionIsSkipped) {
  const ChunkId id = sealed();
  ASSERT_TRUE(leader.tell(MarkReplicas{.server = ServerId{2}, .state = ReplicaState::kMissing, .chunks = {{id, 7}}}));
  EXPECT_EQ(machine().counters().healthy, 1u);
  EXPECT_ERROR(leader.tell(MarkReplicas{.server = ServerId{2}, .state = ReplicaState::kJoining, .chunks = {{id, 1}}}),
               ErrorCode::kInvalid);
}

TEST_F(Replicas, RebootMakesReplicasOfOpenChunksUnverified) {
  const ChunkGrant g = grant();
  ASSERT_TRUE(commit(file(kRootInode, "f"), 0, g));
  const ChunkId closed = sealed("g");
  auto verified = [&](ChunkId id, uint64_t server) {
    const ChunkRecord c = chunk(id);
    return replica_verified(c, *c.replica_on(ServerId{server}), *machine().server(ServerId{server}));
  };
  EXPECT_TRUE(verified(g.chunk, 1));
  const RegisterServerResult restarted = *leader.ask<RegisterServerResult>(Leader::registration(1, "boot", 2));
  EXPECT_TRUE(restarted.restarted && !restarted.rebooted && !restarted.is_new);
  EXPECT_TRUE(verified(g.chunk, 1));
  EXPECT_TRUE(leader.ask<RegisterServerResult>(Leader::registration(1, "boot2", 3))->rebooted);
  EXPECT_FALSE(verified(g.chunk, 1));
  EXPECT_TRUE(verified(g.chunk, 2));
  EXPECT_TRUE(verified(closed, 1));
  // An answer of the process before the reboot does not verify it; one of the present process does.
  const uint64_t version = begin(raise(g.chunk, {1, 2, 3}));
  std::vector<ReplicaSpec> replicas = specs({1, 2, 3});
  replicas[0].incarnation = 2;
  ASSERT_TRUE(leader.tell(FinishRaise{.chunk = g.chunk, .version = version, .replicas = replicas}));
  EXPECT_FALSE(verified(g.chunk, 1));
  ASSERT_TRUE(leader.tell(MarkReplica{.chunk = g.chunk,
                                      .expected_version = version,
                                      .server = ServerId{1},
                                      .expected = ReplicaState::kCurrent,
                                      .incarnation = 3}));
  EXPECT_TRUE(verified(g.chunk, 1));
}

TEST_F(Garbage, IsDueAfterTheGraceTime) {
  const ChunkId id = sealed();
  ASSERT_TRUE(unlink(kRootInode, "f"));
  EXPECT_EQ(machine().counters().garbage, 3u);
  leader.pass(kGraceMs - 1);
  EXPECT_THAT(garbage_of(1), IsEmpty());
  leader.pass(1);
  EXPECT_THAT(garbage_of(1), ElementsAre(id));
  ASSERT_TRUE(leader.tell(RemoveGarbage{ServerId{1}, {id}}));
  EXPECT_THAT(garbage_of(1), IsEmpty());
  EXPECT_THAT(garbage_of(2), ElementsAre(id));
  EXPECT_EQ(machine().counters().garbage, 2u);
}

// Removing a chunk looks for no garbage of its replicas: whoever becomes one has none left.
TEST_F(Garbage, OfAServerThatCameBackIsNotCountedTwice) {
  const ChunkId id = sealed();
  ASSERT_TRUE(leader.tell(SetReplicas{.chunk = id, .expected_version = 1, .replicas = specs({1, 2, 4})}));
  EXPECT_EQ(machine().counters().garbage, 1u);
  const uint64_t version = begin(raise(id, {1, 2, 4}, {3}));
  ASSERT_TRUE(leader.tell(FinishRaise{.chunk = id, .version = version, .replicas = specs({1, 2, 3, 4})}));
  EXPECT_EQ(machine().counters().garbage, 0u);
  ASSERT_TRUE(unlink(kRootInode, "f"));
  EXPECT_EQ(machine().counters().garbage, 4u);
  leader.pass(kGraceMs);
  for (uint64_t server : {1, 2, 3, 4}) {
    EXPECT_THAT(garbage_of(server), ElementsAre(id));
    ASSERT_TRUE(leader.tell(RemoveGarbage{ServerId{server}, {id}}));
  }
  EXPECT_EQ(machine().counters().garbage, 0u);
  EXPECT_EQ(machine().counters().work, 0u);
}

TEST_F(Garbage, ReportedChunksThatNoRecordNames) {
  const ChunkId id = sealed();
  const ChunkId unknown{id.value};
  ASSERT_TRUE(leader.tell(AddGarbage{.server = ServerId{4}, .chunks = {{unknown, 1}, {ChunkId{9999}, 1}}}));
  ASSERT_TRUE(leader.tell(AddGarbage{.server = ServerId{1}, .chunks = {{id, 1}}}));
  EXPECT_EQ(machine().counters().garbage, 1u);
  // Said again it does not wait longer.
  leader.pass(kGraceMs);
  ASSERT_TRUE(leader.tell(AddGarbage{.server = ServerId{4}, .chunks = {{unknown, 1}}}));
  EXPECT_THAT(garbage_of(4), ElementsAre(id));
  EXPECT_ERROR(leader.tell(AddGarbage{.server = ServerId{77}}), ErrorCode::kNotFound);
}

TEST_F(Garbage, IsKeptWhileTheChunkHasTooFewCopies) {
  const ChunkId id = sealed();
  ASSERT_TRUE(leader.tell(AddGarbage{.server = ServerId{4}, .chunks = {{id, 1}}}));
  leader.pass(kGraceMs);
  EXPECT_THAT(garbage_of(4), ElementsAre(id));
  ASSERT_TRUE(leader.tell(MarkReplicas{.server = ServerId{1}, .chunks = {{id, 1}}}));
  ASSERT_TRUE(leader.tell(MarkReplicas{.server = ServerId{2}, .chunks = {{id, 1}}}));
  EXPECT_THAT(garbage_of(4), IsEmpty());
}

TEST_F(Garbage, ServerIsForgottenOnlyWhenItIsEmpty) {
  const ChunkId id = sealed();
  EXPECT_ERROR(leader.tell(RemoveServer{ServerId{1}}), ErrorCode::kNotEmpty);
  ASSERT_TRUE(leader.tell(SetReplicas{.chunk = id, .expected_version = 1, .replicas = specs({4, 2, 3})}));
  EXPECT_TRUE(leader.tell(RemoveServer{ServerId{1}}));
  leader.settle();
  EXPECT_EQ(machine().counters().garbage, 0u);
  EXPECT_EQ(machine().counters().servers, 4u);
  EXPECT_ERROR(machine().server(ServerId{1}), ErrorCode::kNotFound);
  EXPECT_ERROR(leader.tell(RemoveServer{ServerId{1}}), ErrorCode::kNotFound);
}

TEST_F(Garbage, DroppedServerLeavesTheRecordsOfItsChunks) {
  const ChunkId id = sealed();
  const ChunkGrant open = grant();
  ASSERT_TRUE(commit(file(kRootInode, "open"), 0, open));
  const uint64_t servers = machine().counters().servers;
  ASSERT_THAT(*machine().chunks_on(ServerId{1}, ChunkId{}, 10), SizeIs(2));
  ASSERT_TRUE(leader.tell(AddGarbage{.server = ServerId{1}, .chunks = {{ChunkId{1'000'000}, 1}}}));
  EXPECT_TRUE(leader.tell(DropServer{ServerId{1}}));
  EXPECT_ERROR(machine().server(ServerId{1}), ErrorCode::kNotFound);
  leader.settle();
  EXPECT_EQ(machine().counters().servers, servers - 1);
  EXPECT_EQ(machine().counters().garbage, 0u) << "there is nobody to be told";
  EXPECT_THAT(*machine().chunks_on(ServerId{1}, ChunkId{}, 10), IsEmpty());
  EXPECT_EQ(chunk(id).replicas.size(), 2u);
  EXPECT_EQ(chunk(open.chunk).replicas.size(), 2u);
  // They are under their goal now, so repair finds them; removing a file with such a chunk goes on as ever.
  EXPECT_THAT(*machine().chunks_to_repair(ChunkId{}, 10), SizeIs(2));
  EXPECT_ERROR(leader.tell(DropServer{ServerId{1}}), ErrorCode::kNotFound);
}

TEST_F(Garbage, ChunkWhoseOnlyServerIsDroppedIsLostAndCanBeRemoved) {
  const ChunkId id = sealed();
  for (uint64_t server : {1, 2, 3})
    ASSERT_TRUE(leader.tell(DropServer{ServerId{server}}));
  leader.settle();
  EXPECT_THAT(chunk(id).replicas, IsEmpty());
  EXPECT_EQ(machine().counters().lost, 1u);
  // A server that comes back as it was is registered anew, and its report is garbage that is kept: the last copy.
  leader.add_servers({1});
  ASSERT_TRUE(leader.tell(AddGarbage{.server = ServerId{1}, .chunks = {{id, 1}}}));
  leader.pass(kGraceMs);
  EXPECT_THAT(garbage_of(1), IsEmpty());
  const uint64_t before = machine().counters().chunks;
  ASSERT_TRUE(unlink(kRootInode, "f"));
  leader.settle();
  EXPECT_EQ(machine().counters().chunks, before - 1);
  EXPECT_EQ(machine().counters().lost, 0u);
}

TEST_F(Garbage, DroppedServerThatRegistersAtOnceKeepsItsReplicas) {
  const ChunkId id = sealed();
  ASSERT_TRUE(leader.tell(DropServer{ServerId{1}}));
  leader.add_servers({1});
  leader.settle();
  EXPECT_EQ(chunk(id).replicas.size(), 3u);
}

TEST_F(Recovery, ChunksOfADeadWriterWaitForIt) {
  const ChunkGrant written = grant(), unused = grant();
  const InodeId f = file(kRootInode, "f");
  ASSERT_TRUE(commit(f, 0, written));
  leader.tick(kSessionMs);
  EXPECT_ERROR(machine().session(session), ErrorCode::kSessionEnded);
  const std::vector<ChunkEntry> waiting = *machine().chunks_to_recover(10);
  ASSERT_THAT(waiting, SizeIs(1));
  EXPECT_EQ(waiting[0].id, written.chunk);
  EXPECT_EQ(machine().counters().granted, 0u);
  EXPECT_ERROR(machine().chunk(unused.chunk, ReadMode::kMayBlock), ErrorCode::kNotFound);
  // Nobody else gets it before.
  BeginRaise theirs = raise(written.chunk, {1, 2, 3});
  theirs.session = leader.open_session();
  EXPECT_ERROR(leader.ask<RaiseBegun>(theirs), ErrorCode::kBusy);

  BeginRaise recovery = raise(written.chunk, {2});
  recovery.session = SessionId{};
  const uint64_t version = begin(recovery);
  ASSERT_TRUE(leader.tell(FinishRaise{
      .chunk = written.chunk, .version = version, .replicas = specs({2}), .seal = FinishRaise::Seal{10, 4096}}));
  EXPECT_THAT(*machine().chunks_to_recover(10), IsEmpty());
  EXPECT_EQ(chunk(written.chunk).length, 10u);
  // The last trace of the session goes with the next tick.
  leader.tick();
  EXPECT_THAT(machine().sessions(), SizeIs(1));
  theirs = raise(written.chunk, {2}, {4});
  theirs.session = machine().sessions()[0].id;
  EXPECT_TRUE(leader.ask<RaiseBegun>(theirs));
}

TEST_F(Recovery, BytesThatAWriterNeverCommittedStayHiddenWhetherItsSessionLivesOrNot) {
  const ChunkGrant g = grant();
  const InodeId f = file(kRootInode, "f");
  ASSERT_TRUE(mutate(CommitOp{.inode = f,
                              .size_at_least = 100,
                              .chunks = {{.chunk = g.chunk, .version = 1, .allocated_bytes = 8192, .length = 100}}}));
  auto recover = [&](ChunkId id, uint32_t length) {
    BeginRaise recovery = raise(id, {1, 2, 3});
    recovery.session = SessionId{};
    const uint64_t version = begin(recovery);
    ASSERT_TRUE(leader.tell(FinishRaise{
        .chunk = id, .version = version, .replicas = specs({1, 2, 3}), .seal = FinishRaise::Seal{length, 8192}}));
  };
  // The writer has lost its lease to another session, and its own lives: it cannot commit what it wrote.
  recover(g.chunk, 5000);
  EXPECT_EQ(machine().layout(f, 0, 1, ReadMode::kMayBlock)->at(0).limit, 100u);
  CommitOp late{.inode = f, .size_at_least = 5000, .chunks = {{.chunk = g.chunk, .version = 1, .length = 5000}}};
  EXPECT_ERROR(mutate(late), ErrorCode::kOldVersion);

  const ChunkGrant h = grant();
  const InodeId other = file(kRootInode, "g");
  ASSERT_TRUE(mutate(CommitOp{.inode = other,
                              .size_at_least = 100,
                              .chunks = {{.chunk = h.chunk, .version = 1, .allocated_bytes = 8192, .length = 100}}}));
  ASSERT_TRUE(leader.tell(EndSession{session}));
  recover(h.chunk, 5000);
  EXPECT_EQ(machine().layout(other, 0, 1, ReadMode::kMayBlock)->at(0).limit, 100u);
  EXPECT_EQ(attributes(other).allocated_bytes, 4096u);
}

TEST_F(Recovery, NothingIsHiddenOfAFileThatWasCommittedWhole) {
  const ChunkGrant g = grant();
  const InodeId f = file(kRootInode, "f");
  ASSERT_TRUE(commit(f, 0, g, 4096));
  ASSERT_TRUE(leader.tell(EndSession{session}));
  BeginRaise recovery = raise(g.chunk, {1, 2, 3});
  recovery.session = SessionId{};
  const uint64_t version = begin(recovery);
  ASSERT_TRUE(leader.tell(FinishRaise{
      .chunk = g.chunk, .version = version, .replicas = specs({1, 2, 3}), .seal = FinishRaise::Seal{4096, 4096}}));
  EXPECT_EQ(machine().layout(f, 0, 1, ReadMode::kMayBlock)->at(0).limit, UINT32_MAX);
}

}  // namespace
}  // namespace cairn
