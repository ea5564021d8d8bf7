#include "chunkserver/replication/write_path.h"

#include <algorithm>
#include <string>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "common/rpc/rpc_typed.h"

namespace cairn {

namespace {

size_t pieces_of(uint32_t offset, uint32_t length) {
  if (length == 0) return 0;
  uint64_t first = offset / kBlockSizeBytes;
  uint64_t last = (uint64_t{offset} + length - 1) / kBlockSizeBytes;
  return static_cast<size_t>(last - first + 1);
}

Error invalid(const ChunkWriteRequest& request, std::string what) {
  return Error(ErrorCode::kInvalid, "write of chunk " + to_string(request.chunk) + ": " + std::move(what));
}

ReplicaAck unreachable(const ReplicaAddress& replica, const Error& error) {
  ReplicaAck ack;
  ack.server = replica.server;
  ack.error = static_cast<uint16_t>(error.code);
  ack.context = error.in("forwarding to " + replica.address).context;
  return ack;
}

}  // namespace

WritePath::WritePath(World& world, ChunkStore& store, OpenChunks& chunks, ChunkAccess& access, ChunkPeers& peers,
                     ReplicaIdentity self)
    : world_(world),
      store_(store),
      chunks_(chunks),
      access_(access),
      peers_(peers),
      self_(self),
      written_bytes_(
          world.metrics().counter("cairn_chunkserver_written_bytes_total", "Bytes of writes that were taken")),
      forwarded_bytes_(world.metrics().counter("cairn_chunkserver_forwarded_bytes_total",
                                               "Bytes of writes sent on to other replicas")),
      refused_writes_(
          world.metrics().counter("cairn_chunkserver_refused_writes_total", "Writes refused by this replica")),
      forward_failures_(world.metrics().counter("cairn_chunkserver_forward_failures_total",
                                                "Writes that the next replica of the chain did not answer")),
      tasks_(world.executor(), world.clock()) {}

Result<void> WritePath::check(const ChunkWriteRequest& request, const Buffer& payload) {
  if (!request.chunk || request.version == 0 || request.sequence == 0)
    return invalid(request, "no id, version or sequence");
  if (request.chain.size() >= kMaxGoal) return invalid(request, "the chain is too long");
  uint64_t end = request.kind == WriteKind::kTruncate ? request.offset : uint64_t{request.offset} + request.length;
  if (end > kChunkSizeBytes) return invalid(request, "it ends behind the chunk's end");
  bool data = request.kind == WriteKind::kData;
  if (payload.size() != (data ? request.length : 0)) return invalid(request, "the payload has another length");
  if (data && request.length == 0) return invalid(request, "no data");
  if (request.checksums.size() != (data ? pieces_of(request.offset, request.length) : 0)) {
    return invalid(request, "one checksum a piece is needed");
  }
  return {};
}

Task<Result<ChunkWriteReply>> WritePath::write(ChunkWriteRequest request, Buffer payload, TimePoint deadline,
                                               uint64_t trace_id) {
  Result<void> ready = co_await access_.wait_ready(deadline);
  if (!ready) co_return ready.error();
  Result<Capability> allowed =
      access_.verify(request.capability, request.chunk, request.version, CapabilityRights::kWrite);
  if (!allowed) co_return allowed.error();
  Result<void> sound = check(request, payload);
  if (!sound) co_return sound.error();

  // Before anything else is awaited: what comes in order leaves in order.
  Promise<Acks> forwarded(world_.executor());
  Future<Acks> behind = forwarded.future();
  bool last = request.chain.empty();
  if (!last) {
    ChunkWriteRequest onward = request;
    tasks_.spawn(forward(std::move(onward), payload, deadline, trace_id, std::move(forwarded)));
  }
  ReplicaAddress next = last ? ReplicaAddress{} : request.chain.front();
  TimePoint now = world_.clock().now();
  TimePoint store_deadline = now + (deadline - now) * kStorePercent / 100;
  ReplicaAck own = co_await store(std::move(request), std::move(payload), store_deadline);
  bool corrupt = own.error == static_cast<uint16_t>(ErrorCode::kCorrupt);
  ChunkWriteReply reply;
  reply.acks.push_back(std::move(own));
  if (last) co_return reply;
  Result<Acks> others = co_await std::move(behind);
  if (!others) {
    reply.acks.push_back(unreachable(next, others.error()));
    co_return reply;
  }
  for (ReplicaAck& ack : *others) {
    // The others were given what is damaged here: only this replica has something to answer for.
    if (corrupt && ack.error == static_cast<uint16_t>(ErrorCode::kCorrupt)) continue;
    reply.acks.push_back(std::move(ack));
  }
  co_return reply;
}

Task<void> WritePath::forward(ChunkWriteRequest request, Buffer payload, TimePoint deadline, uint64_t trace_id,
                              Promise<Acks> done) {
  ReplicaAddress next = request.chain.front();
  request.chain.erase(request.chain.begin());
  uint64_t chain = request.chain.size();
  ChunkId chunk = request.chunk;
  uint64_t version = request.version;
  auto give_up = [&](const Error& error) {
    forward_failures_.add();
    log_warning("write.forward_failed", "chunk={} version={} server={} address={} error={}", chunk, version,
                next.server, next.address, quoted(error.message()));
    done.set(Acks{unreachable(next, error)});
  };
  Result<ChunkPeers::Client> client = peers_.client(next.address);
  if (!client) {
    give_up(client.error());
    co_return;
  }
  TimePoint now = world_.clock().now();
  RpcClient::CallOptions options{.deadline = now + (deadline - now) * kForwardPercent / 100, .trace_id = trace_id};
  forwarded_bytes_.add(static_cast<double>(payload.size()));
  Payload bytes;
  if (!payload.empty()) bytes.push_back(std::move(payload));
  auto answer = co_await typed_call(**client, std::move(request), options, std::move(bytes));
  if (!answer) {
    give_up(answer.error());
    co_return;
  }
  Acks& acks = answer->reply.acks;
  if (acks.empty() || acks.size() > chain + 1) {
    give_up(Error(ErrorCode::kBadMessage, "it answered with " + std::to_string(acks.size()) + " acknowledgements"));
    co_return;
  }
  if (acks.front().server != next.server) {
    give_up(Error(ErrorCode::kUnavailable, "chunkserver " + to_string(acks.front().server) + " answers there"));
    co_return;
  }
  done.set(std::move(acks));
}

Task<Result<WritePath::Admission>> WritePath::admit(ChunkId chunk, uint64_t version, uint64_t sequence,
                                                    TimePoint deadline) {
  TimePoint now = world_.clock().now();
  TimePoint wait_until = std::min(now + kPredecessorWait, now + (deadline - now) / 2);
  for (;;) {
    Result<OpenChunks::EntryPtr> entry = co_await chunks_.find(chunk);
    if (!entry) co_return entry.error();
    Admission admission{judge_write((*entry)->view, version, sequence), *entry};
    // Also for a version that is not here yet: the master's order that brings it may be on its way.
    bool wait = admission.verdict == WriteVerdict::kWait || admission.verdict == WriteVerdict::kNewVersion;
    if (!wait) co_return admission;
    Result<void> changed = co_await chunks_.wait_changed(*entry, wait_until);
    if (changed.failed_with(ErrorCode::kTimeout)) co_return admission;
    if (!changed) co_return changed.error();
  }
}

Task<ReplicaAck> WritePath::store(ChunkWriteRequest request, Buffer payload, TimePoint deadline) {
  ChunkId chunk = request.chunk;
  uint64_t version = request.version;
  uint64_t sequence = request.sequence;
  bool sync = request.sync;
  uint32_t allocated = UINT32_MAX;
  Result<Admission> admission = co_await admit(chunk, version, sequence, deadline);
  if (!admission) co_return acknowledge(self_.server, self_.incarnation, ReplicaView{}, admission.error());
  OpenChunks::EntryPtr entry = std::move(admission->entry);
  WriteVerdict verdict = admission->verdict;
  if (verdict != WriteVerdict::kTake && verdict != WriteVerdict::kDone) {
    refused_writes_.add();
    Error error = refusal(verdict, entry->view, version, sequence);
    co_return acknowledge(self_.server, self_.incarnation, entry->view, error);
  }
  if (verdict == WriteVerdict::kTake) {
    // Those that wait for this one may follow it: the store keeps the order.
    chunks_.handed(*entry, version, sequence);
    ChunkWrite write;
    write.chunk = chunk;
    write.version = version;
    write.sequence = sequence;
    write.kind = request.kind;
    write.offset = request.offset;
    write.length = request.length;
    write.checksums = std::move(request.checksums);
    write.owner = {.inode = request.inode, .index = request.index, .file_size_bytes = request.file_size_bytes};
    double bytes = static_cast<double>(payload.size());
    write.data = std::move(payload);
    Result<WriteResult> written = co_await store_.write(std::move(write), deadline);
    if (!written) {
      refused_writes_.add();
      ReplicaAck refused = co_await refuse(chunk, written.error());
      co_return refused;
    }
    written_bytes_.add(bytes);
    chunks_.taken(*entry, written->sequence, written->synced_sequence);
  }
  if (sync && entry->view.synced < sequence) {
    std::vector<SyncItem> items{{.chunk = chunk, .version = version, .sequence = sequence}};
    std::vector<Result<WriteResult>> synced = co_await store_.sync(std::move(items));
    if (!synced.front()) {
      ReplicaAck refused = co_await refuse(chunk, synced.front().error());
      co_return refused;
    }
    chunks_.taken(*entry, synced.front()->sequence, synced.front()->synced_sequence);
    allocated = synced.front()->allocated_bytes;
  }
  ReplicaAck ack = acknowledge(self_.server, self_.incarnation, entry->view);
  ack.allocated_bytes = allocated;
  co_return ack;
}

Task<ReplicaAck> WritePath::refuse(ChunkId chunk, Error error) {
  // What was believed about the chunk was wrong, or a write is missing now: the store tells it anew.
  chunks_.forget(chunk);
  Result<OpenChunks::EntryPtr> entry = co_await chunks_.find(chunk);
  ReplicaView view = entry ? (*entry)->view : ReplicaView{};
  co_return acknowledge(self_.server, self_.incarnation, view, error);
}

Task<Result<void>> WritePath::admit_sync(ChunkSyncRequest::Item item, TimePoint deadline) {
  for (;;) {
    Result<OpenChunks::EntryPtr> entry = co_await chunks_.find(item.chunk);
    if (!entry) co_return entry.error();
    const ReplicaView& view = (*entry)->view;
    SyncVerdict verdict = judge_sync(view, item.version, item.sequence);
    // A copy counts only when it is complete; asking again and again would not make it so.
    bool wait = verdict == SyncVerdict::kWait || (verdict == SyncVerdict::kSync && (*entry)->copying);
    if (!wait && verdict == SyncVerdict::kSync) co_return Result<void>();
    Error error = refusal(verdict, view, item.version, item.sequence);
    if (!wait) co_return error;
    Result<void> changed = co_await chunks_.wait_changed(*entry, deadline);
    if (changed.failed_with(ErrorCode::kTimeout)) co_return error;
    if (!changed) co_return changed;
  }
}

Task<Result<ChunkSyncReply>> WritePath::sync(ChunkSyncRequest request, TimePoint deadline) {
  Result<void> ready = co_await access_.wait_ready(deadline);
  if (!ready) co_return ready.error();
  TimePoint now = world_.clock().now();
  TimePoint wait_until = now + (deadline - now) / 2;
  std::vector<Result<void>> admitted(request.items.size());
  std::vector<SyncItem> wanted;
  for (size_t i = 0; i < request.items.size(); ++i) {
    const ChunkSyncRequest::Item& item = request.items[i];
    Result<Capability> allowed = access_.verify(item.capability, item.chunk, item.version, CapabilityRights::kWrite);
    if (allowed) {
      admitted[i] = co_await admit_sync(item, wait_until);
    } else {
      admitted[i] = allowed.error();
    }
    if (admitted[i]) wanted.push_back({.chunk = item.chunk, .version = item.version, .sequence = item.sequence});
  }
  std::vector<Result<WriteResult>> synced;
  if (!wanted.empty()) synced = co_await store_.sync(wanted);
  CHECK(synced.size() == wanted.size());

  ChunkSyncReply reply;
  size_t next = 0;
  for (size_t i = 0; i < request.items.size(); ++i) {
    Result<WriteResult> result = admitted[i] ? synced[next++] : Result<WriteResult>(admitted[i].error());
    ReplicaAck ack = co_await answer_sync(std::move(request.items[i]), std::move(result));
    reply.acks.push_back(std::move(ack));
  }
  co_return reply;
}

Task<ReplicaAck> WritePath::answer_sync(ChunkSyncRequest::Item item, Result<WriteResult> result) {
  if (result && result->synced_sequence >= item.sequence) {
    chunks_.synced(item.chunk, item.version, result->sequence, result->synced_sequence);
    ReplicaView view{.present = true, .version = item.version, .synced = result->synced_sequence};
    view.taken = std::max(result->sequence, result->synced_sequence);
    ReplicaAck ack = acknowledge(self_.server, self_.incarnation, view);
    ack.allocated_bytes = result->allocated_bytes;
    co_return ack;
  }
  Error error(ErrorCode::kMissingWrites, "less than sequence " + std::to_string(item.sequence) + " is on disk");
  if (!result) error = result.error();
  if (error.code == ErrorCode::kUnauthorized) {  // whoever asks may not learn what is here
    co_return acknowledge(self_.server, self_.incarnation, ReplicaView{}, error);
  }
  ReplicaAck ack = co_await refuse(item.chunk, std::move(error));
  co_return ack;
}

Task<void> WritePath::stop() {
  co_await tasks_.stop();
}

}  // namespace cairn
