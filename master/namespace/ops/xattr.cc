// setxattr and removexattr, within the limits of Linux (xattr(7)).
#include "common/base/units.h"
#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {
namespace {

constexpr uint32_t kMaxXattrNameBytes = 255;        // XATTR_NAME_MAX
constexpr uint32_t kMaxXattrListBytes = 64 * 1024;  // XATTR_LIST_MAX: what listxattr could not answer is not taken
constexpr uint32_t kMaxXattrBytesPerInode = 1 << 20;

Result<void> check_xattr_name(std::string_view name) {
  if (name.empty() || name.size() > kMaxXattrNameBytes) return ErrorCode::kRange;
  if (name.find('\0') != name.npos) return ErrorCode::kInvalid;
  return {};
}

}  // namespace

Result<MutationReply> apply_op(OpContext& op, const SetXattrOp& set) {
  if (Result<void> named = check_xattr_name(set.name); !named) return named.error();
  if (set.value.size() > kMaxXattrValueBytes) return ErrorCode::kTooBig;
  if (set.create_only && set.replace_only) return ErrorCode::kInvalid;
  Result<InodeRecord> inode = find_inode(op.tx, set.inode);
  if (!inode) return inode.error();
  std::optional<std::string> before;
  if (inode->xattr_count > 0) before = op.tx.xattr(set.inode, set.name);
  if (before && set.create_only) return ErrorCode::kExists;
  if (!before && set.replace_only) return ErrorCode::kNoData;

  const auto name_bytes = static_cast<uint32_t>(set.name.size());
  if (before) {
    inode->xattr_bytes -= static_cast<uint32_t>(before->size());
  } else {
    ++inode->xattr_count;
    inode->xattr_bytes += name_bytes;
    inode->xattr_name_bytes += name_bytes + 1;
  }
  inode->xattr_bytes += static_cast<uint32_t>(set.value.size());
  if (inode->xattr_name_bytes > kMaxXattrListBytes || inode->xattr_bytes > kMaxXattrBytesPerInode) {
    return ErrorCode::kNoSpace;
  }
  touch(*inode, op.now);
  op.tx.put(keys::xattr(set.inode, set.name), set.value);
  op.tx.put_inode(*inode);

  MutationReply reply;
  reply.attributes = inode->attributes;
  return reply;
}

Result<MutationReply> apply_op(OpContext& op, const RemoveXattrOp& remove) {
  if (Result<void> named = check_xattr_name(remove.name); !named) return named.error();
  Result<InodeRecord> inode = find_inode(op.tx, remove.inode);
  if (!inode) return inode.error();
  std::optional<std::string> before;
  if (inode->xattr_count > 0) before = op.tx.xattr(remove.inode, remove.name);
  if (!before) return ErrorCode::kNoData;

  const auto name_bytes = static_cast<uint32_t>(remove.name.size());
  --inode->xattr_count;
  inode->xattr_bytes -= name_bytes + static_cast<uint32_t>(before->size());
  inode->xattr_name_bytes -= name_bytes + 1;
  touch(*inode, op.now);
  op.tx.erase(keys::xattr(remove.inode, remove.name));
  op.tx.put_inode(*inode);

  MutationReply reply;
  reply.attributes = inode->attributes;
  return reply;
}

}  // namespace cairn
