// The replicated log with one voter, on a simulated node.
#include "master/consensus/engine.h"

#include <algorithm>
#include <gtest/gtest.h>
#include <set>
#include <string>

#include "common/base/log.h"
#include "tests/unit/master/consensus/test_master.h"

namespace cairn {
namespace {

class Quiet : public testing::Environment {
 public:
  void SetUp() override { set_log_level(LogLevel::kOff); }
};
const auto* const kQuiet = testing::AddGlobalTestEnvironment(new Quiet);

TEST(ReplicatedLog, SoleVoterLeadsOnceItIsOpen) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  LogStatus status = cluster.master().log->status();
  EXPECT_TRUE(cluster.master().log->leading());
  EXPECT_EQ(status.master, kTestMaster);
  EXPECT_EQ(status.leader, kTestMaster);
  EXPECT_EQ(status.leader_address, "master:9421");
  EXPECT_EQ(status.applied, status.last);
  EXPECT_EQ(cluster.master().leaderships, std::vector<Term>{status.term});
}

TEST(ReplicatedLog, EachStartHasAHigherTerm) {
  TestCluster cluster(1);
  Term before = 0;
  for (Crash crash : {Crash::kProcess, Crash::kPower, Crash::kProcess}) {
    ASSERT_TRUE(cluster.start());
    EXPECT_GT(cluster.master().log->term(), before);
    before = cluster.master().log->term();
    cluster.node.crash(crash);
  }
}

TEST(ReplicatedLog, ProposerGetsTheMachinesReply) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  EXPECT_EQ(cluster.propose("a").position, 1u);
  TestMaster::Answer second = cluster.propose("b");
  EXPECT_EQ(second.position, 2u);
  EXPECT_EQ(second.index, cluster.master().log->status().applied);
  EXPECT_EQ(cluster.master().machine.commands(), (std::vector<std::string>{"a", "b"}));
}

TEST(ReplicatedLog, LeadersApplyGetsTheDecodedCommand) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  cluster.propose("a");
  EXPECT_EQ(cluster.master().machine.decoded_commands, 1u);
  cluster.node.crash(Crash::kPower);
  ASSERT_TRUE(cluster.start());
  EXPECT_EQ(cluster.master().machine.decoded_commands, 0u);
  EXPECT_EQ(cluster.master().machine.commands(), std::vector<std::string>{"a"});
}

TEST(ReplicatedLog, CommandsThatArriveTogetherShareAnEntry) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  for (int i = 0; i < 100; ++i)
    cluster.master().propose("command " + std::to_string(i));
  ASSERT_TRUE(cluster.wait([&] { return cluster.master().answers.size() == 100; }));
  std::set<LogIndex> entries;
  for (size_t i = 0; i < 100; ++i) {
    entries.insert(cluster.master().answers[i].index);
    EXPECT_EQ(cluster.master().answers[i].position, i + 1);
  }
  EXPECT_EQ(entries.size(), 1u);
}

TEST(ReplicatedLog, WhileFourEntriesAreInFlightCommandsWaitForOneAnother) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  LogIndex before = cluster.master().log->status().last;
  // Each in a turn of the loop of its own, faster than the disk.
  for (int i = 0; i < 50; ++i) {
    cluster.simulator.after(std::chrono::nanoseconds(i),
                            [&cluster, i] { cluster.master().propose(std::to_string(i)); });
  }
  ASSERT_TRUE(cluster.wait([&] { return cluster.master().answers.size() == 50; }));
  EXPECT_LE(cluster.master().log->status().last - before, 6u);
}

TEST(ReplicatedLog, EntryIsSentWhenItIsFull) {
  ReplicatedLogOptions options = TestCluster::small_options();
  options.segment_size_bytes = 8 * kMiB;
  TestCluster cluster(1, options);
  ASSERT_TRUE(cluster.start());
  for (int i = 0; i < 20; ++i)
    cluster.master().propose(std::string(100 * kKiB, 'x'));
  ASSERT_TRUE(cluster.wait([&] { return cluster.master().answers.size() == 20; }));
  std::set<LogIndex> entries;
  for (const TestMaster::Answer& answer : cluster.master().answers)
    entries.insert(answer.index);
  EXPECT_EQ(entries.size(), 10u);
}

