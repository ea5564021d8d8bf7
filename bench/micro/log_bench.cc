// The masters' log on a real disk: proposals a second and how long each takes, with 1, 16 and 256 in flight, 200-byte
// commands and a state machine that only counts. CAIRN_BENCH_DIR names the folder (default: the current one).
#include <algorithm>
#include <benchmark/benchmark.h>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/runtime/real_world.h"
#include "common/runtime/task_group.h"
#include "master/consensus/engine.h"

namespace cairn {
namespace {

constexpr size_t kCommandBytes = 200;
constexpr ClusterId kCluster{1};

struct CountReply : CommandReply {
  uint64_t count = 0;
};

class Counter final : public StateMachine {
 public:
  Result<LogIndex> open(const std::string&) override { return LogIndex{0}; }
  void close() override {}
  Result<std::vector<std::unique_ptr<CommandReply>>> apply(const EntryContext&,
                                                           std::span<const EntryCommand> commands) override {
    std::vector<std::unique_ptr<CommandReply>> replies;
    replies.reserve(commands.size());
    for (size_t i = 0; i < commands.size(); ++i) {
      auto reply = std::make_unique<CountReply>();
      reply->count = ++count_;
      replies.push_back(std::move(reply));
    }
    return replies;
  }
  Result<void> checkpoint(const std::string&, const std::function<void(LogIndex)>&) override {
    return ErrorCode::kNotSupported;
  }

 private:
  uint64_t count_ = 0;
};

class Run {
 public:
  Run(RealWorld& world, std::string folder, size_t in_flight, uint64_t proposals)
      : world_(world),
        folder_(std::move(folder)),
        in_flight_(in_flight),
        left_(proposals),
        tasks_(world.executor(), world.clock()) {}

  Task<int> main() {
    ReplicatedLogOptions options{.folder = folder_, .cluster = kCluster};
    Result<std::unique_ptr<ReplicatedLog>> log = co_await ReplicatedLog::open(world_, options, machine_);
    CHECK(log);
    log_ = std::move(*log);
    started_ = world_.clock().now();
    for (size_t i = 0; i < in_flight_; ++i)
      tasks_.spawn(propose_all());
    co_await tasks_.stop();
    elapsed_ = world_.clock().now() - started_;
    co_await log_->stop();
    log_.reset();
    co_return 0;
  }

  std::vector<Duration> latencies;
  double seconds() const { return std::chrono::duration<double>(elapsed_).count(); }

 private:
  Task<void> propose_all() {
    while (left_ > 0) {
      --left_;
      TimePoint begin = world_.clock().now();
      Result<Committed> done = co_await log_->propose({.bytes = std::string(kCommandBytes, 'x')});
      CHECK(done);
      latencies.push_back(world_.clock().now() - begin);
    }
  }

  RealWorld& world_;
  const std::string folder_;
  const size_t in_flight_;
  uint64_t left_;
  Counter machine_;
  std::unique_ptr<ReplicatedLog> log_;
  TimePoint started_;
  Duration elapsed_{};
  TaskGroup tasks_;
};

double micros(Duration duration) {
  return std::chrono::duration<double, std::micro>(duration).count();
}

// Arguments: in flight, proposals, microseconds that the loop polls before it sleeps.
void propose(benchmark::State& state) {
  set_log_level(LogLevel::kError);
  const char* folder = std::getenv("CAIRN_BENCH_DIR");
  const std::string path = std::string(folder == nullptr ? "." : folder) + "/log_bench.tmp";
  for (auto _ : state) {
    auto world = RealWorld::make({.poll = std::chrono::microseconds(state.range(2))});
    CHECK(world->disk().remove_tree(path));
    CHECK(initialise_master_folder(world->disk(), path, kCluster, MasterId{1}, "127.0.0.1:1"));
    Run run(*world, path, static_cast<size_t>(state.range(0)), static_cast<uint64_t>(state.range(1)));
    CHECK(world->run(run.main()) == 0);
    std::sort(run.latencies.begin(), run.latencies.end());
    state.SetIterationTime(run.seconds());
    state.counters["proposals/s"] = static_cast<double>(run.latencies.size()) / run.seconds();
    state.counters["p50_us"] = micros(run.latencies[run.latencies.size() / 2]);
    state.counters["p99_us"] = micros(run.latencies[run.latencies.size() * 99 / 100]);
    CHECK(world->disk().remove_tree(path));
  }
}

BENCHMARK(propose)
    ->ArgNames({"in_flight", "proposals", "poll_us"})
    ->Args({1, 10'000, 0})
    ->Args({1, 10'000, 200})
    ->Args({16, 100'000, 0})
    ->Args({16, 100'000, 200})
    ->Args({256, 1'000'000, 0})
    ->Args({256, 1'000'000, 200})
    ->Iterations(1)
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace cairn
