// MetaService: what clients ask of the master (methods 1 to 21): checks the session, decides what a leader decides
// (holders of open files, servers for new chunks), proposes or reads, and adds leases to the answers.
//
// Loop thread only. The RpcServer is stopped before it goes.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <vector>

#include "common/rpc/rpc_typed.h"
#include "common/runtime/sync.h"
#include "master/leases/shared_leases.h"
#include "master/service/chunk_keeper.h"
#include "master/service/core.h"
#include "master/service/session_desk.h"

namespace cairn {

class MetaService {
 public:
  MetaService(MasterCore& core, SharedLeases& leases, SessionDesk& sessions, ChunkKeeper& keeper);
  void add_handlers(RpcServer& server);

 private:
  Task<Result<OpenSessionReply>> open_session(OpenSessionRequest request, RpcRequest rpc);
  Task<Result<RenewSessionReply>> renew_session(RenewSessionRequest request, RpcRequest rpc);
  Task<Result<EmptyReply>> close_session(CloseSessionRequest request, RpcRequest rpc);

  Task<Result<MutationReply>> mutate(MutateRequest request, RpcRequest rpc);

  Task<Result<EntryReply>> lookup(LookupRequest request, RpcRequest rpc);
  Task<Result<AttributesReply>> get_attributes(GetAttributesRequest request, RpcRequest rpc);
  Task<Result<AttributesReply>> open(OpenRequest request, RpcRequest rpc);
  Task<Result<EmptyReply>> close(CloseRequest request, RpcRequest rpc);
  Task<Result<RefreshReply>> refresh(RefreshRequest request, RpcRequest rpc);
  Task<Result<ReadDirectoryReply>> read_directory(ReadDirectoryRequest request, RpcRequest rpc);
  Task<Result<ReadLinkReply>> read_link(ReadLinkRequest request, RpcRequest rpc);
  Task<Result<GetXattrReply>> get_xattr(GetXattrRequest request, RpcRequest rpc);
  Task<Result<ListXattrReply>> list_xattr(ListXattrRequest request, RpcRequest rpc);
  Task<Result<StatFsReply>> stat_fs(StatFsRequest request, RpcRequest rpc);

  Task<Result<GetLayoutReply>> get_layout(GetLayoutRequest request, RpcRequest rpc);
  Task<Result<WriteLeaseReply>> write_lease(WriteLeaseRequest request, RpcRequest rpc);
  Task<Result<EmptyReply>> release_write_lease(ReleaseWriteLeaseRequest request, RpcRequest rpc);
  Task<Result<OpenChunkReply>> open_chunk(OpenChunkRequest request, RpcRequest rpc);
  Task<Result<OpenChunkReply>> replica_failed(ReplicaFailedRequest request, RpcRequest rpc);
  Task<Result<ChunkGrant>> renew_grant(RenewGrantRequest request, RpcRequest rpc);
  Task<Result<EmptyReply>> report_bad_replica(ReportBadReplicaRequest request, RpcRequest rpc);

  // Leading, and the session is there.
  Result<void> ready(SessionId session) const;
  Task<Result<Attributes>> attributes_of(InodeId inode);
  Lease share(SessionId session, const Attributes& attributes);
  Task<Result<Lease>> acquire_write_lease(SessionId session, InodeId inode, TimePoint deadline);

  // A name that is being created, removed or renamed: one operation at a time, so that what the leader finds out about
  // it (who has the file open) still holds when the command is applied.
  using NameLocks = std::vector<Semaphore::Permit>;
  Task<NameLocks> lock_names(std::vector<std::pair<InodeId, std::string>> names);
  // The inode that is about to lose a name: its holders go into the command, and opens wait for the outcome.
  Task<Result<InodeId>> hold_for_removal(InodeId parent, std::string name, std::vector<SessionId>& holders);
  void removal_over(InodeId inode);
  Task<Result<void>> prepare(MutateRequest& request, NameLocks& locks, InodeId& removing, TimePoint deadline);
  void finish(const MutateRequest& request, MutationReply& reply);

  MasterCore& core_;
  SharedLeases& leases_;
  SessionDesk& sessions_;
  ChunkKeeper& keeper_;
  std::vector<std::unique_ptr<Mutex>> name_stripes_;
  std::map<InodeId, uint32_t> removing_;  // inode, and how many operations are about to take a name from it
  Condition removed_;
  Condition lease_free_;
};

}  // namespace cairn