TEST(ReplicatedLog, CommandsHaveABound) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  EXPECT_EQ(cluster.propose(std::string(kMaxCommandBytes, 'x')).position, 1u);
  TestMaster::Answer refused = cluster.propose(std::string(kMaxCommandBytes + 1, 'x'));
  ASSERT_TRUE(refused.error);
  EXPECT_EQ(refused.error->code, ErrorCode::kTooBig);
}

TEST(ReplicatedLog, WhatWaitsInMemoryIsBounded) {
  ReplicatedLogOptions options = TestCluster::small_options();
  options.segment_size_bytes = 64 * kMiB;
  TestCluster cluster(1, options);
  ASSERT_TRUE(cluster.start());
  for (int i = 0; i < 200; ++i)
    cluster.master().propose(std::string(100 * kKiB, 'x'));
  ASSERT_TRUE(cluster.wait([&] { return cluster.master().answers.size() == 200; }));
  auto refused = std::count_if(
      cluster.master().answers.begin(), cluster.master().answers.end(),
      [](const TestMaster::Answer& answer) { return answer.error && answer.error->code == ErrorCode::kOverload; });
  EXPECT_EQ(refused, 200 - static_cast<long>(kMaxQueuedProposalBytes / (100 * kKiB)));
  EXPECT_FALSE(cluster.propose("and now").error);
}

TEST(ReplicatedLog, StopAnswersWhatIsOnItsWayAndRefusesTheRest) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  for (int i = 0; i < 10; ++i)
    cluster.master().propose("before");
  cluster.master().stop();
  cluster.master().propose("after");
  ASSERT_TRUE(cluster.wait([&] { return cluster.master().stopped; }));
  ASSERT_EQ(cluster.master().answers.size(), 11u);
  for (const TestMaster::Answer& answer : cluster.master().answers)
    EXPECT_EQ(answer.error.has_value(), answer.text == "after");
}

TEST(ReplicatedLog, ReadBarrierPassesOnceTheLeaderHasAppliedItsFirstEntry) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  cluster.propose("a");
  cluster.master().read();
  ASSERT_TRUE(cluster.wait([&] { return cluster.master().barriers.size() == 1; }));
  EXPECT_TRUE(cluster.master().barriers[0]);
}

TEST(ReplicatedLog, LongIdleLeaderStaysLeader) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  cluster.simulator.run_for(std::chrono::minutes(10));
  EXPECT_TRUE(cluster.master().log->leading());
  EXPECT_EQ(cluster.master().leaderships.size(), 1u);
  EXPECT_FALSE(cluster.propose("a").error);
}

// ---------------------------------------------------------------- time

TEST(LogTime, EntriesCarryItAndItMovesOnlyWhileSomebodyLeads) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  uint64_t first = cluster.propose("a").log_time_ms;
  EXPECT_LT(first, 1000u);
  cluster.simulator.run_for(10s);
  uint64_t second = cluster.propose("b").log_time_ms;
  EXPECT_NEAR(static_cast<double>(second), static_cast<double>(first) + 10'000, 100);
  cluster.node.crash(Crash::kPower);
  cluster.simulator.run_for(std::chrono::hours(1));
  ASSERT_TRUE(cluster.start());
  uint64_t third = cluster.propose("c").log_time_ms;
  EXPECT_GE(third, second);
  EXPECT_LT(third, second + 1000);
  EXPECT_NEAR(static_cast<double>(cluster.master().log->log_time_ms()), static_cast<double>(third), 10);
}

