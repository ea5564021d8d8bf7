// Who the other side of a connection has proved to be: with a certificate of the cluster's own authority (common/tls).
#pragma once

#include <cstdint>
#include <string>

#include "common/base/ids.h"

namespace cairn {

enum class PeerRole : uint8_t {
  kMaster,
  kChunkserver,
  kClient,  // mounts, and commands that only look
  kAdmin,   // what a client may, and commands that change the cluster
};

struct PeerIdentity {
  ClusterId cluster;
  PeerRole role = PeerRole::kClient;
  std::string name;  // "rack-3-7"; for logs
  bool operator==(const PeerIdentity&) const = default;
};

}  // namespace cairn
