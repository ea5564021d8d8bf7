// The wire form of every message: plain values to Cap'n Proto bytes and back. This is the one place where kj exceptions
// become errors.
//
//   std::string bytes = encode(LookupRequest{...});
//   Result<LookupRequest> request = decode<LookupRequest>(bytes);
//
// decode() takes bytes that anybody may have sent: whatever they are, it ends with a value or with kBadMessage, in time
// that is in proportion to their number. What it makes of them is bounded by the limits below: some tens of MiB from
// the worst message of 1 MiB. It checks the form (lengths, lists, enums, unions), not the meaning: names, ids, offsets
// and rights are the receiver's matter. A value within the limits decodes, once encoded, to an equal value; encode()
// itself has no limits. A value that came from outside may be longer when it is encoded again (structs of an older
// sender grow): who keeps it checks its size against kMaxMessageBytes before.
//
// Pure functions; any thread. The bytes may be dropped as soon as decode() has returned.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/base/units.h"
#include "common/proto/chunk_types.h"
#include "common/proto/control_types.h"
#include "common/proto/meta_types.h"

namespace cairn {

// What decode() takes at most; who fills a list (reports, directory pages) stays below. kMaxMessageBytes bounds the
// whole.
inline constexpr uint32_t kMaxStringBytes = kMaxXattrValueBytes;  // the longest thing that is a string
inline constexpr uint32_t kMaxListItems = 64 * 1024;              // entries of a page, chunks of a report
inline constexpr uint32_t kMaxReplicaItems = 64;  // replicas of one chunk, over the goal and failed ones included; masters

template <class T>
std::string encode(const T& value) = delete;  // T is not in the list below
template <class T>
Result<T> decode(std::string_view bytes) = delete;

// Every type that travels or is kept by itself: all requests and replies of methods.h, and what the log and the session
// table hold.
#define CAIRN_MUTATION_MESSAGES(X) \
  X(MutateRequest)                 \
  X(MutationReply)                 \
  X(MetaOp)

#define CAIRN_LEASE_MESSAGES(X) \
  X(OpenSessionRequest)         \
  X(OpenSessionReply)           \
  X(RenewSessionRequest)        \
  X(RenewSessionReply)          \
  X(CloseSessionRequest)        \
  X(TakeRecallsRequest)         \
  X(TakeRecallsReply)           \
  X(AnswerRecallsRequest)       \
  X(ReturnLeasesRequest)      \
  X(LeaseNumberReply)

#define CAIRN_LOCK_MESSAGES(X) \
  X(TestLockRequest)           \
  X(TestLockReply)             \
  X(WaitLockRequest)           \
  X(WaitLockReply)             \
  X(CancelWaitRequest)         \
  X(ListLocksRequest)          \
  X(ListLocksReply)            \
  X(BreakLocksRequest)         \
  X(BreakLocksReply)           \
  X(WhyRequest)                \
  X(WhyReply)

#define CAIRN_META_MESSAGES(X) \
  X(EmptyReply)                \
  X(LookupRequest)             \
  X(EntryReply)                \
  X(GetAttributesRequest)      \
  X(OpenRequest)               \
  X(AttributesReply)           \
  X(RefreshRequest)            \
  X(RefreshReply)              \
  X(CloseRequest)              \
  X(ReadDirectoryRequest)      \
  X(ReadDirectoryReply)        \
  X(ReadLinkRequest)           \
  X(ReadLinkReply)             \
  X(GetXattrRequest)           \
  X(GetXattrReply)             \
  X(ListXattrRequest)          \
  X(ListXattrReply)            \
  X(StatFsRequest)             \
  X(StatFsReply)               \
  X(GetLayoutRequest)          \
  X(GetLayoutReply)            \
  X(WriteLeaseRequest)         \
  X(WriteLeaseReply)           \
  X(ReleaseWriteLeaseRequest)  \
  X(OpenChunkRequest)          \
  X(OpenChunkReply)            \
  X(ReplicaFailedRequest)      \
  X(RenewGrantRequest)         \
  X(ChunkGrant)                \
  X(ReportBadReplicaRequest)

#define CAIRN_CHUNK_MESSAGES(X) \
  X(ChunkWriteRequest)          \
  X(ChunkWriteReply)            \
  X(ChunkSyncRequest)           \
  X(ChunkSyncReply)             \
  X(ChunkReadRequest)           \
  X(ChunkReadReply)             \
  X(ChunkMapRequest)            \
  X(ChunkMapReply)              \
  X(RaiseVersionRequest)        \
  X(RaiseVersionReply)          \
  X(CopyChunkRequest)           \
  X(SealChunkRequest)           \
  X(DeleteChunksRequest)        \
  X(CloneChunkRequest)          \
  X(StatChunksRequest)          \
  X(StatChunksReply)            \
  X(ListChunksRequest)          \
  X(ListChunksReply)            \
  X(ReadKeptDumpRequest)

#define CAIRN_CONTROL_MESSAGES(X) \
  X(RegisterServerRequest)        \
  X(RegisterServerReply)          \
  X(HeartbeatRequest)             \
  X(HeartbeatReply)               \
  X(ChunkReportRequest)

#define CAIRN_ADMIN_MESSAGES(X) \
  X(StatusRequest)              \
  X(StatusReply)                \
  X(InfoRequest)                \
  X(InfoReply)                  \
  X(RemoveServerRequest)        \
  X(RemoveServerReply)          \
  X(MasterStatusRequest)        \
  X(MasterStatusReply)          \
  X(AddMasterRequest)           \
  X(AddMasterReply)             \
  X(RemoveMasterRequest)        \
  X(TransferLeadershipRequest)  \
  X(TransferLeadershipReply)    \
  X(ExportRequest)              \
  X(ExportReply)                \
  X(RestoreStatusRequest)       \
  X(RestoreStatusReply)         \
  X(AcceptRestoreRequest)

#define CAIRN_MESSAGES(X)    \
  CAIRN_MUTATION_MESSAGES(X) \
  CAIRN_LEASE_MESSAGES(X)    \
  CAIRN_LOCK_MESSAGES(X)     \
  CAIRN_META_MESSAGES(X)     \
  CAIRN_CHUNK_MESSAGES(X)    \
  CAIRN_CONTROL_MESSAGES(X)  \
  CAIRN_ADMIN_MESSAGES(X)

#define CAIRN_DECLARE_CODEC(type)        \
  template <>                            \
  std::string encode(const type& value); \
  template <>                            \
  Result<type> decode(std::string_view bytes);

CAIRN_MESSAGES(CAIRN_DECLARE_CODEC)

#undef CAIRN_DECLARE_CODEC

}  // namespace cairn
