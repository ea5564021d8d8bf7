// Dumps of the metadata that the leader keeps as chunks, for when every master is lost. Each is the chunks of an inode
// without a name, so that repair, scrubbing and deleting treat them as any file's.
#include <vector>

#include "common/base/units.h"
#include "master/namespace/chunk_table.h"
#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {
namespace {

constexpr size_t kKept = 2;  // if one cannot be read, the other can
constexpr uint64_t kFirstVersion = 1;

// All that there are, oldest first.
std::vector<InodeId> dumps(const Transaction& tx) {
  std::vector<InodeId> found;
  tx.scan(keys::prefix(keys::Kind::kInode), keys::prefix(keys::Kind::kInode, kKeptDumpInodeBase),
          [&](std::string_view key, std::string_view) {
            found.push_back(InodeId{keys::first_id(key)});
            return true;
          });
  return found;
}

void remove_dump(Transaction& tx, InodeId id) {
  tx.erase(keys::inode(id));
  push_work(tx, {.kind = WorkRecord::Kind::kRemoveInode, .inode = id});
}

// One that is being written: its size is not known yet.
Result<InodeRecord> unfinished(const Transaction& tx, InodeId id) {
  if (!is_kept_dump(id)) return Error(ErrorCode::kInvalid, "inode " + to_string(id) + " is no kept dump");
  Result<InodeRecord> dump = find_inode(tx, id);
  if (dump && dump->attributes.size != 0) return Error(ErrorCode::kConflict, "the dump is finished");
  return dump;
}

}  // namespace

Reply apply_command(Transaction& tx, const BeginKeptDump&) {
  std::optional<ClusterRecord> cluster = tx.cluster();
  if (!cluster) return ErrorCode::kUnavailable;
  InodeRecord dump;
  Attributes& a = dump.attributes;
  a.inode = InodeId{kKeptDumpInodeBase + tx.context().index};
  if (tx.inode(a.inode)) return ErrorCode::kExists;  // twice in one entry
  a.type = FileType::kRegular;
  a.mode = 0600;
  a.atime = a.mtime = a.ctime = a.btime = tx.context().wall_ns;
  a.goal = cluster->default_goal;
  a.min_copies = cluster->default_min_copies;
  tx.put_inode(dump);
  MutationReply reply;
  reply.attributes = a;
  return ReplyBody{std::move(reply)};
}

Reply apply_command(Transaction& tx, const GrantKeptDumpChunk& grant) {
  Result<InodeRecord> dump = unfinished(tx, grant.inode);
  if (!dump) return dump.error();
  if (grant.servers.empty() || grant.servers.size() > kMaxGoal) return ErrorCode::kTooFewReplicas;
  const uint32_t index = dump->chunk_count;
  ChunkGrant granted{.chunk = ChunkId{tx.counters().next_chunk++}, .version = kFirstVersion, .min_copies = 1};
  ChunkRecord chunk{.state = ChunkState::kOpen,
                    .version = kFirstVersion,
                    .highest_version = kFirstVersion,
                    .refs = 1,
                    .goal = dump->attributes.goal,
                    .min_copies = 1,
                    .owner = grant.inode,
                    .index = index};
  for (ServerId server : grant.servers) {
    std::optional<ServerRecord> record = tx.server(server);
    if (!record) return Error(ErrorCode::kNotFound, "server " + to_string(server));
    if (chunk.replica_on(server) != nullptr) return Error(ErrorCode::kInvalid, "a server twice");
    chunk.replicas.push_back(make_replica({.server = server}, *record));
    granted.replicas.push_back({server, record->address});
  }
  write_chunk(tx, granted.chunk, nullptr, chunk);
  tx.put(keys::ref(grant.inode, index), encode(ChunkRef{.chunk = granted.chunk}));
  ++dump->chunk_count;
  tx.put_inode(*dump);
  MutationReply reply;
  reply.grants.push_back(std::move(granted));
  return ReplyBody{std::move(reply)};
}

Reply apply_command(Transaction& tx, const FinishKeptDump& finish) {
  Result<InodeRecord> dump = unfinished(tx, finish.inode);
  if (!dump) return dump.error();
  const uint64_t chunks = (finish.size + kChunkSizeBytes - 1) / kChunkSizeBytes;
  if (finish.size == 0 || chunks != dump->chunk_count) return Error(ErrorCode::kInvalid, "the size of a dump");
  for (uint32_t index = 0; index < chunks; ++index) {
    std::optional<ChunkRef> ref = tx.ref(finish.inode, index);
    std::optional<ChunkRecord> before;
    if (ref) before = tx.chunk(ref->chunk);
    if (!before || before->version != kFirstVersion) return Error(ErrorCode::kConflict, "a chunk of the dump has changed");
    ChunkRecord after = *before;
    after.state = ChunkState::kSealed;
    after.length = static_cast<uint32_t>(std::min(kChunkSizeBytes, finish.size - index * kChunkSizeBytes));
    write_chunk(tx, ref->chunk, &*before, after);
  }
  dump->attributes.size = finish.size;
  tx.put_inode(*dump);
  // Older ones, and what attempts that did not finish have left.
  size_t kept = 0;
  std::vector<InodeId> all = dumps(tx);
  for (auto id = all.rbegin(); id != all.rend(); ++id) {
    std::optional<InodeRecord> record = tx.inode(*id);
    const bool whole = record && record->attributes.size != 0;
    if (whole && kept < kKept) {
      ++kept;
    } else {
      remove_dump(tx, *id);
    }
  }
  return ReplyBody{EmptyReply{}};
}

}  // namespace cairn
