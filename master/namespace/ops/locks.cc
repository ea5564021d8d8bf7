// Locks of files. Those of a session that has ended are nobody's: whoever looks at an inode's locks drops them.
#include <algorithm>
#include <utility>

#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {
namespace {

InodeLocks living_locks(const Transaction& tx, InodeId inode) {
  InodeLocks locks = tx.locks(inode);
  std::vector<SessionId> ended;
  for (const FileLock& lock : locks.all()) {
    std::optional<SessionRecord> session = tx.session(lock.session);
    if (!session || session->ended) ended.push_back(lock.session);
  }
  for (SessionId session : ended)
    locks.release_session(session);
  return locks;
}

FileLock owned_by(SessionId session, FileLock lock) {
  lock.session = session;
  return lock;
}

// A flock that changes its mode is given up first (flock(2)): two who both want to make theirs exclusive must not wait
// for each other.
void give_up_before(const FileLock& wanted, InodeLocks& locks) {
  if (wanted.kind != LockKind::kFlock) return;
  FileLock none = wanted;
  none.mode = LockMode::kUnlock;
  const std::vector<FileLock> had = locks.within(wanted);
  if (!had.empty() && had.front().mode != wanted.mode) (void)locks.set(none);
}

}  // namespace

Result<MutationReply> apply_op(OpContext& op, const SetLockOp& set) {
  Result<InodeRecord> inode = find_inode(op.tx, set.inode);
  if (!inode) return inode.error();
  const FileLock wanted = owned_by(op.session, set.lock);
  if (Result<void> right = check_lock(wanted); !right) return right.error();
  InodeLocks locks = living_locks(op.tx, set.inode);
  give_up_before(wanted, locks);
  MutationReply reply;
  reply.conflict = locks.conflict(wanted);
  if (!reply.conflict) {
    if (Result<void> done = locks.set(wanted); !done) return done.error();
  }
  op.tx.put_locks(set.inode, locks);
  return reply;
}

Result<MutationReply> apply_op(OpContext& op, const ReplaceLocksOp& replace) {
  Result<InodeRecord> inode = find_inode(op.tx, replace.inode);
  if (!inode) return inode.error();
  InodeLocks locks = living_locks(op.tx, replace.inode);
  locks.release_session(op.session);
  for (const FileLock& one : replace.locks) {
    const FileLock lock = owned_by(op.session, one);
    if (lock.mode == LockMode::kUnlock) return Error(ErrorCode::kInvalid, "a lock that is none");
    if (Result<void> right = check_lock(lock); !right) return right.error();
    if (locks.conflict(lock)) return Error(ErrorCode::kConflict, "another session has a lock in the way");
    if (Result<void> done = locks.set(lock); !done) return done.error();
  }
  op.tx.put_locks(replace.inode, locks);
  return MutationReply{};
}

Result<MutationReply> apply_op(OpContext& op, const ReleaseLocksOp& release) {
  InodeLocks locks = living_locks(op.tx, release.inode);
  for (uint64_t owner : release.owners)
    locks.release({op.session, owner});
  op.tx.put_locks(release.inode, locks);
  return MutationReply{};
}

Reply apply_command(Transaction& tx, const BreakLocks& locks) {
  BrokenLocks broken{.locks = tx.locks(locks.inode).all()};
  tx.put_locks(locks.inode, {});
  return ReplyBody{std::move(broken)};
}

}  // namespace cairn
