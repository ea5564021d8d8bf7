// FuseOps: attributes, extended attributes, space.
#include <cerrno>
#include <linux/capability.h>
#include <utility>

#include "fs/fuse/caller_state.h"
#include "fs/fuse/fuse_ops.h"

namespace cairn {

namespace {

// getxattr(2), listxattr(2): size 0 asks how much there is.
void give_bytes(Reply& reply, std::string_view value, size_t size) {
  if (size == 0) {
    reply.xattr_size(value.size());
  } else if (value.size() > size) {
    reply.error(ERANGE);
  } else {
    reply.bytes(value);
  }
}

}  // namespace

Task<void> FuseOps::get_attributes(Reply reply, InodeId inode) {
  Result<AttributesView> view = co_await file_system_.get_attributes(inode);
  if (!view) {
    reply.error(view.error());
    co_return;
  }
  give_attributes(reply, *view);
}

// The kernel goes by the owner that it knows, also where it was told that its attributes are old: for these changes it
// does not ask again.
Task<Result<void>> FuseOps::check_owner(InodeId inode, FileSystem::Changes changes, Caller caller) {
  bool owners = changes.mode || changes.uid || changes.gid || changes.atime || changes.mtime;
  bool kernel_knows = world_.clock().now() < inodes_.attributes_until(inode);
  if (!owners || kernel_knows || caller.uid == 0) co_return Result<void>();
  Result<AttributesView> view = co_await file_system_.get_attributes(inode);
  if (!view) co_return view.error();
  if (view->attributes.uid == caller.uid) co_return Result<void>();
  int needed = changes.uid || changes.gid ? CAP_CHOWN : CAP_FOWNER;
  if (has_capability(static_cast<int>(caller.pid), needed)) co_return Result<void>();
  co_return Error(ErrorCode::kPermission, "the file has another owner by now");
}

Task<void> FuseOps::set_attributes(Reply reply, InodeId inode, FileSystem::Changes changes, Caller caller) {
  Result<void> allowed = co_await check_owner(inode, changes, caller);
  if (!allowed) {
    reply.error(allowed.error());
    co_return;
  }
  Result<AttributesView> view = co_await file_system_.set_attributes(inode, changes);
  inodes_.changed(inode, world_.clock().now());
  if (!view) {
    reply.error(view.error());
    co_return;
  }
  // Before 6.15 the kernel believes them although it was told meanwhile that they are not true any more.
  if (!state_.times.has_epoch()) view->valid_for = {};
  give_attributes(reply, *view);
}

Task<void> FuseOps::get_xattr(Reply reply, InodeId inode, std::string name, size_t size) {
  Result<std::string> value = co_await file_system_.get_xattr(inode, std::move(name));
  if (value) {
    give_bytes(reply, *value, size);
  } else {
    reply.error(value.error());
  }
}

Task<void> FuseOps::list_xattr(Reply reply, InodeId inode, size_t size) {
  Result<std::vector<std::string>> names = co_await file_system_.list_xattr(inode);
  if (!names) {
    reply.error(names.error());
    co_return;
  }
  std::string joined;
  for (const std::string& name : *names)
    joined.append(name).push_back('\0');
  give_bytes(reply, joined, size);
}

Task<void> FuseOps::set_xattr(Reply reply, InodeId inode, std::string name, std::string value, bool create_only,
                              bool replace_only) {
  Result<void> set =
      co_await file_system_.set_xattr(inode, std::move(name), std::move(value), create_only, replace_only);
  inodes_.changed(inode, world_.clock().now());
  reply.result(set);
}

Task<void> FuseOps::remove_xattr(Reply reply, InodeId inode, std::string name) {
  Result<void> removed = co_await file_system_.remove_xattr(inode, std::move(name));
  inodes_.changed(inode, world_.clock().now());
  reply.result(removed);
}

Task<void> FuseOps::stat_fs(Reply reply, InodeId inode) {
  Result<StatFsReply> space = co_await file_system_.stat_fs(inode);
  if (space) {
    reply.stat_fs(*space);
  } else {
    reply.error(space.error());
  }
}

}  // namespace cairn
