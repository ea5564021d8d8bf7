// What chunkservers say: that they are there, that they still are, and what they hold. Reports only confirm the
// records; where they differ, the records win, and what differs is marked, repaired or, after the grace time, deleted.
#include <algorithm>
#include <set>
#include <utility>

#include "common/base/log.h"
#include "master/service/chunk_keeper_impl.h"

namespace cairn {

namespace {
constexpr size_t kMarksAtOnce = 1024;  // chunks in one command
constexpr uint64_t kReportMax = 50'000'000;
constexpr size_t kUnknownKeptMax = 1'000'000;  // of one server; further ones are only counted

AdoptReplicas::Item adopted_item(const ReplicaStatus& status) {
  return {.chunk = status.chunk,
          .version = status.version,
          .state = status.state,
          .complete = static_cast<uint8_t>(status.complete),
          .verified = static_cast<uint8_t>(status.verified),
          .length = status.length};
}
}  // namespace

Task<Result<RegisterServerReply>> ChunkKeeper::register_server(RegisterServerRequest request) {
  Impl& keeper = *impl_;
  ClusterId cluster = keeper.core.cluster();
  if (request.cluster && request.cluster != cluster) {
    co_return Error(ErrorCode::kWrongCluster, "chunkserver " + to_string(request.server) + " belongs to cluster " +
                                                  to_string(request.cluster) + ", this is cluster " +
                                                  to_string(cluster));
  }
  if (!request.server || request.address.empty())
    co_return Error(ErrorCode::kInvalid, "a chunkserver without an id or an address");
  RegisterServer command;
  command.server = request.server;
  command.address = request.address;
  command.domain = request.domain;
  command.program = request.program;
  command.boot_id = request.boot_id;
  command.incarnation = request.incarnation;
  Result<RegisterServerResult> result = co_await keeper.core.propose_for<RegisterServerResult>(std::move(command));
  if (!result) co_return result.error();
  LiveServer& server = keeper.servers.registered(request);
  server.report_next_chunk = keeper.core.machine().counters().next_chunk;
  log_info("master.server_registered", "server={} address={} incarnation={} new={} rebooted={}", request.server,
           request.address, request.incarnation, result->is_new, result->rebooted);
  keeper.work.notify_all();
  RegisterServerReply reply;
  reply.cluster = cluster;
  reply.term = keeper.core.term();
  reply.log_time_ms = keeper.core.log_time_ms();
  reply.keys = keeper.core.machine().cluster().keys;
  reply.heartbeat_ms = keeper.options.heartbeat_ms;
  co_return reply;
}

Task<Result<HeartbeatReply>> ChunkKeeper::heartbeat(HeartbeatRequest request) {
  Impl& keeper = *impl_;
  HeartbeatReply reply;
  reply.term = keeper.core.term();
  reply.log_time_ms = keeper.core.log_time_ms();
  reply.keys = keeper.core.machine().cluster().keys;
  LiveServer* server = keeper.servers.find(request.server);
  // A server that only the records know, or that has started again, says first who and what it is; and after a restore
  // was accepted each says once more what it holds.
  if (!server || server->incarnation != request.incarnation || server->ask_again) {
    reply.register_again = true;
    co_return reply;
  }
  server->heard = keeper.now();
  server->space = request.space;
  server->promised_bytes = 0;
  if (!request.bad_chunks.empty()) {
    std::vector<MarkReplicas::Item> items;
    for (ChunkId chunk : request.bad_chunks)
      items.push_back({.chunk = chunk, .version = 0});
    log_warning("master.bad_chunks", "server={} count={}", request.server, items.size());
    keeper.tasks.spawn(keeper.mark(request.server, ReplicaState::kBad, std::move(items)));
  }
  co_return reply;
}

Task<void> ChunkKeeper::Impl::mark(ServerId server, ReplicaState state, std::vector<MarkReplicas::Item> chunks) {
  for (size_t begin = 0; begin < chunks.size(); begin += kMarksAtOnce) {
    size_t end = std::min(chunks.size(), begin + kMarksAtOnce);
    MarkReplicas command;
    command.server = server;
    command.state = state;
    command.chunks.assign(chunks.begin() + static_cast<ptrdiff_t>(begin), chunks.begin() + static_cast<ptrdiff_t>(end));
    Result<ReplyBody> marked = co_await core.propose(std::move(command));
    if (!marked) {
      log_warning("master.mark_failed", "server={} error={}", server, quoted(marked.error().message()));
      co_return;
    }
  }
  work.notify_all();
}

Task<Result<EmptyReply>> ChunkKeeper::chunk_report(ChunkReportRequest request) {
  Impl& keeper = *impl_;
  LiveServer* server = keeper.servers.find(request.server);
  if (!server || server->incarnation != request.incarnation) {
    co_return Error(ErrorCode::kConflict, "chunkserver " + to_string(request.server) + " is not registered");
  }
  if (request.first) {
    server->report.clear();
    server->report_next_chunk = keeper.core.machine().counters().next_chunk;
  }
  if (server->report.size() + request.chunks.size() > kReportMax) co_return Error(ErrorCode::kTooBig, "chunk report");
  for (ReplicaStatus& status : request.chunks)
    server->report.push_back(std::move(status));
  if (request.last) {
    keeper.tasks.spawn(keeper.reconcile(request.server, request.incarnation, std::exchange(server->report, {}),
                                        server->report_next_chunk));
  }
  co_return EmptyReply{};
}

// What a report says otherwise than the records.
struct ChunkKeeper::Impl::Differences {
  std::vector<MarkReplicas::Item> missing;
  std::vector<AddGarbage::Item> garbage;
  std::vector<ChunkId> doubtful;  // named, and not in the report
  // After a restore, instead of garbage and what is missing because of its version:
  std::vector<AdoptReplicas::Item> adopted;
  Unknown unknown;
};

// On a pool, beside apply. Chunks from `next_chunk` on were granted after the report was asked for, and are left alone.
Result<ChunkKeeper::Impl::Differences> ChunkKeeper::Impl::compare(const Machine& machine, ServerId server,
                                                                  ChunkId next_chunk,
                                                                  const std::vector<ReplicaStatus>& report,
                                                                  const std::optional<RestoreRecord>& restore) {
  Differences found;
  std::set<ChunkId> held;
  for (const ReplicaStatus& status : report) {
    held.insert(status.chunk);
    Result<ChunkRecord> chunk = machine.chunk(status.chunk, ReadMode::kMayBlock);
    if (!chunk && !chunk.failed_with(ErrorCode::kNotFound)) return chunk.error();
    const ReplicaRecord* replica = chunk ? chunk->replica_on(server) : nullptr;
    bool pending = chunk && chunk->pending;
    if (restore) {
      bool granted_before = chunk && chunk->refs == 0 && chunk->session < restore->session;
      if (!chunk || granted_before) {
        if (found.unknown.chunks.size() < kUnknownKeptMax) {
          found.unknown.chunks.push_back(status);
        } else {
          ++found.unknown.more;
        }
      } else if (!replica && !pending) {
        ++found.unknown.stale;
      }
      bool as_recorded = replica && replica->state == ReplicaState::kCurrent && status.version == chunk->version;
      if (chunk && !granted_before && !restore->settled && !as_recorded) found.adopted.push_back(adopted_item(status));
      if (!restore->settled || !replica) continue;
    }
    if (!replica && !pending) {
      if (status.chunk < next_chunk) found.garbage.push_back({.chunk = status.chunk, .version = status.version});
    } else if (replica && status.version < chunk->version && replica->state == ReplicaState::kCurrent) {
      found.missing.push_back({.chunk = status.chunk, .version = chunk->version});  // an old version is no copy
    }
  }
  for (ChunkId after{};;) {
    Result<std::vector<ChunkEntry>> named = machine.chunks_on(server, after, 1024);
    if (!named) return named.error();
    if (named->empty()) break;
    for (const ChunkEntry& entry : *named) {
      const ReplicaRecord* replica = entry.chunk.replica_on(server);
      bool counts = replica && replica->state == ReplicaState::kCurrent && entry.chunk.refs > 0;
      if (counts && entry.id < next_chunk && !held.contains(entry.id)) found.doubtful.push_back(entry.id);
    }
    after = named->back().id;
  }
  return found;
}

Task<void> ChunkKeeper::Impl::reconcile(ServerId server, uint64_t incarnation, std::vector<ReplicaStatus> report,
                                        uint64_t next_chunk) {
  size_t reported = report.size();
  std::optional<RestoreRecord> restore = core.machine().restore();
  auto compare_all = [server, next_chunk, restore, report = std::move(report)](Machine& machine) {
    return compare(machine, server, ChunkId(next_chunk), report, restore);
  };
  Result<Differences> found = co_await core.read_blocking(std::move(compare_all));
  LiveServer* live = servers.find(server);
  if (!found || !live || live->incarnation != incarnation) co_return;
  // What came after the report was taken is not missing: the server is asked once more.
  for (size_t begin = 0; begin < found->doubtful.size(); begin += kMarksAtOnce) {
    size_t end = std::min(found->doubtful.size(), begin + kMarksAtOnce);
    StatChunksRequest request;
    request.chunks.assign(found->doubtful.begin() + static_cast<ptrdiff_t>(begin),
                          found->doubtful.begin() + static_cast<ptrdiff_t>(end));
    std::vector<ChunkId> asked = request.chunks;
    auto there = co_await order(server, std::move(request));
    if (!there) co_return;  // it will register again
    for (ChunkId chunk : asked) {
      bool has =
          std::ranges::any_of(there->chunks, [chunk](const ReplicaStatus& status) { return status.chunk == chunk; });
      if (!has) found->missing.push_back({.chunk = chunk, .version = 0});
    }
  }
  log_info("master.report", "server={} chunks={} missing={} garbage={}", server, reported, found->missing.size(),
           found->garbage.size());
  if (!found->adopted.empty()) {
    bool adopted = co_await adopt(server, incarnation, std::move(found->adopted));
    if (!adopted) co_return;
  }
  if (restore) note_unknown(server, std::move(found->unknown));
  if (!found->missing.empty()) co_await mark(server, ReplicaState::kMissing, std::move(found->missing));
  for (size_t begin = 0; begin < found->garbage.size(); begin += kMarksAtOnce) {
    AddGarbage command;
    command.server = server;
    size_t end = std::min(found->garbage.size(), begin + kMarksAtOnce);
    command.chunks.assign(found->garbage.begin() + static_cast<ptrdiff_t>(begin),
                          found->garbage.begin() + static_cast<ptrdiff_t>(end));
    Result<ReplyBody> added = co_await core.propose(std::move(command));
    if (!added) co_return;
  }
  live = servers.find(server);
  if (live) live->reported = true;
  work.notify_all();
}

}  // namespace cairn
