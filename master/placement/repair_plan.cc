#include "master/placement/repair_plan.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "master/placement/choose.h"

namespace cairn {
namespace {

using State = RepairReplica::State;

// A chunk's replicas, sorted by what they are good for.
struct Standing {
  const RepairChunk* chunk = nullptr;
  std::vector<const ServerView*> sources;   // current and alive
  std::vector<const ServerView*> draining;  // among the copies: to be moved
  std::vector<const ServerView*> joining;   // alive, and not yet whole
  std::vector<ServerId> broken;             // bad or missing, on a server that is alive
  std::vector<ServerId> dead;               // on dead servers, or servers that nobody knows
  std::vector<ServerId> named;
  uint32_t copies = 0;  // current, not dead
};

Standing stand(const ClusterView& view, const RepairChunk& chunk) {
  Standing s{.chunk = &chunk};
  for (const RepairReplica& replica : chunk.replicas) {
    s.named.push_back(replica.server);
    const ServerView* server = view.find(replica.server);
    if (server == nullptr || server->health == ServerHealth::kDead) {
      s.dead.push_back(replica.server);
      continue;
    }
    if (replica.state == State::kUnusable) {
      if (server->is_alive()) s.broken.push_back(replica.server);
      continue;
    }
    if (replica.state == State::kJoining) {
      if (server->is_alive()) s.joining.push_back(server);
      continue;
    }
    ++s.copies;
    if (server->is_alive()) s.sources.push_back(server);
    if (!server->accepts_chunks) s.draining.push_back(server);
  }
  return s;
}

class Planner {
 public:
  Planner(const ClusterView& view, const RepairLimits& limits, uint64_t seed)
      : view_(view), limits_(limits), seed_(seed) {
    for (const ServerView& server : view.servers())
      running_[server.server] = server.copies_running;
  }

  void plan(const Standing& s) {
    if (steps_.size() >= limits_.steps_max || s.copies == 0) return;
    if (s.chunk->open) {
      plan_open(s);
    } else {
      plan_sealed(s);
    }
  }
  std::vector<RepairStep> take() { return std::move(steps_); }

 private:
  bool is_free(ServerId server) { return running_[server] < limits_.copies_per_server_max; }

  RepairStep step(RepairStep::Kind kind, const Standing& s) {
    return {.kind = kind, .chunk = s.chunk->chunk, .version = s.chunk->version, .copies = s.copies};
  }

  const ServerView* source(const Standing& s) {
    const ServerView* best = nullptr;
    for (const ServerView* server : s.sources) {
      if (is_free(server->server) && (best == nullptr || running_[server->server] < running_[best->server]))
        best = server;
    }
    return best;
  }

  std::optional<ServerId> target(const Standing& s) {
    ChooseRequest request{.members = s.named, .room_bytes = limits_.room_bytes};
    for (const auto& [server, running] : running_) {
      if (running >= limits_.copies_per_server_max) request.excluded.push_back(server);
    }
    Result<std::vector<ServerId>> chosen = choose_servers(view_, request, seed_ ^ s.chunk->chunk.value);
    if (!chosen || chosen->empty()) return std::nullopt;
    return chosen->front();
  }

  // False if no source or target is free.
  bool copy(RepairStep::Kind kind, const Standing& s, std::optional<ServerId> to, std::optional<ServerId> replaced) {
    const ServerView* from = source(s);
    if (from == nullptr) return false;
    if (!to) to = target(s);
    if (!to || !is_free(*to)) return false;
    RepairStep planned = step(kind, s);
    planned.source = from->server;
    planned.target = *to;
    planned.replaced = replaced;
    ++running_[from->server];
    ++running_[*to];
    steps_.push_back(planned);
    return true;
  }

  void plan_open(const Standing& s) {
    if (!s.joining.empty()) {
      copy(RepairStep::Kind::kFill, s, s.joining.front()->server, std::nullopt);
      return;
    }
    if (s.copies >= s.chunk->goal) return;
    std::optional<ServerId> replaced = first(s.dead, s.broken);
    copy(RepairStep::Kind::kJoin, s, std::nullopt, replaced);
  }

  void plan_sealed(const Standing& s) {
    if (s.copies < s.chunk->goal) {
      if (!s.broken.empty() && copy(RepairStep::Kind::kCopy, s, s.broken.front(), std::nullopt)) return;
      copy(RepairStep::Kind::kCopy, s, std::nullopt, first(s.dead, s.broken));
      return;
    }
    // A server that is silent may be dead: nothing is dropped because of a copy there.
    const bool enough_alive = s.sources.size() >= s.chunk->goal;
    std::optional<ServerId> useless = first(s.dead, s.broken);
    if (useless && enough_alive) {
      drop(s, *useless);
    } else if (s.sources.size() > s.chunk->goal) {
      drop(s, surplus(s));
    } else if (!s.draining.empty()) {
      copy(RepairStep::Kind::kCopy, s, std::nullopt, s.draining.front()->server);
    }
  }

  void drop(const Standing& s, ServerId server) {
    RepairStep planned = step(RepairStep::Kind::kDrop, s);
    planned.replaced = server;
    steps_.push_back(planned);
  }

  // The copy that is missed least.
  ServerId surplus(const Standing& s) {
    auto rank = [&](const ServerView* server) {
      const auto neighbours =
          std::ranges::count_if(s.sources, [&](const ServerView* other) { return same_domain(*server, *other); });
      // Draining servers first, then crowded domains, then those with little room; the id makes it one answer.
      return std::tuple(server->accepts_chunks, -neighbours, server->room_bytes(), server->server);
    };
    return std::ranges::min(s.sources, {}, rank)->server;
  }

  static std::optional<ServerId> first(const std::vector<ServerId>& a, const std::vector<ServerId>& b) {
    if (!a.empty()) return a.front();
    if (!b.empty()) return b.front();
    return std::nullopt;
  }

  const ClusterView& view_;
  const RepairLimits& limits_;
  const uint64_t seed_;
  std::map<ServerId, uint32_t> running_;
  std::vector<RepairStep> steps_;
};

}  // namespace

std::vector<RepairStep> plan_repair(const ClusterView& view, std::span<const RepairChunk> chunks,
                                    const RepairLimits& limits, uint64_t seed) {
  std::vector<Standing> standings;
  for (const RepairChunk& chunk : chunks)
    standings.push_back(stand(view, chunk));
  // Those that have enough come last: they can wait for whatever comes before.
  auto urgency = [](const Standing& s) { return std::tuple(s.copies >= s.chunk->goal, s.copies, s.chunk->chunk); };
  std::ranges::sort(standings, {}, urgency);
  Planner planner(view, limits, seed);
  for (const Standing& s : standings)
    planner.plan(s);
  return planner.take();
}

}  // namespace cairn
