#include "chunkserver/agent/server_agent.h"

#include <algorithm>
#include <map>
#include <utility>

#include "common/base/log.h"
#include "common/rpc/leader_hint.h"
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
  rpc_.hello.program = options_.program;
  rpc_.hello.cluster = access_.cluster();
  rpc_.reconnect_pause_max = kRegisterPauseNoLeader;
}

ServerAgent::~ServerAgent() = default;

void ServerAgent::start() {
  kept_at_ = world_.clock().now();
  heard_at_ = kept_at_;
  tasks_.on_stop([this] { kick_.notify_all(); });
  for (const Address& address : options_.masters)
    (void)master_at(address);
}

ServerAgent::Master& ServerAgent::master_at(const Address& address) {
  auto known = std::ranges::find_if(masters_, [&](const auto& master) { return master->client.address() == address; });
  if (known != masters_.end()) return **known;
  masters_.push_back(std::make_unique<Master>(world_, address, rpc_));
  Master& master = *masters_.back();
  master.client.on_disconnect([this, &master] { disconnected(master); });
  tasks_.spawn(serve(master));
  return master;
}

Task<void> ServerAgent::stop() {
  for (size_t i = 0; i < masters_.size(); ++i)
    co_await masters_[i]->client.stop();
  co_await tasks_.stop();
  if (access_.heard() != kept_.masters) {
    Result<void> kept = co_await keep(access_.heard());
    if (!kept) log_warning("agent.state_not_kept", "error={}", quoted(kept.error().message()));
  }
}

void ServerAgent::report_bad(ChunkId chunk) {
  if (bad_.size() < kBadChunksMax) bad_.insert(chunk);
  for (auto& master : masters_)
    master->next_heartbeat = TimePoint{};
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
  // That it does not lead is no trouble.
  if (error.code != master.last_error && error.code != ErrorCode::kNotLeader) {
    log_warning("agent.master_failed", "master={} error={}", to_string(master.client.address()),
                quoted(error.message()));
  }
  master.last_error = error.code;
  // A wrong address in the configuration: nothing gets better by waiting. Later a stranger may answer at an address
  // that used to be a master's; that harms nobody.
  if (error.code == ErrorCode::kWrongCluster && !ever_known_ && events_.cannot_serve) events_.cannot_serve(error);
}

bool ServerAgent::leader_heard() const {
  return world_.clock().now() < heard_until_;
}

void ServerAgent::heard_leader(Master& master) {
  heard_at_ = world_.clock().now();
  heard_until_ = heard_at_ + *master.heartbeat + kHeartbeatGrace;
}

void ServerAgent::disconnected(Master& master) {
  if (!master.known || tasks_.stop_requested()) return;
  heard_until_ = TimePoint{};
  master.next_heartbeat = TimePoint{};
  kick_.notify_all();
}

Task<bool> ServerAgent::pause() {
  TimePoint end = world_.clock().now() + kRegisterPause;
  do {
    bool long_gone = world_.clock().now() > heard_at_ + kLongNoLeader;
    Duration step = long_gone ? kRegisterPauseLongNoLeader : kRegisterPauseNoLeader;
    step = step * 3 / 4 + Duration(world_.random().below(static_cast<uint64_t>(step.count()) / 4));
    Result<void> slept = co_await tasks_.sleep_for(step);
    if (!slept) co_return false;
  } while (leader_heard() && world_.clock().now() < end);
  co_return true;
}

Task<void> ServerAgent::serve(Master& master) {
  while (!tasks_.stop_requested()) {
    Result<void> served = co_await register_with(master);
    if (served) served = co_await beat(master);
    master.known = false;
    if (served) continue;  // it asks to be told again
    note_failure(master, served.error());
    if (served.code() == ErrorCode::kNotLeader && masters_.size() < kMastersKnownMax) {
      std::optional<LeaderHint> hint = parse_leader_hint(served.error().context);
      if (hint) (void)master_at(hint->address);
    }
    bool goes_on = co_await pause();
    if (!goes_on) co_return;
  }
}

// Who else belongs to the group. A master of before there were groups does not know.
Task<void> ServerAgent::learn_masters(Master& master) {
  master.next_learning = world_.clock().now() + kLearnMastersEvery;
  auto answer = co_await typed_call(master.client, MasterStatusRequest{}, call_options());
  if (!answer || tasks_.stop_requested()) co_return;
  for (const MasterMember& member : answer->reply.members) {
    Result<Address> address = parse_address(member.address);
    if (address && masters_.size() < kMastersKnownMax) (void)master_at(*address);
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
  heard_leader(master);
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
  rpc_.hello.cluster = cluster;
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
  next.term = std::max(term, kept_.masters.term);
  if (next.term != kept_.masters.term || (old && next != kept_.masters)) {
    Result<void> kept = co_await keep(next);
    if (!kept) co_return kept;
  }
  std::map<uint32_t, std::string> by_id;
  for (CapabilityKey& key : keys)
    by_id.emplace(key.id, std::move(key.key));
  access_.learn(term, log_time_ms, std::move(by_id));
  co_return Result<void>();
}

Task<Result<void>> ServerAgent::keep_term(uint64_t term) {
  auto permit = co_await learning_.lock();
  if (term <= kept_.masters.term) co_return Result<void>();
  Result<void> kept = co_await keep({term, access_.heard().log_time_ms});
  co_return kept;
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
    if (world_.clock().now() >= master.next_learning) tasks_.spawn(learn_masters(master));
    Result<bool> again = co_await beat_once(master);
    if (again && *again) co_return Result<void>();
    if (again || tasks_.stop_requested()) continue;
    // A master that is only slow still knows us; one that no longer leads or has been replaced must be asked anew.
    if (!worth_retrying(again.code())) co_return again.error();
    note_failure(master, again.error());
    bool long_gone = world_.clock().now() > heard_at_ + kLongNoLeader;
    master.next_heartbeat =
        world_.clock().now() + std::min(*master.heartbeat, long_gone ? kRegisterPause : kRegisterPauseNoLeader);
  }
  co_return Error(ErrorCode::kCancelled);
}

Task<Result<bool>> ServerAgent::beat_once(Master& master) {
  HeartbeatRequest request;
  request.server = store_.identity().server;
  request.incarnation = kept_.incarnation;
  request.space = space();
  for (ChunkId chunk : bad_) {
    if (request.bad_chunks.size() == kBadChunksPerHeartbeat) break;
    request.bad_chunks.push_back(chunk);
  }
  master.next_heartbeat = world_.clock().now() + *master.heartbeat;
  std::vector<ChunkId> told = request.bad_chunks;
  auto answer = co_await typed_call(master.client, std::move(request), call_options());
  if (!answer) co_return answer.error().in("heartbeat");
  for (ChunkId chunk : told)
    bad_.erase(chunk);
  if (!bad_.empty()) master.next_heartbeat = world_.clock().now();
  Result<void> learned = co_await learn(answer->reply.term, answer->reply.log_time_ms, std::move(answer->reply.keys));
  if (!learned) co_return learned.error();
  master.last_error = ErrorCode{};
  heard_leader(master);
  co_return answer->reply.register_again;
}

}  // namespace cairn
