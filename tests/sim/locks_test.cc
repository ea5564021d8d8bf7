// Locks of files on two mounts: what excludes what, whoever dies or is cut off; and a mount that is alone asks nobody.
#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tests/support/sim_cluster.h"

namespace cairn {
namespace {

using FS = FileSystem;
using namespace std::chrono_literals;

constexpr LockMode kUnlock = LockMode::kUnlock, kShared = LockMode::kShared, kExclusive = LockMode::kExclusive;

FileLock posix(uint64_t owner, LockMode mode, uint64_t start = 0, uint64_t end = kLockRangeEnd) {
  return {.owner = owner, .kind = LockKind::kPosix, .mode = mode, .start = start, .end = end, .pid = 100};
}
FileLock flock(uint64_t owner, LockMode mode) {
  return {.owner = owner, .kind = LockKind::kFlock, .mode = mode};
}

class Locks : public testing::Test {
 protected:
  explicit Locks(SimClusterOptions options = {.mounts = 2}) : cluster_(7, std::move(options)) {
    started_ = cluster_.start();
  }
  void SetUp() override {
    ASSERT_TRUE(started_);
    auto made = cluster_.run<Result<Entry>>(0, [](FS& fs) { return fs.create(kRootInode, "f", 0644, {}); });
    ASSERT_TRUE(made && *made);
    file_ = (*made)->attributes.inode;
    handles_[0] = *cluster_.file_system(0)->opened_by_create(file_, {.read = true, .write = true});
    handles_[1] = open(1);
  }
  FS::HandleId open(size_t mount) {
    auto opened =
        cluster_.run<Result<FS::Opened>>(mount, [&](FS& fs) { return fs.open(file_, {.read = true, .write = true}); });
    EXPECT_TRUE(opened && *opened);
    return opened && *opened ? (*opened)->handle : 0;
  }
  // The error, or none.
  std::optional<ErrorCode> set(size_t mount, const FileLock& lock) {
    auto done = cluster_.run<Result<void>>(mount, [&](FS& fs) { return fs.set_lock(handles_[mount], lock, nullptr); });
    EXPECT_TRUE(done) << "it did not end";
    if (!done || *done) return std::nullopt;
    return done->error().code;
  }
  bool got(size_t mount, const FileLock& lock) { return set(mount, lock) == std::nullopt; }
  bool refused(size_t mount, const FileLock& lock) { return set(mount, lock) == ErrorCode::kAgain; }

  struct Attempt {
    std::shared_ptr<LockWait> wait = std::make_shared<LockWait>();
    std::optional<Result<void>> done;
  };
  std::shared_ptr<Attempt> wait_for(size_t mount, FileLock lock) {
    auto attempt = std::make_shared<Attempt>();
    cluster_.mount_node(mount).spawn(waiter(cluster_.file_system(mount), handles_[mount], lock, attempt));
    return attempt;
  }
  static Task<void> waiter(FS* fs, FS::HandleId handle, FileLock lock, std::shared_ptr<Attempt> attempt) {
    Result<void> done = co_await fs->set_lock(handle, lock, attempt->wait);
    attempt->done = std::move(done);
  }
  bool ends(const std::shared_ptr<Attempt>& attempt, Duration limit) {
    return cluster_.simulator().run_until([&] { return attempt->done.has_value(); }, limit);
  }
  void release(size_t mount, uint64_t owner) {
    cluster_.run<bool>(mount, [&](FS& fs) { return release_locks(&fs, handles_[mount], owner); });
  }
  static Task<bool> release_locks(FS* fs, FS::HandleId handle, uint64_t owner) {
    co_await fs->release_locks(handle, owner);
    co_return true;
  }
  static Task<bool> close(FS* fs, FS::HandleId handle) {
    co_await fs->release(handle);
    co_return true;
  }
  double requests(size_t mount) {
    return cluster_.mount_node(mount).metrics().counter("cairn_client_master_requests_total", "").value();
  }
  void stat(size_t mount) {
    auto seen = cluster_.run<Result<AttributesView>>(mount, [&](FS& fs) { return fs.get_attributes(file_); });
    EXPECT_TRUE(seen && *seen);
  }

