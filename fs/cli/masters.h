// How a command finds the cluster it is about, and asks its masters.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/proto/methods.h"
#include "common/rpc/rpc_typed.h"
#include "common/runtime/real_world.h"
#include "common/tls/tls_settings.h"
#include "fs/client/leader_finder.h"

namespace cairn {

// In this order: `given` (--master), $CAIRN_MASTERS, the Cairn mount that `path` is on, the local cluster
// (local_cluster.h). kNotFound says how to name one.
Result<std::vector<Address>> find_masters(const std::string& given, const std::string& path = {});
// "a:1,b:2"
Result<std::vector<Address>> parse_masters(const std::string& text);
std::string to_text(const std::vector<Address>& masters);
// The mountpoint of the Cairn mount that the path is on, and its masters. kNotFound if it is on none.
struct OnMount {
  std::string mountpoint;
  std::string masters;
};
Result<OnMount> mount_of(const std::string& path);

// What the environment says ($CAIRN_TLS).
TlsSettings client_tls_settings();
// Makes the world's network that of a client of these masters: with the certificate that is found (cluster_files.h), as
// $CAIRN_TLS ("auto", "on", "off") says. Gives what is used; null: no TLS. Once for a world; further calls do nothing,
// and give null.
Result<std::shared_ptr<Credentials>> use_client_tls(RealWorld& world, const std::vector<Address>& masters);

// Runs a task on a loop of its own, to its end.
int run_on_loop(std::function<Task<int>(RealWorld&)> body);

// How long a command looks for a master that leads: longer than it takes to elect one.
inline constexpr Duration kLeaderPatience = std::chrono::seconds(4);

// Asks the master that leads, wherever it is in the group, until it answers, within `limit`. An attempt that is not
// answered is made again after `attempt`.
template <class Request>
Task<Result<typename Method<Request>::Reply>> ask_masters(RealWorld& world, std::vector<Address> masters,
                                                          Request request, Duration limit,
                                                          Duration attempt = kMasterAttempt) {
  TimePoint deadline = world.clock().now() + limit;
  Result<std::shared_ptr<Credentials>> secured = use_client_tls(world, masters);
  if (!secured) co_return secured.error();
  LeaderFinder finder(world, masters, "cairn");
  finder.start();
  Result<typename Method<Request>::Reply> reply(ErrorCode::kUnavailable);
  do {
    Result<void> found = co_await finder.wait_found(std::min(deadline, world.clock().now() + kLeaderPatience));
    if (!found) {
      reply = found.error();
      break;
    }
    reply = co_await finder.ask_once(request, deadline, attempt);
  } while (!reply && is_masters_trouble(reply.code()) && world.clock().now() < deadline);
  co_await finder.stop();
  co_return reply;
}

}  // namespace cairn
