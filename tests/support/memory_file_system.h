// MemoryFileSystem: a FileSystem that keeps everything in memory, for tests of what stands on one: the FUSE side, above
// all. Its answers are what a correct client gives, errors included; nothing is durable.
//
// Loop thread only.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/locks/inode_locks.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "common/runtime/world.h"
#include "fs/client/file_system.h"

namespace cairn {

struct MemoryFileSystemOptions {
  Duration valid_for = std::chrono::seconds(1);
  // What another mount does: each file gets a byte more before each append of ours.
  bool appends_elsewhere = false;
  // unsynced() names what was written and not fsynced, and close() fails as if it could not be written.
  bool never_durable = false;
  // Setting these extended attributes, on any inode, is an order about the inode whose number is the value, or about
  // the name in a directory ("12/name"):
  // "user.hold-reads", "user.hold-writes", "user.hold-changes" (reads or writes of it, changes of its names wait; "0":
  // of none), "user.forget-pages" (tells the kernel, and waits until it has). What another mount does, after the kernel
  // has let go: "user.elsewhere-write" (all bytes become the next letter), "user.elsewhere-chmod" (mode 0600),
  // "user.elsewhere-unlink", "user.elsewhere-create" (an empty file). "user.storm": for so many milliseconds the kernel
  // is told to forget one thing after another; "user.forget-everything".
  bool controls = false;
  // Reads, writes and changes of names take that long, as if servers were asked.
  Duration takes{};
};

class MemoryFileSystem final : public FileSystem {
 public:
  MemoryFileSystem(World& world, MemoryFileSystemOptions options);
  ~MemoryFileSystem() override;

  void set_kernel_caches(KernelCaches* caches) override { caches_ = caches; }
  Duration lease_left(InodeId) const override { return options_.valid_for; }

  Task<Result<Entry>> lookup(InodeId parent, std::string name) override;
  Task<Result<Entry>> create(InodeId parent, std::string name, uint32_t mode, Caller caller) override;
  Task<Result<Entry>> make_node(InodeId parent, std::string name, FileType type, uint32_t mode, uint32_t rdev,
                                Caller caller) override;
  Task<Result<Entry>> make_directory(InodeId parent, std::string name, uint32_t mode, Caller caller) override;
  Task<Result<Entry>> make_symlink(InodeId parent, std::string name, std::string target, Caller caller) override;
  Task<Result<Entry>> link(InodeId inode, InodeId new_parent, std::string new_name) override;
  Task<Result<void>> unlink(InodeId parent, std::string name) override;
  Task<Result<void>> remove_directory(InodeId parent, std::string name) override;
  Task<Result<void>> rename(InodeId parent, std::string name, InodeId new_parent, std::string new_name,
                            uint32_t flags) override;
  Task<Result<std::string>> read_link(InodeId inode) override;
  Task<Result<Listing>> read_directory(InodeId directory, uint64_t cookie, uint32_t count_max, bool plus) override;

  Task<Result<AttributesView>> get_attributes(InodeId inode) override;
  Task<Result<AttributesView>> set_attributes(InodeId inode, Changes changes) override;
  Task<Result<std::string>> get_xattr(InodeId inode, std::string name) override;
  Task<Result<std::vector<std::string>>> list_xattr(InodeId inode) override;
  Task<Result<void>> set_xattr(InodeId inode, std::string name, std::string value, bool create_only,
                               bool replace_only) override;
  Task<Result<void>> remove_xattr(InodeId inode, std::string name) override;
  Task<Result<StatFsReply>> stat_fs(InodeId inode) override;

