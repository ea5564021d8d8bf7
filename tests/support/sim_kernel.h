// SimKernel: what Linux does with a FUSE filesystem, as a small model on simulated time: names with timeouts,
// attributes with timeouts, pages with locks, the locks of directories and files, requests that wait, and what a
// notification blocks behind. Applications call it as they would call the kernel; the real fs/fuse serves it
// (KernelDevice).
//
//   auto kernel = std::make_shared<SimKernel>(kernel_node, settings);
//   Sys<FilePtr> file = co_await kernel->open("/d/x", O_RDWR | O_CREAT, 0644);
//
// It errs on the side of the kernel's freedom: whatever Linux may do between two steps takes some time here now and
// then. What it leaves out: permissions beyond the GETATTRs that checking them costs, extended attributes, symbolic
// links, listings cached by the kernel (no mount asks for that), signals.
//
// One thread; runs on a node of its own, because a kernel goes on while the mount's process is stopped. Crash the mount
// before it.
#pragma once

#include <deque>
#include <functional>
#include <linux/fuse.h>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/random.h"
#include "common/runtime/future.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "common/runtime/world.h"
#include "fs/fuse/kernel_device.h"
#include "tests/support/sim_lock.h"

namespace cairn {

inline constexpr uint64_t kSimPageBytes = 4096;

// What a system call gives: an errno, or a value.
template <class T>
struct Sys {
  int error = 0;
  T value{};
  explicit operator bool() const { return error == 0; }
};

struct SimKernelSettings {
  bool epoch = true;            // FUSE_NOTIFY_INC_EPOCH (6.16)
  bool parallel_dirops = true;  // else one request at a time in a directory
  bool direct_mmap = true;      // FUSE_DIRECT_IO_ALLOW_MMAP (6.6), and pages go before a direct write
  bool kills_privileges = true;
  bool readdirplus = true;
  bool checks_setattr =
      true;  // 6.15: attributes of a SETATTR's answer that were invalidated meanwhile are not believed
  uint64_t read_ahead_pages = 8;
  // How late an answer that was given is taken in, one time in `late_one_in`; else at once or nearly so.
  Duration late_max = std::chrono::milliseconds(150);
  uint64_t late_one_in = 50;
  // Memory runs short: one walk in so many finds what it would have found gone. 0: never.
  uint64_t evicts_one_in = 200;
  // Called with a line for each request, answer and notification, for people.
  std::function<void(const std::string&)> trace;
};

class SimKernel final : public KernelDevice {
 public:
  struct Inode;
  struct File;
  using InodePtr = std::shared_ptr<Inode>;  // shared by names, open files and whoever works with it
  using FilePtr = std::shared_ptr<File>;

  SimKernel(World& world, SimKernelSettings settings);
  ~SimKernel() override;

  // A process serves the connection: `readable` is called when there are requests.
  void connect(std::function<void()> readable, Executor& executor);
  // INIT has been answered.
  bool connected() const { return initialised_; }

  // ---- For the process
  ssize_t receive(iovec* pieces, int count) override;
  ssize_t send(const iovec* pieces, int count) override;
  Task<int> notify(std::string message, std::shared_ptr<std::atomic<bool>> begun) override;
  uint64_t answers() const { return answers_; }

  // ---- For applications. Paths are absolute.
  struct Stat {
    uint64_t inode = 0;
    uint64_t size = 0;
    uint32_t mode = 0;
    uint32_t nlink = 0;
  };
  Task<Sys<Stat>> stat(std::string path);
  Task<Sys<Stat>> fstat(FilePtr file);
  Task<Sys<FilePtr>> open(std::string path, int flags, uint32_t mode = 0644);
  Task<int> close(FilePtr file);
  Task<int> mkdir(std::string path, uint32_t mode = 0755);
  Task<int> unlink(std::string path);
  Task<int> rmdir(std::string path);
  Task<int> rename(std::string from, std::string to);
  Task<int> link(std::string from, std::string to);
  Task<int> chmod(std::string path, uint32_t mode);
  Task<int> truncate(std::string path, uint64_t size);
  Task<int> ftruncate(FilePtr file, uint64_t size);
  using Listing = std::vector<std::pair<std::string, uint64_t>>;  // names and inodes
  Task<Sys<Listing>> list(std::string path);
  Task<Sys<std::string>> read(FilePtr file, uint64_t offset, uint64_t size);
  // At the end if the file was opened with O_APPEND. Gives how much was written.
  Task<Sys<uint64_t>> write(FilePtr file, uint64_t offset, std::string data);
  Task<int> fsync(FilePtr file);
  // Through a shared mapping. What lies beyond the end is not read (SIGBUS).
  Task<Sys<std::string>> load(FilePtr file, uint64_t offset, uint64_t size);
  Task<int> store(FilePtr file, uint64_t offset, std::string data);

  static uint64_t inode_of(const FilePtr& file);
  // How many answers about its attributes were put away, because something was forgotten or changed meanwhile.
  static uint64_t put_away(const FilePtr& file);
  static bool is_direct(const FilePtr& file);
  static bool writable(const FilePtr& file);
  static bool created(const FilePtr& file);  // by the open() that gave it
  // What applications wait for, for people.
  std::string waiting() const;

 private:
  friend struct Inode;
  struct Page;
  struct Dentry;
  struct Pending;
  struct Answer;
  using PagePtr = std::shared_ptr<Page>;      // shared by the cache and whoever works with it
  using DentryPtr = std::shared_ptr<Dentry>;  // shared by its directory and whoever walks
  using OnReply = std::function<void(int error, std::string_view body)>;
  struct Walk {  // to a name: its directory, and it
    int error = 0;
    InodePtr directory;
    std::string name;
  };
  enum Look : uint32_t { kRevalidate = 1, kCreates = 2 };

