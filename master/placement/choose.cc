#include "master/placement/choose.h"

#include <algorithm>
#include <memory>

#include "common/base/check.h"
#include "common/base/random.h"

namespace cairn {
namespace {

bool contains(const std::vector<ServerId>& servers, ServerId server) {
  return std::ranges::find(servers, server) != servers.end();
}

// Index into `candidates` of one drawn by room. MiB, so that the sum of all servers fits.
size_t draw(const std::vector<const ServerView*>& candidates, Random& random) {
  uint64_t total = 0;
  for (const ServerView* server : candidates)
    total += server->room_bytes() / kMiB + 1;
  uint64_t at = random.below(total);
  for (size_t i = 0;; ++i) {
    const uint64_t weight = candidates[i]->room_bytes() / kMiB + 1;
    if (at < weight) return i;
    at -= weight;
  }
}

}  // namespace

Result<std::vector<ServerId>> choose_servers(const ClusterView& view, const ChooseRequest& request, uint64_t seed) {
  CHECK(request.count_min <= request.count);
  std::vector<const ServerView*> taken;       // whose domains are used
  std::vector<const ServerView*> candidates;  // with room, in the order of their ids
  size_t there = 0;
  for (ServerId member : request.members) {
    if (const ServerView* server = view.find(member)) taken.push_back(server);
  }
  for (const ServerView& server : view.servers()) {
    if (!server.is_alive() || !server.accepts_chunks) continue;
    if (contains(request.members, server.server) || contains(request.excluded, server.server)) continue;
    ++there;
    if (server.room_bytes() >= request.room_bytes) candidates.push_back(&server);
  }
  if (there < request.count_min) return ErrorCode::kTooFewReplicas;
  if (candidates.size() < request.count_min) return ErrorCode::kNoSpace;

  std::unique_ptr<Random> random = make_seeded_random(seed);
  std::vector<ServerId> chosen;
  while (chosen.size() < request.count && !candidates.empty()) {
    std::vector<const ServerView*> fresh;
    for (const ServerView* server : candidates) {
      const bool used =
          std::ranges::any_of(taken, [&](const ServerView* other) { return same_domain(*server, *other); });
      if (!used) fresh.push_back(server);
    }
    const std::vector<const ServerView*>& from = fresh.empty() ? candidates : fresh;
    const ServerView* server = from[draw(from, *random)];
    chosen.push_back(server->server);
    taken.push_back(server);
    std::erase(candidates, server);
  }
  return chosen;
}

}  // namespace cairn
