// FuseOps: what libfuse calls. Each copies its arguments, which live only as long as the call, and starts the
// operation.
#define FUSE_USE_VERSION 314

#include <cerrno>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "fs/fuse/fuse_ops.h"

namespace cairn {

namespace {

constexpr uint32_t kSetAttrKillSetId = 1 << 11;  // <linux/fuse.h>: FATTR_KILL_SUIDGID
constexpr int64_t kNsPerSecond = 1'000'000'000;

FuseOps& ops_of(fuse_req_t request) {
  return *static_cast<FuseContext*>(fuse_req_userdata(request))->ops;
}

Caller caller_of(fuse_req_t request) {
  const fuse_ctx* context = fuse_req_ctx(request);
  return {.uid = context->uid, .gid = context->gid, .pid = static_cast<uint32_t>(context->pid)};
}

FileTime file_time(const timespec& time) {
  return time.tv_sec * kNsPerSecond + time.tv_nsec;
}

FileSystem::Changes changes_of(const struct stat& attributes, unsigned to_set, bool kill_set_id) {
  FileSystem::Changes changes;
  if (to_set & FUSE_SET_ATTR_MODE) changes.mode = attributes.st_mode & 07777;
  if (to_set & FUSE_SET_ATTR_UID) changes.uid = attributes.st_uid;
  if (to_set & FUSE_SET_ATTR_GID) changes.gid = attributes.st_gid;
  if (to_set & FUSE_SET_ATTR_SIZE) changes.size = static_cast<uint64_t>(attributes.st_size);
  if (to_set & FUSE_SET_ATTR_ATIME_NOW) {
    changes.atime_now = true;
  } else if (to_set & FUSE_SET_ATTR_ATIME) {
    changes.atime = file_time(attributes.st_atim);
  }
  if (to_set & FUSE_SET_ATTR_MTIME_NOW) {
    changes.mtime_now = true;
  } else if (to_set & FUSE_SET_ATTR_MTIME) {
    changes.mtime = file_time(attributes.st_mtim);
  }
  changes.clear_set_id = kill_set_id;
  return changes;
}

// Access control lists are not kept yet, so nobody may believe that one holds.
bool refused_xattr(std::string_view name) {
  return name.starts_with("system.");
}

}  // namespace

namespace {

// None: what is no range, or no kind of lock.
std::optional<FileLock> posix_lock(const struct flock& asked, const fuse_file_info& file) {
  FileLock lock{.owner = file.lock_owner, .kind = LockKind::kPosix, .pid = static_cast<uint32_t>(asked.l_pid)};
  if (asked.l_start < 0 || asked.l_len < 0) return std::nullopt;
  lock.start = static_cast<uint64_t>(asked.l_start);
  if (asked.l_len > 0) lock.end = lock.start + static_cast<uint64_t>(asked.l_len) - 1;
  switch (asked.l_type) {
    case F_RDLCK:
      lock.mode = LockMode::kShared;
      return lock;
    case F_WRLCK:
      lock.mode = LockMode::kExclusive;
      return lock;
    case F_UNLCK:
      lock.mode = LockMode::kUnlock;
      return lock;
    default:
      return std::nullopt;
  }
}

}  // namespace

struct FuseOps::Callbacks {
  static void init(void* context, fuse_conn_info* connection) {
    static_cast<FuseContext*>(context)->ops->initialise(connection);
  }

  // ---------------------------------------------------------------- names

