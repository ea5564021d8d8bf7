// The real network: TCP (no delay, keepalive, a bound on unacknowledged data) and Unix sockets on the loop's reactor.
// Internal to common/runtime; others get it as World::transport(). Loop thread only.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "common/runtime/asio_loop.h"
#include "common/runtime/transport.h"

namespace cairn {

// Whoever may connect to a Unix socket besides root and this process's own user: the kernel tells who connects.
struct UnixUsers {
  std::vector<uint32_t> allowed;
};

// The loop must outlive it, and its streams and listeners.
std::unique_ptr<Transport> make_tcp_transport(AsioLoop& loop, std::shared_ptr<const UnixUsers> unix_users);

}  // namespace cairn
