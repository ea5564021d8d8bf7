// Callers: whose certificate may call a method (common/runtime/peer_identity.h has the roles). Where no certificate
// proves anything (Unix sockets, connections in clear) the methods are open to all who can connect.
#pragma once

#include <cstdint>

namespace cairn {

enum class Callers : uint8_t {
  kAnybody,  // of the cluster
  kClients,  // mounts, and commands that only look; administrators too
  kAdmins,   // commands that change the cluster
  kChunkservers,
  kMasters,
};

}  // namespace cairn
