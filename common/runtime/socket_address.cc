#include "common/runtime/socket_address.h"

#include <arpa/inet.h>
#include <cstring>
#include <map>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <string>
#include <thread>
#include <utility>

#include "common/base/check.h"
#include "common/runtime/scoped_timer.h"

namespace cairn {

namespace {

using Addresses = std::vector<SocketAddress>;

Result<Addresses> ask(const Address& address, int flags) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = flags | AI_NUMERICSERV;
  addrinfo* list = nullptr;
  int failed = ::getaddrinfo(address.host_or_path.c_str(), std::to_string(address.port).c_str(), &hints, &list);
  if (failed != 0) {
    if (failed == EAI_NONAME && (flags & AI_NUMERICHOST)) return Addresses{};
    return Error(ErrorCode::kUnavailable, to_string(address) + ": " + ::gai_strerror(failed));
  }
  Addresses found;
  for (addrinfo* entry = list; entry; entry = entry->ai_next) {
    SocketAddress one;
    std::memcpy(&one.storage, entry->ai_addr, entry->ai_addrlen);
    one.size = entry->ai_addrlen;
    found.push_back(one);
  }
  ::freeaddrinfo(list);
  return found;
}

}  // namespace

Result<Addresses> numeric_address(const Address& address) {
  if (address.kind == Address::Kind::kTcp) return ask(address, AI_NUMERICHOST);
  SocketAddress one;
  auto* path = reinterpret_cast<sockaddr_un*>(&one.storage);
  if (address.host_or_path.size() >= sizeof(path->sun_path)) {
    return Error(ErrorCode::kInvalid, to_string(address) + ": the path of a Unix socket has at most " +
                                          std::to_string(sizeof(path->sun_path) - 1) + " bytes");
  }
  path->sun_family = AF_UNIX;
  std::memcpy(path->sun_path, address.host_or_path.c_str(), address.host_or_path.size() + 1);
  one.size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + address.host_or_path.size() + 1);
  return Addresses{one};
}

Result<Addresses> look_up_blocking(const Address& address) {
  return ask(address, 0);
}

Address from_socket_address(const SocketAddress& address) {
  char text[INET6_ADDRSTRLEN] = "";
  switch (address.family()) {
    case AF_INET: {
      auto* in = reinterpret_cast<const sockaddr_in*>(&address.storage);
      ::inet_ntop(AF_INET, &in->sin_addr, text, sizeof(text));
      return Address{Address::Kind::kTcp, text, ntohs(in->sin_port)};
    }
    case AF_INET6: {
      auto* in = reinterpret_cast<const sockaddr_in6*>(&address.storage);
      ::inet_ntop(AF_INET6, &in->sin6_addr, text, sizeof(text));
      return Address{Address::Kind::kTcp, text, ntohs(in->sin6_port)};
    }
    default: {
      auto* un = reinterpret_cast<const sockaddr_un*>(&address.storage);
      bool named = address.size > offsetof(sockaddr_un, sun_path);
      return Address{Address::Kind::kUnix, named ? un->sun_path : "", 0};
    }
  }
}

struct Resolver::Shared {
  // More names than this at once are asked for only when the system's resolver hangs.
  static constexpr int kThreadsMax = 16;

  std::mutex mutex;
  int threads = 0;     // under mutex
  Executor* executor;  // under mutex; null once the Resolver has gone
  struct Waiting {
    Waiting(Executor& loop, Clock& clock, TimePoint deadline, std::move_only_function<void()> late)
        : promise(loop), timer(clock, deadline, std::move(late)) {}
    Promise<Addresses> promise;
    ScopedTimer timer;
  };
  uint64_t next_id = 1;                 // the loop's
  std::map<uint64_t, Waiting> waiting;  // the loop's

  void answer(uint64_t id, Result<Addresses> found) {
    auto done = waiting.extract(id);
    if (done) done.mapped().promise.set(std::move(found));
  }
};

Resolver::Resolver(Executor& executor) : shared_(std::make_shared<Shared>()) {
  shared_->executor = &executor;
}

Resolver::~Resolver() {
  {
    std::lock_guard lock(shared_->mutex);
    shared_->executor = nullptr;
  }
  shared_->waiting.clear();
}

Future<Addresses> Resolver::look_up(const Address& address, Clock& clock, TimePoint deadline) {
  uint64_t id = shared_->next_id++;
  auto late = [shared = shared_.get(), id, name = to_string(address)] {
    shared->answer(id, Error(ErrorCode::kTimeout, "looking up " + name));
  };
  auto waiting = shared_->waiting.try_emplace(id, *shared_->executor, clock, deadline, std::move(late)).first;
  Future<Addresses> answer = waiting->second.promise.future();
  {
    std::lock_guard lock(shared_->mutex);
    if (shared_->threads == Shared::kThreadsMax) {
      shared_->answer(id, Error(ErrorCode::kOverload, "looking up " + to_string(address) + ": the resolver hangs"));
      return answer;
    }
    ++shared_->threads;
  }
  // Threads inherit the mask: signals are for the loop's thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread([shared = shared_, address, id] {
    Result<Addresses> found = look_up_blocking(address);
    std::lock_guard lock(shared->mutex);
    --shared->threads;
    if (!shared->executor) return;
    shared->executor->post([shared, id, found = std::move(found)]() mutable { shared->answer(id, std::move(found)); });
  }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return answer;
}

}  // namespace cairn
