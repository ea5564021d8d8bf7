#include "fs/client/lease_keeper.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/runtime/sim_world.h"

namespace cairn {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::IsEmpty;

constexpr InodeId kA{10};
constexpr InodeId kB{11};

Lease lease(uint64_t sequence, uint64_t term = 5) {
  return {.duration_ms = 1, .term = term, .sequence = sequence};
}

// What the master says, as the test has it; outlives its process.
struct Script {
  uint64_t term = 5;
  uint32_t duration_ms = 10'000;
  uint64_t sessions = 0;
  bool ended = false;    // the session
  bool deaf = false;     // renewals are not answered
  bool refuses = false;  // answers to recalls
  std::vector<Recall> pending;
  std::vector<uint64_t> answered, returned;
  std::vector<uint64_t> given_back;
  std::vector<HeldLease> claimed;
  size_t answer_requests = 0, renewals = 0, at_once = 0;
};

struct FakeMaster {
  FakeMaster(World& world_in, Script& script_in)
      : world(world_in), script(script_in), tell(world.executor()), rpc(world, {.hello = {.program = "m"}}) {
    add_handler(rpc, this, &FakeMaster::status);
    add_handler(rpc, this, &FakeMaster::open);
    add_handler(rpc, this, &FakeMaster::renew);
    add_handler(rpc, this, &FakeMaster::take);
    add_handler(rpc, this, &FakeMaster::answer);
    add_handler(rpc, this, &FakeMaster::give_back);
    EXPECT_TRUE(rpc.listen(*parse_address("m:9400")));
  }
  Task<Result<MasterStatusReply>> status(MasterStatusRequest, RpcRequest) {
    MasterStatusReply reply;
    reply.leading = true;
    reply.term = script.term;
    co_return reply;
  }
  Task<Result<OpenSessionReply>> open(OpenSessionRequest, RpcRequest) {
    script.ended = false;
    OpenSessionReply reply;
    reply.session = SessionId(++script.sessions);
    reply.term = script.term;
    reply.duration_ms = script.duration_ms;
    co_return reply;
  }
  Task<Result<RenewSessionReply>> renew(RenewSessionRequest request, RpcRequest) {
    if (script.deaf) {
      Promise<void> never(world.executor());
      (void)co_await never.future();
    }
    if (script.ended) co_return Error(ErrorCode::kSessionEnded);
    ++script.renewals;
    script.claimed.insert(script.claimed.end(), request.leases.begin(), request.leases.end());
    bool reclaim = request.known_term != script.term;
    co_return RenewSessionReply{.term = script.term, .duration_ms = script.duration_ms, .now = 0, .reclaim = reclaim};
  }
  Task<Result<TakeRecallsReply>> take(TakeRecallsRequest request, RpcRequest) {
    if (script.ended) co_return Error(ErrorCode::kSessionEnded);
    if (request.at_once) ++script.at_once;
    for (;;) {
      TakeRecallsReply reply{.term = script.term, .recalls = {}};
      for (const Recall& recall : script.pending) {
        if (recall.sequence > (request.term == script.term ? request.after : 0)) reply.recalls.push_back(recall);
      }
      if (!reply.recalls.empty() || request.at_once) co_return reply;
      Result<void> woken = co_await tell.wait_until(world.clock(), world.clock().now() + 5s);
      if (!woken) co_return reply;
    }
  }
  Task<Result<EmptyReply>> answer(AnswerRecallsRequest request, RpcRequest) {
    ++script.answer_requests;
    if (script.refuses) co_return Error(ErrorCode::kUnavailable);
    for (const RecallAnswer& answer : request.answers) {
      (answer.returned ? script.returned : script.answered).push_back(answer.sequence);
      std::erase_if(script.pending, [&](const Recall& recall) { return recall.sequence == answer.sequence; });
    }
    co_return EmptyReply{};
  }
  Task<Result<LeaseNumberReply>> give_back(ReturnLeasesRequest request, RpcRequest) {
    for (InodeId inode : request.inodes)
      script.given_back.push_back(inode.value);
    co_return LeaseNumberReply{.term = script.term, .sequence = 20};
  }
  World& world;
  Script& script;
  Condition tell;
  RpcServer rpc;
};

struct Client {
  Client(World& world_in, size_t leases_max)
      : world(world_in),
        link(world, {.masters = {*parse_address("m:9400")}, .program = "test"}),
        let_go(world.executor()),
        keeper(world, link, leases_max, 60s) {}
  Task<void> begin() {
    link.set_open_inodes([] { return std::vector<InodeId>(); });
    link.set_leases([this](uint64_t term) { return keeper.held(term); }, [this](uint64_t term) { keeper.told(term); });
    link.before_resuming([this] { return keeper.catch_up(); });
    link.on_session_lost([this] { return lost(); });
    Result<void> opened = co_await link.open_session();
    EXPECT_TRUE(opened);
    keeper.start([this](Recall recall) { return handle(recall); }, [this](InodeId inode) { return forget(inode); });
    ready = true;
  }
  Task<void> lost() {
    keeper.lost();
    ++sessions_lost;
    co_return;
  }
  Task<bool> handle(Recall recall) {
    begun.push_back(recall.sequence);
    while (hold)
      co_await let_go.wait();
    ended.push_back(recall.sequence);
    co_return keep;
  }
  Task<void> forget(InodeId inode) {
    forgotten.push_back(inode.value);
    co_return;
  }
  World& world;
  MasterLink link;
  Condition let_go;
  LeaseKeeper keeper;
  bool ready = false, hold = false, keep = true;
  int sessions_lost = 0;
  std::vector<uint64_t> begun, ended, forgotten;
};

class LeaseKeeperTest : public testing::Test {
 protected:
  explicit LeaseKeeperTest(size_t leases_max = 100) {
    master_node_ = &sim_.add_node("m");
    client_node_ = &sim_.add_node("c");
    start_master();
    client_node_->start([&](World& world) {
      auto client = std::make_shared<Client>(world, leases_max);
      client_ = client.get();
      return client;
    });
    sim_.run_for(0ms);
    client_node_->spawn(client_->begin());
    sim_.run_until([&] { return client_->ready; }, 10s);
  }
  ~LeaseKeeperTest() override {
    client_node_->crash(Crash::kProcess);
    if (master_node_->running()) master_node_->crash(Crash::kProcess);
  }
  void start_master() {
    master_node_->start([&](World& world) {
      auto master = std::make_shared<FakeMaster>(world, script_);
      master_ = master.get();
      return master;
    });
  }
  LeaseKeeper& keeper() { return client_->keeper; }
  void recall(Recall recall) {
    script_.pending.push_back(std::move(recall));
    master_->tell.notify_all();
    sim_.run_for(50ms);
  }
  void let_go() {
    client_->hold = false;
    client_->let_go.notify_all();
    sim_.run_for(100ms);
  }

