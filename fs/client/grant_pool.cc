#include "fs/client/grant_pool.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"

namespace cairn {

namespace {
constexpr uint32_t kBatchMax = 64;
// How long a writer waits while fewer servers are there than min_copies (docs/consistency.md).
constexpr Duration kServersWait = std::chrono::seconds(30);
constexpr Duration kAskAgain = std::chrono::milliseconds(500);
// Capabilities run out and servers fill up or go away: what has lain about for longer is not used.
constexpr Duration kGrantAgeMax = std::chrono::minutes(5);
}  // namespace

GrantPool::GrantPool(World& world, MasterLink& master, const ServerPool& servers)
    : world_(world),
      master_(master),
      servers_(servers),
      changed_(world.executor()),
      tasks_(world.executor(), world.clock()) {}

Task<Result<ChunkGrant>> GrantPool::take(uint8_t goal, uint8_t min_copies, TimePoint deadline) {
  Kind& kind = kinds_[{goal, min_copies}];
  if (!kind.ready.empty() && kind.granted_at + kGrantAgeMax < world_.clock().now()) kind.ready.clear();
  drop_silent(kind);
  uint64_t rounds = kind.rounds;
  TimePoint until = std::min(world_.clock().now() + kServersWait, deadline);
  while (kind.ready.empty()) {
    // Servers may be on their way back: for a while it is worth asking again.
    if (!kind.asking && kind.rounds > rounds && kind.last_error &&
        kind.last_error->code == ErrorCode::kTooFewReplicas && world_.clock().now() < until) {
      Result<void> slept = co_await tasks_.sleep_for(kAskAgain);
      if (!slept) co_return slept.error();
      rounds = kind.rounds;
      continue;
    }
    // An answer that came after we began to wait, and brought nothing for us, is an error for us too. If it brought
    // something, others have taken it, or a server in it has become silent: it is worth asking again.
    if (!kind.asking && kind.rounds > rounds && kind.last_error) co_return *kind.last_error;
    if (world_.clock().now() >= deadline) co_return Error(ErrorCode::kTimeout, "no master has granted a chunk in time");
    if (!kind.asking) {
      kind.asking = true;
      tasks_.spawn(refill(goal, min_copies));
    }
    if (tasks_.stop_requested()) co_return Error(ErrorCode::kCancelled);
    Result<void> answered = co_await changed_.wait_until(world_.clock(), deadline);
    if (!answered) co_return Error(ErrorCode::kTimeout, "no master has granted a chunk in time");
    drop_silent(kind);
  }
  ChunkGrant grant = std::move(kind.ready.front().grant);
  kind.ready.pop_front();
  if (kind.ready.size() < kind.batch / 2 && !kind.asking) {  // ask again before it is empty
    kind.asking = true;
    tasks_.spawn(refill(goal, min_copies));
  }
  co_return grant;
}

Task<void> GrantPool::refill(uint8_t goal, uint8_t min_copies) {
  Kind& kind = kinds_[{goal, min_copies}];
  GrantChunksOp op;
  op.goal = goal;
  op.min_copies = min_copies;
  // Only the number of placements matters: the leader chooses the servers.
  op.placements.resize(kind.batch);
  op.avoid = servers_.silent_servers();
  auto avoided = std::make_shared<const std::vector<ServerId>>(op.avoid);
  kind.batch = std::min(kind.batch * 2, kBatchMax);
  Result<MutationReply> reply = co_await master_.mutate(std::move(op));
  if (reply) {
    if (kind.ready.empty()) kind.granted_at = world_.clock().now();
    for (ChunkGrant& grant : reply->grants)
      kind.ready.push_back({.grant = std::move(grant), .avoided = avoided});
    kind.last_error.reset();
    if (reply->grants.empty()) kind.last_error = Error(ErrorCode::kNoSpace, "the master granted no chunk");
  } else {
    kind.last_error = reply.error();
  }
  kind.asking = false;
  ++kind.rounds;
  changed_.notify_all();
}

void GrantPool::forget_all() {
  for (auto& [key, kind] : kinds_)
    kind.ready.clear();
}

void GrantPool::drop_silent(Kind& kind) {
  std::vector<ChunkId> dropped;
  std::erase_if(kind.ready, [&](const Ready& ready) {
    bool silent = std::ranges::any_of(ready.grant.replicas, [&](const ReplicaAddress& replica) {
      return servers_.silent(replica.address) &&
             std::ranges::find(*ready.avoided, replica.server) == ready.avoided->end();
    });
    if (silent) dropped.push_back(ready.grant.chunk);
    return silent;
  });
  if (!dropped.empty()) tasks_.spawn(give_back(std::move(dropped)));
}

Task<void> GrantPool::give_back(std::vector<ChunkId> chunks) {
  ReturnChunksOp op;
  op.chunks = std::move(chunks);
  Result<MutationReply> reply = co_await master_.mutate(std::move(op));
  if (!reply) log_debug("client.give_back", "error={}", quoted(reply.error().message()));  // they go with the session
}

}  // namespace cairn
