// The real network: TCP (no delay, keepalive, a bound on unacknowledged data) and Unix sockets on the loop's reactor.
// Internal to common/runtime; others get it as World::transport(). Loop thread only.
#pragma once

#include <memory>

#include "common/runtime/asio_loop.h"
#include "common/runtime/transport.h"

namespace cairn {

// The loop must outlive it, and its streams and listeners.
std::unique_ptr<Transport> make_tcp_transport(AsioLoop& loop);

}  // namespace cairn
