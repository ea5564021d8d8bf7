// ChunkService: the chunkserver's RPC methods (methods.h 100 to 155, 283 and 284): it decodes, asks who may, and hands on to the
// store, the write path and the copier. Clients show a capability; masters' orders carry cluster and term.
//
// Loop thread only. Everything passed to the constructor outlives it; it outlives the RpcServer's stop().
#pragma once

#include <cstdint>

#include "chunkserver/replication/chunk_access.h"
#include "chunkserver/replication/chunk_copier.h"
#include "chunkserver/replication/open_chunks.h"
#include "chunkserver/replication/write_path.h"
#include "chunkserver/store/chunk_store.h"
#include "common/proto/methods.h"
#include "common/rpc/rpc_typed.h"

namespace cairn {

inline constexpr size_t kStatChunksMax = 4096;  // in one request: about 300 KiB of answer

class ChunkService {
 public:
  struct Parts {
    ChunkStore& store;
    OpenChunks& chunks;
    ChunkAccess& access;
    WritePath& writes;
    ChunkCopier& copier;
  };
  ChunkService(World& world, Parts parts, ReplicaIdentity self);

  // Before server.listen().
  void add_to(RpcServer& server);

 private:
  Task<Result<ChunkWriteReply>> write(ChunkWriteRequest request, RpcRequest raw);
  Task<Result<ChunkSyncReply>> sync(ChunkSyncRequest request, RpcRequest raw);
  Task<Result<Answer<ChunkReadReply>>> read(ChunkReadRequest request, RpcRequest raw);
  Task<Result<ChunkMapReply>> map(ChunkMapRequest request, RpcRequest raw);

  Task<Result<RaiseVersionReply>> raise(RaiseVersionRequest request, RpcRequest raw);
  Task<Result<RaiseVersionReply>> copy(CopyChunkRequest request, RpcRequest raw);
  Task<Result<RaiseVersionReply>> seal(SealChunkRequest request, RpcRequest raw);
  Task<Result<EmptyReply>> remove(DeleteChunksRequest request, RpcRequest raw);
  Task<Result<RaiseVersionReply>> clone(CloneChunkRequest request, RpcRequest raw);
  Task<Result<StatChunksReply>> stat(StatChunksRequest request, RpcRequest raw);

  Task<Result<ListChunksReply>> list(ListChunksRequest request, RpcRequest raw);
  Task<Result<Answer<ChunkReadReply>>> read_kept_dump(ReadKeptDumpRequest request, RpcRequest raw);

  // For `cairn rescue`: every master is lost, so nobody can sign a capability. kBusy while one is heard.
  Result<void> admit_rescue() const;
  // May whoever sends this order chunks about? Its cluster and term must be right; that the connection is a master's
  // will be proved by its certificate, here.
  Task<Result<void>> admit_order(OrderHeader header, TimePoint deadline);
  Result<RaiseVersionReply> reply_with(Result<ReplicaStatus> status) const;

  Parts parts_;
  ReplicaIdentity self_;
  Counter& read_bytes_;
};

}  // namespace cairn
