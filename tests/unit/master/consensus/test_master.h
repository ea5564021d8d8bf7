// A master that is nothing but a log and a TestMachine, as the program of a simulated node, and what drives it.
#pragma once

#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/runtime/sim_world.h"
#include "common/runtime/task_group.h"
#include "master/consensus/engine.h"
#include "tests/support/test_machine.h"

namespace cairn {

inline constexpr ClusterId kTestCluster{0xC1};
inline constexpr MasterId kTestMaster{0xA1};

class TestMaster {
 public:
  TestMaster(World& world, ReplicatedLogOptions options)
      : machine(world.disk()), options_(std::move(options)), world_(world), tasks_(world.executor(), world.clock()) {
    options_.on_fatal = [this](const Error& error) { fatal = error; };
    options_.on_leadership = [this](bool leading, Term term) { leaderships.push_back(leading ? term : 0); };
    tasks_.spawn(open());
  }

  bool ready() const { return log != nullptr; }

  // What the tests tell it to do, on its own loop.
  void propose(std::string text, bool may_use_reserve = false) {
    tasks_.spawn(propose_one(std::move(text), may_use_reserve));
  }
  // `proposers` tasks that propose one after the other until `total` are answered or refused.
  void propose_many(size_t proposers, uint64_t total, size_t size_max) {
    left_ = total;
    for (size_t i = 0; i < proposers; ++i)
      tasks_.spawn(propose_on_and_on(size_max));
  }
  void checkpoint() { tasks_.spawn(make_checkpoint()); }
  void read() { tasks_.spawn(pass_barrier()); }
  void stop() { tasks_.spawn(stop_log()); }

  struct Answer {
    std::string text;
    std::optional<Error> error;
    uint64_t position = 0;
    LogIndex index = 0;
    uint64_t log_time_ms = 0;
  };

  TestMachine machine;
  std::unique_ptr<ReplicatedLog> log;
  std::optional<Error> open_error;
  std::optional<Error> fatal;
  std::vector<Term> leaderships;  // 0: lost
  std::vector<Answer> answers;    // in the order they came
  std::vector<Result<LogIndex>> checkpoints;
  std::vector<Result<void>> barriers;
  bool stopped = false;
  uint64_t proposed = 0;
  std::string prefix;  // of generated commands

 private:
  Task<void> open() {
    Result<std::unique_ptr<ReplicatedLog>> opened = co_await ReplicatedLog::open(world_, options_, machine);
    if (opened) {
      log = std::move(*opened);
    } else {
      open_error = opened.error();
    }
  }
  Task<void> propose_one(std::string text, bool may_use_reserve) {
    auto decoded = std::make_unique<TestCommand>(text);
    Result<Committed> result =
        co_await log->propose({.bytes = text, .decoded = std::move(decoded), .may_use_reserve = may_use_reserve});
    Answer answer{.text = std::move(text)};
    if (result) {
      answer.position = static_cast<TestReply*>(result->reply.get())->position;
      answer.index = result->index;
      answer.log_time_ms = result->log_time_ms;
    } else {
      answer.error = result.error();
    }
    answers.push_back(std::move(answer));
  }
  Task<void> propose_on_and_on(size_t size_max) {
    while (left_ > 0) {
      --left_;
      std::string text = prefix + std::to_string(++proposed) + " ";
      text.resize(text.size() + world_.random().below(size_max + 1), 'x');
      co_await propose_one(std::move(text), false);
    }
  }
  Task<void> make_checkpoint() {
    Result<LogIndex> made = co_await log->checkpoint();
    checkpoints.push_back(std::move(made));
  }
  Task<void> pass_barrier() {
    Result<void> passed = co_await log->read_barrier();
    barriers.push_back(std::move(passed));
  }
  Task<void> stop_log() {
    co_await log->stop();
    stopped = true;
  }

  ReplicatedLogOptions options_;
  World& world_;
  uint64_t left_ = 0;
  TaskGroup tasks_;
};

// One node with one master.
class TestCluster {
 public:
  explicit TestCluster(uint64_t seed, ReplicatedLogOptions options = small_options(), uint64_t disk_bytes = 1ull << 30)
      : simulator(seed), node(simulator.add_node("master", {.disk_bytes = disk_bytes})), options_(std::move(options)) {
    Result<void> made =
        initialise_master_folder(node.memory_disk(), options_.folder, kTestCluster, kTestMaster, "master:9421");
    EXPECT_TRUE(made) << made.error().message();
  }

  static ReplicatedLogOptions small_options() {
    return {.folder = "/master",
            .cluster = kTestCluster,
            .segment_size_bytes = 1 * kMiB,
            .trailing_entries = 50,
            .reserve_bytes = 1 * kMiB};
  }

  // Starts the process; true once it leads.
  bool start() {
    ReplicatedLogOptions options = options_;
    node.start([options](World& world) { return std::make_shared<TestMaster>(world, options); });
    simulator.run_until([this] { return running() && (master().ready() || master().open_error || master().fatal); },
                        60s);
    return running() && master().ready();
  }
  bool running() { return node.program<TestMaster>() != nullptr; }
  TestMaster& master() { return *node.program<TestMaster>(); }
  bool wait(const std::function<bool()>& condition, Duration limit = 60s) {
    return simulator.run_until(condition, limit);
  }
  // Proposes and waits for the answer.
  TestMaster::Answer propose(const std::string& text, bool may_use_reserve = false) {
    size_t before = master().answers.size();
    master().propose(text, may_use_reserve);
    EXPECT_TRUE(wait([&] { return master().answers.size() > before; }));
    return master().answers.back();
  }
  Result<LogIndex> checkpoint() {
    size_t before = master().checkpoints.size();
    master().checkpoint();
    EXPECT_TRUE(wait([&] { return master().checkpoints.size() > before; }));
    return master().checkpoints.back();
  }

  Simulator simulator;
  SimNode& node;

 private:
  ReplicatedLogOptions options_;
};

}  // namespace cairn