TEST(LogTime, SurvivesACheckpointAndAnEmptyLogBehindIt) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  cluster.simulator.run_for(100s);
  uint64_t before = cluster.propose("a").log_time_ms;
  ASSERT_TRUE(cluster.checkpoint());
  cluster.node.crash(Crash::kPower);
  ASSERT_TRUE(cluster.start());
  EXPECT_GE(cluster.propose("b").log_time_ms, before);
}

TEST(LogTime, TicksComeEachSecondWhileTheyAreWanted) {
  ReplicatedLogOptions options = TestCluster::small_options();
  auto wanted = std::make_shared<bool>(false);
  options.ticks_wanted = [wanted] { return *wanted; };
  TestCluster cluster(1, options);
  ASSERT_TRUE(cluster.start());
  LogIndex last = cluster.master().log->status().last;
  cluster.simulator.run_for(10s);
  EXPECT_EQ(cluster.master().log->status().last, last);
  *wanted = true;
  cluster.simulator.run_for(10s);
  LogIndex ticks = cluster.master().log->status().last - last;
  EXPECT_GE(ticks, 9u);
  EXPECT_LE(ticks, 11u);
  const std::vector<EntryContext>& applied = cluster.master().machine.applied;
  for (size_t i = 1; i < applied.size(); ++i)
    EXPECT_GE(applied[i].log_time_ms, applied[i - 1].log_time_ms);
  EXPECT_NEAR(static_cast<double>(applied.back().log_time_ms), 20'000, 1'100);
}

// ---------------------------------------------------------------- folders

TEST(MasterFolder, IsInitialisedOnce) {
  TestCluster cluster(1);
  EXPECT_TRUE(initialise_master_folder(cluster.node.memory_disk(), "/master", kTestCluster, kTestMaster, "x")
                  .failed_with(ErrorCode::kExists));
}

TEST(MasterFolder, OfAnotherClusterIsRefused) {
  ReplicatedLogOptions options = TestCluster::small_options();
  options.cluster = ClusterId{0xC2};
  TestCluster cluster(1, options);
  EXPECT_FALSE(cluster.start());
  ASSERT_TRUE(cluster.master().open_error);
  EXPECT_EQ(cluster.master().open_error->code, ErrorCode::kWrongCluster);
}

TEST(MasterFolder, InUseIsBusy) {
  TestCluster cluster(1);
  Result<std::unique_ptr<FolderLock>> lock = cluster.node.memory_disk().lock_folder("/master");
  ASSERT_TRUE(lock);
  EXPECT_FALSE(cluster.start());
  ASSERT_TRUE(cluster.master().open_error);
  EXPECT_EQ(cluster.master().open_error->code, ErrorCode::kBusy);
}

TEST(MasterFolder, NeverInitialisedIsNotFound) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.node.memory_disk().remove("/master/identity"));
  EXPECT_FALSE(cluster.start());
  ASSERT_TRUE(cluster.master().open_error);
  EXPECT_EQ(cluster.master().open_error->code, ErrorCode::kNotFound);
}

TEST(MasterFolder, DamagedIdentityIsNamed) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.node.memory_disk().flip_byte("/master/identity", 20));
  EXPECT_FALSE(cluster.start());
  ASSERT_TRUE(cluster.master().open_error);
  EXPECT_EQ(cluster.master().open_error->code, ErrorCode::kCorrupt);
  EXPECT_NE(cluster.master().open_error->context.find("/master/identity"), std::string::npos);
}

TEST(MasterFolder, WithItsLogGoneDoesNotStartFromNothing) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  cluster.propose("a");
  cluster.node.crash(Crash::kPower);
  ASSERT_TRUE(cluster.node.memory_disk().remove_tree("/master/log"));
  EXPECT_FALSE(cluster.start());
  ASSERT_TRUE(cluster.master().open_error);
  EXPECT_EQ(cluster.master().open_error->code, ErrorCode::kCorrupt);
}

// ---------------------------------------------------------------- restarts and checkpoints

class Restart : public testing::Test {
 protected:
  TestCluster cluster{1};
  std::vector<std::string> expected;

