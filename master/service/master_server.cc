#include "master/service/master_server.h"

#include <cstdlib>
#include <utility>

#include "common/base/log.h"
#include "common/http/http_server.h"
#include "common/rpc/rpc.h"
#include "common/runtime/task_group.h"
#include "master/consensus/master_folder.h"
#include "master/leases/lease_table.h"
#include "master/leases/open_files.h"
#include "master/leases/unheld_files.h"
#include "master/service/control_service.h"
#include "master/service/core.h"
#include "master/service/export_service.h"
#include "master/service/group_service.h"
#include "master/service/meta_service.h"
#include "master/service/raft_peers.h"
#include "master/service/recall_desk.h"
#include "master/service/session_desk.h"

namespace cairn {

namespace {
constexpr Duration kHandingOver = std::chrono::seconds(1);
constexpr Duration kBeforeOpeningAgain = std::chrono::milliseconds(50);
// Requests that wait for the answers of other mounts must not keep a mount's own answers from being read.
constexpr uint32_t kRequestsPerConnectionMax = 16 * 1024;

uint32_t ms(Duration duration) {
  return static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}
}  // namespace

struct MasterServer::Impl {
  Impl(World& world_in, MasterSettings settings_in)
      : world(world_in),
        settings(std::move(settings_in)),
        adapter(world.disk(), settings.state),
        life(world.executor(), world.clock()) {}

  Task<Result<void>> begin();
  Task<Result<void>> open();
  Result<void> check_address(const MasterIdentity& identity) const;
  Task<Result<void>> ensure_cluster();
  void serve();
  Result<void> wait_to_join();
  Task<Result<RpcMessage>> join(RpcRequest request);
  Result<void> listen();
  void leadership(bool leading, Term term);
  Task<void> start_serving(Term term);
  Task<void> open_again();
  Task<void> close();
  std::string advertised() const { return settings.advertise.empty() ? settings.listen : settings.advertise; }