  static void lookup(fuse_req_t request, fuse_ino_t parent, const char* name) {
    FuseOps& ops = ops_of(request);
    Reply reply = ops.reply_to(request);
    std::string_view asked = name;  // "." and ".." come from NFS servers only
    if (asked == "..") {
      ops.start(ops.lookup_parent(std::move(reply), InodeId(parent)));
    } else {
      ops.start(ops.lookup(std::move(reply), InodeId(parent), std::string(asked)));
    }
  }
  static void forget(fuse_req_t request, fuse_ino_t inode, uint64_t count) {
    FuseOps& ops = ops_of(request);
    ops.reply_to(request).none();
    ops.forget_inode(InodeId(inode), count);
  }
  static void forget_multi(fuse_req_t request, size_t count, fuse_forget_data* forgets) {
    FuseOps& ops = ops_of(request);
    for (size_t i = 0; i < count; ++i)
      ops.forget_inode(InodeId(forgets[i].ino), forgets[i].nlookup);
    ops.reply_to(request).none();
  }
  static void mknod(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, dev_t rdev) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.make_node(ops.reply_to(request), InodeId(parent), name, mode, static_cast<uint32_t>(rdev),
                            caller_of(request)));
  }
  static void mkdir(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.make_directory(ops.reply_to(request), InodeId(parent), name, mode, caller_of(request)));
  }
  static void symlink(fuse_req_t request, const char* target, fuse_ino_t parent, const char* name) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.make_symlink(ops.reply_to(request), InodeId(parent), name, target, caller_of(request)));
  }
  static void link(fuse_req_t request, fuse_ino_t inode, fuse_ino_t new_parent, const char* new_name) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.link(ops.reply_to(request), InodeId(inode), InodeId(new_parent), new_name));
  }
  static void unlink(fuse_req_t request, fuse_ino_t parent, const char* name) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.unlink(ops.reply_to(request), InodeId(parent), name));
  }
  static void rmdir(fuse_req_t request, fuse_ino_t parent, const char* name) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.remove_directory(ops.reply_to(request), InodeId(parent), name));
  }
  static void rename(fuse_req_t request, fuse_ino_t parent, const char* name, fuse_ino_t new_parent,
                     const char* new_name, unsigned flags) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.rename(ops.reply_to(request), InodeId(parent), name, InodeId(new_parent), new_name, flags));
  }
  static void readlink(fuse_req_t request, fuse_ino_t inode) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.read_link(ops.reply_to(request), InodeId(inode)));
  }
  static void opendir(fuse_req_t request, fuse_ino_t directory, fuse_file_info* file) {
    FuseOps& ops = ops_of(request);
    Reply reply = ops.reply_to(request);
    file->fh = ops.directories_.open(InodeId(directory));
    if (!reply.opened(*file)) ops.directories_.release(file->fh);
  }
  static void readdir(fuse_req_t request, fuse_ino_t directory, size_t size, off_t offset, fuse_file_info* file) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.read_directory(ops.reply_to(request), InodeId(directory), file->fh, static_cast<uint64_t>(offset),
                                 size, false));
  }
  static void readdirplus(fuse_req_t request, fuse_ino_t directory, size_t size, off_t offset, fuse_file_info* file) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.read_directory(ops.reply_to(request), InodeId(directory), file->fh, static_cast<uint64_t>(offset),
                                 size, true));
  }
  static void releasedir(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
    FuseOps& ops = ops_of(request);
    ops.release_directory(ops.reply_to(request), file->fh);
  }
  static void fsyncdir(fuse_req_t request, fuse_ino_t directory, int, fuse_file_info*) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.fsync_directory(ops.reply_to(request), InodeId(directory)));
  }

  // ---------------------------------------------------------------- attributes

  static void getattr(fuse_req_t request, fuse_ino_t inode, fuse_file_info*) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.get_attributes(ops.reply_to(request), InodeId(inode)));
  }
  static void setattr(fuse_req_t request, fuse_ino_t inode, struct stat* attributes, int to_set, fuse_file_info*) {
    FuseOps& ops = ops_of(request);
    bool kill = (ops.channel_.argument<fuse_setattr_in>().valid & kSetAttrKillSetId) != 0;  // libfuse 3.14 drops it
    FileSystem::Changes changes = changes_of(*attributes, static_cast<unsigned>(to_set), kill);
    ops.start(ops.set_attributes(ops.reply_to(request), InodeId(inode), changes, caller_of(request)));
  }
  static void getxattr(fuse_req_t request, fuse_ino_t inode, const char* name, size_t size) {
    FuseOps& ops = ops_of(request);
    Reply reply = ops.reply_to(request);
    if (refused_xattr(name)) {
      reply.error(EOPNOTSUPP);
    } else if (ops.inodes_.has_no_xattrs(InodeId(inode), ops.world_.clock().now())) {
      reply.error(ENODATA);
    } else {
      ops.start(ops.get_xattr(std::move(reply), InodeId(inode), name, size));
    }
  }
  static void listxattr(fuse_req_t request, fuse_ino_t inode, size_t size) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.list_xattr(ops.reply_to(request), InodeId(inode), size));
  }
  static void setxattr(fuse_req_t request, fuse_ino_t inode, const char* name, const char* value, size_t size,
                       int flags) {
    FuseOps& ops = ops_of(request);
    Reply reply = ops.reply_to(request);
    if (refused_xattr(name)) {
      reply.error(EOPNOTSUPP);
      return;
    }
    ops.inodes_.may_have_xattrs(InodeId(inode));
    ops.start(ops.set_xattr(std::move(reply), InodeId(inode), name, std::string(value, size),
                            (flags & XATTR_CREATE) != 0, (flags & XATTR_REPLACE) != 0));
  }
  static void removexattr(fuse_req_t request, fuse_ino_t inode, const char* name) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.remove_xattr(ops.reply_to(request), InodeId(inode), name));
  }
  static void statfs(fuse_req_t request, fuse_ino_t inode) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.stat_fs(ops.reply_to(request), inode == 0 ? kRootInode : InodeId(inode)));
  }

  // ---------------------------------------------------------------- file data

  static void create(fuse_req_t request, fuse_ino_t parent, const char* name, mode_t mode, fuse_file_info* file) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.create(ops.reply_to(request), InodeId(parent), name, mode & 07777, file->flags, caller_of(request)));
  }
  static void open(fuse_req_t request, fuse_ino_t inode, fuse_file_info* file) {
    FuseOps& ops = ops_of(request);
    bool kill = (ops.channel_.argument<fuse_open_in>().open_flags & FUSE_OPEN_KILL_SUIDGID) != 0;
    ops.start(ops.open(ops.reply_to(request), InodeId(inode), file->flags, kill));
  }
  static void read(fuse_req_t request, fuse_ino_t inode, size_t size, off_t offset, fuse_file_info* file) {
    FuseOps& ops = ops_of(request);
    // Who fills a page, also for a mapping of a direct handle, names no owner.
    bool direct = (ops.channel_.argument<fuse_read_in>().read_flags & FUSE_READ_LOCKOWNER) != 0;
    ops.start(ops.read(ops.reply_to(request), InodeId(inode), file->fh, static_cast<uint64_t>(offset),
                       static_cast<uint32_t>(size), direct));
  }
  // The data is the channel's, not behind `data` (kernel_channel.h).
  static void write(fuse_req_t request, fuse_ino_t inode, const char*, size_t, off_t offset, fuse_file_info* file) {
    FuseOps& ops = ops_of(request);
    FuseOps::WriteHow how;
    how.kill_set_id = (ops.channel_.argument<fuse_write_in>().write_flags & FUSE_WRITE_KILL_SUIDGID) != 0;
    how.direct = (ops.direct_.contains(file->fh) || (file->flags & O_DIRECT) != 0) && !file->writepage;
    Buffer bytes = ops.channel_.take_written();
    Reply reply = ops.reply_to(request, bytes.memory_bytes());
    // A dirty mapped page has its place, whatever the flags of the handle that the kernel chose for it.
    how.mapped = file->writepage;
    how.append = (file->flags & O_APPEND) != 0 && !file->writepage;
    ops.start(
        ops.write(std::move(reply), InodeId(inode), file->fh, static_cast<uint64_t>(offset), std::move(bytes), how));
  }
  static void fallocate(fuse_req_t request, fuse_ino_t inode, int mode, off_t offset, off_t length,
                        fuse_file_info* file) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.change_range(ops.reply_to(request), InodeId(inode), file->fh, mode, static_cast<uint64_t>(offset),
                               static_cast<uint64_t>(length)));
  }
  static void lseek(fuse_req_t request, fuse_ino_t, off_t offset, int whence, fuse_file_info* file) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.seek(ops.reply_to(request), file->fh, static_cast<uint64_t>(offset), whence == SEEK_DATA));
  }
  static void flush(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.flush(ops.reply_to(request), file->fh, file->lock_owner));
  }
  static void fsync(fuse_req_t request, fuse_ino_t, int data_only, fuse_file_info* file) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.fsync(ops.reply_to(request), file->fh, data_only != 0));
  }
  static void release(fuse_req_t request, fuse_ino_t, fuse_file_info* file) {
    FuseOps& ops = ops_of(request);
    ops.start(ops.release(ops.reply_to(request), file->fh));
  }

  // ---------------------------------------------------------------- locks

  static void getlk(fuse_req_t request, fuse_ino_t, fuse_file_info* file, struct flock* asked) {
    FuseOps& ops = ops_of(request);
    Reply reply = ops.reply_to(request);
    std::optional<FileLock> lock = posix_lock(*asked, *file);
    if (!lock) {
      reply.error(EINVAL);
      return;
    }
    ops.start(ops.test_lock(std::move(reply), file->fh, *lock));
  }
  static void setlk(fuse_req_t request, fuse_ino_t, fuse_file_info* file, struct flock* asked, int sleep) {
    FuseOps& ops = ops_of(request);
    Reply reply = ops.reply_to(request);
    std::optional<FileLock> lock = posix_lock(*asked, *file);
    if (!lock) {
      reply.error(EINVAL);
      return;
    }
    ops.start(ops.set_lock(std::move(reply), file->fh, *lock, sleep != 0));
  }
  static void flock(fuse_req_t request, fuse_ino_t, fuse_file_info* file, int operation) {
    FuseOps& ops = ops_of(request);
    FileLock lock{.owner = file->lock_owner, .kind = LockKind::kFlock, .mode = LockMode::kUnlock};
    if ((operation & LOCK_SH) != 0) lock.mode = LockMode::kShared;
    if ((operation & LOCK_EX) != 0) lock.mode = LockMode::kExclusive;
    lock.pid = static_cast<uint32_t>(fuse_req_ctx(request)->pid);
    ops.start(ops.set_lock(ops.reply_to(request), file->fh, lock, (operation & LOCK_NB) == 0));
  }
};

