// FileSystem: the filesystem as one mount (or one command) sees it, by inode numbers. The FUSE side and the command
// line stand on it; it knows nothing of the kernel.
//
// Loop thread only. Every operation ends within its deadline (ClientOptions::request_timeout): with its result, or kIo
// when no master answered. Errors are those an application should get (to_errno). Durability: docs/consistency.md; in
// short, write() is accepted when it returns (kept here and, soon, by every replica, in memory), fsync() when all
// replicas and the master have it on disk, flush() (close) when everything that was buffered has been accepted by the
// replicas, so that kNoSpace and kIo are told there at the latest.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/units.h"
#include "common/proto/control_types.h"
#include "common/proto/meta_types.h"
#include "common/runtime/world.h"

namespace cairn {

struct ClientOptions {
  std::vector<Address> masters;
  std::string host;        // for `cairn status`
  std::string mountpoint;  // likewise; may be empty
  std::string program;
  bool read_only = false;
  Duration connect_timeout = std::chrono::seconds(8);   // connect(): nobody answers
  Duration request_timeout = std::chrono::seconds(60);  // no master: wait that long, then kIo
  uint64_t write_buffer_bytes = 256 * kMiB;             // what is not yet durable, over all files
  uint64_t read_ahead_bytes = 16 * kMiB;                // a sequential reader's
  uint64_t cache_entries = 500'000;                     // names, attributes and leases kept, of each
  uint32_t reclaim_page = 32'768;                       // open files told to a new master in one message
};

// What an answer may be cached for by the kernel: never longer than what is left of the session's time, and nothing
// without a lease, or while it is being recalled. An answer that does not go to the kernel at once is asked about again
// when it does (FileSystem::lease_left).
struct Entry {
  Attributes attributes;      // inode 0: there is no such name
  Duration valid_for{};       // of the attributes: the inode's lease
  Duration name_valid_for{};  // of the name: the directory's lease. Zero if there is no such name (docs/decisions/007)
};
struct AttributesView {
  Attributes attributes;
  Duration valid_for{};
};

struct Caller {  // who asks: new files belong to them
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t pid = 0;
};

// What the kernel must forget, told by the filesystem (a FUSE notifier; nothing in a command). Runs elsewhere;
// completes when the kernel has let go. Until then requests about the object go on being answered, above all reads of
// its data, which the kernel may be waiting for. A read that begins after forget_pages() has completed must not be
// answered from before.
class KernelCaches {
 public:
  virtual ~KernelCaches() = default;
  virtual Task<void> forget_pages(InodeId inode) = 0;  // all pages and the attributes of the inode
  virtual Task<void> forget_attributes(InodeId inode) = 0;
  // A name that the kernel may hold, and the directory's listing. Completes, too, when the kernel cannot let go because
  // a change of that directory by this mount waits for the master, and the name is sure to be looked up again.
  virtual Task<void> forget_name(InodeId directory, std::string name) = 0;
  // Everything: the session has ended, or its time was over and others may have changed anything.
  virtual Task<void> forget_everything() = 0;
};

struct OpenFlagsFs {
  bool read = false;
  bool write = false;
  bool truncate = false;  // O_TRUNC
  bool append = false;    // O_APPEND
};

// Somebody waits for a lock, and may be told that it is not wanted any more: shared by who waits and who tells.
class LockWait {
 public:
  bool given_up() const { return given_up_; }
  void give_up() {
    given_up_ = true;
    if (callback_) callback_();
  }
  void when_given_up(std::function<void()> callback) { callback_ = std::move(callback); }

 private:
  bool given_up_ = false;
  std::function<void()> callback_;
};

class FileSystem {
 public:
  // Opens a session with the masters. kUnavailable names the addresses if none answers within connect_timeout.
  static Task<Result<std::unique_ptr<FileSystem>>> connect(World& world, ClientOptions options);
  virtual ~FileSystem() = default;
  virtual void set_kernel_caches(KernelCaches* caches) = 0;

  // names
  virtual Task<Result<Entry>> lookup(InodeId parent, std::string name) = 0;  // a missing name is an Entry with inode 0
  virtual Task<Result<Entry>> create(InodeId parent, std::string name, uint32_t mode,
                                     Caller caller) = 0;  // a regular file, held open as by open()
  virtual Task<Result<Entry>> make_node(InodeId parent, std::string name, FileType type, uint32_t mode, uint32_t rdev,
                                        Caller caller) = 0;
  virtual Task<Result<Entry>> make_directory(InodeId parent, std::string name, uint32_t mode, Caller caller) = 0;
  virtual Task<Result<Entry>> make_symlink(InodeId parent, std::string name, std::string target, Caller caller) = 0;
  virtual Task<Result<Entry>> link(InodeId inode, InodeId new_parent, std::string new_name) = 0;
  virtual Task<Result<void>> unlink(InodeId parent, std::string name) = 0;
  virtual Task<Result<void>> remove_directory(InodeId parent, std::string name) = 0;
  virtual Task<Result<void>> rename(InodeId parent, std::string name, InodeId new_parent, std::string new_name,
                                    uint32_t flags) = 0;  // RENAME_*
  virtual Task<Result<std::string>> read_link(InodeId inode) = 0;
  // Entries after `cookie` (0: from the start, "." and ".." not among them), at most `count_max`. `end` as in
  // ReadDirectoryReply. Attributes if plus; they may be kept for lease_left() of their inodes.
  struct Listing {
    std::vector<DirectoryEntry> entries;
    bool end = false;
    InodeId parent;
    Duration valid_for{};  // of the names: the directory's lease
  };
  virtual Task<Result<Listing>> read_directory(InodeId directory, uint64_t cookie, uint32_t count_max, bool plus) = 0;