  SimCluster cluster_;
  bool started_ = false;
  InodeId file_;
  FS::HandleId handles_[2] = {};
};

TEST_F(Locks, ExcludeAcrossMountsInBothWorlds) {
  EXPECT_TRUE(got(0, posix(1, kExclusive, 0, 9)));
  EXPECT_TRUE(refused(1, posix(1, kShared, 9, 9)));
  EXPECT_TRUE(got(1, posix(1, kExclusive, 10, 19)));
  EXPECT_TRUE(got(1, flock(1, kShared)));
  EXPECT_TRUE(refused(0, flock(1, kExclusive)));
  EXPECT_TRUE(got(0, flock(1, kShared)));
  EXPECT_TRUE(got(0, posix(1, kUnlock)));
  EXPECT_TRUE(got(1, posix(1, kExclusive)));
  EXPECT_TRUE(refused(1, posix(2, kShared)));  // another process there
}

TEST_F(Locks, AMountThatIsAloneAsksNobody) {
  stat(1);  // the other one knows the file
  for (int i = 0; i < 8; ++i) {
    ASSERT_TRUE(got(0, posix(1, kExclusive, 0, 9)));
    ASSERT_TRUE(got(0, posix(1, kUnlock, 0, 9)));
    cluster_.simulator().run_for(100ms);
  }
  double before = requests(0);
  for (int i = 0; i < 100; ++i) {
    ASSERT_TRUE(got(0, posix(1, kShared, 5, 5)));
    ASSERT_TRUE(refused(0, posix(2, kExclusive)));
    ASSERT_TRUE(got(0, posix(1, kExclusive, 0, 9)));
    ASSERT_TRUE(got(0, posix(1, kUnlock)));
    cluster_.simulator().run_for(1s);
  }
  EXPECT_EQ(requests(0), before);
}

TEST_F(Locks, WhatIsDecidedHereTheOtherFinds) {
  for (int i = 0; i < 8; ++i)
    ASSERT_TRUE(got(0, posix(1, kExclusive, 0, 9)));
  cluster_.simulator().run_for(1s);
  double before = requests(0);
  ASSERT_TRUE(got(0, posix(1, kExclusive, 20, 29)));
  ASSERT_TRUE(got(0, posix(1, kUnlock, 0, 4)));
  ASSERT_EQ(requests(0), before) << "decided here";
  EXPECT_TRUE(refused(1, posix(1, kShared, 25, 25)));
  EXPECT_TRUE(refused(1, posix(1, kShared, 5, 5)));
  EXPECT_TRUE(got(1, posix(1, kShared, 0, 4)));
  auto found = cluster_.run<Result<std::optional<FileLock>>>(
      1, [&](FS& fs) { return fs.test_lock(handles_[1], posix(1, kExclusive, 10, 100)); });
  ASSERT_TRUE(found && *found && **found);
  EXPECT_EQ((***found).start, 20u);
  EXPECT_EQ((***found).pid, 0u) << "a number of another machine";
}

TEST_F(Locks, WhoWaitsGetsItWhenTheOtherLetsGo) {
  for (int i = 0; i < 8; ++i)
    ASSERT_TRUE(got(0, posix(1, kExclusive)));
  auto attempt = wait_for(1, posix(1, kExclusive));
  EXPECT_FALSE(ends(attempt, 40s));
  ASSERT_TRUE(got(0, posix(1, kUnlock)));
  ASSERT_TRUE(ends(attempt, 500ms));
  EXPECT_TRUE(*attempt->done);
  EXPECT_TRUE(refused(0, posix(1, kShared)));
  auto back = wait_for(0, posix(2, kShared));
  EXPECT_FALSE(ends(back, 1s));
  release(1, 1);  // its descriptor is closed
  EXPECT_TRUE(ends(back, 500ms));
}

TEST_F(Locks, TwoOnOneMountWaitForEachOtherToo) {
  for (LockKind kind : {LockKind::kPosix, LockKind::kFlock}) {
    FileLock first = posix(1, kExclusive), second = posix(2, kExclusive);
    first.kind = second.kind = kind;
    for (int i = 0; i < 8; ++i)
      ASSERT_TRUE(got(0, first));
    auto attempt = wait_for(0, second);
    EXPECT_FALSE(ends(attempt, 1s));
    first.mode = second.mode = kUnlock;
    ASSERT_TRUE(got(0, first));
    ASSERT_TRUE(ends(attempt, 500ms));
    ASSERT_TRUE(*attempt->done);
    ASSERT_TRUE(got(0, second));
  }
}

TEST_F(Locks, AWaitThatIsGivenUpLeavesWhatWasThere) {
  ASSERT_TRUE(got(0, posix(1, kShared, 0, 9)));
  ASSERT_TRUE(got(1, posix(1, kShared, 5, 14)));
  auto attempt = wait_for(0, posix(1, kExclusive, 0, 20));
  EXPECT_FALSE(ends(attempt, 1s));
  attempt->wait->give_up();
  ASSERT_TRUE(ends(attempt, 500ms));
  EXPECT_TRUE(attempt->done->failed_with(ErrorCode::kInterrupted));
  ASSERT_TRUE(got(1, posix(1, kUnlock)));
  EXPECT_TRUE(got(1, posix(1, kExclusive, 10, 20)));
  EXPECT_TRUE(refused(1, posix(1, kExclusive, 9, 9)));
  EXPECT_TRUE(got(1, posix(1, kShared, 9, 9)));
}

TEST_F(Locks, OneThatWasGivenUpWhileItWasSetIsTakenBack) {
  for (int step = 1; step < 40; ++step) {
    ASSERT_TRUE(got(1, posix(1, kShared, 0, 9)));
    auto attempt = wait_for(0, posix(1, kExclusive, 20, 29));
    cluster_.simulator().run_for(std::chrono::microseconds(100 * step));
    bool over = attempt->done.has_value();
    attempt->wait->give_up();
    ASSERT_TRUE(ends(attempt, 5s));
    bool set = attempt->done->has_value();
    ASSERT_TRUE(set || attempt->done->failed_with(ErrorCode::kInterrupted));
    ASSERT_TRUE(!over || set);
    ASSERT_EQ(refused(1, posix(1, kExclusive, 20, 29)), set) << step;
    ASSERT_TRUE(got(0, posix(1, kUnlock)));
    ASSERT_TRUE(got(1, posix(1, kUnlock)));
  }
}

TEST_F(Locks, ACircleOfTwoMountsIsADeadlock) {
  ASSERT_TRUE(got(0, posix(1, kExclusive, 0, 0)));
  ASSERT_TRUE(got(1, posix(1, kExclusive, 1, 1)));
  auto first = wait_for(0, posix(1, kExclusive, 1, 1));
  EXPECT_FALSE(ends(first, 20s));
  auto second = wait_for(1, posix(1, kExclusive, 0, 0));
  ASSERT_TRUE(ends(second, 500ms));
  EXPECT_TRUE(second->done->failed_with(ErrorCode::kDeadlock));
  EXPECT_FALSE(first->done);
  ASSERT_TRUE(got(1, posix(1, kUnlock)));
  EXPECT_TRUE(ends(first, 500ms));
}

TEST_F(Locks, OfAMountThatDiesAreFreeWithItsSession) {
  ASSERT_TRUE(got(0, posix(1, kExclusive)));
  auto attempt = wait_for(1, posix(1, kExclusive));
  EXPECT_FALSE(ends(attempt, 1s));
  cluster_.mount_node(0).crash(Crash::kProcess);
  ASSERT_TRUE(ends(attempt, 15s));
  EXPECT_TRUE(*attempt->done);
}

TEST_F(Locks, WhoLostThemIsToldOnce) {
  ASSERT_TRUE(got(0, posix(1, kExclusive)));
  cluster_.mount_node(0).pause();
  auto attempt = wait_for(1, posix(1, kExclusive));
  ASSERT_TRUE(ends(attempt, 30s));
  ASSERT_TRUE(*attempt->done);
  cluster_.mount_node(0).resume();
  cluster_.simulator().run_for(5s);
  EXPECT_EQ(set(0, posix(1, kShared)), ErrorCode::kIo);
  EXPECT_TRUE(refused(0, posix(1, kShared)));
  EXPECT_TRUE(got(0, posix(1, kUnlock)));
}

TEST_F(Locks, ClosingAHandleTakesWhatWasLockedThroughIt) {
  FS::HandleId second = open(0);
  std::swap(handles_[0], second);
  ASSERT_TRUE(got(0, posix(9, kExclusive)));
  std::swap(handles_[0], second);
  EXPECT_TRUE(cluster_.file_system(0)->has_locks(file_));
  release(0, 1);  // another owner's
  EXPECT_TRUE(refused(1, posix(1, kShared)));
  cluster_.run<bool>(0, [&](FS& fs) { return close(&fs, second); });
  EXPECT_FALSE(cluster_.file_system(0)->has_locks(file_));
  EXPECT_TRUE(got(1, posix(1, kShared)));
}

class GroupLocks : public Locks {
 protected:
  GroupLocks() : Locks({.masters = 3, .mounts = 2}) {}
  void kill_leader() {
    std::optional<size_t> leader = cluster_.leading_master();
    ASSERT_TRUE(leader);
    cluster_.master(*leader).crash(Crash::kProcess);
    cluster_.simulator().run_for(5s);
    cluster_.start_master(*leader);
  }
};

TEST_F(GroupLocks, AnElectionLosesNone) {
  for (int i = 0; i < 8; ++i)
    ASSERT_TRUE(got(0, posix(1, kExclusive, 0, 9)));
  cluster_.simulator().run_for(1s);
  ASSERT_TRUE(got(0, posix(1, kExclusive, 20, 29)));  // decided there, and told nobody
  kill_leader();
  EXPECT_TRUE(refused(1, posix(1, kShared, 0, 0)));
  EXPECT_TRUE(refused(1, posix(1, kShared, 20, 20)));
  auto attempt = wait_for(1, posix(1, kExclusive));
  EXPECT_FALSE(ends(attempt, 1s));
  kill_leader();
  EXPECT_FALSE(ends(attempt, 1s));
  ASSERT_TRUE(got(0, posix(1, kUnlock)));
  EXPECT_TRUE(ends(attempt, 20s));
  EXPECT_TRUE(*attempt->done);
}

// ---------------------------------------------------------------- many, while everything happens

// One program: it locks a range of one file, holds it for a while, lets go, again and again. Nobody else may believe at
// the same time that it has it.
struct Program {
  size_t mount = 0;
  FS::HandleId handle = 0;
  uint64_t owner = 0;
  std::optional<FileLock> held;
  uint64_t rounds = 0;
  bool over = false;
};

class Storm {
 public:
  Storm(uint64_t seed, size_t masters)
      : cluster_(seed, {.masters = masters, .mounts = 3}), random_(make_seeded_random(seed)) {}

