// FuseOps: the operations of a FUSE session over a FileSystem. Each is a callback, which copies the arguments and
// starts a coroutine, and that coroutine, which asks the file system and replies.
//
// Loop thread only. stop() waits for all that is under way; then the fuse_session may go.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <unordered_set>

#include "common/runtime/task_group.h"
#include "common/runtime/world.h"
#include "fs/client/file_system.h"
#include "fs/fuse/kernel_channel.h"
#include "fs/fuse/kernel_state.h"
#include "fs/fuse/notifier.h"
#include "fs/fuse/reply.h"

struct fuse_lowlevel_ops;
struct fuse_conn_info;

namespace cairn {

class FuseOps {
 public:
  // `state` is kept true here and gone by in the notifier.
  FuseOps(World& world, FileSystem& file_system, KernelChannel& channel, Notifier& notifier, KernelState& state,
          uint32_t max_background);

  // For fuse_session_new(); its userdata is a FuseContext with this in it.
  static const fuse_lowlevel_ops& callbacks();

  RequestGate& gate() { return gate_; }
  // Brings the gauges up to date.
  void collect();
  Task<void> stop() { return tasks_.stop(); }

 private:
  struct Callbacks;  // fuse_ops_callbacks.cc

  void initialise(fuse_conn_info* connection);
  // The Reply for the request that was received last.
  Reply reply_to(fuse_req* request, uint64_t bytes = 0);
  void start(Task<void> operation) { tasks_.spawn(std::move(operation)); }
  // The kernel gets this entry of the directory: counts it, and takes the count back if the kernel does not want it.
  void give_entry(Reply& reply, InodeId directory, const Result<Entry>& entry);
  // As is right at this moment; the answer is given at once.
  EntryTimes times_of(InodeId directory, InodeId inode, Duration name, Duration attributes);
  Duration attribute_time(InodeId inode, Duration allowed);
  Attributes with_known_size(Attributes attributes, Duration valid_for) const;
  void give_attributes(Reply& reply, const AttributesView& view);
  void forget_inode(InodeId inode, uint64_t count);
  // While some callers that wait have got signals: those that are being killed are let go.
  Task<void> watch_interrupted();
  // Before a change by a caller that may not keep set-id bits.
  Task<Result<void>> clear_set_id(InodeId inode);

  // names: fuse_ops_names.cc
  Task<void> lookup(Reply reply, InodeId parent, std::string name);
  Task<void> lookup_parent(Reply reply, InodeId directory);
  Task<void> make_node(Reply reply, InodeId parent, std::string name, uint32_t mode, uint32_t rdev, Caller caller);
  Task<void> make_directory(Reply reply, InodeId parent, std::string name, uint32_t mode, Caller caller);
  Task<void> make_symlink(Reply reply, InodeId parent, std::string name, std::string target, Caller caller);
  Task<void> link(Reply reply, InodeId inode, InodeId new_parent, std::string new_name);
  Task<void> unlink(Reply reply, InodeId parent, std::string name);
  Task<void> remove_directory(Reply reply, InodeId parent, std::string name);
  Task<void> rename(Reply reply, InodeId parent, std::string name, InodeId new_parent, std::string new_name,
                    uint32_t flags);
  Task<void> read_link(Reply reply, InodeId inode);
  Task<void> read_directory(Reply reply, InodeId directory, uint64_t handle, uint64_t offset, size_t size, bool plus);
  void give_listing(Reply reply, const DirectoryPage& page, InodeId directory, uint64_t handle, uint64_t offset,
                    size_t size, bool plus);
  void release_directory(Reply reply, uint64_t handle);
  // Proof that the answer before it has been taken in.
  void directory_asked(uint64_t handle);
  Task<void> fsync_directory(Reply reply, InodeId directory);

  // attributes: fuse_ops_attributes.cc
  Task<void> get_attributes(Reply reply, InodeId inode);
  Task<void> set_attributes(Reply reply, InodeId inode, FileSystem::Changes changes, Caller caller);
  Task<Result<void>> check_owner(InodeId inode, FileSystem::Changes changes, Caller caller);
  Task<void> get_xattr(Reply reply, InodeId inode, std::string name, size_t size);
  Task<void> list_xattr(Reply reply, InodeId inode, size_t size);
  Task<void> set_xattr(Reply reply, InodeId inode, std::string name, std::string value, bool create_only,
                       bool replace_only);
  Task<void> remove_xattr(Reply reply, InodeId inode, std::string name);
  Task<void> stat_fs(Reply reply, InodeId inode);

  // file data: fuse_ops_data.cc
  Task<void> create(Reply reply, InodeId parent, std::string name, uint32_t mode, int flags, Caller caller);
  bool opens_direct(InodeId inode, int flags) const;
  Task<void> open(Reply reply, InodeId inode, int flags, bool kill_set_id);
  Task<void> read(Reply reply, InodeId inode, uint64_t handle, uint64_t offset, uint32_t size, bool direct);
  struct WriteHow {
    bool append = false;
    bool kill_set_id = false;
    bool direct = false;  // past the kernel's pages
    bool mapped = false;  // dirty pages of a mapping
  };
  Task<void> write(Reply reply, InodeId inode, uint64_t handle, uint64_t offset, Buffer data, WriteHow how);
  Task<void> drop_pages_behind(InodeId inode, uint64_t write, ByteRange range, bool direct);
  Task<void> change_range(Reply reply, InodeId inode, uint64_t handle, int mode, uint64_t offset, uint64_t length);
  Task<void> seek(Reply reply, uint64_t handle, uint64_t offset, bool data);
  Task<void> flush(Reply reply, uint64_t handle, uint64_t lock_owner);
  Task<void> fsync(Reply reply, uint64_t handle, bool data_only);
  Task<void> release(Reply reply, uint64_t handle);

  // locks: fuse_ops_locks.cc
  Task<void> set_lock(Reply reply, uint64_t handle, FileLock lock, bool waits);
  Task<void> test_lock(Reply reply, uint64_t handle, FileLock lock);
  // Whoever waits for a lock, while it does.
  struct LockCaller {
    LockWait wait;
    Reply* reply = nullptr;
  };
  Task<void> give_up_lock(std::shared_ptr<LockCaller> caller);

  World& world_;
  FileSystem& file_system_;
  KernelChannel& channel_;
  Notifier& notifier_;
  KernelState& state_;
  InodeTable& inodes_;             // of state_
  DirectoryHandles& directories_;  // likewise
  const uint32_t max_background_;
  std::unordered_set<uint64_t> direct_;  // handles
  uint32_t lock_waiters_ = 0;
  RequestGate gate_;
  bool watching_ = false;                 // watch_interrupted() runs
  std::array<Histogram*, 64> seconds_{};  // by opcode; made when first used
  Gauge& requests_;
  Gauge& known_;
  TaskGroup tasks_;
};

}  // namespace cairn
