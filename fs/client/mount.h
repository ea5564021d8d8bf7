// Mount: the FileSystem of one mount over masters and chunkservers. Names and attributes are asked of the master, and
// kept for as long as a lease covers them (here in a NameCache, and by the kernel); file data goes through a FileWriter
// and a FileReader for each inode in use. What the master recalls is forgotten here, then by the kernel, then the
// master is answered (mount_recalls.cc).
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "fs/client/file_locks.h"
#include "fs/client/file_reader.h"
#include "fs/client/file_system.h"
#include "fs/client/file_writer.h"
#include "fs/client/grant_pool.h"
#include "fs/client/lease_keeper.h"
#include "fs/client/master_link.h"
#include "fs/client/name_cache.h"
#include "fs/client/server_pool.h"

namespace cairn {

class Mount final : public FileSystem {
 public:
  Mount(World& world, ClientOptions options);
  ~Mount() override;
  Task<Result<void>> start();

  void set_kernel_caches(KernelCaches* caches) override { caches_ = caches; }
  Duration lease_left(InodeId inode) const override { return left(inode); }

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
  Task<Result<void>> write_pages(HandleId handle, uint64_t offset, Buffer data) override;
  Task<Result<uint64_t>> append(HandleId handle, Buffer data) override;
  Task<Result<void>> change_range(HandleId handle, RangeChange change, uint64_t offset, uint64_t length,
                                  bool keep_size) override;
  Task<Result<uint64_t>> seek(HandleId handle, uint64_t offset, bool data) override;
  Task<Result<void>> flush(HandleId handle) override;
  Task<Result<void>> fsync(HandleId handle, bool data_only) override;
  Task<Result<void>> fsync_directory(InodeId directory) override;
  Task<void> release(HandleId handle) override;
  Task<Result<void>> set_lock(HandleId handle, FileLock lock, std::shared_ptr<LockWait> wait) override;
  Task<Result<std::optional<FileLock>>> test_lock(HandleId handle, FileLock lock) override;
  Task<void> release_locks(HandleId handle, uint64_t owner) override;
  bool has_locks(InodeId inode) const override { return locks_.any(inode); }
  void forget(InodeId inode) override;

  Task<Result<void>> sync_all(TimePoint deadline) override;
  std::vector<Unsynced> unsynced() const override;
  std::vector<Address> masters() const override;
  SessionId session() const override { return master_.session(); }
  ClusterId cluster() const override { return master_.cluster(); }
  Task<Result<void>> close(TimePoint deadline) override;

 private:
  // An inode that is or was open here. Kept until the kernel forgets it, because the kernel keeps pages of closed
  // files.
  struct Inode {
    Attributes attributes;  // newest heard
    uint64_t pages_of = 0;  // data_change that the kernel's pages are of
    uint32_t opens = 0;
    uint32_t operations = 0;  // reads and writes under way: writer and reader stay
    bool pages_given = false;
    bool told_open = false;   // the master believes that it is open here
    bool parked = false;      // nobody has it open, but the master still believes so: it may be opened again
    bool gone = false;        // its last name went when nobody had it open: what was not written is thrown away
    bool forgotten = false;   // by the kernel
    bool here_only = false;   // made here, and the exclusive lease, as long as we have it, has never been asked for
    bool hold_reads = false;  // the kernel has forgotten its pages, and the recall is about to be answered
    std::unique_ptr<FileWriter> writer;
    std::unique_ptr<FileReader> reader;
  };
  struct Handle {
    InodeId inode;
    OpenFlagsFs flags;
    uint64_t errors_seen = 0;
    bool locks_lost = false;  // and it has not been told
  };

