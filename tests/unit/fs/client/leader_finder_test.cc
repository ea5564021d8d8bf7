#include "fs/client/leader_finder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>

#include "common/runtime/sim_world.h"

namespace cairn {
namespace {

constexpr ClusterId kCluster{0xC1};

// What a master says, as the test has it; outlives its process.
struct Script {
  bool leading = false;
  uint64_t term = 0;
  MasterId leader;
  std::string leader_address;
  std::vector<MasterMember> members;
  bool cut_off = false;  // it takes requests, and cannot answer them
  std::vector<uint64_t> asked;
};

struct FakeMaster {
  FakeMaster(World& world, Script& script_in, const std::string& name)
      : script(script_in), executor(&world.executor()), rpc(world, {.hello = {.cluster = kCluster, .program = name}}) {
    add_handler(rpc, this, &FakeMaster::status);
    add_handler(rpc, this, &FakeMaster::work);
    EXPECT_TRUE(rpc.listen(*parse_address(name + ":9400")));
  }
  Task<Result<MasterStatusReply>> status(MasterStatusRequest, RpcRequest) {
    MasterStatusReply reply;
    reply.cluster = kCluster;
    reply.leading = script.leading;
    reply.term = script.term;
    reply.leader = script.leader;
    reply.leader_address = script.leader_address;
    reply.members = script.members;
    co_return reply;
  }
  Task<Result<AttributesReply>> work(GetAttributesRequest request, RpcRequest) {
    script.asked.push_back(request.inode.value);
    if (script.cut_off) {
      Promise<void> never(*executor);
      (void)co_await never.future();
    }
    if (!script.leading) {
      std::string hint = to_string(script.leader) + " " + script.leader_address + " " + std::to_string(script.term);
      co_return Error(ErrorCode::kNotLeader, script.leader ? hint : std::string());
    }
    AttributesReply reply;
    reply.attributes.inode = InodeId(script.term);
    co_return reply;
  }
  Script& script;
  Executor* executor;
  RpcServer rpc;
};

class LeaderFinderTest : public testing::Test {
 protected:
  LeaderFinderTest() {
    for (const char* name : {"m0", "m1", "m2"}) {
      nodes_[name] = &sim_.add_node(name);
      start(name);
    }
    client_ = &sim_.add_node("client");
  }
  ~LeaderFinderTest() override {
    if (client_->running()) client_->crash(Crash::kProcess);
    for (auto& [name, node] : nodes_) {
      if (node->running()) node->crash(Crash::kProcess);
    }
  }
  void start(const std::string& name) {
    nodes_[name]->start([this, name](World& world) { return std::make_shared<FakeMaster>(world, script(name), name); });
  }
  Script& script(const std::string& name) { return scripts_[name]; }
  SimNode& node(const std::string& name) { return *nodes_[name]; }
  static Address address(const std::string& name) { return *parse_address(name + ":9400"); }
  // `name` leads, and the others know it.
  void elect(const std::string& name, uint64_t term) {
    for (auto& [other, node] : nodes_) {
      Script& said = script(other);
      said.leading = other == name;
      said.term = term;
      said.leader = MasterId(0xA0 + static_cast<uint64_t>(name[1] - '0'));
      said.leader_address = to_string(address(name));
    }
  }
  // Nobody leads, as far as those know who still run.
  void depose() {
    for (auto& [name, said] : scripts_) {
      said.leading = false;
      said.leader = {};
      said.leader_address.clear();
    }
  }
  void begin(std::vector<std::string> known) {
    client_->start([this, known](World& world) {
      std::vector<Address> addresses;
      for (const std::string& name : known)
        addresses.push_back(address(name));
      auto finder = std::make_shared<LeaderFinder>(world, addresses, "test");
      finder->on_found([this] { ++found_; });
      finder->start();
      finder_ = finder.get();
      return finder;
    });
    sim_.run_for(0ms);
  }
  // The term of the master that answered; 0: nobody did in time.
  static Task<void> ask_until(LeaderFinder* finder, World* world, uint64_t inode, TimePoint deadline, uint64_t* out) {
    while (world->clock().now() < deadline) {
      auto reply = co_await finder->ask_once(GetAttributesRequest{.session = {}, .inode = InodeId(inode)}, deadline);
      if (reply) *out = reply->attributes.inode.value;
      if (reply || !is_masters_trouble(reply.error().code)) co_return;
    }
  }
  void begin_asking(uint64_t inode, uint64_t* out, Duration limit = 10s) {
    client_->spawn(ask_until(finder_, client_, inode, client_->clock().now() + limit, out));
  }
  uint64_t ask(uint64_t inode, Duration limit = 10s) {
    auto answered = std::make_shared<uint64_t>(0);
    begin_asking(inode, answered.get(), limit);
    sim_.run_until([&] { return *answered != 0; }, limit + 1s);
    return *answered;
  }

