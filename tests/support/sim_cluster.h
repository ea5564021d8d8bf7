// SimCluster: a whole Cairn in one process on the simulated world: masters, chunkservers and mounts, the same classes
// as the real programs.
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

// What stands on a mount's file system, in the same process: the FUSE side.
class MountUser {
 public:
  virtual ~MountUser() = default;
  // The process crashes: what the file system still works on for it is to go, then the file system goes, then this.
  virtual void abandon() = 0;
};

struct SimClusterOptions {
  size_t masters = 1;        // that the group begins with
  size_t spare_masters = 0;  // machines on which another one may be started
  size_t chunkservers = 3;
  size_t mounts = 1;
  SimOptions simulator;
  uint64_t chunkserver_disk_bytes = 8ull << 30;
  // Of each machine's clocks, drawn from the seed, either way.
  int64_t drift_ppm_max = 0;
  Duration wall_error_max = Duration::zero();
  MasterSettings master;       // folder, address and store are filled in
  ChunkServerSettings server;  // likewise
  ClientOptions client;
  // Each mount has a node beside it for its machine's kernel and applications, with the same clock; whoever wants them
  // starts them.
  bool kernels = false;
  std::function<std::unique_ptr<MountUser>(size_t mount, World&, FileSystem&)> on_mount;
};

class SimCluster {
 public:
  SimCluster(uint64_t seed, SimClusterOptions options = {});
  ~SimCluster();

  // Starts everything; true when a master leads a group of all of them, all chunkservers are registered and all mounts
  // have a session.
  bool start();
  Simulator& simulator() { return simulator_; }
  SimNode& master(size_t i = 0) { return *masters_[i].node; }
  SimNode& server(size_t i) { return *servers_[i]; }
  SimNode& mount_node(size_t i) { return *mounts_[i]; }
  SimNode& kernel_node(size_t i) { return *kernels_[i]; }
  size_t masters() const { return masters_.size(); }  // with the spare machines
  size_t servers() const { return servers_.size(); }
  size_t mounts() const { return mounts_.size(); }

  // Each starts (again) what a crash has ended. The mount is new: nothing of the one before is left.
  void start_master(size_t i = 0);
  void start_server(size_t i);
  void start_mount(size_t i);
  bool wait_for_mount(size_t i, Duration limit = std::chrono::seconds(60));
  // Null while there is none (not started, crashed, no session yet).
  FileSystem* file_system(size_t i);
  MasterServer* master_server(size_t i = 0);
  ChunkServer* chunk_server(size_t i);
  size_t registered_servers();

  // ---- The group of masters. Whoever starts anew is told the masters that are wanted then.
  // Belongs to the group, or shall: those that the group began with, those that were added, none that was removed.
  bool wanted(size_t i) const { return masters_[i].wanted; }
  std::vector<size_t> wanted_masters() const;
  std::optional<size_t> leading_master();  // of two the one with the higher term
  // As `cairn master add` and `cairn master remove`: from a machine of its own, through whoever leads, again and again
  // until it has worked. A machine that is added has an empty folder and is started by this.
  Task<void> add_master(size_t i);
  Task<void> remove_master(size_t i);
  // As `cairn master transfer`, once; to none: to whoever is furthest.
  Task<void> transfer_leadership(MasterId to);
  // SIGTERM: it ends in its own time, and what is left of the process after that is for crash().
  void stop_master(size_t i);
  // Of a master that was removed, or never started: its disk is a new one.
  void wipe_master(size_t i);
  // Where the administrator sits; nothing ever happens to it. Only in a group of several.
  SimNode& administrator() { return *administrator_; }
  // What no master may say, ever: its log's disk or its state failed. Empty: none has.
  const std::string& fatal() const { return fatal_; }

  // Runs an operation on mount `i` to its end. None if it did not end within the limit, or the mount crashed.
  template <class T>
  std::optional<T> run(size_t i, std::function<Task<T>(FileSystem&)> operation,
                       Duration limit = std::chrono::seconds(120)) {
    auto result = std::make_shared<std::optional<T>>();
    FileSystem* fs = file_system(i);
    if (!fs) return std::nullopt;
    mounts_[i]->spawn(drive<T>(fs, std::move(operation), result));
    simulator_.run_until([&] { return result->has_value() || !mounts_[i]->running(); }, limit);
    return *result;
  }

 private:
  struct Master {
    SimNode* node = nullptr;
    bool wanted = false;
  };
  template <class T>
  static Task<void> drive(FileSystem* fs, std::function<Task<T>(FileSystem&)> operation,
                          std::shared_ptr<std::optional<T>> result) {
    T value = co_await operation(*fs);
    result->emplace(std::move(value));
  }
  SimNodeOptions node_options(SimNodeOptions options = {});  // with errors of its clocks
  Address address_of(size_t i) const;
  std::vector<Address> addresses() const;  // of the masters that are wanted
  bool make_group();
  Task<void> add_all_masters(std::shared_ptr<bool> done);

  SimClusterOptions options_;
  Simulator simulator_;
  std::vector<Master> masters_;
  std::vector<SimNode*> servers_;
  std::vector<SimNode*> mounts_;
  std::vector<SimNode*> kernels_;
  SimNode* administrator_ = nullptr;
  bool group_made_ = false;  // an empty folder is never again a new cluster
  std::string fatal_;
};

}  // namespace cairn
