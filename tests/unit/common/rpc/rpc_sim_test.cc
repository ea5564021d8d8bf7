// RPC between simulated machines: crashes, pauses, partitions, and the same run again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/check.h"
#include "common/runtime/sim_world.h"
#include "rpc_fixture.h"

namespace cairn {
namespace {

const Hello kHello{.cluster = ClusterId(7), .program = "sim"};

struct ServerProgram {
  explicit ServerProgram(World& world) : service(world), server(world, {.hello = kHello}) {
    service.add_to(server);
    CHECK(server.listen(*parse_address("tcp:server:7000")));
  }
  Service service;
  RpcServer server;
};

struct ClientProgram {
  explicit ClientProgram(World& world_in)
      : world(world_in),
        client(world, *parse_address("tcp:server:7000"), {.hello = kHello}),
        tasks(world.executor(), world.clock()) {}

  // Calls, one after the other, each with its own deadline, until told to stop.
  Task<void> keep_calling(Duration timeout) {
    while (!enough) {
      TimePoint begin = world.clock().now();
      std::string words = std::to_string(world.random().next_u64());
      RpcMessage request = text(words);
      // Mostly small; now and then more than one segment of the network.
      uint64_t bound = world.random().chance(1, 8) ? 200'000 : 2'000;
      request.payload.push_back(pattern(static_cast<size_t>(world.random().below(bound))));
      size_t size = payload_size(request.payload);
      Result<RpcMessage> answer = co_await client.call(kEcho, std::move(request), {.deadline = begin + timeout});
      longest = std::max<Duration>(longest, world.clock().now() - begin);
      if (answer) {
        EXPECT_EQ(answer->message, words);
        EXPECT_EQ(payload_size(answer->payload), size);
        EXPECT_TRUE(is_pattern(flatten(answer->payload).span()));
        ++answered;
      } else {
        EXPECT_THAT(answer.code(), testing::AnyOf(ErrorCode::kTimeout, ErrorCode::kUnavailable));
        ++failed;
      }
      Result<void> slept = co_await tasks.sleep_for(Duration(world.random().below(20'000'000)));
      if (!slept) break;
    }
  }

  World& world;
  bool enough = false;
  uint64_t answered = 0;
  uint64_t failed = 0;
  Duration longest = Duration::zero();
  RpcClient client;
  TaskGroup tasks;
};

class RpcSim : public testing::Test {
 protected:
  void start(uint64_t seed) {
    simulator = std::make_unique<Simulator>(seed);
    server = &simulator->add_node("server");
    client = &simulator->add_node("client", {.drift_ppm = 100});
    start_server();
    client->start([](World& world) { return std::make_shared<ClientProgram>(world); });
    ASSERT_TRUE(
        simulator->run_until([&] { return client->program<ClientProgram>() && server->program<ServerProgram>(); }, 1s));
  }
  void start_server() {
    server->start([](World& world) { return std::make_shared<ServerProgram>(world); });
  }
  ClientProgram& caller() { return *client->program<ClientProgram>(); }
  void call(int workers, Duration timeout) {
    for (int i = 0; i < workers; ++i)
      caller().tasks.spawn(caller().keep_calling(timeout));
  }
  bool answers_within(Duration limit) {
    uint64_t before = caller().answered;
    return simulator->run_until([&] { return caller().answered > before + 5; }, limit);
  }

  std::unique_ptr<Simulator> simulator;
  SimNode* server = nullptr;
  SimNode* client = nullptr;
};

TEST_F(RpcSim, CallsGoOnAfterCrashesOfTheServer) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    start(seed);
    call(4, 2s);
    for (Crash kind : {Crash::kProcess, Crash::kPower, Crash::kProcess}) {
      ASSERT_TRUE(answers_within(30s)) << "seed " << seed;
      server->crash(kind);
      simulator->run_for(3s);
      start_server();
    }
    ASSERT_TRUE(answers_within(30s)) << "seed " << seed;
    EXPECT_GT(caller().failed, 0u);
    EXPECT_LE(caller().longest, 2s + RpcClient::kReceiveGrace + 50ms);
  }
}

