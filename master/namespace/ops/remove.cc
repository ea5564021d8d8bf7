// unlink and rmdir.
#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {

Result<MutationReply> apply_op(OpContext& op, const UnlinkOp& unlink) {
  if (Result<void> named = check_name(unlink.name); !named) return named.error();
  Result<InodeRecord> parent = find_directory(op.tx, unlink.parent);
  if (!parent) return parent.error();
  std::optional<DentryRecord> entry = find_entry(op.tx, *parent, unlink.name);
  if (!entry) return ErrorCode::kNotFound;
  if (entry->type == FileType::kDirectory) return ErrorCode::kIsDirectory;
  Result<InodeRecord> inode = find_inode(op.tx, entry->inode);
  if (!inode) return inode.error();

  remove_entry(op.tx, *parent, unlink.name, *entry, op.now);
  op.tx.put_inode(*parent);
  drop_name(op.tx, *inode, unlink.holders, op.now);

  MutationReply reply;
  reply.attributes = inode->attributes;
  reply.parent = parent->attributes;
  return reply;
}

Result<MutationReply> apply_op(OpContext& op, const RmdirOp& rmdir) {
  if (Result<void> named = check_name(rmdir.name); !named) return named.error();
  Result<InodeRecord> parent = find_directory(op.tx, rmdir.parent);
  if (!parent) return parent.error();
  std::optional<DentryRecord> entry = find_entry(op.tx, *parent, rmdir.name);
  if (!entry) return ErrorCode::kNotFound;
  if (entry->type != FileType::kDirectory) return ErrorCode::kNotDirectory;
  Result<InodeRecord> directory = find_directory(op.tx, entry->inode);
  if (!directory) return directory.error();
  if (directory->attributes.size > 0) return ErrorCode::kNotEmpty;

  --parent->attributes.nlink;
  remove_entry(op.tx, *parent, rmdir.name, *entry, op.now);
  op.tx.put_inode(*parent);
  directory->attributes.nlink = 0;
  touch(*directory, op.now);
  remove_inode(op.tx, *directory);

  MutationReply reply;
  reply.attributes = directory->attributes;
  reply.parent = parent->attributes;
  return reply;
}

}  // namespace cairn
