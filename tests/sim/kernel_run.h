// KernelRun: one seed's run of two or three mounts with kernels (tests/support/sim_kernel.h): applications that all
// work on the same few names and files, faults, and a history that everything that is seen is judged by. Each call must
// end within its bound. Private to tests/sim; random_workload.h has what is public.
//
// One thread. An application is a task on its kernel's node. Where a mount's process is killed its machine is too: its
// applications are gone, and what they had begun may have happened or not.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/kernel_history.h"
#include "tests/sim/random_workload.h"
#include "tests/support/sim_kernel_mount.h"

namespace cairn {

class KernelRun {
 public:
  KernelRun(uint64_t seed, const WorkloadOptions& options);
  RunResult run();

 private:
  using FilePtr = SimKernel::FilePtr;
  using FileHistoryPtr = std::shared_ptr<FileHistory>;  // shared by the map and calls under way
  struct Slot {                                         // a name
    size_t folder = 0;
    std::string name;
    Register value{0};       // the inode; 0: none
    uint32_t changing = 0;   // makes or removes
    bool exclusive = false;  // is renamed, linked
  };
  struct Change {
    Register* target = nullptr;
    Register::Change change = 0;
  };
  // A call under way: what it may change, when it began.
  struct Call {
    uint64_t number = 0;
    size_t mount = 0;
    std::string what;
    TimePoint begin{};
    bool may_be_old = false;  // the process was stopped: pages may be old
    std::vector<Change> changes;
    std::vector<std::function<void()>> after;  // whatever comes of it
  };
  using CallPtr = std::shared_ptr<Call>;  // shared by the run and the task that makes it
  struct Worker {
    size_t mount = 0;
    uint32_t left = 0;
    bool running = false;
    std::vector<FilePtr> open;
  };

  // kernel_run.cc
  std::string at_end();
  bool start();
  void start_mount(size_t mount);
  void start_workers(size_t mount);
  bool work_left() const;
  bool run_for(Duration duration);
  void watch();
  void abandon(size_t mount);
  void fail(const std::string& reason);
  void tell(const std::string& line);
  bool failed() const { return !failure_.empty(); }
  SimKernel* kernel(size_t mount);
  TimePoint now() { return cluster_.simulator().now(); }
  Duration some(Duration most);
  void next_fault();
  void crash_mount(size_t mount);
  void stop_mount(size_t mount, Duration duration);
  void cut_mount(size_t mount, Duration duration);
  void data_may_be_lost(size_t mount, TimePoint calm_since);
  void ill_until(size_t mount, Duration duration);
  void later(Duration after, std::function<void()> what);
  bool may_fail(int error);

  // kernel_ops.cc
  Task<void> work(size_t worker);
  Task<void> one(Worker& worker);
  CallPtr begin(size_t mount, std::string what);
  void change(const CallPtr& call, Register& target, uint64_t value, std::vector<uint64_t> on_the_way = {});
  // Settles what the call may have changed: it has (0), it has not (one of these errors), or it may have. `made`: the
  // inode that its first change is to. False if that is not sure, or the error is none that may come.
  bool end(const CallPtr& call, int error, std::initializer_list<int> refused, uint64_t made = 0);
  void seen_name(const CallPtr& call, Slot& slot, int error, uint64_t inode);
  void seen_attributes(const CallPtr& call, const SimKernel::Stat& stat);
  void seen_bytes(const CallPtr& call, FileHistory& file, uint64_t offset, const std::string& data);
  void seen_end(const CallPtr& call, FileHistory& file, uint64_t end, bool ends);
  FileHistoryPtr file_of(uint64_t inode);
  Slot& any_slot();
  std::string path(const Slot& slot) const;
  FilePtr any_open(Worker& worker);
  Task<void> do_create(Worker& worker);
  Task<void> do_open(Worker& worker);
  Task<void> do_close(Worker& worker);
  Task<void> do_stat(Worker& worker);
  Task<void> do_list(Worker& worker);
  Task<void> do_remove(Worker& worker);
  Task<void> do_rename(Worker& worker, bool link);
  Task<void> do_read(Worker& worker);
  Task<void> do_overwrite(Worker& worker, bool mapped);
  Task<void> do_resize(Worker& worker);
  Task<void> do_fsync(Worker& worker);
  Task<void> do_chmod(Worker& worker);

  const WorkloadOptions options_;
  const uint64_t seed_;
  std::unique_ptr<Random> random_;
  SimKernelSettings settings_;
  SimCluster cluster_;
  std::vector<Slot> slots_;
  std::map<uint64_t, FileHistoryPtr> files_;
  std::set<uint64_t> known_;  // inodes of files and directories that somebody has seen
  std::vector<Worker> workers_;
  std::map<uint64_t, CallPtr> calls_;
  uint64_t next_call_ = 1;
  struct Mounted {
    KernelMount* process = nullptr;
    bool stopped = false;  // for long, and has not answered since: its kernel may have old pages
    uint64_t answers = 0;  // given before it went on
    bool ill = false;      // its session may end, and what is not durable be lost
  };
  std::vector<Mounted> mounted_;
  std::multimap<TimePoint, std::function<void()>> later_;
  TimePoint calm_at_{};
  Duration quiet_time_{};
  TimePoint may_fail_until_{};  // a session may have ended, and with it what was not durable
  std::vector<TimePoint> masters_changed_;
  uint64_t next_write_ = 1;
  std::string failure_;
  RunResult result_;
};

}  // namespace cairn
