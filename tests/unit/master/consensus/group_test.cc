// The replicated log among several masters: what random faults (tests/sim/group) reach seldom, step by step.
#include <algorithm>
#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/log.h"
#include "master/consensus/raft_message.h"
#include "tests/sim/group/group_master.h"

namespace cairn {
namespace {

class Quiet : public testing::Environment {
 public:
  void SetUp() override { set_log_level(LogLevel::kOff); }
};
const auto* const kQuiet = testing::AddGlobalTestEnvironment(new Quiet);

constexpr ClusterId kCluster{0xC1};

// Masters on simulated nodes; the first makes the group, the others wait to be added.
class Group {
 public:
  explicit Group(uint64_t seed, SimOptions options = {.pool_works_late = true}) : simulator(seed, std::move(options)) {}
  ~Group() {
    for (Member& member : members_) {
      if (member.node->running()) member.node->crash(Crash::kProcess);
    }
  }

  // A group of so many voters, led by number 0. Only in a test's own thread of checks: ASSERT_TRUE(group.make(3)).
  bool make(size_t voters) {
    for (size_t i = 0; i < voters; ++i) {
      prepare();
      start(i);
      if (i == 0 && !wait([this] { return leads(0); })) return false;
      if (i > 0 && !add(0, i)) return false;
    }
    return leads(0);
  }

  // Another one, which does not run yet; its number.
  size_t prepare() {
    size_t number = members_.size();
    Member member;
    member.node = &simulator.add_node("m" + std::to_string(number));
    member.id = MasterId(0xA1 + number);
    Disk& disk = member.node->memory_disk();
    Result<void> made = number == 0 ? initialise_master_folder(disk, "/master", kCluster, member.id, address(number))
                                    : initialise_joining_folder(disk, "/master", kCluster, member.id, address(number));
    EXPECT_TRUE(made) << made.error().message();
    members_.push_back(member);
    return number;
  }
  void start(size_t i) {
    GroupMasterSettings settings;
    settings.address = address(i);
    settings.log.folder = "/master";
    settings.log.cluster = kCluster;
    settings.log.segment_size_bytes = 1 * kMiB;
    settings.log.trailing_entries = 5;
    settings.log.reserve_bytes = 1 * kMiB;
    settings.on_send = [this, i](std::string_view bytes) {
      Result<RaftMessage> message = decode_raft_message(bytes);
      EXPECT_TRUE(message);
      return !on_send || !message || on_send(i, *message);
    };
    members_[i].node->start([this, settings](World& world) {
      return std::make_shared<GroupMaster>(world, simulator, history_, settings, working_);
    });
    EXPECT_TRUE(wait([this, i] { return log(i) != nullptr; }));
  }
  void crash(size_t i, Crash kind = Crash::kProcess) { node(i).crash(kind); }

  SimNode& node(size_t i) { return *members_[i].node; }
  MasterId id(size_t i) const { return members_[i].id; }
  std::string address(size_t i) const { return "m" + std::to_string(i) + ":9400"; }
  GroupMaster* master(size_t i) { return node(i).running() ? node(i).program<GroupMaster>() : nullptr; }
  ReplicatedLog* log(size_t i) { return master(i) != nullptr ? master(i)->log() : nullptr; }
  bool leads(size_t i) { return log(i) != nullptr && log(i)->leading(); }
  // The one with the highest term of those that say that they lead.
  std::optional<size_t> leader() {
    std::optional<size_t> found;
    for (size_t i = 0; i < members_.size(); ++i) {
      if (leads(i) && (!found || log(i)->term() > log(*found)->term())) found = i;
    }
    return found;
  }
  bool wait(const std::function<bool()>& condition, Duration limit = 30s) {
    return simulator.run_until(condition, limit);
  }

