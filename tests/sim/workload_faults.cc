// WorkloadRun: what goes wrong.
#include <algorithm>

#include "common/base/units.h"
#include "tests/sim/workload_run.h"

namespace cairn {

namespace {
// Less than a store keeps in reserve (StoreOptions): it takes no more from writers, and can still commit and delete.
constexpr uint64_t kLeftOnFullDisk = 128 * kMiB;
// What a writer had buffered when the disk was full is refused until it has been told of that.
constexpr Duration kFullIsTold = 75s;
constexpr Duration kSessionIsOver = 15s;

Crash power_cut(Random& random) {
  return random.chance(1, 2) ? Crash::kPower : Crash::kPowerKeepsPart;
}
}  // namespace

Duration WorkloadRun::some_time(Duration most) {
  return Duration(static_cast<int64_t>(1 + random_->below(static_cast<uint64_t>(most.count()))));
}

void WorkloadRun::crash(SimNode& node, Crash kind) {
  if (!node.running()) return;
  node.crash(kind);
  for (size_t mount = 0; mount < cluster_.mounts(); ++mount) {
    if (&node != &cluster_.mount_node(mount)) continue;
    abandon(mount);
    // Removals wait for its session to end, and each new leader gives that its full time again.
    if (group() && !rough_) calm_at_ = std::max(calm_at_, cluster_.simulator().now() + kSessionIsOver);
  }
}

void WorkloadRun::restart(SimNode& node) {
  ill_.erase(&node);
  if (node.paused()) node.resume();
  if (stopping_.erase(&node) != 0) crash(node, Crash::kProcess);
  if (node.running()) return;
  if (std::optional<size_t> master = master_of(node); master && cluster_.wanted(*master))
    cluster_.start_master(*master);
  for (size_t i = 0; i < cluster_.servers(); ++i) {
    if (&node == &cluster_.server(i)) cluster_.start_server(i);
  }
  for (size_t i = 0; i < cluster_.mounts(); ++i) {
    if (&node == &cluster_.mount_node(i)) cluster_.start_mount(i);
  }
}

void WorkloadRun::restart_later(SimNode& node, Duration after) {
  ill_.insert(&node);
  TimePoint when = cluster_.simulator().now() + after;
  calm_at_ = std::max(calm_at_, when);
  later_.emplace(when, [this, &node] {
    tell("back: " + node.name());
    restart(node);
  });
}

SimNode& WorkloadRun::any_node(bool with_mounts) {
  std::vector<size_t> masters = cluster_.wanted_masters();
  size_t drawn = random_->below(masters.size() + cluster_.servers() + (with_mounts ? cluster_.mounts() : 0));
  if (drawn < masters.size()) return cluster_.master(masters[drawn]);
  drawn -= masters.size();
  if (drawn < cluster_.servers()) return cluster_.server(drawn);
  return cluster_.mount_node(drawn - cluster_.servers());
}

void WorkloadRun::cut_all_power() {
  Crash kind = power_cut(*random_);
  for (size_t i = 0; i < cluster_.mounts(); ++i)
    crash(cluster_.mount_node(i), kind);
  for (size_t i = 0; i < cluster_.servers(); ++i)
    crash(cluster_.server(i), kind);
  for (size_t i = 0; i < cluster_.masters(); ++i)
    crash(cluster_.master(i), kind);
}

void WorkloadRun::heal_all() {
  later_.clear();
  cluster_.simulator().unblock_all();
  for (size_t i = 0; i < cluster_.servers(); ++i)
    cluster_.server(i).memory_disk().set_capacity(SimClusterOptions{}.chunkserver_disk_bytes);
  for (size_t i = 0; i < cluster_.masters(); ++i)
    restart(cluster_.master(i));
  for (size_t i = 0; i < cluster_.servers(); ++i)
    restart(cluster_.server(i));
  for (size_t i = 0; i < cluster_.mounts(); ++i)
    restart(cluster_.mount_node(i));
  ill_.clear();
}

bool WorkloadRun::may_be_full() {
  return cluster_.simulator().now() < full_until_;
}

// What is not durable may have failed in the background: the next write, fsync or close will say so.
bool WorkloadRun::may_be_lost(const Object& object) {
  return (rough_ || may_be_full()) && !object.model.clean();
}

void WorkloadRun::fill_disk(SimNode& node) {
  MemoryDisk& disk = node.memory_disk();
  Result<DiskSpace> space = disk.space("/");
  if (!space) return;
  tell("fault: full " + node.name());
  disk.set_capacity(space->total_bytes - space->free_bytes + kLeftOnFullDisk);
  TimePoint when = cluster_.simulator().now() + some_time(5s);
  calm_at_ = std::max(calm_at_, when);
  full_until_ = std::max(full_until_, when + kFullIsTold);
  later_.emplace(when, [this, &node] {
    tell("room again: " + node.name());
    node.memory_disk().set_capacity(SimClusterOptions{}.chunkserver_disk_bytes);
  });
}

// One that is not zero, if one is found soon: segments are filled ahead with zeros that nobody reads.
void WorkloadRun::flip_byte(SimNode& node) {
  MemoryDisk& disk = node.memory_disk();
  const std::string folder = "/data/log";
  Result<std::vector<std::string>> names = disk.list(folder);
  if (!names || names->empty()) return;
  std::string path = folder + "/" + (*names)[random_->below(names->size())];
  Result<uint64_t> size = disk.file_size(path);
  Result<std::unique_ptr<File>> file = disk.open(path, OpenFlags{});
  if (!size || *size == 0 || !file) return;
  for (int tries = 0; tries < 200; ++tries) {
    uint64_t offset = random_->below(std::min<uint64_t>(*size, uint64_t{1} << (12 + random_->below(16))));
    std::byte byte{};
    Result<size_t> read = (*file)->read(offset, std::span(&byte, 1));
    if (!read || *read == 0 || byte == std::byte{0}) continue;
    tell(fmt::format("fault: rot {} {} at {}", node.name(), path, offset));
    Result<void> flipped = disk.flip_byte(path, offset);
    if (flipped) ++result_.faults;
    return;
  }
}

void WorkloadRun::cut_or_reset(uint32_t kind, Duration most) {
  SimNode& a = any_node(true);
  SimNode& b = any_node(true);
  if (&a == &b) return;
  tell("fault: " + fault_names(kind) + " " + a.name() + " " + b.name());
  if (kind == kReset) {
    cluster_.simulator().reset_connections(a, b);
    return;
  }
  if (random_->chance(1, 2)) {
    cluster_.simulator().block(a, b);
  } else {
    cluster_.simulator().block_one_way(a, b);
  }
  TimePoint when = cluster_.simulator().now() + some_time(most);
  calm_at_ = std::max(calm_at_, when);
  later_.emplace(when, [this, &a, &b] {
    tell("unblocked: " + a.name() + " " + b.name());
    cluster_.simulator().unblock(a, b);
  });
}

void WorkloadRun::next_fault() {
  // Without kRough one thing is broken at a time, and the world has some time to get over it.
  TimePoint now = cluster_.simulator().now();
  if (now < calm_at_ + (rough_ ? Duration::zero() : quiet_time_)) return;
  quiet_time_ = 2s + some_time(4s);
  uint64_t drawn = random_->below(kKindsOfFaults + (group() ? kKindsOfGroup : 0));
  uint32_t kind = 1u << (drawn < kKindsOfFaults ? drawn : drawn + 1);  // kRough is between them
  if ((options_.faults & kind) == 0) return;
  if (kind == kRot) {
    // Together with servers that are away it could be the last copy.
    if (!rough_) flip_byte(cluster_.server(seed_ % cluster_.servers()));
    return;
  }
  Duration most = rough_ ? Duration(12s) : Duration(5s);
  if (kind > kRough) return group_fault(kind, most);
  SimNode* node = &some_master();
  if (kind == kKillServer || kind == kPowerServer) node = &cluster_.server(random_->below(cluster_.servers()));
  if (kind == kKillMount) node = &cluster_.mount_node(random_->below(cluster_.mounts()));
  if (kind == kPause) node = &any_node(false);
  ++result_.faults;
  if (kind == kFull) return fill_disk(cluster_.server(random_->below(cluster_.servers())));
  if (kind == kPowerAll) {
    tell("fault: power-all");
    heal_all();
    cut_all_power();
    for (size_t i : cluster_.wanted_masters())
      restart_later(cluster_.master(i), some_time(2s));
    for (size_t i = 0; i < cluster_.servers(); ++i)
      restart_later(cluster_.server(i), some_time(2s));
    for (size_t i = 0; i < cluster_.mounts(); ++i)
      restart_later(cluster_.mount_node(i), some_time(2s));
    return;
  }
  if (kind == kPartition || kind == kReset) return cut_or_reset(kind, most);
  if (!node->running() || node->paused() || ill_.contains(node)) return;
  tell("fault: " + fault_names(kind) + " " + node->name());
  if (kind == kPause) {
    node->pause();
  } else {
    crash(*node, kind == kPowerServer || kind == kPowerMaster ? power_cut(*random_) : Crash::kProcess);
  }
  restart_later(*node, random_->chance(1, 3) ? some_time(100ms) : some_time(most));
}

}  // namespace cairn