  void propose(int count) {
    for (int i = 0; i < count; ++i) {
      expected.push_back("command " + std::to_string(expected.size()));
      ASSERT_FALSE(cluster.propose(expected.back()).error);
    }
  }
  // More than a segment, and more entries than are kept behind a checkpoint.
  void fill_a_segment() {
    for (int i = 0; i < 12; ++i) {
      expected.push_back(std::string(TestMachine::kRememberedBytes, 'x'));
      ASSERT_FALSE(cluster.propose(std::string(100 * kKiB, 'x')).error);
    }
    propose(60);
  }
  void restart(Crash crash) {
    cluster.node.crash(crash);
    ASSERT_TRUE(cluster.start()) << (cluster.master().open_error ? cluster.master().open_error->message() : "");
    EXPECT_EQ(cluster.master().machine.commands(), expected);
  }
  std::string newest_checkpoint() {
    Result<std::vector<std::string>> names = cluster.node.memory_disk().list("/master/checkpoints");
    CHECK(names);
    // A crash can leave one that was being removed.
    std::erase_if(*names, [](const std::string& name) { return name.starts_with("removing-"); });
    CHECK(!names->empty());
    return "/master/checkpoints/" + names->back();
  }
};

TEST_F(Restart, OfTheProcessOpensTheStateInPlace) {
  ASSERT_TRUE(cluster.start());
  propose(20);
  LogIndex applied = cluster.master().log->status().applied;
  restart(Crash::kProcess);
  EXPECT_EQ(cluster.master().machine.opened_at, applied);
}

TEST_F(Restart, OfTheMachineRebuildsTheStateFromTheLog) {
  ASSERT_TRUE(cluster.start());
  propose(20);
  restart(Crash::kPower);
  EXPECT_EQ(cluster.master().machine.opened_at, 0u);
}

TEST_F(Restart, OfTheMachineRebuildsTheStateFromTheNewestCheckpoint) {
  ASSERT_TRUE(cluster.start());
  propose(20);
  ASSERT_TRUE(cluster.checkpoint());
  propose(10);
  Result<LogIndex> at = cluster.checkpoint();
  ASSERT_TRUE(at);
  propose(20);
  restart(Crash::kPower);
  EXPECT_EQ(cluster.master().machine.opened_at, *at);
  propose(5);
  restart(Crash::kProcess);
  EXPECT_GT(cluster.master().machine.opened_at, *at);
}

TEST_F(Restart, OfTheMachineNeverOpensTheOldState) {
  ASSERT_TRUE(cluster.start());
  propose(20);
  ASSERT_TRUE(cluster.checkpoint());
  propose(10);
  cluster.node.crash(Crash::kPowerKeepsPart);
  // Whatever the power cut has left of the state is overwritten.
  MemoryDisk& disk = cluster.node.memory_disk();
  ASSERT_TRUE(disk.remove_tree("/master/state"));
  ASSERT_TRUE(disk.make_folder("/master/state/nonsense"));
  ASSERT_TRUE(cluster.start());
  EXPECT_EQ(cluster.master().machine.commands(), expected);
}

TEST_F(Restart, DamagedStateIsRebuilt) {
  ASSERT_TRUE(cluster.start());
  propose(20);
  ASSERT_TRUE(cluster.checkpoint());
  propose(10);
  cluster.node.crash(Crash::kProcess);
  MemoryDisk& disk = cluster.node.memory_disk();
  Result<std::vector<std::string>> files = disk.list("/master/state");
  ASSERT_TRUE(files);
  for (const std::string& file : *files)
    ASSERT_TRUE(disk.remove_tree("/master/state/" + file));
  ASSERT_TRUE(write_file(disk, "/master/state/journal", "nonsense"));
  ASSERT_TRUE(cluster.start()) << cluster.master().open_error->message();
  EXPECT_EQ(cluster.master().machine.commands(), expected);
}

