#include "chunkserver/agent/server_agent.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/base/log.h"
#include "common/rpc/retry.h"
#include "common/rpc/rpc_typed.h"

namespace cairn {

ServerAgent::ServerAgent(World& world, ServerAgentOptions options, ServerState state, ChunkStore& store,
                         ChunkAccess& access, Events events)
    : world_(world),
      options_(std::move(options)),
      kept_(state),
      store_(store),
      access_(access),
      events_(std::move(events)),
      pool_(world.make_pool("agent", 1)),
      learning_(world.executor()),
      kick_(world.executor()),
      tasks_(world.executor(), world.clock()) {
  RpcClientOptions rpc;
  rpc.hello.program = options_.program;
  rpc.hello.cluster = access_.cluster();
  for (const Address& address : options_.masters)
    masters_.push_back(std::make_unique<Master>(world_, address, rpc));
}

ServerAgent::~ServerAgent() = default;

void ServerAgent::start() {
  kept_at_ = world_.clock().now();
  tasks_.on_stop([this] { kick_.notify_all(); });
  for (auto& master : masters_)
    tasks_.spawn(serve(*master));
}

Task<void> ServerAgent::stop() {
  for (auto& master : masters_)
    co_await master->client.stop();
  co_await tasks_.stop();
  if (access_.heard() != kept_.masters) {
    Result<void> kept = co_await keep(access_.heard());
    if (!kept) log_warning("agent.state_not_kept", "error={}", quoted(kept.error().message()));
  }
}

void ServerAgent::report_bad(ChunkId chunk) {
  for (auto& master : masters_) {
    if (master->bad.size() < kBadChunksMax) master->bad.insert(chunk);
    master->next_heartbeat = TimePoint{};
  }
  kick_.notify_all();
}

size_t ServerAgent::reported_to() const {
  return static_cast<size_t>(std::ranges::count_if(masters_, [](const auto& master) { return master->known; }));
}

SpaceReport ServerAgent::space() const {
  StoreSpace space = store_.space();
  SpaceReport report;
  report.total_bytes = space.total_bytes;
  report.free_bytes = space.free_bytes;
  report.chunks = space.chunks;
  report.stores = space.stores;
  report.stores_failed = space.stores_failed;
  return report;
}

RpcClient::CallOptions ServerAgent::call_options() const {
  return {.deadline = world_.clock().now() + kMasterCallDeadline};
}

void ServerAgent::note_failure(Master& master, const Error& error) {
  if (tasks_.stop_requested() || error.code == ErrorCode::kCancelled) return;
  if (error.code != master.last_error) {
    log_warning("agent.master_failed", "master={} error={}", to_string(master.client.address()),
                quoted(error.message()));
  }
  master.last_error = error.code;
  // A wrong address in the configuration: nothing gets better by waiting. Later a stranger may answer at an address
  // that used to be a master's; that harms nobody.
  if (error.code == ErrorCode::kWrongCluster && !ever_known_ && events_.cannot_serve) events_.cannot_serve(error);
}

Task<void> ServerAgent::serve(Master& master) {
  std::optional<Backoff> backoff;
  while (!tasks_.stop_requested()) {
    Result<void> served = co_await register_with(master);
    if (served) {
      backoff.reset();
      served = co_await beat(master);
    }
    master.known = false;
    if (served) continue;  // it asks to be told again
    note_failure(master, served.error());
    if (!backoff) backoff.emplace(world_.random(), kRegisterPauseMin, kRegisterPauseMax);
    Result<void> slept = co_await tasks_.sleep_for(backoff->next());
    if (!slept) co_return;
  }
}

Task<Result<void>> ServerAgent::register_with(Master& master) {
  RegisterServerRequest request;
  request.server = store_.identity().server;
  request.cluster = access_.cluster();
  request.address = options_.address;
  request.domain = options_.domain;
  request.program = options_.program;
  request.incarnation = kept_.incarnation;
  request.boot_id = world_.boot_id();
  request.space = space();
  auto answer = co_await typed_call(master.client, std::move(request), call_options());
  if (!answer) co_return answer.error();
  RegisterServerReply& reply = answer->reply;
  Result<void> joined = co_await join(reply.cluster);
  if (!joined) co_return joined;
  Result<void> learned = co_await learn(reply.term, reply.log_time_ms, std::move(reply.keys));
  if (!learned) co_return learned;
  Duration interval = reply.heartbeat_ms == 0 ? kHeartbeatDefault : std::chrono::milliseconds(reply.heartbeat_ms);
  master.heartbeat = std::clamp(interval, kHeartbeatMin, kHeartbeatMax);
  master.next_heartbeat = world_.clock().now() + *master.heartbeat;
  log_info("agent.registered", "master={} cluster={} term={} incarnation={}", to_string(master.client.address()),
           reply.cluster, reply.term, kept_.incarnation);
  Result<void> reported = co_await send_report(master);
  if (!reported) co_return reported;
  master.known = true;
  master.last_error = ErrorCode{};
  ever_known_ = true;
  co_return Result<void>();
}

Task<Result<void>> ServerAgent::join(ClusterId cluster) {
  if (access_.cluster() == cluster && cluster) co_return Result<void>();
  if (!cluster) co_return Error(ErrorCode::kBadMessage, "the master names no cluster");
  if (access_.cluster()) {
    co_return Error(ErrorCode::kWrongCluster, "the data directory " + options_.folders.front() +
                                                  " belongs to cluster " + to_string(access_.cluster()) +
                                                  ", the master to cluster " + to_string(cluster));
  }
  auto permit = co_await learning_.lock();
  if (access_.cluster()) co_return access_.cluster() == cluster ? Result<void>() : Error(ErrorCode::kWrongCluster);
  Result<void> joined = co_await store_.join_cluster(cluster);
  if (!joined) co_return joined;
  access_.set_cluster(cluster);
  for (auto& master : masters_)
    master->client.set_cluster(cluster);
  if (events_.joined) events_.joined(cluster);
  log_info("agent.joined_cluster", "cluster={} server={}", cluster, store_.identity().server);
  co_return Result<void>();
}

Task<Result<void>> ServerAgent::learn(uint64_t term, uint64_t log_time_ms, std::vector<CapabilityKey> keys) {
  auto permit = co_await learning_.lock();
  Result<void> current = access_.check_term(term);
  if (!current) co_return current;
  MastersState next{term, std::max(log_time_ms, access_.heard().log_time_ms)};
  bool old = world_.clock().now() - kept_at_ >= kKeepLogTimeEvery;
  // The term is on disk before it is obeyed: after a restart, too, no older master is believed.
  if (term != kept_.masters.term || (old && next != kept_.masters)) {
    Result<void> kept = co_await keep(next);
    if (!kept) co_return kept;
  }
  std::map<uint32_t, std::string> by_id;
  for (CapabilityKey& key : keys)
    by_id.emplace(key.id, std::move(key.key));
  access_.learn(term, log_time_ms, std::move(by_id));
  co_return Result<void>();
}

Task<Result<void>> ServerAgent::keep(MastersState masters) {
  ServerState state{kept_.incarnation, masters};
  Disk& disk = world_.disk();
  std::vector<std::string> folders = options_.folders;
  Result<void> saved = co_await pool_->run([&disk, folders = std::move(folders), state]() -> Result<void> {
    return save_server_state(disk, folders, state);
  });
  if (!saved) co_return saved;
  kept_ = state;
  kept_at_ = world_.clock().now();
  co_return Result<void>();
}

Task<Result<void>> ServerAgent::send_report(Master& master) {
  ChunkId after{};
  bool first = true;
  bool last = false;
  uint64_t chunks = 0;
  while (!last) {
    Result<ChunkPage> page = co_await store_.list(after, kReportPageChunks);
    if (!page) co_return page.error().in("listing the chunks");
    ChunkReportRequest request;
    request.server = store_.identity().server;
    request.incarnation = kept_.incarnation;
    request.first = first;
    request.last = last = page->last;
    if (!page->chunks.empty()) after = page->chunks.back().chunk;
    chunks += page->chunks.size();
    request.chunks = std::move(page->chunks);
    first = false;
    auto told = co_await typed_call(master.client, std::move(request), call_options());
    if (!told) co_return told.error().in("reporting chunks");
    // A long report does not make this server look dead.
    if (!last && world_.clock().now() >= master.next_heartbeat) {
      Result<bool> again = co_await beat_once(master);
      if (!again) co_return again.error();
    }
  }
  log_info("agent.reported", "master={} chunks={}", to_string(master.client.address()), chunks);
  co_return Result<void>();
}

Task<Result<void>> ServerAgent::beat(Master& master) {
  while (!tasks_.stop_requested()) {
    while (!tasks_.stop_requested() && world_.clock().now() < master.next_heartbeat) {
      (void)co_await kick_.wait_until(world_.clock(), master.next_heartbeat);
    }
    if (tasks_.stop_requested()) break;
    Result<bool> again = co_await beat_once(master);
    if (again && *again) co_return Result<void>();
    if (again || tasks_.stop_requested()) continue;
    // A master that is only slow still knows us; one that no longer leads or has been replaced must be asked anew.
    if (!worth_retrying(again.code())) co_return again.error();
    note_failure(master, again.error());
    master.next_heartbeat = world_.clock().now() + *master.heartbeat;
  }
  co_return Error(ErrorCode::kCancelled);
}

Task<Result<bool>> ServerAgent::beat_once(Master& master) {
  HeartbeatRequest request;
  request.server = store_.identity().server;
  request.incarnation = kept_.incarnation;
  request.space = space();
  for (ChunkId chunk : master.bad) {
    if (request.bad_chunks.size() == kBadChunksPerHeartbeat) break;
    request.bad_chunks.push_back(chunk);
  }
  master.next_heartbeat = world_.clock().now() + *master.heartbeat;
  std::vector<ChunkId> told = request.bad_chunks;
  auto answer = co_await typed_call(master.client, std::move(request), call_options());
  if (!answer) co_return answer.error().in("heartbeat");
  for (ChunkId chunk : told)
    master.bad.erase(chunk);
  if (!master.bad.empty()) master.next_heartbeat = world_.clock().now();
  Result<void> learned = co_await learn(answer->reply.term, answer->reply.log_time_ms, std::move(answer->reply.keys));
  if (!learned) co_return learned.error();
  master.last_error = ErrorCode{};
  co_return answer->reply.register_again;
}

}  // namespace cairn
