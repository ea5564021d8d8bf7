#include "master/namespace/chunk_table.h"

#include <algorithm>

#include "common/base/check.h"

namespace cairn {
namespace {

// Adds the chunk to the counters, or with -1 takes it off.
void count_chunk(CounterRecord& counters, const ChunkRecord& chunk, int64_t by) {
  auto add = [by](uint64_t& counter) { counter += static_cast<uint64_t>(by); };
  if (chunk.refs == 0) {
    add(counters.granted);
    return;
  }
  add(counters.chunks);
  if (chunk.state == ChunkState::kOpen) add(counters.open);
  const uint32_t copies = chunk.current_copies();
  if (copies == 0) {
    add(counters.lost);
  } else if (copies > chunk.goal) {
    add(counters.over_goal);
  } else if (copies == chunk.goal) {
    add(counters.healthy);
  } else if (copies == 1) {
    add(counters.one_copy);
  } else {
    add(counters.under_goal);
  }
}

void put_garbage(Transaction& tx, ServerId server, ChunkId chunk, const GarbageRecord& garbage) {
  tx.put(keys::garbage(server, chunk), encode(garbage));
  tx.put(keys::garbage_due(server, garbage.due_ms, chunk), {});
}

// For a server that the chunk's record names as a replica, which has no garbage of the chunk: whatever makes a replica
// takes that back (remove_garbage), and nothing is queued for one. So nothing is looked up that can hardly be there:
// three look-ups through all tables cost more than the rest of removing a small file.
void add_first_garbage(Transaction& tx, ServerId server, ChunkId chunk, uint64_t version) {
  std::optional<ClusterRecord> cluster = tx.cluster();
  if (!cluster || !tx.server(server)) return;  // as in add_garbage
  ++tx.counters().garbage;
  put_garbage(tx, server, chunk, {version, tx.counters().log_time_ms + cluster->delete_grace_ms});
}

}  // namespace

bool needs_attention(const ChunkRecord& chunk) {
  if (chunk.pending) return true;
  if (chunk.refs == 0) return false;
  return chunk.current_copies() != chunk.goal || chunk.current_copies() != chunk.replicas.size();
}

void write_chunk(Transaction& tx, ChunkId id, const ChunkRecord* before, const ChunkRecord& after) {
  if (before != nullptr) {
    count_chunk(tx.counters(), *before, -1);
    for (const ReplicaRecord& replica : before->replicas) {
      if (after.replica_on(replica.server) == nullptr) tx.erase(keys::server_chunk(replica.server, id));
    }
  }
  count_chunk(tx.counters(), after, 1);
  for (const ReplicaRecord& replica : after.replicas) {
    if (before == nullptr || before->replica_on(replica.server) == nullptr) {
      tx.put(keys::server_chunk(replica.server, id), {});
    }
  }

  const bool attention_before = before != nullptr && needs_attention(*before);
  if (needs_attention(after) && !attention_before) tx.put(keys::attention(id), {});
  if (!needs_attention(after) && attention_before) tx.erase(keys::attention(id));

  const SessionId opened_before =
      before != nullptr && before->state == ChunkState::kOpen ? before->session : SessionId{};
  const SessionId opened_after = after.state == ChunkState::kOpen ? after.session : SessionId{};
  if (opened_before != opened_after) {
    if (opened_before) tx.erase(keys::open_chunk(opened_before, id));
    if (opened_after) tx.put(keys::open_chunk(opened_after, id), {});
  }
  tx.put(keys::chunk(id), encode(after));
}

void forget_chunk(Transaction& tx, ChunkId id, const ChunkRecord& chunk) {
  count_chunk(tx.counters(), chunk, -1);
  for (const ReplicaRecord& replica : chunk.replicas)
    tx.erase(keys::server_chunk(replica.server, id));
  if (needs_attention(chunk)) tx.erase(keys::attention(id));
  if (chunk.state == ChunkState::kOpen) tx.erase(keys::open_chunk(chunk.session, id));
  tx.erase(keys::chunk(id));
}

void remove_chunk(Transaction& tx, ChunkId id, const ChunkRecord& chunk) {
  const uint64_t version = std::max(chunk.version, chunk.highest_version);
  for (const ReplicaRecord& replica : chunk.replicas)
    add_first_garbage(tx, replica.server, id, version);
  if (chunk.pending) {
    for (ServerId joiner : chunk.pending->joiners)
      add_garbage(tx, joiner, id, version);
  }
  forget_chunk(tx, id, chunk);
}

void unreference_chunk(Transaction& tx, ChunkId id) {
  std::optional<ChunkRecord> chunk = tx.chunk(id);
  if (!chunk) return;
  CHECK(chunk->refs > 0);
  if (chunk->refs == 1) {
    remove_chunk(tx, id, *chunk);
    return;
  }
  ChunkRecord after = *chunk;
  --after.refs;
  write_chunk(tx, id, &*chunk, after);
}

void drop_ref(Transaction& tx, InodeId id, InodeRecord* inode, uint32_t index, const ChunkRef& ref) {
  tx.erase(keys::ref(id, index));
  unreference_chunk(tx, ref.chunk);
  if (inode == nullptr) return;
  CHECK(inode->chunk_count > 0 && inode->attributes.allocated_bytes >= ref.allocated_bytes);
  --inode->chunk_count;
  inode->attributes.allocated_bytes -= ref.allocated_bytes;
  tx.counters().allocated_bytes -= ref.allocated_bytes;
}

ReplicaRecord make_replica(const ReplicaSpec& spec, const ServerRecord& server) {
  const bool same_process = spec.incarnation == 0 || spec.incarnation == server.incarnation;
  return ReplicaRecord{spec.server, spec.state, same_process ? server.boots : 0};
}

void add_garbage(Transaction& tx, ServerId server, ChunkId chunk, uint64_t version) {
  std::optional<ClusterRecord> cluster = tx.cluster();
  if (!cluster || !tx.server(server)) return;  // a server that was removed gets no orders
  GarbageRecord garbage{version, tx.counters().log_time_ms + cluster->delete_grace_ms};
  if (std::optional<GarbageRecord> queued = tx.garbage(server, chunk)) {
    if (version <= queued->version) return;  // said again: its time goes on
    tx.erase(keys::garbage_due(server, queued->due_ms, chunk));
  } else {
    ++tx.counters().garbage;
  }
  put_garbage(tx, server, chunk, garbage);
}

void remove_garbage(Transaction& tx, ServerId server, ChunkId chunk) {
  std::optional<GarbageRecord> queued = tx.garbage(server, chunk);
  if (!queued) return;
  tx.erase(keys::garbage(server, chunk));
  tx.erase(keys::garbage_due(server, queued->due_ms, chunk));
  --tx.counters().garbage;
}

}  // namespace cairn
