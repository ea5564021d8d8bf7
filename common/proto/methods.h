// Every RPC method: its number (never used again), name, request and reply. A typed call is
//
//   Result<EntryReply> r = co_await typed_call(client, LookupRequest{...}, options);   (rpc_typed.h)
#pragma once

#include <cstdint>
#include <string_view>

#include "common/proto/chunk_types.h"
#include "common/proto/control_types.h"
#include "common/proto/meta_types.h"

namespace cairn {

template <class Request>
struct Method;  // { kId, kName, Reply }

#define CAIRN_METHOD(number, name, request, reply)            \
  template <>                                                 \
  struct Method<request> {                                    \
    static constexpr uint16_t kId = number;                   \
    static constexpr std::string_view kName = name;           \
    using Reply = reply;                                      \
  };

// client to master
CAIRN_METHOD(1, "open_session", OpenSessionRequest, OpenSessionReply)
CAIRN_METHOD(2, "renew_session", RenewSessionRequest, RenewSessionReply)
CAIRN_METHOD(3, "close_session", CloseSessionRequest, EmptyReply)
CAIRN_METHOD(4, "mutate", MutateRequest, MutationReply)
CAIRN_METHOD(5, "lookup", LookupRequest, EntryReply)
CAIRN_METHOD(6, "get_attributes", GetAttributesRequest, AttributesReply)
CAIRN_METHOD(7, "open", OpenRequest, AttributesReply)
CAIRN_METHOD(8, "close", CloseRequest, EmptyReply)
CAIRN_METHOD(9, "read_directory", ReadDirectoryRequest, ReadDirectoryReply)
CAIRN_METHOD(10, "read_link", ReadLinkRequest, ReadLinkReply)
CAIRN_METHOD(11, "get_xattr", GetXattrRequest, GetXattrReply)
CAIRN_METHOD(12, "list_xattr", ListXattrRequest, ListXattrReply)
CAIRN_METHOD(13, "stat_fs", StatFsRequest, StatFsReply)
CAIRN_METHOD(14, "get_layout", GetLayoutRequest, GetLayoutReply)
CAIRN_METHOD(15, "write_lease", WriteLeaseRequest, WriteLeaseReply)
CAIRN_METHOD(16, "release_write_lease", ReleaseWriteLeaseRequest, EmptyReply)
CAIRN_METHOD(17, "open_chunk", OpenChunkRequest, OpenChunkReply)
CAIRN_METHOD(18, "replica_failed", ReplicaFailedRequest, OpenChunkReply)
CAIRN_METHOD(19, "renew_grant", RenewGrantRequest, ChunkGrant)
CAIRN_METHOD(20, "report_bad_replica", ReportBadReplicaRequest, EmptyReply)
CAIRN_METHOD(21, "refresh", RefreshRequest, RefreshReply)
CAIRN_METHOD(22, "take_recalls", TakeRecallsRequest, TakeRecallsReply)
CAIRN_METHOD(23, "answer_recalls", AnswerRecallsRequest, EmptyReply)
CAIRN_METHOD(24, "return_leases", ReturnLeasesRequest, EmptyReply)
// anybody to chunkserver
CAIRN_METHOD(100, "chunk_write", ChunkWriteRequest, ChunkWriteReply)
CAIRN_METHOD(101, "chunk_sync", ChunkSyncRequest, ChunkSyncReply)
CAIRN_METHOD(102, "chunk_read", ChunkReadRequest, ChunkReadReply)
CAIRN_METHOD(103, "chunk_map", ChunkMapRequest, ChunkMapReply)
// master to chunkserver
CAIRN_METHOD(150, "raise_version", RaiseVersionRequest, RaiseVersionReply)
CAIRN_METHOD(151, "copy_chunk", CopyChunkRequest, RaiseVersionReply)
CAIRN_METHOD(152, "seal_chunk", SealChunkRequest, RaiseVersionReply)
CAIRN_METHOD(153, "delete_chunks", DeleteChunksRequest, EmptyReply)
CAIRN_METHOD(154, "clone_chunk", CloneChunkRequest, RaiseVersionReply)
CAIRN_METHOD(155, "stat_chunks", StatChunksRequest, StatChunksReply)
// chunkserver to master
CAIRN_METHOD(200, "register_server", RegisterServerRequest, RegisterServerReply)
CAIRN_METHOD(201, "heartbeat", HeartbeatRequest, HeartbeatReply)
CAIRN_METHOD(202, "chunk_report", ChunkReportRequest, EmptyReply)
// administration
CAIRN_METHOD(250, "status", StatusRequest, StatusReply)
CAIRN_METHOD(251, "info", InfoRequest, InfoReply)
CAIRN_METHOD(252, "remove_server", RemoveServerRequest, RemoveServerReply)
CAIRN_METHOD(253, "master_status", MasterStatusRequest, MasterStatusReply)
CAIRN_METHOD(254, "add_master", AddMasterRequest, AddMasterReply)
CAIRN_METHOD(255, "remove_master", RemoveMasterRequest, EmptyReply)
CAIRN_METHOD(256, "transfer_leadership", TransferLeadershipRequest, TransferLeadershipReply)
CAIRN_METHOD(280, "export", ExportRequest, ExportReply)
CAIRN_METHOD(281, "restore_status", RestoreStatusRequest, RestoreStatusReply)
CAIRN_METHOD(282, "accept_restore", AcceptRestoreRequest, EmptyReply)
// rescue to chunkserver
CAIRN_METHOD(283, "list_chunks", ListChunksRequest, ListChunksReply)
CAIRN_METHOD(284, "read_kept_dump", ReadKeptDumpRequest, ChunkReadReply)

#undef CAIRN_METHOD

}  // namespace cairn
