#include "chunkserver/replication/write_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/chunkserver/replication/chunk_cluster.h"

namespace cairn {
namespace {

class WritePathTest : public testing::Test {
 protected:
  void SetUp() override { cluster_.start(); }
  ChunkCluster cluster_{3};
};

TEST_F(WritePathTest, WriteReachesEveryReplicaOfTheChain) {
  std::string data = pattern(100'000, 1);
  std::vector<ReplicaAck> acks = cluster_.write({0, 1, 2}, 1, 5000, data);
  ASSERT_EQ(acks.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(acks[i].server, cluster_.id(i)) << i;
    EXPECT_EQ(acks[i].error, 0) << acks[i].context;
    EXPECT_EQ(acks[i].sequence, 1u);
    EXPECT_EQ(acks[i].synced_sequence, 0u);
    EXPECT_EQ(acks[i].incarnation, 1u);
    EXPECT_EQ(cluster_.bytes(i, 5000, 100'000), data) << i;
  }
  EXPECT_EQ(cluster_.status(2)->inode, InodeId(12));
  EXPECT_EQ(cluster_.status(2)->index, 3u);
}

TEST_F(WritePathTest, WriteWithSyncIsOnDiskEverywhereWhenItIsAnswered) {
  std::string data = pattern(300'000, 1);
  ChunkWriteRequest request = cluster_.write_request(1, 0, data, 1, {1, 2});
  request.sync = true;
  auto answer = cluster_.call(0, request, {Buffer::copy_of(data)});
  ASSERT_TRUE(answer) << answer.error().message();
  for (const ReplicaAck& ack : answer->reply.acks)
    EXPECT_EQ(ack.synced_sequence, 1u);
  for (size_t i = 0; i < 3; ++i) {
    cluster_.restart_server(i, Crash::kPower);
    EXPECT_EQ(cluster_.bytes(i, 0, 300'000), data) << i;
  }
}

TEST_F(WritePathTest, RepeatedWriteIsAnsweredAndNotDoneAgain) {
  cluster_.write({0, 1, 2}, 1, 0, "first");
  cluster_.write({0, 1, 2}, 2, 0, "other");
  std::vector<ReplicaAck> acks = cluster_.write({0, 1, 2}, 1, 0, "first");
  ASSERT_EQ(acks.size(), 3u);
  for (const ReplicaAck& ack : acks) {
    EXPECT_EQ(ack.error, 0) << ack.context;
    EXPECT_EQ(ack.sequence, 2u);
  }
  EXPECT_EQ(cluster_.bytes(2, 0, 5), "other");
}

TEST_F(WritePathTest, EarlyWriteWaitsForItsPredecessor) {
  auto late = cluster_.begin_write({0, 1, 2}, 2, 5, "world");
  cluster_.sim().run_for(100ms);
  EXPECT_FALSE(late->answer);
  auto early = cluster_.begin_write({0, 1, 2}, 1, 0, "hello");
  auto second = cluster_.end(late);
  auto first = cluster_.end(early);
  ASSERT_TRUE(first && second);
  for (const ReplicaAck& ack : second->reply.acks)
    EXPECT_EQ(ack.error, 0) << ack.context;
  for (size_t i = 0; i < 3; ++i)
    EXPECT_EQ(cluster_.bytes(i, 0, 10), "helloworld");
}

TEST_F(WritePathTest, ManyWritesAtOnceAreAppliedInTheirOrder) {
  std::vector<ChunkCluster::CallPtr<ChunkWriteRequest>> calls;
  for (uint64_t sequence = 1; sequence <= 40; ++sequence) {
    calls.push_back(cluster_.begin_write({0, 1, 2}, sequence, 100, pattern(20'000, sequence)));
  }
  for (auto& call : calls) {
    auto answer = cluster_.end(call);
    ASSERT_TRUE(answer) << answer.error().message();
    ASSERT_EQ(answer->reply.acks.size(), 3u);
    for (const ReplicaAck& ack : answer->reply.acks)
      EXPECT_EQ(ack.error, 0) << ack.context;
  }
  for (size_t i = 0; i < 3; ++i)
    EXPECT_EQ(cluster_.bytes(i, 100, 20'000), pattern(20'000, 40));
}

TEST_F(WritePathTest, GapIsRefusedSoonWithWhatIsHere) {
  cluster_.write({0, 1, 2}, 1, 0, "a");
  TimePoint began = cluster_.sim().now();
  std::vector<ReplicaAck> acks = cluster_.write({0, 1, 2}, 3, 0, "c");
  EXPECT_LT(cluster_.sim().now() - began, 1s);
  ASSERT_EQ(acks.size(), 3u);
  for (const ReplicaAck& ack : acks) {
    EXPECT_EQ(error_of(ack), ErrorCode::kMissingWrites);
    EXPECT_EQ(ack.sequence, 1u);
  }
}

TEST_F(WritePathTest, UnknownChunkLacksEveryWrite) {
  std::vector<ReplicaAck> acks = cluster_.write({0}, 5, 0, "x");
  EXPECT_EQ(error_of(acks[0]), ErrorCode::kMissingWrites);
  EXPECT_EQ(acks[0].sequence, 0u);
  EXPECT_TRUE(cluster_.status(0).failed_with(ErrorCode::kNotFound));
}

TEST_F(WritePathTest, DeadReplicaIsNamedByTheOneBeforeIt) {
  ServerId dead = cluster_.id(1);
  std::vector<size_t> chain{0, 1, 2};
  auto request = cluster_.write_request(1, 0, "data", 1, {1, 2});
  cluster_.node(1).crash(Crash::kProcess);
  auto answer = cluster_.call(0, request, {Buffer::copy_of("data")});
  ASSERT_TRUE(answer) << answer.error().message();
  const std::vector<ReplicaAck>& acks = answer->reply.acks;
  ASSERT_EQ(acks.size(), 2u);  // nobody could ask the one behind it
  EXPECT_EQ(acks[0].error, 0);
  EXPECT_EQ(acks[1].server, dead);
  EXPECT_EQ(error_of(acks[1]), ErrorCode::kUnavailable);
  EXPECT_NE(acks[1].context.find("c1"), std::string::npos) << acks[1].context;
  EXPECT_EQ(cluster_.bytes(0, 0, 4), "data");
}

TEST_F(WritePathTest, StoppedReplicaIsNamedBeforeTheWriterGivesUp) {
  for (size_t stopped : {1u, 2u}) {
    ChunkId chunk(100 + stopped);
    cluster_.sim().run_for(2s);
    ASSERT_EQ(cluster_.write({0, 1, 2}, 1, 0, "x", 1, ChunkId(200 + stopped)).size(), 3u);
    cluster_.node(stopped).pause();
    TimePoint began = cluster_.sim().now();
    auto call = cluster_.begin_write({0, 1, 2}, 1, 0, "data", 1, chunk);
    auto answer = cluster_.end(call);
    EXPECT_LT(cluster_.sim().now() - began, 8s);
    cluster_.node(stopped).resume();
    ASSERT_TRUE(answer) << answer.error().message();
    const ReplicaAck& last = answer->reply.acks.back();
    EXPECT_EQ(answer->reply.acks.size(), stopped + 1);
    EXPECT_EQ(last.server, cluster_.id(stopped));
    EXPECT_TRUE(error_of(last) == ErrorCode::kTimeout || error_of(last) == ErrorCode::kUnavailable) << last.context;
    for (size_t i = 0; i < stopped; ++i)
      EXPECT_EQ(answer->reply.acks[i].error, 0);
  }
}

TEST_F(WritePathTest, StrangerAtAReplicasAddressIsNotThatReplica) {
  auto request = cluster_.write_request(1, 0, "data", 1, {1});
  request.chain[0].server = ServerId(0xDEAD);
  auto answer = cluster_.call(0, request, {Buffer::copy_of("data")});
  ASSERT_TRUE(answer);
  ASSERT_EQ(answer->reply.acks.size(), 2u);
  EXPECT_EQ(answer->reply.acks[1].server, ServerId(0xDEAD));
  EXPECT_EQ(error_of(answer->reply.acks[1]), ErrorCode::kUnavailable);
}

TEST_F(WritePathTest, DamagedPayloadIsRefusedByTheOneThatGotItDamaged) {
  auto request = cluster_.write_request(1, 100, "what was sent", 1, {1, 2});
  auto answer = cluster_.call(0, request, {Buffer::copy_of("what was senT")});
  ASSERT_TRUE(answer) << answer.error().message();
  ASSERT_EQ(answer->reply.acks.size(), 1u);
  EXPECT_EQ(answer->reply.acks[0].server, cluster_.id(0));
  EXPECT_EQ(error_of(answer->reply.acks[0]), ErrorCode::kCorrupt);
  for (size_t i = 0; i < 3; ++i)
    EXPECT_TRUE(cluster_.status(i).failed_with(ErrorCode::kNotFound)) << i;
}

TEST_F(WritePathTest, RequestThatMakesNoSenseIsRefused) {
  auto refused = [&](auto change) {
    ChunkWriteRequest request = cluster_.write_request(1, 0, "data");
    change(request);
    return cluster_.call(0, request, {Buffer::copy_of("data")}).failed_with(ErrorCode::kInvalid);
  };
  EXPECT_TRUE(refused([](ChunkWriteRequest& r) { r.sequence = 0; }));
  EXPECT_TRUE(refused([](ChunkWriteRequest& r) { r.length = 5; }));
  EXPECT_TRUE(refused([](ChunkWriteRequest& r) { r.checksums.clear(); }));
  EXPECT_TRUE(refused([](ChunkWriteRequest& r) { r.kind = WriteKind::kZero; }));
  EXPECT_TRUE(refused([](ChunkWriteRequest& r) { r.chain.resize(kMaxGoal); }));
  EXPECT_TRUE(refused([](ChunkWriteRequest& r) { r.offset = kChunkSizeBytes - 2; }));
  EXPECT_TRUE(cluster_.status(0).failed_with(ErrorCode::kNotFound));
}

TEST_F(WritePathTest, TruncateAndZeroGoDownTheChainToo) {
  cluster_.write({0, 1, 2}, 1, 0, std::string(10'000, 'a'));
  ChunkWriteRequest zero = cluster_.write_request(2, 100, "", 1, {1, 2});
  zero.kind = WriteKind::kZero;
  zero.length = 50;
  ASSERT_TRUE(cluster_.call(0, zero));
  ChunkWriteRequest truncate = cluster_.write_request(3, 9'000, "", 1, {1, 2});
  truncate.kind = WriteKind::kTruncate;
  ASSERT_TRUE(cluster_.call(0, truncate));
  std::string expected(9'000, 'a');
  expected.replace(100, 50, 50, '\0');
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(cluster_.bytes(i, 0, 10'000), expected) << i;
    EXPECT_EQ(cluster_.status(i)->length, 9'000u);
  }
}

// ---------------------------------------------------------------- syncs

TEST_F(WritePathTest, SyncMakesDurableWhatWasTaken) {
  std::string data = pattern(50'000, 9);
  uint64_t incarnation = cluster_.write({0, 1, 2}, 1, 0, data)[0].incarnation;
  ReplicaAck ack = cluster_.sync(0, 1, incarnation);
  EXPECT_EQ(ack.error, 0) << ack.context;
  EXPECT_EQ(ack.synced_sequence, 1u);
  EXPECT_EQ(ack.server, cluster_.id(0));
  cluster_.restart_server(0, Crash::kPower);
  EXPECT_EQ(cluster_.bytes(0, 0, 50'000), data);
  EXPECT_FALSE(cluster_.status(0)->verified);
}

TEST_F(WritePathTest, SyncAfterARestartDoesNotLieAndWritesCanBeSentAgain) {
  cluster_.write({0, 1, 2}, 1, 0, "hello");
  std::vector<ReplicaAck> acks = cluster_.write({0, 1, 2}, 2, 5, "world");
  cluster_.restart_server(1, Crash::kProcess);
  ReplicaAck lost = cluster_.sync(1, 2, acks[1].incarnation);
  EXPECT_EQ(error_of(lost), ErrorCode::kMissingWrites);
  EXPECT_EQ(lost.sequence, 0u);
  EXPECT_EQ(lost.incarnation, acks[1].incarnation + 1);
  // As the writer catches it up: directly, without a chain.
  cluster_.write({1}, 1, 0, "hello");
  cluster_.write({1}, 2, 5, "world");
  ReplicaAck synced = cluster_.sync(1, 2, lost.incarnation);
  EXPECT_EQ(synced.error, 0) << synced.context;
  EXPECT_EQ(synced.synced_sequence, 2u);
  EXPECT_EQ(cluster_.bytes(1, 0, 10), "helloworld");
}

TEST_F(WritePathTest, RestartLosesOnlyWhatCameAfterTheLastSync) {
  uint64_t incarnation = cluster_.write({0}, 1, 0, "kept.")[0].incarnation;
  ASSERT_EQ(cluster_.sync(0, 1, incarnation).error, 0);
  cluster_.write({0}, 2, 5, "lost.");
  cluster_.restart_server(0, Crash::kProcess);
  // What was on disk before can be shown by any incarnation.
  EXPECT_EQ(cluster_.sync(0, 1, incarnation).error, 0);
  ReplicaAck ack = cluster_.sync(0, 2, incarnation);
  EXPECT_EQ(error_of(ack), ErrorCode::kMissingWrites);
  EXPECT_EQ(ack.sequence, 1u);
  EXPECT_EQ(cluster_.write({0}, 2, 5, "again")[0].error, 0);
  EXPECT_EQ(cluster_.bytes(0, 0, 10), "kept.again");
}

TEST_F(WritePathTest, WriteAfterARestartMeetsTheGap) {
  cluster_.write({0}, 1, 0, "a");
  cluster_.restart_server(0, Crash::kProcess);
  std::vector<ReplicaAck> acks = cluster_.write({0}, 2, 1, "b");
  EXPECT_EQ(error_of(acks[0]), ErrorCode::kMissingWrites);
  EXPECT_EQ(acks[0].sequence, 0u);
}

TEST_F(WritePathTest, SyncOfManyChunksIsOneCommit) {
  ChunkSyncRequest one, many;
  for (uint64_t i = 1; i <= 64; ++i) {
    ChunkId chunk(1000 + i);
    ASSERT_EQ(cluster_.write({0}, 1, 0, "small file", 1, chunk)[0].error, 0);
    ChunkSyncRequest& request = i == 64 ? one : many;
    request.items.push_back({cluster_.capability(chunk, 1), chunk, 1, 1, 1});
  }
  uint64_t before = cluster_.node(0).memory_disk().counters().syncs;
  auto first = cluster_.call(0, one);
  uint64_t of_one = cluster_.node(0).memory_disk().counters().syncs - before;
  auto second = cluster_.call(0, many);
  uint64_t of_many = cluster_.node(0).memory_disk().counters().syncs - before - of_one;
  ASSERT_TRUE(first && second);
  ASSERT_EQ(second->reply.acks.size(), 63u);
  for (const ReplicaAck& ack : second->reply.acks)
    EXPECT_EQ(ack.synced_sequence, 1u) << ack.context;
  EXPECT_GE(of_one, 1u);
  EXPECT_LE(of_many, 2 * of_one);
}

TEST_F(WritePathTest, SyncAnswersEachChunkForItself) {
  cluster_.write({0}, 1, 0, "x");
  ChunkSyncRequest request;
  request.items.push_back({cluster_.capability(kChunk, 1), kChunk, 1, 1, 1});
  request.items.push_back({cluster_.capability(ChunkId(9), 1), ChunkId(9), 1, 1, 1});
  request.items.push_back({"forged", kChunk, 1, 1, 1});
  request.items.push_back({cluster_.capability(kChunk, 2), kChunk, 2, 1, 1});
  auto answer = cluster_.call(0, request);
  ASSERT_TRUE(answer);
  ASSERT_EQ(answer->reply.acks.size(), 4u);
  EXPECT_EQ(answer->reply.acks[0].error, 0);
  EXPECT_EQ(error_of(answer->reply.acks[1]), ErrorCode::kMissingWrites);
  EXPECT_EQ(error_of(answer->reply.acks[2]), ErrorCode::kUnauthorized);
  EXPECT_EQ(error_of(answer->reply.acks[3]), ErrorCode::kNewVersion);
}

TEST_F(WritePathTest, CleanStopLosesNothingThatWasTaken) {
  std::string data = pattern(200'000, 5);
  cluster_.write({0}, 1, 0, data);
  ASSERT_TRUE(cluster_.stop_server(0, 5s));
  cluster_.restart_server(0, Crash::kPower);
  EXPECT_EQ(cluster_.bytes(0, 0, 200'000), data);
  EXPECT_EQ(cluster_.sync(0, 1, 1).error, 0);
}

TEST_F(WritePathTest, StopEndsWhatWaits) {
  ASSERT_EQ(cluster_.write({0, 1}, 1, 0, "x").size(), 2u);
  cluster_.node(1).pause();
  auto gap = cluster_.begin_write({0}, 9, 0, "x");
  auto forwarded = cluster_.begin_write({0, 1}, 2, 0, "x");
  auto copy = cluster_.begin(0, cluster_.copy_order(1, 1, false, ChunkId(5)), {}, 60s);
  cluster_.sim().run_for(10ms);
  EXPECT_FALSE(gap->answer || forwarded->answer || copy->answer);
  EXPECT_TRUE(cluster_.stop_server(0, 3s));
}

// ---------------------------------------------------------------- versions

TEST_F(WritePathTest, WriterOfALowerVersionIsCutOff) {
  cluster_.write({0, 1, 2}, 1, 0, "one");
  for (size_t i = 0; i < 2; ++i) {
    Result<RaiseVersionReply> raised = cluster_.raise(i, 1, 2);
    ASSERT_TRUE(raised) << raised.error().message();
    EXPECT_EQ(raised->status.version, 2u);
    EXPECT_EQ(raised->status.synced_sequence, 1u);
  }
  std::vector<ReplicaAck> old = cluster_.write({0, 1}, 2, 0, "old");
  EXPECT_EQ(error_of(old[0]), ErrorCode::kOldVersion);
  EXPECT_EQ(error_of(old[1]), ErrorCode::kOldVersion);
  EXPECT_EQ(error_of(cluster_.sync(0, 1, 1)), ErrorCode::kOldVersion);
  std::vector<ReplicaAck> next = cluster_.write({0, 1}, 2, 0, "new", 2);
  EXPECT_EQ(next[0].error, 0) << next[0].context;
  EXPECT_EQ(next[1].error, 0) << next[1].context;
  EXPECT_EQ(cluster_.bytes(1, 0, 3, 2), "new");
  // The one that was left out takes nothing of the new version.
  EXPECT_EQ(error_of(cluster_.write({2}, 2, 0, "new", 2)[0]), ErrorCode::kNewVersion);
}

TEST_F(WritePathTest, RaiseSurvivesAPowerCut) {
  cluster_.write({0}, 1, 0, "one");
  ASSERT_TRUE(cluster_.raise(0, 1, 2));
  cluster_.restart_server(0, Crash::kPower);
  EXPECT_EQ(error_of(cluster_.write({0}, 2, 0, "old")[0]), ErrorCode::kOldVersion);
  EXPECT_EQ(cluster_.status(0)->version, 2u);
  EXPECT_EQ(cluster_.bytes(0, 0, 3, 2), "one");
}

TEST_F(WritePathTest, LateWriteDoesNotMakeAChunkThatHasBeenRaised) {
  EXPECT_TRUE(cluster_.raise(0, 1, 2).failed_with(ErrorCode::kNotFound));
  EXPECT_EQ(error_of(cluster_.write({0}, 1, 0, "old")[0]), ErrorCode::kOldVersion);
  EXPECT_EQ(cluster_.write({0}, 1, 0, "new", 2)[0].error, 0);
  EXPECT_EQ(cluster_.bytes(0, 0, 3, 2), "new");
}

TEST_F(WritePathTest, FullReplicaSaysSoAndTheOthersGoOn) {
  MemoryDisk& disk = cluster_.node(1).memory_disk();
  cluster_.write({0, 1, 2}, 1, 0, "x", 1, ChunkId(8));
  disk.set_capacity(1 * kMiB);
  cluster_.sim().run_for(10s);  // until the store looks again
  std::string data = pattern(1 * kMiB, 3);
  std::vector<ReplicaAck> acks = cluster_.write({0, 1, 2}, 1, 0, data);
  ASSERT_EQ(acks.size(), 3u);
  EXPECT_EQ(acks[0].error, 0);
  EXPECT_EQ(error_of(acks[1]), ErrorCode::kNoSpace);
  EXPECT_EQ(acks[2].error, 0);
  EXPECT_EQ(cluster_.bytes(1, 0, 1, 1, ChunkId(8)), "x");
  // Deleting works on a full disk.
  auto deleted = cluster_.call(1, DeleteChunksRequest{cluster_.order(), {{ChunkId(8), 1}}});
  EXPECT_TRUE(deleted) << deleted.error().message();
  EXPECT_TRUE(cluster_.status(1, ChunkId(8)).failed_with(ErrorCode::kNotFound));
}

}  // namespace
}  // namespace cairn
