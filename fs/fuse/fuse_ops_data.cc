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
fuse_file_info file_info(uint64_t handle, const OpenFlagsFs& flags, bool direct = false, bool locked = false) {
  fuse_file_info file{};
  file.fh = handle;
  file.keep_cache = 1;
  file.direct_io = direct ? 1 : 0;
  // Nothing to flush, and no lock that goes with the descriptor (what is locked through this handle goes with its
  // RELEASE): one request less for each close.
  file.noflush = flags.write || locked ? 0 : 1;
  return file;
}

void give_data(Reply& reply, const Result<Payload>& data) {
  if (data) {
    reply.data(*data);
  } else {
    reply.error(data.error());
  }
}

}  // namespace

Task<void> FuseOps::create(Reply reply, InodeId parent, std::string name, uint32_t mode, int flags, Caller caller) {
  OwnChange change(state_.traffic, parent);
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
  inodes_.looked_up(entry->attributes);
  inodes_.size_told(inode, entry->attributes.size);
  EntryTimes times = times_of(parent, inode, entry->name_valid_for, entry->valid_for);
  inodes_.no_xattrs(inode, world_.clock().now() + times.attributes);
  bool direct = opens_direct(inode, flags);
  if (direct) direct_.insert(*handle);
  bool wanted = reply.created(entry->attributes, times, file_info(*handle, how, direct));
  if (wanted) co_return;
  direct_.erase(*handle);
  forget_inode(inode, 1);
  co_await file_system_.release(*handle);
}

// What several mounts work on is not worth pages: each change elsewhere would drop them. Where a direct handle cannot
// be mapped (before 6.6) only who cannot map anyway goes without. But what is appended never goes through pages: the
// kernel would have it where it believes the end to be, which others may have moved, and would hold the page in part
// while the write waits for them.
bool FuseOps::opens_direct(InodeId inode, int flags) const {
  bool could_map = channel_.direct_handles_map() || (flags & O_ACCMODE) == O_WRONLY;
  return (flags & O_APPEND) != 0 || (could_map && state_.times.is_contended(inode));
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
  if (how.truncate) inodes_.size_told(inode, 0);
  if (!opened->keep_pages) co_await notifier_.drop_pages(inode);
  bool direct = opens_direct(inode, flags);
  if (direct) direct_.insert(opened->handle);
  bool wanted = reply.opened(file_info(opened->handle, how, direct, file_system_.has_locks(inode)));
  if (wanted) co_return;
  direct_.erase(opened->handle);
  co_await file_system_.release(opened->handle);
}

Task<void> FuseOps::read(Reply reply, InodeId inode, uint64_t handle, uint64_t offset, uint32_t size, bool direct) {
  if (direct) {
    Result<Payload> data = co_await file_system_.read(handle, offset, size);
    give_data(reply, data);
    co_return;
  }
  ByteRange range{offset, offset + size};
  inodes_.pages_given(inode);
  co_await notifier_.read_may_begin(inode, range);
  uint64_t read = state_.traffic.read_began(inode, range);
  Result<Payload> data = co_await file_system_.read(handle, offset, size);
  while (state_.traffic.read_is_old(inode, read))
    data = co_await file_system_.read(handle, offset, size);
  if (data && payload_size(*data) < size) inodes_.size_unknown(inode);
  give_data(reply, data);
  state_.traffic.read_answered(inode, read);
}

