#include "common/runtime/tcp_transport.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/runtime/fd_wait.h"
#include "common/runtime/scoped_timer.h"
#include "common/runtime/socket_address.h"

namespace cairn {

namespace {

using For = WaitableFd::For;
using Pieces = std::span<const std::span<const std::byte>>;

// A peer that does not acknowledge for so long is gone; requests have shorter deadlines of their own.
constexpr int kUserTimeoutMs = 15'000;
constexpr int kKeepaliveIdleSeconds = 10;
constexpr int kKeepaliveIntervalSeconds = 3;
constexpr int kKeepaliveProbes = 3;
// When the process has no descriptors left, accept() waits this long for some to be closed.
constexpr Duration kAcceptPause = 100ms;

// Whatever happens to a connection means the same to its user: nobody answers there (any more).
Error broken(std::string_view what, int error_number) {
  return Error(ErrorCode::kUnavailable, std::string(what) + ": " + std::strerror(error_number));
}

void set_option(int fd, int level, int option, int value) {
  ::setsockopt(fd, level, option, &value, sizeof(value));
}

void tune(int fd, int family) {
  if (family == AF_UNIX) return;
  set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, kKeepaliveIdleSeconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, kKeepaliveIntervalSeconds);
  set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, kKeepaliveProbes);
  set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs);
}

// ---- Stream
// The coroutines hold the descriptor, not the stream: a stream may be destroyed while they wait.

Task<Result<size_t>> receive(std::shared_ptr<WaitableFd> socket, std::span<std::byte> out, bool all) {
  CHECK(!out.empty() || all);
  size_t got = 0;
  bool told = false;  // by the reactor that there is something
  while (got < out.size()) {
    if (socket->closed()) co_return socket->reason();
    if (!told && !socket->reads.worth_trying()) {
      co_await socket->ready(For::kRead);
      told = true;
      continue;
    }
    ssize_t n = ::recv(socket->fd(), out.data() + got, out.size() - got, MSG_DONTWAIT);
    if (n < 0 && errno == EINTR) continue;
    bool empty = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
    if (!told) socket->reads.found(!empty);
    told = false;
    if (n > 0) {
      got += static_cast<size_t>(n);
      if (!all) break;
    } else if (n == 0) {
      co_return Error(ErrorCode::kUnavailable, "the other side closed the connection");
    } else if (empty) {
      co_await socket->ready(For::kRead);
      told = true;
    } else {
      co_return broken("receiving", errno);
    }
  }
  co_return got;
}

Task<Result<void>> receive_exact(std::shared_ptr<WaitableFd> socket, std::span<std::byte> out) {
  Result<size_t> got = co_await receive(std::move(socket), out, true);
  if (!got) co_return got.error();
  co_return Result<void>();
}

// Where sending has got to: the first piece that is not fully sent, and how much of it is.
struct SendPosition {
  size_t piece = 0;
  size_t offset = 0;

  void advance(Pieces pieces, size_t sent) {
    while (piece < pieces.size() && sent >= pieces[piece].size() - offset) {
      sent -= pieces[piece].size() - offset;
      ++piece;
      offset = 0;
    }
    offset += sent;
  }
};

ssize_t send_once(int fd, Pieces pieces, SendPosition from) {
  constexpr size_t kBatch = 64;  // far below IOV_MAX; what is left goes with the next call
  std::array<iovec, kBatch> vectors;
  size_t count = 0;
  for (size_t i = from.piece; i < pieces.size() && count < kBatch; ++i) {
    std::span<const std::byte> piece = i == from.piece ? pieces[i].subspan(from.offset) : pieces[i];
    if (piece.empty()) continue;
    vectors[count++] = iovec{const_cast<std::byte*>(piece.data()), piece.size()};
  }
  msghdr message{};
  message.msg_iov = vectors.data();
  message.msg_iovlen = count;
  return ::sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

Task<Result<void>> send_all(std::shared_ptr<WaitableFd> socket, Pieces pieces) {
  SendPosition position;
  position.advance(pieces, 0);  // empty pieces in front
  while (position.piece < pieces.size()) {
    if (socket->closed()) co_return socket->reason();
    ssize_t n = send_once(socket->fd(), pieces, position);
    if (n >= 0) {
      position.advance(pieces, static_cast<size_t>(n));
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      co_await socket->ready(For::kWrite);
    } else if (errno != EINTR) {
      co_return broken("sending", errno);
    }
  }
  co_return Result<void>();
}

class SocketStream final : public Stream {
 public:
  SocketStream(std::shared_ptr<WaitableFd> socket, std::string peer)
      : socket_(std::move(socket)), peer_(std::move(peer)) {}
  ~SocketStream() override { close(); }

  Task<Result<size_t>> read_some(std::span<std::byte> out) override { return receive(socket_, out, false); }
  Task<Result<void>> read_exact(std::span<std::byte> out) override { return receive_exact(socket_, out); }
  Task<Result<void>> write(Pieces pieces) override { return send_all(socket_, pieces); }
  void close() override { socket_->close(Error(ErrorCode::kCancelled, "the connection was closed on this side")); }
  std::string peer() const override { return peer_; }

 private:
  std::shared_ptr<WaitableFd> socket_;
  std::string peer_;
};

std::unique_ptr<Stream> make_stream(std::shared_ptr<WaitableFd> socket, std::string peer) {
  return std::make_unique<SocketStream>(std::move(socket), std::move(peer));
}

// ---- Listener

std::string peer_name(const SocketAddress& from, const Address& listening) {
  Address peer = from_socket_address(from);
  // The client's end of a Unix socket has no name: say where it came in.
  return to_string(peer.kind == Address::Kind::kUnix ? listening : peer);
}

// The user who made the other end of a Unix socket may use this process.
bool may_come_in(int fd, const UnixUsers& users, const Address& listening) {
  ucred who{};
  socklen_t size = sizeof(who);
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) return false;
  if (who.uid == 0 || who.uid == ::geteuid() || std::ranges::find(users.allowed, who.uid) != users.allowed.end())
    return true;
  log_warning("transport.user_refused", "address={} user={} process={}", to_string(listening), who.uid, who.pid);
  return false;
}

