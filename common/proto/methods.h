// Every RPC method: its number (never used again), name, request and reply, and who may call it (callers.h). A typed call is
//
//   Result<EntryReply> r = co_await typed_call(client, LookupRequest{...}, options);   (rpc_typed.h)
#pragma once

#include <cstdint>
#include <string_view>

#include "common/proto/callers.h"
#include "common/proto/chunk_types.h"
#include "common/proto/control_types.h"
#include "common/proto/meta_types.h"

namespace cairn {

template <class Request>
struct Method;  // { kId, kName, kCallers, Reply }

#define CAIRN_METHOD(number, name, request, reply, callers)   \
  template <>                                                 \
  struct Method<request> {                                    \
    static constexpr uint16_t kId = number;                   \
    static constexpr std::string_view kName = name;           \
    static constexpr Callers kCallers = Callers::callers;     \
    using Reply = reply;                                      \
  };

// client to master
CAIRN_METHOD(1, "open_session", OpenSessionRequest, OpenSessionReply, kClients)
CAIRN_METHOD(2, "renew_session", RenewSessionRequest, RenewSessionReply, kClients)
CAIRN_METHOD(3, "close_session", CloseSessionRequest, EmptyReply, kClients)
CAIRN_METHOD(4, "mutate", MutateRequest, MutationReply, kClients)
CAIRN_METHOD(5, "lookup", LookupRequest, EntryReply, kClients)
CAIRN_METHOD(6, "get_attributes", GetAttributesRequest, AttributesReply, kClients)
CAIRN_METHOD(7, "open", OpenRequest, AttributesReply, kClients)
CAIRN_METHOD(8, "close", CloseRequest, EmptyReply, kClients)
CAIRN_METHOD(9, "read_directory", ReadDirectoryRequest, ReadDirectoryReply, kClients)
CAIRN_METHOD(10, "read_link", ReadLinkRequest, ReadLinkReply, kClients)
CAIRN_METHOD(11, "get_xattr", GetXattrRequest, GetXattrReply, kClients)
CAIRN_METHOD(12, "list_xattr", ListXattrRequest, ListXattrReply, kClients)
CAIRN_METHOD(13, "stat_fs", StatFsRequest, StatFsReply, kClients)
CAIRN_METHOD(14, "get_layout", GetLayoutRequest, GetLayoutReply, kClients)
CAIRN_METHOD(15, "write_lease", WriteLeaseRequest, WriteLeaseReply, kClients)
CAIRN_METHOD(16, "release_write_lease", ReleaseWriteLeaseRequest, LeaseNumberReply, kClients)
CAIRN_METHOD(17, "open_chunk", OpenChunkRequest, OpenChunkReply, kClients)
CAIRN_METHOD(18, "replica_failed", ReplicaFailedRequest, OpenChunkReply, kClients)
CAIRN_METHOD(19, "renew_grant", RenewGrantRequest, ChunkGrant, kClients)
CAIRN_METHOD(20, "report_bad_replica", ReportBadReplicaRequest, EmptyReply, kClients)
CAIRN_METHOD(21, "refresh", RefreshRequest, RefreshReply, kClients)
CAIRN_METHOD(22, "take_recalls", TakeRecallsRequest, TakeRecallsReply, kClients)
CAIRN_METHOD(23, "answer_recalls", AnswerRecallsRequest, EmptyReply, kClients)
CAIRN_METHOD(24, "return_leases", ReturnLeasesRequest, LeaseNumberReply, kClients)
CAIRN_METHOD(25, "test_lock", TestLockRequest, TestLockReply, kClients)
CAIRN_METHOD(26, "wait_lock", WaitLockRequest, WaitLockReply, kClients)
CAIRN_METHOD(27, "cancel_wait", CancelWaitRequest, EmptyReply, kClients)
// anybody to chunkserver: a capability says what of which chunk
CAIRN_METHOD(100, "chunk_write", ChunkWriteRequest, ChunkWriteReply, kAnybody)
CAIRN_METHOD(101, "chunk_sync", ChunkSyncRequest, ChunkSyncReply, kAnybody)
CAIRN_METHOD(102, "chunk_read", ChunkReadRequest, ChunkReadReply, kAnybody)
CAIRN_METHOD(103, "chunk_map", ChunkMapRequest, ChunkMapReply, kAnybody)
// master to chunkserver
CAIRN_METHOD(150, "raise_version", RaiseVersionRequest, RaiseVersionReply, kMasters)
CAIRN_METHOD(151, "copy_chunk", CopyChunkRequest, RaiseVersionReply, kMasters)
CAIRN_METHOD(152, "seal_chunk", SealChunkRequest, RaiseVersionReply, kMasters)
CAIRN_METHOD(153, "delete_chunks", DeleteChunksRequest, EmptyReply, kMasters)
CAIRN_METHOD(154, "clone_chunk", CloneChunkRequest, RaiseVersionReply, kMasters)
CAIRN_METHOD(155, "stat_chunks", StatChunksRequest, StatChunksReply, kMasters)
// chunkserver to master
CAIRN_METHOD(200, "register_server", RegisterServerRequest, RegisterServerReply, kChunkservers)
CAIRN_METHOD(201, "heartbeat", HeartbeatRequest, HeartbeatReply, kChunkservers)
CAIRN_METHOD(202, "chunk_report", ChunkReportRequest, EmptyReply, kChunkservers)
// administration
CAIRN_METHOD(250, "status", StatusRequest, StatusReply, kClients)
CAIRN_METHOD(251, "info", InfoRequest, InfoReply, kClients)
CAIRN_METHOD(252, "remove_server", RemoveServerRequest, RemoveServerReply, kAdmins)
CAIRN_METHOD(253, "master_status", MasterStatusRequest, MasterStatusReply, kAnybody)
CAIRN_METHOD(254, "add_master", AddMasterRequest, AddMasterReply, kAdmins)
CAIRN_METHOD(255, "remove_master", RemoveMasterRequest, EmptyReply, kAdmins)
CAIRN_METHOD(256, "transfer_leadership", TransferLeadershipRequest, TransferLeadershipReply, kAdmins)
CAIRN_METHOD(280, "export", ExportRequest, ExportReply, kAdmins)
CAIRN_METHOD(281, "restore_status", RestoreStatusRequest, RestoreStatusReply, kAdmins)
CAIRN_METHOD(282, "accept_restore", AcceptRestoreRequest, EmptyReply, kAdmins)
CAIRN_METHOD(290, "list_locks", ListLocksRequest, ListLocksReply, kClients)
CAIRN_METHOD(291, "break_locks", BreakLocksRequest, BreakLocksReply, kAdmins)
CAIRN_METHOD(292, "why", WhyRequest, WhyReply, kClients)
// a rescue, in the name of the master that is to be there, to chunkserver
CAIRN_METHOD(283, "list_chunks", ListChunksRequest, ListChunksReply, kMasters)
CAIRN_METHOD(284, "read_kept_dump", ReadKeptDumpRequest, ChunkReadReply, kMasters)

#undef CAIRN_METHOD

}  // namespace cairn
