#include "fs/client/server_pool.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/proto/methods.h"
#include "common/rpc/rpc_typed.h"

namespace cairn {

namespace {
constexpr Duration kAvoidFor = std::chrono::seconds(2);
// A failure that took this long was a stall for somebody; what is refused at once costs nobody anything.
constexpr Duration kWaitedInVain = std::chrono::milliseconds(300);
constexpr Duration kProbeDeadline = std::chrono::seconds(2);
constexpr Duration kProbePauseMin = std::chrono::milliseconds(100);
constexpr Duration kProbePauseMax = std::chrono::seconds(1);
// A server that is gone for good is not asked for ever.
constexpr Duration kProbesLast = std::chrono::minutes(5);
// By then the masters have found out, or hear it well, perhaps at another address.
constexpr Duration kPlaceElsewhere = std::chrono::seconds(30);
constexpr size_t kSyncItemsMax = 256;  // an item is about 200 bytes: well below a message's bound
}  // namespace

struct ServerPool::Server {
  struct PendingSync {
    ChunkSyncRequest::Item item;
    Promise<ReplicaAck> promise;
  };
  std::string address;
  std::unique_ptr<RpcClient> client;
  ServerId id;
  TimePoint avoid_until{};
  TimePoint failed_at{};
  bool silent = false;
  bool probing = false;  // probe() runs
  std::vector<PendingSync> syncs;
  bool syncing = false;
};

ServerPool::ServerPool(World& world, Hello hello)
    : world_(world), hello_(std::move(hello)), tasks_(world.executor(), world.clock()) {}

ServerPool::~ServerPool() = default;

ServerPool::Server& ServerPool::server(const std::string& address) {
  std::unique_ptr<Server>& found = servers_[address];
  if (!found) {
    found = std::make_unique<Server>();
    found->address = address;
    RpcClientOptions options;
    options.hello = hello_;
    Result<Address> parsed = parse_address(address);
    if (!parsed)
      log_error("client.bad_address", "address={} error={}", quoted(address), quoted(parsed.error().message()));
    found->client = std::make_unique<RpcClient>(world_, parsed ? *parsed : Address{}, options);
  }
  return *found;
}

RpcClient& ServerPool::client(const std::string& address) {
  return *server(address).client;
}

Future<ReplicaAck> ServerPool::sync(const ReplicaAddress& replica, ChunkSyncRequest::Item item) {
  Server& target = server(replica.address);
  target.id = replica.server;
  Promise<ReplicaAck> promise(world_.executor());
  Future<ReplicaAck> future = promise.future();
  target.syncs.push_back({std::move(item), std::move(promise)});
  if (!target.syncing) {
    target.syncing = true;
    tasks_.spawn(run_syncs(target));
  }
  return future;
}

// One request at a time to each server: what is asked meanwhile goes with the next.
Task<void> ServerPool::run_syncs(Server& server) {
  while (!server.syncs.empty()) {
    std::vector<Server::PendingSync> batch;
    size_t count = std::min(server.syncs.size(), kSyncItemsMax);
    batch.reserve(count);
    for (size_t i = 0; i < count; ++i)
      batch.push_back(std::move(server.syncs[i]));
    server.syncs.erase(server.syncs.begin(), server.syncs.begin() + static_cast<ptrdiff_t>(count));

    ChunkSyncRequest request;
    request.items.reserve(count);
    for (Server::PendingSync& pending : batch)
      request.items.push_back(std::move(pending.item));
    TimePoint asked = world_.clock().now();
    RpcClient::CallOptions options{.deadline = asked + kChunkSyncDeadline};
    Result<Answer<ChunkSyncReply>> answer = silence(server.address);
    if (!server.silent) answer = co_await typed_call(*server.client, std::move(request), options);
    if (answer) {
      note_success({.server = server.id, .address = server.address});
    } else {
      note_failure({.server = server.id, .address = server.address}, asked);
    }
    if (answer && answer->reply.acks.size() != batch.size()) {
      answer = Error(ErrorCode::kBadMessage, server.address + ": sync answered another number of chunks");
    }
    for (size_t i = 0; i < batch.size(); ++i) {
      if (answer) {
        batch[i].promise.set(std::move(answer->reply.acks[i]));
      } else {
        batch[i].promise.set(answer.error());
      }
    }
  }
  server.syncing = false;
}

void ServerPool::note_failure(const ReplicaAddress& replica, TimePoint asked) {
  TimePoint now = world_.clock().now();
  Server& failed = server(replica.address);
  failed.id = replica.server;
  failed.avoid_until = now + kAvoidFor;
  if (now - asked < kWaitedInVain) return;
  failed.failed_at = now;
  if (failed.silent || tasks_.stop_requested()) return;
  failed.silent = true;
  log_warning("client.server_silent", "server={} address={}", replica.server, quoted(replica.address));
  if (failed.probing) return;
  failed.probing = true;
  tasks_.spawn(probe(failed));
}

void ServerPool::note_success(const ReplicaAddress& replica) {
  Server& answered = server(replica.address);
  answered.avoid_until = TimePoint{};
  answered.silent = false;
}

// Asks a silent server until it answers.
Task<void> ServerPool::probe(Server& server) {
  TimePoint until = world_.clock().now() + kProbesLast;
  Duration pause = kProbePauseMin;
  while (server.silent && world_.clock().now() < until) {
    RpcClient::CallOptions options{.deadline = world_.clock().now() + kProbeDeadline};
    Result<RpcMessage> answer = co_await server.client->call(kPingMethod, RpcMessage(), options);
    if (answer) {
      log_info("client.server_answers", "server={} address={}", server.id, quoted(server.address));
      server.avoid_until = TimePoint{};
      break;
    }
    Result<void> slept = co_await tasks_.sleep_for(pause);
    if (!slept) break;
    pause = std::min(2 * pause, kProbePauseMax);
  }
  server.silent = false;
  server.probing = false;
}

bool ServerPool::avoid(const std::string& address) const {
  auto found = servers_.find(address);
  return found != servers_.end() && (found->second->silent || found->second->avoid_until > world_.clock().now());
}

bool ServerPool::silent(const std::string& address) const {
  auto found = servers_.find(address);
  return found != servers_.end() && found->second->silent;
}

Error ServerPool::silence(const std::string& address) {
  return Error(ErrorCode::kUnavailable, address + " has not answered since it was last asked");
}

std::vector<ServerId> ServerPool::silent_servers() const {
  std::vector<ServerId> silent;
  for (const auto& [address, server] : servers_) {
    if (server->silent && server->failed_at + kPlaceElsewhere > world_.clock().now()) silent.push_back(server->id);
  }
  return silent;
}

Task<void> ServerPool::stop() {
  for (auto& [address, server] : servers_)
    co_await server->client->stop();
  co_await tasks_.stop();
}

}  // namespace cairn
