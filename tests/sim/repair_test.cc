// Repair when a chunkserver is gone for good: how fast many small chunks are copied, and that what cannot be repaired
// does not keep the rest waiting.
#include <algorithm>
#include <chrono>
#include <gtest/gtest.h>
#include <string>

#include "fs/client/master_link.h"
#include "tests/support/sim_cluster.h"

namespace cairn {
namespace {

using namespace std::chrono_literals;
using FS = FileSystem;

// Of files that are made from now on, as `cairn goal set` does it.
Task<Result<void>> set_goal_of_root(World& world, uint8_t goal) {
  ClientOptions options;
  options.masters = {Address{.host_or_path = "master", .port = 9400}};
  MasterLink link(world, options);
  Result<void> opened = co_await link.open_session();
  if (!opened) co_return opened;
  SetGoalOp op;
  op.inode = kRootInode;
  op.goal = goal;
  Result<MutationReply> reply = co_await link.mutate(op);
  co_await link.close(world.clock().now() + std::chrono::seconds(5));
  co_return reply ? Result<void>() : Result<void>(reply.error());
}

Task<Result<void>> write_file(FS& fs, std::string name) {
  Result<Entry> made = co_await fs.create(kRootInode, name, 0644, {});
  if (!made) co_return made.error();
  Result<FS::HandleId> handle = fs.opened_by_create(made->attributes.inode, {.read = true, .write = true});
  if (!handle) co_return handle.error();
  Result<void> done = co_await fs.write(*handle, 0, Buffer::copy_of(name));
  if (done) done = co_await fs.fsync(*handle, false);
  co_await fs.release(*handle);
  co_return done;
}

class Repair : public testing::Test {
 protected:
  void write(SimCluster& cluster, const std::string& name) {
    auto written = cluster.run<Result<void>>(0, [&](FS& fs) { return write_file(fs, name); });
    ASSERT_TRUE(written.has_value()) << "it did not end";
    ASSERT_TRUE(written->has_value()) << written->error().message();
  }
  // Chunks with fewer current copies on servers that are there than `goal`.
  size_t short_of(SimCluster& cluster, uint8_t goal) {
    Result<std::vector<ChunkEntry>> chunks = cluster.master_server()->machine().chunks(ChunkId{}, 10'000);
    size_t count = 0;
    for (const ChunkEntry& entry : chunks ? *chunks : std::vector<ChunkEntry>()) {
      if (entry.chunk.refs == 0 || entry.chunk.goal != goal) continue;
      auto there = std::ranges::count_if(entry.chunk.replicas, [&](const ReplicaRecord& replica) {
        return replica.state == ReplicaState::kCurrent && replica.server != gone_;
      });
      if (there < goal) ++count;
    }
    return count;
  }
  void lose_server(SimCluster& cluster, size_t i) {
    gone_ = cluster.chunk_server(i)->server();
    cluster.server(i).crash(Crash::kProcess);
  }

  ServerId gone_;
};

TEST_F(Repair, ManySmallChunksAreCopiedOneAfterAnotherWithoutPauses) {
  SimCluster cluster(31, {.chunkservers = 4});
  ASSERT_TRUE(cluster.start());
  for (int i = 0; i < 150; ++i)
    write(cluster, "f" + std::to_string(i));
  cluster.simulator().run_for(10s);  // all sealed
  ASSERT_EQ(short_of(cluster, 3), 0u);
  lose_server(cluster, 0);
  cluster.simulator().run_for(14s);
  ASSERT_GT(short_of(cluster, 3), 80u);
  cluster.simulator().run_for(6s);  // it counts as dead after 15 s
  EXPECT_EQ(short_of(cluster, 3), 0u);
}

TEST_F(Repair, WhatNoServerIsLeftForKeepsNothingElseWaiting) {
  SimClusterOptions options{.chunkservers = 3};
  options.master.keeper.repair_list = 4;
  SimCluster cluster(32, options);
  ASSERT_TRUE(cluster.start());
  for (int i = 0; i < 12; ++i)
    write(cluster, "on_all" + std::to_string(i));
  auto set = cluster.run<Result<void>>(0, [&](FS&) { return set_goal_of_root(cluster.mount_node(0), 2); });
  ASSERT_TRUE(set && *set);
  for (int i = 0; i < 12; ++i)
    write(cluster, "on_two" + std::to_string(i));
  cluster.simulator().run_for(10s);
  lose_server(cluster, 1);
  ASSERT_GT(short_of(cluster, 2), 2u);
  cluster.simulator().run_for(60s);
  EXPECT_EQ(short_of(cluster, 2), 0u);
  EXPECT_EQ(short_of(cluster, 3), 12u);
}

}  // namespace
}  // namespace cairn
