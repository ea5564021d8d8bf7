// WorkloadRun: the state of one run of the random workload (random_workload.h): the model of names and files, the
// workers, the faults. Private to tests/sim.
//
// One thread. Workers are tasks on the mounts' nodes: a crash of a mount destroys them, and abandon() takes note of
// what they had begun.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/sim/file_model.h"
#include "tests/sim/random_workload.h"
#include "tests/support/sim_cluster.h"

namespace cairn {

Task<void> sleep_on(World& world, Duration duration);

class WorkloadRun {
 public:
  WorkloadRun(uint64_t seed, const WorkloadOptions& options);
  RunResult run();

 private:
  struct Object {
    uint64_t number = 0;
    bool directory = false;
    InodeId inode;  // none: its creation was not answered
    FileModel model;
    bool busy = false;
    bool unsure = false;  // a crash or an error: what it holds is to be looked at
    TimePoint changed{};
    std::optional<size_t> owner;  // the mount that wrote last
    struct Open {
      FileSystem::HandleId handle = 0;
      uint64_t life = 0;
    };
    std::array<Open, 2> open;
  };
  using ObjectPtr = std::shared_ptr<Object>;
  struct Slot {
    size_t folder = 0;
    std::string name;
    ObjectPtr now;
    bool busy = false;
    TimePoint changed{};    // when it became `now`
    size_t changed_by = 0;  // the mount
  };
  struct Change {
    Slot* slot = nullptr;
    ObjectPtr before;
    ObjectPtr after;
  };
  struct Worker {
    size_t mount = 0;
    uint32_t left = 0;
    bool running = false;
    std::vector<Change> changes;  // of names, asked for and not yet answered
    ObjectPtr object;             // being worked on
  };
  // Names an operation while it runs, and checks its bound.
  class Running {
   public:
    Running(WorkloadRun& run, std::string what);
    ~Running();
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

   private:
    WorkloadRun& run_;
    uint64_t number_;
    TimePoint begin_;
  };

  // workload_run.cc
  void fail(const std::string& reason);
  void tell(const std::string& line);
  void start_workers(size_t mount);
  bool work_left() const;
  void abandon(size_t mount);
  void watch_bounds();
  bool run_for(Duration duration);
  bool wait_ready(const std::string& when);
  std::string at_end();
  std::string path(const Slot& slot) const;
  bool failed() const { return !failure_.empty(); }

  // workload_faults.cc
  void next_fault();
  void cut_or_reset(uint32_t kind, Duration most);
  void heal_all();
  void crash(SimNode& node, Crash kind);
  void restart_later(SimNode& node, Duration after);
  void restart(SimNode& node);
  SimNode& any_node(bool with_mounts);
  Duration some_time(Duration most);
  void cut_all_power();
  void fill_disk(SimNode& node);
  void flip_byte(SimNode& node);
  bool may_be_full();
  bool may_be_lost(const Object& object);

  // workload_masters.cc
  bool group() const { return cluster_.masters() > 1; }
  SimNode& some_master();
  std::optional<size_t> master_of(const SimNode& node);
  void group_fault(uint32_t kind, Duration most);
  void isolate(size_t master, Duration most);
  void kill_most(Duration most);
  void stop_master(size_t master, Duration most);
  void change_members();
  Task<void> replace_master(size_t old, size_t fresh, bool dead);
  Task<void> hand_over(MasterId to);
  bool masters_are_open();
  void compare_states();
  bool masters_become_equal();
  std::string masters_said();

  // workload_ops.cc
  Task<void> work(Worker& worker);
  Task<void> one(FileSystem& fs, Worker& worker);
  Task<void> do_create(FileSystem& fs, Worker& worker, Slot& slot, bool folder);
  Task<void> do_remove(FileSystem& fs, Worker& worker, Slot& slot);
  Task<void> do_rename(FileSystem& fs, Worker& worker, Slot& from, Slot& to);
  Task<void> do_lookup(FileSystem& fs, Worker& worker, Slot& slot);
  Task<void> drop_handle(FileSystem& fs, Worker& worker, ObjectPtr object);
  Task<void> do_write(FileSystem& fs, Worker& worker, ObjectPtr object);
  Task<void> do_truncate(FileSystem& fs, Worker& worker, ObjectPtr object);
  Task<void> do_read(FileSystem& fs, Worker& worker, ObjectPtr object);
  Task<void> do_sync(FileSystem& fs, Worker& worker, ObjectPtr object);
  Task<void> do_close(FileSystem& fs, Worker& worker, ObjectPtr object);
  Task<void> on_file(FileSystem& fs, Worker& worker, ObjectPtr object);
  Task<Result<FileSystem::HandleId>> handle_of(FileSystem& fs, size_t mount, ObjectPtr object);
  // True if the change was made. `error`: what came; `expected`: what the model says.
  bool end_names(Worker& worker, const std::string& what, std::optional<Error> error,
                 std::optional<ErrorCode> expected);
  // False (and a failure, unless the faults of this run allow it) if it was an error.
  bool answered(const std::string& what, const std::optional<Error>& error);
  bool may_use(const Object& object, size_t mount);

  // workload_check.cc
  Task<Result<void>> make_folders(FileSystem& fs);
  Task<Result<void>> settle_names(FileSystem& fs, size_t mount);
  Task<Result<void>> settle_file(FileSystem& fs, ObjectPtr object);
  Task<Result<void>> read_and_adopt(FileSystem& fs, FileSystem::HandleId handle, ObjectPtr object);
  Task<Result<void>> settle_all(FileSystem& fs, size_t mount);
  Task<Result<void>> verify_all(FileSystem& fs);
  Task<Result<void>> verify_file(FileSystem& fs, ObjectPtr object, std::string name);
  bool do_on(size_t mount, const std::string& what, std::function<Task<Result<void>>(FileSystem&)> operation);

  WorkloadOptions options_;
  uint64_t seed_;
  std::unique_ptr<Random> random_;
  bool rough_ = false;
  std::string failure_;
  RunResult result_;
  uint64_t next_write_ = 1;
  uint64_t next_object_ = 1;
  uint64_t next_running_ = 1;
  std::map<uint64_t, std::pair<std::string, TimePoint>> running_;
  std::vector<InodeId> folders_;
  std::deque<Slot> slots_;
  std::vector<ObjectPtr> objects_;
  std::vector<std::vector<Change>> unsure_names_;
  std::array<uint64_t, 2> lives_{1, 1};
  std::deque<Worker> workers_;
  std::multimap<TimePoint, std::function<void()>> later_;
  TimePoint calm_at_{};
  Duration quiet_time_ = std::chrono::seconds(1);  // after a fault is over, without kRough
  TimePoint full_until_{};                         // some disk was full until then
  std::set<SimNode*> ill_;
  std::set<SimNode*> stopping_;          // ended in their own time; what is left of them has to be ended
  bool changing_ = false;                // who is a master
  std::map<uint64_t, uint64_t> states_;  // the state's hash after an entry of the log
  SimCluster cluster_;
};

}  // namespace cairn
