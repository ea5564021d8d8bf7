// A state that comes from an export, and chunkservers that are ahead of it (ops/restore.cc).
#include "tests/unit/master/namespace/machine_fixture.h"

namespace cairn {
namespace {

class RestoreTest : public MachineTest {
 protected:
  Reply begin() { return leader.command(BeginRestore{.taken_ns = 1}); }
  Reply adopt(uint64_t server, AdoptReplicas::Item item) {
    return leader.command(AdoptReplicas{.server = ServerId{server}, .chunks = {item}});
  }
  static AdoptReplicas::Item held(ChunkId chunk, uint64_t version, ChunkState state = ChunkState::kOpen) {
    return {.chunk = chunk, .version = version, .state = state, .complete = 1, .verified = 1, .length = 4096};
  }
  ChunkId only_chunk(InodeId inode) { return machine().layout(inode, 0, 1, ReadMode::kMayBlock)->at(0).id; }
  std::vector<uint64_t> servers_of(ChunkId id) {
    std::vector<uint64_t> out;
    for (const ReplicaRecord& replica : chunk(id).replicas) {
      if (replica.state == ReplicaState::kCurrent) out.push_back(replica.server.value);
    }
    return out;
  }
};

TEST_F(RestoreTest, NothingIsGivenOutTwice) {
  const CounterRecord before = machine().counters();
  ASSERT_TRUE(begin());
  const CounterRecord after = machine().counters();
  EXPECT_GE(after.next_inode, before.next_inode + kRestoreMargin);
  EXPECT_GE(after.next_chunk, before.next_chunk + kRestoreMargin);
  EXPECT_GE(after.next_session, before.next_session + kRestoreMargin);
  EXPECT_TRUE(machine().cluster().keys.empty());
}

TEST_F(RestoreTest, SessionsEndAndTheirGrantsAreNotGarbage) {
  const ChunkGrant granted = grant();
  ASSERT_TRUE(begin());
  EXPECT_ERROR(mutate(CreateOp{.parent = kRootInode, .name = "x", .type = FileType::kRegular}), ErrorCode::kSessionEnded);
  for (int i = 0; i < 5; ++i)
    leader.tick();
  EXPECT_EQ(machine().counters().granted, 0u);
  EXPECT_EQ(machine().counters().garbage, 0u) << "the chunk may have become part of a file after the export";
  EXPECT_ERROR(machine().chunk(granted.chunk, ReadMode::kMayBlock), ErrorCode::kNotFound);
}

TEST_F(RestoreTest, WhatOnlyServersKnowIsNoGarbageUntilItIsAccepted) {
  ASSERT_TRUE(begin());
  const AddGarbage unknown{.server = ServerId{1}, .chunks = {{ChunkId{5}, 1}}};
  EXPECT_ERROR(leader.command(unknown), ErrorCode::kConflict);
  EXPECT_ERROR(leader.command(AcceptRestore{}), ErrorCode::kBusy);
  ASSERT_TRUE(leader.command(SettleRestore{}));
  EXPECT_ERROR(leader.command(unknown), ErrorCode::kConflict);
  ASSERT_TRUE(leader.command(AcceptRestore{}));
  EXPECT_FALSE(machine().restore());
  ASSERT_TRUE(leader.command(unknown));
  EXPECT_EQ(machine().counters().garbage, 1u);
  EXPECT_ERROR(leader.command(AcceptRestore{}), ErrorCode::kNotFound);
}

TEST_F(RestoreTest, TheNewestVersionThatIsWholeWins) {
  const InodeId file = file_with_chunks("f", 1);
  const ChunkId id = only_chunk(file);
  ASSERT_TRUE(begin());
  AdoptReplicas::Item filling = held(id, 9);
  filling.complete = 0;
  ASSERT_TRUE(adopt(3, filling)) << "a joiner that was not filled is no copy";
  ASSERT_TRUE(adopt(1, held(id, 1)));
  ASSERT_TRUE(adopt(2, held(id, 4)));
  ASSERT_TRUE(adopt(1, held(id, 1)));
  EXPECT_EQ(chunk(id).version, 4u);
  EXPECT_EQ(servers_of(id), (std::vector<uint64_t>{2}));
  EXPECT_EQ(chunk(id).state, ChunkState::kOpen) << "recovery makes its copies equal";
  EXPECT_EQ(machine().counters().garbage, 0u);
}

TEST_F(RestoreTest, ReportsGiveTheSameInAnyOrder) {
  const InodeId file = file_with_chunks("f", 1);
  const ChunkId id = only_chunk(file);
  ASSERT_TRUE(begin());
  ASSERT_TRUE(adopt(3, held(id, 4)));
  ASSERT_TRUE(adopt(2, held(id, 2)));
  ASSERT_TRUE(adopt(1, held(id, 4)));
  EXPECT_EQ(chunk(id).version, 4u);
  EXPECT_EQ(servers_of(id), (std::vector<uint64_t>{3, 1}));
}

TEST_F(RestoreTest, AStaleReplicaOfTheRecordedVersionIsNoCopy) {
  const InodeId file = file_with_chunks("f", 1);
  const ChunkId id = only_chunk(file);
  ASSERT_TRUE(begin());
  ASSERT_TRUE(adopt(1, held(id, 0)));
  EXPECT_EQ(servers_of(id), (std::vector<uint64_t>{2, 3}));
}

TEST_F(RestoreTest, ACopyThatRepairMadeAfterTheExportCounts) {
  leader.add_servers({4, 5});
  const InodeId file = file_with_chunks("f", 1);
  const ChunkId id = only_chunk(file);
  ASSERT_TRUE(leader.command(SealChunk{.chunk = id, .version = chunk(id).version, .length = 4096, .allocated_bytes = 4096}));
  ASSERT_TRUE(begin());
  ASSERT_TRUE(adopt(4, held(id, 1, ChunkState::kSealed)));
  ASSERT_TRUE(adopt(5, held(id, 1, ChunkState::kOpen))) << "a recovery may have left it out: it need not be equal";
  EXPECT_EQ(servers_of(id), (std::vector<uint64_t>{1, 2, 3, 4}));
  EXPECT_EQ(chunk(id).state, ChunkState::kSealed);
}

TEST_F(RestoreTest, NewVersionsAreAboveAllThatMayHaveBeenGivenOut) {
  const InodeId file = file_with_chunks("f", 1);
  const ChunkId id = only_chunk(file);
  ASSERT_TRUE(begin());
  const BeginRaise raise{.chunk = id, .expected_version = 1, .expected_state = ChunkState::kOpen, .survivors = {ServerId{1}}};
  EXPECT_ERROR(leader.command(raise), ErrorCode::kOverload);  // before the servers are heard
  ASSERT_TRUE(leader.command(SettleRestore{}));
  Reply begun = leader.command(raise);
  ASSERT_TRUE(begun) << begun.error().message();
  EXPECT_GT(std::get<RaiseBegun>(*begun).version, kRestoreMargin);
}

TEST_F(RestoreTest, FoundChunksBecomePartOfTheirFile) {
  const InodeId file = file_with_chunks("f", 1);
  const ChunkId newer{machine().counters().next_chunk + 5};
  ASSERT_TRUE(begin());
  ASSERT_TRUE(leader.command(AttachFound{.inode = file, .index = 2, .chunk = newer, .length = 100, .allocated_bytes = 4096}));
  EXPECT_EQ(attributes(file).size, 2 * kChunkSizeBytes + 100);
  EXPECT_ERROR(leader.command(AttachFound{.inode = file, .index = 2, .chunk = newer, .length = 100}), ErrorCode::kStale);
  ASSERT_TRUE(adopt(2, held(newer, 3)));
  EXPECT_EQ(chunk(newer).version, 3u);
  EXPECT_EQ(servers_of(newer), (std::vector<uint64_t>{2}));
}

TEST_F(RestoreTest, AnOlderChunkNeverTakesThePlaceOfANewerOne) {
  const ChunkGrant older = grant();
  const InodeId file = file_with_chunks("f", 1);
  const ChunkId there = only_chunk(file);
  const ChunkId newer{machine().counters().next_chunk + 5};
  ASSERT_TRUE(begin());
  for (int i = 0; i < 5; ++i)
    leader.tick();
  EXPECT_ERROR(leader.command(AttachFound{.inode = file, .index = 0, .chunk = older.chunk, .length = 10}), ErrorCode::kStale);
  EXPECT_EQ(only_chunk(file), there);
  ASSERT_TRUE(leader.command(AttachFound{.inode = file, .index = 0, .chunk = newer, .length = 10}));
  EXPECT_EQ(only_chunk(file), newer);
  EXPECT_EQ(machine().counters().garbage, 0u);
}

TEST_F(RestoreTest, FilesThatAreNotKnownAppearInLostAndFound) {
  const InodeId removed = file(kRootInode, "removed");
  ASSERT_TRUE(unlink(kRootInode, "removed"));
  const InodeId later{machine().counters().next_inode + 7};
  const ChunkId one{machine().counters().next_chunk + 1}, two{machine().counters().next_chunk + 2};
  ASSERT_TRUE(begin());
  // It had been removed before the export.
  EXPECT_ERROR(leader.command(AttachFound{.inode = removed, .chunk = one, .length = 1}), ErrorCode::kStale);
  ASSERT_TRUE(leader.command(AttachFound{.inode = later, .index = 0, .chunk = one, .length = 1}));
  ASSERT_TRUE(leader.command(AttachFound{.inode = later, .index = 1, .chunk = two, .length = 9}));
  const InodeId folder = find(kRootInode, "lost+found");
  ASSERT_TRUE(folder);
  EXPECT_EQ(names(folder), std::vector<std::string>{"inode-" + to_string(later)});
  EXPECT_EQ(attributes(later).size, kChunkSizeBytes + 9);
  EXPECT_NE(folder, later);
}

TEST_F(RestoreTest, OnlyARestoredStateTakesWhatServersSay) {
  const ChunkGrant granted = grant();
  EXPECT_ERROR(adopt(1, held(granted.chunk, 3)), ErrorCode::kConflict);
  EXPECT_ERROR(leader.command(SettleRestore{}), ErrorCode::kConflict);
  EXPECT_ERROR(leader.command(AttachFound{.inode = kRootInode, .chunk = ChunkId{1}}), ErrorCode::kConflict);
}

class KeptDumpTest : public MachineTest {
 protected:
  InodeId begin() { return leader.ask<MutationReply>(BeginKeptDump{})->attributes.inode; }
  Result<MutationReply> next_chunk(InodeId dump) {
    return leader.ask<MutationReply>(GrantKeptDumpChunk{.inode = dump, .servers = {ServerId{1}, ServerId{2}}});
  }
  InodeId keep(uint64_t size = 100) {
    const InodeId dump = begin();
    for (uint64_t at = 0; at < size; at += kChunkSizeBytes)
      EXPECT_TRUE(next_chunk(dump));
    EXPECT_TRUE(leader.command(FinishKeptDump{.inode = dump, .size = size}));
    return dump;
  }
  bool there(InodeId dump) { return machine().inode(dump, ReadMode::kMayBlock).has_value(); }
};

TEST_F(KeptDumpTest, TheNewestTwoStayAndTheRestIsGarbage) {
  const InodeId one = keep(), two = keep(kChunkSizeBytes + 5), unfinished = begin();
  EXPECT_TRUE(next_chunk(unfinished));
  EXPECT_TRUE(there(one) && there(two));
  const InodeId three = keep();
  EXPECT_LT(two, three);
  EXPECT_FALSE(there(one));
  EXPECT_TRUE(there(two) && there(three));
  EXPECT_FALSE(there(unfinished)) << "an attempt that ended in the middle";
  leader.settle();
  EXPECT_EQ(machine().counters().chunks, 3u);
  EXPECT_EQ(machine().counters().garbage, 4u) << "two chunks on two servers";
  EXPECT_EQ(machine().counters().inodes, 1u) << "they are no files that anybody counts";
}

TEST_F(KeptDumpTest, ItsChunksAreSealedWithItAndSayWhatTheyAre) {
  const InodeId dump = keep(kChunkSizeBytes + 5);
  EXPECT_TRUE(is_kept_dump(dump));
  const std::vector<FileChunk> chunks = machine().layout(dump, 0, 10, ReadMode::kMayBlock).value();
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[1].chunk.state, ChunkState::kSealed);
  EXPECT_EQ(chunks[1].chunk.owner, dump);
  EXPECT_EQ(chunks[0].chunk.length, kChunkSizeBytes);
  EXPECT_EQ(chunks[1].chunk.length, 5u);
}

TEST_F(KeptDumpTest, OnlyAWholeOneIsFinished) {
  const InodeId dump = begin();
  EXPECT_ERROR(leader.command(FinishKeptDump{.inode = dump, .size = 5}), ErrorCode::kInvalid);
  EXPECT_TRUE(next_chunk(dump));
  EXPECT_ERROR(leader.command(FinishKeptDump{.inode = dump, .size = kChunkSizeBytes + 1}), ErrorCode::kInvalid);
  EXPECT_TRUE(leader.command(FinishKeptDump{.inode = dump, .size = 5}));
  EXPECT_ERROR(leader.command(FinishKeptDump{.inode = dump, .size = 5}), ErrorCode::kConflict);
  EXPECT_ERROR(next_chunk(dump), ErrorCode::kConflict);
  EXPECT_ERROR(next_chunk(file(kRootInode, "f")), ErrorCode::kInvalid);
}

}  // namespace
}  // namespace cairn
