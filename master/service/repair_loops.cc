// What the keeper does by itself while it leads: recovers what dead writers left, finishes raises that were begun,
// brings chunks to their goal, deletes what is no longer wanted, changes the key of capabilities.
#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "master/service/chunk_keeper_impl.h"

namespace cairn {

namespace {
constexpr Duration kRecoveryPeriod = std::chrono::milliseconds(500);
constexpr Duration kRepairPeriod = std::chrono::seconds(2);
constexpr Duration kRepairGather = std::chrono::milliseconds(20);  // steps that end together are followed by one look
constexpr Duration kGarbagePeriod = std::chrono::seconds(2);
constexpr Duration kKeyPeriod = std::chrono::seconds(10);
constexpr uint64_t kKeyLifeMs = 24ull * 3600 * 1000;  // log time
constexpr Duration kRetryAfter = std::chrono::seconds(2);
constexpr uint32_t kListMax = 1024;
constexpr uint32_t kGarbageMax = 512;
}  // namespace

// ---------------------------------------------------------------- keys

Task<void> ChunkKeeper::Impl::run_keys(uint64_t of_leadership) {
  uint64_t made_at_ms = core.log_time_ms();
  while (current(of_leadership)) {
    ClusterRecord cluster = core.machine().cluster();
    bool due = core.log_time_ms() - std::min(core.log_time_ms(), made_at_ms) > kKeyLifeMs;
    if (cluster.keys.empty() || due) {
      RotateKeys rotate;
      rotate.key.id = cluster.keys.empty() ? 1 : cluster.keys.front().id + 1;
      for (size_t i = 0; i < kCapabilityKeyBytes; ++i) {
        rotate.key.key.push_back(static_cast<char>(core.world().random().next_u64() >> 56));
      }
      Result<ReplyBody> rotated = co_await core.propose(std::move(rotate));
      if (rotated) made_at_ms = core.log_time_ms();
      if (!rotated) log_warning("master.key_failed", "error={}", quoted(rotated.error().message()));
    }
    Result<void> slept = co_await tasks.sleep_for(kKeyPeriod);
    if (!slept) co_return;
  }
}

// ---------------------------------------------------------------- recovery (rules 7 and 8)

Task<void> ChunkKeeper::Impl::run_recovery(uint64_t of_leadership) {
  while (current(of_leadership)) {
    bool ended =
        std::ranges::any_of(core.machine().sessions(), [](const SessionEntry& entry) { return entry.session.ended; });
    if (ended && !unsettled()) {
      auto ask = [](Machine& machine) { return machine.chunks_to_recover(kListMax); };
      Result<std::vector<ChunkEntry>> left = co_await core.read_blocking(ask);
      for (const ChunkEntry& entry : left ? *left : std::vector<ChunkEntry>()) {
        if (running.size() >= options.repairs_at_once * 4) break;
        auto again = retry.find(entry.id);
        if (running.contains(entry.id) || (again != retry.end() && again->second > now())) continue;
        running.insert(entry.id);
        tasks.spawn(recover_one(entry.id));
      }
    }
    Result<void> waited = co_await work.wait_until(core.world().clock(), now() + kRecoveryPeriod);
    if (waited) {  // many may tell at once: one look for all of them
      Result<void> slept = co_await tasks.sleep_for(std::chrono::milliseconds(10));
      if (!slept) co_return;
    }
    if (tasks.stop_requested()) co_return;
  }
}

Task<void> ChunkKeeper::Impl::recover_one(ChunkId chunk) {
  Result<void> done = co_await recover(chunk);
  if (!done) {
    log_warning("master.recovery_failed", "chunk={} error={}", chunk, quoted(done.error().message()));
    retry[chunk] = now() + kRetryAfter;
  } else {
    retry.erase(chunk);
  }
  running.erase(chunk);
  recovered.notify_all();
}

// A raise that is pending and that nobody is working on: a leader before this one began it, or the writer gave up.
Task<void> ChunkKeeper::Impl::finish_pending(ChunkId chunk) {
  {
    Semaphore::Permit turn = co_await lock(chunk);
    Result<ChunkRecord> found = co_await record(chunk);
    if (found && found->pending) {
      SessionId session = found->pending->session;
      bool lives = session && core.machine().session(session).has_value();
      Result<Raised> raised = co_await raise(chunk, lives ? session : SessionId{}, {}, false, {});
      if (!raised) {
        log_warning("master.raise_unfinished", "chunk={} error={}", chunk, quoted(raised.error().message()));
        retry[chunk] = now() + kRetryAfter;
      }
    }
  }
  running.erase(chunk);
  repaired.notify_all();
}

// ---------------------------------------------------------------- repair to the goal

Task<void> ChunkKeeper::Impl::run_repair(uint64_t of_leadership) {
  while (current(of_leadership)) {
    bool planned = false;
    if (!unsettled()) planned = co_await repair_round(of_leadership);
    TimePoint next = now() + kRepairPeriod;
    if (planned) {
      Result<void> stepped = co_await repaired.wait_until(core.world().clock(), next);
      if (stepped) next = now() + kRepairGather;
    }
    Result<void> slept = co_await tasks.sleep_until(next);
    if (!slept) co_return;
  }
}

// The next part of a list of chunks, as many as one round looks at: after the ones of before, if nothing could be done
// for any of those. What cannot be repaired (no server for it, no copy left) must not keep the others waiting.
Task<Result<void>> ChunkKeeper::Impl::list_to_repair(std::optional<ServerId> dead, RepairList& list) {
  ChunkId after = repair_after[dead];
  auto ask = [dead, after, count = options.repair_list](Machine& machine) {
    return dead ? machine.chunks_on(*dead, after, count) : machine.chunks_to_repair(after, count);
  };
  Result<std::vector<ChunkEntry>> found = co_await core.read_blocking(ask);
  if (!found) co_return found.error();
  bool more = found->size() == options.repair_list;
  list.next[dead] = more ? found->back().id : ChunkId{};
  for (ChunkEntry& entry : *found)
    list.chunks[entry.id] = std::move(entry.chunk);
  co_return Result<void>();
}

// True if something was begun.
Task<bool> ChunkKeeper::Impl::repair_round(uint64_t of_leadership) {
  std::erase_if(retry, [this](const auto& entry) { return entry.second <= now(); });
  RepairList list;
  Result<void> listed = co_await list_to_repair(std::nullopt, list);
  if (!listed) co_return false;
  for (ServerId server : servers.ids()) {
    if (!servers.dead(server)) continue;
    listed = co_await list_to_repair(server, list);
    if (!listed) co_return false;
  }
  if (!current(of_leadership)) co_return false;
  std::vector<RepairChunk> chunks;
  bool begun = false;
  for (auto& [id, chunk] : list.chunks) {
    if (running.contains(id) || retry.contains(id)) continue;
    if (chunk.pending) {
      begun = true;
      running.insert(id);
      tasks.spawn(finish_pending(id));
      continue;
    }
    // Granted and not yet written: there is nothing to copy. Of a session that has ended: recovery comes first.
    bool open = chunk.state == ChunkState::kOpen;
    if (chunk.refs == 0 || (open && !core.machine().session(chunk.session))) continue;
    RepairChunk repair{.chunk = id, .version = chunk.version, .open = open, .goal = chunk.goal, .replicas = {}};
    for (const ReplicaRecord& replica : chunk.replicas) {
      RepairReplica::State state = replica.state == ReplicaState::kCurrent   ? RepairReplica::State::kCurrent
                                   : replica.state == ReplicaState::kJoining ? RepairReplica::State::kJoining
                                                                             : RepairReplica::State::kUnusable;
      repair.replicas.push_back({.server = replica.server, .state = state});
    }
    chunks.push_back(std::move(repair));
  }
  size_t free_slots = options.repairs_at_once - std::min<size_t>(options.repairs_at_once, running.size());
  if (free_slots == 0) co_return true;
  RepairLimits limits;
  limits.steps_max = free_slots;
  for (RepairStep& step : plan_repair(servers.view(), chunks, limits, core.world().random().next_u64())) {
    begun = true;
    running.insert(step.chunk);
    tasks.spawn(run_step(std::move(step)));
  }
  if (!begun) repair_after = std::move(list.next);
  co_return begun;
}

Task<void> ChunkKeeper::Impl::run_step(RepairStep step) {
  ChunkId chunk = step.chunk;
  for (ServerId server : {step.source, step.target}) {
    if (LiveServer* live = servers.find(server)) ++live->copies_running;
  }
  Result<void> done;
  switch (step.kind) {
    case RepairStep::Kind::kCopy:
      done = co_await copy_step(step);
      break;
    case RepairStep::Kind::kDrop:
      done = co_await drop_step(step);
      break;
    case RepairStep::Kind::kFill:
    case RepairStep::Kind::kJoin:
      done = co_await join_step(step);
      break;
  }
  for (ServerId server : {step.source, step.target}) {
    LiveServer* live = servers.find(server);  // perhaps another than before: it may have been removed, and be back
    if (live && live->copies_running > 0) --live->copies_running;
  }
  if (!done) {
    log_warning("master.repair_failed", "chunk={} error={}", chunk, quoted(done.error().message()));
    retry[chunk] = now() + kRetryAfter;
  }
  running.erase(chunk);
  repaired.notify_all();
}

Task<Result<void>> ChunkKeeper::Impl::copy_step(RepairStep step) {
  std::vector<Answer> copied = co_await order_copies(step.chunk, step.version, step.source, {step.target}, true);
  if (copied.empty()) co_return Error(ErrorCode::kUnavailable, "copying to chunkserver " + to_string(step.target));
  Semaphore::Permit turn = co_await lock(step.chunk);
  Result<ChunkRecord> found = co_await record(step.chunk);
  if (!found) co_return found.error();
  if (found->version != step.version || found->state != ChunkState::kSealed) co_return Result<void>();  // overtaken
  SetReplicas set{.chunk = step.chunk, .expected_version = step.version, .replicas = {}};
  for (const ReplicaRecord& replica : found->replicas) {
    if (replica.server == step.target || replica.server == step.replaced) continue;
    set.replicas.push_back({.server = replica.server, .state = replica.state});
  }
  set.replicas.push_back(
      {.server = step.target, .state = ReplicaState::kCurrent, .incarnation = copied.front().incarnation});
  Result<ReplyBody> done = co_await core.propose(std::move(set));
  if (!done) co_return done.error();
  log_info("master.repaired", "chunk={} version={} source={} target={}", step.chunk, step.version, step.source,
           step.target);
  co_return Result<void>();
}

Task<Result<void>> ChunkKeeper::Impl::drop_step(RepairStep step) {
  Semaphore::Permit turn = co_await lock(step.chunk);
  Result<ChunkRecord> found = co_await record(step.chunk);
  if (!found) co_return found.error();
  SetReplicas set{.chunk = step.chunk, .expected_version = step.version, .replicas = {}};
  for (const ReplicaRecord& replica : found->replicas) {
    if (replica.server != step.replaced) set.replicas.push_back({.server = replica.server, .state = replica.state});
  }
  Result<ReplyBody> done = co_await core.propose(std::move(set), true);
  if (!done) co_return done.error();
  co_return Result<void>();
}

// The writer is stopped by the raise, asks, and goes on with the longer chain: at most the time that one chunk takes to
// copy.
Task<Result<void>> ChunkKeeper::Impl::join_step(RepairStep step) {
  Semaphore::Permit turn = co_await lock(step.chunk);
  Result<ChunkRecord> found = co_await record(step.chunk);
  if (!found) co_return found.error();
  if (found->version != step.version || found->state != ChunkState::kOpen || found->pending) co_return Result<void>();
  std::vector<ServerId> without;
  if (step.replaced) without.push_back(*step.replaced);
  Result<Raised> raised = co_await raise(step.chunk, found->session, without, false, {step.target});
  if (!raised) co_return raised.error();
  co_return Result<void>();
}

// ---------------------------------------------------------------- deleting

Task<void> ChunkKeeper::Impl::run_garbage(uint64_t of_leadership) {
  while (current(of_leadership)) {
    bool more = false;
    for (ServerId server : servers.ids()) {
      if (!servers.alive(server) || core.machine().counters().garbage == 0 || unsettled()) continue;
      auto ask = [server, time = core.log_time_ms()](Machine& machine) {
        return machine.due_garbage(server, time, kGarbageMax);
      };
      Result<std::vector<GarbageEntry>> due = co_await core.read_blocking(ask);
      if (!due || due->empty()) continue;
      DeleteChunksRequest request;
      RemoveGarbage done{.server = server, .chunks = {}};
      for (const GarbageEntry& entry : *due) {
        request.chunks.emplace_back(entry.chunk, entry.version);
        done.chunks.push_back(entry.chunk);
      }
      auto deleted = co_await order(server, std::move(request));
      if (!deleted || !current(of_leadership)) continue;
      Result<ReplyBody> removed = co_await core.propose(std::move(done), true);
      if (removed && due->size() == kGarbageMax) more = true;
    }
    if (more) continue;
    Result<void> slept = co_await tasks.sleep_for(kGarbagePeriod);
    if (!slept) co_return;
  }
}

}  // namespace cairn