  Inode& inode_state(const Attributes& attributes);
  Inode* find(InodeId inode);
  bool is_gone(InodeId inode) {
    Inode* known = find(inode);
    return known && known->gone;
  }
  FileWriter& writer_of(Inode& inode);
  // What an answer says of an inode: kept if a lease came with it.
  void hear(const Attributes& attributes, const Lease& lease);
  // Takes newer attributes in; true if the content moved by somebody else, so that the kernel's pages are old.
  bool learn(const Attributes& attributes, bool ours);
  Task<void> learn_and_forget_pages(Attributes attributes);
  // Known under a lease, and nothing is happening to it; else null.
  const Attributes* known(InodeId inode);
  // A name that a change adds or takes away.
  struct NameChange {
    InodeId directory;
    std::string name;
    bool there = false;  // afterwards
    InodeId inode;       // of what is there then; 0: the one that the answer is about
  };
  // Own changes that have not been answered: until then the cache is not asked about what they touch, since others may
  // see it changed before we hear that it is.
  class Changing;
  class Opening;
  bool changing(InodeId inode) const { return changing_.contains(inode); }
  bool changing(InodeId directory, const std::string& name) const {
    return changing_names_.contains({directory, name});
  }
  // A change of names at the master; the cache learns what became of them, and what the answer says. `inode`: what else
  // is touched, if it is known.
  Task<Result<MutationReply>> mutate(MetaOp op, std::vector<NameChange> names, InodeId inode);
  // A change of one inode's attributes.
  Task<Result<MutationReply>> mutate_inode(MetaOp op, InodeId inode);
  Attributes seen_here(Attributes attributes) const;  // with what this mount has written
  Duration left(InodeId inode) const;
  // Of an answer: nothing, unless it is what is known under the lease. While something is recalled answers come without
  // a lease, and may be old when the recall is over and the lease still there.
  Duration left_of(const Attributes& attributes);
  Entry entry_of(InodeId parent, const std::string& name, const Attributes& attributes);
  // What may be read of it is known, under the inode's lease if that can be had.
  Task<Result<void>> room_for(Inode& state, uint64_t offset, uint64_t length);
  Task<Result<uint64_t>> seek_in(Inode& state, uint64_t offset, bool data);
  Task<Result<void>> prepare_read(InodeId inode);
  Task<Result<std::vector<std::string>>> xattrs_of(InodeId inode);
  std::optional<Listing> known_listing(InodeId directory, uint64_t cookie, uint32_t count_max, bool plus);
  Task<Result<Entry>> create_any(CreateOp op);
  Result<void> writable() const;
  HandleId add_handle(Inode& inode, OpenFlagsFs flags);
  Task<Result<void>> open_under_session(InodeId inode, OpenFlagsFs flags);
  Task<Result<void>> open_at_master(InodeId inode, OpenFlagsFs flags);
  // The handle's own view of write errors: each is told once.
  Result<void> unseen_error(Handle& handle);
  void mark_locks_lost(const std::set<HandleId>& handles);
  Task<void> take_lease(InodeId inode);
  void error_told(HandleId id, const FileWriter& writer);
  Task<Result<void>> truncate_open(InodeId inode);
  void removed(const Attributes& attributes);
  // No other mount has it open: what is not yet durable of a file without a name need not become so.
  bool known_here_only(const Inode& inode) const {
    return inode.here_only && leases_.exclusive(inode.attributes.inode);
  }

  // What the master asks for (LeaseKeeper::Handler).
  Task<bool> handle_recall(Recall recall);
  void drop_known(const Recall& recall);
  Task<void> write_stored(InodeId inode);
  Task<void> forget_lease(InodeId inode);
  void unpark(InodeId inode);
  void tell_closed_soon(InodeId inode);
  void park(InodeId inode);
  void lower_quiet();        // exclusive leases that nobody writes under
  Task<void> tell_closed();  // lazily, in batches
  Task<void> drop_idle();
  Task<void> session_lost();
  Task<void> forget_in_kernel(std::shared_ptr<bool> done);
  Task<void> open_again();

  World& world_;
  ClientOptions options_;
  Condition kernel_forgot_;
  MasterLink master_;
  LeaseKeeper leases_;
  FileLocks locks_;
  ServerPool servers_;
  GrantPool grants_;
  Semaphore memory_;
  WriterShared shared_;
  KernelCaches* caches_ = nullptr;
  NameCache names_;
  std::unordered_map<InodeId, std::unique_ptr<Inode>> inodes_;
  std::unordered_map<HandleId, Handle> handles_;
  HandleId next_handle_ = 1;
  std::set<InodeId> closed_;             // to be told to the master
  std::set<InodeId> telling_closed_;     // on their way: whoever opens one of them again waits
  std::map<InodeId, uint32_t> opening_;  // how many times; the master may already count them as open
  Condition told_closed_;
  std::deque<InodeId> parked_;
  uint32_t forgetting_ = 0;  // the kernel is forgetting everything, for so many ended sessions
  std::multiset<InodeId> changing_;
  std::multiset<std::pair<InodeId, std::string>> changing_names_;
  TaskGroup tasks_;
};

}  // namespace cairn