  Simulator sim_{1};
  std::map<std::string, Script> scripts_;
  std::map<std::string, SimNode*> nodes_;
  SimNode* client_ = nullptr;
  LeaderFinder* finder_ = nullptr;
  int found_ = 0;
};

TEST_F(LeaderFinderTest, FollowsTheHintToAMasterThatItWasNotGiven) {
  elect("m2", 7);
  begin({"m0"});
  TimePoint began = sim_.now();
  EXPECT_EQ(ask(1), 7u);
  EXPECT_LT(sim_.now() - began, 50ms);
  EXPECT_EQ(*finder_->leader(), address("m2"));
  EXPECT_EQ(finder_->term(), 7u);
}

TEST_F(LeaderFinderTest, LearnsTheOthersAndSurvivesTheLossOfTheOneThatItWasGiven) {
  elect("m0", 3);
  for (const char* name : {"m0", "m1", "m2"})
    script("m0").members.push_back({.master = MasterId(1), .address = to_string(address(name))});
  begin({"m0"});
  EXPECT_EQ(ask(1), 3u);
  sim_.run_for(2s);
  EXPECT_EQ(finder_->addresses().size(), 3u);
  depose();
  node("m0").crash(Crash::kProcess);
  auto answered = std::make_shared<uint64_t>(0);
  begin_asking(2, answered.get());
  sim_.run_for(700ms);  // an election
  EXPECT_EQ(*answered, 0u);
  elect("m1", 4);
  ASSERT_TRUE(sim_.run_until([&] { return *answered != 0; }, 200ms));
  EXPECT_EQ(*answered, 4u);
}

TEST_F(LeaderFinderTest, AMasterThatHangsCostsAnElection) {
  elect("m0", 3);
  begin({"m0", "m1", "m2"});
  EXPECT_EQ(ask(1), 3u);
  node("m0").pause();
  auto answered = std::make_shared<uint64_t>(0);
  begin_asking(2, answered.get());
  sim_.run_for(600ms);
  Script before = script("m0");
  elect("m2", 4);
  script("m0") = before;  // it does not know
  ASSERT_TRUE(sim_.run_until([&] { return *answered != 0; }, 700ms));
  EXPECT_EQ(*answered, 4u);
  // It goes on, and believes that it leads: nobody goes back to it.
  node("m0").resume();
  sim_.run_for(3s);
  EXPECT_EQ(ask(3), 4u);
  EXPECT_THAT(script("m0").asked, testing::Not(testing::Contains(3u)));
}

TEST_F(LeaderFinderTest, ALeaderThatIsCutOffFromTheOthersIsLeft) {
  elect("m0", 3);
  begin({"m0", "m1", "m2"});
  EXPECT_EQ(ask(1), 3u);
  Script before = script("m0");
  elect("m1", 5);
  script("m0") = before;
  script("m0").cut_off = true;  // it still answers who leads, wrongly
  TimePoint began = sim_.now();
  EXPECT_EQ(ask(2), 5u);
  EXPECT_LT(sim_.now() - began, 1s);
}

TEST_F(LeaderFinderTest, WhoAsksNothingFindsTheNewLeaderToo) {
  elect("m0", 3);
  begin({"m0", "m1", "m2"});
  EXPECT_EQ(ask(1), 3u);
  sim_.run_for(5s);
  int found = found_;
  node("m0").crash(Crash::kProcess);
  elect("m1", 4);
  ASSERT_TRUE(sim_.run_until([&] { return finder_->leader() && *finder_->leader() == address("m1"); }, 300ms));
  EXPECT_EQ(found_, found + 1);
  Script before = script("m1");
  node("m1").pause();
  elect("m2", 5);
  script("m1") = before;
  ASSERT_TRUE(sim_.run_until([&] { return finder_->leader() && *finder_->leader() == address("m2"); }, 2s));
  EXPECT_EQ(found_, found + 2);
}

TEST_F(LeaderFinderTest, MastersThatPointAtOneAnotherAreNotAskedInACircle) {
  elect("m0", 3);
  begin({"m0", "m1"});
  EXPECT_EQ(ask(1), 3u);
  for (const char* name : {"m0", "m1"}) {
    script(name).leading = false;
    script(name).leader = MasterId(9);
    script(name).leader_address = to_string(address(name[1] == '0' ? "m1" : "m0"));
    script(name).asked.clear();
  }
  EXPECT_EQ(ask(2, 2s), 0u);
  EXPECT_LT(script("m0").asked.size() + script("m1").asked.size(), 40u);
}

TEST_F(LeaderFinderTest, WithoutAMasterItSaysSoAtTheDeadline) {
  depose();
  for (const char* name : {"m0", "m1", "m2"})
    node(name).crash(Crash::kProcess);
  begin({"m0", "m1"});
  TimePoint began = sim_.now();
  EXPECT_EQ(ask(1, 3s), 0u);
  EXPECT_GE(sim_.now() - began, 3s);
  // One that comes back is found.
  start("m1");
  elect("m1", 8);
  EXPECT_EQ(ask(2), 8u);
}

TEST(LeaderHint, IsParsed) {
  std::optional<LeaderHint> hint = parse_leader_hint("00000000000000a1 tcp:10.0.0.1:9400 17");
  ASSERT_TRUE(hint);
  EXPECT_EQ(hint->master, MasterId(0xa1));
  EXPECT_EQ(hint->address, *parse_address("10.0.0.1:9400"));
  EXPECT_EQ(hint->term, 17u);
  EXPECT_TRUE(parse_leader_hint("00000000000000a1 10.0.0.1:9400 17"));
  for (const char* bad : {"", "x", "a1 10.0.0.1:9400", "a1 nowhere 17", "g1 10.0.0.1:9400 17", "a1 10.0.0.1:9400 17x",
                          "0 10.0.0.1:9400 17", "a1  17", "a1 10.0.0.1:9400 "})
    EXPECT_FALSE(parse_leader_hint(bad)) << bad;
}

}  // namespace
}  // namespace cairn
