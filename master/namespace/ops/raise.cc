// Raising a chunk's version (rules 5 to 8), and sealing it (rule 9).
#include <algorithm>
#include <set>

#include "common/base/units.h"
#include "master/namespace/chunk_table.h"
#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {
namespace {

Error conflict(ChunkId chunk, const char* what) {
  return Error(ErrorCode::kConflict, "chunk " + to_string(chunk) + ": " + what);
}

bool contains(const std::vector<ServerId>& servers, ServerId server) {
  return std::find(servers.begin(), servers.end(), server) != servers.end();
}

bool holds_bytes(const ReplicaRecord& replica) {
  return replica.state == ReplicaState::kCurrent || replica.state == ReplicaState::kJoining;
}

Result<void> check_members(const Transaction& tx, const BeginRaise& raise, const ChunkRecord& chunk) {
  std::set<ServerId> seen;
  bool has_copy = false;
  for (ServerId server : raise.survivors) {
    const ReplicaRecord* replica = chunk.replica_on(server);
    if (replica == nullptr || !holds_bytes(*replica)) return Error(ErrorCode::kInvalid, "a survivor holds no replica");
    has_copy |= replica->state == ReplicaState::kCurrent;
    if (!seen.insert(server).second) return Error(ErrorCode::kInvalid, "a server twice");
  }
  for (ServerId server : raise.joiners) {
    const ReplicaRecord* replica = chunk.replica_on(server);
    if (replica != nullptr && holds_bytes(*replica)) return Error(ErrorCode::kInvalid, "a joiner is a member");
    if (!tx.server(server)) return Error(ErrorCode::kNotFound, "server " + to_string(server));
    if (!seen.insert(server).second) return Error(ErrorCode::kInvalid, "a server twice");
  }
  // Without a copy there would be nothing to be equal to: the last one is never raised away.
  if (!has_copy) return ErrorCode::kTooFewReplicas;
  if (seen.size() > kMaxGoal) return ErrorCode::kInvalid;
  return {};
}

Result<void> check_writer(const Transaction& tx, const BeginRaise& raise, const ChunkRecord& chunk) {
  if (!raise.session) return {};
  std::optional<SessionRecord> session = tx.session(raise.session);
  if (!session || session->ended) return Error(ErrorCode::kSessionEnded, to_string(raise.session));
  if (chunk.state == ChunkState::kOpen && chunk.session != raise.session) {
    return Error(ErrorCode::kBusy, "open for session " + to_string(chunk.session));
  }
  if (raise.survivors.size() + raise.joiners.size() < chunk.min_copies) return ErrorCode::kTooFewReplicas;
  return {};
}

Result<void> check_finish(const Transaction& tx, const FinishRaise& raise, const ChunkRecord& chunk) {
  if (!chunk.pending || chunk.pending->version != raise.version)
    return conflict(raise.chunk, "no such raise is pending");
  std::set<ServerId> seen;
  uint32_t copies = 0;
  for (const ReplicaSpec& replica : raise.replicas) {
    const bool member =
        contains(chunk.pending->survivors, replica.server) || contains(chunk.pending->joiners, replica.server);
    if (!member || !seen.insert(replica.server).second) return Error(ErrorCode::kInvalid, "not of the raise, or twice");
    if (replica.state != ReplicaState::kCurrent && (raise.seal || replica.state != ReplicaState::kJoining)) {
      return Error(ErrorCode::kInvalid, "a replica that is no copy");
    }
    copies += replica.state == ReplicaState::kCurrent;
  }
  if (copies == 0) return ErrorCode::kTooFewReplicas;
  if (raise.seal) return {};
  if (!chunk.pending->session) return Error(ErrorCode::kInvalid, "nobody is to write: it has to be sealed");
  std::optional<SessionRecord> session = tx.session(chunk.pending->session);
  if (!session || session->ended) return Error(ErrorCode::kSessionEnded, to_string(chunk.pending->session));
  if (raise.replicas.size() < chunk.min_copies) return ErrorCode::kTooFewReplicas;
  return {};
}

// The writer may have left bytes beyond the size that it committed. They are not part of the file: when it grows, zeros
// appear there. Whether its session has ended does not matter: it cannot commit them any more (check_ownership in
// commit.cc).
void hide_uncommitted(Transaction& tx, ChunkId id, const ChunkRecord& before, uint32_t length) {
  if (before.refs == 0 || before.state != ChunkState::kOpen) return;
  std::optional<InodeRecord> inode = tx.inode(before.owner);
  std::optional<ChunkRef> ref;
  if (inode) ref = tx.ref(before.owner, before.index);
  if (!ref || ref->chunk != id || !alive(*inode, before.index, *ref)) return;
  const uint64_t start = before.index * kChunkSizeBytes;
  const uint64_t end = inode->attributes.size > start ? inode->attributes.size - start : 0;
  if (end >= length) return;
  limit_ref(tx, *inode, before.index, *ref, static_cast<uint32_t>(end));
  tx.put_inode(*inode);
}

}  // namespace

