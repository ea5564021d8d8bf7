// Machine::prefetch: the reads that applying a command will do, done before it is proposed.
#include "master/namespace/machine_impl.h"
#include "master/namespace/tree.h"

namespace cairn {
namespace {

// The entry and the inode it stands for.
void touch_name(const RecordReader& reader, InodeId parent, std::string_view name) {
  std::optional<InodeRecord> directory = reader.inode(parent);
  if (!directory || directory->attributes.type != FileType::kDirectory) return;
  std::optional<DentryRecord> entry = find_entry(reader, *directory, name);
  if (entry) reader.inode(entry->inode);
}

// What goes with the last name of a small file. A larger one's chunks are removed in steps, by ticks.
constexpr uint32_t kChunksMax = 4;

void touch_removal(const RecordReader& reader, InodeId parent, std::string_view name) {
  std::optional<InodeRecord> directory = reader.inode(parent);
  if (!directory || directory->attributes.type != FileType::kDirectory) return;
  std::optional<DentryRecord> entry = find_entry(reader, *directory, name);
  if (!entry) return;
  std::optional<InodeRecord> inode = reader.inode(entry->inode);
  if (!inode || inode->attributes.nlink > 1 || inode->chunk_count > kChunksMax) return;
  for (uint32_t index = 0; index < inode->chunk_count; ++index) {
    if (std::optional<ChunkRef> ref = reader.ref(entry->inode, index)) reader.chunk(ref->chunk);
  }
}

void touch_op(const RecordReader& reader, const CreateOp& op) {
  touch_name(reader, op.parent, op.name);
}
void touch_op(const RecordReader& reader, const LinkOp& op) {
  reader.inode(op.inode);
  touch_name(reader, op.new_parent, op.new_name);
}
void touch_op(const RecordReader& reader, const UnlinkOp& op) {
  touch_removal(reader, op.parent, op.name);
}
void touch_op(const RecordReader& reader, const RmdirOp& op) {
  touch_name(reader, op.parent, op.name);
}
void touch_op(const RecordReader& reader, const RenameOp& op) {
  touch_name(reader, op.parent, op.name);
  touch_removal(reader, op.new_parent, op.new_name);
  if (op.parent != op.new_parent) is_within(reader, op.new_parent, InodeId{});  // the way up to the root
}
void touch_op(const RecordReader& reader, const SetAttributesOp& op) {
  reader.inode(op.inode);
}
void touch_op(const RecordReader& reader, const SetXattrOp& op) {
  reader.inode(op.inode);
  reader.xattr(op.inode, op.name);
}
void touch_op(const RecordReader& reader, const RemoveXattrOp& op) {
  reader.inode(op.inode);
  reader.xattr(op.inode, op.name);
}
void touch_op(const RecordReader& reader, const CommitOp& op) {
  reader.inode(op.inode);
  for (const CommitOp::Chunk& chunk : op.chunks) {
    reader.chunk(chunk.chunk);
    reader.ref(op.inode, chunk.index);
  }
}
void touch_op(const RecordReader& reader, const SetGoalOp& op) {
  reader.inode(op.inode);
}
void touch_op(const RecordReader& reader, const ReleaseOrphansOp& op) {
  for (InodeId inode : op.inodes) {
    reader.orphan(inode);
    reader.inode(inode);
  }
}
void touch_op(const RecordReader&, const GrantChunksOp&) {}  // servers are in memory
void touch_op(const RecordReader& reader, const ReturnChunksOp& op) {
  for (ChunkId chunk : op.chunks)
    reader.chunk(chunk);
}

void touch_op(const RecordReader& reader, const SetLockOp& op) {
  reader.inode(op.inode);
}
void touch_op(const RecordReader& reader, const ReplaceLocksOp& op) {
  reader.inode(op.inode);
}
void touch_op(const RecordReader&, const ReleaseLocksOp&) {}  // locks are in memory

void touch_command(const RecordReader& reader, const SessionMutation& m) {
  std::visit([&](const auto& op) { touch_op(reader, op); }, m.op);
}
void touch_command(const RecordReader& reader, const BeginRaise& c) {
  reader.chunk(c.chunk);
}
void touch_command(const RecordReader& reader, const FinishRaise& c) {
  reader.chunk(c.chunk);
}
void touch_command(const RecordReader& reader, const SealChunk& c) {
  reader.chunk(c.chunk);
}
void touch_command(const RecordReader& reader, const SetReplicas& c) {
  reader.chunk(c.chunk);
}
void touch_command(const RecordReader& reader, const MarkReplica& c) {
  reader.chunk(c.chunk);
}
// The others are rare, or what they read is in memory anyway.
template <class C>
void touch_command(const RecordReader&, const C&) {}

}  // namespace

Result<void> Machine::prefetch(const Command& command, ReadMode mode) const {
  const StateReader reader = impl_->reader(mode);
  std::visit([&](const auto& c) { touch_command(reader, c); }, command);
  if (reader.failed()) return reader.failure();
  return {};
}

}  // namespace cairn
