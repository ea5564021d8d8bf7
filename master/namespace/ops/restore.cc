// A state that was made of an export, while chunkservers may be ahead of it: nothing is given out twice, nothing that
// only servers know is thrown away, and of each chunk the newest version that servers hold is the right one.
#include <algorithm>
#include <string>
#include <utility>

#include "common/base/units.h"
#include "master/namespace/chunk_table.h"
#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {
namespace {

constexpr std::string_view kLostAndFound = "lost+found";

// The cluster's record while servers are still being asked.
Result<ClusterRecord> unsettled(const Transaction& tx) {
  std::optional<ClusterRecord> cluster = tx.cluster();
  if (!cluster || !cluster->restore || cluster->restore->settled)
    return Error(ErrorCode::kConflict, "no restore is being settled");
  return std::move(*cluster);
}

ReplicaRecord replica_of(const AdoptReplicas& adopt, const AdoptReplicas::Item& item, const ServerRecord& server) {
  ReplicaRecord replica = make_replica({adopt.server, ReplicaState::kCurrent, adopt.incarnation}, server);
  if (item.verified == 0) replica.boots = 0;
  return replica;
}

// The raise that made this version is not known here, nor who finished it: recovery finds out.
void adopt_newer(ChunkRecord& chunk, const AdoptReplicas::Item& item, ReplicaRecord replica, SessionId session) {
  chunk.version = item.version;
  chunk.highest_version = std::max(chunk.highest_version, item.version);
  chunk.pending.reset();
  chunk.state = ChunkState::kOpen;
  chunk.session = session;
  chunk.length = item.length;
  chunk.replicas = {replica};
}

// Of a chunk that the record says is sealed only what the server has sealed itself is surely equal to the others: it
// may also be a replica that a recovery left out.
void adopt_equal(ChunkRecord& chunk, const AdoptReplicas::Item& item, ReplicaRecord replica) {
  auto named = std::ranges::find(chunk.replicas, replica.server, &ReplicaRecord::server);
  const bool whole = chunk.state == ChunkState::kOpen ||
                     (item.state == ChunkState::kSealed && (chunk.length == 0 || chunk.length == item.length));
  if (!whole) return;
  if (named == chunk.replicas.end()) {
    if (chunk.replicas.size() < kMaxGoal) chunk.replicas.push_back(replica);
  } else if (named->state != ReplicaState::kCurrent && named->state != ReplicaState::kBad) {
    *named = replica;
  }
}

// The root's entry of that name, made if it is not there.
Result<InodeRecord> lost_and_found(Transaction& tx) {
  Result<InodeRecord> root = find_directory(tx, kRootInode);
  if (!root) return root;
  if (std::optional<DentryRecord> entry = find_entry(tx, *root, kLostAndFound))
    return find_directory(tx, entry->inode);
  const FileTime now = tx.context().wall_ns;
  InodeRecord made;
  Attributes& a = made.attributes;
  // From the end of the margin, which nobody has been given: next_inode still tells what the export knew.
  a.inode = InodeId{tx.counters().next_inode - 1};
  if (tx.inode(a.inode)) return Error(ErrorCode::kExists, "inode " + to_string(a.inode));
  a.type = FileType::kDirectory;
  a.mode = 0700;
  a.nlink = 2;
  a.atime = a.mtime = a.ctime = a.btime = now;
  a.change = a.data_change = 1;
  a.goal = root->attributes.goal;
  a.min_copies = root->attributes.min_copies;
  made.parent = kRootInode;
  ++root->attributes.nlink;
  add_entry(tx, *root, kLostAndFound, a.inode, FileType::kDirectory, now);
  tx.put_inode(*root);
  tx.put_inode(made);
  ++tx.counters().inodes;
  return made;
}

Result<InodeRecord> make_found_file(Transaction& tx, InodeId id) {
  // Below what had been given out when the export was made: it was removed before that.
  const uint64_t known_below = tx.counters().next_inode - std::min(tx.counters().next_inode, kRestoreMargin);
  if (id.value < known_below) return Error(ErrorCode::kStale, "inode " + to_string(id) + " had been removed");
  if (id.value >= tx.counters().next_inode) return Error(ErrorCode::kInvalid, "inode " + to_string(id));
  Result<InodeRecord> folder = lost_and_found(tx);
  if (!folder) return folder;
  const FileTime now = tx.context().wall_ns;
  InodeRecord made;
  Attributes& a = made.attributes;
  a.inode = id;
  a.type = FileType::kRegular;
  a.mode = 0600;
  a.nlink = 1;
  a.atime = a.mtime = a.ctime = a.btime = now;
  a.change = a.data_change = 1;
  a.goal = folder->attributes.goal;
  a.min_copies = folder->attributes.min_copies;
  add_entry(tx, *folder, "inode-" + to_string(id), id, FileType::kRegular, now);
  tx.put_inode(*folder);
  ++tx.counters().inodes;
  return made;
}

// What is at that place of the file leaves it, unless it is newer than `found`.
Result<void> clear_place(Transaction& tx, InodeRecord& inode, uint32_t index, ChunkId found) {
  const InodeId id = inode.attributes.inode;
  std::optional<ChunkRef> ref = tx.ref(id, index);
  if (!ref) return {};
  if (alive(inode, index, *ref)) {
    // A place gets another chunk only after a truncate has taken the one before away: the higher id is the later one.
    if (ref->chunk > found) return Error(ErrorCode::kStale, "a newer chunk is there");
    --inode.chunk_count;
    inode.attributes.allocated_bytes -= ref->allocated_bytes;
    tx.counters().allocated_bytes -= ref->allocated_bytes;
  }
  tx.erase(keys::ref(id, index));
  std::optional<ChunkRecord> chunk = tx.chunk(ref->chunk);
  if (!chunk) return {};
  if (chunk->refs == 1) {
    forget_chunk(tx, ref->chunk, *chunk);
  } else {
    unreference_chunk(tx, ref->chunk);
  }
  return {};
}

}  // namespace