TEST_F(Restart, DamagedNewestCheckpointIsReplacedByTheOneBeforeAndTheLog) {
  ASSERT_TRUE(cluster.start());
  // Enough that the log is purged: what the older checkpoint needs must still be there.
  Result<LogIndex> older = LogIndex{0};
  for (int round = 0; round < 4; ++round) {
    fill_a_segment();
    older = cluster.checkpoint();
    ASSERT_TRUE(older);
  }
  ASSERT_GT(cluster.master().log->status().first, 1u);
  for (int i = 0; i < 3; ++i)
    fill_a_segment();
  ASSERT_TRUE(cluster.checkpoint());
  propose(100);
  cluster.node.crash(Crash::kPower);
  MemoryDisk& disk = cluster.node.memory_disk();
  std::string state = newest_checkpoint() + "/state";
  Result<std::vector<std::string>> files = disk.list(state);
  ASSERT_TRUE(files);
  for (const std::string& file : *files) {
    if (*disk.file_size(state + "/" + file) > 20) {
      ASSERT_TRUE(disk.flip_byte(state + "/" + file, 20));
    }
  }
  ASSERT_TRUE(cluster.start()) << cluster.master().open_error->message();
  EXPECT_EQ(cluster.master().machine.opened_at, *older);
  EXPECT_EQ(cluster.master().machine.commands(), expected);
}

TEST_F(Restart, WithoutAnyUsableCheckpointAndWithAPurgedLogSaysSo) {
  ASSERT_TRUE(cluster.start());
  for (int round = 0; round < 6; ++round) {
    fill_a_segment();
    ASSERT_TRUE(cluster.checkpoint());
  }
  ASSERT_GT(cluster.master().log->status().first, 1u);
  cluster.node.crash(Crash::kPower);
  ASSERT_TRUE(cluster.node.memory_disk().remove_tree("/master/checkpoints"));
  EXPECT_FALSE(cluster.start());
  ASSERT_TRUE(cluster.master().open_error);
  EXPECT_EQ(cluster.master().open_error->code, ErrorCode::kCorrupt);
}

TEST_F(Restart, TwoCheckpointsAreKeptAndTheLogIsPurgedBehindThem) {
  ASSERT_TRUE(cluster.start());
  for (int round = 0; round < 10; ++round) {
    fill_a_segment();
    ASSERT_TRUE(cluster.checkpoint());
  }
  LogStatus status = cluster.master().log->status();
  EXPECT_EQ(cluster.node.memory_disk().list("/master/checkpoints")->size(), 2u);
  EXPECT_GT(status.first, 500u);
  EXPECT_LE(status.first, status.checkpoint - 50);
  EXPECT_LT(status.log_bytes, 8 * kMiB);
  restart(Crash::kPower);
  restart(Crash::kProcess);
}

TEST_F(Restart, NothingNewMeansNoNewCheckpoint) {
  ASSERT_TRUE(cluster.start());
  propose(3);
  Result<LogIndex> first = cluster.checkpoint();
  Result<LogIndex> second = cluster.checkpoint();
  ASSERT_TRUE(first && second);
  EXPECT_EQ(*first, *second);
  EXPECT_EQ(cluster.node.memory_disk().list("/master/checkpoints")->size(), 1u);
}

TEST(Checkpoints, ComeByBytesOfLog) {
  ReplicatedLogOptions options = TestCluster::small_options();
  options.checkpoint_log_bytes = 2 * kMiB;
  TestCluster cluster(1, options);
  ASSERT_TRUE(cluster.start());
  for (int i = 0; i < 15; ++i)
    cluster.propose(std::string(100 * kKiB, 'x'));
  cluster.simulator.run_for(3s);
  EXPECT_EQ(cluster.master().log->status().checkpoint, 0u);
  for (int i = 0; i < 10; ++i)
    cluster.propose(std::string(100 * kKiB, 'x'));
  EXPECT_TRUE(cluster.wait([&] { return cluster.master().log->status().checkpoint > 0; }, 3s));
}

