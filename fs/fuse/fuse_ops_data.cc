// FuseOps: open files and their data.
#define FUSE_USE_VERSION 314

#include <cerrno>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <utility>

#include "common/base/log.h"
#include "fs/fuse/fuse_ops.h"

namespace cairn {

namespace {

// Without O_APPEND: each WRITE says it anew (fcntl may change it, and a dirty mapped page has its place).
OpenFlagsFs open_flags(int flags) {
  int access = flags & O_ACCMODE;
  return {.read = access != O_WRONLY, .write = access != O_RDONLY, .truncate = (flags & O_TRUNC) != 0};
}

// The kernel keeps its pages across opens: the file system has it forget those that are old before open() returns.
// Without keep_cache the kernel would drop all of them, and could block behind a READ (docs/consistency.md).
fuse_file_info file_info(uint64_t handle, const OpenFlagsFs& flags) {
  fuse_file_info file{};
  file.fh = handle;
  file.keep_cache = 1;
  file.noflush = flags.write ? 0 : 1;  // nothing to flush: one request less for each close
  return file;
}

}  // namespace

Task<void> FuseOps::create(Reply reply, InodeId parent, std::string name, uint32_t mode, int flags, Caller caller) {
  Result<Entry> entry = co_await file_system_.create(parent, std::move(name), mode, caller);
  if (!entry) {
    // Somebody else made it since the kernel looked. It looks again and opens that one, after checking permissions.
    bool again = entry.failed_with(ErrorCode::kExists) && (flags & O_EXCL) == 0;
    reply.error(again ? Error(ErrorCode::kStale) : entry.error());
    co_return;
  }
  OpenFlagsFs how = open_flags(flags);
  Result<FileSystem::HandleId> handle = file_system_.opened_by_create(entry->attributes.inode, how);
  if (!handle) {
    reply.error(handle.error());
    co_return;
  }
  InodeId inode = entry->attributes.inode;
  count_entry(*entry);
  inodes_.no_xattrs(inode, world_.clock().now() + entry->valid_for);
  bool wanted = reply.created(*entry, file_info(*handle, how));
  if (wanted) co_return;
  forget_inode(inode, 1);
  co_await file_system_.release(*handle);
}

Task<void> FuseOps::open(Reply reply, InodeId inode, int flags, bool kill_set_id) {
  OpenFlagsFs how = open_flags(flags);
  if (kill_set_id && how.truncate) {
    Result<void> cleared = co_await clear_set_id(inode);
    if (!cleared) {
      reply.error(cleared.error());
      co_return;
    }
  }
  Result<FileSystem::Opened> opened = co_await file_system_.open(inode, how);
  if (!opened) {
    reply.error(opened.error());
    co_return;
  }
  inodes_.seen(opened->attributes);
  if (how.truncate) inodes_.changed(inode, world_.clock().now());
  if (!opened->keep_pages) co_await notifier_.forget_pages(inode);
  bool wanted = reply.opened(file_info(opened->handle, how));
  if (!wanted) co_await file_system_.release(opened->handle);
}

Task<void> FuseOps::read(Reply reply, uint64_t handle, uint64_t offset, uint32_t size) {
  Result<Payload> data = co_await file_system_.read(handle, offset, size);
  if (data) {
    reply.data(*data);
  } else {
    reply.error(data.error());
  }
}

Task<void> FuseOps::write(Reply reply, InodeId inode, uint64_t handle, uint64_t offset, Buffer data, bool append,
                          bool kill_set_id) {
  if (kill_set_id) {
    Result<void> cleared = co_await clear_set_id(inode);
    if (!cleared) {
      reply.error(cleared.error());
      co_return;
    }
  }
  size_t size = data.size();
  if (!append) {
    Result<void> written = co_await file_system_.write(handle, offset, std::move(data));
    inodes_.changed(inode, world_.clock().now());
    bool known = written ? reply.written(size) : reply.error(written.error());
    // The kernel may have kept what was not written, or let go of what was.
    if (!written || !known) co_await notifier_.forget_pages(inode);
    co_return;
  }
  Result<uint64_t> at = co_await file_system_.append(handle, std::move(data));
  inodes_.changed(inode, world_.clock().now());
  if (!at) {
    reply.error(at.error());
    co_await notifier_.forget_pages(inode);
    co_return;
  }
  bool known = reply.written(size);
  // The kernel has cached the bytes where it believed the end to be. After the answer, because until then the kernel
  // holds a lock on the last page.
  if (*at != offset || !known) co_await notifier_.forget_pages(inode);
}

Task<void> FuseOps::flush(Reply reply, uint64_t handle) {
  Result<void> flushed = co_await file_system_.flush(handle);
  reply.result(flushed);
}

Task<void> FuseOps::fsync(Reply reply, uint64_t handle, bool data_only) {
  Result<void> synced = co_await file_system_.fsync(handle, data_only);
  reply.result(synced);
}

Task<void> FuseOps::release(Reply reply, uint64_t handle) {
  co_await file_system_.release(handle);
  reply.error(0);
}

}  // namespace cairn
