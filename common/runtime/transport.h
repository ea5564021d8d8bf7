// The seam for the network: streams of bytes between two ends. TCP and Unix sockets, TLS over them (common/tls), and a simulated
// network. Loop thread only.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/runtime/clock.h"
#include "common/runtime/peer_identity.h"
#include "common/runtime/task.h"

namespace cairn {

// "tcp:HOST:PORT" (HOST a name, an IPv4 or a [bracketed] IPv6 address), "unix:/PATH". "HOST:PORT" means tcp. Port 0 when listening: any free one.
struct Address {
  enum class Kind { kTcp, kUnix };
  Kind kind = Kind::kTcp;
  std::string host_or_path;
  uint16_t port = 0;

  auto operator<=>(const Address&) const = default;
};
Result<Address> parse_address(std::string_view text);
std::string to_string(const Address& address);

// One connection. At most one read and one write may be under way at a time. close() ends both with kCancelled or kUnavailable, at once.
// The destructor closes.
class Stream {
 public:
  virtual ~Stream() = default;
  // At least one byte, up to out.size(). kUnavailable at the end of the stream or when the connection broke. `out` must stay until it returns.
  virtual Task<Result<size_t>> read_some(std::span<std::byte> out) = 0;
  // All of `out`.
  virtual Task<Result<void>> read_exact(std::span<std::byte> out) = 0;
  // All of the pieces; they must stay until it returns.
  virtual Task<Result<void>> write(std::span<const std::span<const std::byte>> pieces) = 0;
  virtual void close() = 0;
  virtual std::string peer() const = 0;  // for logs
  // Who the other side has proved to be; null where nothing proves it (no TLS).
  virtual const PeerIdentity* identity() const { return nullptr; }
};

class Listener {
 public:
  virtual ~Listener() = default;  // closes; a Unix socket's path is removed
  virtual Task<Result<std::unique_ptr<Stream>>> accept() = 0;
  virtual void close() = 0;
  virtual Address address() const = 0;  // with the port that was chosen
};

class Transport {
 public:
  virtual ~Transport() = default;
  // kTimeout at the deadline, kUnavailable if nobody answers there.
  virtual Task<Result<std::unique_ptr<Stream>>> connect(Address address, TimePoint deadline) = 0;
  // kBusy (with the address in the context) if it is in use. A stale Unix socket is replaced, one that answers is not.
  virtual Result<std::unique_ptr<Listener>> listen(const Address& address) = 0;
};

}  // namespace cairn
