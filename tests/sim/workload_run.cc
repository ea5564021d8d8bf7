#include "tests/sim/workload_run.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <utility>

#include "common/base/units.h"

namespace cairn {

namespace {
constexpr size_t kWorkersPerMount = 2;
constexpr size_t kFolders = 3;
constexpr size_t kNames = 5;
constexpr int64_t kDriftPpmMax = 500;  // a poor quartz has 100
constexpr Duration kWallErrorMax = 20s;
constexpr Duration kChangeEnds = 120s;                 // when everything is well
constexpr Duration kBound = std::chrono::seconds(75);  // request_timeout and what a stall may cost
constexpr std::string_view kNameOfFault[] = {"kill-server", "kill-master", "kill-mount", "power-server", "power-master",
                                             "power-all",   "partition",   "reset",      "pause",        "full",
                                             "rot",         "rough",       "transfer",   "members",      "isolate",
                                             "wall",        "kill-most",   "stop-master"};

SimClusterOptions cluster_options(uint64_t seed, const WorkloadOptions& options) {
  SimClusterOptions cluster;
  std::unique_ptr<Random> random = make_seeded_random(seed ^ 0x5eed);
  cluster.mounts = 1 + random->below(2);
  cluster.simulator.latency_max = std::chrono::microseconds(100 + random->below(4000));
  cluster.simulator.pool_max = std::chrono::microseconds(50 + random->below(3000));
  if (options.events && options.story) cluster.simulator.trace = options.story;
  cluster.masters = options.masters != 0 ? options.masters : masters_of(seed);
  if (cluster.masters == 1) return cluster;
  cluster.spare_masters = 1;
  cluster.simulator.pool_works_late = random->chance(1, 2);
  cluster.drift_ppm_max = kDriftPpmMax;
  cluster.wall_error_max = kWallErrorMax;
  // Short enough logs for checkpoints to be sent, too.
  constexpr std::array<uint64_t, 3> kTrailing = {5, 50, 10'000};
  cluster.master.log_trailing_entries = kTrailing[random->below(kTrailing.size())];
  cluster.master.checkpoint_log_bytes = 16 * kKiB;
  cluster.master.log_segment_bytes = kMiB;
  return cluster;
}
}  // namespace

size_t masters_of(uint64_t seed) {
  constexpr std::array<size_t, 4> kMasters = {1, 3, 3, 5};
  return kMasters[make_seeded_random(seed ^ 0x3a57e25)->below(kMasters.size())];
}

bool parse_faults(std::string_view text, uint32_t& faults) {
  faults = 0;
  while (!text.empty()) {
    size_t comma = text.find(',');
    std::string_view word = text.substr(0, comma);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
    auto found = std::ranges::find(kNameOfFault, word);
    if (word == "all") {
      faults = kAllFaults;
    } else if (word == "default") {
      faults |= default_faults();
    } else if (found != std::end(kNameOfFault)) {
      faults |= 1u << (found - std::begin(kNameOfFault));
    } else if (word != "none") {
      return false;
    }
  }
  return true;
}

std::string fault_names(uint32_t faults) {
  std::string text;
  for (size_t i = 0; i < std::size(kNameOfFault); ++i) {
    if (faults >> i & 1) text += (text.empty() ? "" : ",") + std::string(kNameOfFault[i]);
  }
  return text.empty() ? "none" : text;
}

uint32_t default_faults() {
  return kAllFaults;
}

RunResult run_seed(uint64_t seed, const WorkloadOptions& options) {
  WorkloadRun run(seed, options);
  return run.run();
}

// ---------------------------------------------------------------- bookkeeping

WorkloadRun::Running::Running(WorkloadRun& run, std::string what)
    : run_(run), number_(run.next_running_++), begin_(run.cluster_.simulator().now()) {
  run.running_[number_] = {std::move(what), begin_};
  ++run.result_.operations;
}

WorkloadRun::Running::~Running() {
  run_.result_.longest = std::max(run_.result_.longest, run_.cluster_.simulator().now() - begin_);
  run_.running_.erase(number_);
}

WorkloadRun::WorkloadRun(uint64_t seed, const WorkloadOptions& options)
    : options_(options),
      seed_(seed),
      random_(make_seeded_random(seed)),
      rough_((options.faults & kRough) != 0 && seed % 4 == 3),
      cluster_(seed, cluster_options(seed, options)) {
  for (size_t folder = 0; folder < kFolders; ++folder) {
    for (size_t name = 0; name < kNames; ++name)
      slots_.push_back({.folder = folder,
                        .name = std::string(1, static_cast<char>('a' + name)),
                        .now = {},
                        .busy = false,
                        .changed = {},
                        .changed_by = 0});
  }
  for (size_t mount = 0; mount < cluster_.mounts(); ++mount) {
    for (size_t i = 0; i < kWorkersPerMount; ++i) {
      Worker worker;
      worker.mount = mount;
      worker.left = options_.operations * (group() ? 2 : 1);  // a change of the group takes its time
      workers_.push_back(std::move(worker));
    }
  }
}

void WorkloadRun::fail(const std::string& reason) {
  if (failed()) return;
  failure_ = reason;
  tell("FAILED: " + reason);
}

void WorkloadRun::tell(const std::string& line) {
  cluster_.simulator().note(line);
  if (!options_.story) return;
  auto micro =
      std::chrono::duration_cast<std::chrono::microseconds>(cluster_.simulator().now().time_since_epoch()).count();
  options_.story(fmt::format("{:12.6f} {}", static_cast<double>(micro) / 1e6, line));
}

std::string WorkloadRun::path(const Slot& slot) const {
  return "/d" + std::to_string(slot.folder) + "/" + slot.name;
}

void WorkloadRun::start_workers(size_t mount) {
  for (Worker& worker : workers_) {
    if (worker.mount != mount || worker.running || worker.left == 0) continue;
    worker.running = true;
    cluster_.mount_node(mount).spawn(work(worker));
  }
}

bool WorkloadRun::work_left() const {
  return std::ranges::any_of(workers_, [](const Worker& worker) { return worker.left > 0 || worker.running; });
}

// The mount's process has ended: what its workers had asked for may have happened or not.
void WorkloadRun::abandon(size_t mount) {
  ++lives_[mount];
  for (Worker& worker : workers_) {
    if (worker.mount != mount) continue;
    worker.running = false;
    if (!worker.changes.empty()) unsure_names_.push_back(std::exchange(worker.changes, {}));
    if (worker.object) worker.object->busy = false;
    worker.object.reset();
  }
  for (const ObjectPtr& object : objects_) {
    if (object->owner != mount) continue;
    object->owner.reset();
    object->changed = cluster_.simulator().now();
    if (!object->model.clean()) object->unsure = true;
  }
}

void WorkloadRun::watch_bounds() {
  if (!cluster_.fatal().empty()) fail(cluster_.fatal());
  if (group()) compare_states();
  for (const auto& [number, running] : running_) {
    Duration took = cluster_.simulator().now() - running.second;
    Duration bound = rough_ ? 2 * kBound : kBound;
    if (took > bound) fail("'" + running.first + "' has not ended after " + std::to_string(took / 1s) + " s");
  }
}

// Runs the world and what is planned in it; false once something has failed.
bool WorkloadRun::run_for(Duration duration) {
  Simulator& simulator = cluster_.simulator();
  TimePoint end = simulator.now() + duration;
  while (simulator.now() < end && !failed()) {
    TimePoint until = std::min(end, simulator.now() + 1s);
    if (!later_.empty()) until = std::min(until, std::max(later_.begin()->first, simulator.now()));
    if (until > simulator.now()) simulator.run_until([this] { return failed(); }, until - simulator.now());
    while (!later_.empty() && later_.begin()->first <= simulator.now()) {
      std::function<void()> action = std::move(later_.begin()->second);
      later_.erase(later_.begin());
      action();
    }
    for (size_t mount = 0; mount < cluster_.mounts(); ++mount) {
      if (cluster_.file_system(mount)) start_workers(mount);
    }
    watch_bounds();
  }
  return !failed();
}

bool WorkloadRun::wait_ready(const std::string& when) {
  auto ready = [this] {
    bool all = masters_are_open() && cluster_.registered_servers() == cluster_.servers();
    for (size_t mount = 0; mount < cluster_.mounts(); ++mount)
      all = all && cluster_.file_system(mount);
    return all;
  };
  if (!cluster_.simulator().run_until(ready, 60s)) fail("the cluster is not ready 60 s after " + when);
  return !failed();
}

// ---------------------------------------------------------------- the run

RunResult WorkloadRun::run() {
  std::string failure = at_end();
  result_.failure = failure_.empty() ? failure : failure_;
  result_.trace_hash = cluster_.simulator().trace_hash();
  result_.masters = cluster_.wanted_masters().size();
  result_.events = cluster_.simulator().events();
  result_.simulated = cluster_.simulator().now().time_since_epoch() - 1000s;
  return result_;
}

std::string WorkloadRun::at_end() {
  if (!cluster_.start()) return "the cluster did not start";
  tell(fmt::format("started with {} mounts{}{}", cluster_.mounts(),
                   group() ? fmt::format(", {} masters", cluster_.wanted_masters().size()) : "",
                   rough_ ? ", rough" : ""));
  bool made = do_on(0, "making folders", [this](FileSystem& fs) { return make_folders(fs); });
  if (!made) return failure_;
  TimePoint deadline = cluster_.simulator().now() + 600s;
  while (work_left() && !failed()) {
    run_for(some_time(700ms));
    if (!failed() && work_left()) next_fault();
    if (cluster_.simulator().now() > deadline) fail("the workers have not ended after 600 s");
  }
  if (failed()) return failure_;
  heal_all();
  if (!run_for(1ms) || !wait_ready("the end of all faults")) return failure_;
  for (TimePoint limit = cluster_.simulator().now() + kChangeEnds; changing_ && !failed();) {
    run_for(1s);
    if (cluster_.simulator().now() > limit) fail("the change of the group does not end");
  }
  if (failed()) return failure_;
  for (size_t mount = cluster_.mounts(); mount-- > 0;) {
    if (!do_on(mount, "settling", [this, mount](FileSystem& fs) { return settle_all(fs, mount); })) return failure_;
  }
  if (random_->chance(1, 2) && (options_.faults & kPowerAll) != 0) {
    tell("power cut of everything at the end");
    cut_all_power();
    heal_all();
    if (!run_for(1ms) || !wait_ready("the last power cut")) return failure_;
  }
  for (size_t mount = 0; mount < cluster_.mounts(); ++mount)
    do_on(mount, "verifying", [this](FileSystem& fs) { return verify_all(fs); });
  if (!failed() && group() && !masters_become_equal()) fail("the masters do not become equal:" + masters_said());
  return failure_;
}

}  // namespace cairn
