// The replicated log on the real loop, with real threads and files.
#include <filesystem>
#include <gtest/gtest.h>
#include <memory>
#include <stdlib.h>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/runtime/real_world.h"
#include "common/runtime/task_group.h"
#include "master/consensus/engine.h"
#include "tests/support/test_machine.h"

namespace cairn {
namespace {

constexpr ClusterId kCluster{0xC1};
constexpr uint64_t kPerLife = 2000;
constexpr size_t kProposers = 20;

// Opens the log, proposes, makes checkpoints meanwhile, stops.
class Life {
 public:
  Life(RealWorld& world, std::string folder)
      : machine(world.disk()), world_(world), folder_(std::move(folder)), tasks_(world.executor(), world.clock()) {}

  Task<int> main() {
    ReplicatedLogOptions options{.folder = folder_,
                                 .cluster = kCluster,
                                 .segment_size_bytes = kMiB,
                                 .checkpoint_log_bytes = 256 * kKiB,
                                 .trailing_entries = 20};
    Result<std::unique_ptr<ReplicatedLog>> opened = co_await ReplicatedLog::open(world_, options, machine);
    if (!opened) {
      error = opened.error();
      co_return 1;
    }
    log_ = std::move(*opened);
    commands_found = machine.commands().size();
    term = log_->term();
    left_ = kPerLife;
    for (size_t i = 0; i < kProposers; ++i)
      tasks_.spawn(propose_all());
    for (int i = 0; i < 3; ++i) {
      Result<LogIndex> made = co_await log_->checkpoint();
      checkpoints += made.has_value() ? 1 : 0;
    }
    co_await tasks_.stop();
    co_await log_->stop();
    log_.reset();
    co_return 0;
  }

  TestMachine machine;
  std::optional<Error> error;
  size_t commands_found = 0;
  uint64_t answered = 0;
  int checkpoints = 0;
  Term term = 0;

 private:
  Task<void> propose_all() {
    while (left_ > 0) {
      --left_;
      std::string text(500, 'x');
      auto decoded = std::make_unique<TestCommand>(text);
      Result<Committed> done = co_await log_->propose({.bytes = text, .decoded = std::move(decoded)});
      if (done) ++answered;
    }
  }

  RealWorld& world_;
  const std::string folder_;
  uint64_t left_ = 0;
  std::unique_ptr<ReplicatedLog> log_;
  TaskGroup tasks_;
};

TEST(ReplicatedLogOnRealFiles, LivesFollowOneAnother) {
  set_log_level(LogLevel::kWarning);
  std::string folder = std::filesystem::current_path() / "cairn-master-XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string master = folder + "/master";
  Term before = 0;
  for (size_t life = 0; life < 4; ++life) {
    auto world = RealWorld::make({});
    if (life == 0) {
      ASSERT_TRUE(initialise_master_folder(world->disk(), master, kCluster, MasterId{1}, "here:1"));
    }
    // The third begins as after a restart of the machine.
    if (life == 2) {
      ASSERT_TRUE(write_file(world->disk(), master + "/state-origin", "another boot"));
    }
    Life program(*world, master);
    ASSERT_EQ(world->run(program.main()), 0) << program.error->message();
    EXPECT_EQ(program.commands_found, life * kPerLife);
    EXPECT_EQ(program.answered, kPerLife);
    EXPECT_EQ(program.checkpoints, 3);
    EXPECT_GT(program.term, before);
    before = program.term;
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace cairn