Reply apply_command(Transaction& tx, const BeginRestore& begin) {
  std::optional<ClusterRecord> cluster = tx.cluster();
  if (!cluster) return ErrorCode::kUnavailable;
  for (const auto& [id, session] : tx.sessions_before()) {
    if (!session.ended) end_session(tx, id, session);
  }
  CounterRecord& counters = tx.counters();
  counters.next_inode += kRestoreMargin;
  counters.next_chunk += kRestoreMargin;
  counters.next_session += kRestoreMargin;
  // It has ended, and is not cleaned up before AcceptRestore: it owns chunks that are to be recovered.
  const SessionId owner{counters.next_session++};
  tx.put_session(owner, SessionRecord{.host = {},
                                      .mountpoint = {},
                                      .program = "restore",
                                      .opened_ms = counters.log_time_ms,
                                      .renewed_ms = counters.log_time_ms,
                                      .ended = true});
  cluster->keys.clear();
  cluster->version_floor += kRestoreMargin;
  cluster->restore = RestoreRecord{
      .source = begin.source, .taken_ns = static_cast<int64_t>(begin.taken_ns), .session = owner, .settled = false};
  tx.put(keys::cluster(), encode(*cluster));
  return ReplyBody{EmptyReply{}};
}

Reply apply_command(Transaction& tx, const AdoptReplicas& adopt) {
  Result<ClusterRecord> cluster = unsettled(tx);
  if (!cluster) return cluster.error();
  std::optional<ServerRecord> server = tx.server(adopt.server);
  if (!server) return Error(ErrorCode::kNotFound, "server " + to_string(adopt.server));
  for (const AdoptReplicas::Item& item : adopt.chunks) {
    std::optional<ChunkRecord> before = tx.chunk(item.chunk);
    if (!before || before->refs == 0) continue;
    ChunkRecord after = *before;
    if (item.version > after.version && item.complete != 0) {
      adopt_newer(after, item, replica_of(adopt, item, *server), cluster->restore->session);
    } else if (item.version == after.version && item.complete != 0) {
      adopt_equal(after, item, replica_of(adopt, item, *server));
    } else {
      for (ReplicaRecord& replica : after.replicas) {
        const bool old = replica.server == adopt.server && replica.state == ReplicaState::kCurrent;
        if (old) replica.state = ReplicaState::kMissing;
      }
    }
    if (after == *before) continue;
    write_chunk(tx, item.chunk, &*before, after);
    if (after.replica_on(adopt.server) != nullptr) remove_garbage(tx, adopt.server, item.chunk);
  }
  return ReplyBody{EmptyReply{}};
}

