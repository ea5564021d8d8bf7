#include "chunkserver/replication/chunk_copier.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/rpc/retry.h"
#include "common/rpc/rpc_typed.h"

namespace cairn {

namespace {

// What may be gone at the next attempt; a damaged piece may have been damaged on the way.
bool worth_another_attempt(ErrorCode code) {
  return worth_retrying(code) || code == ErrorCode::kCorrupt;
}

}  // namespace

ChunkCopier::ChunkCopier(World& world, ChunkStore& store, OpenChunks& chunks, ChunkPeers& peers)
    : world_(world),
      store_(store),
      chunks_(chunks),
      peers_(peers),
      copied_bytes_(
          world.metrics().counter("cairn_chunkserver_copied_bytes_total", "Bytes fetched from other replicas")),
      copies_(world.metrics().counter("cairn_chunkserver_copies_total", "Chunks made equal to another replica")),
      failures_(world.metrics().counter("cairn_chunkserver_copy_failures_total", "Copies of chunks that failed")),
      memory_(world.executor(), kCopyMemoryBytes),
      tasks_(world.executor(), world.clock()) {}

Task<Result<ReplicaStatus>> ChunkCopier::copy(CopyChunkRequest order, TimePoint deadline, uint64_t trace_id) {
  for (;;) {
    if (tasks_.stop_requested()) co_return Error(ErrorCode::kCancelled, "the chunkserver stops");
    auto found = runs_.find(order.chunk);
    RunPtr running = found == runs_.end() ? nullptr : found->second;
    bool ours = !running || running->same_as(order);
    if (!running) {
      running = std::make_shared<Run>(world_.executor(), order);
      running->trace_id = trace_id;
      runs_.emplace(order.chunk, running);
      tasks_.spawn(run(running));
    } else if (order.version > running->order.version && !running->error) {
      running->error = Error(ErrorCode::kOldVersion, "a newer version has been ordered");
    }
    while (!running->result) {
      Result<void> waited = co_await running->changed.wait_until(world_.clock(), deadline);
      if (!waited) co_return Error(ErrorCode::kTimeout, "the copy of chunk " + to_string(order.chunk) + " goes on");
    }
    if (ours) co_return *running->result;
  }
}

Task<void> ChunkCopier::run(RunPtr run) {
  ChunkId chunk = run->order.chunk;
  uint64_t version = run->order.version;
  Result<ReplicaStatus> result = co_await do_copy(run);
  if (!result && run->began) {
    Result<void> abandoned = co_await store_.abandon_install(chunk, version);
    if (!abandoned && abandoned.code() != ErrorCode::kNotFound) {
      log_warning("copy.abandon_failed", "chunk={} error={}", chunk, quoted(abandoned.error().message()));
    }
  }
  chunks_.copy_ended(chunk);
  if (result) {
    copies_.add();
    log_info("copy.done", "chunk={} version={} source={} bytes={} sealed={}", chunk, version, run->order.source.address,
             run->copied_bytes, run->order.seal);
  } else {
    failures_.add();
    log_warning("copy.failed", "chunk={} version={} source={} error={}", chunk, version, run->order.source.address,
                quoted(result.error().message()));
  }
  run->result.emplace(std::move(result));
  runs_.erase(chunk);
  run->changed.notify_all();
}

Task<Result<ReplicaStatus>> ChunkCopier::do_copy(RunPtr run) {
  const CopyChunkRequest& order = run->order;
  Result<ChunkMapReply> map = co_await fetch_map(run);
  if (!map) co_return map.error();
  ReplicaView source = view_of(map->status);
  OwnerHint owner{.inode = map->status.inode, .index = map->status.index};
  // From here on writes of this version come to the copy: they are numbered from the source's sequence on, and what
  // the source takes while we read it comes to us as well.
  Result<void> began = co_await store_.begin_install(order.chunk, order.version, source.taken, owner);
  if (!began) co_return began.error();
  run->began = true;
  chunks_.copy_began(order.chunk, order.version, source.taken);
  run->pieces = pieces_of(map->data);
  Result<void> fetched = co_await fetch_pieces(run);
  if (!fetched) co_return fetched.error();
  Result<ReplicaStatus> finished =
      co_await store_.finish_install(order.chunk, order.version, map->status.length, order.seal);
  co_return finished;
}

Task<bool> ChunkCopier::again(RunPtr run, int attempt, ErrorCode code) {
  if (run->error || attempt >= kCopyAttempts || !worth_another_attempt(code)) co_return false;
  Result<void> slept = co_await tasks_.sleep_for(kCopyRetryPause * attempt);
  co_return slept.has_value();
}

Task<Result<ChunkMapReply>> ChunkCopier::fetch_map(RunPtr run) {
  for (int attempt = 1;; ++attempt) {
    Result<ChunkMapReply> map = co_await fetch_map_once(run);
    if (map) co_return map;
    bool once_more = co_await again(run, attempt, map.code());
    if (!once_more) co_return map;
  }
}

Task<Result<ChunkMapReply>> ChunkCopier::fetch_map_once(RunPtr run) {
  TimePoint until = world_.clock().now() + kCopyCallDeadline;
  std::string at = "the map of chunk " + to_string(run->order.chunk) + " from " + run->order.source.address;
  Result<ChunkPeers::Client> client = peers_.client(run->order.source.address);
  if (!client) co_return client.error().in(at);
  ChunkMapRequest request{run->order.capability, run->order.chunk, run->order.version};
  RpcClient::CallOptions options{.deadline = until, .trace_id = run->trace_id};
  auto answer = co_await typed_call(**client, std::move(request), options);
  if (!answer) co_return answer.error().in(at);
  ChunkMapReply& map = answer->reply;
  uint64_t end = 0;
  bool sound = map.status.chunk == run->order.chunk && map.status.version == run->order.version &&
               map.status.length <= kChunkSizeBytes;
  for (const ChunkMapReply::Range& range : map.data) {
    sound = sound && range.offset >= end && range.offset % kBlockSizeBytes == 0;
    end = uint64_t{range.offset} + range.length;
  }
  if (!sound || end > kChunkSizeBytes) co_return Error(ErrorCode::kBadMessage, at);
  co_return std::move(map);
}

std::vector<ChunkCopier::Run::Piece> ChunkCopier::pieces_of(const std::vector<ChunkMapReply::Range>& data) {
  std::vector<Run::Piece> pieces;
  for (const ChunkMapReply::Range& range : data) {
    for (uint32_t done = 0; done < range.length; done += kCopyPieceBytes) {
      pieces.push_back({range.offset + done, std::min(kCopyPieceBytes, range.length - done)});
    }
  }
  return pieces;
}

Task<Result<void>> ChunkCopier::fetch_pieces(RunPtr run) {
  run->workers = std::min(kCopyPiecesInFlight, run->pieces.size());
  for (size_t i = run->workers; i > 0; --i)
    tasks_.spawn(work(run));
  while (run->workers > 0)
    co_await run->changed.wait();
  if (run->error) co_return *run->error;
  co_return Result<void>();
}

Task<void> ChunkCopier::work(RunPtr run) {
  while (!run->error && run->next_piece < run->pieces.size()) {
    Run::Piece piece = run->pieces[run->next_piece++];
    Result<void> fetched = co_await fetch(run, piece);
    if (!fetched && !run->error) run->error = fetched.error();
  }
  --run->workers;
  run->changed.notify_all();
}

Task<Result<void>> ChunkCopier::fetch(RunPtr run, Run::Piece piece) {
  for (int attempt = 1;; ++attempt) {
    Result<void> fetched = co_await fetch_once(run, piece);
    if (fetched) co_return fetched;
    bool once_more = co_await again(run, attempt, fetched.code());
    if (!once_more) co_return fetched;
  }
}

Task<Result<void>> ChunkCopier::fetch_once(RunPtr run, Run::Piece piece) {
  const CopyChunkRequest& order = run->order;
  Semaphore::Permit room = co_await memory_.acquire(piece.length);
  std::string at =
      "chunk " + to_string(order.chunk) + " at " + std::to_string(piece.offset) + " from " + order.source.address;
  Result<ChunkPeers::Client> client = peers_.client(order.source.address);
  if (!client) co_return client.error();
  ChunkReadRequest request{order.capability, order.chunk, order.version, piece.offset, piece.length};
  RpcClient::CallOptions options{.deadline = world_.clock().now() + kCopyCallDeadline, .trace_id = run->trace_id};
  options.answer_bytes_hint = piece.length;
  auto answer = co_await typed_call(**client, std::move(request), options);
  if (!answer) co_return answer.error().in(at);
  ChunkReadReply& reply = answer->reply;
  bool sound =
      reply.offset == piece.offset && reply.length <= piece.length && reply.length == payload_size(answer->payload);
  if (!sound) co_return Error(ErrorCode::kBadMessage, at + ": another range than asked for");
  // Cut off since the map was made: the truncation comes to the copy as a write.
  if (reply.length == 0) co_return Result<void>();
  uint64_t bytes = reply.length;
  // The store verifies the checksums before it takes anything.
  Result<void> filled = co_await store_.fill(order.chunk, order.version, piece.offset, std::move(answer->payload),
                                             std::move(reply.checksums));
  if (!filled) co_return filled.error().in(at);
  run->copied_bytes += bytes;
  copied_bytes_.add(static_cast<double>(bytes));
  co_return Result<void>();
}

Task<void> ChunkCopier::stop() {
  co_await tasks_.stop();
}

}  // namespace cairn