TEST_F(RpcSim, ACrashOfTheClientLeavesTheServerInOrder) {
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    start(seed);
    for (int round = 0; round < 3; ++round) {
      call(8, 2s);
      ASSERT_TRUE(answers_within(30s)) << "seed " << seed;
      client->crash(round % 2 == 0 ? Crash::kProcess : Crash::kPower);
      client->start();
      ASSERT_TRUE(simulator->run_until([&] { return client->program<ClientProgram>() != nullptr; }, 5s));
    }
    call(1, 2s);
    ASSERT_TRUE(answers_within(30s));
    // The connections of the dead are given up.
    caller().enough = true;
    simulator->run_for(30s);
    EXPECT_THAT(server->metrics().render(), testing::HasSubstr("cairn_rpc_server_connections 1"));
  }
}

TEST_F(RpcSim, APausedServerCostsItsDeadlineAndNoMore) {
  start(3);
  call(3, 500ms);
  ASSERT_TRUE(answers_within(10s));
  server->pause();
  simulator->run_for(5s);
  EXPECT_GT(caller().failed, 10u);
  EXPECT_LE(caller().longest, 500ms + RpcClient::kReceiveGrace + 50ms);
  server->resume();
  EXPECT_TRUE(answers_within(5s));
}

TEST_F(RpcSim, APartitionCostsDeadlinesAndEndsWithIt) {
  start(4);
  call(3, 500ms);
  ASSERT_TRUE(answers_within(10s));
  simulator->block(*server, *client);
  simulator->run_for(40s);
  EXPECT_LE(caller().longest, 2s);
  simulator->unblock_all();
  EXPECT_TRUE(answers_within(10s));
  simulator->block_one_way(*server, *client);
  simulator->run_for(2s);
  simulator->unblock_all();
  EXPECT_TRUE(answers_within(10s));
}

TEST_F(RpcSim, AResetInTheMiddleOfThingsIsSurvived) {
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    start(seed);
    call(8, 2s);
    for (int i = 0; i < 10; ++i) {
      ASSERT_TRUE(answers_within(10s)) << "seed " << seed;
      simulator->run_for(Duration(simulator->random().below(2'000'000)));
      simulator->reset_connections(*server, *client);
    }
    ASSERT_TRUE(answers_within(10s));
  }
}

// Programs are destroyed at any event: nothing of RPC may touch what is gone (AddressSanitizer looks).
TEST_F(RpcSim, CrashesAtAnyEventAreClean) {
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    start(seed);
    call(6, 100ms);
    simulator->run_for(Duration(simulator->random().below(20'000'000)));
    uint64_t steps = simulator->random().below(60);
    for (uint64_t i = 0; i < steps; ++i)
      simulator->step();
    SimNode* victim = simulator->random().chance(1, 2) ? client : server;
    victim->crash(Crash::kProcess);
    simulator->run_for(300ms);
    if (victim == server) EXPECT_GT(caller().failed, 0u) << "seed " << seed;
  }
}

uint64_t hash_of_run(uint64_t seed) {
  Simulator simulator(seed);
  SimNode& server = simulator.add_node("server");
  SimNode& client = simulator.add_node("client");
  server.start([](World& world) { return std::make_shared<ServerProgram>(world); });
  client.start([](World& world) { return std::make_shared<ClientProgram>(world); });
  simulator.run_for(10ms);
  ClientProgram& caller = *client.program<ClientProgram>();
  for (int i = 0; i < 5; ++i)
    caller.tasks.spawn(caller.keep_calling(100ms));
  simulator.run_for(500ms);
  server.crash(Crash::kProcess);
  server.start();
  simulator.run_for(500ms);
  EXPECT_GT(caller.answered, 20u);
  return simulator.trace_hash();
}

TEST_F(RpcSim, TheSameSeedIsTheSameRun) {
  EXPECT_EQ(hash_of_run(11), hash_of_run(11));
  EXPECT_NE(hash_of_run(11), hash_of_run(12));
}

}  // namespace
}  // namespace cairn
