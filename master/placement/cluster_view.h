// ClusterView: the chunkservers as the leader sees them at one moment: what placement and repair plan with. A plain value: built by the leader from
// the log's records and from heartbeats, then only read.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/base/ids.h"

namespace cairn {

enum class ServerHealth : uint8_t {
  kAlive = 1,   // answers
  kSilent = 2,  // has not been heard of for a moment: gets nothing and gives nothing, but what it holds still counts
  kDead = 3,    // for so long that what it holds is to be copied elsewhere
};

struct ServerView {
  ServerId server;
  std::string domain;               // failure domain; empty: none said, it is one by itself
  ServerHealth health = ServerHealth::kDead;
  bool accepts_chunks = true;       // false: being drained
  uint64_t free_bytes = 0;          // as it last reported
  uint64_t promised_bytes = 0;      // granted since, and perhaps not yet in free_bytes
  uint32_t copies_running = 0;      // repairs that it is the source or the target of

  uint64_t room_bytes() const { return free_bytes > promised_bytes ? free_bytes - promised_bytes : 0; }
  bool is_alive() const { return health == ServerHealth::kAlive; }
};

class ClusterView {
 public:
  explicit ClusterView(std::vector<ServerView> servers) : servers_(std::move(servers)) {
    std::ranges::sort(servers_, {}, &ServerView::server);
  }
  const std::vector<ServerView>& servers() const { return servers_; }  // by id
  // Null: no such server. Valid as long as the view.
  const ServerView* find(ServerId server) const {
    auto found = std::ranges::lower_bound(servers_, server, {}, &ServerView::server);
    return found != servers_.end() && found->server == server ? &*found : nullptr;
  }

 private:
  std::vector<ServerView> servers_;
};

// True if losing one failure domain may lose both.
inline bool same_domain(const ServerView& a, const ServerView& b) {
  return a.server == b.server || (!a.domain.empty() && a.domain == b.domain);
}

}  // namespace cairn
