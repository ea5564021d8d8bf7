// RPC between two processes over loopback TCP, in clear, with TLS, and authenticated only (common/tls), and over Unix
// sockets: round trips per second of small requests, gigabytes per second of payload in both directions, and
// connections per second. Servers are processes of their own, forked before anything is built.
#include <benchmark/benchmark.h>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <signal.h>
#include <string>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "common/base/check.h"
#include "common/base/units.h"
#include "common/rpc/rpc.h"
#include "common/runtime/real_world.h"
#include "common/runtime/task_group.h"
#include "common/tls/certificate.h"
#include "common/tls/tls_settings.h"

namespace cairn {
namespace {

constexpr MethodId kSmall = 1;  // 200 bytes come back
constexpr MethodId kPut = 2;    // takes the payload, gives none
constexpr MethodId kGet = 3;    // gives as much payload as the message says
constexpr size_t kRequestBytes = 100;
constexpr size_t kAnswerBytes = 200;
constexpr Duration kCallTimeout = std::chrono::seconds(30);

enum class Network : uint8_t { kTcp, kUnix, kTls, kAuthenticated };
constexpr Network kNetworks[] = {Network::kTcp, Network::kUnix, Network::kTls, Network::kAuthenticated};
const char* name_of(Network network) {
  constexpr const char* kNames[] = {"tcp", "unix", "tls", "authenticated"};
  return kNames[static_cast<size_t>(network)];
}

Address addresses[std::size(kNetworks)];
std::string folder;  // sockets and certificates

// A world whose connections are protected as `network` says.
std::unique_ptr<RealWorld> make_world(Network network, PeerRole role, LoopOptions options) {
  std::unique_ptr<RealWorld> world = RealWorld::make(options);
  TlsSettings settings;
  settings.mode = network == Network::kTls || network == Network::kAuthenticated ? "on" : "off";
  if (network == Network::kAuthenticated) settings.data = "authenticated";
  CHECK(use_tls(*world, settings, role, {folder}));
  return world;
}

void make_certificates() {
  WallTime now = RealWorld::make({})->clock().wall();
  Result<KeyPair> authority = make_authority(ClusterId(1), now, 1);
  CHECK(authority);
  std::ofstream(folder + "/ca.crt") << authority->certificate;
  for (PeerRole role : {PeerRole::kChunkserver, PeerRole::kClient}) {
    Result<KeyPair> issued = issue_certificate(*authority, role, "bench", now, 1);
    CHECK(issued);
    std::string base = folder + "/" + std::string(to_string(role));
    std::ofstream(base + ".crt") << issued->certificate;
    std::ofstream(base + ".key") << issued->key;
    std::filesystem::permissions(base + ".key", std::filesystem::perms::owner_read);
  }
}

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

Task<int> serve(RealWorld* world, Address address, int ready_fd) {
  RpcServer server(*world, {.hello = {.program = "rpc_bench server"}});
  server.handle(kSmall, "small", small);
  server.handle(kPut, "put", put);
  server.handle(kGet, "get", get);
  Result<Address> listening = server.listen(address);
  CHECK(listening);
  CHECK(::write(ready_fd, &listening->port, sizeof(listening->port)) == sizeof(listening->port));
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

// One connection after the other, each with its hello and one small request.
Task<int> connect_again_and_again(RealWorld* world, Address address, size_t count, double* seconds) {
  TimePoint begin = world->clock().now();
  for (size_t i = 0; i < count; ++i) {
    RpcClient client(*world, address, {.hello = {.program = "rpc_bench client"}});
    RpcMessage request{.message = std::string(kRequestBytes, 'r'), .payload = {}};
    RpcClient::CallOptions options{.deadline = world->clock().now() + kCallTimeout};
    Result<RpcMessage> answer = co_await client.call(kSmall, std::move(request), options);
    CHECK(answer.has_value());
    co_await client.stop();
  }
  *seconds = std::chrono::duration<double>(world->clock().now() - begin).count();
  co_return 0;
}

void run_connects(benchmark::State& state, Network network, size_t count) {
  for (auto _ : state) {
    std::unique_ptr<RealWorld> world = make_world(network, PeerRole::kClient, {});
    double seconds = 0;
    world->run(connect_again_and_again(world.get(), addresses[static_cast<size_t>(network)], count, &seconds));
    state.SetIterationTime(seconds);
  }
  state.SetItemsProcessed(static_cast<int64_t>(count) * static_cast<int64_t>(state.iterations()));
}

void run(benchmark::State& state, Network network, Load load, Duration poll) {
  for (auto _ : state) {
    std::unique_ptr<RealWorld> world = make_world(network, PeerRole::kClient, {.poll = poll});
    Driver driver(*world, addresses[static_cast<size_t>(network)], load);
    world->run(driver.run());
    state.SetIterationTime(driver.seconds);
  }
  auto total = static_cast<int64_t>(load.calls) * static_cast<int64_t>(state.iterations());
  state.SetItemsProcessed(total);
  if (load.payload_bytes != 0) state.SetBytesProcessed(total * static_cast<int64_t>(load.payload_bytes));
}

void register_all() {
  for (Network network : kNetworks) {
    std::string transport = name_of(network);
    benchmark::RegisterBenchmark(("connect/" + transport).c_str(),
                                 [=](benchmark::State& state) { run_connects(state, network, 2'000); })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond)
        ->Iterations(1)
        ->Repetitions(3);
    for (size_t in_flight : {1ul, 16ul, 256ul}) {
      for (int poll_us : {0, 50}) {
        Load load{.method = kSmall, .in_flight = in_flight, .calls = in_flight == 1 ? 20'000ul : 200'000ul};
        std::string name = "small/" + transport + "/in_flight:" + std::to_string(in_flight) +
                           "/client_poll_us:" + std::to_string(poll_us);
        benchmark::RegisterBenchmark(
            name.c_str(),
            [=](benchmark::State& state) { run(state, network, load, std::chrono::microseconds(poll_us)); })
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
                                       [=](benchmark::State& state) { run(state, network, load, Duration::zero()); })
              ->UseManualTime()
              ->Unit(benchmark::kMillisecond)
              ->Iterations(1)
              ->Repetitions(3);
        }
      }
    }
  }
}

int start_server(Network network) {
  int ready[2];
  CHECK(::pipe(ready) == 0);
  Address& address = addresses[static_cast<size_t>(network)];
  address = Address{Address::Kind::kTcp, "127.0.0.1", 0};
  if (network == Network::kUnix) address = Address{Address::Kind::kUnix, folder + "/socket", 0};
  pid_t child = ::fork();
  CHECK(child >= 0);
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    std::unique_ptr<RealWorld> world = make_world(network, PeerRole::kChunkserver, {});
    int status = world->run(serve(world.get(), address, ready[1]));
    world.reset();
    ::_exit(status);
  }
  CHECK(::read(ready[0], &address.port, sizeof(address.port)) == sizeof(address.port));
  return child;
}

}  // namespace

int run_all(int argc, char** argv) {
  char made[] = "/tmp/cairn-rpc-bench-XXXXXX";
  CHECK(::mkdtemp(made) != nullptr);
  folder = made;
  make_certificates();
  std::vector<int> servers;
  for (Network network : kNetworks)
    servers.push_back(start_server(network));
  benchmark::Initialize(&argc, argv);
  register_all();
  benchmark::RunSpecifiedBenchmarks();
  int failed = 0;
  for (int server : servers) {
    int status = 0;
    ::kill(server, SIGTERM);
    ::waitpid(server, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) failed = 1;
  }
  std::filesystem::remove_all(folder);
  return failed;
}

}  // namespace cairn

int main(int argc, char** argv) {
  return cairn::run_all(argc, argv);
}
