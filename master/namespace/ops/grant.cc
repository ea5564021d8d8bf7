// Chunks for a session to write: granted in advance, and given back.
#include "master/namespace/chunk_table.h"
#include "master/namespace/ops/ops.h"

namespace cairn {
namespace {

constexpr size_t kMaxGrantsPerOp = 1024;
constexpr uint64_t kFirstVersion = 1;

Result<ChunkGrant> grant_one(OpContext& op, Goal goal, const std::vector<ServerId>& servers) {
  if (servers.size() < goal.min_copies || servers.empty()) return ErrorCode::kTooFewReplicas;
  if (servers.size() > kMaxGoal) return ErrorCode::kInvalid;
  ChunkGrant grant{
      .chunk = ChunkId{op.tx.counters().next_chunk++}, .version = kFirstVersion, .min_copies = goal.min_copies};
  ChunkRecord chunk;
  chunk.version = chunk.highest_version = kFirstVersion;
  chunk.session = op.session;
  chunk.goal = goal.goal;
  chunk.min_copies = goal.min_copies;
  for (ServerId server : servers) {
    std::optional<ServerRecord> record = op.tx.server(server);
    if (!record) return Error(ErrorCode::kNotFound, "server " + to_string(server));
    if (chunk.replica_on(server) != nullptr) return Error(ErrorCode::kInvalid, "a server twice");
    chunk.replicas.push_back(make_replica({.server = server}, *record));
    grant.replicas.push_back({server, record->address});
  }
  write_chunk(op.tx, grant.chunk, nullptr, chunk);
  return grant;
}

}  // namespace

Result<MutationReply> apply_op(OpContext& op, const GrantChunksOp& grant) {
  if (grant.goal > kMaxGoal || grant.min_copies > kMaxGoal) return ErrorCode::kInvalid;
  if (grant.placements.empty() || grant.placements.size() > kMaxGrantsPerOp) return ErrorCode::kInvalid;
  const Goal goal = resolve_goal(op.cluster, grant.goal, grant.min_copies);
  MutationReply reply;
  for (const std::vector<ServerId>& servers : grant.placements) {
    Result<ChunkGrant> granted = grant_one(op, goal, servers);
    if (!granted) return granted.error();
    reply.grants.push_back(std::move(*granted));
  }
  return reply;
}

Result<MutationReply> apply_op(OpContext& op, const ReturnChunksOp& give_back) {
  for (ChunkId id : give_back.chunks) {
    std::optional<ChunkRecord> chunk = op.tx.chunk(id);
    // What is part of a file by now, or somebody else's, is not touched.
    if (chunk && chunk->refs == 0 && chunk->session == op.session) remove_chunk(op.tx, id, *chunk);
  }
  return MutationReply{};
}

}  // namespace cairn
