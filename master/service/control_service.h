// ControlService: what chunkservers and administrators ask of the master (methods 200 to 251). Decodes, asks the keeper
// or the state, encodes.
//
// Loop thread only. The RpcServer is stopped before it goes.
#pragma once

#include <string>

#include "common/rpc/rpc_typed.h"
#include "master/leases/lease_table.h"
#include "master/leases/open_files.h"
#include "master/service/chunk_keeper.h"
#include "master/service/core.h"

namespace cairn {

class ControlService {
 public:
  ControlService(MasterCore& core, ChunkKeeper& keeper, const LeaseTable& leases, const OpenFiles& open_files,
                 std::string program);
  void add_handlers(RpcServer& server);

 private:
  Task<Result<RegisterServerReply>> register_server(RegisterServerRequest request, RpcRequest rpc);
  Task<Result<HeartbeatReply>> heartbeat(HeartbeatRequest request, RpcRequest rpc);
  Task<Result<EmptyReply>> chunk_report(ChunkReportRequest request, RpcRequest rpc);
  Task<Result<StatusReply>> status(StatusRequest request, RpcRequest rpc);
  Task<Result<RemoveServerReply>> remove_server(RemoveServerRequest request, RpcRequest);
  Task<Result<RestoreStatusReply>> restore_status(RestoreStatusRequest request, RpcRequest);
  Task<Result<EmptyReply>> accept_restore(AcceptRestoreRequest request, RpcRequest);
  Task<Result<InfoReply>> info(InfoRequest request, RpcRequest rpc);
  Result<void> leading() const;

  MasterCore& core_;
  ChunkKeeper& keeper_;
  const LeaseTable& leases_;
  const OpenFiles& open_files_;
  std::string program_;
};

}  // namespace cairn