  // sim_kernel.cc: requests and notifications
  Task<Answer> ask(uint32_t opcode, uint64_t inode, std::string body, OnReply on_reply = {});
  void tell(uint32_t opcode, uint64_t inode, std::string body);  // nobody waits
  void queue(Pending pending);
  std::string text_of(const Pending& pending) const;
  void wake(std::shared_ptr<Promise<bool>> promise, bool late);
  Task<void> pause();
  Duration some(Duration most);
  Task<void> initialise();
  Task<void> run_notification(std::string message, std::shared_ptr<std::atomic<bool>> begun,
                              std::shared_ptr<Promise<int>> done);
  Task<int> invalidate_inode(uint64_t inode, int64_t offset, int64_t size);
  Task<int> invalidate_entry(uint64_t parent, std::string name);
  TimePoint until(uint64_t seconds, uint32_t nanoseconds) const;

  // sim_kernel_names.cc
  InodePtr find(uint64_t inode) const;
  void evicted(Inode& inode);
  Task<InodePtr> get_inode(fuse_attr attributes, uint64_t nodeid, TimePoint until, uint64_t version,
                           uint64_t evictions);
  Task<void> change_attributes(InodePtr inode, fuse_attr attributes, TimePoint until, uint64_t version);
  void set_attributes(Inode& inode, const fuse_attr& attributes, TimePoint until);
  void invalidate_attributes(Inode& inode);
  void directory_changed(Inode& directory);
  DentryPtr add_name(const InodePtr& directory, const std::string& name, const InodePtr& inode, TimePoint until,
                     uint64_t epoch);
  void drop_name(InodePtr directory, DentryPtr dentry);
  void prune(Inode& directory);
  Task<Sys<bool>> revalidate(InodePtr directory, DentryPtr dentry, uint32_t look);
  Task<Sys<InodePtr>> request_lookup(InodePtr directory, std::string name);
  Task<Sys<InodePtr>> look_up(InodePtr directory, std::string name, uint32_t look);
  Task<Sys<InodePtr>> look_up_locked(InodePtr directory, std::string name, uint32_t look);
  Task<int> may_search(InodePtr directory);
  Task<Sys<InodePtr>> walk(std::string path, uint32_t look);
  Task<Walk> walk_to_parent(std::string path, uint32_t look);
  Task<Sys<Stat>> get_attributes(InodePtr inode);
  Task<Sys<Stat>> stat_once(std::string path, uint32_t look);
  Task<Sys<FilePtr>> open_once(std::string path, int flags, uint32_t mode, uint32_t look);
  Task<Sys<FilePtr>> open_inode(InodePtr inode, int flags);
  Task<Sys<FilePtr>> create_locked(Walk at, int flags, uint32_t mode);
  Task<int> made(Walk at, Answer answer, uint64_t epoch, uint64_t evictions);
  Task<int> mkdir_once(std::string path, uint32_t mode, uint32_t look);
  Task<int> remove_once(std::string path, bool directory, uint32_t look);
  Task<int> rename_once(std::string from, std::string to, uint32_t look);
  Task<int> link_once(std::string from, std::string to, uint32_t look);
  Task<int> set_once(std::string path, fuse_setattr_in what, uint32_t look);
  Task<int> set_inode(InodePtr inode, fuse_setattr_in what);
  Task<Sys<Listing>> list_once(std::string path, uint32_t look);
  Task<void> take_listing(InodePtr directory, std::string body, uint64_t version, uint64_t evictions,
                          std::shared_ptr<Listing> listing, std::shared_ptr<uint64_t> offset, bool plus);

  // sim_kernel_pages.cc
  Task<void> lock_page(InodePtr inode, PagePtr page);
  void unlock_page(Inode& inode, Page& page);
  Task<void> truncate_pages(InodePtr inode, uint64_t size);
  Task<void> drop_pages(InodePtr inode, uint64_t first, uint64_t last);
  Task<Sys<PagePtr>> get_page(FilePtr file, uint64_t index);
  void read_pages(FilePtr file, uint64_t first, uint64_t last);
  Task<Sys<std::string>> copy_pages(FilePtr file, uint64_t offset, uint64_t size);
  Task<Sys<std::string>> read_direct(FilePtr file, uint64_t offset, uint64_t size);
  Task<Sys<uint64_t>> write_direct(FilePtr file, uint64_t offset, std::string data);
  Task<Sys<uint64_t>> write_pages(FilePtr file, uint64_t offset, std::string data);
  Task<Answer> send_write(FilePtr file, uint64_t offset, std::string data, uint32_t flags);
  void written(Inode& inode, uint64_t end);
  Task<int> write_back(InodePtr inode, PagePtr page);
  Task<int> write_back_all(InodePtr inode);

  World& world_;
  Random& random_;
  const SimKernelSettings settings_;
  std::function<void()> readable_;
  Executor* process_ = nullptr;
  bool closing_ = false;
  bool initialised_ = false;
  uint32_t flags_ = 0;  // agreed on
  uint32_t flags2_ = 0;
  std::deque<Pending> queued_;
  std::map<uint64_t, Pending> waiting_;  // taken by the process, by number
  uint64_t next_unique_ = 2;
  uint64_t answers_ = 0;
  uint64_t version_ = 1;  // of attributes
  uint64_t evictions_ = 0;
  uint64_t epoch_ = 1;
  std::map<uint64_t, Inode*> inodes_;
  InodePtr root_;
  std::shared_ptr<RwLock> renames_;
  TaskGroup tasks_;
};

}  // namespace cairn
