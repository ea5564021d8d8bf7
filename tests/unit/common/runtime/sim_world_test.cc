#include "common/runtime/sim_world.h"

#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"

namespace cairn {
namespace {

using StreamPtr = std::unique_ptr<Stream>;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

Task<Result<void>> send_text(Stream* stream, std::string text) {
  std::span<const std::byte> piece = bytes_of(text);
  Result<void> sent = co_await stream->write(std::span(&piece, 1));
  co_return sent;
}

// A small server: answers each byte with the next one, after writing it to its disk from its pool.
class EchoServer {
 public:
  EchoServer(World& world, bool sync)
      : world_(world),
        sync_(sync),
        pool_(world.make_pool("disk", 2)),
        one_writer_(world.executor()),
        tasks_(world.executor(), world.clock()) {
    auto listener = world.transport().listen(*parse_address("tcp:0.0.0.0:7"));
    EXPECT_TRUE(listener) << listener.error().message();
    listener_ = std::move(*listener);
    tasks_.spawn(serve());
    tasks_.spawn(tick());
  }
  int answered = 0;
  int ticks = 0;

 private:
  Task<void> serve() {
    while (true) {
      Result<StreamPtr> stream = co_await listener_->accept();
      if (!stream) co_return;
      tasks_.spawn(answer(std::move(*stream)));
    }
  }
  Task<void> answer(StreamPtr stream) {
    std::byte byte{};
    while (true) {
      Result<size_t> got = co_await stream->read_some(std::span(&byte, 1));
      if (!got) co_return;
      {
        Semaphore::Permit permit = co_await one_writer_.lock();
        Result<void> stored = co_await pool_->run([this, byte]() -> Result<void> { return store(byte); });
        if (!stored) co_return;
      }
      byte = std::byte(static_cast<unsigned char>(byte) + 1);
      std::span<const std::byte> piece(&byte, 1);
      Result<void> sent = co_await stream->write(std::span(&piece, 1));
      if (!sent) co_return;
      ++answered;
    }
  }
  Result<void> store(std::byte byte) {
    auto file = world_.disk().open("/log", {.create = true});
    if (!file) return file.error();
    uint64_t end = *(*file)->size();
    Result<void> done = (*file)->write(end, std::span(&byte, 1));
    if (done && sync_) done = (*file)->sync();
    if (done && sync_) done = world_.disk().sync_folder("/");
    return done;
  }
  Task<void> tick() {
    while (true) {
      Result<void> slept = co_await tasks_.sleep_for(10ms);
      if (!slept) co_return;
      ++ticks;
    }
  }

  World& world_;
  bool sync_;
  std::unique_ptr<BlockingPool> pool_;
  std::unique_ptr<Listener> listener_;
  Mutex one_writer_;
  TaskGroup tasks_;
};

SimNode::Factory echo_server(bool sync) {
  return [sync](World& world) { return std::make_shared<EchoServer>(world, sync); };
}

struct Calls {
  int done = 0;
  std::optional<Error> error;
};

// Calls the server again and again until it fails.
Task<void> call(World* world, std::string host, Calls* calls, int most = 1'000'000) {
  Result<StreamPtr> stream =
      co_await world->transport().connect(*parse_address("tcp:" + host + ":7"), world->clock().now() + 30s);
  if (!stream) {
    calls->error = stream.error();
    co_return;
  }
  for (int i = 0; i < most; ++i) {
    Result<void> sent = co_await send_text(stream->get(), "a");
    std::byte answer{};
    Result<void> got = co_await (*stream)->read_exact(std::span(&answer, 1));
    if (!sent || !got) {
      calls->error = got.error();
      co_return;
    }
    EXPECT_EQ(answer, std::byte{'b'});
    ++calls->done;
  }
}

class SimTest : public testing::Test {
 protected:
  Simulator simulator{42};
  SimNode& server = simulator.add_node("server");
  SimNode& client = simulator.add_node("client");
  Calls calls;

  void start(bool sync = true) {
    server.start(echo_server(sync));
    client.start();
    client.spawn(call(&client, "server", &calls));
  }
  bool reach(int count) {
    return simulator.run_until([this, count] { return calls.done >= count; }, 60s);
  }
  bool fails(Duration limit) {
    return simulator.run_until([this] { return calls.error.has_value(); }, limit);
  }
};

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
