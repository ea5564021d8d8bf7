// Addresses as the kernel wants them, and names looked up. Internal to common/runtime.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <sys/socket.h>
#include <sys/un.h>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/executor.h"
#include "common/runtime/future.h"
#include "common/runtime/transport.h"

namespace cairn {

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t size = 0;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
  int family() const { return storage.ss_family; }
};

// What can be said without asking anybody: Unix paths and numeric hosts; empty for a name. kInvalid for a path that is
// too long.
Result<std::vector<SocketAddress>> numeric_address(const Address& address);
// getaddrinfo: blocks. In the order in which to try them.
Result<std::vector<SocketAddress>> look_up_blocking(const Address& address);
// The other direction, for logs and Listener::address().
Address from_socket_address(const SocketAddress& address);

// Looks names up on threads of its own. A lookup that nobody waits for any more may still hang in getaddrinfo (for as
// long as the system's resolver likes), so these threads are left behind rather than joined: they share only this
// object's state.
class Resolver {
 public:
  explicit Resolver(Executor& executor);
  ~Resolver();
  // kTimeout at the deadline.
  Future<std::vector<SocketAddress>> look_up(const Address& address, Clock& clock, TimePoint deadline);

 private:
  struct Shared;
  std::shared_ptr<Shared> shared_;
};

}  // namespace cairn
