// ServerPool: one connection to each chunkserver that this mount talks to, and what is known of their health.
//
// Loop thread only. Outlives the readers and writers that use it; stop() ends all connections.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/proto/chunk_types.h"
#include "common/rpc/rpc.h"
#include "common/runtime/future.h"
#include "common/runtime/task_group.h"

namespace cairn {

// A stopped or cut-off server is found by unanswered keepalives (rpc.h) within 2 s; these bound slow disks.
inline constexpr Duration kChunkWriteDeadline = std::chrono::seconds(10);
inline constexpr Duration kChunkSyncDeadline = std::chrono::seconds(20);
inline constexpr Duration kChunkReadDeadline = std::chrono::seconds(5);

class ServerPool {
 public:
  ServerPool(World& world, Hello hello);
  ~ServerPool();

  RpcClient& client(const std::string& address);

  // fsync of one chunk on one replica. What is asked of one server at the same time travels together, so that a burst
  // of small files costs few requests and few flushes of its disk. The result's error is the RPC's; the replica's own
  // refusal is ack.error.
  Future<ReplicaAck> sync(const ReplicaAddress& replica, ChunkSyncRequest::Item item);

  // What a call to this server came to, and when it was sent. One that failed is asked last for a while. One that was
  // waited for in vain is silent until it answers: it is asked in the background, and nobody waits for it again.
  void note_failure(const ReplicaAddress& replica, TimePoint asked);
  void note_success(const ReplicaAddress& replica);
  bool avoid(const std::string& address) const;
  bool silent(const std::string& address) const;
  // What calls to a silent server fail with, without being sent.
  static Error silence(const std::string& address);
  // Those that were waited for in vain lately, for the master: what is new is to be placed elsewhere.
  std::vector<ServerId> silent_servers() const;

  Task<void> stop();

 private:
  struct Server;
  Server& server(const std::string& address);
  Task<void> run_syncs(Server& server);
  Task<void> probe(Server& server);

  World& world_;
  Hello hello_;
  std::map<std::string, std::unique_ptr<Server>> servers_;
  TaskGroup tasks_;
};

}  // namespace cairn
