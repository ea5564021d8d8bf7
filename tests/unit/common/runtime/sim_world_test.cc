#include "common/runtime/sim_world.h"

#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/runtime/task_group.h"
#include "sim_programs.h"

namespace cairn {
namespace {

// ---- Determinism

struct Trace {
  uint64_t hash;
  uint64_t events;
  std::vector<std::string> lines;
};

Trace run_chaos(uint64_t seed) {
  Trace trace;
  SimOptions options;
  options.trace = [&trace](std::string_view line) { trace.lines.emplace_back(line); };
  Simulator simulator(seed, std::move(options));
  std::vector<SimNode*> servers;
  for (int i = 0; i < 3; ++i) {
    servers.push_back(&simulator.add_node("s" + std::to_string(i), {.drift_ppm = 100 * i - 100}));
    servers.back()->start(echo_server(i != 1));
  }
  SimNode& client = simulator.add_node("client");
  client.start();
  std::vector<std::unique_ptr<Calls>> calls;
  for (int round = 0; round < 30; ++round) {
    SimNode& victim = *servers[simulator.random().below(3)];
    calls.push_back(std::make_unique<Calls>());
    client.spawn(call(&client, victim.name(), calls.back().get(), 50));
    simulator.run_for(Duration(static_cast<int64_t>(simulator.random().below(50'000'000))));
    switch (simulator.random().below(6)) {
      case 0:
        victim.crash(Crash::kProcess);
        break;
      case 1:
        victim.crash(Crash::kPowerKeepsPart);
        break;
      case 2:
        victim.pause();
        break;
      case 3:
        simulator.block(victim, client);
        break;
      case 4:
        simulator.reset_connections(victim, client);
        break;
      default:
        break;
    }
    simulator.run_for(Duration(static_cast<int64_t>(simulator.random().below(50'000'000))));
    simulator.unblock_all();
    victim.resume();
    if (!victim.running()) victim.start();
  }
  simulator.run_for(40s);
  trace.hash = simulator.trace_hash();
  trace.events = simulator.events();
  return trace;
}

TEST(Simulator, SameSeedGivesTheSameTraceEventByEvent) {
  for (uint64_t seed : {1, 2, 3}) {
    Trace first = run_chaos(seed);
    Trace second = run_chaos(seed);
    EXPECT_EQ(first.hash, second.hash);
    EXPECT_EQ(first.events, second.events);
    EXPECT_TRUE(first.lines == second.lines);
    EXPECT_GT(first.events, 5000u);
  }
}

TEST(Simulator, OtherSeedsGiveOtherTraces) {
  std::set<uint64_t> hashes;
  for (uint64_t seed = 1; seed <= 8; ++seed)
    hashes.insert(run_chaos(seed).hash);
  EXPECT_EQ(hashes.size(), 8u);
}

// ---- Time

Task<void> measure(World* world, Duration duration, std::optional<Duration>* took) {
  TaskGroup group(world->executor(), world->clock());
  TimePoint before = world->clock().now();
  Result<void> slept = co_await group.sleep_for(duration);
  (void)slept;
  *took = world->clock().now() - before;
}

TEST(SimulatorTime, EachNodeHasItsOwnClockAndRate) {
  Simulator simulator(7);
  SimNode& exact = simulator.add_node("exact");
  SimNode& fast = simulator.add_node("fast", {.drift_ppm = 10'000, .wall_error = 5s});
  EXPECT_NE(exact.clock().now(), fast.clock().now());
  EXPECT_EQ(fast.clock().wall().ns - exact.clock().wall().ns, 5'000'000'000);
  fast.start();
  std::optional<Duration> took;
  fast.spawn(measure(&fast, 101s, &took));
  TimePoint before = simulator.now();
  EXPECT_TRUE(simulator.run_until([&] { return took.has_value(); }, 200s));
  EXPECT_EQ(*took, 101s);
  EXPECT_EQ(simulator.now() - before, 100s);
}

TEST(SimulatorTime, IdleTimeCostsNoEvents) {
  Simulator simulator(7);
  SimNode& node = simulator.add_node("node");
  node.start();
  std::optional<Duration> took;
  node.spawn(measure(&node, std::chrono::hours(1000), &took));
  EXPECT_TRUE(simulator.run_until([&] { return took.has_value(); }, std::chrono::hours(1001)));
  EXPECT_LT(simulator.events(), 10u);
}

TEST(SimulatorTime, RunUntilStopsAtItsLimit) {
  Simulator simulator(7);
  TimePoint before = simulator.now();
  EXPECT_FALSE(simulator.run_until([] { return false; }, 5s));
  EXPECT_EQ(simulator.now() - before, 5s);
  int ran = 0;
  simulator.after(1s, [&] { ++ran; });
  simulator.after(3s, [&] { ++ran; });
  simulator.run_for(2s);
  EXPECT_EQ(ran, 1);
}

// ---- Crashes

TEST_F(SimTest, ServerAnswersAndCrashedOneRunsNothingMore) {
  start();
  ASSERT_TRUE(reach(20));
  EXPECT_GE(server.program<EchoServer>()->answered, 19);
  server.crash(Crash::kProcess);
  EXPECT_EQ(server.program<EchoServer>(), nullptr);
  EXPECT_TRUE(fails(1s));
  EXPECT_EQ(calls.error->code, ErrorCode::kUnavailable);
  int before = calls.done;
  simulator.run_for(10s);
  EXPECT_EQ(calls.done, before);
}

TEST_F(SimTest, ProgramCanCrashAfterEachOfItsFirstEvents) {
  // Under the address sanitizer: whatever is suspended at that moment, nothing freed is touched.
  for (int stop = 0; stop < 300; ++stop) {
    Simulator other(9);
    SimNode& node = other.add_node("server");
    SimNode& caller = other.add_node("caller");
    Calls some;
    node.start(echo_server(true));
    caller.start();
    caller.spawn(call(&caller, "server", &some));
    for (int i = 0; i < stop; ++i)
      other.step();
    node.crash(stop % 2 == 0 ? Crash::kProcess : Crash::kPowerKeepsPart);
    other.run_for(100ms);
    node.start();
    caller.spawn(call(&caller, "server", &some, 3));
    other.run_for(50ms);
  }
}

TEST_F(SimTest, ProcessCrashKeepsWhatWasWrittenAndTheBootId) {
  start(false);
  ASSERT_TRUE(reach(5));
  std::string boot = server.boot_id();
  server.crash(Crash::kProcess);
  EXPECT_GE(*server.memory_disk().file_size("/log"), 5u);
  EXPECT_EQ(server.boot_id(), boot);
}

TEST_F(SimTest, PowerCrashLosesWhatWasNotSyncedAndChangesTheBootId) {
  start(false);
  ASSERT_TRUE(reach(5));
  std::string boot = server.boot_id();
  TimePoint uptime = server.clock().now();
  server.crash(Crash::kPower);
  EXPECT_EQ(server.memory_disk().exists("/log"), false);
  EXPECT_NE(server.boot_id(), boot);
  server.start();
  EXPECT_LT(server.clock().now(), uptime);
}

TEST_F(SimTest, PowerCrashKeepsWhatWasSynced) {
  start(true);
  ASSERT_TRUE(reach(5));
  server.crash(Crash::kPower);
  EXPECT_GE(*server.memory_disk().file_size("/log"), 5u);
}

TEST_F(SimTest, RestartedProgramServesAgain) {
  start();
  ASSERT_TRUE(reach(3));
  server.crash(Crash::kProcess);
  ASSERT_TRUE(fails(5s));
  server.start();
  Calls again;
  client.spawn(call(&client, "server", &again, 4));
  EXPECT_TRUE(simulator.run_until([&] { return again.done == 4; }, 10s));
}

// Its destructor tries to write, as a careless program's does.
struct WritesWhenItGoes {
  World& world;
  explicit WritesWhenItGoes(World& world_in) : world(world_in) {}
  ~WritesWhenItGoes() {
    EXPECT_FALSE(world.disk().open("/last words", {.create = true}));
    world.executor().post([] { ADD_FAILURE() << "posted by a dead process"; });
    world.clock().call_at(world.clock().now(), [] { ADD_FAILURE() << "timed by a dead process"; });
  }
};

TEST_F(SimTest, DestructorsOfACrashedProgramReachNothing) {
  server.start([](World& world) { return std::make_shared<WritesWhenItGoes>(world); });
  simulator.run_for(1s);
  server.crash(Crash::kProcess);
  EXPECT_EQ(server.memory_disk().exists("/last words"), false);
  server.start(echo_server(true));
  simulator.run_for(1s);
  EXPECT_EQ(server.memory_disk().open("/x", {.create = true}).has_value(), true);
}

// ---- Stopped processes

TEST_F(SimTest, PausedNodeRunsNothingUntilResumed) {
  start();
  ASSERT_TRUE(reach(3));
  server.pause();
  simulator.run_for(1s);
  int done = calls.done;
  int ticks = server.program<EchoServer>()->ticks;
  Calls other;
  client.spawn(call(&client, "server", &other));
  simulator.run_for(60s);
  EXPECT_EQ(calls.done, done);
  EXPECT_EQ(server.program<EchoServer>()->ticks, ticks);
  EXPECT_FALSE(calls.error);  // its kernel holds the connection
  EXPECT_FALSE(other.error);
  server.resume();
  EXPECT_TRUE(reach(done + 10));
  EXPECT_TRUE(simulator.run_until([&] { return other.done > 3; }, 5s));
}

TEST_F(SimTest, PausedNodeMayCrash) {
  start();
  ASSERT_TRUE(reach(3));
  server.pause();
  simulator.run_for(1s);
  server.crash(Crash::kProcess);
  EXPECT_TRUE(fails(1s));
  server.start();
  EXPECT_FALSE(server.paused());
}

TEST_F(SimTest, TimerCancelledAfterAPauseDoesNotFire) {
  client.start();
  bool fired = false;
  bool cancelled = false;
  Clock::TimerId late = 0;
  client.executor().post([&] {
    // Both are overdue when the node goes on; the first cancels the second.
    client.clock().call_at(client.clock().now() + 1s, [&] {
      client.clock().cancel(late);
      cancelled = true;
    });
    late = client.clock().call_at(client.clock().now() + 2s, [&] { fired = true; });
  });
  simulator.run_for(500ms);
  client.pause();
  simulator.run_for(5s);
  EXPECT_FALSE(cancelled);
  client.resume();
  simulator.run_for(5s);
  EXPECT_TRUE(cancelled);
  EXPECT_FALSE(fired);
}

// ---- Pools

TEST_F(SimTest, PoolTakesAsLongAsTheDiskSays) {
  client.start();
  client.memory_disk().set_speed({.sync = 50ms});
  auto pool = client.make_pool("disk", 1);
  std::vector<Duration> finished;
  TimePoint before = simulator.now();
  auto work = [this] { ASSERT_TRUE((*client.memory_disk().open("/a", {.create = true}))->sync()); };
  for (int i = 0; i < 3; ++i) {
    pool->submit(work, [&] { finished.push_back(simulator.now() - before); });
  }
  EXPECT_EQ(pool->pending(), 3u);
  EXPECT_TRUE(simulator.run_until([&] { return finished.size() == 3; }, 1s));
  EXPECT_GE(finished[0], 50ms);
  EXPECT_GE(finished[1], 100ms);  // one thread: one after the other
  EXPECT_LT(finished[2], 160ms);
  EXPECT_EQ(pool->pending(), 0u);
}

TEST_F(SimTest, PoolsDestructorRunsWhatWasSubmitted) {
  client.start();
  int worked = 0;
  int done = 0;
  {
    auto pool = client.make_pool("disk", 1);
    for (int i = 0; i < 5; ++i)
      pool->submit([&] { ++worked; }, [&] { ++done; });
  }
  EXPECT_EQ(worked, 5);
  simulator.run_for(1s);
  EXPECT_EQ(done, 5);
}

struct PoolProgram {
  explicit PoolProgram(World& world) : pool(world.make_pool("disk", 1)) {}
  std::unique_ptr<BlockingPool> pool;
};

TEST_F(SimTest, CrashDropsWorkThatWaitsAndCompletions) {
  client.start([](World& world) { return std::make_shared<PoolProgram>(world); });
  simulator.run_for(1ms);
  int worked = 0;
  for (int i = 0; i < 5; ++i) {
    client.program<PoolProgram>()->pool->submit([&] { ++worked; }, [] { ADD_FAILURE() << "completion after a crash"; });
  }
  ASSERT_TRUE(simulator.run_until([&] { return worked == 1; }, 1s));
  client.crash(Crash::kProcess);
  simulator.run_for(1s);
  EXPECT_EQ(worked, 1);
}

}  // namespace
}  // namespace cairn
