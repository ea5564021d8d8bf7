#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {

Result<MutationReply> apply_op(OpContext& op, const ReleaseOrphansOp& release) {
  for (InodeId inode : release.inodes)
    release_orphan(op.tx, op.session, inode);
  return MutationReply{};
}

Reply apply_command(Transaction& tx, const CloseInodes& close) {
  for (InodeId inode : close.inodes)
    release_orphan(tx, close.session, inode);
  return ReplyBody(EmptyReply{});
}

}  // namespace cairn