Task<Result<std::unique_ptr<Stream>>> accept_one(AsioLoop* loop, std::shared_ptr<WaitableFd> socket, Address listening,
                                                 std::shared_ptr<const UnixUsers> unix_users) {
  while (true) {
    if (socket->closed()) co_return socket->reason();
    SocketAddress from;
    from.size = sizeof(from.storage);
    int fd =
        ::accept4(socket->fd(), reinterpret_cast<sockaddr*>(&from.storage), &from.size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      if (listening.kind == Address::Kind::kUnix && !may_come_in(fd, *unix_users, listening)) {
        ::close(fd);
        continue;
      }
      tune(fd, from.family());
      Result<std::shared_ptr<WaitableFd>> accepted = WaitableFd::make(loop->io(), fd);
      if (!accepted) continue;
      co_return make_stream(std::move(*accepted), peer_name(from, listening));
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK) {
      co_await socket->ready(For::kRead);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
      log_warning("transport.accept_failed", "address={} error={}", to_string(listening), quoted(std::strerror(errno)));
      Promise<void> pause(*loop);
      ScopedTimer timer(*loop, loop->now() + kAcceptPause, [&pause] { pause.set({}); });
      Result<void> paused = co_await pause.future();
      (void)paused;
    } else if (errno == EBADF || errno == EINVAL || errno == ENOTSOCK) {
      co_return broken("accepting on " + to_string(listening), errno);
    }
    // Anything else belongs to the one connection that just failed: take the next.
  }
}

class SocketListener final : public Listener {
 public:
  SocketListener(AsioLoop& loop, std::shared_ptr<WaitableFd> socket, Address address,
                 std::shared_ptr<const UnixUsers> unix_users)
      : loop_(loop), socket_(std::move(socket)), address_(std::move(address)), unix_users_(std::move(unix_users)) {}
  ~SocketListener() override { close(); }

  Task<Result<std::unique_ptr<Stream>>> accept() override {
    return accept_one(&loop_, socket_, address_, unix_users_);
  }
  void close() override {
    if (socket_->closed()) return;
    if (address_.kind == Address::Kind::kUnix) ::unlink(address_.host_or_path.c_str());
    socket_->close(Error(ErrorCode::kCancelled, "no longer listening on " + to_string(address_)));
  }
  Address address() const override { return address_; }

 private:
  AsioLoop& loop_;
  std::shared_ptr<WaitableFd> socket_;
  Address address_;
  std::shared_ptr<const UnixUsers> unix_users_;  // shared: set after listeners may exist
};

// True if something accepts connections at the Unix path, or may (its queue is full).
bool answers(const SocketAddress& address) {
  int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return true;
  bool refused = ::connect(fd, address.get(), address.size) != 0 && errno == ECONNREFUSED;
  ::close(fd);
  return !refused;
}

// Removes what a dead process left: a socket at that path where nobody answers.
void remove_stale_socket(const Address& address, const SocketAddress& where) {
  struct stat status{};
  const char* path = address.host_or_path.c_str();
  if (::lstat(path, &status) != 0 || !S_ISSOCK(status.st_mode)) return;
  if (!answers(where)) ::unlink(path);
}

Error listen_error(const Address& address, int error_number) {
  if (error_number == EADDRINUSE) return Error(ErrorCode::kBusy, to_string(address) + " is in use");
  return Error(from_errno(error_number), "listening on " + to_string(address) + ": " + std::strerror(error_number));
}

// ---- Transport

class TcpTransport final : public Transport {
 public:
  TcpTransport(AsioLoop& loop, std::shared_ptr<const UnixUsers> unix_users)
      : loop_(loop), resolver_(loop), unix_users_(std::move(unix_users)) {}

  Task<Result<std::unique_ptr<Stream>>> connect(Address address, TimePoint deadline) override;
  Result<std::unique_ptr<Listener>> listen(const Address& address) override;