// What is left out libfuse answers with ENOSYS, and the kernel asks no more: access (default_permissions), ioctl, poll,
// bmap, copy_file_range (the kernel copies).
const fuse_lowlevel_ops& FuseOps::callbacks() {
  static constexpr fuse_lowlevel_ops kCallbacks{
      .init = Callbacks::init,
      .lookup = Callbacks::lookup,
      .forget = Callbacks::forget,
      .getattr = Callbacks::getattr,
      .setattr = Callbacks::setattr,
      .readlink = Callbacks::readlink,
      .mknod = Callbacks::mknod,
      .mkdir = Callbacks::mkdir,
      .unlink = Callbacks::unlink,
      .rmdir = Callbacks::rmdir,
      .symlink = Callbacks::symlink,
      .rename = Callbacks::rename,
      .link = Callbacks::link,
      .open = Callbacks::open,
      .read = Callbacks::read,
      .write = Callbacks::write,
      .flush = Callbacks::flush,
      .release = Callbacks::release,
      .fsync = Callbacks::fsync,
      .opendir = Callbacks::opendir,
      .readdir = Callbacks::readdir,
      .releasedir = Callbacks::releasedir,
      .fsyncdir = Callbacks::fsyncdir,
      .statfs = Callbacks::statfs,
      .setxattr = Callbacks::setxattr,
      .getxattr = Callbacks::getxattr,
      .listxattr = Callbacks::listxattr,
      .removexattr = Callbacks::removexattr,
      .create = Callbacks::create,
      .getlk = Callbacks::getlk,
      .setlk = Callbacks::setlk,
      .forget_multi = Callbacks::forget_multi,
      .flock = Callbacks::flock,
      .fallocate = Callbacks::fallocate,
      .readdirplus = Callbacks::readdirplus,
      .lseek = Callbacks::lseek,
  };
  return kCallbacks;
}

}  // namespace cairn
