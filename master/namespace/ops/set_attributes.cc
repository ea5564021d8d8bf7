#include "common/base/units.h"
#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {
namespace {

constexpr uint32_t kSetUid = 04000;
constexpr uint32_t kSetGid = 02000;
constexpr uint32_t kGroupExecute = 00010;

Result<void> check_size(const Attributes& a, uint64_t size) {
  if (a.type == FileType::kDirectory) return ErrorCode::kIsDirectory;
  if (a.type != FileType::kRegular) return ErrorCode::kInvalid;
  if (size > kMaxFileSizeBytes) return ErrorCode::kFileTooBig;
  return {};
}

bool asks_for_nothing(const SetAttributesOp& set) {
  return !set.mode && !set.uid && !set.gid && !set.size && !set.atime && !set.mtime && !set.atime_now &&
         !set.mtime_now && !set.clear_set_id;
}

}  // namespace

void clear_set_id(Attributes& a) {
  if (a.type == FileType::kDirectory) return;
  a.mode &= ~kSetUid;
  if (a.mode & kGroupExecute) a.mode &= ~kSetGid;
}

Result<MutationReply> apply_op(OpContext& op, const SetAttributesOp& set) {
  Result<InodeRecord> inode = find_inode(op.tx, set.inode);
  if (!inode) return inode.error();
  Attributes& a = inode->attributes;
  MutationReply reply;
  if (!asks_for_nothing(set)) {
    if (set.size) {
      if (Result<void> allowed = check_size(a, *set.size); !allowed) return allowed.error();
    }
    touch(*inode, op.now);
    // A change of owner takes the set-id bits away, whoever asks for it; a mode that comes along says what it wants.
    if (set.clear_set_id || set.uid || set.gid) clear_set_id(a);
    if (set.mode) a.mode = *set.mode & 07777;
    if (set.uid) a.uid = *set.uid;
    if (set.gid) a.gid = *set.gid;
    if (set.size) {
      resize(op.tx, *inode, *set.size);
      a.mtime = a.ctime;
    }
    if (set.atime_now) a.atime = a.ctime;
    if (set.mtime_now) a.mtime = a.ctime;
    if (set.atime) a.atime = *set.atime;
    if (set.mtime) a.mtime = *set.mtime;
    op.tx.put_inode(*inode);
  }
  reply.attributes = a;
  return reply;
}

}  // namespace cairn
