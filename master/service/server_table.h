// ServerTable: the chunkservers as this leader sees them: who answers, how much room they say they have, and a
// connection to each.
//
// Loop thread only. What is durable of a server (address, domain, boots) is in the machine's records; the rest is
// learned anew by each leader.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/proto/control_types.h"
#include "common/rpc/rpc.h"
#include "common/runtime/clock.h"
#include "common/runtime/world.h"
#include "master/placement/cluster_view.h"

namespace cairn {

struct LiveServer {
  ServerId server;
  std::string address, domain, program;
  uint64_t incarnation = 0;
  SpaceReport space;
  TimePoint heard{};            // the last heartbeat
  uint64_t promised_bytes = 0;  // granted since it last said how much is free
  uint32_t copies_running = 0;
  bool ask_again = false;             // the next heartbeat is told to register, and so to report, again
  bool reported = false;              // its whole chunk report has been reconciled since it registered here
  std::vector<ReplicaStatus> report;  // pages that have come
  uint64_t report_next_chunk = 0;     // ids below were given out when the report began
  std::unique_ptr<RpcClient> client;
};

class ServerTable {
 public:
  ServerTable(World& world, Hello hello, Duration silent_after, Duration dead_after);

  // Registered: known from now on, and alive.
  LiveServer& registered(const RegisterServerRequest& request);
  // From the records, when this master begins to lead: known, not yet heard of. It has `dead_after` from now to come.
  void expect(ServerId server, const std::string& address, const std::string& domain);
  // Removed for good: as if it had never been known.
  void forget(ServerId server);
  LiveServer* find(ServerId server);
  const LiveServer* find(ServerId server) const;
  bool alive(ServerId server) const;
  bool dead(ServerId server) const;
  ServerHealth health(const LiveServer& server) const;
  // Its connection was refused or broke while something was ordered: silent until its next heartbeat.
  void suspect(ServerId server);
  // A client has waited for it in vain: if it has not been heard here either, for that long, it counts as silent.
  void suspect_if_overdue(ServerId server, Duration overdue);
  // Nobody could be heard for a while: each has its time before it counts as dead again.
  void excuse_silence();
  std::vector<ServerId> ids() const;  // ascending
  ClusterView view() const;
  size_t alive_count() const;

  Task<void> stop();

 private:
  void connect(LiveServer& server);
  World& world_;
  Hello hello_;
  Duration silent_after_, dead_after_;
  std::map<ServerId, std::unique_ptr<LiveServer>> servers_;
  std::vector<std::unique_ptr<RpcClient>> retired_;  // of addresses that changed; calls may be under way
};

}  // namespace cairn
