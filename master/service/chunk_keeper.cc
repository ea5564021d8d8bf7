#include "master/service/chunk_keeper.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/base/units.h"
#include "master/service/chunk_keeper_impl.h"

namespace cairn {

namespace {
constexpr uint64_t kPlannedChunkBytes =
    4 * kMiB;  // what a new chunk is expected to hold, until the server says how much is free
// Chunkservers look for a new leader each tenth of a second (ServerAgent): who has not come after that is not waited
// for.
constexpr Duration kSettleTime = std::chrono::seconds(1);
constexpr Duration kRecoveryWait = std::chrono::seconds(10);
}  // namespace

ChunkKeeper::Impl::Impl(MasterCore& core_in, UnheldFiles& unheld_in, ChunkKeeperOptions options_in)
    : core(core_in),
      unheld(unheld_in),
      options(options_in),
      servers(core_in.world(), Hello{.cluster = core_in.cluster(), .program = "cairn-master"},
              std::chrono::milliseconds(options_in.server_dead_ms),
              std::chrono::milliseconds(options_in.repair_delay_ms)),
      work(core_in.world().executor()),
      recovered(core_in.world().executor()),
      repaired(core_in.world().executor()),
      tasks(core_in.world().executor(), core_in.world().clock()) {}

ChunkKeeper::ChunkKeeper(MasterCore& core, UnheldFiles& unheld, ChunkKeeperOptions options)
    : impl_(std::make_unique<Impl>(core, unheld, options)) {}
ChunkKeeper::~ChunkKeeper() = default;

void ChunkKeeper::start_leading() {
  Impl& keeper = *impl_;
  ++keeper.leadership;
  keeper.led_since = keeper.now();
  keeper.unknown.clear();
  keeper.totals.reset();
  keeper.repair_after.clear();
  // What an earlier leadership of this master knew of servers is old.
  for (ServerId id : keeper.servers.ids()) {
    if (!keeper.core.machine().server(id)) keeper.servers.forget(id);
  }
  for (const ServerEntry& entry : keeper.core.machine().servers()) {
    keeper.servers.expect(entry.id, entry.server.address, entry.server.domain);
  }
  keeper.tasks.spawn(keeper.run_keys(keeper.leadership));
  keeper.tasks.spawn(keeper.run_recovery(keeper.leadership));
  keeper.tasks.spawn(keeper.run_repair(keeper.leadership));
  keeper.tasks.spawn(keeper.run_garbage(keeper.leadership));
  keeper.tasks.spawn(keeper.run_sealing(keeper.leadership));
  if (keeper.options.dump_interval_ms > 0) keeper.tasks.spawn(keeper.run_dumps(keeper.leadership));
  if (keeper.core.machine().restore()) keeper.tasks.spawn(keeper.run_settle(keeper.leadership));
}

void ChunkKeeper::excuse_silence() {
  impl_->servers.excuse_silence();
}

void ChunkKeeper::stop_leading() {
  ++impl_->leadership;
  impl_->work.notify_all();
  impl_->recovered.notify_all();
  impl_->repaired.notify_all();
}

Task<void> ChunkKeeper::stop() {
  stop_leading();
  co_await impl_->servers.stop();  // whoever waits for an order's answer gets it now
  impl_->work.notify_all();
  co_await impl_->tasks.stop();
}

// ---------------------------------------------------------------- small things

std::string ChunkKeeper::Impl::sign(ChunkId chunk, uint64_t version, SessionId session, CapabilityRights rights) const {
  ClusterRecord cluster = core.machine().cluster();
  if (cluster.keys.empty()) return {};  // until the first key is logged; whoever gets it asks again
  Capability capability;
  capability.chunk = chunk;
  capability.version = version;
  capability.session = session;
  capability.rights = rights;
  capability.expires_ms = core.log_time_ms() + options.capability_life_ms;
  return sign_capability(capability, cluster.keys.front().id, cluster.keys.front().key);
}

ReplicaAddress ChunkKeeper::Impl::address_of(ServerId server) const {
  const LiveServer* live = servers.find(server);
  return {.server = server, .address = live ? live->address : std::string()};
}

Task<Result<ChunkRecord>> ChunkKeeper::Impl::record(ChunkId chunk) {
  auto ask = [chunk](Machine& machine, ReadMode mode) { return machine.chunk(chunk, mode); };
  Result<ChunkRecord> found = co_await core.read(ask);
  co_return found;
}

Task<Semaphore::Permit> ChunkKeeper::Impl::lock(ChunkId chunk) {
  if (locks.size() > 4096) drop_unused_locks();
  std::unique_ptr<Mutex>& mutex = locks[chunk];
  if (!mutex) mutex = std::make_unique<Mutex>(core.world().executor());
  Semaphore::Permit permit = co_await mutex->lock();
  co_return permit;
}

void ChunkKeeper::Impl::drop_unused_locks() {
  std::erase_if(locks, [](const auto& entry) { return entry.second->free() == 1 && entry.second->waiting() == 0; });
}

// ---------------------------------------------------------------- for clients

Task<void> ChunkKeeper::settle() {
  Impl& keeper = *impl_;
  TimePoint until =
      keeper.led_since + std::min<Duration>(std::chrono::milliseconds(keeper.options.server_dead_ms), kSettleTime);
  while (keeper.now() < until && keeper.servers.alive_count() < keeper.servers.ids().size() &&
         !keeper.tasks.stop_requested()) {
    Result<void> registered = co_await keeper.work.wait_until(keeper.core.world().clock(), until);
    if (!registered) co_return;
  }
}

Result<void> ChunkKeeper::place(GrantChunksOp& op) {
  ClusterRecord cluster = impl_->core.machine().cluster();
  uint8_t goal = op.goal != 0 ? op.goal : cluster.default_goal;
  uint8_t min_copies = std::min(goal, op.min_copies != 0 ? op.min_copies : cluster.default_min_copies);
  if (cluster.expected_servers != 0)
    min_copies = static_cast<uint8_t>(std::min<uint32_t>(min_copies, cluster.expected_servers));
  ClusterView view = impl_->servers.view();
  ChooseRequest request;
  request.count = goal;
  request.count_min = std::max<uint8_t>(min_copies, 1);
  std::vector<std::vector<ServerId>> placements;
  for (size_t i = 0; i < op.placements.size(); ++i) {
    // What does not answer this client may still be heard here: it is only left out where enough others are.
    request.excluded = op.avoid;
    Result<std::vector<ServerId>> chosen = choose_servers(view, request, impl_->core.world().random().next_u64());
    if (!chosen && !op.avoid.empty()) {
      request.excluded.clear();
      chosen = choose_servers(view, request, impl_->core.world().random().next_u64());
    }
    if (!chosen) {
      if (placements.empty()) return chosen.error();
      break;  // fewer than asked for are of use, too
    }
    for (ServerId server : *chosen)
      impl_->servers.find(server)->promised_bytes += kPlannedChunkBytes;
    placements.push_back(std::move(*chosen));
  }
  op.goal = goal;
  op.min_copies = min_copies;
  op.placements = std::move(placements);
  op.avoid.clear();
  return {};
}

void ChunkKeeper::complete(ChunkGrant& grant, SessionId session) {
  for (ReplicaAddress& replica : grant.replicas)
    replica = impl_->address_of(replica.server);
  grant.capability =
      impl_->sign(grant.chunk, grant.version, session, CapabilityRights::kRead | CapabilityRights::kWrite);
}

Task<Result<OpenChunkReply>> ChunkKeeper::open_for_writing(SessionId session, InodeId inode, uint32_t index) {
  Impl& keeper = *impl_;
  Result<void> usable = co_await keeper.wait_settled();
  if (!usable) co_return usable.error();
  auto ask = [inode, index](Machine& machine, ReadMode mode) { return machine.layout(inode, index, 1, mode); };
  Result<std::vector<FileChunk>> layout = co_await keeper.core.read(ask);
  if (!layout) co_return layout.error();
  if (layout->empty() || layout->front().index != index) co_return Error(ErrorCode::kNotFound, "no chunk there");
  ChunkId chunk = layout->front().id;
  if (layout->front().chunk.state == ChunkState::kOpen) {
    // Left open, by another session that has no lease any more, or by this one when it gave its writes up: what was
    // written is settled first. Replicas may have taken writes that the new writer does not know, and would take its
    // own for those, by their numbers.
    Result<void> settled = co_await keeper.recover(chunk);
    if (!settled) co_return settled.error();
  }
  co_await settle();
  Semaphore::Permit turn = co_await keeper.lock(chunk);
  Result<Impl::Raised> raised = co_await keeper.raise(chunk, session, {}, false, {});
  if (!raised) co_return raised.error();
  Result<OpenChunkReply> reply = co_await keeper.open_reply(chunk, session, std::move(*raised));
  if (!reply) co_return reply;
  // Asked again: a recovery in between may have hidden bytes that the writer before this one had not committed.
  layout = co_await keeper.core.read(ask);
  if (!layout) co_return layout.error();
  if (layout->empty() || layout->front().id != chunk)
    co_return Error(ErrorCode::kConflict, "chunk " + to_string(chunk) + " has left the file");
  reply->limit = layout->front().limit;
  co_return reply;
}

Task<Result<OpenChunkReply>> ChunkKeeper::replica_failed(ReplicaFailedRequest request) {
  Impl& keeper = *impl_;
  co_await settle();
  Semaphore::Permit turn = co_await keeper.lock(request.chunk);
  Result<ChunkRecord> found = co_await keeper.record(request.chunk);
  if (found.failed_with(ErrorCode::kNotFound))
    co_return Error(ErrorCode::kStale, "chunk " + to_string(request.chunk) + " is no more");
  // Of a master that does not lead any more it says nothing: the writer throws away what it kept when the chunk is gone.
  if (!found) co_return found.error();
  bool full = request.reason.starts_with(to_string(ErrorCode::kNoSpace));
  // Asked again, because the answer was lost: it has been settled for want of room, below.
  bool settled_before = full && found->session == request.session && found->state == ChunkState::kSealed;
  if (settled_before)
    co_return Error(ErrorCode::kNoSpace, "no chunkserver had room for chunk " + to_string(request.chunk));
  if (found->session != request.session || found->state != ChunkState::kOpen) {
    co_return Error(ErrorCode::kStale, "chunk " + to_string(request.chunk) + " is not this session's any more");
  }
  if (!full) {
    for (ServerId server : request.failed) {
      // A server that the master hears may still be cut off from the writer: it leaves this chunk, nothing else.
      log_warning("master.replica_failed", "chunk={} server={} session={} reason={}", request.chunk, server,
                  request.session, quoted(request.reason));
      keeper.servers.suspect_if_overdue(server, std::chrono::milliseconds(keeper.options.heartbeat_ms) * 3 / 2);
    }
  }
  Result<Impl::Raised> raised = co_await keeper.raise(request.chunk, request.session, request.failed, full, {});
  if (raised.failed_with(ErrorCode::kNoSpace)) {
    // The writer gives up what it kept, and some replicas may have taken some of that, on no disk. It is settled before
    // the writer hears of it: what is read of the file after its next fsync must be the same on every replica, and
    // still be there after a power cut. Until it can be settled the writer goes on asking.
    Result<void> settled = co_await keeper.settle_given_up(request.chunk);
    if (!settled) co_return settled.error();
  }
  if (!raised) co_return raised.error();
  Result<OpenChunkReply> reply = co_await keeper.open_reply(request.chunk, request.session, std::move(*raised));
  co_return reply;
}

Task<Result<ChunkGrant>> ChunkKeeper::renew_grant(SessionId session, ChunkId chunk) {
  Result<ChunkRecord> found = co_await impl_->record(chunk);
  if (!found) co_return found.error();
  if (found->session != session || found->state != ChunkState::kOpen) {
    co_return Error(ErrorCode::kStale, "chunk " + to_string(chunk) + " is not this session's");
  }
  ChunkGrant grant;
  grant.chunk = chunk;
  grant.version = found->version;
  grant.min_copies = found->min_copies;
  for (const ReplicaRecord& replica : found->replicas)
    grant.replicas.push_back({.server = replica.server, .address = {}});
  complete(grant, session);
  co_return grant;
}

void ChunkKeeper::report_bad(ReportBadReplicaRequest request) {
  if (error_code_from_wire(request.error) != ErrorCode::kCorrupt) return;
  impl_->tasks.spawn(
      impl_->mark(request.server, ReplicaState::kBad, {{.chunk = request.chunk, .version = request.version}}));
}

Task<Result<ChunkLocation>> ChunkKeeper::location(FileChunk chunk, SessionId session) {
  Impl& keeper = *impl_;
  if (keeper.unsettled()) {
    Result<void> usable = co_await keeper.wait_settled();
    if (!usable) co_return usable.error();
    Result<ChunkRecord> settled = co_await keeper.record(chunk.id);
    if (!settled) co_return settled.error();
    chunk.chunk = std::move(*settled);
  }
  TimePoint until = keeper.now() + kRecoveryWait;
  // What a dead writer left is settled before anybody reads it: two readers must not see two answers.
  while (chunk.chunk.state == ChunkState::kOpen && !keeper.core.machine().session(chunk.chunk.session)) {
    keeper.work.notify_all();
    Result<void> waited = co_await keeper.recovered.wait_until(keeper.core.world().clock(), until);
    Result<ChunkRecord> again = co_await keeper.record(chunk.id);
    if (!again) co_return again.error();
    chunk.chunk = std::move(*again);
    if (!waited) break;
  }
  ChunkLocation location;
  location.index = chunk.index;
  location.chunk = chunk.id;
  location.version = chunk.chunk.version;
  location.open = chunk.chunk.state == ChunkState::kOpen;
  location.limit = chunk.limit;
  location.capability = keeper.sign(chunk.id, chunk.chunk.version, session, CapabilityRights::kRead);
  std::vector<ReplicaAddress> doubtful;
  for (const ReplicaRecord& replica : chunk.chunk.replicas) {
    if (replica.state != ReplicaState::kCurrent) continue;
    Result<ServerRecord> server = keeper.core.machine().server(replica.server);
    bool good = server && replica_verified(chunk.chunk, replica, *server) && keeper.servers.alive(replica.server);
    (good ? location.replicas : doubtful).push_back(keeper.address_of(replica.server));
  }
  for (ReplicaAddress& replica : doubtful)
    location.replicas.push_back(std::move(replica));
  co_return location;
}

Task<Result<void>> ChunkKeeper::wait_recovered(InodeId inode, TimePoint deadline) {
  Impl& keeper = *impl_;
  Result<void> usable = co_await keeper.wait_settled();
  if (!usable) co_return usable;
  for (;;) {
    bool ended = std::ranges::any_of(keeper.core.machine().sessions(),
                                     [](const SessionEntry& entry) { return entry.session.ended; });
    if (!ended) co_return Result<void>();
    auto ask = [](Machine& machine) { return machine.chunks_to_recover(4096); };
    Result<std::vector<ChunkEntry>> left = co_await keeper.core.read_blocking(ask);
    if (!left) co_return left.error();
    bool ours = std::ranges::any_of(*left, [inode](const ChunkEntry& entry) { return entry.chunk.owner == inode; });
    if (!ours) co_return Result<void>();
    keeper.work.notify_all();
    Result<void> waited = co_await keeper.recovered.wait_until(keeper.core.world().clock(), deadline);
    if (!waited)
      co_return Error(ErrorCode::kTimeout,
                      "inode " + to_string(inode) + " waits for the recovery of a dead writer's chunks");
  }
}

// ---------------------------------------------------------------- for people

std::vector<ServerStatus> ChunkKeeper::servers() const {
  std::vector<ServerStatus> out;
  for (ServerId id : impl_->servers.ids()) {
    const LiveServer* server = impl_->servers.find(id);
    ServerStatus status;
    status.server = id;
    status.address = server->address;
    status.domain = server->domain;
    status.program = server->program;
    status.alive = impl_->servers.alive(id);
    Duration silent = impl_->now() - server->heard;
    status.silent_ms = static_cast<uint64_t>(std::max<int64_t>(0, silent / std::chrono::milliseconds(1)));
    status.space = server->space;
    out.push_back(std::move(status));
  }
  return out;
}

ChunkHealth ChunkKeeper::health() const {
  CounterRecord counters = impl_->core.machine().counters();
  ChunkHealth health;
  health.total = counters.chunks;
  health.healthy = counters.healthy;
  health.under_goal = counters.under_goal;
  health.at_risk = counters.one_copy;
  health.lost = counters.lost;
  health.open = counters.open;
  health.over_goal = counters.over_goal;
  health.garbage = counters.garbage;
  return health;
}

std::vector<std::string> ChunkKeeper::warnings() const {
  std::vector<std::string> out;
  impl_->add_restore_warnings(out);
  ClusterRecord cluster = impl_->core.machine().cluster();
  size_t alive = impl_->servers.alive_count();
  for (const ServerStatus& server : servers()) {
    if (!server.alive)
      out.push_back("chunkserver " + server.address + " has not been heard of for " +
                    std::to_string(server.silent_ms / 1000) + " s" +
                    (impl_->servers.dead(server.server)
                         ? "; if it is gone for good: cairn server remove " + to_string(server.server)
                         : ""));
    if (server.space.stores_failed > 0)
      out.push_back("chunkserver " + server.address + ": " + std::to_string(server.space.stores_failed) +
                    " data directories have failed");
  }
  if (alive < cluster.default_goal) {
    out.push_back("goal " + std::to_string(cluster.default_goal) + " but only " + std::to_string(alive) +
                  " chunkservers are alive");
  }
  if (alive < cluster.default_min_copies) {
    out.push_back("new data cannot be written: " + std::to_string(cluster.default_min_copies) +
                  " chunkservers are needed");
  } else if (alive == cluster.default_min_copies) {
    out.push_back("one more failure of a chunkserver stops writing");
  }
  ChunkHealth chunks = health();
  if (chunks.lost > 0) out.push_back(std::to_string(chunks.lost) + " chunks have no copy left");
  if (chunks.at_risk > 0) out.push_back(std::to_string(chunks.at_risk) + " chunks have a single copy");
  if (chunks.under_goal > 0)
    out.push_back(std::to_string(chunks.under_goal) + " chunks have fewer copies than their goal");
  return out;
}

// With n servers and `goal` copies of everything, no server can hold more than one copy: fill the smaller ones first.
std::pair<uint64_t, uint64_t> ChunkKeeper::space(uint8_t goal) const {
  std::vector<uint64_t> total, room;
  for (ServerId id : impl_->servers.ids()) {
    const LiveServer* server = impl_->servers.find(id);
    if (!impl_->servers.alive(id)) continue;
    total.push_back(server->space.total_bytes);
    room.push_back(server->space.free_bytes);
  }
  size_t copies = std::max<size_t>(1, std::min<size_t>(goal, total.size()));
  auto storable = [copies](std::vector<uint64_t> sizes) -> uint64_t {
    if (sizes.empty()) return 0;
    std::ranges::sort(sizes, std::greater<>());
    // Shares above an equal part of the rest cannot be used: the k largest are cut to what the others allow.
    uint64_t sum = 0;
    for (uint64_t size : sizes)
      sum += size;
    for (size_t k = 0; k + 1 < copies; ++k) {
      uint64_t rest = sum - sizes[k];
      uint64_t part = rest / (copies - 1 - k);
      if (sizes[k] <= part) return sum / (copies - k);
      sum = rest;
    }
    return sum;
  };
  return {storable(total), storable(room)};
}

Task<Result<std::vector<ReplicaInfo>>> ChunkKeeper::replicas(ChunkId, ChunkRecord chunk) {
  std::vector<ReplicaInfo> out;
  for (const ReplicaRecord& replica : chunk.replicas) {
    ReplicaInfo info;
    info.server = replica.server;
    info.address = impl_->address_of(replica.server).address;
    info.alive = impl_->servers.alive(replica.server);
    Result<ServerRecord> server = impl_->core.machine().server(replica.server);
    switch (replica.state) {
      case ReplicaState::kCurrent:
        info.state = server && replica_verified(chunk, replica, *server) ? "ok" : "unverified";
        break;
      case ReplicaState::kJoining:
        info.state = "joining";
        break;
      case ReplicaState::kBad:
        info.state = "bad";
        break;
      case ReplicaState::kMissing:
        info.state = "missing";
        break;
    }
    if (!info.alive && info.state == "ok") info.state = "silent";
    out.push_back(std::move(info));
  }
  co_return out;
}

}  // namespace cairn
