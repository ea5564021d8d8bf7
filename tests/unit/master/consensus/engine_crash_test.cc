// The replicated log under crashes at every operation of its disk: what was acknowledged is there, once, in its place.
#include <gtest/gtest.h>
#include <map>
#include <set>
#include <string>

#include "common/base/log.h"
#include "tests/unit/master/consensus/test_master.h"

namespace cairn {
namespace {

// What callers have been told, over all lives of the master.
class History {
 public:
  void take(const TestMaster& master) {
    for (const TestMaster::Answer& answer : master.answers) {
      if (!answer.error) acknowledged_[answer.position] = answer.text.substr(0, TestMachine::kRememberedBytes);
    }
  }
  void check(const TestMaster& master, const std::string& what) const {
    std::vector<std::string> commands = master.machine.commands();
    for (const auto& [position, text] : acknowledged_) {
      ASSERT_LE(position, commands.size()) << what << ": acknowledged commands are gone";
      ASSERT_EQ(commands[position - 1], text) << what << ": another command stands where this one was acknowledged";
    }
    std::set<std::string> distinct(commands.begin(), commands.end());
    ASSERT_EQ(distinct.size(), commands.size()) << what << ": a command was applied twice";
  }
  size_t size() const { return acknowledged_.size(); }

 private:
  std::map<uint64_t, std::string> acknowledged_;
};

ReplicatedLogOptions busy_options() {
  ReplicatedLogOptions options = TestCluster::small_options();
  options.checkpoint_log_bytes = 512 * kKiB;
  options.trailing_entries = 5;
  return options;
}

constexpr uint64_t kProposals = 25;
constexpr size_t kProposers = 5;
constexpr size_t kSizeMax = 100 * kKiB;  // so that segments are filled, checkpoints made and the log purged

bool busy(TestCluster& cluster) {
  return cluster.master().answers.size() < kProposals && !cluster.master().fatal && cluster.running();
}

// One life of the master with the disk failing after `count` operations; then the crash, and what comes after it.
void live_and_crash(uint64_t seed, uint64_t count, MemoryDisk::LastOperation last, Crash crash) {
  std::string what = "seed " + std::to_string(seed) + " operation " + std::to_string(count);
  TestCluster cluster(seed, busy_options());
  History history;
  cluster.node.memory_disk().fail_after(count, last);
  if (cluster.start()) {
    cluster.master().prefix = "first ";
    cluster.master().propose_many(kProposers, kProposals, kSizeMax);
    cluster.wait([&] { return !busy(cluster); });
    cluster.simulator.run_for(2s);
  }
  history.take(cluster.master());
  cluster.node.crash(crash);
  cluster.node.memory_disk().heal();
  ASSERT_TRUE(cluster.start()) << what << ": "
                               << (cluster.master().open_error ? cluster.master().open_error->message() : "not open");
  history.check(cluster.master(), what);
  if (testing::Test::HasFatalFailure()) return;
  // Life goes on, and a power cut at any moment is survived too.
  cluster.master().prefix = "second ";
  cluster.master().propose_many(kProposers, kProposals, kSizeMax);
  cluster.simulator.run_for(std::chrono::microseconds(cluster.simulator.random().below(20'000)));
  history.take(cluster.master());
  cluster.node.crash(crash);
  ASSERT_TRUE(cluster.start()) << what << ", again";
  history.check(cluster.master(), what + ", again");
}

void crash_everywhere(uint64_t seed, MemoryDisk::LastOperation last, Crash crash) {
  set_log_level(LogLevel::kOff);
  uint64_t operations = 0;
  {
    TestCluster cluster(seed, busy_options());
    uint64_t before = cluster.node.memory_disk().operations();
    ASSERT_TRUE(cluster.start());
    cluster.master().propose_many(kProposers, kProposals, kSizeMax);
    ASSERT_TRUE(cluster.wait([&] { return !busy(cluster); }));
    cluster.simulator.run_for(2s);
    ASSERT_GE(cluster.master().log->status().checkpoint, 1u);
    operations = cluster.node.memory_disk().operations() - before;
  }
  ASSERT_GT(operations, 60u);
  for (uint64_t count = 0; count < operations; ++count) {
    live_and_crash(seed, count, last, crash);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TEST(LogEngineCrash, AtEveryOperationWithEverythingUnsyncedLost) {
  crash_everywhere(1, MemoryDisk::LastOperation::kHasNoEffect, Crash::kPower);
}
TEST(LogEngineCrash, AtEveryOperationWithPartOfTheUnsyncedKept) {
  crash_everywhere(2, MemoryDisk::LastOperation::kHasNoEffect, Crash::kPowerKeepsPart);
}
TEST(LogEngineCrash, AfterEveryOperationWithPartOfTheUnsyncedKept) {
  crash_everywhere(3, MemoryDisk::LastOperation::kTakesEffect, Crash::kPowerKeepsPart);
}
TEST(LogEngineCrash, OfTheProcessAtEveryOperation) {
  crash_everywhere(4, MemoryDisk::LastOperation::kTakesEffect, Crash::kProcess);
}

// Many lives in a row, each cut off at a random moment.
std::pair<uint64_t, size_t> many_lives(uint64_t seed, int lives) {
  set_log_level(LogLevel::kOff);
  TestCluster cluster(seed, busy_options());
  History history;
  for (int life = 0; life < lives; ++life) {
    EXPECT_TRUE(cluster.start()) << "seed " << seed << " life " << life;
    if (!cluster.running() || !cluster.master().ready()) break;
    history.check(cluster.master(), "seed " + std::to_string(seed) + " life " + std::to_string(life));
    cluster.master().prefix = "life " + std::to_string(life) + " ";
    cluster.master().propose_many(kProposers, 200, 20 * kKiB);
    cluster.simulator.run_for(std::chrono::microseconds(cluster.simulator.random().below(200'000)));
    history.take(cluster.master());
    constexpr Crash kKinds[] = {Crash::kProcess, Crash::kPower, Crash::kPowerKeepsPart};
    cluster.node.crash(kKinds[cluster.simulator.random().below(3)]);
  }
  return {cluster.simulator.trace_hash(), history.size()};
}

TEST(LogEngineCrash, ManyLivesInARow) {
  size_t acknowledged = 0;
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    acknowledged += many_lives(seed, 10).second;
    if (testing::Test::HasFailure()) return;
  }
  EXPECT_GT(acknowledged, 1000u);
}

TEST(LogEngineCrash, TheSameSeedGivesTheSameTrace) {
  auto first = many_lives(77, 5);
  auto second = many_lives(77, 5);
  auto other = many_lives(78, 5);
  EXPECT_EQ(first, second);
  EXPECT_NE(first.first, other.first);
}

}  // namespace
}  // namespace cairn
