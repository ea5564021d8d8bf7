// GroupService: the group of masters as administrators see and change it (methods 253 to 256).
//
// Loop thread only. stop() is awaited, after the RpcServer's, before it goes.
#pragma once

#include <functional>
#include <string>

#include "common/rpc/rpc_typed.h"
#include "master/service/core.h"

namespace cairn {

class GroupService {
 public:
  GroupService(MasterCore& core, ClusterId cluster, std::string address, std::string program);
  void add_handlers(RpcServer& server);
  Task<void> stop();

 private:
  Task<Result<MasterStatusReply>> master_status(MasterStatusRequest request, RpcRequest rpc);
  Task<Result<AddMasterReply>> add_master(AddMasterRequest request, RpcRequest rpc);
  Task<Result<EmptyReply>> remove_master(RemoveMasterRequest request, RpcRequest rpc);
  Task<Result<TransferLeadershipReply>> transfer_leadership(TransferLeadershipRequest request, RpcRequest rpc);
  Task<Result<RpcMessage>> join_group(RpcRequest request);
  // The master at `address` says who it is; one that waits to be added becomes this cluster's.
  Task<Result<MasterId>> invite(std::string address, std::string& advertised, TimePoint deadline);
  Result<void> check_own_address() const;
  // Bounded by what a group is good for.
  TimePoint bounded(TimePoint deadline) const;

  MasterCore& core_;
  ClusterId cluster_;
  std::string address_;
  std::string program_;
  TaskGroup tasks_;
};

// Of a master that belongs to no group yet: it says so (master_status), and leads nobody (everything else).
void add_waiting_handlers(RpcServer& server, std::function<std::string()> address, std::string program);

}  // namespace cairn