  // Each asks master `at` and waits for the answer.
  Result<void> propose(size_t at, std::string text) { return ask(at, propose_one(log(at), std::move(text))); }
  Result<void> read(size_t at) { return ask(at, log(at)->read_barrier()); }
  Result<void> add(size_t at, size_t whom) { return ask(at, log(at)->add_member(id(whom), address(whom), soon(at))); }
  Result<void> add(size_t at, MasterId whom, const std::string& where) {
    return ask(at, log(at)->add_member(whom, where, soon(at)));
  }
  Result<void> remove(size_t at, size_t whom) { return ask(at, log(at)->remove_member(id(whom), soon(at))); }
  Result<void> transfer(size_t at, MasterId to) { return ask(at, log(at)->transfer_leadership(to, soon(at))); }
  Result<void> checkpoint(size_t at) { return ask(at, checkpoint_one(log(at))); }

  // Asks without waiting; how it ended comes later, or never when the master ends before.
  using Answer = std::shared_ptr<std::optional<Result<void>>>;
  Answer begin(size_t at, Task<Result<void>> task) {
    auto answer = std::make_shared<std::optional<Result<void>>>();
    node(at).spawn(keep(std::move(task), answer));
    return answer;
  }
  Answer begin_add(size_t at, size_t whom) { return begin(at, log(at)->add_member(id(whom), address(whom), soon(at))); }
  Answer begin_propose(size_t at, std::string text) { return begin(at, propose_one(log(at), std::move(text))); }

  Answer begin_checkpoint(size_t at) { return begin(at, checkpoint_one(log(at))); }

  Answer begin_stop(size_t at) { return begin(at, stop_one(master(at))); }

  bool same_state(size_t a, size_t b) {
    return log(a) != nullptr && log(b) != nullptr && master(a)->machine().count() == master(b)->machine().count() &&
           master(a)->machine().hash() == master(b)->machine().hash();
  }
  // Whether a voter, as the leader sees it.
  bool is_voter(size_t at, size_t whom) {
    std::vector<GroupMember> all = log(at)->members();
    return std::ranges::any_of(
        all, [&](const GroupMember& m) { return m.master == id(whom) && m.role == GroupRole::kVoter; });
  }

  Simulator simulator;
  std::function<bool(size_t from, const RaftMessage&)> on_send;  // false: lost

 private:
  struct Member {
    SimNode* node = nullptr;
    MasterId id;
  };
  TimePoint soon(size_t at) { return node(at).clock().now() + 60s; }
  Result<void> ask(size_t at, Task<Result<void>> task) {
    Answer answer = begin(at, std::move(task));
    if (!wait([&] { return answer->has_value(); }, 90s)) return Error(ErrorCode::kTimeout, "no answer");
    return **answer;
  }
  static Task<void> keep(Task<Result<void>> task, Answer answer) {
    Result<void> result = co_await std::move(task);
    answer->emplace(std::move(result));
  }
  static Task<Result<void>> propose_one(ReplicatedLog* log, std::string text) {
    Result<Committed> result = co_await log->propose({.bytes = std::move(text), .decoded = {}});
    if (!result) co_return result.error();
    co_return Result<void>();
  }
  static Task<Result<void>> checkpoint_one(ReplicatedLog* log) {
    Result<LogIndex> result = co_await log->checkpoint();
    if (!result) co_return result.error();
    co_return Result<void>();
  }
  static Task<Result<void>> stop_one(GroupMaster* master) {
    co_await master->close();
    co_return Result<void>();
  }

