#include "chunkserver/agent/server_agent.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/chunkserver/replication/chunk_cluster.h"

namespace cairn {
namespace {

TEST(ServerAgent, TellsTheMasterWhoItIsAndWhatItHolds) {
  ChunkCluster cluster(1);
  cluster.start();
  MasterScript& master = cluster.master();
  ASSERT_EQ(master.registrations.size(), 1u);
  const RegisterServerRequest first = master.registrations[0];
  EXPECT_FALSE(first.cluster);  // new
  EXPECT_TRUE(first.server);
  EXPECT_EQ(first.address, "tcp:c0:9410");
  EXPECT_EQ(first.domain, "rack");
  EXPECT_EQ(first.incarnation, 1u);
  EXPECT_GT(first.space.free_bytes, 0u);
  ASSERT_EQ(master.reports.size(), 1u);
  EXPECT_TRUE(master.reports[0].first && master.reports[0].last);
  cluster.write({0}, 1, 0, "data");
  ASSERT_EQ(cluster.sync(0, 1, 1).error, 0);
  cluster.restart_server(0, Crash::kPower);
  ASSERT_EQ(master.registrations.size(), 2u);
  const RegisterServerRequest& second = master.registrations[1];
  EXPECT_EQ(second.cluster, kTestCluster);
  EXPECT_EQ(second.server, first.server);
  EXPECT_EQ(second.incarnation, 2u);
  EXPECT_NE(second.boot_id, first.boot_id);
  ASSERT_EQ(master.reports.size(), 2u);
  ASSERT_EQ(master.reports[1].chunks.size(), 1u);
  EXPECT_EQ(master.reports[1].chunks[0].chunk, kChunk);
  EXPECT_FALSE(master.reports[1].chunks[0].verified);
}

TEST(ServerAgent, LongReportComesInPages) {
  ChunkCluster cluster(1);
  cluster.start();
  constexpr uint64_t kChunks = 2 * kReportPageChunks + 10;
  cluster.node(0).spawn([](ChunkStore& store) -> Task<void> {
    for (uint64_t i = 1; i <= kChunks; ++i)
      (void)co_await store.create(ChunkId(i), 1, 0, {});
  }(cluster.server(0).store()));
  ASSERT_TRUE(cluster.sim().run_until([&] { return cluster.server(0).store().space().chunks >= kChunks; }, 30s));
  cluster.master().reports.clear();
  cluster.master().register_again = true;
  ASSERT_TRUE(cluster.sim().run_until(
      [&] { return !cluster.master().reports.empty() && cluster.master().reports.back().last; }, 30s));
  const auto& reports = cluster.master().reports;
  ASSERT_EQ(reports.size(), 3u);
  ChunkId previous;
  uint64_t chunks = 0;
  for (size_t i = 0; i < reports.size(); ++i) {
    EXPECT_EQ(reports[i].first, i == 0);
    EXPECT_EQ(reports[i].last, i == 2);
    EXPECT_EQ(reports[i].incarnation, 1u);
    for (const ReplicaStatus& status : reports[i].chunks) {
      EXPECT_GT(status.chunk, previous);
      previous = status.chunk;
      ++chunks;
    }
  }
  EXPECT_EQ(chunks, kChunks);
}

TEST(ServerAgent, NothingIsServedBeforeAMasterHasAnswered) {
  ChunkCluster cluster(1);
  cluster.start();
  cluster.write({0}, 1, 0, "data");
  cluster.sync(0, 1, 1);
  cluster.master_node().crash(Crash::kProcess);
  cluster.node(0).crash(Crash::kProcess);
  cluster.start_server(0);
  cluster.sim().run_for(2s);
  EXPECT_TRUE(cluster.server(0).health().failed_with(ErrorCode::kOverload));
  TimePoint began = cluster.sim().now();
  Result<std::string> read = cluster.read(0, 0, 4);
  if (read.failed_with(ErrorCode::kUnavailable)) read = cluster.read(0, 0, 4);  // the connection of before has gone
  EXPECT_TRUE(read.failed_with(ErrorCode::kOverload)) << read.error().message();
  EXPECT_NE(read.error().context.find("starting"), std::string::npos);
  EXPECT_LT(cluster.sim().now() - began, 2s);
  EXPECT_EQ(error_of(cluster.write({0}, 2, 0, "more")[0]), ErrorCode::kOverload);
  EXPECT_EQ(error_of(cluster.sync(0, 1, 1)), ErrorCode::kOverload);
  EXPECT_TRUE(cluster.raise(0, 1, 2).failed_with(ErrorCode::kOverload));
  cluster.start_master();
  ASSERT_TRUE(cluster.wait_until_serving(0));
  EXPECT_EQ(cluster.bytes(0, 0, 4), "data");
  EXPECT_TRUE(cluster.server(0).health());
}

TEST(ServerAgent, RequestThatComesDuringTheStartWaitsForTheMaster) {
  ChunkCluster cluster(1);
  cluster.start_master();
  cluster.sim().block(cluster.node(0), cluster.master_node());
  cluster.start_server(0);
  cluster.sim().run_for(500ms);
  auto request = cluster.write_request(1, 0, "data");
  auto call = cluster.begin(0, request, {Buffer::copy_of("data")});
  cluster.sim().run_for(100ms);
  EXPECT_FALSE(call->answer);
  cluster.sim().unblock_all();
  cluster.sim().reset_connections(cluster.node(0), cluster.master_node());
  auto answer = cluster.end(call);
  ASSERT_TRUE(answer) << answer.error().message();
  EXPECT_EQ(answer->reply.acks[0].error, 0);
}

TEST(ServerAgent, HeartbeatsComeAtTheIntervalThatTheMasterNames) {
  ChunkCluster cluster(1);
  cluster.master().heartbeat_ms = 200;
  cluster.start();
  cluster.master().heartbeats.clear();
  cluster.sim().run_for(10s);
  EXPECT_NEAR(static_cast<double>(cluster.master().heartbeats.size()), 50, 2);
  EXPECT_EQ(cluster.master().heartbeats.back().incarnation, 1u);
  EXPECT_EQ(cluster.master().heartbeats.back().space.stores, 1u);
}

TEST(ServerAgent, MasterThatHasForgottenItIsToldEverythingAgain) {
  ChunkCluster cluster(1);
  cluster.start();
  cluster.write({0}, 1, 0, "data");
  cluster.master().register_again = true;
  ASSERT_TRUE(cluster.sim().run_until([&] { return cluster.master().reports.size() == 2; }, 5s));
  EXPECT_EQ(cluster.master().registrations.size(), 2u);
  EXPECT_EQ(cluster.master().reports[1].chunks.size(), 1u);
}

TEST(ServerAgent, OlderTermIsNotBelievedAfterARestartEither) {
  ChunkCluster cluster(1);
  cluster.master().term = 5;
  cluster.start();
  cluster.master().term = 4;
  cluster.master().log_time_ms = 5;
  cluster.node(0).crash(Crash::kPower);
  cluster.start_server(0);
  cluster.sim().run_for(5s);
  EXPECT_EQ(cluster.server(0).reported_to(), 0u);
  EXPECT_TRUE(cluster.server(0).health().failed_with(ErrorCode::kOverload));
  cluster.master().term = 5;
  EXPECT_TRUE(cluster.wait_until_serving(0));
}

TEST(ServerAgent, TermOfAnOrderIsNotForgottenByARestart) {
  ChunkCluster cluster(1);
  cluster.start();
  cluster.write({0}, 1, 0, "data");
  cluster.sync(0, 1, 1);
  RaiseVersionRequest order{.header = cluster.order(), .chunk = kChunk, .from_version = 1, .to_version = 2};
  order.header.term = 9;  // of a new leader, before it has been registered with
  ASSERT_TRUE(cluster.call(0, order));
  order.header.term = 8;
  order.to_version = 3;
  EXPECT_TRUE(cluster.call(0, order).failed_with(ErrorCode::kNotLeader));
  cluster.node(0).crash(Crash::kPower);
  cluster.start_server(0);
  cluster.sim().run_for(5s);
  EXPECT_EQ(cluster.server(0).reported_to(), 0u) << "the master of term 1 was believed";
  cluster.master().term = 9;
  EXPECT_TRUE(cluster.wait_until_serving(0));
}

TEST(ServerAgent, MasterThatWasAddedLaterIsRegisteredWith) {
  ChunkCluster cluster(1);
  cluster.start();
  MasterScript added;  // outlives its process
  added.term = 2;
  added.refuse = ErrorCode::kNotLeader;
  SimNode& node = cluster.sim().add_node("added");
  node.start([&](World& world) { return std::make_shared<ScriptedMaster>(world, added, "added:9400"); });
  cluster.master().members.push_back({.master = MasterId(2), .address = "tcp:added:9400"});
  ASSERT_TRUE(cluster.sim().run_until([&] { return !added.registrations.empty(); }, 4s));
  cluster.master_node().crash(Crash::kProcess);
  cluster.sim().run_for(1s);
  added.refuse.reset();  // it has been elected
  EXPECT_TRUE(cluster.sim().run_until([&] { return !added.reports.empty(); }, 300ms));
  node.crash(Crash::kProcess);
}

TEST(ServerAgent, MasterThatIsBackIsToldAtOnce) {
  ChunkCluster cluster(1);
  cluster.start();
  cluster.sim().run_for(10s);
  cluster.master_node().crash(Crash::kProcess);
  cluster.sim().run_for(2s);
  cluster.master().register_again = true;
  cluster.master().reports.clear();
  cluster.start_master();
  EXPECT_TRUE(cluster.sim().run_until([&] { return !cluster.master().reports.empty(); }, 300ms));
}

TEST(ServerAgent, CapabilityThatRanOutBeforeARestartStaysSo) {
  ChunkCluster cluster(1);
  cluster.start();
  cluster.write({0}, 1, 0, "data");
  cluster.sync(0, 1, 1);
  Capability capability{kChunk, 1, SessionId(5), kReadWrite, cluster.master().log_time_ms + 1};
  ChunkReadRequest read{sign_capability(capability, kTestKeyId, kTestKey), kChunk, 1, 0, 4};
  uint64_t before = cluster.master().log_time_ms;
  cluster.master().log_time_ms += 60'000;
  cluster.sim().run_for(kKeepLogTimeEvery + 2s);  // heard, and kept
  cluster.master().log_time_ms = before;          // as a leader would say it that was cut off meanwhile
  cluster.restart_server(0, Crash::kPower);
  EXPECT_TRUE(cluster.call(0, read).failed_with(ErrorCode::kUnauthorized));
}

TEST(ServerAgent, NewKeysAreLearnedWithAHeartbeat) {
  ChunkCluster cluster(1);
  cluster.start();
  cluster.write({0}, 1, 0, "data");
  std::string next(kCapabilityKeyBytes, 'n');
  Capability capability{kChunk, 1, SessionId(5), kReadWrite, cluster.master().log_time_ms + 60'000};
  ChunkReadRequest read{sign_capability(capability, 8, next), kChunk, 1, 0, 4};
  EXPECT_TRUE(cluster.call(0, read).failed_with(ErrorCode::kUnauthorized));
  cluster.master().keys.insert(cluster.master().keys.begin(), {8, next});
  cluster.sim().run_for(2s);
  EXPECT_TRUE(cluster.call(0, read));
  EXPECT_EQ(cluster.bytes(0, 0, 4), "data");  // the one before is still good
  cluster.master().keys.pop_back();
  cluster.sim().run_for(2s);
  EXPECT_TRUE(cluster.read(0, 0, 4).failed_with(ErrorCode::kUnauthorized));
}

TEST(ServerAgent, BadChunkIsReportedAtOnceAndOnce) {
  ChunkCluster cluster(1);
  cluster.master().heartbeat_ms = 30'000;
  cluster.start();
  // A write of a part of a block reads the rest of it: the store finds that it has rotted.
  cluster.write({0}, 1, 0, pattern(200'000, 1));
  ASSERT_EQ(cluster.sync(0, 1, 1).error, 0);
  cluster.restart_server(0, Crash::kProcess);
  MemoryDisk& disk = cluster.node(0).memory_disk();
  for (const std::string& segment : *disk.list("/data/log")) {
    ASSERT_TRUE(disk.flip_byte("/data/log/" + segment, 100));
  }
  cluster.master().heartbeats.clear();
  EXPECT_EQ(error_of(cluster.write({0}, 2, 10, "x")[0]), ErrorCode::kCorrupt);
  ASSERT_TRUE(cluster.sim().run_until([&] { return !cluster.master().heartbeats.empty(); }, 2s));
  EXPECT_THAT(cluster.master().heartbeats[0].bad_chunks, testing::ElementsAre(kChunk));
  ASSERT_TRUE(cluster.sim().run_until([&] { return cluster.master().heartbeats.size() == 2; }, 60s));
  EXPECT_THAT(cluster.master().heartbeats[1].bad_chunks, testing::IsEmpty());
}

TEST(ServerAgent, MasterOfAnotherClusterEndsIt) {
  ChunkCluster cluster(1);
  cluster.start();
  cluster.node(0).crash(Crash::kProcess);
  cluster.master().cluster = ClusterId(0xBAD);
  cluster.start_server(0);
  ASSERT_TRUE(cluster.sim().run_until([&] { return cluster.fatal(0).has_value(); }, 10s));
  EXPECT_EQ(cluster.fatal(0)->code, ErrorCode::kWrongCluster);
  EXPECT_NE(cluster.fatal(0)->context.find("/data"), std::string::npos) << cluster.fatal(0)->context;
  EXPECT_NE(cluster.fatal(0)->context.find(to_string(kTestCluster)), std::string::npos);
  EXPECT_NE(cluster.fatal(0)->context.find(to_string(ClusterId(0xBAD))), std::string::npos);
  EXPECT_EQ(cluster.server(0).reported_to(), 0u);
}

TEST(ServerAgent, MasterThatRefusesIsAskedAgain) {
  ChunkCluster cluster(1);
  cluster.master().refuse = ErrorCode::kNotLeader;
  cluster.start_master();
  cluster.start_server(0);
  cluster.sim().run_for(3s);
  EXPECT_EQ(cluster.server(0).reported_to(), 0u);
  size_t asked = cluster.master().registrations.size();
  EXPECT_GE(asked, 3u);
  EXPECT_LE(asked, 45u);  // not a storm
  cluster.master().refuse.reset();
  EXPECT_TRUE(cluster.wait_until_serving(0));
}

}  // namespace
}  // namespace cairn
