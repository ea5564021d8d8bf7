#include "tests/sim/kernel_run.h"

#include <algorithm>
#include <cerrno>
#include <fmt/format.h>

#include "tests/sim/workload_run.h"

namespace cairn {

namespace {
using namespace std::chrono_literals;
constexpr size_t kWorkersPerMount = 3;
constexpr size_t kFolders = 2;
constexpr size_t kNames = 4;
constexpr int64_t kDriftPpmMax = 500;
constexpr Duration kBoundWithFaults = 75s;  // request_timeout and what a stall may cost
constexpr Duration kBound = 15s;
constexpr Duration kEnd = 600s;
// A session lives so long that nothing comes of it.
constexpr Duration kShort = 5s;
constexpr Duration kErrorsAreTold = 90s;
constexpr Duration kDurableWithin = 5s;  // what is written, by itself

SimClusterOptions cluster_options(uint64_t seed, const WorkloadOptions& options) {
  SimClusterOptions cluster;
  std::unique_ptr<Random> random = make_seeded_random(seed ^ 0x4e12);
  cluster.mounts = 2 + random->below(2);
  cluster.kernels = true;
  cluster.simulator.latency_max = std::chrono::microseconds(100 + random->below(4000));
  cluster.simulator.pool_max = std::chrono::microseconds(50 + random->below(2000));
  if (options.events && options.story) cluster.simulator.trace = options.story;
  cluster.masters = options.masters != 0 ? options.masters : (random->chance(1, 2) ? 1 : 3);
  cluster.drift_ppm_max = kDriftPpmMax;
  return cluster;
}

SimKernelSettings kernel_settings(uint64_t seed) {
  std::unique_ptr<Random> random = make_seeded_random(seed ^ 0x6e1);
  SimKernelSettings settings;
  settings.epoch = random->chance(1, 2);
  settings.parallel_dirops = random->chance(3, 4);
  settings.direct_mmap = random->chance(1, 2);
  settings.kills_privileges = random->chance(3, 4);
  settings.readdirplus = random->chance(3, 4);
  settings.checks_setattr = settings.epoch || random->chance(1, 2);
  settings.late_one_in = 5 + random->below(100);
  settings.evicts_one_in = random->chance(1, 2) ? 0 : 20 + random->below(200);
  return settings;
}
}  // namespace

RunResult run_kernel_seed(uint64_t seed, const WorkloadOptions& options) {
  KernelRun run(seed, options);
  return run.run();
}

KernelRun::KernelRun(uint64_t seed, const WorkloadOptions& options)
    : options_(options),
      seed_(seed),
      random_(make_seeded_random(seed)),
      settings_(kernel_settings(seed)),
      cluster_(seed, [&] {
        SimClusterOptions cluster = cluster_options(seed, options);
        cluster.on_mount = [this](size_t mount, World& world, FileSystem& fs) {
          auto process = std::make_unique<KernelMount>(world, fs, *kernel(mount));
          mounted_[mount].process = process.get();
          return process;
        };
        return cluster;
      }()) {
  for (size_t folder = 0; folder < kFolders; ++folder) {
    for (size_t name = 0; name < kNames; ++name)
      slots_.push_back({.folder = folder, .name = std::string(1, static_cast<char>('a' + name))});
  }
  mounted_.resize(cluster_.mounts());
  for (size_t mount = 0; mount < cluster_.mounts(); ++mount) {
    for (size_t i = 0; i < kWorkersPerMount; ++i)
      workers_.push_back({.mount = mount, .left = options_.operations});
  }
}

void KernelRun::fail(const std::string& reason) {
  if (failed()) return;
  failure_ = reason;
  tell("FAILED: " + reason);
}

void KernelRun::tell(const std::string& line) {
  cluster_.simulator().note(line);
  if (!options_.story) return;
  options_.story(fmt::format("{:12.6f} {}", std::chrono::duration<double>(now().time_since_epoch()).count(), line));
}

SimKernel* KernelRun::kernel(size_t mount) {
  SimNode& node = cluster_.kernel_node(mount);
  return node.running() ? node.program<SimKernel>() : nullptr;
}

Duration KernelRun::some(Duration most) {
  return Duration(static_cast<int64_t>(1 + random_->below(static_cast<uint64_t>(most.count()))));
}

// ---------------------------------------------------------------- running

void KernelRun::start_workers(size_t mount) {
  for (size_t i = 0; i < workers_.size(); ++i) {
    Worker& worker = workers_[i];
    if (worker.mount != mount || worker.running || worker.left == 0) continue;
    worker.running = true;
    cluster_.kernel_node(mount).spawn(work(i));
  }
}

bool KernelRun::work_left() const {
  return std::ranges::any_of(workers_, [](const Worker& worker) { return worker.left > 0 || worker.running; });
}

void KernelRun::watch() {
  for (size_t mount = 0; mount < mounted_.size(); ++mount) {
    const Mounted& mounted = mounted_[mount];
    if (mounted.process && mounted.process->gave_up()) fail("a notification is stuck on mount" + std::to_string(mount));
    if (mounted.process && !mounted.process->failure().empty()) fail(mounted.process->failure());
    if (mounted.ill) data_may_be_lost(mount, {});  // what it writes meanwhile
    if (mounted.stopped && !cluster_.mount_node(mount).paused() && kernel(mount) &&
        kernel(mount)->answers() > mounted.answers) {
      tell("mount" + std::to_string(mount) + " has answered");
      mounted_[mount].stopped = false;
    }
  }
  Duration bound = options_.faults == 0 ? kBound : kBoundWithFaults;
  for (const auto& [number, call] : calls_) {
    if (now() - call->begin <= bound) continue;
    fail(fmt::format("call {} ({}) has not ended after {} s; requests without an answer:{}", number, call->what,
                     bound / 1s, kernel(call->mount)->waiting()));
  }
}

bool KernelRun::run_for(Duration duration) {
  Simulator& simulator = cluster_.simulator();
  TimePoint end = now() + duration;
  while (now() < end && !failed()) {
    TimePoint until = std::min(end, now() + 1s);
    if (!later_.empty()) until = std::min(until, std::max(later_.begin()->first, now()));
    auto stop = [this] {
      return failed() || std::ranges::any_of(mounted_, [this](const Mounted& mounted) {
               auto mount = static_cast<size_t>(&mounted - mounted_.data());
               return mounted.stopped && !cluster_.mount_node(mount).paused() && kernel(mount) &&
                      kernel(mount)->answers() > mounted.answers;
             });
    };
    if (until > now()) simulator.run_until(stop, until - now());
    while (!later_.empty() && later_.begin()->first <= now()) {
      std::function<void()> action = std::move(later_.begin()->second);
      later_.erase(later_.begin());
      action();
    }
    for (size_t mount = 0; mount < cluster_.mounts(); ++mount) {
      if (kernel(mount) && kernel(mount)->connected()) start_workers(mount);
    }
    watch();
  }
  return !failed();
}

void KernelRun::start_mount(size_t mount) {
  SimKernelSettings settings = settings_;
  if (options_.story) {
    settings.trace = [this, mount](const std::string& line) {
      options_.story(fmt::format("{:12.6f}     kernel{}: {}",
                                 std::chrono::duration<double>(now().time_since_epoch()).count(), mount, line));
    };
  }
  cluster_.kernel_node(mount).start([settings](World& world) { return std::make_shared<SimKernel>(world, settings); });
}

bool KernelRun::start() {
  for (size_t mount = 0; mount < cluster_.mounts(); ++mount)
    start_mount(mount);
  if (!cluster_.start()) return false;
  auto ready = [this] {
    for (size_t mount = 0; mount < cluster_.mounts(); ++mount) {
      if (!kernel(mount)->connected()) return false;
    }
    return true;
  };
  return cluster_.simulator().run_until(ready, 30s);
}

namespace {
Task<void> make_folders(SimKernel* kernel, std::shared_ptr<int> left) {
  for (size_t folder = 0; folder < kFolders; ++folder) {
    int error = co_await kernel->mkdir("/d" + std::to_string(folder));
    if (error == 0) --*left;
  }
}
}  // namespace

RunResult KernelRun::run() {
  std::string failure = at_end();
  result_.failure = failure;
  result_.trace_hash = cluster_.simulator().trace_hash();
  result_.masters = cluster_.wanted_masters().size();
  result_.events = cluster_.simulator().events();
  result_.simulated = now().time_since_epoch() - 1000s;
  return result_;
}

std::string KernelRun::at_end() {
  if (!start()) return "the cluster did not start";
  tell(
      fmt::format("started with {} mounts, {} masters; epoch={} parallel={} direct_mmap={} plus={} checks={} evicts={}",
                  cluster_.mounts(), cluster_.wanted_masters().size(), settings_.epoch, settings_.parallel_dirops,
                  settings_.direct_mmap, settings_.readdirplus, settings_.checks_setattr, settings_.evicts_one_in));
  auto left = std::make_shared<int>(kFolders);
  cluster_.kernel_node(0).spawn(make_folders(kernel(0), left));
  if (!cluster_.simulator().run_until([&] { return *left == 0; }, 30s)) return "the folders could not be made";
  TimePoint deadline = now() + kEnd;
  bool first = true;
  while ((first || work_left()) && !failed()) {
    first = false;
    run_for(some(500ms));
    if (!failed() && options_.faults != 0) next_fault();
    if (now() > deadline) fail("the workers have not ended after 600 s");
  }
  return failure_;
}

// ---------------------------------------------------------------- faults

bool KernelRun::may_fail(int error) {
  // ESTALE: what was open and had no name ended with the session.
  return (error == EIO || error == ESTALE) && now() < may_fail_until_;
}

// What the mount has written and may not be durable: that needs some time, with everybody there.
void KernelRun::data_may_be_lost(size_t mount, TimePoint calm_since) {
  for (auto& [inode, file] : files_) {
    auto written = file->written.find(mount);
    if (written == file->written.end()) continue;
    if (written->second == kNever || std::max(written->second, calm_since) + kDurableWithin > now()) file->lost = true;
  }
}

// The mount's process has ended: what its applications had asked for may have happened or not.
void KernelRun::abandon(size_t mount) {
  data_may_be_lost(mount, calm_at_);
  for (Worker& worker : workers_) {
    if (worker.mount != mount) continue;
    worker.running = false;
    worker.open.clear();
  }
  std::vector<CallPtr> gone;
  for (const auto& [number, call] : calls_) {
    if (call->mount == mount) gone.push_back(call);
  }
  for (const CallPtr& call : gone) {
    for (const Change& one : call->changes)
      one.target->unsure(one.change, now() + 30s);
    for (const auto& step : call->after)
      step();
    calls_.erase(call->number);
  }
}

void KernelRun::later(Duration after, std::function<void()> what) {
  TimePoint when = now() + after;
  calm_at_ = std::max(calm_at_, when);
  later_.emplace(when, std::move(what));
}

void KernelRun::crash_mount(size_t mount) {
  abandon(mount);
  mounted_[mount] = {};
  cluster_.mount_node(mount).crash(Crash::kProcess);
  cluster_.kernel_node(mount).crash(Crash::kProcess);
  later(some(3s), [this, mount] {
    tell("back: mount" + std::to_string(mount));
    start_mount(mount);
    cluster_.start_mount(mount);
  });
}

void KernelRun::ill_until(size_t mount, Duration duration) {
  mounted_[mount].ill = true;
  data_may_be_lost(mount, calm_at_);
  // Its session is over, at the latest, and it has heard of that.
  TimePoint well = now() + duration + 15s;
  may_fail_until_ = std::max(may_fail_until_, well + kErrorsAreTold);
  calm_at_ = std::max(calm_at_, well);
  later_.emplace(well, [this, mount] { mounted_[mount].ill = false; });
}

void KernelRun::stop_mount(size_t mount, Duration duration) {
  SimNode& node = cluster_.mount_node(mount);
  node.pause();
  if (duration > kShort) {
    ill_until(mount, duration);
    mounted_[mount].stopped = true;
  }
  later(duration, [this, mount, &node] {
    tell("goes on: mount" + std::to_string(mount));
    if (kernel(mount)) mounted_[mount].answers = kernel(mount)->answers();
    if (node.paused()) node.resume();
  });
}

void KernelRun::cut_mount(size_t mount, Duration duration) {
  SimNode& node = cluster_.mount_node(mount);
  if (duration > kShort) ill_until(mount, duration);
  for (size_t master : cluster_.wanted_masters())
    cluster_.simulator().block(node, cluster_.master(master));
  later(duration, [this, &node] {
    tell("unblocked: " + node.name());
    cluster_.simulator().unblock_all();
  });
}

// One at a time, and some time to get over it.
void KernelRun::next_fault() {
  if (now() < calm_at_ + quiet_time_) return;
  quiet_time_ = 500ms + some(4s);
  constexpr std::array<uint32_t, 7> kKinds = {kKillServer, kKillMaster, kKillMount, kPartition,
                                              kReset,      kPause,      kTransfer};
  uint32_t kind = kKinds[random_->below(kKinds.size())];
  if ((options_.faults & kind) == 0) return;
  size_t mount = random_->below(cluster_.mounts());
  if (!mounted_[mount].process || !cluster_.mount_node(mount).running()) return;
  std::vector<size_t> masters = cluster_.wanted_masters();
  size_t master = masters[random_->below(masters.size())];
  size_t server = random_->below(cluster_.servers());
  Duration duration = random_->chance(1, 2) ? some(kShort) : 6s + some(16s);
  ++result_.faults;
  tell(fmt::format("fault: {} (mount{}, master{}, server{}, {} ms)", fault_names(kind), mount, master, server,
                   duration / 1ms));
  switch (kind) {
    case kKillServer:
      cluster_.server(server).crash(Crash::kProcess);
      return later(some(2s), [this, server] { cluster_.start_server(server); });
    case kKillMaster:
      masters_changed_.push_back(now());
      cluster_.master(master).crash(Crash::kProcess);
      return later(some(kShort), [this, master] { cluster_.start_master(master); });
    case kKillMount:
      return crash_mount(mount);
    case kPartition:
      return cut_mount(mount, duration);
    case kReset:
      return cluster_.simulator().reset_connections(cluster_.mount_node(mount), cluster_.master(master));
    case kPause:
      return stop_mount(mount, duration);
    default:
      masters_changed_.push_back(now());
      if (masters.size() > 1) cluster_.administrator().spawn(cluster_.transfer_leadership(MasterId{}));
  }
}

}  // namespace cairn
