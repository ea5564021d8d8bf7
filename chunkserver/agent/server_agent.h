// ServerAgent: this chunkserver's link to its masters. It registers with each of them, tells them what chunks are here,
// and reports space and bad chunks with a heartbeat; what they answer (cluster, term, log time, keys) goes to
// ChunkAccess, the term durably first. Each master is served by a loop of its own, so that one that does not answer
// holds up nothing.
//
// Loop thread only. Everything passed to the constructor outlives it. stop() must have been awaited before it goes.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "chunkserver/agent/server_state.h"
#include "chunkserver/replication/chunk_access.h"
#include "chunkserver/store/chunk_store.h"
#include "common/proto/control_types.h"
#include "common/rpc/rpc.h"
#include "common/runtime/blocking_pool.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"

namespace cairn {

inline constexpr Duration kHeartbeatDefault = std::chrono::seconds(1);
inline constexpr Duration kHeartbeatMin = std::chrono::milliseconds(50);
inline constexpr Duration kHeartbeatMax = std::chrono::seconds(60);
inline constexpr Duration kMasterCallDeadline = std::chrono::seconds(3);
inline constexpr Duration kRegisterPauseMin = std::chrono::milliseconds(50);  // doubles while nobody answers
inline constexpr Duration kRegisterPauseMax = std::chrono::seconds(1);
inline constexpr size_t kReportPageChunks = 4096;  // about 300 KiB of message
inline constexpr size_t kBadChunksPerHeartbeat = 4096;
// A full report also names them as missing or unverified; more of them at once is a lost disk.
inline constexpr size_t kBadChunksMax = 65536;
// How old the log time on disk may get: a file a heartbeat would be a sync a second. Terms are kept at once.
inline constexpr Duration kKeepLogTimeEvery = std::chrono::seconds(10);

struct ServerAgentOptions {
  std::vector<Address> masters;
  std::string address;               // where others reach this chunkserver
  std::string domain;                // failure domain
  std::string program;               // "cairn-chunkserver 0.1.0"
  std::vector<std::string> folders;  // data directories, for STATE
};

class ServerAgent {
 public:
  struct Events {
    std::function<void(ClusterId)> joined;           // the cluster is known: for connections to come
    std::function<void(const Error&)> cannot_serve;  // it belongs to another cluster than its masters
  };
  // `state`: as kept at this start, with this start counted.
  ServerAgent(World& world, ServerAgentOptions options, ServerState state, ChunkStore& store, ChunkAccess& access,
              Events events);
  ~ServerAgent();

  void start();
  // Reported with the next heartbeat, which is sent at once.
  void report_bad(ChunkId chunk);
  // Masters that know this start of the server and have its whole report.
  size_t reported_to() const;
  // Ends the link; keeps the last log time.
  Task<void> stop();

 private:
  struct Master {
    Master(World& world, const Address& address, RpcClientOptions rpc) : client(world, address, rpc) {}
    RpcClient client;
    bool known = false;  // registered and reported, as far as we know
    std::optional<Duration> heartbeat;
    TimePoint next_heartbeat{};
    std::set<ChunkId> bad;   // not yet told
    ErrorCode last_error{};  // so that each failure is logged once
  };

  Task<void> serve(Master& master);
  Task<Result<void>> register_with(Master& master);
  Task<Result<void>> send_report(Master& master);
  // Until the master must be told everything again.
  Task<Result<void>> beat(Master& master);
  Task<Result<bool>> beat_once(Master& master);
  Task<Result<void>> learn(uint64_t term, uint64_t log_time_ms, std::vector<CapabilityKey> keys);
  Task<Result<void>> join(ClusterId cluster);
  Task<Result<void>> keep(MastersState masters);
  SpaceReport space() const;
  RpcClient::CallOptions call_options() const;
  void note_failure(Master& master, const Error& error);

  World& world_;
  ServerAgentOptions options_;
  ServerState kept_;
  TimePoint kept_at_{};
  ChunkStore& store_;
  ChunkAccess& access_;
  Events events_;
  bool ever_known_ = false;
  std::unique_ptr<BlockingPool> pool_;
  std::vector<std::unique_ptr<Master>> masters_;
  Mutex learning_;  // one answer after the other, though they come from several masters
  Condition kick_;  // something to tell at once, or the end
  TaskGroup tasks_;
};

}  // namespace cairn