Reply apply_command(Transaction& tx, const BeginRaise& raise) {
  std::optional<ChunkRecord> before = tx.chunk(raise.chunk);
  if (!before) return ErrorCode::kNotFound;
  if (before->version != raise.expected_version || before->state != raise.expected_state) {
    return conflict(raise.chunk, "version or state has changed");
  }
  if ((before->pending ? before->pending->version : 0) != raise.expected_pending) {
    return conflict(raise.chunk, "another raise is pending");
  }
  if (Result<void> allowed = check_writer(tx, raise, *before); !allowed) return allowed.error();
  if (Result<void> allowed = check_members(tx, raise, *before); !allowed) return allowed.error();

  std::optional<ClusterRecord> cluster = tx.cluster();
  const bool unsettled = cluster && cluster->restore && !cluster->restore->settled;
  if (unsettled) return Error(ErrorCode::kOverload, "the state was restored: chunkservers are being asked what they hold");
  ChunkRecord after = *before;
  // Some replica may have recorded any version that was ever begun: a new one is above all of them.
  const uint64_t floor = cluster ? cluster->version_floor : 0;
  after.highest_version = std::max({before->version, before->highest_version, floor}) + 1;
  after.pending = PendingRaise{after.highest_version, raise.session, raise.survivors, raise.joiners};
  write_chunk(tx, raise.chunk, &*before, after);
  // A joiner of the raise that this one replaces may hold something already.
  if (before->pending) {
    for (ServerId joiner : before->pending->joiners) {
      if (!contains(raise.joiners, joiner)) add_garbage(tx, joiner, raise.chunk, before->pending->version);
    }
  }
  return ReplyBody{RaiseBegun{after.highest_version}};
}

Reply apply_command(Transaction& tx, const FinishRaise& raise) {
  std::optional<ChunkRecord> before = tx.chunk(raise.chunk);
  if (!before) return ErrorCode::kNotFound;
  if (Result<void> allowed = check_finish(tx, raise, *before); !allowed) return allowed.error();

  ChunkRecord after = *before;
  after.version = raise.version;
  after.pending.reset();
  after.replicas.clear();
  for (const ReplicaSpec& replica : raise.replicas) {
    std::optional<ServerRecord> server = tx.server(replica.server);
    if (!server) return Error(ErrorCode::kNotFound, "server " + to_string(replica.server));
    after.replicas.push_back(make_replica(replica, *server));
    // Queued under an older version: an order for that leaves the new one alone.
    remove_garbage(tx, replica.server, raise.chunk);
  }
  if (raise.seal) {
    after.state = ChunkState::kSealed;
    after.length = raise.seal->length;
    after.allocated_bytes = raise.seal->allocated_bytes;
    hide_uncommitted(tx, raise.chunk, *before, raise.seal->length);
  } else {
    after.state = ChunkState::kOpen;
    after.session = before->pending->session;
  }
  write_chunk(tx, raise.chunk, &*before, after);

  std::set<ServerId> left;
  for (const ReplicaRecord& replica : before->replicas)
    left.insert(replica.server);
  left.insert(before->pending->joiners.begin(), before->pending->joiners.end());
  for (ServerId server : left) {
    if (after.replica_on(server) == nullptr) add_garbage(tx, server, raise.chunk, raise.version);
  }
  return ReplyBody{EmptyReply{}};
}

Reply apply_command(Transaction& tx, const AbandonRaise& raise) {
  std::optional<ChunkRecord> before = tx.chunk(raise.chunk);
  if (!before) return ErrorCode::kNotFound;
  if (!before->pending || before->pending->version != raise.version) {
    return conflict(raise.chunk, "no such raise is pending");
  }
  ChunkRecord after = *before;
  after.pending.reset();
  write_chunk(tx, raise.chunk, &*before, after);
  for (ServerId joiner : before->pending->joiners) {
    if (after.replica_on(joiner) == nullptr) add_garbage(tx, joiner, raise.chunk, raise.version);
  }
  return ReplyBody{EmptyReply{}};
}

Reply apply_command(Transaction& tx, const SealChunk& seal) {
  std::optional<ChunkRecord> before = tx.chunk(seal.chunk);
  if (!before) return ErrorCode::kNotFound;
  if (before->version != seal.version || before->state != ChunkState::kOpen) {
    return conflict(seal.chunk, "version or state has changed");
  }
  if (before->pending) return conflict(seal.chunk, "a raise is pending");
  if (before->refs == 0) return conflict(seal.chunk, "no file has it yet");
  if (before->current_copies() != before->replicas.size()) return conflict(seal.chunk, "a replica is no copy");

  ChunkRecord after = *before;
  after.state = ChunkState::kSealed;
  after.length = seal.length;
  after.allocated_bytes = seal.allocated_bytes;
  write_chunk(tx, seal.chunk, &*before, after);
  return ReplyBody{EmptyReply{}};
}

}  // namespace cairn
