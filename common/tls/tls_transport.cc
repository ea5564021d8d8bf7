#include "common/tls/tls_transport.h"

#include <deque>
#include <map>
#include <utility>

#include "common/base/log.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "common/tls/certificate.h"
#include "common/tls/secure_stream.h"

namespace cairn {

namespace {

// Connections that nobody has taken with accept(); further ones wait in the kernel.
constexpr size_t kReadyMax = 64;

struct Shared {
  Executor& executor;
  Clock& clock;
  std::shared_ptr<Credentials> credentials;
  TlsOptions options;

  // Bulk data goes to and from chunkservers: they alone agree to send it authenticated only, whatever is offered.
  TlsSession::Wishes wishes(TlsSession::Side side) const {
    bool server = credentials->identity().role == PeerRole::kChunkserver;
    return {.authenticated_only = options.authenticated_data && (side == TlsSession::Side::kDial || server)};
  }
};

// ---- Listener

// Handshakes run beside accept(), so that one that hangs holds up nobody. Shared with accept()'s frames, which may
// outlive the listener.
struct Accepting {
  Accepting(const Shared& shared_in, std::unique_ptr<Listener> plain_in)
      : shared(shared_in), plain(std::move(plain_in)), changed(shared.executor) {}
  Shared shared;
  std::unique_ptr<Listener> plain;
  std::deque<Result<std::unique_ptr<Stream>>> ready;
  std::map<uint64_t, std::shared_ptr<Stream>> under_way;  // by their number, so in the order they came
  uint64_t next_number = 1;
  Condition changed;
  bool closed = false;
};
using AcceptingPtr = std::shared_ptr<Accepting>;

Task<void> greet(AcceptingPtr accepting, std::shared_ptr<Stream> plain, uint64_t number) {
  const Shared& shared = accepting->shared;
  TimePoint deadline = shared.clock.now() + shared.options.handshake_time;
  std::shared_ptr<const TlsContext> context = shared.credentials->current(shared.clock.wall());
  Result<std::unique_ptr<Stream>> secured =
      co_await secure(&accepting->shared.clock, plain, std::move(context), TlsSession::Side::kAccept,
                      shared.wishes(TlsSession::Side::kAccept), deadline);
  accepting->under_way.erase(number);
  if (accepting->closed) co_return;
  if (!secured) {
    log_warning("tls.refused", "peer={} listening={} reason={}", plain->peer(), to_string(accepting->plain->address()),
                quoted(secured.error().context));
    plain->close();
    co_return;
  }
  log_debug("tls.accepted", "peer={} identity={}", plain->peer(), to_string(*(*secured)->identity()));
  accepting->ready.push_back(std::move(secured));
  accepting->changed.notify_all();
}

Task<void> take_connections(AcceptingPtr accepting, TaskGroup* tasks) {
  while (!accepting->closed) {
    if (accepting->ready.size() >= kReadyMax) {
      co_await accepting->changed.wait();
      continue;
    }
    Result<std::unique_ptr<Stream>> plain = co_await accepting->plain->accept();
    if (accepting->closed) co_return;
    if (!plain) {
      // Told to whoever accepts, and gone on with when he has heard it.
      accepting->ready.push_back(plain.error());
      accepting->changed.notify_all();
      while (!accepting->ready.empty() && !accepting->closed)
        co_await accepting->changed.wait();
      continue;
    }
    if (accepting->under_way.size() >= accepting->shared.options.handshakes_max)
      accepting->under_way.begin()->second->close();
    uint64_t number = accepting->next_number++;
    std::shared_ptr<Stream> stream = std::move(*plain);
    accepting->under_way.emplace(number, stream);
    tasks->spawn(greet(accepting, std::move(stream), number));
  }
}

Task<Result<std::unique_ptr<Stream>>> accept_one(AcceptingPtr accepting) {
  while (accepting->ready.empty() && !accepting->closed)
    co_await accepting->changed.wait();
  if (accepting->closed)
    co_return Error(ErrorCode::kCancelled, "no longer listening on " + to_string(accepting->plain->address()));
  Result<std::unique_ptr<Stream>> next = std::move(accepting->ready.front());
  accepting->ready.pop_front();
  accepting->changed.notify_all();
  co_return next;
}

class TlsListener final : public Listener {
 public:
  TlsListener(const Shared& shared, std::unique_ptr<Listener> plain)
      : accepting_(std::make_shared<Accepting>(shared, std::move(plain))), tasks_(shared.executor, shared.clock) {
    tasks_.spawn(take_connections(accepting_, &tasks_));
  }
  ~TlsListener() override { close(); }

