#include "fs/client/server_pool.h"

#include <utility>

#include "common/base/log.h"
#include "common/proto/methods.h"
#include "common/rpc/rpc_typed.h"

namespace cairn {

namespace {
constexpr Duration kAvoidFor = std::chrono::seconds(2);
constexpr size_t kSyncItemsMax = 256;  // an item is about 200 bytes: well below a message's bound
}  // namespace

struct ServerPool::Server {
  struct PendingSync {
    ChunkSyncRequest::Item item;
    Promise<ReplicaAck> promise;
  };
  std::string address;
  std::unique_ptr<RpcClient> client;
  TimePoint avoid_until{};
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
    RpcClient::CallOptions options{.deadline = world_.clock().now() + kChunkSyncDeadline};
    auto answer = co_await typed_call(*server.client, std::move(request), options);
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

void ServerPool::note_failure(const std::string& address) {
  server(address).avoid_until = world_.clock().now() + kAvoidFor;
}

void ServerPool::note_success(const std::string& address) {
  server(address).avoid_until = TimePoint{};
}

bool ServerPool::avoid(const std::string& address) const {
  auto found = servers_.find(address);
  return found != servers_.end() && found->second->avoid_until > world_.clock().now();
}

Task<void> ServerPool::stop() {
  for (auto& [address, server] : servers_)
    co_await server->client->stop();
  co_await tasks_.stop();
}

}  // namespace cairn
