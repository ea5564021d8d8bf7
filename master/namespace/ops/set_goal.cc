#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {

Goal resolve_goal(const ClusterRecord& cluster, uint8_t goal, uint8_t min_copies) {
  Goal g{goal != 0 ? goal : cluster.default_goal, min_copies != 0 ? min_copies : cluster.default_min_copies};
  if (g.min_copies > g.goal) g.min_copies = g.goal;
  return g;
}

Result<MutationReply> apply_op(OpContext& op, const SetGoalOp& set) {
  if (set.goal > kMaxGoal || set.min_copies > kMaxGoal) return ErrorCode::kInvalid;
  Result<InodeRecord> inode = find_inode(op.tx, set.inode);
  if (!inode) return inode.error();
  Attributes& a = inode->attributes;
  const uint8_t goal_before = a.goal;
  if (set.goal != 0) a.goal = set.goal;
  if (set.min_copies != 0) a.min_copies = set.min_copies;
  if (a.min_copies > a.goal) a.min_copies = a.goal;
  touch(*inode, op.now);
  op.tx.put_inode(*inode);
  // The chunks hear of it by Tick; min_copies stays what it was when they were granted.
  if (a.goal != goal_before && inode->chunk_count > 0) {
    push_work(op.tx, {.kind = WorkRecord::Kind::kSetGoal, .inode = set.inode});
  }

  MutationReply reply;
  reply.attributes = a;
  return reply;
}

}  // namespace cairn