  Task<Result<std::unique_ptr<Stream>>> accept() override { return accept_one(accepting_); }
  void close() override {
    if (accepting_->closed) return;
    accepting_->closed = true;
    accepting_->plain->close();
    for (auto& [number, stream] : accepting_->under_way)
      stream->close();
    accepting_->ready.clear();
    accepting_->changed.notify_all();
  }
  Address address() const override { return accepting_->plain->address(); }

 private:
  AcceptingPtr accepting_;
  // Its tasks hold nothing but what is shared: they may end with the listener.
  TaskGroup tasks_;
};

// ---- Transport

Task<Result<std::unique_ptr<Stream>>> dial(const Shared* shared, Transport* plain, Address address,
                                           TimePoint deadline) {
  Result<std::unique_ptr<Stream>> connected = co_await plain->connect(std::move(address), deadline);
  if (!connected) co_return connected;
  std::shared_ptr<const TlsContext> context = shared->credentials->current(shared->clock.wall());
  Result<std::unique_ptr<Stream>> secured =
      co_await secure(&shared->clock, std::move(*connected), std::move(context), TlsSession::Side::kDial,
                      shared->wishes(TlsSession::Side::kDial), deadline);
  co_return secured;
}

Task<Result<std::unique_ptr<Stream>>> refuse(Error error) {
  co_return error;
}

class TlsTransport final : public Transport {
 public:
  TlsTransport(Shared shared, Transport& plain) : shared_(std::move(shared)), plain_(plain) {}

  Task<Result<std::unique_ptr<Stream>>> connect(Address address, TimePoint deadline) override {
    if (address.kind == Address::Kind::kUnix) return plain_.connect(std::move(address), deadline);
    if (shared_.credentials) return dial(&shared_, &plain_, std::move(address), deadline);
    if (shared_.options.clear_anywhere || stays_on_this_machine(address))
      return plain_.connect(std::move(address), deadline);
    return refuse(Error(ErrorCode::kUnauthorized,
                        to_string(address) + " is another machine, and there is no certificate here: make one with "
                                             "`cairn cluster issue` and put it into /etc/cairn/tls, or set tls.mode "
                                             "to \"off\" to go without"));
  }

  Result<std::unique_ptr<Listener>> listen(const Address& address) override {
    bool on_this_machine = stays_on_this_machine(address);
    if (!shared_.credentials && !on_this_machine && !shared_.options.clear_anywhere) {
      return Error(ErrorCode::kUnauthorized,
                   "listening on " + to_string(address) +
                       " without TLS would let everybody in: make certificates with `cairn cluster init`, or set "
                       "tls.mode = \"off\" in a network that you trust");
    }
    Result<std::unique_ptr<Listener>> plain = plain_.listen(address);
    if (!plain || !shared_.credentials || address.kind == Address::Kind::kUnix) return plain;
    return std::make_unique<TlsListener>(shared_, std::move(*plain));
  }

 private:
  Shared shared_;
  Transport& plain_;
};

}  // namespace

std::unique_ptr<Transport> make_tls_transport(Executor& executor, Clock& clock, Transport& plain,
                                              std::shared_ptr<Credentials> credentials, TlsOptions options) {
  return std::make_unique<TlsTransport>(Shared{executor, clock, std::move(credentials), options}, plain);
}

bool stays_on_this_machine(const Address& address) {
  if (address.kind == Address::Kind::kUnix) return true;
  const std::string& host = address.host_or_path;
  bool numeric = host.find_first_not_of("0123456789.") == std::string::npos;  // not a name that only begins like that
  return host == "localhost" || host == "::1" || (numeric && host.starts_with("127."));
}

}  // namespace cairn
