#include "tests/support/sim_cluster.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "fs/client/leader_finder.h"

namespace cairn {

namespace {

constexpr uint16_t kMasterPort = 9400;
constexpr uint16_t kServerPort = 9410;
constexpr Duration kChangeAttempt = std::chrono::seconds(20);  // asking again goes on where it stopped
constexpr Duration kChangeAgain = std::chrono::milliseconds(200);

// A program of the cluster: started by a task, so that starting may wait; the tasks go before what they use.
struct MasterProgram {
  MasterProgram(World& world, MasterSettings settings) : tasks(world.executor(), world.clock()) {
    tasks.spawn(run(*this, world, std::move(settings)));
  }
  static Task<void> run(MasterProgram& self, World& world, MasterSettings settings) {
    Result<std::unique_ptr<MasterServer>> started = co_await MasterServer::start(world, std::move(settings));
    if (started) {
      self.server = std::move(*started);
    } else {
      log_warning("sim.master_failed", "error={}", quoted(started.error().message()));
    }
  }
  std::unique_ptr<MasterServer> server;
  TaskGroup tasks;
};

// Changes the group of masters.
struct AdministratorProgram {
  AdministratorProgram(World& world, const std::vector<Address>& addresses)
      : masters(world, addresses, "cairn-admin"), tasks(world.executor(), world.clock()) {
    masters.start();
  }
  LeaderFinder masters;
  TaskGroup tasks;
};

struct ServerProgram {
  ServerProgram(World& world, ChunkServerSettings settings)
      : server(world, std::move(settings)), tasks(world.executor(), world.clock()) {
    tasks.spawn(run(*this));
  }
  static Task<void> run(ServerProgram& self) {
    Result<void> started = co_await self.server.start();
    if (!started) log_warning("sim.server_failed", "error={}", quoted(started.error().message()));
  }
  ChunkServer server;
  TaskGroup tasks;
};

struct MountProgram {
  using OnMount = std::function<std::unique_ptr<MountUser>(World&, FileSystem&)>;
  MountProgram(World& world, ClientOptions options, OnMount on_mount_in)
      : on_mount(std::move(on_mount_in)), tasks(world.executor(), world.clock()) {
    tasks.spawn(run(*this, world, std::move(options)));
  }
  ~MountProgram() {
    if (user) user->abandon();
    file_system.reset();
  }
  static Task<void> run(MountProgram& self, World& world, ClientOptions options) {
    while (!self.file_system) {  // a master that is not there yet comes
      Result<std::unique_ptr<FileSystem>> connected = co_await FileSystem::connect(world, options);
      if (connected) self.file_system = std::move(*connected);
    }
    if (self.on_mount) self.user = self.on_mount(world, *self.file_system);
  }
  OnMount on_mount;
  std::unique_ptr<MountUser> user;
  std::unique_ptr<FileSystem> file_system;
  TaskGroup tasks;
};

}  // namespace

SimNodeOptions SimCluster::node_options(SimNodeOptions options) {
  Random& random = simulator_.random();
  if (options_.drift_ppm_max > 0) {
    auto most = static_cast<uint64_t>(options_.drift_ppm_max);
    options.drift_ppm = static_cast<int64_t>(random.below(2 * most + 1)) - options_.drift_ppm_max;
  }
  if (options_.wall_error_max > Duration::zero()) {
    auto most = static_cast<uint64_t>(options_.wall_error_max.count());
    options.wall_error = Duration(static_cast<int64_t>(random.below(2 * most + 1))) - options_.wall_error_max;
  }
  return options;
}

SimCluster::SimCluster(uint64_t seed, SimClusterOptions options)
    : options_(std::move(options)), simulator_(seed, options_.simulator) {
  for (size_t i = 0; i < options_.masters + options_.spare_masters; ++i)
    masters_.push_back({.node = &simulator_.add_node(i == 0 ? "master" : "master" + std::to_string(i), node_options()),
                        .wanted = i < options_.masters});
  for (size_t i = 0; i < options_.chunkservers; ++i) {
    servers_.push_back(&simulator_.add_node("server" + std::to_string(i),
                                            node_options({.disk_bytes = options_.chunkserver_disk_bytes})));
  }
  for (size_t i = 0; i < options_.mounts; ++i) {
    SimNodeOptions machine = node_options();
    mounts_.push_back(&simulator_.add_node("mount" + std::to_string(i), machine));
    if (options_.kernels) kernels_.push_back(&simulator_.add_node("kernel" + std::to_string(i), machine));
  }
  if (masters_.size() > 1) administrator_ = &simulator_.add_node("admin", node_options());
}

// Programs go before the nodes that they run on.
SimCluster::~SimCluster() {
  std::vector<SimNode*> all = mounts_;
  all.insert(all.end(), kernels_.begin(), kernels_.end());
  all.insert(all.end(), servers_.begin(), servers_.end());
  if (administrator_) all.push_back(administrator_);
  for (const Master& master : masters_)
    all.push_back(master.node);
  for (SimNode* node : all) {
    if (node->running()) node->crash(Crash::kProcess);
  }
}

Address SimCluster::address_of(size_t i) const {
  return {.kind = Address::Kind::kTcp, .host_or_path = masters_[i].node->name(), .port = kMasterPort};
}

std::vector<size_t> SimCluster::wanted_masters() const {
  std::vector<size_t> all;
  for (size_t i = 0; i < masters_.size(); ++i) {
    if (masters_[i].wanted) all.push_back(i);
  }
  return all;
}

std::vector<Address> SimCluster::addresses() const {
  std::vector<Address> all;
  for (size_t i : wanted_masters())
    all.push_back(address_of(i));
  return all;
}

void SimCluster::start_master(size_t i) {
  MasterSettings settings = options_.master;
  settings.folder = "/master";
  settings.listen = master(i).name() + ":" + std::to_string(kMasterPort);
  settings.make_cluster = i == 0 && !group_made_;
  settings.join = !settings.make_cluster;
  settings.expected_servers = static_cast<uint32_t>(options_.chunkservers);
  settings.state.memory_store = true;
  settings.program = "cairn-master";
  settings.on_fatal = [this, i](const Error& error) {
    if (fatal_.empty()) fatal_ = master(i).name() + ": " + error.message();
  };
  master(i).start([settings](World& world) { return std::make_shared<MasterProgram>(world, settings); });
}

void SimCluster::start_server(size_t i) {
  ChunkServerSettings settings = options_.server;
  settings.folders = {"/data"};
  settings.listen = servers_[i]->name() + ":" + std::to_string(kServerPort);
  for (const Address& address : addresses())
    settings.masters.push_back(to_string(address));
  settings.store.kv = KvKind::kMemory;
  settings.program = "cairn-chunkserver";
  servers_[i]->start([settings](World& world) { return std::make_shared<ServerProgram>(world, settings); });
}

void SimCluster::start_mount(size_t i) {
  ClientOptions options = options_.client;
  options.masters = addresses();
  options.host = mounts_[i]->name();
  options.program = "cairn-sim";
  options.mountpoint = "/mnt/" + options.host;  // only mounts get leases
  MountProgram::OnMount on_mount;
  if (options_.on_mount) on_mount = [this, i](World& world, FileSystem& fs) { return options_.on_mount(i, world, fs); };
  mounts_[i]->start(
      [options, on_mount](World& world) { return std::make_shared<MountProgram>(world, options, on_mount); });
}

FileSystem* SimCluster::file_system(size_t i) {
  MountProgram* program = mounts_[i]->running() ? mounts_[i]->program<MountProgram>() : nullptr;
  return program ? program->file_system.get() : nullptr;
}

MasterServer* SimCluster::master_server(size_t i) {
  MasterProgram* program = master(i).running() ? master(i).program<MasterProgram>() : nullptr;
  return program ? program->server.get() : nullptr;
}

std::optional<size_t> SimCluster::leading_master() {
  std::optional<size_t> found;
  for (size_t i = 0; i < masters_.size(); ++i) {
    MasterServer* server = master_server(i);
    if (!server || !server->open() || !server->log().leading() || master(i).paused()) continue;
    if (!found || server->log().term() > master_server(*found)->log().term()) found = i;
  }
  return found;
}

ChunkServer* SimCluster::chunk_server(size_t i) {
  ServerProgram* program = servers_[i]->running() ? servers_[i]->program<ServerProgram>() : nullptr;
  return program ? &program->server : nullptr;
}

size_t SimCluster::registered_servers() {
  size_t count = 0;
  for (size_t i = 0; i < servers_.size(); ++i) {
    ChunkServer* server = chunk_server(i);
    count += server && server->reported_to() > 0;
  }
  return count;
}

bool SimCluster::wait_for_mount(size_t i, Duration limit) {
  return simulator_.run_until([&] { return file_system(i) != nullptr; }, limit);
}

// ---------------------------------------------------------------- the group of masters

Task<void> SimCluster::add_master(size_t i) {
  masters_[i].wanted = true;
  if (!master(i).running()) start_master(i);
  auto& administrator = *administrator_->program<AdministratorProgram>();
  for (;;) {
    TimePoint deadline = administrator_->clock().now() + kChangeAttempt;
    AddMasterRequest request{.address = to_string(address_of(i))};
    Result<AddMasterReply> added =
        co_await administrator.masters.ask_once(std::move(request), deadline, kChangeAttempt);
    if (added) co_return;
    log_info("sim.not_added", "master={} error={}", master(i).name(), quoted(added.error().message()));
    Result<void> slept = co_await administrator.tasks.sleep_for(kChangeAgain);
    if (!slept) co_return;
  }
}

// Nobody starts it any more, whatever becomes of it.
Task<void> SimCluster::remove_master(size_t i) {
  masters_[i].wanted = false;
  auto& administrator = *administrator_->program<AdministratorProgram>();
  for (;;) {
    TimePoint deadline = administrator_->clock().now() + kChangeAttempt;
    Result<MasterStatusReply> status = co_await administrator.masters.ask_once(MasterStatusRequest{}, deadline);
    if (status && status->leading) {
      auto member = std::ranges::find_if(status->members, [&](const auto& known) {
        Result<Address> address = parse_address(known.address);
        return address && *address == address_of(i);
      });
      if (member == status->members.end()) co_return;
      RemoveMasterRequest request{.master = member->master};
      Result<EmptyReply> removed =
          co_await administrator.masters.ask_once(std::move(request), deadline, kChangeAttempt);
      if (!removed)
        log_info("sim.not_removed", "master={} error={}", master(i).name(), quoted(removed.error().message()));
    }
    Result<void> slept = co_await administrator.tasks.sleep_for(kChangeAgain);
    if (!slept) co_return;
  }
}

Task<void> SimCluster::transfer_leadership(MasterId to) {
  auto& administrator = *administrator_->program<AdministratorProgram>();
  TimePoint deadline = administrator_->clock().now() + kChangeAttempt;
  auto done = co_await administrator.masters.ask_once(TransferLeadershipRequest{.to = to}, deadline, kChangeAttempt);
  if (!done) log_info("sim.not_transferred", "error={}", quoted(done.error().message()));
}

void SimCluster::stop_master(size_t i) {
  if (MasterServer* server = master_server(i)) master(i).spawn(server->stop());
}

void SimCluster::wipe_master(size_t i) {
  if (master(i).running()) master(i).crash(Crash::kPower);
  Result<void> removed = master(i).memory_disk().remove_tree("/master");
  if (removed) removed = master(i).memory_disk().sync_folder("/");
  CHECK(removed);
}

Task<void> SimCluster::add_all_masters(std::shared_ptr<bool> done) {
  std::vector<size_t> all = wanted_masters();
  for (size_t i : all) {
    if (i != 0) co_await add_master(i);
  }
  *done = true;
}

bool SimCluster::make_group() {
  std::vector<Address> known = addresses();
  administrator_->start([known](World& world) { return std::make_shared<AdministratorProgram>(world, known); });
  simulator_.run_for(Duration::zero());
  auto done = std::make_shared<bool>(false);
  administrator_->spawn(add_all_masters(done));
  group_made_ = simulator_.run_until([&] { return *done; }, std::chrono::seconds(60));
  return group_made_;
}

bool SimCluster::start() {
  for (size_t i : wanted_masters())
    start_master(i);
  for (size_t i = 0; i < servers_.size(); ++i)
    start_server(i);
  for (size_t i = 0; i < mounts_.size(); ++i)
    start_mount(i);
  auto ready = [&] {
    for (size_t i : wanted_masters()) {
      if (!master_server(i)) return false;
    }
    if (registered_servers() < servers_.size()) return false;
    for (size_t i = 0; i < mounts_.size(); ++i) {
      if (!file_system(i)) return false;
    }
    return true;
  };
  if (administrator_ && !group_made_ && !make_group()) return false;
  return simulator_.run_until(ready, std::chrono::seconds(60));
}

}  // namespace cairn
