#include "chunkserver/replication/chunk_copier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/chunkserver/replication/chunk_cluster.h"

namespace cairn {
namespace {

class ChunkCopierTest : public testing::Test {
 protected:
  void SetUp() override { cluster_.start(); }

  // Writes `data` at `offset` in pieces of 1 MiB to the chain; gives the last sequence.
  uint64_t fill(std::vector<size_t> chain, uint64_t sequence, uint32_t offset, const std::string& data,
                uint64_t version = 1) {
    for (size_t done = 0; done < data.size(); done += kMiB) {
      std::string piece = data.substr(done, kMiB);
      auto acks = cluster_.write(chain, ++sequence, offset + static_cast<uint32_t>(done), piece, version);
      for (const ReplicaAck& ack : acks)
        EXPECT_EQ(ack.error, 0) << ack.context;
    }
    return sequence;
  }
  // As a test of a power cut: what is still there then was on disk.
  void expect_after_power_cut(size_t server, uint32_t offset, const std::string& data, uint64_t version) {
    cluster_.restart_server(server, Crash::kPower);
    EXPECT_TRUE(cluster_.bytes(server, offset, static_cast<uint32_t>(data.size()), version) == data);
  }

  ChunkCluster cluster_{3};
};

TEST_F(ChunkCopierTest, MissingReplicaBecomesEqualAndSealed) {
  std::string begin = pattern(3 * kMiB + 123, 1);
  std::string end = pattern(5000, 2);
  uint64_t sequence = fill({0}, 0, 4096, begin);
  sequence = fill({0}, sequence, 40 * kMiB + 77, end);
  ASSERT_TRUE(cluster_.call(0, SealChunkRequest{cluster_.order(), kChunk, 1, sequence}));
  Result<RaiseVersionReply> copied = cluster_.copy(1, 0, 1, true);
  ASSERT_TRUE(copied) << copied.error().message();
  EXPECT_EQ(copied->status.version, 1u);
  EXPECT_EQ(copied->status.state, ChunkState::kSealed);
  EXPECT_EQ(copied->status.length, cluster_.status(0)->length);
  EXPECT_EQ(copied->status.inode, InodeId(12));
  EXPECT_EQ(copied->status.synced_sequence, sequence);
  EXPECT_EQ(copied->incarnation, 1u);
  // Holes are not copied as zeros.
  EXPECT_LT(cluster_.metric(1, "cairn_chunkserver_copied_bytes_total"), 4.0 * kMiB);
  expect_after_power_cut(1, 4096, begin, 1);
  EXPECT_EQ(cluster_.bytes(1, 40 * kMiB + 77, 5000), end);
  EXPECT_EQ(cluster_.bytes(1, 20 * kMiB, 100), std::string(100, '\0'));
}

TEST_F(ChunkCopierTest, StaleReplicaTakesWhatTheOtherHas) {
  fill({0, 1}, 0, 0, pattern(2 * kMiB, 1));
  // The second one fails; the chunk goes on without it.
  ASSERT_TRUE(cluster_.raise(0, 1, 2));
  std::string newer = pattern(kMiB, 2);
  fill({0}, 2, 512 * kKiB, newer, 2);
  EXPECT_EQ(cluster_.status(1)->version, 1u);
  Result<RaiseVersionReply> copied = cluster_.copy(1, 0, 2);
  ASSERT_TRUE(copied) << copied.error().message();
  EXPECT_EQ(copied->status.version, 2u);
  EXPECT_EQ(copied->status.state, ChunkState::kOpen);
  EXPECT_EQ(copied->status.sequence, 3u);
  EXPECT_TRUE(cluster_.bytes(1, 0, 2 * kMiB, 2) == cluster_.bytes(0, 0, 2 * kMiB, 2));
  // And is a full member of the chain from then on.
  std::vector<ReplicaAck> acks = cluster_.write({0, 1}, 4, 0, "both", 2);
  EXPECT_EQ(acks[0].error, 0) << acks[0].context;
  EXPECT_EQ(acks[1].error, 0) << acks[1].context;
}

// The joiner is in the chain from the first write of the new version on, even before its copy has begun.
class JoiningTest : public ChunkCopierTest {
 protected:
  void join_while_writing(std::string data, uint64_t sequence) {
    ASSERT_TRUE(cluster_.raise(0, 1, 2));
    std::vector<ChunkCluster::CallPtr<ChunkWriteRequest>> writes;
    auto copy = cluster_.begin(1, cluster_.copy_order(0, 2), {}, 60s);
    for (int i = 0; i < 60; ++i) {
      uint32_t offset = static_cast<uint32_t>(cluster_.sim().random().below(11 * kMiB));
      std::string piece = pattern(1 + cluster_.sim().random().below(100'000), 100 + i);
      data.replace(offset, piece.size(), piece);
      writes.push_back(cluster_.begin_write({0, 1}, ++sequence, offset, piece, 2));
      cluster_.sim().run_for(1ms);
    }
    for (auto& call : writes) {
      auto answer = cluster_.end(call);
      ASSERT_TRUE(answer) << answer.error().message();
      ASSERT_EQ(answer->reply.acks.size(), 2u);
      for (const ReplicaAck& ack : answer->reply.acks)
        EXPECT_EQ(ack.error, 0) << ack.context;
    }
    // A sync of the joiner waits for its copy: it must show both.
    ReplicaAck synced = cluster_.sync(1, sequence, 1, 2);
    EXPECT_EQ(synced.error, 0) << synced.context;
    EXPECT_EQ(synced.synced_sequence, sequence);
    auto copied = cluster_.end(copy);
    ASSERT_TRUE(copied) << copied.error().message();
    EXPECT_TRUE(cluster_.bytes(0, 0, 12 * kMiB, 2) == data);
    EXPECT_TRUE(cluster_.bytes(1, 0, 12 * kMiB, 2) == data);
    ASSERT_EQ(cluster_.sync(1, sequence, 1, 2).error, 0);
    expect_after_power_cut(1, 0, data, 2);
  }
};

TEST_F(JoiningTest, ServerWithoutTheChunkJoinsWhileItIsWritten) {
  std::string data = pattern(12 * kMiB, 1);
  uint64_t sequence = fill({0}, 0, 0, data);
  join_while_writing(data, sequence);
}

TEST_F(JoiningTest, StaleReplicaJoinsWhileItIsWritten) {
  std::string data = pattern(12 * kMiB, 1);
  uint64_t sequence = fill({0, 1}, 0, 0, data);
  join_while_writing(data, sequence);
}

TEST_F(ChunkCopierTest, DamagedSourceIsFoundAndWhatWasHereStays) {
  std::string data = pattern(2 * kMiB, 1);
  fill({0, 1}, 0, 0, data);
  ASSERT_EQ(cluster_.sync(0, 2, 1).error, 0);
  ASSERT_EQ(cluster_.sync(1, 2, 1).error, 0);
  cluster_.restart_server(0, Crash::kProcess);
  MemoryDisk& disk = cluster_.node(0).memory_disk();
  std::vector<std::string> segments = *disk.list("/data/log");
  ASSERT_FALSE(segments.empty());
  ASSERT_TRUE(disk.flip_byte("/data/log/" + segments.front(), 700'000));
  Result<RaiseVersionReply> copied = cluster_.copy(1, 0, 1);
  EXPECT_TRUE(copied.failed_with(ErrorCode::kCorrupt));
  EXPECT_NE(copied.error().context.find("c0"), std::string::npos) << copied.error().context;
  EXPECT_TRUE(cluster_.bytes(1, 0, 2 * kMiB) == data);
  EXPECT_EQ(cluster_.metric(1, "cairn_chunkserver_copy_failures_total"), 1);
  // And it takes writes as before.
  EXPECT_EQ(cluster_.write({1}, 3, 0, "more")[0].error, 0);
}

TEST_F(ChunkCopierTest, SourceThatDiesLeavesNothingHalf) {
  uint64_t sequence = fill({0}, 0, 0, pattern(16 * kMiB, 1));
  ASSERT_EQ(cluster_.sync(0, sequence, 1).error, 0);
  auto copy = cluster_.begin(1, cluster_.copy_order(0, 1), {}, 60s);
  ASSERT_TRUE(cluster_.sim().run_until(
      [&] { return cluster_.metric(1, "cairn_chunkserver_copied_bytes_total") > 2.0 * kMiB; }, 10s));
  cluster_.node(0).crash(Crash::kProcess);
  auto copied = cluster_.end(copy);
  EXPECT_TRUE(copied.failed_with(ErrorCode::kUnavailable)) << copied.error().message();
  EXPECT_TRUE(cluster_.status(1).failed_with(ErrorCode::kNotFound));
  // Ordered again when it is back, it is made.
  cluster_.start_server(0);
  ASSERT_TRUE(cluster_.wait_until_serving(0));
  EXPECT_TRUE(cluster_.copy(1, 0, 1));
  EXPECT_TRUE(cluster_.bytes(1, 0, 16 * kMiB) == pattern(16 * kMiB, 1));
}

TEST_F(ChunkCopierTest, OrderedTwiceItIsMadeOnce) {
  fill({0}, 0, 0, pattern(4 * kMiB, 1));
  auto first = cluster_.begin(1, cluster_.copy_order(0, 1), {}, 60s);
  auto second = cluster_.begin(1, cluster_.copy_order(0, 1), {}, 60s);
  ASSERT_TRUE(cluster_.end(first));
  ASSERT_TRUE(cluster_.end(second));
  EXPECT_EQ(cluster_.metric(1, "cairn_chunkserver_copies_total"), 1);
  EXPECT_EQ(cluster_.metric(1, "cairn_chunkserver_copied_bytes_total"), 4.0 * kMiB);
}

TEST_F(ChunkCopierTest, NewerOrderReplacesTheOneThatRuns) {
  fill({0}, 0, 0, pattern(16 * kMiB, 1));
  auto old = cluster_.begin(1, cluster_.copy_order(0, 1), {}, 60s);
  ASSERT_TRUE(cluster_.sim().run_until(
      [&] { return cluster_.metric(1, "cairn_chunkserver_copied_bytes_total") > 1.0 * kMiB; }, 10s));
  ASSERT_TRUE(cluster_.raise(0, 1, 2));
  Result<RaiseVersionReply> copied = cluster_.copy(1, 0, 2);
  ASSERT_TRUE(copied) << copied.error().message();
  EXPECT_EQ(copied->status.version, 2u);
  EXPECT_FALSE(cluster_.end(old));
  EXPECT_TRUE(cluster_.bytes(1, 0, 16 * kMiB, 2) == pattern(16 * kMiB, 1));
}

TEST_F(ChunkCopierTest, NewerReplicaIsNotReplacedByAnOlderOne) {
  fill({0, 1}, 0, 0, "data");
  ASSERT_TRUE(cluster_.raise(1, 1, 2));
  EXPECT_TRUE(cluster_.copy(1, 0, 1).failed_with(ErrorCode::kOldVersion));
  EXPECT_EQ(cluster_.bytes(1, 0, 4, 2), "data");
}

TEST_F(ChunkCopierTest, OrderWhoseTimeIsOverGoesOn) {
  fill({0}, 0, 0, pattern(8 * kMiB, 1));
  cluster_.node(0).pause();
  EXPECT_TRUE(cluster_.call(1, cluster_.copy_order(0, 1), {}, 50ms).failed_with(ErrorCode::kTimeout));
  cluster_.node(0).resume();
  EXPECT_TRUE(cluster_.sim().run_until([&] { return cluster_.metric(1, "cairn_chunkserver_copies_total") == 1; }, 10s));
  EXPECT_TRUE(cluster_.bytes(1, 0, 8 * kMiB) == pattern(8 * kMiB, 1));
}

TEST_F(ChunkCopierTest, CopyNeedsTheRightToRead) {
  fill({0}, 0, 0, "data");
  CopyChunkRequest order = cluster_.copy_order(0, 1);
  order.capability = cluster_.capability(kChunk, 1, CapabilityRights::kWrite);
  EXPECT_TRUE(cluster_.call(1, order).failed_with(ErrorCode::kUnauthorized));
}

}  // namespace
}  // namespace cairn
