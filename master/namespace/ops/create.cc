// create, mkdir, mknod, symlink.
#include "common/base/units.h"
#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {
namespace {

constexpr uint32_t kPermissionBits = 07777;
constexpr uint32_t kSetGid = 02000;

Result<void> check_type(const CreateOp& create) {
  switch (create.type) {
    case FileType::kSymlink:
      if (create.symlink_target.empty()) return ErrorCode::kNotFound;
      if (create.symlink_target.size() > kMaxSymlinkBytes) return ErrorCode::kNameTooLong;
      return {};
    case FileType::kRegular:
    case FileType::kDirectory:
    case FileType::kFifo:
    case FileType::kSocket:
    case FileType::kCharDevice:
    case FileType::kBlockDevice:
      return {};
  }
  return ErrorCode::kInvalid;
}

InodeRecord make_inode(OpContext& op, const CreateOp& create, const InodeRecord& parent) {
  InodeRecord inode;
  Attributes& a = inode.attributes;
  a.inode = InodeId{op.tx.counters().next_inode++};
  a.type = create.type;
  a.mode = create.mode & kPermissionBits;
  a.uid = create.uid;
  a.gid = create.gid;
  a.nlink = 1;
  a.atime = a.mtime = a.ctime = a.btime = op.now;
  a.change = a.data_change = 1;
  a.goal = parent.attributes.goal;
  a.min_copies = parent.attributes.min_copies;
  if (parent.attributes.mode & kSetGid) {
    a.gid = parent.attributes.gid;
    if (create.type == FileType::kDirectory) a.mode |= kSetGid;
  }
  if (create.type == FileType::kDirectory) {
    a.nlink = 2;
    inode.parent = parent.attributes.inode;
  }
  if (create.type == FileType::kCharDevice || create.type == FileType::kBlockDevice) a.rdev = create.rdev;
  if (create.type == FileType::kSymlink) {
    a.mode = 0777;
    a.size = create.symlink_target.size();
    inode.symlink_target = create.symlink_target;
  }
  return inode;
}

}  // namespace

Result<MutationReply> apply_op(OpContext& op, const CreateOp& create) {
  if (Result<void> named = check_name(create.name); !named) return named.error();
  if (Result<void> typed = check_type(create); !typed) return typed.error();
  Result<InodeRecord> parent = find_directory(op.tx, create.parent);
  if (!parent) return parent.error();
  if (find_entry(op.tx, *parent, create.name)) return ErrorCode::kExists;
  if (create.type == FileType::kDirectory) {
    if (parent->attributes.nlink >= kMaxLinks) return ErrorCode::kTooManyLinks;
    ++parent->attributes.nlink;
  }

  InodeRecord inode = make_inode(op, create, *parent);
  add_entry(op.tx, *parent, create.name, inode.attributes.inode, create.type, op.now);
  op.tx.put_inode(inode);
  op.tx.put_inode(*parent);
  ++op.tx.counters().inodes;

  MutationReply reply;
  reply.attributes = inode.attributes;
  reply.parent = parent->attributes;
  return reply;
}

}  // namespace cairn
