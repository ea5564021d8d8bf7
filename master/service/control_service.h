// ControlService: what chunkservers and administrators ask of the master (methods 200 to 292). Decodes, asks the keeper
// or the state, encodes.
//
// Loop thread only. The RpcServer is stopped before it goes.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "common/rpc/rpc_typed.h"
#include "master/leases/lease_table.h"
#include "master/leases/open_files.h"
#include "master/service/chunk_keeper.h"
#include "master/service/core.h"
#include "master/service/session_desk.h"

namespace cairn {

class ControlService {
 public:
  ControlService(MasterCore& core, ChunkKeeper& keeper, SessionDesk::Kept kept, SessionDesk& sessions,
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

  // ---- control_locks.cc
  Task<Result<ListLocksReply>> list_locks(ListLocksRequest request, RpcRequest rpc);
  Task<Result<BreakLocksReply>> break_locks(BreakLocksRequest request, RpcRequest rpc);
  Task<Result<WhyReply>> why(WhyRequest request, RpcRequest rpc);
  // Whoever decides the inode's locks by itself hands them over.
  Task<Result<void>> gather_locks(InodeId inode, TimePoint deadline);
  std::vector<LockInfo> locks_of(InodeId inode) const;
  std::vector<SessionName> names_of(const std::set<SessionId>& sessions) const;

  MasterCore& core_;
  ChunkKeeper& keeper_;
  const LeaseTable& leases_;
  const OpenFiles& open_files_;
  RecallDesk& recalls_;
  LockDesk& locks_;
  SessionDesk& sessions_;
  std::string program_;
};

}  // namespace cairn
