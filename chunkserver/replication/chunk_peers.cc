#include "chunkserver/replication/chunk_peers.h"

#include <utility>

namespace cairn {

ChunkPeers::ChunkPeers(World& world, Hello hello)
    : world_(world), hello_(std::move(hello)), tasks_(world.executor(), world.clock()) {}

Result<ChunkPeers::Client> ChunkPeers::client(const std::string& address) {
  if (stopping_) return Error(ErrorCode::kCancelled, "the chunkserver stops");
  auto found = clients_.find(address);
  if (found != clients_.end()) return found->second;
  Result<Address> parsed = parse_address(address);
  if (!parsed) return parsed.error();
  if (clients_.size() >= kConnectionsMax) close_unused();
  RpcClientOptions options;
  options.hello = hello_;
  auto client = std::make_shared<RpcClient>(world_, *parsed, options);
  clients_.emplace(address, client);
  return client;
}

void ChunkPeers::close_unused() {
  for (auto it = clients_.begin(); it != clients_.end();) {
    if (it->second.use_count() > 1) {
      ++it;
      continue;
    }
    tasks_.spawn(close(std::move(it->second)));
    it = clients_.erase(it);
  }
}

Task<void> ChunkPeers::close(Client client) {
  co_await client->stop();
}

void ChunkPeers::set_cluster(ClusterId cluster) {
  hello_.cluster = cluster;
  for (auto& [address, client] : clients_)
    client->set_cluster(cluster);
}

Task<void> ChunkPeers::stop() {
  stopping_ = true;
  // All at once: none of them may hold up the others.
  for (auto& [address, client] : clients_)
    tasks_.spawn(close(client));
  co_await tasks_.stop();
}

}  // namespace cairn