Reply apply_command(Transaction& tx, const SettleRestore&) {
  Result<ClusterRecord> cluster = unsettled(tx);
  if (!cluster) return cluster.error();
  cluster->restore->settled = true;
  tx.put(keys::cluster(), encode(*cluster));
  return ReplyBody{EmptyReply{}};
}

Reply apply_command(Transaction& tx, const AcceptRestore&) {
  std::optional<ClusterRecord> cluster = tx.cluster();
  if (!cluster || !cluster->restore) return Error(ErrorCode::kNotFound, "nothing was restored, or it has been accepted");
  if (!cluster->restore->settled)
    return Error(ErrorCode::kBusy, "not every chunkserver has said yet what it holds");
  push_work(tx, {.kind = WorkRecord::Kind::kEndSession, .session = cluster->restore->session});
  cluster->restore.reset();
  tx.put(keys::cluster(), encode(*cluster));
  return ReplyBody{EmptyReply{}};
}

Reply apply_command(Transaction& tx, const AttachFound& found) {
  Result<ClusterRecord> cluster = unsettled(tx);
  if (!cluster) return cluster.error();
  const uint64_t end = found.index * kChunkSizeBytes + found.length;
  if (!found.chunk || found.chunk.value >= tx.counters().next_chunk || found.length > kChunkSizeBytes ||
      end > kMaxFileSizeBytes)
    return Error(ErrorCode::kInvalid, "chunk " + to_string(found.chunk));
  std::optional<ChunkRecord> known = tx.chunk(found.chunk);
  if (known && known->refs > 0) return Error(ErrorCode::kStale, "chunk " + to_string(found.chunk) + " is known");
  const uint64_t known_below = tx.counters().next_chunk - std::min(tx.counters().next_chunk, kRestoreMargin);
  if (!known && found.chunk.value < known_below)
    return Error(ErrorCode::kStale, "chunk " + to_string(found.chunk) + " had been removed");
  Result<InodeRecord> inode = find_inode(tx, found.inode);
  if (inode.failed_with(ErrorCode::kStale)) inode = make_found_file(tx, found.inode);
  if (!inode) return inode.error();
  Attributes& a = inode->attributes;
  if (a.type != FileType::kRegular) return Error(ErrorCode::kInvalid, "inode " + to_string(found.inode) + " is no file");
  if (Result<void> cleared = clear_place(tx, *inode, found.index, found.chunk); !cleared) return cleared.error();
  if (known) forget_chunk(tx, found.chunk, *known);  // it was only granted when the export was made
  // Below every version that there is: what servers say of it raises it.
  write_chunk(tx, found.chunk, nullptr,
              ChunkRecord{.state = ChunkState::kOpen,
                          .session = cluster->restore->session,
                          .refs = 1,
                          .goal = a.goal,
                          .min_copies = a.min_copies,
                          .length = found.length,
                          .allocated_bytes = found.allocated_bytes,
                          .owner = found.inode,
                          .index = found.index});
  tx.put(keys::ref(found.inode, found.index),
         encode(ChunkRef{.chunk = found.chunk, .allocated_bytes = found.allocated_bytes, .epoch = inode->epoch}));
  ++inode->chunk_count;
  a.allocated_bytes += found.allocated_bytes;
  tx.counters().allocated_bytes += found.allocated_bytes;
  a.size = std::max(a.size, end);
  touch_content(*inode, tx.context().wall_ns);
  tx.put_inode(*inode);
  return ReplyBody{EmptyReply{}};
}

}  // namespace cairn
