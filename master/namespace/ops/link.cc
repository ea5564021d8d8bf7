#include "common/base/units.h"
#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {

Result<MutationReply> apply_op(OpContext& op, const LinkOp& link) {
  if (Result<void> named = check_name(link.new_name); !named) return named.error();
  Result<InodeRecord> inode = find_inode(op.tx, link.inode);
  if (!inode) return inode.error();
  Result<InodeRecord> parent = find_directory(op.tx, link.new_parent);
  if (!parent) return parent.error();
  if (find_entry(op.tx, *parent, link.new_name)) return ErrorCode::kExists;
  if (inode->attributes.type == FileType::kDirectory) return ErrorCode::kPermission;
  if (inode->attributes.nlink == 0) return ErrorCode::kNotFound;  // unlinked, kept because somebody has it open
  if (inode->attributes.nlink >= kMaxLinks) return ErrorCode::kTooManyLinks;

  ++inode->attributes.nlink;
  touch(*inode, op.now);
  add_entry(op.tx, *parent, link.new_name, link.inode, inode->attributes.type, op.now);
  op.tx.put_inode(*inode);
  op.tx.put_inode(*parent);

  MutationReply reply;
  reply.attributes = inode->attributes;
  reply.parent = parent->attributes;
  reply.new_parent = parent->attributes;
  return reply;
}

}  // namespace cairn
