#include "master/service/master_server.h"

#include <utility>

#include "common/base/log.h"
#include "common/http/http_server.h"
#include "common/rpc/rpc.h"
#include "master/consensus/master_folder.h"
#include "master/leases/shared_leases.h"
#include "master/service/control_service.h"
#include "master/service/core.h"
#include "master/service/export_service.h"
#include "master/service/meta_service.h"
#include "master/service/session_desk.h"

namespace cairn {

namespace {
uint32_t ms(Duration duration) {
  return static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}
}  // namespace

struct MasterServer::Impl {
  Impl(World& world_in, MasterSettings settings_in)
      : world(world_in), settings(std::move(settings_in)), adapter(world.disk(), settings.state) {}

  Task<Result<void>> open();
  Task<Result<void>> ensure_cluster();
  void serve();
  Result<void> listen();
  void leadership(bool leading, Term term);

  World& world;
  MasterSettings settings;
  MachineAdapter adapter;
  ClusterId cluster;
  std::unique_ptr<ReplicatedLog> log;
  std::unique_ptr<MasterCore> core;
  SharedLeases leases;
  std::unique_ptr<SessionDesk> sessions;
  std::unique_ptr<ChunkKeeper> keeper;
  std::unique_ptr<MetaService> meta;
  std::unique_ptr<ControlService> control;
  std::unique_ptr<ExportService> exports;
  std::unique_ptr<RpcServer> server;
  std::unique_ptr<HttpServer> http;
  Address address;
  bool serving = false;
};

// Identity, log and state. An empty folder becomes a cluster only when that was asked for: a disk that is not mounted
// must not look like a new one.
Task<Result<void>> MasterServer::Impl::open() {
  Disk& disk = world.disk();
  Result<MasterIdentity> identity = read_master_identity(disk, settings.folder);
  if (!identity && identity.code() != ErrorCode::kNotFound) co_return identity.error();
  if (identity && settings.cluster && identity->cluster != settings.cluster) {
    co_return Error(ErrorCode::kWrongCluster, settings.folder + " is of cluster " + to_string(identity->cluster) +
                                                  ", this master's certificate is of " + to_string(settings.cluster));
  }
  if (!identity && !settings.make_cluster) {
    co_return Error(ErrorCode::kNotFound, settings.folder + ": no master's data is here; --init makes a new cluster");
  }
  if (!identity) {
    ClusterId made = settings.cluster ? settings.cluster : ClusterId(world.random().next_id());
    MasterId self(world.random().next_id());
    std::string advertised = settings.advertise.empty() ? settings.listen : settings.advertise;
    Result<void> initialised = initialise_master_folder(disk, settings.folder, made, self, advertised);
    if (!initialised) co_return initialised;
    cluster = made;
    log_info("master.cluster_made", "cluster={} folder={}", made, quoted(settings.folder));
  } else {
    cluster = identity->cluster;
  }
  ReplicatedLogOptions options;
  options.folder = settings.folder;
  options.cluster = cluster;
  options.reserve_bytes = settings.log_reserve_bytes;
  options.checkpoint_log_bytes = settings.checkpoint_log_bytes;
  options.ticks_wanted = [this] { return core && core->machine().wants_ticks(); };
  options.on_leadership = [this](bool leading, Term term) { leadership(leading, term); };
  options.on_fatal = settings.on_fatal;
  Result<std::unique_ptr<ReplicatedLog>> opened = co_await ReplicatedLog::open(world, std::move(options), adapter);
  if (!opened) co_return opened.error();
  log = std::move(*opened);
  core = std::make_unique<MasterCore>(world, adapter.machine(), *log);
  co_return Result<void>();
}

Task<Result<void>> MasterServer::Impl::ensure_cluster() {
  if (adapter.machine().has_cluster() || !log->leading()) co_return Result<void>();
  MakeCluster make;
  make.cluster = cluster;
  make.expected_servers = settings.expected_servers;
  make.default_goal = settings.default_goal;
  make.default_min_copies = settings.default_min_copies;
  make.session_ms = ms(settings.session_time);
  make.delete_grace_ms = ms(settings.delete_grace);
  Result<ReplyBody> made = co_await core->propose(std::move(make));
  if (!made) co_return made.error().in("making the cluster");
  co_return Result<void>();
}

void MasterServer::Impl::serve() {
  sessions = std::make_unique<SessionDesk>(*core, leases);
  keeper = std::make_unique<ChunkKeeper>(*core, leases, settings.keeper);
  meta = std::make_unique<MetaService>(*core, leases, *sessions, *keeper);
  control = std::make_unique<ControlService>(*core, *keeper, leases, settings.program);
  exports = std::make_unique<ExportService>(*core, settings.program);
  RpcServerOptions options;
  options.hello.cluster = cluster;
  options.hello.program = settings.program;
  server = std::make_unique<RpcServer>(world, options);
  meta->add_handlers(*server);
  control->add_handlers(*server);
  exports->add_handlers(*server);
  serving = true;
  if (log->leading()) leadership(true, log->term());
}

void MasterServer::Impl::leadership(bool leading, Term term) {
  if (!serving) return;
  log_info("master.leadership", "leading={} term={}", leading, term);
  if (leading) {
    sessions->start_leading();
    keeper->start_leading();
  } else {
    exports->drop();
    keeper->stop_leading();
    sessions->stop_leading();
  }
}

Result<void> MasterServer::Impl::listen() {
  Result<Address> wanted = parse_address(settings.listen);
  if (!wanted) return wanted.error();
  Result<Address> listening = server->listen(*wanted);
  if (!listening) return listening.error();
  address = *listening;
  if (settings.http_listen.empty()) return {};
  Result<Address> http_wanted = parse_address(settings.http_listen);
  if (!http_wanted) return http_wanted.error();
  http = std::make_unique<HttpServer>(world.executor(), world.clock(), world.plain_transport());
  http->handle("/metrics", metrics_page(world.metrics()));
  http->handle("/health", health_page([this]() -> Result<void> {
                 if (log->leading()) return {};
                 return Error(ErrorCode::kNotLeader);
               }));
  Result<void> serving_pages = http->listen(*http_wanted);
  if (!serving_pages) return serving_pages;
  return {};
}

Task<Result<std::unique_ptr<MasterServer>>> MasterServer::start(World& world, MasterSettings settings) {
  auto impl = std::make_unique<Impl>(world, std::move(settings));
  Impl& master = *impl;
  std::unique_ptr<MasterServer> server(new MasterServer(std::move(impl)));
  Result<void> opened = co_await master.open();
  if (opened) opened = co_await master.ensure_cluster();
  if (opened) {
    master.serve();
    opened = master.listen();
  }
  if (!opened) {
    co_await server->stop();
    co_return opened.error();
  }
  log_info("master.ready", "address={} cluster={} folder={}", to_string(master.address), master.cluster,
           quoted(master.settings.folder));
  co_return server;
}

MasterServer::MasterServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MasterServer::~MasterServer() = default;

Task<void> MasterServer::stop() {
  impl_->serving = false;
  if (impl_->http) co_await impl_->http->stop();
  if (impl_->keeper) impl_->keeper->stop_leading();
  if (impl_->server) co_await impl_->server->stop();
  if (impl_->exports) co_await impl_->exports->stop();
  if (impl_->keeper) co_await impl_->keeper->stop();
  if (impl_->sessions) co_await impl_->sessions->stop();
  if (impl_->log) co_await impl_->log->stop();
}

Address MasterServer::address() const {
  return impl_->address;
}
Machine& MasterServer::machine() {
  return impl_->adapter.machine();
}
ReplicatedLog& MasterServer::log() {
  return *impl_->log;
}

}  // namespace cairn
