// ServerAgent: this chunkserver's link to its masters. It registers with whoever of them leads, tells it what chunks
// are here, and reports space and bad chunks with a heartbeat; what the leader answers (cluster, term, log time, keys)
// goes to ChunkAccess, the term durably first. Each master is served by a loop of its own, so that one that does not
// answer holds up nothing; while no leader is heard, all are asked every tenth of a second, so that a new one knows its
// chunkservers almost at once. Masters that were not given are learned from those that were.
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
// A master that does not lead is asked again so often while another one does, and while none is heard.
inline constexpr Duration kRegisterPause = std::chrono::seconds(1);
inline constexpr Duration kRegisterPauseNoLeader = std::chrono::milliseconds(100);
inline constexpr Duration kRegisterPauseLongNoLeader = std::chrono::milliseconds(500);
inline constexpr Duration kLongNoLeader = std::chrono::seconds(60);
// A leader whose answer to a heartbeat is so much overdue may be one no more.
inline constexpr Duration kHeartbeatGrace = std::chrono::milliseconds(250);
// Short: the masters that it began with may be gone soon after others have been added.
inline constexpr Duration kLearnMastersEvery = std::chrono::seconds(2);
inline constexpr size_t kMastersKnownMax = 32;     // a group has five at most
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
  // Makes the term durable, for orders that bring it before any answer does.
  Task<Result<void>> keep_term(uint64_t term);
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
    TimePoint next_learning{};  // of the other masters
    ErrorCode last_error{};     // so that each failure is logged once
  };

  Master& master_at(const Address& address);
  Task<void> serve(Master& master);
  // Until it is time to ask a master again that does not lead, or cannot be reached. False at the end.
  Task<bool> pause();
  bool leader_heard() const;
  void heard_leader(Master& master);
  void disconnected(Master& master);
  Task<void> learn_masters(Master& master);
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
  RpcClientOptions rpc_;
  std::vector<std::unique_ptr<Master>> masters_;
  std::set<ChunkId> bad_;    // chunks that are not yet told
  TimePoint heard_at_{};     // the last answer of a leader
  TimePoint heard_until_{};  // a leader that answers is to have answered again by then
  Mutex learning_;           // one answer after the other, though they come from several masters
  Condition kick_;           // something to tell at once, or the end
  TaskGroup tasks_;
};

}  // namespace cairn
