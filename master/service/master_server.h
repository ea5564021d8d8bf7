// MasterServer: one master, put together: state, log, services, and what people see over HTTP. The real program and the
// simulator build the same.
//
// Loop thread only. stop() is awaited before it goes; destroying it without is a crash, as the simulator makes it.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/runtime/world.h"
#include "master/service/chunk_keeper.h"
#include "master/service/machine_adapter.h"

namespace cairn {

struct MasterSettings {
  std::string folder;  // of this master: identity, log, state, checkpoints
  std::string listen = "127.0.0.1:9400";
  std::string advertise;      // how others reach it; empty: as it listens
  std::string http_listen;    // empty: none
  bool make_cluster = false;  // an empty folder becomes a new cluster
  ClusterId cluster;          // whose certificate this master has; zero: none, and a new cluster draws its id
  bool join = false;          // an empty folder waits to be added to a group
  Duration election_timeout = std::chrono::milliseconds(500);
  Duration heartbeat = std::chrono::milliseconds(50);
  uint32_t expected_servers = 0;
  uint8_t default_goal = 3;
  uint8_t default_min_copies = 2;
  Duration session_time = std::chrono::seconds(10);
  Duration delete_grace = std::chrono::seconds(60);
  uint64_t log_reserve_bytes = 256ull << 20;
  uint64_t checkpoint_log_bytes = 64ull << 20;  // what a restart of the machine replays at most
  uint64_t log_segment_bytes = 64ull << 20;
  uint64_t log_trailing_entries = 10'000;  // kept behind a checkpoint, for masters that lag behind
  MachineAdapterOptions state;
  ChunkKeeperOptions keeper;
  std::string program;
  // The log's disk or the state machine failed: the process must end. Default: abort().
  std::function<void(const Error&)> on_fatal;
};

class MasterServer {
 public:
  static Task<Result<std::unique_ptr<MasterServer>>> start(World& world, MasterSettings settings);
  ~MasterServer();
  Task<void> stop();

  Address address() const;
  // Has both of these. Not while it waits to be added to a group, nor while it opens its folder again.
  bool open() const;
  Machine& machine();
  ReplicatedLog& log();

 private:
  struct Impl;
  explicit MasterServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cairn
