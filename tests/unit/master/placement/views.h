// Clusters to place things in.
#pragma once

#include <string>
#include <vector>

#include "common/base/units.h"
#include "master/placement/cluster_view.h"

namespace cairn {

// Alive, with 100 GiB of room, in a domain of its own.
inline ServerView server(uint64_t id, std::string domain = {}) {
  return {
      .server = ServerId{id}, .domain = std::move(domain), .health = ServerHealth::kAlive, .free_bytes = 100 * kGiB};
}

inline std::vector<ServerView> servers(uint64_t count) {
  std::vector<ServerView> all;
  for (uint64_t id = 1; id <= count; ++id)
    all.push_back(server(id));
  return all;
}

}  // namespace cairn
