// MemoryDisk: a Disk in memory that knows of each byte and each name whether it is durable, and can lose the rest.
//
// For tests and the simulator. It promises what disk.h says and no more: a new file whose data was synced has no name
// after a crash until its folder was synced too. A rename happens wholly or not at all. Thread-safe. Files and locks
// may outlive a crash, and then fail with kIo; they must not outlive the disk.
//
// Paths are split at '/'; a leading one, and "." parts, mean nothing. ".." is kInvalid.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "common/base/random.h"
#include "common/runtime/clock.h"
#include "common/runtime/disk.h"

namespace cairn {

// How long operations take; the simulator's pools delay their completions by it.
struct DiskSpeed {
  Duration operation = Duration::zero();
  Duration sync = Duration::zero();
  uint64_t bytes_per_second = 0;  // zero: bytes cost nothing
};

struct DiskCounters {
  uint64_t reads = 0;
  uint64_t writes = 0;
  uint64_t bytes_written = 0;
  uint64_t syncs = 0;         // of files and of folders
  uint64_t name_changes = 0;  // created, removed, renamed, linked
};

class MemoryDisk final : public Disk {
 public:
  explicit MemoryDisk(uint64_t capacity_bytes = 1ull << 40);
  ~MemoryDisk() override;

  Result<std::unique_ptr<File>> open(const std::string& path, OpenFlags flags) override;
  Result<bool> exists(const std::string& path) override;
  Result<uint64_t> file_size(const std::string& path) override;
  Result<std::vector<std::string>> list(const std::string& folder) override;
  Result<void> make_folder(const std::string& path) override;
  Result<void> remove(const std::string& path) override;
  Result<void> remove_tree(const std::string& path) override;
  Result<void> rename(const std::string& from, const std::string& to) override;
  Result<void> link(const std::string& from, const std::string& to) override;
  Result<void> sync_folder(const std::string& folder) override;
  Result<DiskSpace> space(const std::string& folder) override;
  Result<std::unique_ptr<FolderLock>> lock_folder(const std::string& folder) override;

  // The power goes and comes back. What was not synced is gone, or, with `keep`, a part of it: each name change, each
  // write, of some writes single sectors, as it draws. Open files fail with kIo from now on; locks are let go; a
  // failing disk is well again.
  void crash(Random* keep = nullptr);

  // Operations that change something (writes, syncs, creations, renames...) since the start. A test runs once, reads
  // this, and then runs again with fail_after(0), fail_after(1)...
  uint64_t operations() const;
  enum class LastOperation { kHasNoEffect, kTakesEffect };
  // From now on `count` more of them succeed; the one after them fails with kIo, with or without having done its work,
  // and then everything fails, reads too, until heal() or crash().
  void fail_after(uint64_t count, LastOperation last = LastOperation::kHasNoEffect);
  void heal();
  bool failing() const;

  // While it is frozen every operation fails with kIo and counts as nothing: the simulator destroys a crashed program
  // on a frozen disk, so that destructors cannot write what a killed process would not have written.
  void set_frozen(bool frozen);

  void set_capacity(uint64_t capacity_bytes);
  // read_cached() answers kAgain from now on (or no longer).
  void set_nothing_cached(bool nothing_cached);
  // The medium rots: changes one byte for good. kNotFound, and kRange past the end.
  Result<void> flip_byte(const std::string& path, uint64_t offset);

  void set_speed(DiskSpeed speed);
  // What the operations since the last call would have taken.
  Duration take_cost();
  DiskCounters counters() const;

 private:
  struct Node;
  using NodePtr =
      std::shared_ptr<Node>;  // shared by names (hard links), open files and changes that are not yet durable
  struct NameChange;
  class OpenFile;
  class Lock;
  struct Place;

  // All of these under mutex_.
  Result<NodePtr> find(const std::string& path) const;
  Result<NodePtr> find_folder(const std::string& path) const;
  Result<Place> find_place(const std::string& path) const;
  Result<void> check_working(const std::string& doing) const;
  // Counts one operation that changes something and runs `effect`, unless the disk fails before it.
  template <class F>
  Result<void> change(const std::string& doing, F effect) {
    Result<Effect> starts = start_change(doing);
    if (!starts) return starts.error();
    if (*starts != Effect::kFailsBefore) effect();
    if (*starts != Effect::kSucceeds) return check_working(doing);
    return {};
  }
  enum class Effect { kSucceeds, kFailsBefore, kFailsAfter };
  Result<Effect> start_change(const std::string& doing);
  Result<void> change_names(const std::string& doing, NameChange change);
  void make_durable(const NameChange& change);
  void spend(Duration fixed, uint64_t bytes);
  void count_space(Node& node);
  NodePtr make_node(bool folder);
  std::unique_ptr<File> make_file(NodePtr node, const std::string& path, OpenFlags flags);
  Result<void> remove_locked(const std::string& path);
  Result<void> remove_tree_locked(const std::string& path);
  void sync_names(const Node& folder);
  void crash_node(Node& node, Random* keep);

  mutable std::mutex mutex_;
  uint64_t capacity_bytes_;
  NodePtr root_;
  std::list<NameChange> unsynced_names_;  // of all folders, in order
  uint64_t next_node_ = 1;
  uint64_t used_bytes_ = 0;
  uint64_t crashes_ = 0;  // an open file of an earlier life is dead
  uint64_t operations_ = 0;
  std::optional<uint64_t> fail_at_;  // the value of operations_ at which the disk fails
  LastOperation last_operation_ = LastOperation::kHasNoEffect;
  bool failing_ = false;
  bool frozen_ = false;
  bool nothing_cached_ = false;
  DiskSpeed speed_;
  Duration cost_ = Duration::zero();
  DiskCounters counters_;
};

}  // namespace cairn
