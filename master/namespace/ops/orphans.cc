#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {

Result<MutationReply> apply_op(OpContext& op, const ReleaseOrphansOp& release) {
  for (InodeId inode : release.inodes)
    release_orphan(op.tx, op.session, inode);
  return MutationReply{};
}

}  // namespace cairn