  Simulator sim_{1};
  Script script_;
  SimNode* master_node_ = nullptr;
  SimNode* client_node_ = nullptr;
  FakeMaster* master_ = nullptr;
  Client* client_ = nullptr;
};

TEST_F(LeaseKeeperTest, AGrantIsHeldAndLastsAsLongAsTheSession) {
  EXPECT_FALSE(keeper().granted(kA, {.duration_ms = 0, .term = 5, .sequence = 1}));
  EXPECT_TRUE(keeper().granted(kA, lease(1)));
  EXPECT_TRUE(keeper().shared(kA));
  EXPECT_FALSE(keeper().exclusive(kA));
  sim_.run_for(60s);
  EXPECT_TRUE(keeper().shared(kA));
  EXPECT_GT(keeper().left(kA), 5s);
  EXPECT_LE(keeper().left(kA), 9700ms);
}

TEST_F(LeaseKeeperTest, ALateAnswerDoesNotBringBackWhatWasRecalled) {
  ASSERT_TRUE(keeper().granted(kA, lease(1)));
  recall({.sequence = 7, .kind = RecallKind::kContent, .inode = kA});
  EXPECT_FALSE(keeper().shared(kA));
  EXPECT_THAT(script_.answered, ElementsAre(7));
  EXPECT_FALSE(keeper().granted(kA, lease(6)));
  EXPECT_FALSE(keeper().granted(kA, lease(7)));
  EXPECT_FALSE(keeper().granted(kA, lease(9, 4))) << "of an older term";
  EXPECT_TRUE(keeper().granted(kA, lease(8)));
}

TEST_F(LeaseKeeperTest, AnAnswerThatALaterOneOvertookIsNotBelieved) {
  EXPECT_TRUE(keeper().granted(kA, lease(5)));
  EXPECT_FALSE(keeper().granted(kA, lease(4)));
  EXPECT_TRUE(keeper().shared(kA));
}

TEST_F(LeaseKeeperTest, WhileARecallIsWorkedOnNothingIsTold) {
  client_->hold = true;
  ASSERT_TRUE(keeper().granted(kA, lease(1)));
  recall({.sequence = 3, .kind = RecallKind::kName, .inode = kA, .name = "x"});
  EXPECT_TRUE(keeper().recalling(kA));
  EXPECT_FALSE(keeper().usable(kA));
  EXPECT_EQ(keeper().left(kA), Duration::zero());
  EXPECT_THAT(script_.answered, IsEmpty());
  let_go();
  EXPECT_TRUE(keeper().usable(kA)) << "the lease stays";
  EXPECT_THAT(script_.answered, ElementsAre(3));
}

TEST_F(LeaseKeeperTest, RecallsOfOneInodeGoInOrderAndOthersBeside) {
  client_->hold = true;
  recall({.sequence = 3, .kind = RecallKind::kName, .inode = kA, .name = "x"});
  recall({.sequence = 4, .kind = RecallKind::kName, .inode = kA, .name = "y"});
  recall({.sequence = 5, .kind = RecallKind::kContent, .inode = kB});
  EXPECT_THAT(client_->begun, ElementsAre(3, 5));
  size_t before = script_.answer_requests;
  let_go();
  EXPECT_THAT(client_->ended, ElementsAre(3, 4, 5));
  EXPECT_THAT(script_.pending, IsEmpty());
  EXPECT_LE(script_.answer_requests - before, 2u);
}

TEST_F(LeaseKeeperTest, AReaderLowersAWriterTakesAway) {
  ASSERT_TRUE(keeper().granted_exclusive(kA, lease(1)));
  EXPECT_TRUE(keeper().exclusive(kA));
  recall({.sequence = 2, .kind = RecallKind::kReader, .inode = kA});
  EXPECT_TRUE(keeper().shared(kA));
  EXPECT_FALSE(keeper().exclusive(kA));
  ASSERT_TRUE(keeper().granted_exclusive(kA, lease(3)));
  recall({.sequence = 4, .kind = RecallKind::kWriter, .inode = kA});
  EXPECT_FALSE(keeper().shared(kA));
  EXPECT_EQ(keeper().shared_count() + keeper().exclusive_count(), 0u);
}

TEST_F(LeaseKeeperTest, WhatIsNotHeldIsAnsweredAsReturned) {
  recall({.sequence = 3, .kind = RecallKind::kName, .inode = kA, .name = "x"});
  EXPECT_THAT(script_.returned, ElementsAre(3));
}

TEST_F(LeaseKeeperTest, AnswersAreRepeatedAndARecallToldAgainIsAnsweredWithoutWork) {
  script_.refuses = true;
  recall({.sequence = 3, .kind = RecallKind::kContent, .inode = kA});
  sim_.run_for(2s);
  EXPECT_GT(script_.answer_requests, 1u);
  script_.refuses = false;
  sim_.run_for(2s);
  EXPECT_THAT(script_.pending, IsEmpty());
  script_.answered.clear();
  master_node_->crash(Crash::kProcess);
  script_.pending.push_back({.sequence = 3, .kind = RecallKind::kContent, .inode = kA});
  start_master();
  sim_.run_for(3s);
  EXPECT_THAT(script_.pending, IsEmpty());
  EXPECT_THAT(client_->begun, ElementsAre(3));
}

TEST_F(LeaseKeeperTest, SuspendedItHoldsNothingUntilItKnowsWhatWasRecalled) {
  ASSERT_TRUE(keeper().granted(kA, lease(1)));
  ASSERT_TRUE(keeper().granted(kB, lease(2)));
  client_node_->pause();
  script_.pending.push_back({.sequence = 3, .kind = RecallKind::kContent, .inode = kA});
  master_->tell.notify_all();
  sim_.run_for(20s);
  client_->hold = true;
  client_node_->resume();
  EXPECT_FALSE(keeper().shared(kA));
  EXPECT_FALSE(keeper().shared(kB));
  bool served_old = false;
  sim_.run_until(
      [&] {
        served_old = served_old || keeper().usable(kA);
        return keeper().shared(kB);
      },
      10s);
  EXPECT_TRUE(keeper().shared(kB));
  EXPECT_FALSE(served_old);
  EXPECT_GT(script_.at_once, 0u);
  EXPECT_EQ(client_->sessions_lost, 0);
}

TEST_F(LeaseKeeperTest, WithoutRenewalsItIsSuspendedBeforeTheMasterEndsTheSession) {
  ASSERT_TRUE(keeper().granted(kA, lease(1)));
  script_.deaf = true;
  sim_.run_for(9700ms);
  EXPECT_FALSE(keeper().shared(kA));
  EXPECT_EQ(keeper().left(kA), Duration::zero());
  script_.deaf = false;
  sim_.run_for(15s);
  EXPECT_TRUE(keeper().shared(kA));
}

TEST_F(LeaseKeeperTest, AShortRenewalIsHonoured) {
  ASSERT_TRUE(keeper().granted(kA, lease(1)));
  script_.duration_ms = 300;
  sim_.run_for(10s);
  EXPECT_LE(keeper().left(kA), 100ms);
}

TEST_F(LeaseKeeperTest, ANewLeaderHearsWhatIsHeld) {
  ASSERT_TRUE(keeper().granted(kA, lease(1)));
  ASSERT_TRUE(keeper().granted_exclusive(kB, lease(2)));
  script_.term = 6;
  sim_.run_for(5s);
  EXPECT_THAT(script_.claimed, ElementsAre(HeldLease{kA, false}, HeldLease{kB, true}));
  EXPECT_TRUE(keeper().exclusive(kB));
  EXPECT_FALSE(keeper().granted(InodeId{12}, lease(100, 5))) << "of the leader before";
  EXPECT_TRUE(keeper().granted(InodeId{12}, lease(1, 6)));
}

TEST_F(LeaseKeeperTest, ASessionThatEndedTakesAllWithIt) {
  ASSERT_TRUE(keeper().granted(kA, lease(1)));
  script_.ended = true;
  sim_.run_until([&] { return client_->sessions_lost > 0; }, 20s);
  EXPECT_EQ(client_->sessions_lost, 1);
  EXPECT_FALSE(keeper().shared(kA));
  EXPECT_EQ(keeper().shared_count(), 0u);
}

TEST_F(LeaseKeeperTest, TheLeastUsefulAreGivenBackWhenAsked) {
  for (uint64_t i = 1; i <= 4; ++i)
    ASSERT_TRUE(keeper().granted(InodeId{i}, lease(i)));
  keeper().pin(InodeId{1}, true);
  keeper().used(InodeId{2});
  recall({.sequence = 9, .kind = RecallKind::kGiveBack, .inode = {}, .name = {}, .count = 2});
  EXPECT_THAT(script_.answered, ElementsAre(9));
  EXPECT_FALSE(keeper().shared(InodeId{3}));
  EXPECT_THAT(script_.given_back, IsEmpty()) << "the kernel may still use what it was told";
  sim_.run_for(11s);
  EXPECT_THAT(script_.given_back, ElementsAre(3, 4));
  EXPECT_THAT(client_->forgotten, ElementsAre(3, 4));
  EXPECT_TRUE(keeper().shared(InodeId{1}));
  EXPECT_TRUE(keeper().shared(InodeId{2}));
  EXPECT_FALSE(keeper().granted(InodeId{3}, lease(20))) << "it crossed with the return";
  EXPECT_TRUE(keeper().granted(InodeId{3}, lease(21)));
}

class FewLeases : public LeaseKeeperTest {
 protected:
  FewLeases() : LeaseKeeperTest(3) {}
};

TEST_F(FewLeases, MoreThanAllowedAreGivenBack) {
  for (uint64_t i = 1; i <= 5; ++i)
    ASSERT_TRUE(keeper().granted(InodeId{i}, lease(i)));
  sim_.run_for(11s);
  EXPECT_THAT(script_.given_back, ElementsAre(1, 2));
  EXPECT_EQ(keeper().shared_count(), 3u);
}

}  // namespace
}  // namespace cairn
