// ScriptedMaster: what a chunkserver talks to instead of a master; it answers what the test has written down and keeps
// what it has been told.
#pragma once

#include <functional>
#include <gtest/gtest.h>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/capability.h"
#include "common/rpc/rpc_typed.h"

namespace cairn {

inline const std::string kTestKey(kCapabilityKeyBytes, 'k');
inline constexpr uint32_t kTestKeyId = 7;
inline constexpr ClusterId kTestCluster{0xC1};

// Outlives restarts of the master.
struct MasterScript {
  ClusterId cluster = kTestCluster;
  uint64_t term = 1;
  uint64_t log_time_ms = 1'000'000;
  std::vector<CapabilityKey> keys{{kTestKeyId, kTestKey}};
  uint32_t heartbeat_ms = 1000;
  std::vector<MasterMember> members;  // of its group, as it says
  bool register_again = false;  // once
  std::optional<ErrorCode> refuse;

  std::vector<RegisterServerRequest> registrations;
  std::vector<HeartbeatRequest> heartbeats;
  std::vector<ChunkReportRequest> reports;
  std::function<void()> on_report;
};

class ScriptedMaster {
 public:
  ScriptedMaster(World& world, MasterScript& script, const std::string& listen)
      : script_(script), rpc_(world, {.hello = {.program = "master"}}) {
    add_handler(rpc_, this, &ScriptedMaster::enrol);
    add_handler(rpc_, this, &ScriptedMaster::heartbeat);
    add_handler(rpc_, this, &ScriptedMaster::report);
    add_handler(rpc_, this, &ScriptedMaster::status);
    Result<Address> address = rpc_.listen(*parse_address(listen));
    EXPECT_TRUE(address);
    if (address) address_ = *address;
  }
  const Address& address() const { return address_; }
  Task<void> stop() { return rpc_.stop(); }

 private:
  Task<Result<RegisterServerReply>> enrol(RegisterServerRequest request, RpcRequest) {
    script_.registrations.push_back(std::move(request));
    if (script_.refuse) co_return Error(*script_.refuse);
    co_return RegisterServerReply{script_.cluster, script_.term, script_.log_time_ms, script_.keys,
                                  script_.heartbeat_ms};
  }
  Task<Result<HeartbeatReply>> heartbeat(HeartbeatRequest request, RpcRequest) {
    script_.heartbeats.push_back(std::move(request));
    if (script_.refuse) co_return Error(*script_.refuse);
    co_return HeartbeatReply{script_.term, script_.log_time_ms, script_.keys,
                             std::exchange(script_.register_again, false)};
  }
  Task<Result<MasterStatusReply>> status(MasterStatusRequest, RpcRequest) {
    co_return MasterStatusReply{.cluster = script_.cluster, .leading = true, .members = script_.members};
  }
  Task<Result<EmptyReply>> report(ChunkReportRequest request, RpcRequest) {
    script_.reports.push_back(std::move(request));
    if (script_.on_report) script_.on_report();
    co_return EmptyReply{};
  }

  MasterScript& script_;
  Address address_;
  RpcServer rpc_;
};

}  // namespace cairn