  World& world;
  MasterSettings settings;
  MachineAdapter adapter;
  ClusterId cluster;
  std::unique_ptr<RaftPeers> peers;
  std::unique_ptr<ReplicatedLog> log;
  std::unique_ptr<MasterCore> core;
  std::unique_ptr<LeaseTable> leases;
  std::unique_ptr<OpenFiles> open_files;
  std::unique_ptr<UnheldFiles> unheld;
  std::unique_ptr<RecallDesk> recalls;
  std::unique_ptr<LockDesk> locks;
  std::unique_ptr<SessionDesk> sessions;
  std::unique_ptr<ChunkKeeper> keeper;
  std::unique_ptr<MetaService> meta;
  std::unique_ptr<ControlService> control;
  std::unique_ptr<ExportService> exports;
  std::unique_ptr<GroupService> group;
  std::unique_ptr<RpcServer> server;
  std::unique_ptr<HttpServer> http;
  Address address;
  bool serving = false;
  bool leads = false;  // its services do
  bool stopping = false;
  TaskGroup life;
};

// Identity, log and state. An empty folder becomes a cluster, or waits to join one, only when that was asked for: a
// disk that is not mounted must not look like a new one.
Task<Result<void>> MasterServer::Impl::begin() {
  Result<MasterIdentity> identity = read_master_identity(world.disk(), settings.folder);
  if (!identity && identity.code() != ErrorCode::kNotFound) co_return identity.error();
  if (identity && settings.cluster && identity->cluster != settings.cluster) {
    co_return Error(ErrorCode::kWrongCluster, settings.folder + " is of cluster " + to_string(identity->cluster) +
                                                  ", this master's certificate is of " + to_string(settings.cluster));
  }
  if (!identity && settings.make_cluster) {
    ClusterId made = settings.cluster ? settings.cluster : ClusterId(world.random().next_id());
    MasterId self(world.random().next_id());
    Result<void> initialised = initialise_master_folder(world.disk(), settings.folder, made, self, advertised());
    if (!initialised) co_return initialised;
    log_info("master.cluster_made", "cluster={} folder={}", made, quoted(settings.folder));
  } else if (!identity && settings.join) {
    co_return wait_to_join();
  } else if (!identity) {
    co_return Error(ErrorCode::kNotFound, settings.folder +
                                              ": no master's data is here; --init makes a new cluster, --join waits to "
                                              "be added to one ('cairn master add')");
  }
  Result<void> opened = co_await open();
  if (opened && identity) opened = check_address(*identity);
  co_return opened;
}

// The others of a group reach a master where it was when it was added, and it tells them that address. Anywhere else it
// would hear nobody, or be a copy that speaks in the name of its original.
Result<void> MasterServer::Impl::check_address(const MasterIdentity& identity) const {
  Result<Address> was = parse_address(identity.address);
  Result<Address> is = parse_address(advertised());
  if (was && is && *was == *is) return {};
  log_warning("master.other_address", "was={} is={}", quoted(identity.address), quoted(advertised()));
  if (log->members().size() < 2) return {};
  return Error(ErrorCode::kInvalid,
               settings.folder + " is of the master at " + identity.address + ", and is started at " + advertised() +
                   ": a copy must not run beside its original, and a master that moves is removed from the group and "
                   "added again with an empty folder ('cairn master remove', then --join and 'cairn master add')");
}

Task<Result<void>> MasterServer::Impl::open() {
  Result<MasterIdentity> identity = read_master_identity(world.disk(), settings.folder);
  if (!identity) co_return identity.error();
  cluster = identity->cluster;
  Hello hello;
  hello.cluster = cluster;
  hello.program = settings.program;
  peers = std::make_unique<RaftPeers>(world, hello);
  ReplicatedLogOptions options;
  options.folder = settings.folder;
  options.cluster = cluster;
  options.reserve_bytes = settings.log_reserve_bytes;
  options.checkpoint_log_bytes = settings.checkpoint_log_bytes;
  options.segment_size_bytes = settings.log_segment_bytes;
  options.trailing_entries = settings.log_trailing_entries;
  options.election_timeout = settings.election_timeout;
  options.heartbeat = settings.heartbeat;
  options.ticks_wanted = [this] { return core && core->machine().wants_ticks(); };
  options.on_leadership = [this](bool leading, Term term) { leadership(leading, term); };
  options.on_fatal = settings.on_fatal;
  options.on_reopen = [this] { life.spawn(open_again()); };
  Result<std::unique_ptr<ReplicatedLog>> opened =
      co_await ReplicatedLog::open(world, std::move(options), adapter, peers.get());
  if (!opened) co_return opened.error();
  log = std::move(*opened);
  core = std::make_unique<MasterCore>(world, adapter.machine(), *log);
  Result<void> made = co_await ensure_cluster();
  if (!made) co_return made;
  serve();
  Result<void> listening = listen();
  co_return listening;
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
  leases = std::make_unique<LeaseTable>();
  open_files = std::make_unique<OpenFiles>();
  unheld = std::make_unique<UnheldFiles>(*leases);
  recalls = std::make_unique<RecallDesk>(*core, *leases);
  locks = std::make_unique<LockDesk>(*core, *recalls);
  SessionDesk::Kept kept{
      .leases = *leases, .open_files = *open_files, .unheld = *unheld, .recalls = *recalls, .locks = *locks};
  sessions = std::make_unique<SessionDesk>(*core, kept);
  keeper = std::make_unique<ChunkKeeper>(*core, *unheld, settings.keeper);
  meta = std::make_unique<MetaService>(*core, kept, *sessions, *keeper);
  control = std::make_unique<ControlService>(*core, *keeper, kept, *sessions, settings.program);
  group = std::make_unique<GroupService>(*core, cluster, advertised(), settings.program);
  exports = std::make_unique<ExportService>(*core, settings.program);
  RpcServerOptions options;
  options.hello.cluster = cluster;
  options.hello.program = settings.program;
  options.requests_per_connection_max = kRequestsPerConnectionMax;
  server = std::make_unique<RpcServer>(world, options);
  meta->add_handlers(*server);
  control->add_handlers(*server);
  exports->add_handlers(*server);
  group->add_handlers(*server);
  RaftPeers::add_handlers(*server, [this] { return log.get(); });
  serving = true;
  if (log->leading()) leadership(true, log->term());
}

// Nothing is here yet but an address, until a leader comes with `cairn master add`.
Result<void> MasterServer::Impl::wait_to_join() {
  RpcServerOptions options;
  options.hello.program = settings.program;
  server = std::make_unique<RpcServer>(world, options);
  server->handle(
      kJoinGroupMethod, "join_group", [this](RpcRequest request) { return join(std::move(request)); },
      Callers::kMasters);
  add_waiting_handlers(*server, [this] { return advertised(); }, settings.program);
  Result<void> listening = listen();
  if (listening) settings.listen = to_string(address);  // with the port that was chosen
  if (listening) log_info("master.waits_to_join", "address={}", to_string(address));
  return listening;
}

Task<Result<RpcMessage>> MasterServer::Impl::join(RpcRequest request) {
  Result<JoinRequest> wanted = decode_join_request(request.message);
  if (!wanted) co_return wanted.error();
  if (settings.cluster && wanted->cluster != settings.cluster) {
    co_return Error(ErrorCode::kWrongCluster, "the certificate of the master at " + advertised() + " is of cluster " +
                                                  to_string(settings.cluster) + ", and it is asked to join " +
                                                  to_string(wanted->cluster));
  }
  Result<MasterIdentity> identity = read_master_identity(world.disk(), settings.folder);
  if (!identity && identity.code() != ErrorCode::kNotFound) co_return identity.error();
  if (!identity) {
    // A fresh id, always: what a disk that was lost had promised under the old one is not known any more.
    MasterId self(world.random().next_id());
    Result<void> made = initialise_joining_folder(world.disk(), settings.folder, wanted->cluster, self, advertised());
    if (!made) co_return made.error();
    identity = MasterIdentity{.cluster = wanted->cluster, .master = self, .address = advertised()};
    log_info("master.joins", "cluster={} master={}", wanted->cluster, self);
    life.spawn(open_again());
  }
  RpcMessage answer;
  answer.message =
      encode_join_answer({.cluster = identity->cluster, .master = identity->master, .address = identity->address});
  co_return answer;
}

void MasterServer::Impl::leadership(bool leading, Term term) {
  if (!serving) return;
  log_info("master.leadership", "leading={} term={}", leading, term);
  if (leading) {
    life.spawn(start_serving(term));
    return;
  }
  core->set_serving(false);
  if (!std::exchange(leads, false)) return;
  exports->drop();
  keeper->stop_leading();
  sessions->stop_leading();
}

// What earlier leaders answered is applied first: sessions, grants and chunks are all in it.
Task<void> MasterServer::Impl::start_serving(Term term) {
  Result<void> current = co_await log->read_barrier();
  if (!current || !serving || !log->leading() || log->term() != term) co_return;
  leads = true;
  sessions->start_leading();
  keeper->start_leading();
  core->set_serving(true);
  log_info("master.serving", "term={}", term);
}

// The folder holds something else than what was opened: a group to belong to, or a newer checkpoint.
Task<void> MasterServer::Impl::open_again() {
  settings.listen = to_string(address);  // with the port that was chosen
  // The answer that told of it goes out first.
  Result<void> slept = co_await life.sleep_for(kBeforeOpeningAgain);
  if (!slept || stopping) co_return;
  co_await close();
  if (stopping) co_return;
  Result<void> opened = co_await open();
  if (opened || stopping) co_return;
  if (!settings.on_fatal) std::abort();
  settings.on_fatal(opened.error().in("opening " + settings.folder + " again"));
}

Task<void> MasterServer::Impl::close() {
  serving = false;
  if (core) core->set_serving(false);
  if (http) co_await http->stop();
  http.reset();
  if (keeper) keeper->stop_leading();
  // While the others' acknowledgements are still heard; a sole voter has nobody to hand over to.
  if (log && log->leading()) {
    [[maybe_unused]] Result<void> handed =
        co_await log->transfer_leadership(MasterId(), world.clock().now() + kHandingOver);
  }
  if (sessions) sessions->stop_leading();  // requests that wait for others end
  if (server) co_await server->stop();
  if (exports) co_await exports->stop();
  if (keeper) co_await keeper->stop();
  if (sessions) co_await sessions->stop();
  if (group) co_await group->stop();
  if (log) co_await log->stop();
  if (peers) co_await peers->stop();
  leads = false;
  server.reset();
  group.reset();
  exports.reset();
  control.reset();
  meta.reset();
  keeper.reset();
  sessions.reset();
  locks.reset();
  recalls.reset();
  unheld.reset();
  open_files.reset();
  leases.reset();
  core.reset();
  log.reset();
  peers.reset();
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
                 if (!log) return Error(ErrorCode::kUnavailable, "waits to be added to a group");
                 if (log->leading() || log->status().leader) return {};
                 return Error(ErrorCode::kNotLeader, "no master leads, as far as this one knows");
               }));
  Result<void> serving_pages = http->listen(*http_wanted);
  if (!serving_pages) return serving_pages;
  return {};
}

Task<Result<std::unique_ptr<MasterServer>>> MasterServer::start(World& world, MasterSettings settings) {
  auto impl = std::make_unique<Impl>(world, std::move(settings));
  Impl& master = *impl;
  std::unique_ptr<MasterServer> server(new MasterServer(std::move(impl)));
  Result<void> opened = co_await master.begin();
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
  impl_->stopping = true;
  co_await impl_->life.stop();
  co_await impl_->close();
}

bool MasterServer::open() const {
  return impl_->serving;
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
