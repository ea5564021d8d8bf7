// Where a chunk's copies are: repair, and what servers say of what they hold.
#include <algorithm>
#include <set>

#include "master/namespace/chunk_table.h"
#include "master/namespace/ops/ops.h"

namespace cairn {
namespace {

Error conflict(ChunkId chunk, const char* what) {
  return Error(ErrorCode::kConflict, "chunk " + to_string(chunk) + ": " + what);
}

// The new set of a sealed chunk, as records.
Result<std::vector<ReplicaRecord>> new_set(const Transaction& tx, const SetReplicas& set, const ChunkRecord& before) {
  std::vector<ReplicaRecord> replicas;
  std::set<ServerId> seen;
  for (const ReplicaSpec& spec : set.replicas) {
    if (!seen.insert(spec.server).second) return Error(ErrorCode::kInvalid, "a server twice");
    if (spec.state == ReplicaState::kJoining) return Error(ErrorCode::kInvalid, "nobody joins a sealed chunk");
    std::optional<ServerRecord> server = tx.server(spec.server);
    if (!server) return Error(ErrorCode::kNotFound, "server " + to_string(spec.server));
    if (before.replica_on(spec.server) == nullptr) {
      // An order to delete this very version may be on its way: it is called off or carried out first.
      std::optional<GarbageRecord> garbage = tx.garbage(spec.server, set.chunk);
      if (garbage && garbage->version >= before.version) return conflict(set.chunk, "queued for deletion there");
    }
    replicas.push_back(make_replica(spec, *server));
  }
  if (replicas.size() > kMaxGoal) return ErrorCode::kInvalid;
  return replicas;
}

}  // namespace

Reply apply_command(Transaction& tx, const SetReplicas& set) {
  std::optional<ChunkRecord> before = tx.chunk(set.chunk);
  if (!before) return ErrorCode::kNotFound;
  if (before->version != set.expected_version || before->state != ChunkState::kSealed || before->pending) {
    return conflict(set.chunk, "version or state has changed");
  }
  Result<std::vector<ReplicaRecord>> replicas = new_set(tx, set, *before);
  if (!replicas) return replicas.error();
  ChunkRecord after = *before;
  after.replicas = std::move(*replicas);
  const uint32_t wanted = std::min<uint32_t>(before->current_copies(), before->goal);
  if (after.current_copies() < std::max(wanted, 1u)) return ErrorCode::kTooFewReplicas;

  write_chunk(tx, set.chunk, &*before, after);
  for (const ReplicaRecord& replica : after.replicas)
    remove_garbage(tx, replica.server, set.chunk);
  for (const ReplicaRecord& replica : before->replicas) {
    if (after.replica_on(replica.server) == nullptr) add_garbage(tx, replica.server, set.chunk, before->version);
  }
  return ReplyBody{EmptyReply{}};
}

Reply apply_command(Transaction& tx, const MarkReplica& mark) {
  std::optional<ChunkRecord> before = tx.chunk(mark.chunk);
  if (!before) return ErrorCode::kNotFound;
  const ReplicaRecord* replica = before->replica_on(mark.server);
  if (before->version != mark.expected_version || before->pending || replica == nullptr ||
      replica->state != mark.expected) {
    return conflict(mark.chunk, "version or replica has changed");
  }
  std::optional<ServerRecord> server = tx.server(mark.server);
  if (!server) return Error(ErrorCode::kNotFound, "server " + to_string(mark.server));
  ChunkRecord after = *before;
  after.replicas[static_cast<size_t>(replica - before->replicas.data())] =
      make_replica({mark.server, mark.state, mark.incarnation}, *server);
  write_chunk(tx, mark.chunk, &*before, after);
  return ReplyBody{EmptyReply{}};
}

Reply apply_command(Transaction& tx, const MarkReplicas& mark) {
  if (mark.state != ReplicaState::kBad && mark.state != ReplicaState::kMissing) return ErrorCode::kInvalid;
  for (const MarkReplicas::Item& item : mark.chunks) {
    std::optional<ChunkRecord> before = tx.chunk(item.chunk);
    if (!before || (item.version != 0 && item.version != before->version)) continue;
    ChunkRecord after = *before;
    for (ReplicaRecord& replica : after.replicas) {
      if (replica.server == mark.server) replica.state = mark.state;
    }
    if (after != *before) write_chunk(tx, item.chunk, &*before, after);
  }
  return ReplyBody{EmptyReply{}};
}

}  // namespace cairn
