#include "tests/support/sim_cluster.h"

#include <utility>

#include "common/base/log.h"

namespace cairn {

namespace {

constexpr uint16_t kMasterPort = 9400;
constexpr uint16_t kServerPort = 9410;

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

struct ServerProgram {
  ServerProgram(World& world, ChunkServerSettings settings) : server(world, std::move(settings)), tasks(world.executor(), world.clock()) {
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
  MountProgram(World& world, ClientOptions options) : tasks(world.executor(), world.clock()) {
    tasks.spawn(run(*this, world, std::move(options)));
  }
  static Task<void> run(MountProgram& self, World& world, ClientOptions options) {
    while (!self.file_system) {  // a master that is not there yet comes
      Result<std::unique_ptr<FileSystem>> connected = co_await FileSystem::connect(world, options);
      if (connected) self.file_system = std::move(*connected);
    }
  }
  std::unique_ptr<FileSystem> file_system;
  TaskGroup tasks;
};

}  // namespace

SimCluster::SimCluster(uint64_t seed, SimClusterOptions options) : options_(std::move(options)), simulator_(seed, options_.simulator) {
  master_ = &simulator_.add_node("master");
  for (size_t i = 0; i < options_.chunkservers; ++i) {
    servers_.push_back(&simulator_.add_node("server" + std::to_string(i), {.disk_bytes = options_.chunkserver_disk_bytes}));
  }
  for (size_t i = 0; i < options_.mounts; ++i) mounts_.push_back(&simulator_.add_node("mount" + std::to_string(i)));
}

// Programs go before the nodes that they run on.
SimCluster::~SimCluster() {
  for (SimNode* node : mounts_) {
    if (node->running()) node->crash(Crash::kProcess);
  }
  for (SimNode* node : servers_) {
    if (node->running()) node->crash(Crash::kProcess);
  }
  if (master_->running()) master_->crash(Crash::kProcess);
}

void SimCluster::start_master() {
  MasterSettings settings = options_.master;
  settings.folder = "/master";
  settings.listen = "master:" + std::to_string(kMasterPort);
  settings.make_cluster = true;
  settings.expected_servers = static_cast<uint32_t>(options_.chunkservers);
  settings.state.memory_store = true;
  settings.program = "cairn-master";
  master_->start([settings](World& world) { return std::make_shared<MasterProgram>(world, settings); });
}

void SimCluster::start_server(size_t i) {
  ChunkServerSettings settings = options_.server;
  settings.folders = {"/data"};
  settings.listen = servers_[i]->name() + ":" + std::to_string(kServerPort);
  settings.masters = {"master:" + std::to_string(kMasterPort)};
  settings.store.kv = KvKind::kMemory;
  settings.program = "cairn-chunkserver";
  servers_[i]->start([settings](World& world) { return std::make_shared<ServerProgram>(world, settings); });
}

void SimCluster::start_mount(size_t i) {
  ClientOptions options = options_.client;
  options.masters = {Address{.kind = Address::Kind::kTcp, .host_or_path = "master", .port = kMasterPort}};
  options.host = mounts_[i]->name();
  options.program = "cairn-sim";
  mounts_[i]->start([options](World& world) { return std::make_shared<MountProgram>(world, options); });
}

FileSystem* SimCluster::file_system(size_t i) {
  MountProgram* program = mounts_[i]->running() ? mounts_[i]->program<MountProgram>() : nullptr;
  return program ? program->file_system.get() : nullptr;
}

MasterServer* SimCluster::master_server() {
  MasterProgram* program = master_->running() ? master_->program<MasterProgram>() : nullptr;
  return program ? program->server.get() : nullptr;
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

bool SimCluster::start() {
  start_master();
  for (size_t i = 0; i < servers_.size(); ++i) start_server(i);
  for (size_t i = 0; i < mounts_.size(); ++i) start_mount(i);
  auto ready = [&] {
    if (!master_server() || registered_servers() < servers_.size()) return false;
    for (size_t i = 0; i < mounts_.size(); ++i) {
      if (!file_system(i)) return false;
    }
    return true;
  };
  return simulator_.run_until(ready, std::chrono::seconds(60));
}

}  // namespace cairn