Task<void> FuseOps::write(Reply reply, InodeId inode, uint64_t handle, uint64_t offset, Buffer data, WriteHow how) {
  if (!how.direct) inodes_.pages_given(inode);
  ByteRange range{offset, offset + data.size()};
  uint64_t write = state_.traffic.write_began(inode, range, world_.clock().now(), !how.direct && !how.mapped);
  if (how.kill_set_id) {
    Result<void> cleared = co_await clear_set_id(inode);
    if (!cleared) {
      reply.error(cleared.error());
      state_.traffic.write_answered(inode, write);
      co_await notifier_.drop_pages(inode);
      co_return;
    }
  }
  uint64_t at = offset;
  Result<void> written;
  if (how.append) {
    Result<uint64_t> appended = co_await file_system_.append(handle, std::move(data));
    if (appended) at = *appended;
    if (!appended) written = appended.error();
  } else if (how.mapped) {
    written = co_await file_system_.write_pages(handle, offset, std::move(data));
  } else {
    written = co_await file_system_.write(handle, offset, std::move(data));
  }
  inodes_.changed(inode, world_.clock().now());
  co_await drop_pages_behind(inode, write, {at, at + (range.end - range.begin)}, how.direct);
  if (written) inodes_.size_written(inode, range.end);
  bool known = written ? reply.written(range.end - range.begin) : reply.error(written.error());
  state_.traffic.write_answered(inode, write);
  // The kernel has cached what was not written, or where it believed the end to be; or let go of what was, because the
  // caller is being killed. After the answer, because until then it holds the page that was written in part.
  bool elsewhere = at != offset && !how.direct;
  if (!written || !known || elsewhere) co_await notifier_.drop_pages(inode);
}

// Who reads after the answer to a WRITE must not find pages from before it.
Task<void> FuseOps::drop_pages_behind(InodeId inode, uint64_t write, ByteRange range, bool direct) {
  if (direct) co_await notifier_.drop_range(inode, range);  // kernels before 6.6 leave the pages as they are
  for (;;) {
    std::vector<ByteRange> read = state_.traffic.read_during(inode, write);
    if (read.empty()) co_return;
    for (const ByteRange& pages : read)
      co_await notifier_.drop_range(inode, pages);
  }
}

Task<void> FuseOps::change_range(Reply reply, InodeId inode, uint64_t handle, int mode, uint64_t offset,
                                 uint64_t length) {
  constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
  bool keep_size = (mode & FALLOC_FL_KEEP_SIZE) != 0;
  bool zero = mode == kPunch || (mode & ~FALLOC_FL_KEEP_SIZE) == FALLOC_FL_ZERO_RANGE;
  if (!zero && (mode & ~FALLOC_FL_KEEP_SIZE) != 0) {
    reply.error(EOPNOTSUPP);
    co_return;
  }
  auto change = zero ? FileSystem::RangeChange::kZero : FileSystem::RangeChange::kAllocate;
  // As a WRITE of whole pages: what is read beside it may be older. The kernel drops the pages itself, after the
  // answer.
  ByteRange range{offset, offset + length};
  uint64_t write = state_.traffic.write_began(inode, range, world_.clock().now(), false);
  Result<void> done = co_await file_system_.change_range(handle, change, offset, length, keep_size);
  inodes_.changed(inode, world_.clock().now());
  if (zero) co_await drop_pages_behind(inode, write, range, false);
  if (done && !keep_size) inodes_.size_written(inode, range.end);
  bool known = reply.result(done);
  state_.traffic.write_answered(inode, write);
  if (done && known) co_return;
  // A part of it may be done, and the kernel keeps the pages and the size from before.
  co_await notifier_.drop_pages(inode);
  co_await notifier_.forget_attributes(inode);
}

Task<void> FuseOps::seek(Reply reply, uint64_t handle, uint64_t offset, bool data) {
  Result<uint64_t> found = co_await file_system_.seek(handle, offset, data);
  if (found) {
    reply.offset(*found);
  } else if (found.failed_with(ErrorCode::kNotSupported)) {
    reply.error(ENOSYS);  // the kernel takes the whole file for data then
  } else {
    reply.error(found.error());
  }
}

Task<void> FuseOps::flush(Reply reply, uint64_t handle, uint64_t lock_owner) {
  Result<void> flushed = co_await file_system_.flush(handle);
  co_await file_system_.release_locks(handle, lock_owner);
  reply.result(flushed);
}

Task<void> FuseOps::fsync(Reply reply, uint64_t handle, bool data_only) {
  Result<void> synced = co_await file_system_.fsync(handle, data_only);
  reply.result(synced);
}

Task<void> FuseOps::release(Reply reply, uint64_t handle) {
  direct_.erase(handle);
  co_await file_system_.release(handle);
  reply.error(0);
}

}  // namespace cairn