  // What the kernel may be told at this moment, at most, about what is held of an inode (a directory: of its names,
  // too). Zero without a lease, while it is being recalled, and while the session is suspended. That the lease is held
  // does not make an older answer right again: KernelCaches is told of everything that was recalled.
  virtual Duration lease_left(InodeId inode) const = 0;

  // attributes
  virtual Task<Result<AttributesView>> get_attributes(InodeId inode) = 0;
  struct Changes {  // those set change
    std::optional<uint32_t> mode, uid, gid;
    std::optional<uint64_t> size;
    std::optional<FileTime> atime, mtime;
    bool atime_now = false, mtime_now = false;
    bool clear_set_id = false;
  };
  virtual Task<Result<AttributesView>> set_attributes(InodeId inode, Changes changes) = 0;
  virtual Task<Result<std::string>> get_xattr(InodeId inode, std::string name) = 0;
  virtual Task<Result<std::vector<std::string>>> list_xattr(InodeId inode) = 0;
  virtual Task<Result<void>> set_xattr(InodeId inode, std::string name, std::string value, bool create_only,
                                       bool replace_only) = 0;
  virtual Task<Result<void>> remove_xattr(InodeId inode, std::string name) = 0;
  virtual Task<Result<StatFsReply>> stat_fs(InodeId inode) = 0;

  // file data. Opens are counted per inode; what was written belongs to the inode, errors to the handle that asks next:
  // each open handle learns of a write error once, at write, flush or fsync.
  using HandleId = uint64_t;  // never 0; may be made again from (inode) by a restarted daemon
  struct Opened {
    HandleId handle = 0;
    Attributes attributes;
    bool keep_pages = true;  // the kernel's pages are still right
  };
  virtual Task<Result<Opened>> open(InodeId inode, OpenFlagsFs flags) = 0;
  virtual Result<HandleId> opened_by_create(InodeId inode,
                                            OpenFlagsFs flags) = 0;  // the handle for a file just made by create()
  // Up to `size` bytes; fewer only at the end of the file.
  virtual Task<Result<Payload>> read(HandleId handle, uint64_t offset, uint32_t size) = 0;
  virtual Task<Result<void>> write(HandleId handle, uint64_t offset, Buffer data) = 0;
  // Dirty pages of a mapping, which have their place whatever the handle's flags. Also while the kernel is being made
  // to forget the inode's pages: that waits for them.
  virtual Task<Result<void>> write_pages(HandleId handle, uint64_t offset, Buffer data) = 0;
  // Like write(), at the end of the file as it is when the write is applied, whatever the handle's flags; gives the
  // offset of the data.
  virtual Task<Result<uint64_t>> append(HandleId handle, Buffer data) = 0;
  // fallocate(2). kAllocate: kNoSpace if there is not even room now; nothing is reserved. kZero: [offset, offset +
  // length) reads as zeros and takes no space. Without `keep_size` the file is at least as long as the range's end.
  enum class RangeChange : uint8_t { kAllocate, kZero };
  virtual Task<Result<void>> change_range(HandleId handle, RangeChange change, uint64_t offset, uint64_t length,
                                          bool keep_size);
  // lseek(2): where data, or a hole, begins at `offset` or behind it. A hole is at the end of each file. kBeyondEnd.
  virtual Task<Result<uint64_t>> seek(HandleId handle, uint64_t offset, bool data);
  virtual Task<Result<void>> flush(HandleId handle) = 0;
  virtual Task<Result<void>> fsync(HandleId handle, bool data_only) = 0;
  virtual Task<Result<void>> fsync_directory(InodeId directory) = 0;
  virtual Task<void> release(HandleId handle) = 0;
  // ---- locks, for all mounts (docs/decisions/008-locks.md). `lock.session` does not matter.
  // Sets the range, or takes it away. Somebody is in the way: kAgain without `wait`; with it this waits, until it is
  // given up (kInterrupted; nothing has changed then), or those in the way wait for this owner (kDeadlock). A handle
  // whose locks were lost is told so once, by kIo.
  virtual Task<Result<void>> set_lock(HandleId handle, FileLock lock, std::shared_ptr<LockWait> wait) = 0;
  // What is in the way; its pid is 0 if that is on another machine.
  virtual Task<Result<std::optional<FileLock>>> test_lock(HandleId handle, FileLock lock) = 0;
  // A descriptor of this owner was closed: it has no locks on that file any more. release() does the same for whoever
  // has locked through the handle.
  virtual Task<void> release_locks(HandleId handle, uint64_t owner) = 0;
  // Somebody here has locked it: closes of all its descriptors matter.
  virtual bool has_locks(InodeId inode) const = 0;
  // The kernel no longer knows the inode: nothing of it is cached there.
  virtual void forget(InodeId inode) = 0;

  // Everything written so far by this mount, durable. `deadline` kNever: as long as it takes.
  virtual Task<Result<void>> sync_all(TimePoint deadline) = 0;
  // What could not be made durable, for the message of a clean end: inode numbers and bytes.
  struct Unsynced {
    InodeId inode;
    uint64_t bytes = 0;
  };
  virtual std::vector<Unsynced> unsynced() const = 0;
  // All masters that are known by now: those it was told, and what it has learned of the group since.
  virtual std::vector<Address> masters() const = 0;

  virtual SessionId session() const = 0;
  virtual ClusterId cluster() const = 0;
  // Flushes (bounded by `deadline`), ends the session, stops all tasks. After it only the destructor may be called.
  virtual Task<Result<void>> close(TimePoint deadline) = 0;
};

}  // namespace cairn
