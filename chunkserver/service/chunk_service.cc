#include "chunkserver/service/chunk_service.h"

#include <string>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "common/base/units.h"

namespace cairn {

ChunkService::ChunkService(World& world, Parts parts, ReplicaIdentity self)
    : parts_(parts),
      self_(self),
      read_bytes_(world.metrics().counter("cairn_chunkserver_read_bytes_total", "Bytes sent to readers")) {}

void ChunkService::add_to(RpcServer& server) {
  add_handler(server, this, &ChunkService::write);
  add_handler(server, this, &ChunkService::sync);
  add_handler(server, this, &ChunkService::read);
  add_handler(server, this, &ChunkService::map);
  add_handler(server, this, &ChunkService::raise);
  add_handler(server, this, &ChunkService::copy);
  add_handler(server, this, &ChunkService::seal);
  add_handler(server, this, &ChunkService::remove);
  add_handler(server, this, &ChunkService::clone);
  add_handler(server, this, &ChunkService::stat);
  add_handler(server, this, &ChunkService::list);
  add_handler(server, this, &ChunkService::read_kept_dump);
}

// ---------------------------------------------------------------- with a capability

Task<Result<ChunkWriteReply>> ChunkService::write(ChunkWriteRequest request, RpcRequest raw) {
  Result<ChunkWriteReply> reply =
      co_await parts_.writes.write(std::move(request), std::move(raw.payload), raw.deadline, raw.trace_id);
  co_return reply;
}

Task<Result<ChunkSyncReply>> ChunkService::sync(ChunkSyncRequest request, RpcRequest raw) {
  Result<ChunkSyncReply> reply = co_await parts_.writes.sync(std::move(request), raw.deadline);
  co_return reply;
}

Task<Result<Answer<ChunkReadReply>>> ChunkService::read(ChunkReadRequest request, RpcRequest raw) {
  Result<void> ready = co_await parts_.access.wait_ready(raw.deadline);
  if (!ready) co_return ready.error();
  constexpr auto kRights = CapabilityRights::kRead | CapabilityRights::kCopy;
  Result<Capability> allowed = parts_.access.verify_any(request.capability, request.chunk, request.version, kRights);
  if (!allowed) co_return allowed.error();
  uint64_t begin = request.offset / kBlockSizeBytes * kBlockSizeBytes;
  uint64_t end = uint64_t{request.offset} + request.length;
  uint64_t blocks = (end - begin + kBlockSizeBytes - 1) / kBlockSizeBytes;
  if (end > kChunkSizeBytes || blocks * kBlockSizeBytes > kMaxPayloadBytes) {
    co_return Error(ErrorCode::kInvalid,
                    "a read of " + std::to_string(request.length) + " bytes at " + std::to_string(request.offset));
  }
  if (request.sequence > 0) {
    Result<ReplicaStatus> status = co_await parts_.store.status(request.chunk);
    if (status && status->version == request.version && status->sequence < request.sequence)
      co_return Error(ErrorCode::kMissingWrites, "writes up to " + std::to_string(status->sequence) + " are here");
  }
  Result<ReadResult> data = co_await parts_.store.read(request.chunk, request.version, request.offset, request.length);
  if (!data) co_return data.error();
  read_bytes_.add(data->length);
  Answer<ChunkReadReply> answer;
  answer.reply.offset = data->offset;
  answer.reply.length = data->length;
  answer.reply.checksums = std::move(data->checksums);
  answer.payload = std::move(data->data);
  co_return answer;
}

Task<Result<ChunkMapReply>> ChunkService::map(ChunkMapRequest request, RpcRequest raw) {
  Result<void> ready = co_await parts_.access.wait_ready(raw.deadline);
  if (!ready) co_return ready.error();
  Result<Capability> allowed =
      parts_.access.verify(request.capability, request.chunk, request.version, CapabilityRights::kRead);
  if (!allowed)  // whoever copies it
    allowed = parts_.access.verify(request.capability, request.chunk, request.version, CapabilityRights::kCopy);
  if (!allowed) co_return allowed.error();
  Result<ChunkMap> map = co_await parts_.store.map(request.chunk, request.version);
  if (!map) co_return map.error();
  ChunkMapReply reply;
  reply.status = map->status;
  reply.data = std::move(map->data);
  co_return reply;
}

// ---------------------------------------------------------------- orders

Task<Result<void>> ChunkService::admit_order(OrderHeader header, TimePoint deadline) {
  Result<void> ready = co_await parts_.access.wait_ready(deadline);
  if (!ready) co_return ready;
  Result<void> kept = co_await parts_.access.keep_term(header.term);
  if (!kept) co_return kept;
  co_return parts_.access.check_order(header);
}

Result<RaiseVersionReply> ChunkService::reply_with(Result<ReplicaStatus> status) const {
  if (!status) return status.error();
  RaiseVersionReply reply;
  reply.status = *status;
  reply.incarnation = self_.incarnation;
  return reply;
}

Task<Result<RaiseVersionReply>> ChunkService::raise(RaiseVersionRequest request, RpcRequest raw) {
  Result<void> admitted = co_await admit_order(request.header, raw.deadline);
  if (!admitted) co_return admitted.error();
  if (request.to_version < request.from_version || request.from_version == 0) {
    co_return Error(ErrorCode::kInvalid, "raising version " + std::to_string(request.from_version) + " to " +
                                             std::to_string(request.to_version));
  }
  Result<ReplicaStatus> status = co_await parts_.store.raise(request.chunk, request.from_version, request.to_version);
  parts_.chunks.forget(request.chunk);
  if (status.failed_with(ErrorCode::kNotFound)) parts_.chunks.fence(request.chunk, request.to_version);
  co_return reply_with(std::move(status));
}

Task<Result<RaiseVersionReply>> ChunkService::copy(CopyChunkRequest request, RpcRequest raw) {
  Result<void> admitted = co_await admit_order(request.header, raw.deadline);
  if (!admitted) co_return admitted.error();
  if (request.source.server == self_.server) {
    co_return Error(ErrorCode::kInvalid, "chunk " + to_string(request.chunk) + " is to be copied from itself");
  }
  Result<ReplicaStatus> status = co_await parts_.copier.copy(std::move(request), raw.deadline, raw.trace_id);
  co_return reply_with(std::move(status));
}

Task<Result<RaiseVersionReply>> ChunkService::seal(SealChunkRequest request, RpcRequest raw) {
  Result<void> admitted = co_await admit_order(request.header, raw.deadline);
  if (!admitted) co_return admitted.error();
  Result<ReplicaStatus> status = co_await parts_.store.seal(request.chunk, request.version, request.sequence);
  parts_.chunks.forget(request.chunk);
  co_return reply_with(std::move(status));
}

Task<Result<EmptyReply>> ChunkService::remove(DeleteChunksRequest request, RpcRequest raw) {
  Result<void> admitted = co_await admit_order(request.header, raw.deadline);
  if (!admitted) co_return admitted.error();
  // All that can go do; the first error is the answer, and the master orders those again.
  Result<void> all;
  for (const auto& [chunk, up_to_version] : request.chunks) {
    Result<void> removed = co_await parts_.store.remove(chunk, up_to_version);
    parts_.chunks.forget(chunk);
    if (removed) continue;
    log_warning("chunk.not_deleted", "chunk={} up_to_version={} error={}", chunk, up_to_version,
                quoted(removed.error().message()));
    if (all) all = removed.error().in("deleting chunk " + to_string(chunk));
  }
  if (!all) co_return all.error();
  co_return EmptyReply{};
}

Task<Result<RaiseVersionReply>> ChunkService::clone(CloneChunkRequest request, RpcRequest raw) {
  Result<void> admitted = co_await admit_order(request.header, raw.deadline);
  if (!admitted) co_return admitted.error();
  Result<ReplicaStatus> source = co_await parts_.store.status(request.source);
  if (!source) co_return source.error();
  OwnerHint owner{.inode = source->inode, .index = source->index};
  Result<ReplicaStatus> status = co_await parts_.store.clone(request.source, request.source_version, request.target,
                                                             request.target_version, owner);
  parts_.chunks.forget(request.target);
  co_return reply_with(std::move(status));
}

Task<Result<StatChunksReply>> ChunkService::stat(StatChunksRequest request, RpcRequest raw) {
  Result<void> admitted = co_await admit_order(request.header, raw.deadline);
  if (!admitted) co_return admitted.error();
  if (request.chunks.size() > kStatChunksMax) co_return Error(ErrorCode::kInvalid, "too many chunks in one request");
  StatChunksReply reply;
  reply.incarnation = self_.incarnation;
  for (ChunkId chunk : request.chunks) {
    Result<ReplicaStatus> status = co_await parts_.store.status(chunk);
    if (status) reply.chunks.push_back(*status);
    if (!status && status.code() != ErrorCode::kNotFound) co_return status.error();
  }
  co_return reply;
}

// ---------------------------------------------------------------- when every master is lost

Result<void> ChunkService::admit_rescue() const {
  if (parts_.access.masters_silent()) return {};
  return Error(ErrorCode::kBusy, "a master has been heard a moment ago: rescue is for when all of them are lost");
}

Task<Result<ListChunksReply>> ChunkService::list(ListChunksRequest request, RpcRequest) {
  Result<void> admitted = admit_rescue();
  if (!admitted) co_return admitted.error();
  ClusterId cluster = parts_.access.cluster();
  if (request.cluster && request.cluster != cluster)
    co_return Error(ErrorCode::kWrongCluster, "this chunkserver belongs to cluster " + to_string(cluster));
  Result<ChunkPage> page = co_await parts_.store.list(request.after, kStatChunksMax);
  if (!page) co_return page.error();
  ListChunksReply reply;
  reply.cluster = cluster;
  reply.server = self_.server;
  reply.chunks = std::move(page->chunks);
  reply.last = page->last;
  co_return reply;
}

Task<Result<Answer<ChunkReadReply>>> ChunkService::read_kept_dump(ReadKeptDumpRequest request, RpcRequest) {
  Result<void> admitted = admit_rescue();
  if (!admitted) co_return admitted.error();
  Result<ReplicaStatus> status = co_await parts_.store.status(request.chunk);
  if (!status) co_return status.error();
  if (!is_kept_dump(status->inode)) {
    co_return Error(ErrorCode::kUnauthorized, "chunk " + to_string(request.chunk) + " is no part of a kept dump");
  }
  if (request.length > kMaxPayloadBytes || request.offset % kBlockSizeBytes != 0)
    co_return Error(ErrorCode::kInvalid, "a read of " + std::to_string(request.length) + " bytes");
  Result<ReadResult> data = co_await parts_.store.read(request.chunk, request.version, request.offset, request.length);
  if (!data) co_return data.error();
  Answer<ChunkReadReply> answer;
  answer.reply.offset = data->offset;
  answer.reply.length = data->length;
  answer.reply.checksums = std::move(data->checksums);
  answer.payload = std::move(data->data);
  co_return answer;
}

}  // namespace cairn