  Task<Result<Opened>> open(InodeId inode, OpenFlagsFs flags) override;
  Result<HandleId> opened_by_create(InodeId inode, OpenFlagsFs flags) override;
  Task<Result<Payload>> read(HandleId handle, uint64_t offset, uint32_t size) override;
  Task<Result<void>> write(HandleId handle, uint64_t offset, Buffer data) override;
  Task<Result<void>> write_pages(HandleId handle, uint64_t offset, Buffer data) override {
    return write(handle, offset, std::move(data));
  }
  Task<Result<uint64_t>> append(HandleId handle, Buffer data) override;
  Task<Result<void>> flush(HandleId handle) override;
  Task<Result<void>> fsync(HandleId handle, bool data_only) override;
  Task<Result<void>> fsync_directory(InodeId directory) override;
  Task<void> release(HandleId handle) override;
  Task<Result<void>> set_lock(HandleId handle, FileLock lock, std::shared_ptr<LockWait> wait) override;
  Task<Result<std::optional<FileLock>>> test_lock(HandleId handle, FileLock lock) override;
  Task<void> release_locks(HandleId handle, uint64_t owner) override;
  bool has_locks(InodeId inode) const override { return locks_.contains(inode) && !locks_.at(inode).empty(); }
  void forget(InodeId inode) override;

  Task<Result<void>> sync_all(TimePoint deadline) override;
  std::vector<Unsynced> unsynced() const override;
  std::vector<Address> masters() const override { return {}; }
  SessionId session() const override { return SessionId(1); }
  ClusterId cluster() const override { return ClusterId(1); }
  Task<Result<void>> close(TimePoint deadline) override;

  // For checks after the work: inodes that are neither named nor open, nor the root.
  size_t leaked_inodes() const;
  size_t open_handles() const { return handles_.size(); }

 private:
  struct Inode {
    Attributes attributes;
    InodeId parent;      // of a directory
    std::string target;  // of a symlink
    std::map<std::string, std::string> xattrs;
    std::vector<Buffer> blocks;  // of 128 KiB, or less: then zeros follow. Written in place: what
                                 // read() gave is for use before the next write
    uint32_t opens = 0;
    uint64_t unsynced_bytes = 0;
    // of a directory, by name and by cookie
    struct Named {
      InodeId inode;
      uint64_t cookie = 0;
    };
    std::map<std::string, Named> entries;
    std::map<uint64_t, std::string> by_cookie;
    uint64_t next_cookie = 3;
  };
  struct Handle {
    InodeId inode;
    OpenFlagsFs flags;
  };

  Inode* find(InodeId inode);
  Result<Inode*> directory(InodeId inode);
  Result<Inode::Named*> entry(InodeId parent, const std::string& name);
  Result<Inode*> writable(HandleId handle);
  Entry entry_of(const Inode& inode) const;
  Result<Entry> make(InodeId parent, std::string name, FileType type, uint32_t mode, uint32_t rdev, Caller caller);
  void add_name(Inode& parent, const std::string& name, Inode& inode);
  void remove_name(Inode& parent, const std::string& name);
  void drop_link(InodeId inode);
  void reap(InodeId inode);
  void touch(Inode& inode, bool content);
  void put(Inode& inode, uint64_t offset, const Buffer& data);
  void resize(Inode& inode, uint64_t size);
  FileTime now() const;
  // A change of the directory's names (a read, a write) may go on.
  Task<void> change_may_begin(InodeId directory);
  Task<void> may_begin(InodeId MemoryFileSystem::* held, InodeId inode);
  // False if it is no order.
  Task<Result<bool>> obey(std::string order, std::string value);
  Task<void> storm(Duration how_long);
  Task<void> storm_once();

  World& world_;
  const MemoryFileSystemOptions options_;
  KernelCaches* caches_ = nullptr;
  std::map<InodeId, std::unique_ptr<Inode>> inodes_;
  std::map<HandleId, Handle> handles_;
  std::map<InodeId, InodeLocks> locks_;
  std::map<std::pair<HandleId, uint64_t>, InodeId> lock_users_;  // who has locked what through which handle
  uint64_t next_inode_ = 2;
  InodeId held_reads_, held_writes_, held_changes_;  // what waits: of this one
  Condition changed_;
  HandleId next_handle_ = 1;
  TaskGroup tasks_;
};

}  // namespace cairn
