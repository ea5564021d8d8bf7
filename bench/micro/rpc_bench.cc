// RPC between two processes over loopback TCP and Unix sockets: round trips per second of small requests, and gigabytes
// per second of payload in both directions. The server is a process of its own, forked before anything is built.
#include <benchmark/benchmark.h>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <signal.h>
#include <string>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/units.h"
#include "common/rpc/rpc.h"
#include "common/runtime/real_world.h"
#include "common/runtime/task_group.h"

namespace cairn {
namespace {

constexpr MethodId kSmall = 1;  // 200 bytes come back
constexpr MethodId kPut = 2;    // takes the payload, gives none
constexpr MethodId kGet = 3;    // gives as much payload as the message says
constexpr size_t kRequestBytes = 100;
constexpr size_t kAnswerBytes = 200;
constexpr Duration kCallTimeout = std::chrono::seconds(30);

Address tcp_address;
Address unix_address;

Task<Result<RpcMessage>> small(RpcRequest) {
  co_return RpcMessage{.message = std::string(kAnswerBytes, 'a'), .payload = {}};
}
Task<Result<RpcMessage>> put(RpcRequest request) {
  co_return RpcMessage{.message = std::to_string(request.payload.size()), .payload = {}};
}
Task<Result<RpcMessage>> get(RpcRequest request) {
  static const Buffer data = Buffer::zeros(kMaxPayloadBytes);
  RpcMessage answer;
  answer.payload.push_back(data.slice(0, std::stoul(request.message)));
  co_return answer;
}

Task<int> serve(RealWorld* world, std::string unix_path, int ready_fd) {
  RpcServer server(*world, {.hello = {.program = "rpc_bench server"}});
  server.handle(kSmall, "small", small);
  server.handle(kPut, "put", put);
  server.handle(kGet, "get", get);
  Result<Address> tcp = server.listen(Address{Address::Kind::kTcp, "127.0.0.1", 0});
  Result<Address> local = server.listen(Address{Address::Kind::kUnix, unix_path, 0});
  CHECK(tcp && local);
  CHECK(::write(ready_fd, &tcp->port, sizeof(tcp->port)) == sizeof(tcp->port));
  int signal = co_await world->next_signal();
  (void)signal;
  co_await server.stop();
  co_return 0;
}

// What a run does.
struct Load {
  MethodId method = kSmall;
  size_t payload_bytes = 0;
  size_t in_flight = 1;
  size_t calls = 0;
};

class Driver {
 public:
  Driver(RealWorld& world, const Address& address, Load load)
      : world_(world), load_(load), client_(world, address, {.hello = {.program = "rpc_bench client"}}) {}

  Task<int> run() {
    co_await run_calls(load_.calls / 10 + load_.in_flight);  // buffers, connections and branch predictors are warm
    TimePoint begin = world_.clock().now();
    co_await run_calls(load_.calls);
    seconds = std::chrono::duration<double>(world_.clock().now() - begin).count();
    co_await client_.stop();
    co_return 0;
  }
  double seconds = 0;

 private:
  Task<void> run_calls(size_t count) {
    left_ = count;
    TaskGroup group(world_.executor(), world_.clock());
    for (size_t i = 0; i < load_.in_flight; ++i)
      group.spawn(worker());
    co_await group.stop();
  }
  Task<void> worker() {
    Buffer buffer = load_.payload_bytes == 0 ? Buffer() : Buffer::zeros(load_.payload_bytes);
    while (left_ > 0) {
      --left_;
      RpcMessage request{.message = std::string(kRequestBytes, 'r'), .payload = {}};
      RpcClient::CallOptions options{.deadline = world_.clock().now() + kCallTimeout};
      if (load_.method == kPut) request.payload.push_back(buffer);
      if (load_.method == kGet) {
        request.message = std::to_string(load_.payload_bytes);
        options.receive_into = buffer.mutable_span();
      }
      Result<RpcMessage> answer = co_await client_.call(load_.method, std::move(request), options);
      CHECK(answer.has_value());
      CHECK(load_.method != kGet || answer->in_place);
    }
  }

  RealWorld& world_;
  Load load_;
  RpcClient client_;
  size_t left_ = 0;
};

void run(benchmark::State& state, bool local, Load load, Duration poll) {
  for (auto _ : state) {
    std::unique_ptr<RealWorld> world = RealWorld::make({.poll = poll});
    Driver driver(*world, local ? unix_address : tcp_address, load);
    world->run(driver.run());
    state.SetIterationTime(driver.seconds);
  }
  auto total = static_cast<int64_t>(load.calls) * static_cast<int64_t>(state.iterations());
  state.SetItemsProcessed(total);
  if (load.payload_bytes != 0) state.SetBytesProcessed(total * static_cast<int64_t>(load.payload_bytes));
}

void register_all() {
  for (bool local : {false, true}) {
    std::string transport = local ? "unix" : "tcp";
    for (size_t in_flight : {1ul, 16ul, 256ul}) {
      for (int poll_us : {0, 50}) {
        Load load{.method = kSmall, .in_flight = in_flight, .calls = in_flight == 1 ? 20'000ul : 200'000ul};
        std::string name = "small/" + transport + "/in_flight:" + std::to_string(in_flight) +
                           "/client_poll_us:" + std::to_string(poll_us);
        benchmark::RegisterBenchmark(
            name.c_str(), [=](benchmark::State& state) { run(state, local, load, std::chrono::microseconds(poll_us)); })
            ->UseManualTime()
            ->Unit(benchmark::kMillisecond)
            ->Iterations(1)
            ->Repetitions(3);
      }
    }
    for (MethodId method : {kPut, kGet}) {
      for (size_t payload_bytes : {128 * kKiB, kMiB}) {
        for (size_t in_flight : {1ul, 4ul}) {
          Load load{.method = method,
                    .payload_bytes = payload_bytes,
                    .in_flight = in_flight,
                    .calls = 4 * kGiB / payload_bytes};
          std::string name = std::string(method == kPut ? "put/" : "get/") + transport +
                             "/KiB:" + std::to_string(payload_bytes / kKiB) + "/in_flight:" + std::to_string(in_flight);
          benchmark::RegisterBenchmark(name.c_str(),
                                       [=](benchmark::State& state) { run(state, local, load, Duration::zero()); })
              ->UseManualTime()
              ->Unit(benchmark::kMillisecond)
              ->Iterations(1)
              ->Repetitions(3);
        }
      }
    }
  }
}

int start_server(const std::string& unix_path) {
  int ready[2];
  CHECK(::pipe(ready) == 0);
  pid_t child = ::fork();
  CHECK(child >= 0);
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::unique_ptr<RealWorld> world = RealWorld::make({});
    int status = world->run(serve(world.get(), unix_path, ready[1]));
    world.reset();
    ::_exit(status);
  }
  uint16_t port = 0;
  CHECK(::read(ready[0], &port, sizeof(port)) == sizeof(port));
  tcp_address = Address{Address::Kind::kTcp, "127.0.0.1", port};
  unix_address = Address{Address::Kind::kUnix, unix_path, 0};
  return child;
}

}  // namespace
}  // namespace cairn

int main(int argc, char** argv) {
  char folder[] = "/tmp/cairn-rpc-bench-XXXXXX";
  CHECK(::mkdtemp(folder) != nullptr);
  int server = cairn::start_server(std::string(folder) + "/socket");
  benchmark::Initialize(&argc, argv);
  cairn::register_all();
  benchmark::RunSpecifiedBenchmarks();
  ::kill(server, SIGTERM);
  int status = 0;
  ::waitpid(server, &status, 0);
  ::rmdir(folder);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
