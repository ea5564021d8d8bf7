// What the runtime itself costs: posts, timers, pools, and a byte there and back over loopback.
//
// "Two loops" are two threads with a loop each, as two processes are: there a wake-up of a sleeping core is in the
// figure, unless the loops poll. Figures are in bench/results.md.
#include <atomic>
#include <benchmark/benchmark.h>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "common/runtime/future.h"
#include "common/runtime/real_world.h"
#include "common/runtime/scoped_timer.h"
#include "common/runtime/sim_world.h"
#include "common/runtime/task_group.h"

namespace cairn {
namespace {

using StreamPtr = std::unique_ptr<Stream>;

Task<int> post_chain(World* world, benchmark::State* state) {
  for ([[maybe_unused]] auto _ : *state) {
    Promise<void> promise(world->executor());
    world->executor().post([&promise] { promise.set({}); });
    Result<void> done = co_await promise.future();
    benchmark::DoNotOptimize(done);
  }
  co_return 0;
}

// Two turns of the queue: the post, and the waiter that it resumes.
void BM_PostAndAwait(benchmark::State& state) {
  auto world = RealWorld::make({});
  world->run(post_chain(world.get(), &state));
}
BENCHMARK(BM_PostAndAwait);

Task<int> add_and_cancel(World* world, benchmark::State* state) {
  Clock& clock = world->clock();
  for ([[maybe_unused]] auto _ : *state) {
    clock.cancel(clock.call_at(clock.now() + 2s, [] {}));
  }
  co_return 0;
}

// What each remote call pays for its deadline; with so many others under way.
void BM_TimerAddAndCancel(benchmark::State& state) {
  auto world = RealWorld::make({});
  for (int64_t i = 0; i < state.range(0); ++i)
    world->clock().call_at(world->clock().now() + 3600s, [] {});
  world->run(add_and_cancel(world.get(), &state));
}
BENCHMARK(BM_TimerAddAndCancel)->Arg(0)->Arg(1000);

Task<int> pool_round_trip(BlockingPool* pool, benchmark::State* state) {
  for ([[maybe_unused]] auto _ : *state) {
    Result<int> result = co_await pool->run([]() -> Result<int> { return 1; });
    benchmark::DoNotOptimize(result);
  }
  co_return 0;
}

void BM_PoolRoundTrip(benchmark::State& state) {
  auto world = RealWorld::make({.poll = std::chrono::microseconds(state.range(0))});
  auto pool = world->make_pool("bench", 1);
  world->run(pool_round_trip(pool.get(), &state));
}
BENCHMARK(BM_PoolRoundTrip)->ArgName("poll_us")->Arg(0)->Arg(100)->UseRealTime();

Task<int> pool_batches(World* world, BlockingPool* pool, benchmark::State* state) {
  constexpr int kBatch = 64;
  for ([[maybe_unused]] auto _ : *state) {
    Promise<void> all(world->executor());
    int left = kBatch;
    for (int i = 0; i < kBatch; ++i) {
      pool->submit([] {},
                   [&] {
                     if (--left == 0) all.set({});
                   });
    }
    Result<void> done = co_await all.future();
    benchmark::DoNotOptimize(done);
  }
  state->SetItemsProcessed(state->iterations() * kBatch);
  co_return 0;
}

void BM_PoolBatchOf64(benchmark::State& state) {
  auto world = RealWorld::make({});
  auto pool = world->make_pool("bench", 1);
  world->run(pool_batches(world.get(), pool.get(), &state));
  state.counters["wake_ups_per_batch"] =
      static_cast<double>(world->loop_counters().wake_ups) / static_cast<double>(state.iterations());
}
BENCHMARK(BM_PoolBatchOf64)->UseRealTime();

// Answers each message of `size` bytes with the same bytes, until the connection ends.
Task<void> echo(Listener* listener, size_t size, bool* ended) {
  Result<StreamPtr> stream = co_await listener->accept();
  std::string message(size, '\0');
  while (stream) {
    Result<void> got = co_await (*stream)->read_exact(std::as_writable_bytes(std::span(message)));
    if (!got) break;
    std::span<const std::byte> piece = std::as_bytes(std::span(message));
    Result<void> sent = co_await (*stream)->write(std::span(&piece, 1));
    if (!sent) break;
  }
  *ended = true;
}

Task<void> ping(World* world, Address address, size_t size, benchmark::State* state) {
  Result<StreamPtr> stream = co_await world->transport().connect(address, world->clock().now() + 5s);
  if (!stream) {
    state->SkipWithError(stream.error().message().c_str());
    co_return;
  }
  std::string message(size, 'x');
  for ([[maybe_unused]] auto _ : *state) {
    std::span<const std::byte> piece = std::as_bytes(std::span(message));
    Result<void> sent = co_await (*stream)->write(std::span(&piece, 1));
    Result<void> got = co_await (*stream)->read_exact(std::as_writable_bytes(std::span(message)));
    if (!sent || !got) {
      state->SkipWithError("the connection broke");
      break;
    }
  }
  state->SetBytesProcessed(static_cast<int64_t>(state->iterations() * size * 2));
}

Address bench_address(bool unix_socket) {
  return *parse_address(unix_socket ? "unix:/tmp/cairn-loop-bench.sock" : "tcp:127.0.0.1:0");
}

Task<int> ping_one_loop(World* world, Listener* listener, size_t size, benchmark::State* state) {
  TaskGroup group(world->executor(), world->clock());
  bool ended = false;
  group.spawn(echo(listener, size, &ended));
  co_await ping(world, listener->address(), size, state);
  co_await group.stop();
  co_return 0;
}

void BM_PingOneLoop(benchmark::State& state) {
  auto world = RealWorld::make({});
  auto listener = world->transport().listen(bench_address(state.range(0) != 0));
  world->run(ping_one_loop(world.get(), listener->get(), static_cast<size_t>(state.range(1)), &state));
}
BENCHMARK(BM_PingOneLoop)->ArgNames({"unix", "bytes"})->Args({0, 64})->Args({1, 64})->Args({0, 1 << 20});

Task<int> serve_one(Listener* listener, size_t size) {
  bool ended = false;
  co_await echo(listener, size, &ended);
  co_return 0;
}
Task<int> ping_main(World* world, Address address, size_t size, benchmark::State* state) {
  co_await ping(world, std::move(address), size, state);
  co_return 0;
}

void BM_PingTwoLoops(benchmark::State& state) {
  LoopOptions options{.poll = std::chrono::microseconds(state.range(0))};
  size_t size = static_cast<size_t>(state.range(1));
  std::optional<Address> address;
  std::atomic<bool> listening = false;
  std::thread server([&] {
    auto world = RealWorld::make(options);
    auto listener = world->transport().listen(bench_address(false));
    address = (*listener)->address();
    listening.store(true);
    listening.notify_one();
    world->run(serve_one(listener->get(), size));
  });
  listening.wait(false);
  auto world = RealWorld::make(options);
  world->run(ping_main(world.get(), *address, size, &state));
  server.join();
  state.counters["sleeps_per_ping"] =
      static_cast<double>(world->loop_counters().sleeps) / static_cast<double>(state.iterations());
}
BENCHMARK(BM_PingTwoLoops)
    ->ArgNames({"poll_us", "bytes"})
    ->Args({0, 64})
    ->Args({50, 64})
    ->Args({200, 64})
    ->Args({0, 1 << 20})
    ->Args({200, 1 << 20})
    ->UseRealTime();

Task<void> sim_timers(World* world, benchmark::State* state, bool* ended) {
  for ([[maybe_unused]] auto _ : *state) {
    Promise<void> promise(world->executor());
    ScopedTimer timer(world->clock(), world->clock().now() + 1us, [&promise] { promise.set({}); });
    Result<void> done = co_await promise.future();
    benchmark::DoNotOptimize(done);
  }
  *ended = true;
}

// What the simulator costs for an event (two an iteration).
void BM_SimulatedTimerAndAwait(benchmark::State& state) {
  Simulator simulator(1);
  SimNode& node = simulator.add_node("node");
  node.start();
  bool ended = false;
  node.spawn(sim_timers(&node, &state, &ended));
  while (!ended)
    simulator.step();
}
BENCHMARK(BM_SimulatedTimerAndAwait);

}  // namespace
}  // namespace cairn