  GroupHistory history_;
  bool working_ = false;
  std::vector<Member> members_;
};

bool has_change(const RaftMessage& message) {
  return std::ranges::any_of(message.entries, [](const auto& e) { return e.type == CAIRN_RAFT_CHANGE; });
}

// ---------------------------------------------------------------- changes of the group

// libraft gives a change that is not the first entry of its message a wrong index, and then takes no other change
// (design.md 3.5, M2).
TEST(GroupChange, BeginsAMessageOfItsOwn) {
  Group group(1);
  ASSERT_TRUE(group.make(3));
  size_t fourth = group.prepare();
  group.start(fourth);
  group.crash(2);
  for (int i = 0; i < 10; ++i)
    ASSERT_TRUE(group.propose(0, "before"));
  ASSERT_TRUE(group.add(0, fourth));
  ASSERT_TRUE(group.propose(0, "after"));

  size_t changes = 0;
  size_t behind_others = 0;
  group.on_send = [&](size_t, const RaftMessage& message) {
    for (size_t i = 0; i < message.entries.size(); ++i) {
      if (message.entries[i].type != CAIRN_RAFT_CHANGE) continue;
      ++changes;
      if (i > 0) ++behind_others;
    }
    return true;
  };
  group.start(2);
  ASSERT_TRUE(group.wait([&] { return group.same_state(0, 2); }));
  EXPECT_GE(changes, 2u);
  EXPECT_EQ(behind_others, 0u);

  // Who got them that way changes the group himself.
  ASSERT_TRUE(group.transfer(0, group.id(2)));
  ASSERT_TRUE(group.wait([&] { return group.leads(2); }));
  ASSERT_TRUE(group.remove(2, fourth));
  EXPECT_FALSE(group.is_voter(2, fourth));
}

TEST(GroupChange, LastVoterStays) {
  Group group(2);
  ASSERT_TRUE(group.make(1));
  EXPECT_TRUE(group.remove(0, 0).failed_with(ErrorCode::kInvalid));
  // Also beside a master that is not yet a voter.
  size_t other = group.prepare();
  Group::Answer adding = group.begin_add(0, other);
  ASSERT_TRUE(group.wait([&] { return group.log(0)->members().size() == 2; }));
  EXPECT_TRUE(group.remove(0, 0).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(group.propose(0, "still leads"));
}

TEST(GroupChange, WhatIsThereAlreadyIsDone) {
  Group group(3);
  ASSERT_TRUE(group.make(2));
  LogIndex before = group.log(0)->status().last;
  EXPECT_TRUE(group.add(0, 1));
  EXPECT_TRUE(group.remove(0, group.prepare()));
  EXPECT_EQ(group.log(0)->members().size(), 2u);
  EXPECT_LE(group.log(0)->status().last, before + 2);  // nothing but ticks of the log's time
}

TEST(GroupChange, AddressOfAnotherMemberIsRefused) {
  Group group(4);
  ASSERT_TRUE(group.make(2));
  EXPECT_TRUE(group.add(0, MasterId(0xEE), group.address(1)).failed_with(ErrorCode::kExists));
  EXPECT_TRUE(group.add(0, MasterId(0xEE), group.address(0)).failed_with(ErrorCode::kExists));
  EXPECT_EQ(group.log(0)->members().size(), 2u);
}

// The leader already counts the new voter's voice, which does not know that it has one, and still believes in the
// leader that has crashed (design.md 3.5, M3 and M4).
TEST(GroupChange, PromotionThatOnlyTheLeaderKnowsGoesOnAfterItsCrash) {
  Group group(5);
  ASSERT_TRUE(group.make(1));
  size_t second = group.prepare();
  group.start(second);
  bool lost = false;
  group.on_send = [&](size_t, const RaftMessage& message) {
    // The first change of the two makes it a spare.
    bool promotes = has_change(message) && group.is_voter(0, second);
    lost |= promotes;
    return !promotes;
  };
  Group::Answer adding = group.begin_add(0, second);
  ASSERT_TRUE(group.wait([&] { return lost; }));
  group.simulator.run_for(100ms);  // the change is on the leader's disk
  group.crash(0, Crash::kPower);
  group.on_send = nullptr;
  group.start(0);
  ASSERT_TRUE(group.wait([&] { return group.leads(0); }));
  EXPECT_TRUE(group.propose(0, "goes on"));
  EXPECT_TRUE(group.is_voter(0, second));
}

// The leader has the entry behind it, but no longer its last one: that is not enough to go on from.
TEST(GroupChange, FollowerThatEndsJustBeforeTheLeadersFirstEntryGetsACheckpoint) {
  for (uint64_t more = 1; more <= 12; ++more) {
    Group group(13);
    ASSERT_TRUE(group.make(3));
    ASSERT_TRUE(group.propose(0, "known to all"));
    ASSERT_TRUE(group.wait([&] { return group.same_state(0, 2) && group.same_state(0, 1); }));
    group.simulator.run_for(1s);  // all know what is committed
    ASSERT_TRUE(group.checkpoint(2));
    LogIndex known = group.log(2)->status().last;
    group.crash(2);
    while (group.log(0)->status().last < known + more)
      ASSERT_TRUE(group.propose(0, "only to two"));
    ASSERT_TRUE(group.checkpoint(0));
    ASSERT_TRUE(group.propose(0, "before a second checkpoint"));  // the log behind the first is kept until then
    ASSERT_TRUE(group.checkpoint(0));
    group.start(2);
    EXPECT_TRUE(group.wait([&] { return group.same_state(0, 2); })) << "with " << more << " entries between";
  }
}

// The network kept a message until its entries were purged here (M8): they are no news, and nothing is written.
TEST(GroupChange, EntriesOfLongAgoAreNotTakenForNewOnes) {
  Group group(16);
  std::string kept;
  group.on_send = [&](size_t from, const RaftMessage& message) {
    bool first = from == 0 && message.core.index == 0 && message.entries.size() > 1;
    if (first && message.core.type == CAIRN_RAFT_MESSAGE_APPEND_ENTRIES && kept.empty())
      kept = encode_raft_message(message);
    return true;
  };
  ASSERT_TRUE(group.make(2));
  ASSERT_FALSE(kept.empty());
  for (int part = 0; part < 3; ++part) {
    for (int i = 0; i < 20; ++i)
      ASSERT_TRUE(group.propose(0, "later"));
    ASSERT_TRUE(group.wait([&] { return group.same_state(0, 1); }));
    ASSERT_TRUE(group.checkpoint(1));
  }
  LogIndex last = group.log(1)->status().last;
  group.log(1)->receive(kept);
  group.simulator.run_for(100ms);
  EXPECT_EQ(group.log(1)->status().last, last);
  ASSERT_TRUE(group.propose(0, "the latest"));
  EXPECT_TRUE(group.wait([&] { return group.same_state(0, 1); }));
}

// After a restart a checkpoint may be made where the last one was: the log must not lose what the core was told is
// there.
TEST(GroupChange, LogIsNotPurgedBehindTheCoresBack) {
  Group group(15);
  ASSERT_TRUE(group.make(3));
  for (int part = 0; part < 2; ++part) {
    for (int i = 0; i < 200; ++i)
      ASSERT_TRUE(group.propose(0, std::string(10 * kKiB, 'x')));
    ASSERT_TRUE(group.wait([&] { return group.same_state(0, 1); }));
    LogIndex before = group.log(1)->status().checkpoint;
    Group::Answer made = group.begin_checkpoint(1);
    // The second time it dies when the checkpoint is there, and the log behind it is, too.
    ASSERT_TRUE(group.wait([&] { return part == 0 ? made->has_value() : group.log(1)->status().checkpoint > before; }));
  }
  for (size_t i : {0, 1, 2})
    group.crash(i);
  group.start(1);  // alone, it applies nothing
  ASSERT_TRUE(group.checkpoint(1));
  group.start(0);
  ASSERT_TRUE(group.wait([&] { return group.leader().has_value(); }));
  for (int tries = 0; tries < 10 && !group.leads(1); ++tries) {
    group.simulator.run_for(1s);
    if (group.leads(0)) (void)group.transfer(0, group.id(1));
  }
  ASSERT_TRUE(
      group.wait([&] { return group.leads(1) && group.log(1)->status().committed == group.log(1)->status().last; }));
  size_t newcomer = group.prepare();
  group.start(newcomer);
  EXPECT_TRUE(group.add(1, newcomer));
  EXPECT_TRUE(group.wait([&] { return group.same_state(1, newcomer); }));
}

// The fetched checkpoint comes late: another leader has sent the entries meanwhile, and this follower's word for them
// may be what made them count.
TEST(GroupChange, CheckpointThatIsNoLongerLackedIsLeftAlone) {
  Group group(14, {.bytes_per_second = 200'000, .pool_works_late = true});
  ASSERT_TRUE(group.make(3));
  group.crash(2);
  for (int i = 0; i < 20; ++i)
    ASSERT_TRUE(group.propose(0, std::string(10 * kKiB, 'x')));
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(group.propose(0, "before a checkpoint"));
    ASSERT_TRUE(group.checkpoint(0));
  }
  bool offered = false;
  group.on_send = [&](size_t from, const RaftMessage& message) {
    offered |= from == 0 && message.core.type == CAIRN_RAFT_MESSAGE_INSTALL_SNAPSHOT;
    return true;
  };
  group.start(2);
  ASSERT_TRUE(group.wait([&] { return offered; }));
  group.simulator.run_for(200ms);  // its first parts are on their way
  group.simulator.block(group.node(2), group.node(0));
  ASSERT_TRUE(group.transfer(0, group.id(1)));
  ASSERT_TRUE(group.wait([&] { return group.leads(1); }));
  ASSERT_TRUE(group.propose(1, "sent by the other one"));
  ASSERT_TRUE(group.wait([&] { return group.same_state(1, 2); }, 8s));
  LogIndex last = group.log(2)->status().last;
  group.simulator.unblock_all();
  bool went_back = group.wait([&] { return group.log(2) == nullptr || group.log(2)->status().last < last; }, 20s);
  EXPECT_FALSE(went_back);
}

// ---------------------------------------------------------------- who leads

TEST(GroupLeader, CutOffAnswersNothingOnceAnotherLeads) {
  Group group(6);
  ASSERT_TRUE(group.make(3));
  ASSERT_TRUE(group.read(0));
  for (size_t other : {1, 2})
    group.simulator.block(group.node(0), group.node(other));
  // Asked before it notices.
  ASSERT_TRUE(group.leads(0));
  Group::Answer read = group.begin(0, group.log(0)->read_barrier());
  Group::Answer proposal = group.begin_propose(0, "from the old one");
  ASSERT_TRUE(group.wait([&] { return group.leads(1) || group.leads(2); }));
  size_t leads = *group.leader();
  ASSERT_NE(leads, 0u);
  ASSERT_TRUE(group.propose(leads, "from the new one"));
  ASSERT_TRUE(group.wait([&] { return read->has_value() && proposal->has_value(); }));
  EXPECT_TRUE((*read)->failed_with(ErrorCode::kNotLeader));
  EXPECT_TRUE((*proposal)->failed_with(ErrorCode::kUnavailable));
  EXPECT_TRUE(group.read(0).failed_with(ErrorCode::kNotLeader));
  EXPECT_TRUE(group.propose(0, "late").failed_with(ErrorCode::kNotLeader));

  group.simulator.unblock_all();
  ASSERT_TRUE(group.wait([&] { return group.same_state(0, leads) && group.same_state(1, 2); }));
  EXPECT_EQ(group.master(0)->machine().commands(), std::vector<std::string>{"from the new one"});
}

// Tables of the state reach the disk by themselves: an entry that only the others' logs hold must not be in them, or a
// loss of power leaves a state that is ahead of its log.
TEST(GroupLeader, AppliesOnlyWhatItsOwnDiskHolds) {
  Group group(12);
  ASSERT_TRUE(group.make(3));
  group.node(0).memory_disk().set_speed({.sync = 200ms});
  Group::Answer proposal = group.begin_propose(0, "a change");
  group.simulator.run_for(100ms);  // the others have it by now, and said so
  EXPECT_EQ(group.master(0)->machine().count(), 0u);
  ASSERT_TRUE(group.wait([&] { return proposal->has_value(); }, 2s));
  EXPECT_TRUE(**proposal);
  EXPECT_EQ(group.master(0)->machine().count(), 1u);
}

// Paused, it cannot notice that others have elected another: only their answers tell it.
TEST(GroupLeader, PausedAnswersNoReadAfterwards) {
  Group group(7);
  ASSERT_TRUE(group.make(3));
  group.node(0).pause();
  ASSERT_TRUE(group.wait([&] { return group.leads(1) || group.leads(2); }));
  ASSERT_TRUE(group.propose(group.leads(1) ? 1 : 2, "from the new one"));
  for (size_t other : {1, 2})
    group.simulator.block(group.node(0), group.node(other));
  ASSERT_TRUE(group.leads(0));  // as far as it knows
  Group::Answer read = group.begin(0, group.log(0)->read_barrier());
  group.node(0).resume();
  ASSERT_TRUE(group.wait([&] { return read->has_value(); }));
  EXPECT_TRUE((*read)->failed_with(ErrorCode::kNotLeader));
}

TEST(GroupLeader, HandsOver) {
  Group group(8);
  ASSERT_TRUE(group.make(3));
  EXPECT_TRUE(group.transfer(0, MasterId(0xEE)).failed_with(ErrorCode::kNotFound));
  EXPECT_TRUE(group.transfer(0, group.id(0)));
  ASSERT_TRUE(group.leads(0));
  for (size_t to : {2, 1, 0}) {
    size_t from = *group.leader();
    ASSERT_TRUE(group.transfer(from, group.id(to)));
    ASSERT_TRUE(group.wait([&] { return group.leads(to); }, 1s));
    EXPECT_FALSE(group.leads(from));
    EXPECT_TRUE(group.propose(to, "goes on"));
  }
  // To whoever is furthest.
  ASSERT_TRUE(group.transfer(0, MasterId()));
  EXPECT_TRUE(group.wait([&] { return group.leads(1) || group.leads(2); }, 1s));
}

TEST(GroupLeader, HandsOverBeforeItStops) {
  Group group(9);
  ASSERT_TRUE(group.make(3));
  ASSERT_TRUE(group.propose(0, "before"));
  TimePoint begin = group.simulator.now();
  Group::Answer stopped = group.begin_stop(0);
  ASSERT_TRUE(group.wait([&] { return group.leads(1) || group.leads(2); }));
  EXPECT_LT(group.simulator.now() - begin, 300ms);  // less than an election timeout
  ASSERT_TRUE(group.wait([&] { return stopped->has_value(); }));
  EXPECT_TRUE(group.propose(group.leads(1) ? 1 : 2, "after"));
}

// Somebody with room leads soon: until then nobody hears of the full disk, also if the hand-over takes its time.
TEST(GroupLeader, WithAFullDiskHandsOverAndRefusesNobodyForWantOfRoom) {
  Group group(11);
  ASSERT_TRUE(group.make(3));
  TimePoint begin = group.simulator.now();
  std::optional<TimePoint> first;
  group.on_send = [&](size_t, const RaftMessage& message) {
    if (message.core.type != CAIRN_RAFT_MESSAGE_TIMEOUT_NOW) return true;
    if (!first) first = group.simulator.now();
    return group.simulator.now() - *first > 500ms;
  };
  MemoryDisk& disk = group.node(0).memory_disk();
  DiskSpace space = *disk.space("/");
  disk.set_capacity(space.total_bytes - space.free_bytes + 100 * kKiB);
  int refused = 0;
  while (group.leads(0) && group.simulator.now() - begin < 10s) {
    Result<void> proposed = group.propose(0, "a change");
    EXPECT_FALSE(proposed.failed_with(ErrorCode::kNoSpace)) << proposed.error().message();
    if (proposed.failed_with(ErrorCode::kNotLeader)) ++refused;
    group.simulator.run_for(10ms);
  }
  EXPECT_GT(refused, 0);
  EXPECT_TRUE(group.wait([&] { return group.leads(1) || group.leads(2); }, 2s));
}

// Who has the longest log of those that are left has to lead, but is asked for a term that it does not know: whoever
// refuses its vote tells it (design.md 3.5, M5).
TEST(GroupLeader, LongestLogWithAnOldTermLearnsTheTerm) {
  Group group(10);
  ASSERT_TRUE(group.make(3));
  Term term = group.log(0)->term();
  // Number 0 is cut off. The others try again and again: they would vote for each other, but the votes are lost.
  group.on_send = [&](size_t from, const RaftMessage& message) {
    if (from == 0 || message.to == group.id(0)) return false;
    return message.core.type != CAIRN_RAFT_MESSAGE_REQUEST_VOTE_RESULT || message.core.pre_vote;
  };
  Group::Answer proposal = group.begin_propose(0, "only here");
  ASSERT_TRUE(group.wait([&] { return group.log(1)->term() > term + 3; }));
  group.crash(2);
  group.crash(1);
  group.start(1);  // asks whether it would be elected before it raises its term again
  group.simulator.run_for(5s);
  ASSERT_EQ(group.log(0)->term(), term);
  group.on_send = nullptr;
  ASSERT_TRUE(group.wait([&] { return group.leads(0); }));
  ASSERT_TRUE(group.propose(0, "goes on"));
  EXPECT_EQ(group.master(0)->machine().commands(), (std::vector<std::string>{"only here", "goes on"}));
}

// ---------------------------------------------------------------- what was said is on disk

// Crashes the first master for whose message `says` it, with loss of power, in that moment, and starts it again where
// nobody reaches it; which one.
size_t crash_when(Group& group, const std::function<bool(size_t from, const RaftMessage&)>& says) {
  std::optional<size_t> victim;
  group.on_send = [&](size_t from, const RaftMessage& message) {
    if (!victim && says(from, message)) {
      victim = from;
      group.simulator.after(Duration::zero(), [&group, from] { group.crash(from, Crash::kPower); });
    }
    return true;
  };
  EXPECT_TRUE(group.wait([&] { return victim && !group.node(*victim).running(); }));
  group.on_send = [](size_t, const RaftMessage&) { return false; };
  group.start(victim.value_or(0));
  return victim.value_or(0);
}

TEST(GroupPromise, VoteIsKept) {
  Group group(14);
  ASSERT_TRUE(group.make(3));
  group.crash(0);
  Term voted = 0;
  size_t voter = crash_when(group, [&](size_t, const RaftMessage& message) {
    if (message.core.type != CAIRN_RAFT_MESSAGE_REQUEST_VOTE_RESULT || !message.core.vote_granted ||
        message.core.pre_vote)
      return false;
    voted = message.core.term;
    return true;
  });
  EXPECT_GE(group.log(voter)->term(), voted);
}

TEST(GroupPromise, EntryIsKept) {
  Group group(15);
  ASSERT_TRUE(group.make(3));
  Group::Answer proposal = group.begin_propose(0, "kept");
  LogIndex wanted = group.log(0)->status().last + 1;
  size_t follower = crash_when(group, [&](size_t, const RaftMessage& message) {
    return message.core.type == CAIRN_RAFT_MESSAGE_APPEND_ENTRIES_RESULT && message.core.rejected == 0 &&
           message.core.index >= wanted;
  });
  ASSERT_NE(follower, 0u);
  EXPECT_GE(group.log(follower)->status().last, wanted);
}

// ---------------------------------------------------------------- strange messages

TEST(GroupMessages, WhatDoesNotFitIsDropped) {
  Group group(11);
  ASSERT_TRUE(group.make(2));
  LogStatus before = group.log(0)->status();
  RaftMessage good;  // a message that would depose the leader
  good.core.type = CAIRN_RAFT_MESSAGE_APPEND_ENTRIES;
  good.core.term = before.term + 5;
  good.core.index = before.last;
  good.core.log_term = before.term;
  good.core.commit = before.committed;
  good.cluster = kCluster;
  good.from = group.id(1);
  good.from_address = group.address(1);
  good.to = group.id(0);

  RaftMessage other_cluster = good;
  other_cluster.cluster = ClusterId(0xC2);
  RaftMessage same_id = good;
  same_id.from = group.id(0);
  RaftMessage for_another = good;
  for_another.to = MasterId(0xEE);
  std::string bytes = encode_raft_message(good);
  std::vector<std::string> strange{encode_raft_message(other_cluster),
                                   encode_raft_message(same_id),
                                   encode_raft_message(for_another),
                                   "",
                                   "garbage",
                                   bytes + "x"};
  for (size_t length = 0; length < bytes.size(); ++length)
    strange.push_back(bytes.substr(0, length));
  std::string newer = bytes;
  newer[0] = 2;
  strange.push_back(newer);
  for (const std::string& message : strange) {
    group.log(0)->receive(message);
    ASSERT_TRUE(group.leads(0));
    ASSERT_EQ(group.log(0)->term(), before.term);
  }
  EXPECT_TRUE(group.propose(0, "goes on"));
  // That nothing else was wrong with it:
  group.log(0)->receive(bytes);
  EXPECT_FALSE(group.leads(0));
  EXPECT_EQ(group.log(0)->term(), before.term + 5);
}

// ---------------------------------------------------------------- checkpoints

enum class Cut { kNone, kSender, kReceiver };

// A leader without the beginning of its log, and one to be added that has nothing.
class GroupCheckpoint : public testing::TestWithParam<Cut> {};

TEST_P(GroupCheckpoint, StandsInForALogThatIsTooShort) {
  // 8 MiB take four seconds.
  Group group(12, SimOptions{.bytes_per_second = 2 * kMiB});
  ASSERT_TRUE(group.make(1));
  for (int i = 0; i < 40; ++i)
    ASSERT_TRUE(group.propose(0, std::string(200 * kKiB, static_cast<char>('a' + i % 26))));
  for (int i = 0; i < 2; ++i) {
    ASSERT_TRUE(group.checkpoint(0));
    for (int j = 0; j < 10; ++j)
      ASSERT_TRUE(group.propose(0, "small"));
  }
  ASSERT_GT(group.log(0)->status().first, 30u);

  size_t second = group.prepare();
  group.start(second);
  Group::Answer adding = group.begin_add(0, second);
  if (GetParam() != Cut::kNone) {
    Disk& disk = group.node(second).memory_disk();
    ASSERT_TRUE(group.wait([&] {
      Result<uint64_t> size = disk.file_size("/master/checkpoints/incoming/state/journal");
      return size && *size > 2 * kMiB;
    }));
    size_t victim = GetParam() == Cut::kSender ? 0 : second;
    group.crash(victim, Crash::kPower);
    group.simulator.run_for(1s);
    group.start(victim);
  }
  ASSERT_TRUE(group.wait([&] { return group.leads(0); }));
  ASSERT_TRUE(group.add(0, second));
  ASSERT_TRUE(group.propose(0, "for both"));
  ASSERT_TRUE(group.wait([&] { return group.same_state(0, second); }));
  EXPECT_EQ(group.master(second)->machine().commands(), group.master(0)->machine().commands());
  EXPECT_GT(group.log(second)->status().first, 1u);  // it did not get the log from its beginning
  EXPECT_GT(group.log(second)->status().checkpoint, 0u);
}

INSTANTIATE_TEST_SUITE_P(TransferCutOff, GroupCheckpoint, testing::Values(Cut::kNone, Cut::kSender, Cut::kReceiver),
                         [](const testing::TestParamInfo<Cut>& info) {
                           return info.param == Cut::kNone     ? "Never"
                                  : info.param == Cut::kSender ? "BySender"
                                                               : "ByReceiver";
                         });

}  // namespace
}  // namespace cairn
