#include "chunkserver/server.h"

#include <optional>
#include <utility>

#include "chunkserver/agent/server_agent.h"
#include "chunkserver/replication/chunk_access.h"
#include "chunkserver/replication/chunk_copier.h"
#include "chunkserver/replication/chunk_peers.h"
#include "chunkserver/replication/open_chunks.h"
#include "chunkserver/replication/write_path.h"
#include "chunkserver/service/chunk_service.h"
#include "chunkserver/store/identity.h"
#include "chunkserver/store/store_set.h"
#include "common/base/check.h"
#include "common/base/log.h"
#include "common/http/http_server.h"
#include "common/rpc/rpc.h"

namespace cairn {

namespace {

// What the directories say of themselves; a new server draws its id. Each store checks that it is this one.
Result<StoreIdentity> find_identity(Disk& disk, const std::vector<std::string>& folders) {
  StoreIdentity found;
  for (const std::string& folder : folders) {
    Result<std::optional<StoreIdentity>> identity = read_identity(disk, folder);
    if (!identity) {
      // One bad disk of several: the store decides whether it can go on without.
      log_warning("server.identity_unreadable", "folder={} error={}", folder, quoted(identity.error().message()));
      if (folders.size() == 1) return identity.error();
      continue;
    }
    if (!*identity) continue;
    if (!found.server) found.server = (*identity)->server;
    if (!found.cluster) found.cluster = (*identity)->cluster;
  }
  return found;
}

struct Found {
  StoreIdentity identity;
  ServerState state;
};
Result<Found> find_server(Disk& disk, const std::vector<std::string>& folders) {
  Result<StoreIdentity> identity = find_identity(disk, folders);
  if (!identity) return identity.error();
  Result<ServerState> state = load_server_state(disk, folders);
  if (!state) return state.error();
  return Found{*identity, *state};
}

bool is_wildcard(const Address& address) {
  return address.kind == Address::Kind::kTcp &&
         (address.host_or_path.empty() || address.host_or_path == "0.0.0.0" || address.host_or_path == "::");
}

}  // namespace

Result<void> check_settings(const ChunkServerSettings& settings) {
  if (settings.folders.empty()) return Error(ErrorCode::kInvalid, "no data directory is given");
  if (settings.masters.empty()) return Error(ErrorCode::kInvalid, "no master's address is given");
  auto check = [](const std::string& text, std::string_view what) -> Result<void> {
    Result<Address> address = parse_address(text);
    if (!address) return address.error().in(what);
    return {};
  };
  Result<void> sound = check(settings.listen, "the address to listen on");
  for (const std::string& master : settings.masters) {
    if (sound) sound = check(master, "the address of a master");
  }
  if (sound && !settings.http_listen.empty()) sound = check(settings.http_listen, "the address for HTTP");
  if (sound && !settings.advertise.empty()) sound = check(settings.advertise, "the address to advertise");
  if (!sound) return sound;
  Address listen = *parse_address(settings.listen);
  if (is_wildcard(listen) && settings.advertise.empty()) {
    return Error(ErrorCode::kInvalid,
                 "listening on " + to_string(listen) + " says nothing to others: give an address to advertise");
  }
  return {};
}

// Declared in the order of building: what stands later may use what stands before, and goes first.
struct ChunkServer::Parts {
  std::unique_ptr<BlockingPool> pool;
  std::unique_ptr<ChunkStore> store;
  std::vector<std::string> folders;  // that are in use
  ServerState state;
  ReplicaIdentity self;
  std::optional<OpenChunks> chunks;
  std::optional<ChunkAccess> access;
  std::optional<ChunkPeers> peers;
  std::optional<WritePath> writes;
  std::optional<ChunkCopier> copier;
  std::optional<Scrubber> scrubber;
  std::optional<ChunkService> service;
  std::optional<RpcServer> rpc;
  std::optional<HttpServer> http;
  std::optional<ServerAgent> agent;
  Address address;
  Address advertised;
};

ChunkServer::ChunkServer(World& world, ChunkServerSettings settings)
    : world_(world), settings_(std::move(settings)), parts_(std::make_unique<Parts>()) {
  CHECK(check_settings(settings_));
}

ChunkServer::~ChunkServer() = default;

Task<Result<void>> ChunkServer::open_store() {
  Parts& p = *parts_;
  p.pool = world_.make_pool("start", 1);
  Disk& disk = world_.disk();
  Result<Found> found = co_await p.pool->run(
      [&disk, folders = settings_.folders]() -> Result<Found> { return find_server(disk, folders); });
  if (!found) co_return found.error();
  StoreIdentity identity = found->identity;
  if (!identity.server) identity.server = ServerId(world_.random().next_id());

  std::vector<StoreOptions> options(settings_.folders.size(), settings_.store);
  for (size_t i = 0; i < options.size(); ++i)
    options[i].folder = settings_.folders[i];
  Result<std::unique_ptr<ChunkStore>> store(nullptr);
  p.folders = settings_.folders;
  if (options.size() == 1) {
    store = co_await ChunkStore::open(world_, options.front(), identity);
    if (!store) co_return store.error();
  } else {
    store = co_await StoreSet::open_set(world_, std::move(options), identity);
    if (!store) co_return store.error();
    p.folders = static_cast<const StoreSet&>(**store).folders();  // without those that cannot be used
  }
  p.store = std::move(*store);

  // Counted on disk before anything is acknowledged under this number.
  p.state = found->state;
  ++p.state.incarnation;
  Result<void> counted = co_await p.pool->run(
      [&disk, folders = p.folders, state = p.state] { return save_server_state(disk, folders, state); });
  if (!counted) co_return counted.error().in("counting this start");
  p.self = {.server = p.store->identity().server, .incarnation = p.state.incarnation};
  co_return Result<void>();
}

Result<void> ChunkServer::listen() {
  Parts& p = *parts_;
  Result<Address> address = p.rpc->listen(*parse_address(settings_.listen));
  if (!address) return address.error();
  p.address = *address;
  p.advertised = settings_.advertise.empty() ? *address : *parse_address(settings_.advertise);
  return {};
}

Task<Result<void>> ChunkServer::start() {
  CHECK(!parts_->store);
  Parts& p = *parts_;
  Result<void> opened = co_await open_store();
  if (!opened) co_return opened;

  Hello hello{.cluster = p.store->identity().cluster, .program = settings_.program};
  p.chunks.emplace(world_, *p.store);
  p.access.emplace(world_, hello.cluster, p.state.masters);
  p.peers.emplace(world_, hello);
  p.writes.emplace(world_, *p.store, *p.chunks, *p.access, *p.peers, p.self);
  p.copier.emplace(world_, *p.store, *p.chunks, *p.peers);
  p.scrubber.emplace(world_, *p.store, settings_.scrubber, nullptr);  // the store tells what is bad
  ChunkService::Parts service{*p.store, *p.chunks, *p.access, *p.writes, *p.copier};
  p.service.emplace(world_, service, p.self);
  RpcServerOptions rpc;
  rpc.hello = hello;
  rpc.memory_per_connection_bytes = settings_.connection_memory_bytes;
  p.rpc.emplace(world_, std::move(rpc));
  p.service->add_to(*p.rpc);
  Result<void> listening = listen();
  if (!listening) co_return listening;

  if (!settings_.http_listen.empty()) {
    p.http.emplace(world_.executor(), world_.clock(), world_.plain_transport());
    HttpHandler metrics = metrics_page(world_.metrics());
    p.http->handle("/metrics", [this, metrics](const HttpRequest& request) {
      export_gauges();
      return metrics(request);
    });
    p.http->handle("/health", health_page([this] { return health(); }));
    Result<void> serving = p.http->listen(*parse_address(settings_.http_listen));
    if (!serving) co_return serving;
  }

  ServerAgentOptions agent_options;
  for (const std::string& master : settings_.masters)
    agent_options.masters.push_back(*parse_address(master));
  agent_options.address = to_string(p.advertised);
  agent_options.domain = settings_.domain;
  agent_options.program = settings_.program;
  agent_options.folders = p.folders;
  ServerAgent::Events events;
  events.joined = [this](ClusterId cluster) {
    parts_->rpc->set_cluster(cluster);
    parts_->peers->set_cluster(cluster);
  };
  events.cannot_serve = [this](const Error& error) {
    if (auto tell = std::exchange(settings_.on_fatal, nullptr)) tell(error);
  };
  p.agent.emplace(world_, std::move(agent_options), p.state, *p.store, *p.access, std::move(events));
  p.access->set_keeper([this](uint64_t term) { return parts_->agent->keep_term(term); });
  p.store->on_bad_chunk([this](ChunkId chunk, const Error& error) {
    log_error("chunk.bad", "chunk={} error={}", chunk, quoted(error.message()));
    parts_->chunks->forget(chunk);
    parts_->agent->report_bad(chunk);
  });
  p.agent->start();
  p.scrubber->start();
  log_info("ready", "address={} server={} incarnation={} folders={}", to_string(p.address), p.self.server,
           p.self.incarnation, p.folders.size());
  co_return Result<void>();
}

Task<void> ChunkServer::stop() {
  Parts& p = *parts_;
  if (p.scrubber) co_await p.scrubber->stop();
  if (p.agent) co_await p.agent->stop();
  // Whoever waits is told that it is over; then nobody can come any more; then what they used may go.
  if (p.access) p.access->stop();
  if (p.chunks) p.chunks->stop();
  if (p.peers) co_await p.peers->stop();
  if (p.copier) co_await p.copier->stop();
  if (p.rpc) co_await p.rpc->stop();
  if (p.writes) co_await p.writes->stop();
  if (p.http) co_await p.http->stop();
  if (p.store) co_await p.store->close();
}

Address ChunkServer::address() const {
  return parts_->address;
}
Address ChunkServer::http_address() const {
  return parts_->http ? parts_->http->address() : Address{};
}
ServerId ChunkServer::server() const {
  return parts_->self.server;
}
uint64_t ChunkServer::incarnation() const {
  return parts_->self.incarnation;
}
ChunkStore& ChunkServer::store() {
  return *parts_->store;
}
size_t ChunkServer::reported_to() const {
  return parts_->agent ? parts_->agent->reported_to() : 0;
}

Result<void> ChunkServer::health() const {
  StoreSpace space = parts_->store->space();
  if (space.stores_failed > 0) {
    return Error(ErrorCode::kIo, std::to_string(space.stores_failed) + " of " +
                                     std::to_string(space.stores + space.stores_failed) + " data directories failed");
  }
  if (!parts_->access->ready()) return Error(ErrorCode::kOverload, "no master has answered yet");
  return {};
}

void ChunkServer::export_gauges() {
  Metrics& metrics = world_.metrics();
  StoreSpace space = parts_->store->space();
  auto set = [&](const char* name, const char* help, uint64_t value) {
    metrics.gauge(name, help).set(static_cast<double>(value));
  };
  set("cairn_chunkserver_space_total_bytes", "Size of the data directories' disks", space.total_bytes);
  set("cairn_chunkserver_space_free_bytes", "What may still be written", space.free_bytes);
  set("cairn_chunkserver_chunks", "Chunks held", space.chunks);
  set("cairn_chunkserver_stores", "Data directories in use", space.stores);
  set("cairn_chunkserver_stores_failed", "Data directories that failed", space.stores_failed);
  const ScrubProgress& scrubbed = parts_->scrubber->progress();
  set("cairn_chunkserver_scrub_rounds", "Rounds over all chunks since the start", scrubbed.rounds);
  set("cairn_chunkserver_scrub_bytes", "Bytes read again and verified since the start", scrubbed.bytes);
  set("cairn_chunkserver_scrub_bad", "Chunks that were found bad by it", scrubbed.bad);
  set("cairn_chunkserver_copies_running", "Chunks being copied here", parts_->copier->running());
  set("cairn_chunkserver_log_time_ms", "Log time, as far as it is known", parts_->access->log_time_ms());
}

}  // namespace cairn
