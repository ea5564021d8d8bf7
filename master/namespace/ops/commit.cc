// What a writer has made durable becomes part of the file.
#include <algorithm>

#include "common/base/units.h"
#include "master/namespace/chunk_table.h"
#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {
namespace {

// The chunk is this session's, at the version that it wrote. A raise that gives it to somebody else has begun: what it
// wrote after that may be on no survivor, so it is cut off from here on.
Result<void> check_ownership(const ChunkRecord& chunk, SessionId session, uint64_t version) {
  if (chunk.session != session) return ErrorCode::kStale;
  if (chunk.version > version) return ErrorCode::kOldVersion;
  if (chunk.version < version) return ErrorCode::kNewVersion;
  if (chunk.pending && chunk.pending->session != session) return ErrorCode::kOldVersion;
  return {};
}

// The ref at that index if it is alive. What a large truncate left there is removed first.
std::optional<ChunkRef> living_ref(Transaction& tx, InodeRecord& inode, uint32_t index) {
  std::optional<ChunkRef> ref = tx.ref(inode.attributes.inode, index);
  if (!ref || alive(inode, index, *ref)) return ref;
  drop_ref(tx, inode.attributes.inode, &inode, index, *ref);
  return std::nullopt;
}

// True if the content is another one now: what is only sealed is what it was, for whoever has read it.
Result<bool> commit_chunk(OpContext& op, InodeRecord& inode, const CommitOp::Chunk& c) {
  Transaction& tx = op.tx;
  std::optional<ChunkRecord> before = tx.chunk(c.chunk);
  if (!before) return ErrorCode::kStale;
  if (Result<void> owned = check_ownership(*before, op.session, c.version); !owned) return owned.error();
  if (c.allocated_bytes > kChunkSizeBytes || c.length > kChunkSizeBytes) return ErrorCode::kInvalid;

  const InodeId id = inode.attributes.inode;
  ChunkRecord chunk = *before;
  std::optional<ChunkRef> ref = living_ref(tx, inode, c.index);
  bool moved = !c.seal || !ref || c.trimmed;
  if (ref) {
    if (ref->chunk != c.chunk) return Error(ErrorCode::kConflict, "another chunk is there");
    if (c.trimmed) ref->limit = UINT32_MAX;
  } else {
    // Cut off by a truncate, or somebody else's: a chunk is attached once.
    if (chunk.refs > 0) return ErrorCode::kStale;
    ref = ChunkRef{.chunk = c.chunk, .epoch = inode.epoch};
    ++inode.chunk_count;
    chunk.refs = 1;
    chunk.owner = id;
    chunk.index = c.index;
    chunk.goal = inode.attributes.goal;
  }
  const uint32_t allocated = visible_allocation(c.allocated_bytes, ref->limit);
  const uint64_t grown_by = uint64_t{allocated} - ref->allocated_bytes;  // modulo 2^64 where it shrinks
  inode.attributes.allocated_bytes += grown_by;
  tx.counters().allocated_bytes += grown_by;
  ref->allocated_bytes = allocated;
  chunk.allocated_bytes = c.allocated_bytes;
  if (c.length != 0) chunk.length = c.length;
  moved = moved || grown_by != 0 || chunk.length != before->length;
  // While somebody joins, or a raise is pending, not all replicas are equal: it stays open, and is sealed when that is
  // done.
  if (c.seal && !chunk.pending && chunk.current_copies() == chunk.replicas.size()) chunk.state = ChunkState::kSealed;
  tx.put(keys::ref(id, c.index), encode(*ref));
  if (chunk != *before) write_chunk(tx, c.chunk, &*before, chunk);
  return moved;
}

}  // namespace

Result<MutationReply> apply_op(OpContext& op, const CommitOp& commit) {
  Result<InodeRecord> inode = find_inode(op.tx, commit.inode);
  if (!inode) return inode.error();
  Attributes& a = inode->attributes;
  if (a.type != FileType::kRegular) return ErrorCode::kInvalid;
  if (commit.size_at_least && *commit.size_at_least > kMaxFileSizeBytes) return ErrorCode::kFileTooBig;

  if (commit.size_at_least) a.size = std::max(a.size, *commit.size_at_least);
  bool moved = commit.size_at_least || commit.mtime;
  for (const CommitOp::Chunk& chunk : commit.chunks) {
    // No chunk lies wholly beyond the end: a truncate relies on it.
    if (uint64_t{chunk.index} * kChunkSizeBytes >= a.size) return ErrorCode::kInvalid;
    Result<bool> done = commit_chunk(op, *inode, chunk);
    if (!done) return done.error();
    moved = moved || *done;
  }
  if (commit.mtime) a.mtime = *commit.mtime;
  if (commit.clear_set_id) clear_set_id(a);
  if (moved) ++a.data_change;
  if (moved || commit.clear_set_id) touch(*inode, op.now);
  op.tx.put_inode(*inode);

  MutationReply reply;
  reply.attributes = a;
  return reply;
}

}  // namespace cairn
