// Three whole chunkservers on LevelDB, real disks and TCP over loopback: what the simulated ones pass, once for real.
#include <filesystem>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "chunkserver/server.h"
#include "common/base/crc32c.h"
#include "common/runtime/real_world.h"
#include "common/runtime/sync.h"
#include "tests/unit/chunkserver/replication/scripted_master.h"

namespace cairn {
namespace {

constexpr ChunkId kChunk{0x77};
constexpr size_t kServers = 3;
constexpr uint64_t kPieces = 24;

class RealClusterTest : public testing::Test {
 protected:
  RealClusterTest() {
    std::string name = testing::TempDir() + "cairn-chunks-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    script_.on_report = [this] { reported_.notify_all(); };
  }
  ~RealClusterTest() override { std::filesystem::remove_all(folder_); }

  Task<void> start() {
    master_ = std::make_unique<ScriptedMaster>(*world_, script_, "tcp:127.0.0.1:0");
    script_.reports.clear();
    servers_.clear();
    for (size_t i = 0; i < kServers; ++i) {
      ChunkServerSettings settings;
      settings.listen = "tcp:127.0.0.1:0";
      settings.masters = {to_string(master_->address())};
      std::string folder = folder_ + "/" + std::to_string(i);
      settings.folders = {folder};
      if (i == 2) settings.folders = {folder + "-a", folder + "-b"};  // two disks
      settings.program = "cairn-chunkserver";
      settings.store.reserve_bytes = 0;
      servers_.push_back(std::make_unique<ChunkServer>(*world_, settings));
      Result<void> started = co_await servers_.back()->start();
      if (!started) ADD_FAILURE() << started.error().message();
    }
    while (script_.reports.size() < kServers)
      co_await reported_.wait();
    RpcClientOptions options;
    options.hello = {.cluster = kTestCluster, .program = "client"};
    for (auto& server : servers_) {
      clients_.push_back(std::make_unique<RpcClient>(*world_, server->address(), options));
    }
  }
  Task<void> stop() {
    for (auto& client : clients_)
      co_await client->stop();
    for (auto& server : servers_)
      co_await server->stop();
    co_await master_->stop();
    clients_.clear();
    servers_.clear();
    master_.reset();
  }

  std::string capability() const {
    Capability capability{kChunk, 1, SessionId(5), CapabilityRights::kRead | CapabilityRights::kWrite,
                          script_.log_time_ms + 600'000};
    return sign_capability(capability, kTestKeyId, kTestKey);
  }
  // Each block says which it is; cheap, as the servers share this loop.
  static Buffer piece(uint64_t sequence) {
    Buffer buffer = Buffer::zeros(kMiB);
    for (uint64_t at = 0; at < kMiB; at += kBlockSizeBytes) {
      uint64_t number = sequence * kMiB + at;
      memcpy(buffer.mutable_span().data() + at, &number, sizeof number);
    }
    return buffer;
  }

  Task<void> write_one(uint64_t sequence, size_t* done) {
    Buffer data = piece(sequence);
    ChunkWriteRequest request;
    request.capability = capability();
    request.chunk = kChunk;
    request.version = 1;
    request.sequence = sequence;
    request.offset = static_cast<uint32_t>((sequence - 1) * kMiB);
    request.length = kMiB;
    request.checksums = block_checksums(data.span());
    for (size_t i = 1; i < kServers; ++i) {
      request.chain.push_back({servers_[i]->server(), to_string(servers_[i]->address())});
    }
    auto answer = co_await typed_call(*clients_[0], request, in(20s), {data});
    EXPECT_TRUE(answer) << answer.error().message();
    if (answer) {
      EXPECT_EQ(answer->reply.acks.size(), kServers);
      for (const ReplicaAck& ack : answer->reply.acks)
        EXPECT_EQ(ack.error, 0) << ack.context;
    }
    ++*done;
    reported_.notify_all();
  }
  Task<void> expect_everything_on(size_t server) {
    for (uint64_t sequence = 1; sequence <= kPieces; ++sequence) {
      ChunkReadRequest request{capability(), kChunk, 1, static_cast<uint32_t>((sequence - 1) * kMiB), kMiB};
      auto answer = co_await typed_call(*clients_[server], request, in(20s));
      EXPECT_TRUE(answer) << answer.error().message();
      if (!answer) co_return;
      Buffer data = flatten(answer->payload);
      EXPECT_TRUE(data.view() == piece(sequence).view()) << sequence;
      EXPECT_EQ(answer->reply.checksums, block_checksums(data.span()));
    }
  }
  RpcClient::CallOptions in(Duration time) { return {.deadline = world_->clock().now() + time}; }

  Task<int> write_sync_restart_read() {
    co_await start();
    size_t done = 0;
    TaskGroup writes(world_->executor(), world_->clock());
    for (uint64_t sequence = 1; sequence <= kPieces; ++sequence)
      writes.spawn(write_one(sequence, &done));
    while (done < kPieces)
      co_await reported_.wait();
    co_await writes.stop();
    for (size_t i = 0; i < kServers; ++i) {
      ChunkSyncRequest request{{{capability(), kChunk, 1, kPieces, servers_[i]->incarnation()}}};
      auto answer = co_await typed_call(*clients_[i], request, in(20s));
      EXPECT_TRUE(answer) << answer.error().message();
      if (answer) EXPECT_EQ(answer->reply.acks.at(0).synced_sequence, kPieces) << answer->reply.acks.at(0).context;
      co_await expect_everything_on(i);
    }
    std::vector<ServerId> ids;
    for (auto& server : servers_)
      ids.push_back(server->server());
    co_await stop();
    co_await start();
    for (size_t i = 0; i < kServers; ++i) {
      EXPECT_EQ(servers_[i]->server(), ids[i]);
      EXPECT_EQ(servers_[i]->incarnation(), 2u);
      co_await expect_everything_on(i);
    }
    co_await stop();
    co_return 0;
  }

  std::string folder_;
  MasterScript script_;
  std::unique_ptr<RealWorld> world_ = RealWorld::make({});
  Condition reported_{world_->executor()};
  std::unique_ptr<ScriptedMaster> master_;
  std::vector<std::unique_ptr<ChunkServer>> servers_;
  std::vector<std::unique_ptr<RpcClient>> clients_;
};

TEST_F(RealClusterTest, WhatThreeServersSyncedIsThereAfterARestart) {
  RealWorld& world = *world_;
  EXPECT_EQ(world.run(write_sync_restart_read()), 0);
}

}  // namespace
}  // namespace cairn
