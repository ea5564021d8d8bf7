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

// Runs a task on a loop of its own, to its end.
int run_on_loop(std::function<Task<int>(RealWorld&)> body);

// Asks one master after the other until one that leads answers, within `limit`.
template <class Request>
Task<Result<typename Method<Request>::Reply>> ask_masters(RealWorld& world, std::vector<Address> masters,
                                                          Request request, Duration limit) {
  TimePoint deadline = world.clock().now() + limit;
  Error last(ErrorCode::kUnavailable, "no master at " + to_text(masters));
  RpcClientOptions options;
  options.hello.program = "cairn";
  for (const Address& master : masters) {
    RpcClient client(world, master, options);
    RpcClient::CallOptions call{.deadline = deadline};
    auto answer = co_await typed_call(client, request, call);
    co_await client.stop();
    if (answer) co_return std::move(answer->reply);
    last = answer.error();
  }
  co_return last;
}

}  // namespace cairn