TEST(Checkpoints, ComeByAgeOfTheOldestChange) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  cluster.simulator.run_for(std::chrono::minutes(20));
  EXPECT_EQ(cluster.master().log->status().checkpoint, 0u) << "nothing had changed";
  cluster.propose("a");
  cluster.simulator.run_for(std::chrono::minutes(4));
  EXPECT_EQ(cluster.master().log->status().checkpoint, 0u);
  cluster.simulator.run_for(std::chrono::minutes(2));
  EXPECT_GT(cluster.master().log->status().checkpoint, 0u);
}

// ---------------------------------------------------------------- full and failing disks

TEST(FullDisk, RefusesAllButWhatFreesSpaceAndRecovers) {
  TestCluster cluster(1, TestCluster::small_options(), 16 * kMiB);
  ASSERT_TRUE(cluster.start());
  ASSERT_FALSE(cluster.propose("a").error);
  MemoryDisk& disk = cluster.node.memory_disk();
  DiskSpace space = *disk.space("/");
  disk.set_capacity(space.total_bytes - space.free_bytes + 100 * kKiB);
  cluster.simulator.run_for(3s);
  EXPECT_TRUE(cluster.master().log->status().disk_low);
  TestMaster::Answer refused = cluster.propose("b");
  ASSERT_TRUE(refused.error);
  EXPECT_EQ(refused.error->code, ErrorCode::kNoSpace);
  EXPECT_FALSE(cluster.propose("remove something", true).error);
  disk.set_capacity(64 * kMiB);
  cluster.simulator.run_for(3s);
  EXPECT_FALSE(cluster.propose("c").error);
  EXPECT_EQ(cluster.master().machine.commands(), (std::vector<std::string>{"a", "remove something", "c"}));
}

TEST(FullDisk, LogIsRefusedBeforeItsRoomEndsAndTheMasterStaysUp) {
  TestCluster cluster(1, TestCluster::small_options(), 64 * kMiB);
  ASSERT_TRUE(cluster.start());
  MemoryDisk& disk = cluster.node.memory_disk();
  DiskSpace space = *disk.space("/");
  // Room for the state but for no further segment.
  disk.set_capacity(space.total_bytes - space.free_bytes + 900 * kKiB);
  std::optional<Error> error;
  int accepted = 0;
  for (; accepted < 100 && !error; ++accepted)
    error = cluster.propose(std::string(20 * kKiB, 'x'), true).error;
  ASSERT_TRUE(error);
  EXPECT_EQ(error->code, ErrorCode::kNoSpace);
  EXPECT_GT(accepted, 10);
  EXPECT_FALSE(cluster.master().fatal);
  EXPECT_TRUE(cluster.master().log->leading());
  disk.set_capacity(64 * kMiB);
  cluster.simulator.run_for(3s);
  EXPECT_FALSE(cluster.propose("again").error);
}

TEST(FailingDisk, IsFatalAndNothingIsAnsweredAfterwards) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  cluster.propose("a");
  cluster.node.memory_disk().fail_after(0);
  cluster.master().propose("b");
  ASSERT_TRUE(cluster.wait([&] { return cluster.master().fatal.has_value(); }));
  EXPECT_EQ(cluster.master().fatal->code, ErrorCode::kIo);
  cluster.simulator.run_for(10s);
  EXPECT_EQ(cluster.master().answers.size(), 1u);
}

TEST(FailingMachine, IsFatal) {
  TestCluster cluster(1);
  ASSERT_TRUE(cluster.start());
  cluster.master().machine.before_apply = [](const EntryContext&) -> Result<void> { return ErrorCode::kIo; };
  cluster.master().propose("a");
  ASSERT_TRUE(cluster.wait([&] { return cluster.master().fatal.has_value(); }));
  EXPECT_TRUE(cluster.master().answers.empty());
  // It was logged: after a restart it is applied.
  cluster.node.crash(Crash::kProcess);
  ASSERT_TRUE(cluster.start());
  EXPECT_EQ(cluster.master().machine.commands(), std::vector<std::string>{"a"});
}

}  // namespace
}  // namespace cairn
