// What breaks connections in the simulated world, and how the two sides learn of it.
#include <gtest/gtest.h>
#include <memory>
#include <string>

#include "common/runtime/task_group.h"
#include "sim_programs.h"

namespace cairn {
namespace {

TEST_F(SimTest, PeerOfAMachineWithoutPowerLearnsItByTimeout) {
  start();
  ASSERT_TRUE(reach(3));
  TimePoint before = simulator.now();
  server.crash(Crash::kPower);
  ASSERT_TRUE(fails(60s));
  EXPECT_GE(simulator.now() - before, 15s);
  EXPECT_LE(simulator.now() - before, 20s);
}

TEST_F(SimTest, PeerOfAMachineThatIsBackLearnsItSoon) {
  start();
  ASSERT_TRUE(reach(3));
  server.crash(Crash::kPower);
  simulator.run_for(100ms);
  EXPECT_FALSE(calls.error);
  server.start();
  EXPECT_TRUE(fails(3s));
}

TEST_F(SimTest, ConnectingToADeadProcessIsRefusedToADeadMachineTimesOut) {
  start();
  ASSERT_TRUE(reach(3));
  server.crash(Crash::kProcess);
  Calls refused;
  client.spawn(call(&client, "server", &refused));
  EXPECT_TRUE(simulator.run_until([&] { return refused.error.has_value(); }, 1s));
  EXPECT_EQ(refused.error->code, ErrorCode::kUnavailable);
  server.crash(Crash::kPower);
  Calls silent;
  TimePoint before = simulator.now();
  client.spawn(call(&client, "server", &silent));
  EXPECT_TRUE(simulator.run_until([&] { return silent.error.has_value(); }, 60s));
  EXPECT_EQ(silent.error->code, ErrorCode::kTimeout);
  EXPECT_EQ(simulator.now() - before, 30s);
  Calls unknown;
  client.spawn(call(&client, "nowhere", &unknown));
  EXPECT_TRUE(simulator.run_until([&] { return unknown.error.has_value(); }, 1s));
}

Task<void> pour(World* world, bool* started) {
  Result<StreamPtr> stream =
      co_await world->transport().connect(*parse_address("tcp:sink:7"), world->clock().now() + 5s);
  if (!stream) co_return;
  *started = true;
  Result<void> sent = co_await send_text(stream->get(), std::string(400'000, 'x'));
  (void)sent;
  TaskGroup group(world->executor(), world->clock());
  Result<void> slept = co_await group.sleep_for(1000s);
  (void)slept;
}

Task<void> drain(World* world, size_t* received, bool* ended) {
  auto listener = world->transport().listen(*parse_address("tcp:sink:7"));
  Result<StreamPtr> stream = co_await (*listener)->accept();
  std::string buffer(10'000, '\0');
  while (true) {
    Result<size_t> got = co_await (*stream)->read_some(std::as_writable_bytes(std::span(buffer)));
    if (!got) break;
    *received += *got;
  }
  *ended = true;
}

TEST(SimulatorNetwork, CrashDeliversAPrefixOfWhatWasSent) {
  int whole = 0;
  int partial = 0;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    Simulator simulator(seed, {.latency_min = 1ms, .latency_max = 20ms});
    SimNode& source = simulator.add_node("source");
    SimNode& sink = simulator.add_node("sink");
    source.start();
    sink.start();
    size_t received = 0;
    bool ended = false;
    bool started = false;
    sink.spawn(drain(&sink, &received, &ended));
    source.spawn(pour(&source, &started));
    ASSERT_TRUE(simulator.run_until([&] { return started; }, 5s));
    simulator.run_for(Duration(static_cast<int64_t>(simulator.random().below(20'000'000))));
    source.crash(seed % 2 == 0 ? Crash::kProcess : Crash::kPower);
    ASSERT_TRUE(simulator.run_until([&] { return ended; }, 30s));
    (received == 400'000 ? whole : partial) += 1;
  }
  EXPECT_GT(whole, 3);
  EXPECT_GT(partial, 3);
}

// ---- Partitions

TEST_F(SimTest, ShortPartitionDelaysLongOneBreaks) {
  start();
  ASSERT_TRUE(reach(3));
  simulator.block(server, client);
  simulator.run_for(5s);
  int before = calls.done;
  simulator.run_for(5s);
  EXPECT_EQ(calls.done, before);
  EXPECT_FALSE(calls.error);
  simulator.unblock(server, client);
  ASSERT_TRUE(simulator.run_until([&] { return calls.done > before + 10; }, 5s));
  simulator.block(server, client);
  ASSERT_TRUE(fails(20s));
  Calls other;
  client.spawn(call(&client, "server", &other));
  simulator.run_for(10s);
  EXPECT_EQ(other.done, 0);
  simulator.unblock_all();
  EXPECT_TRUE(simulator.run_until([&] { return other.done > 0; }, 5s));
}

TEST_F(SimTest, OneWayPartitionStopsThatWayOnly) {
  start();
  ASSERT_TRUE(reach(3));
  simulator.block_one_way(server, client);
  simulator.run_for(1s);
  int answered = server.program<EchoServer>()->answered;
  EXPECT_EQ(answered, calls.done + 1);  // the request came through, its answer did not
  simulator.unblock_all();
  EXPECT_TRUE(reach(answered + 5));
}

TEST_F(SimTest, ResetBreaksBothEnds) {
  start();
  ASSERT_TRUE(reach(3));
  simulator.reset_connections(server, client);
  EXPECT_TRUE(fails(10ms));
  Calls again;
  client.spawn(call(&client, "server", &again, 4));
  EXPECT_TRUE(simulator.run_until([&] { return again.done == 4; }, 10s));
}

}  // namespace
}  // namespace cairn