  bool start() {
    if (!cluster_.start()) return false;
    auto made = cluster_.run<Result<Entry>>(0, [](FS& fs) { return fs.create(kRootInode, "f", 0644, {}); });
    if (!made || !*made) return false;
    file_ = (*made)->attributes.inode;
    for (size_t mount = 0; mount < cluster_.mounts(); ++mount) {
      for (int i = 0; i < 3; ++i)
        start_program(mount);
    }
    return true;
  }
  void run(Duration duration) {
    Simulator& simulator = cluster_.simulator();
    TimePoint end = simulator.now() + duration;
    while (simulator.now() < end) {
      simulator.run_for(std::chrono::milliseconds(500 + random_->below(3000)));
      fault();
    }
    repair();
    simulator.run_for(40s);
  }
  uint64_t rounds() const {
    uint64_t all = lost_rounds_;
    for (const auto& program : programs_)
      all += program->rounds;
    return all;
  }
  const std::string& wrong() const { return wrong_; }

 private:
  void start_program(size_t mount) {
    auto program = std::make_shared<Program>(Program{.mount = mount, .owner = ++last_owner_});
    programs_.push_back(program);
    if (cluster_.file_system(mount)) cluster_.mount_node(mount).spawn(work(this, program, cluster_.file_system(mount)));
  }
  FileLock draw(const Program& program) {
    FileLock lock{.owner = program.owner};
    lock.kind = random_->chance(1, 4) ? LockKind::kFlock : LockKind::kPosix;
    lock.mode = random_->chance(1, 3) ? kShared : kExclusive;
    if (lock.kind == LockKind::kPosix) {
      lock.start = random_->below(3);
      lock.end = lock.start + random_->below(2);
    }
    return lock;
  }
  static Task<void> work(Storm* storm, std::shared_ptr<Program> program, FS* fs) {
    World& world = storm->cluster_.mount_node(program->mount);
    TaskGroup sleeper(world.executor(), world.clock());
    Result<FS::Opened> opened = co_await fs->open(storm->file_, {.read = true, .write = true});
    if (!opened) co_return;
    program->handle = opened->handle;
    for (;;) {
      FileLock lock = storm->draw(*program);
      bool waits = storm->random_->chance(1, 2);
      auto wait = waits ? std::make_shared<LockWait>() : nullptr;
      Result<void> set = co_await fs->set_lock(program->handle, lock, wait);
      if (set) {
        program->held = lock;
        storm->check(*program);
        ++program->rounds;
      }
      Duration pause = std::chrono::milliseconds(1 + storm->random_->below(30));
      Result<void> slept = co_await sleeper.sleep_for(pause);
      if (!slept) co_return;
      program->held.reset();
      lock.mode = kUnlock;
      if (set) set = co_await fs->set_lock(program->handle, lock, nullptr);
      slept = co_await sleeper.sleep_for(pause);
      if (!slept) co_return;
    }
  }
  // Somebody was given a lock just now. A mount that was out of reach for longer than a session lives may believe in
  // what it had: it hears of the end with its next question.
  void check(const Program& winner) {
    for (const auto& other : programs_) {
      if (other.get() == &winner || !other->held) continue;
      FileLock mine = *winner.held, theirs = *other->held;
      mine.session = theirs.session = {};
      if (!in_the_way(mine, theirs)) continue;
      TimePoint since = away_since_[other->mount];
      if (since != TimePoint{} && cluster_.simulator().now() - since > 6s) continue;
      wrong_ = "owners " + std::to_string(winner.owner) + " and " + std::to_string(other->owner) + " both have it";
    }
  }
  void fault() {
    size_t mount = random_->below(cluster_.mounts());
    SimNode& node = cluster_.mount_node(mount);
    TimePoint now = cluster_.simulator().now();
    switch (random_->below(6)) {
      case 0:
        kill_mount(mount);
        break;
      case 1:
        if (away_since_[mount] != TimePoint{}) break;
        away_since_[mount] = now;
        node.pause();
        break;
      case 2:
        if (away_since_[mount] != TimePoint{}) break;
        away_since_[mount] = now;
        for (size_t i = 0; i < cluster_.masters(); ++i)
          cluster_.simulator().block(node, cluster_.master(i));
        break;
      case 3:
        repair();
        break;
      case 4:
        if (std::optional<size_t> leader = cluster_.leading_master(); leader && cluster_.masters() > 1) {
          cluster_.master(*leader).crash(Crash::kProcess);
          cluster_.start_master(*leader);
        }
        break;
      default:
        break;
    }
  }
  void kill_mount(size_t mount) {
    cluster_.mount_node(mount).crash(Crash::kProcess);
    for (const auto& program : programs_) {
      if (program->mount == mount) program->held.reset();
    }
    std::erase_if(programs_, [&](const auto& program) {
      if (program->mount == mount) lost_rounds_ += program->rounds;
      return program->mount == mount;
    });
    away_since_.erase(mount);
    cluster_.simulator().unblock_all();
    for (auto& [other, since] : away_since_) {
      if (!cluster_.mount_node(other).paused()) since = TimePoint{};
    }
    cluster_.start_mount(mount);
    if (!cluster_.wait_for_mount(mount)) wrong_ = "a mount does not start";
    for (int i = 0; i < 3; ++i)
      start_program(mount);
  }
  void repair() {
    cluster_.simulator().unblock_all();
    for (size_t mount = 0; mount < cluster_.mounts(); ++mount) {
      SimNode& node = cluster_.mount_node(mount);
      if (node.paused()) node.resume();
    }
    // What they believe in they find out by asking; until then it is not held against them.
    cluster_.simulator().run_for(15s);
    away_since_.clear();
  }

  SimCluster cluster_;
  std::unique_ptr<Random> random_;
  InodeId file_;
  std::vector<std::shared_ptr<Program>> programs_;
  std::map<size_t, TimePoint> away_since_;
  uint64_t last_owner_ = 0;
  uint64_t lost_rounds_ = 0;
  std::string wrong_;
};

class Exclusion : public testing::TestWithParam<uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Locks, Exclusion, testing::Range<uint64_t>(1, 9));

TEST_P(Exclusion, HoldsWhateverHappens) {
  Storm storm(GetParam(), GetParam() % 2 == 0 ? 1 : 3);
  ASSERT_TRUE(storm.start());
  storm.run(30s);
  EXPECT_EQ(storm.wrong(), "");
  EXPECT_GT(storm.rounds(), 50u);
}

}  // namespace
}  // namespace cairn
