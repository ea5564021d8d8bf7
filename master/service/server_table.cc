#include "master/service/server_table.h"

#include <utility>

#include "common/base/log.h"

namespace cairn {

ServerTable::ServerTable(World& world, Hello hello, Duration silent_after, Duration dead_after)
    : world_(world), hello_(std::move(hello)), silent_after_(silent_after), dead_after_(dead_after) {}

void ServerTable::connect(LiveServer& server) {
  if (server.client) retired_.push_back(std::move(server.client));
  Result<Address> address = parse_address(server.address);
  if (!address) {
    log_error("master.bad_server_address", "server={} address={}", server.server, quoted(server.address));
  }
  RpcClientOptions options;
  options.hello = hello_;
  server.client = std::make_unique<RpcClient>(world_, address ? *address : Address{}, options);
}

LiveServer& ServerTable::registered(const RegisterServerRequest& request) {
  std::unique_ptr<LiveServer>& found = servers_[request.server];
  if (!found) {
    found = std::make_unique<LiveServer>();
    found->server = request.server;
  }
  LiveServer& server = *found;
  bool moved = server.address != request.address || !server.client;
  server.address = request.address;
  server.domain = request.domain;
  server.program = request.program;
  server.incarnation = request.incarnation;
  server.space = request.space;
  server.heard = world_.clock().now();
  server.promised_bytes = 0;
  server.ask_again = false;
  server.reported = false;
  server.report.clear();
  if (moved) connect(server);
  return server;
}

void ServerTable::expect(ServerId id, const std::string& address, const std::string& domain) {
  std::unique_ptr<LiveServer>& found = servers_[id];
  bool moved = !found || found->address != address;
  if (!found) found = std::make_unique<LiveServer>();
  found->server = id;
  found->address = address;
  found->domain = domain;
  // Silent from the beginning, dead only after its whole time.
  found->heard = world_.clock().now() - silent_after_;
  found->incarnation = 0;  // it registers, and reports
  found->reported = false;
  found->report.clear();
  found->promised_bytes = 0;
  if (moved) connect(*found);
}

void ServerTable::forget(ServerId server) {
  auto found = servers_.find(server);
  if (found == servers_.end()) return;
  if (found->second->client) retired_.push_back(std::move(found->second->client));
  servers_.erase(found);
}

LiveServer* ServerTable::find(ServerId server) {
  auto found = servers_.find(server);
  return found == servers_.end() ? nullptr : found->second.get();
}

const LiveServer* ServerTable::find(ServerId server) const {
  auto found = servers_.find(server);
  return found == servers_.end() ? nullptr : found->second.get();
}

ServerHealth ServerTable::health(const LiveServer& server) const {
  TimePoint now = world_.clock().now();
  if (now < server.heard + silent_after_) return ServerHealth::kAlive;
  if (now < server.heard + dead_after_) return ServerHealth::kSilent;
  return ServerHealth::kDead;
}

bool ServerTable::alive(ServerId id) const {
  const LiveServer* server = find(id);
  return server && health(*server) == ServerHealth::kAlive;
}

bool ServerTable::dead(ServerId id) const {
  const LiveServer* server = find(id);
  return !server || health(*server) == ServerHealth::kDead;
}

void ServerTable::suspect(ServerId id) {
  LiveServer* server = find(id);
  if (server) server->heard = std::min(server->heard, world_.clock().now() - silent_after_);
}

void ServerTable::suspect_if_overdue(ServerId id, Duration overdue) {
  const LiveServer* server = find(id);
  if (server && world_.clock().now() - server->heard >= overdue) suspect(id);
}

void ServerTable::excuse_silence() {
  for (auto& [id, server] : servers_)
    server->heard = std::max(server->heard, world_.clock().now() - silent_after_);
}

std::vector<ServerId> ServerTable::ids() const {
  std::vector<ServerId> ids;
  for (const auto& [id, server] : servers_)
    ids.push_back(id);
  return ids;
}

ClusterView ServerTable::view() const {
  std::vector<ServerView> views;
  for (const auto& [id, server] : servers_) {
    ServerView view;
    view.server = id;
    view.domain = server->domain;
    view.health = health(*server);
    view.free_bytes = server->space.free_bytes;
    view.promised_bytes = server->promised_bytes;
    view.copies_running = server->copies_running;
    views.push_back(std::move(view));
  }
  return ClusterView(std::move(views));
}

size_t ServerTable::alive_count() const {
  size_t count = 0;
  for (const auto& [id, server] : servers_)
    count += health(*server) == ServerHealth::kAlive;
  return count;
}

Task<void> ServerTable::stop() {
  // Whoever gets its answer now may still change the lists.
  std::vector<ServerId> ids;
  for (const auto& [id, server] : servers_)
    ids.push_back(id);
  for (ServerId id : ids) {
    auto found = servers_.find(id);
    if (found != servers_.end() && found->second->client) co_await found->second->client->stop();
  }
  for (size_t i = 0; i < retired_.size(); ++i)
    co_await retired_[i]->stop();
}

}  // namespace cairn
