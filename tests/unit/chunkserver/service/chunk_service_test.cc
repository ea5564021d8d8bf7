#include "chunkserver/service/chunk_service.h"

#include <gtest/gtest.h>

#include "common/base/crc32c.h"
#include "tests/unit/chunkserver/replication/chunk_cluster.h"

namespace cairn {
namespace {

class ChunkServiceTest : public testing::Test {
 protected:
  void SetUp() override { cluster_.start(); }
  ChunkCluster cluster_{2};
};

ChunkReadRequest read_of(std::string capability, uint32_t offset, uint32_t length, uint64_t version = 1) {
  return {std::move(capability), kChunk, version, offset, length};
}

// ---------------------------------------------------------------- reads

TEST_F(ChunkServiceTest, ReadGivesWholeBlocksWithTheirChecksums) {
  std::string data = pattern(10'000, 1);
  cluster_.write({0}, 1, 0, data);
  auto answer = cluster_.call(0, read_of(cluster_.capability(kChunk, 1), 5000, 100));
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_EQ(answer->reply.offset, 4096u);
  EXPECT_EQ(answer->reply.length, 4096u);
  EXPECT_EQ(flatten(answer->payload).view(), std::string_view(data).substr(4096, 4096));
  EXPECT_EQ(answer->reply.checksums, block_checksums(flatten(answer->payload).span()));
  // The last block is cut at the chunk's end.
  auto last = cluster_.call(0, read_of(cluster_.capability(kChunk, 1), 9'000, 60'000));
  ASSERT_TRUE(last);
  EXPECT_EQ(last->reply.offset, 8192u);
  EXPECT_EQ(flatten(last->payload).view(), std::string_view(data).substr(8192));
  auto behind = cluster_.call(0, read_of(cluster_.capability(kChunk, 1), 60'000, 10));
  ASSERT_TRUE(behind);
  EXPECT_EQ(behind->reply.length, 0u);
}

TEST_F(ChunkServiceTest, ReadOfAnotherVersionIsRefused) {
  cluster_.write({0}, 1, 0, "data");
  ASSERT_TRUE(cluster_.raise(0, 1, 2));
  EXPECT_TRUE(cluster_.read(0, 0, 4, 1).failed_with(ErrorCode::kOldVersion));
  EXPECT_TRUE(cluster_.read(0, 0, 4, 3).failed_with(ErrorCode::kNewVersion));
  EXPECT_EQ(cluster_.bytes(0, 0, 4, 2), "data");
  EXPECT_TRUE(cluster_.read(0, 0, 4, 1, ChunkId(5)).failed_with(ErrorCode::kNotFound));
}

TEST_F(ChunkServiceTest, ReadOfWritesThatAreNotHereIsRefused) {
  cluster_.write({0}, 1, 0, "data");
  ChunkReadRequest request = read_of(cluster_.capability(kChunk, 1), 0, 4);
  request.sequence = 1;
  EXPECT_TRUE(cluster_.call(0, request));
  request.sequence = 2;
  EXPECT_TRUE(cluster_.call(0, request).failed_with(ErrorCode::kMissingWrites));
}

TEST_F(ChunkServiceTest, ReadBeyondAnyChunkOrAnswerIsRefused) {
  cluster_.write({0}, 1, 0, "data");
  std::string capability = cluster_.capability(kChunk, 1);
  EXPECT_TRUE(cluster_.call(0, read_of(capability, 0, kMaxPayloadBytes + 1)).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(cluster_.call(0, read_of(capability, 1, kMaxPayloadBytes)).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(cluster_.call(0, read_of(capability, kChunkSizeBytes, 1)).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(cluster_.call(0, read_of(capability, UINT32_MAX, UINT32_MAX)).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(cluster_.call(0, read_of(capability, 0, kMaxPayloadBytes)));
}

// ---------------------------------------------------------------- capabilities

TEST_F(ChunkServiceTest, NothingIsDoneWithoutAGoodCapability) {
  cluster_.write({0}, 1, 0, "data");
  Capability good{kChunk, 1, SessionId(5), kReadWrite, cluster_.master().log_time_ms + 60'000};
  auto sign = [](const Capability& capability) { return sign_capability(capability, kTestKeyId, kTestKey); };
  Capability other_chunk = good, other_version = good, over = good;
  other_chunk.chunk = ChunkId(1);
  other_version.version = 2;
  over.expires_ms = cluster_.master().log_time_ms;
  std::string foreign_key(kCapabilityKeyBytes, 'f');
  std::string forged = sign(good);
  forged[1] = 7;
  std::vector<std::string> bad{"",
                               "nonsense",
                               forged,
                               sign(other_chunk),
                               sign(other_version),
                               sign(over),
                               sign_capability(good, kTestKeyId, foreign_key),
                               sign_capability(good, kTestKeyId + 1, kTestKey)};
  for (const std::string& capability : bad) {
    SCOPED_TRACE(testing::PrintToString(capability));
    ChunkWriteRequest write = cluster_.write_request(2, 0, "evil");
    write.capability = capability;
    EXPECT_TRUE(cluster_.call(0, write, {Buffer::copy_of("evil")}).failed_with(ErrorCode::kUnauthorized));
    EXPECT_TRUE(cluster_.call(0, read_of(capability, 0, 4)).failed_with(ErrorCode::kUnauthorized));
    EXPECT_TRUE(cluster_.call(0, ChunkMapRequest{capability, kChunk, 1}).failed_with(ErrorCode::kUnauthorized));
    auto synced = cluster_.call(0, ChunkSyncRequest{{{capability, kChunk, 1, 1, 1}}});
    ASSERT_TRUE(synced);
    EXPECT_EQ(error_of(synced->reply.acks.at(0)), ErrorCode::kUnauthorized);
    EXPECT_EQ(synced->reply.acks.at(0).sequence, 0u);  // nothing is told either
  }
  EXPECT_EQ(cluster_.bytes(0, 0, 4), "data");
}

TEST_F(ChunkServiceTest, CapabilityAllowsWhatItSaysAndNoMore) {
  cluster_.write({0}, 1, 0, "data");
  std::string read = cluster_.capability(kChunk, 1, CapabilityRights::kRead);
  std::string write = cluster_.capability(kChunk, 1, CapabilityRights::kWrite);
  std::string copy = cluster_.capability(kChunk, 1, CapabilityRights::kCopy);
  ChunkWriteRequest request = cluster_.write_request(2, 0, "more");
  for (const std::string& capability : {read, copy}) {
    request.capability = capability;
    EXPECT_TRUE(cluster_.call(0, request, {Buffer::copy_of("more")}).failed_with(ErrorCode::kUnauthorized));
  }
  EXPECT_TRUE(cluster_.call(0, read_of(write, 0, 4)).failed_with(ErrorCode::kUnauthorized));
  EXPECT_TRUE(cluster_.call(0, read_of(read, 0, 4)));
  EXPECT_TRUE(cluster_.call(0, read_of(copy, 0, 4)));
  EXPECT_TRUE(cluster_.call(0, ChunkMapRequest{write, kChunk, 1}).failed_with(ErrorCode::kUnauthorized));
  EXPECT_TRUE(cluster_.call(0, ChunkMapRequest{read, kChunk, 1}));
  EXPECT_TRUE(cluster_.call(0, ChunkMapRequest{copy, kChunk, 1}));
}

TEST_F(ChunkServiceTest, CapabilityRunsOutByTheServersOwnClockWhenMastersAreSilent) {
  cluster_.write({0}, 1, 0, "data");
  Capability capability{kChunk, 1, SessionId(5), kReadWrite, cluster_.master().log_time_ms + 5'000};
  std::string bytes = sign_capability(capability, kTestKeyId, kTestKey);
  EXPECT_TRUE(cluster_.call(0, read_of(bytes, 0, 4)));
  cluster_.sim().block(cluster_.node(0), cluster_.master_node());
  cluster_.sim().run_for(6s);
  EXPECT_TRUE(cluster_.call(0, read_of(bytes, 0, 4)).failed_with(ErrorCode::kUnauthorized));
  // The time without a master does not count: the next answer gives it back.
  cluster_.sim().unblock_all();
  cluster_.sim().run_for(30s);
  cluster_.master().log_time_ms += 1;
  cluster_.sim().run_for(2s);
  EXPECT_TRUE(cluster_.call(0, read_of(bytes, 0, 4)));
}

// ---------------------------------------------------------------- orders

TEST_F(ChunkServiceTest, OrdersOfAnOldLeaderAreRefused) {
  cluster_.write({0}, 1, 0, "data");
  OrderHeader old = cluster_.order();
  OrderHeader next{.term = old.term + 1, .cluster = old.cluster};
  ASSERT_TRUE(cluster_.call(0, StatChunksRequest{next, {kChunk}}));
  EXPECT_TRUE(cluster_.call(0, RaiseVersionRequest{old, kChunk, 1, 2}).failed_with(ErrorCode::kNotLeader));
  EXPECT_TRUE(cluster_.call(0, SealChunkRequest{old, kChunk, 1, 1}).failed_with(ErrorCode::kNotLeader));
  EXPECT_TRUE(cluster_.call(0, DeleteChunksRequest{old, {{kChunk, 1}}}).failed_with(ErrorCode::kNotLeader));
  EXPECT_TRUE(cluster_.call(0, StatChunksRequest{old, {kChunk}}).failed_with(ErrorCode::kNotLeader));
  EXPECT_EQ(cluster_.bytes(0, 0, 4), "data");
}

TEST_F(ChunkServiceTest, OrdersOfAnotherClusterAreRefused) {
  cluster_.write({0}, 1, 0, "data");
  for (ClusterId cluster : {ClusterId(), ClusterId(0xBAD)}) {
    OrderHeader foreign{.term = 99, .cluster = cluster};
    EXPECT_TRUE(cluster_.call(0, DeleteChunksRequest{foreign, {{kChunk, 1}}}).failed_with(ErrorCode::kWrongCluster));
    EXPECT_TRUE(cluster_.call(0, RaiseVersionRequest{foreign, kChunk, 1, 2}).failed_with(ErrorCode::kWrongCluster));
  }
  // Nor is their term believed.
  EXPECT_EQ(cluster_.bytes(0, 0, 4), "data");
  EXPECT_TRUE(cluster_.status(0));
}

TEST_F(ChunkServiceTest, SealNeedsExactlyTheSequence) {
  cluster_.write({0}, 1, 0, "one");
  cluster_.write({0}, 2, 0, "two");
  EXPECT_TRUE(
      cluster_.call(0, SealChunkRequest{cluster_.order(), kChunk, 1, 3}).failed_with(ErrorCode::kMissingWrites));
  EXPECT_TRUE(cluster_.call(0, SealChunkRequest{cluster_.order(), kChunk, 1, 1}).failed_with(ErrorCode::kConflict));
  auto sealed = cluster_.call(0, SealChunkRequest{cluster_.order(), kChunk, 1, 2});
  ASSERT_TRUE(sealed) << sealed.error().message();
  EXPECT_EQ(sealed->reply.status.state, ChunkState::kSealed);
  EXPECT_EQ(error_of(cluster_.write({0}, 3, 0, "not")[0]), ErrorCode::kOldVersion);
  // Raising opens it again.
  ASSERT_TRUE(cluster_.raise(0, 1, 2));
  EXPECT_EQ(cluster_.write({0}, 3, 0, "new", 2)[0].error, 0);
}

TEST_F(ChunkServiceTest, DeletedChunkIsGoneAndANewerOneStays) {
  cluster_.write({0}, 1, 0, "data");
  cluster_.write({0}, 1, 0, "data", 2, ChunkId(9));
  auto answer =
      cluster_.call(0, DeleteChunksRequest{cluster_.order(), {{ChunkId(9), 1}, {kChunk, 1}, {ChunkId(1234), 7}}});
  EXPECT_TRUE(answer.failed_with(ErrorCode::kConflict));
  EXPECT_TRUE(cluster_.status(0).failed_with(ErrorCode::kNotFound));
  EXPECT_EQ(cluster_.bytes(0, 0, 4, 2, ChunkId(9)), "data");
  EXPECT_TRUE(cluster_.call(0, DeleteChunksRequest{cluster_.order(), {{ChunkId(9), 2}}}));
  EXPECT_TRUE(cluster_.status(0, ChunkId(9)).failed_with(ErrorCode::kNotFound));
}

TEST_F(ChunkServiceTest, CloneSharesWhatASealedChunkHolds) {
  std::string data = pattern(500'000, 4);
  cluster_.write({0}, 1, 0, data);
  CloneChunkRequest order{cluster_.order(), kChunk, 1, ChunkId(0x99), 1};
  EXPECT_TRUE(cluster_.call(0, order).failed_with(ErrorCode::kConflict));
  ASSERT_TRUE(cluster_.call(0, SealChunkRequest{cluster_.order(), kChunk, 1, 1}));
  auto cloned = cluster_.call(0, order);
  ASSERT_TRUE(cloned) << cloned.error().message();
  EXPECT_EQ(cloned->reply.status.inode, InodeId(12));
  ASSERT_TRUE(cluster_.call(0, DeleteChunksRequest{cluster_.order(), {{kChunk, 1}}}));
  EXPECT_TRUE(cluster_.bytes(0, 0, 500'000, 1, ChunkId(0x99)) == data);
}

TEST_F(ChunkServiceTest, StatTellsOfThoseThatAreThere) {
  cluster_.write({0}, 1, 0, "data");
  auto answer = cluster_.call(0, StatChunksRequest{cluster_.order(), {ChunkId(1), kChunk, ChunkId(3)}});
  ASSERT_TRUE(answer);
  ASSERT_EQ(answer->reply.chunks.size(), 1u);
  EXPECT_EQ(answer->reply.chunks[0].chunk, kChunk);
  EXPECT_EQ(answer->reply.chunks[0].sequence, 1u);
  EXPECT_EQ(answer->reply.incarnation, 1u);
  std::vector<ChunkId> many(kStatChunksMax + 1, kChunk);
  EXPECT_TRUE(cluster_.call(0, StatChunksRequest{cluster_.order(), many}).failed_with(ErrorCode::kInvalid));
}

TEST_F(ChunkServiceTest, RaiseBackwardsOrCopyFromItselfMakesNoSense) {
  cluster_.write({0}, 1, 0, "data", 5);
  EXPECT_TRUE(cluster_.raise(0, 5, 4).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(cluster_.copy(0, 0, 5).failed_with(ErrorCode::kInvalid));
}

}  // namespace
}  // namespace cairn