 private:
  Task<Result<std::vector<SocketAddress>>> look_up(Address address, TimePoint deadline);
  Task<Result<std::shared_ptr<WaitableFd>>> dial(SocketAddress to, std::string name, TimePoint deadline);

  AsioLoop& loop_;
  Resolver resolver_;
  std::shared_ptr<const UnixUsers> unix_users_;
};

Task<Result<std::vector<SocketAddress>>> TcpTransport::look_up(Address address, TimePoint deadline) {
  Result<std::vector<SocketAddress>> numeric = numeric_address(address);
  if (!numeric || !numeric->empty()) co_return numeric;
  Future<std::vector<SocketAddress>> answer = resolver_.look_up(address, loop_, deadline);
  Result<std::vector<SocketAddress>> result = co_await std::move(answer);
  co_return result;
}

// A frame that is destroyed while it dials gives the attempt up; otherwise the reactor would keep it alive.
struct Dialling {
  std::shared_ptr<WaitableFd> socket;
  ~Dialling() {
    if (socket) socket->close(Error(ErrorCode::kCancelled));
  }
};

Task<Result<std::shared_ptr<WaitableFd>>> TcpTransport::dial(SocketAddress to, std::string name, TimePoint deadline) {
  int fd = ::socket(to.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) co_return errno_error("a socket for " + name);
  tune(fd, to.family());
  Result<std::shared_ptr<WaitableFd>> made = WaitableFd::make(loop_.io(), fd);
  if (!made) co_return made.error();
  Dialling dialling{*made};
  const std::shared_ptr<WaitableFd>& socket = dialling.socket;
  if (::connect(fd, to.get(), to.size) == 0) co_return std::exchange(dialling.socket, nullptr);
  // EAGAIN: a Unix socket whose queue is full. There is no event to wait for, so it counts as nobody answering.
  if (errno != EINPROGRESS) co_return broken("connecting to " + name, errno);
  ScopedTimer timer(loop_, deadline,
                    [&socket, &name] { socket->close(Error(ErrorCode::kTimeout, "connecting to " + name)); });
  co_await socket->ready(For::kWrite);
  if (socket->closed()) co_return socket->reason();
  int error_number = 0;
  socklen_t size = sizeof(error_number);
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error_number, &size);
  if (error_number != 0) co_return broken("connecting to " + name, error_number);
  co_return std::exchange(dialling.socket, nullptr);
}

Task<Result<std::unique_ptr<Stream>>> TcpTransport::connect(Address address, TimePoint deadline) {
  std::string name = to_string(address);
  Result<std::vector<SocketAddress>> found = co_await look_up(std::move(address), deadline);
  if (!found) co_return found.error();
  Error last(ErrorCode::kUnavailable, name + ": no address");
  for (const SocketAddress& one : *found) {
    if (loop_.now() >= deadline) co_return Error(ErrorCode::kTimeout, "connecting to " + name);
    Result<std::shared_ptr<WaitableFd>> socket = co_await dial(one, name, deadline);
    if (socket) co_return make_stream(std::move(*socket), name);
    last = socket.error();
    if (last.code == ErrorCode::kTimeout) break;
  }
  co_return last;
}

Result<std::unique_ptr<Listener>> TcpTransport::listen(const Address& address) {
  Result<std::vector<SocketAddress>> numeric = numeric_address(address);
  // A name is looked up here and now: it is this machine's own, and this is the start of a program.
  if (numeric && numeric->empty()) numeric = look_up_blocking(address);
  if (!numeric) return numeric.error();
  if (numeric->empty()) return Error(ErrorCode::kUnavailable, to_string(address) + ": no address");
  const SocketAddress& where = numeric->front();

  int fd = ::socket(where.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) return errno_error("a socket for " + to_string(address));
  Result<std::shared_ptr<WaitableFd>> socket = WaitableFd::make(loop_.io(), fd);
  if (!socket) return socket.error();
  if (address.kind == Address::Kind::kTcp) {
    set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (where.family() == AF_INET6) set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
  } else {
    remove_stale_socket(address, where);
  }
  if (::bind(fd, where.get(), where.size) != 0) return listen_error(address, errno);
  Address bound = address;
  if (address.kind == Address::Kind::kTcp) {
    SocketAddress chosen;
    chosen.size = sizeof(chosen.storage);
    if (::getsockname(fd, reinterpret_cast<sockaddr*>(&chosen.storage), &chosen.size) == 0) {
      bound.port = from_socket_address(chosen).port;
    }
  }
  if (::listen(fd, SOMAXCONN) != 0) return listen_error(address, errno);
  return std::make_unique<SocketListener>(loop_, std::move(*socket), std::move(bound), unix_users_);
}

}  // namespace

std::unique_ptr<Transport> make_tcp_transport(AsioLoop& loop, std::shared_ptr<const UnixUsers> unix_users) {
  return std::make_unique<TcpTransport>(loop, std::move(unix_users));
}

}  // namespace cairn
