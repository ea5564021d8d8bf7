// SimCluster: a whole Cairn in one process on the simulated world: one master, chunkservers and mounts, the same classes as the real programs.
//
//   SimCluster cluster(seed, {.chunkservers = 3});
//   ASSERT_TRUE(cluster.start());
//   Result<Entry> made = cluster.run(0, [](FileSystem& fs) { return fs.create(kRootInode, "x", 0644, {}); });
//
// One thread. Every call that waits has a limit in simulated time, and fails the test's expectation when it is reached.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chunkserver/server.h"
#include "common/runtime/sim_world.h"
#include "fs/client/file_system.h"
#include "master/service/master_server.h"

namespace cairn {

struct SimClusterOptions {
  size_t chunkservers = 3;
  size_t mounts = 1;
  SimOptions simulator;
  uint64_t chunkserver_disk_bytes = 8ull << 30;
  MasterSettings master;       // folder, address and store are filled in
  ChunkServerSettings server;  // likewise
  ClientOptions client;
};

class SimCluster {
 public:
  SimCluster(uint64_t seed, SimClusterOptions options = {});
  ~SimCluster();

  // Starts everything; true when the master leads, all chunkservers are registered and all mounts have a session.
  bool start();
  Simulator& simulator() { return simulator_; }
  SimNode& master() { return *master_; }
  SimNode& server(size_t i) { return *servers_[i]; }
  SimNode& mount_node(size_t i) { return *mounts_[i]; }
  size_t servers() const { return servers_.size(); }
  size_t mounts() const { return mounts_.size(); }

  // Each starts (again) what a crash has ended. The mount is new: nothing of the one before is left.
  void start_master();
  void start_server(size_t i);
  void start_mount(size_t i);
  bool wait_for_mount(size_t i, Duration limit = std::chrono::seconds(60));
  // Null while there is none (not started, crashed, no session yet).
  FileSystem* file_system(size_t i);
  MasterServer* master_server();
  ChunkServer* chunk_server(size_t i);
  size_t registered_servers();

  // Runs an operation on mount `i` to its end. None if it did not end within the limit, or the mount crashed.
  template <class T>
  std::optional<T> run(size_t i, std::function<Task<T>(FileSystem&)> operation, Duration limit = std::chrono::seconds(120)) {
    auto result = std::make_shared<std::optional<T>>();
    FileSystem* fs = file_system(i);
    if (!fs) return std::nullopt;
    mounts_[i]->spawn(drive<T>(fs, std::move(operation), result));
    simulator_.run_until([&] { return result->has_value() || !mounts_[i]->running(); }, limit);
    return *result;
  }

 private:
  template <class T>
  static Task<void> drive(FileSystem* fs, std::function<Task<T>(FileSystem&)> operation, std::shared_ptr<std::optional<T>> result) {
    T value = co_await operation(*fs);
    result->emplace(std::move(value));
  }

  SimClusterOptions options_;
  Simulator simulator_;
  SimNode* master_ = nullptr;
  std::vector<SimNode*> servers_;
  std::vector<SimNode*> mounts_;
};

}  // namespace cairn
