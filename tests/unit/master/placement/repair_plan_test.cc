#include "master/placement/repair_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>

#include "tests/unit/master/placement/views.h"

namespace cairn {
namespace {

using ::testing::IsEmpty;
using ::testing::SizeIs;
using Kind = RepairStep::Kind;
using State = RepairReplica::State;

RepairChunk chunk(uint64_t id, std::vector<RepairReplica> replicas, bool open = false) {
  return {.chunk = ChunkId{id}, .version = 7, .open = open, .goal = 3, .replicas = std::move(replicas)};
}
RepairReplica on(uint64_t server, State state = State::kCurrent) {
  return {ServerId{server}, state};
}

std::vector<RepairStep> plan(std::vector<ServerView> view, std::vector<RepairChunk> chunks, RepairLimits limits = {}) {
  return plan_repair(ClusterView(std::move(view)), chunks, limits, 1);
}
std::vector<ServerView> with(std::vector<ServerView> view, uint64_t id, ServerHealth health) {
  view[id - 1].health = health;
  return view;
}

TEST(Repair, NothingToDoForAHealthyChunk) {
  EXPECT_THAT(plan(servers(4), {chunk(1, {on(1), on(2), on(3)})}), IsEmpty());
}

TEST(Repair, DeadServersReplicaIsReplaced) {
  const std::vector<RepairStep> steps =
      plan(with(servers(4), 2, ServerHealth::kDead), {chunk(1, {on(1), on(2), on(3)})});
  ASSERT_THAT(steps, SizeIs(1));
  EXPECT_EQ(steps[0].kind, Kind::kCopy);
  EXPECT_EQ(steps[0].version, 7u);
  EXPECT_EQ(steps[0].target, ServerId{4});
  EXPECT_EQ(steps[0].replaced, ServerId{2});
  EXPECT_TRUE(steps[0].source == ServerId{1} || steps[0].source == ServerId{3});
  EXPECT_EQ(steps[0].copies, 2u);
}

TEST(Repair, UnknownServerIsDead) {
  EXPECT_EQ(plan(servers(4), {chunk(1, {on(1), on(2), on(99)})}).at(0).replaced, ServerId{99});
}

TEST(Repair, SilentServerIsWaitedForAndIsNoSource) {
  EXPECT_THAT(plan(with(servers(4), 2, ServerHealth::kSilent), {chunk(1, {on(1), on(2), on(3)})}), IsEmpty());
  const std::vector<RepairStep> steps = plan(with(servers(4), 2, ServerHealth::kSilent), {chunk(1, {on(1), on(2)})});
  EXPECT_EQ(steps.at(0).source, ServerId{1});
  EXPECT_NE(steps.at(0).target, ServerId{2});
}

TEST(Repair, FewerServersThanTheGoalIsNothingToDo) {
  EXPECT_THAT(plan(servers(2), {chunk(1, {on(1), on(2)})}), IsEmpty());
  EXPECT_THAT(plan(with(servers(3), 3, ServerHealth::kDead), {chunk(1, {on(1), on(2), on(3)})}), IsEmpty());
}

TEST(Repair, MissingCopyIsMadeWhenAServerComes) {
  const std::vector<RepairStep> steps = plan(servers(3), {chunk(1, {on(1), on(2)})});
  ASSERT_THAT(steps, SizeIs(1));
  EXPECT_EQ(steps[0].target, ServerId{3});
  EXPECT_FALSE(steps[0].replaced);
}

TEST(Repair, BadReplicaIsCopiedAnewWhereItIs) {
  const std::vector<RepairStep> steps = plan(servers(4), {chunk(1, {on(1), on(2, State::kUnusable), on(3)})});
  ASSERT_THAT(steps, SizeIs(1));
  EXPECT_EQ(steps[0].target, ServerId{2});
  EXPECT_FALSE(steps[0].replaced);
}

TEST(Repair, LostChunkHasNoStep) {
  EXPECT_THAT(plan(servers(4), {chunk(1, {on(1, State::kUnusable)})}), IsEmpty());
  EXPECT_THAT(plan(with(servers(4), 1, ServerHealth::kDead), {chunk(1, {on(1)})}), IsEmpty());
}

TEST(Repair, FewestCopiesFirstDropsLast) {
  const std::vector<RepairStep> steps =
      plan(servers(5), {chunk(1, {on(1), on(2), on(3), on(4)}), chunk(2, {on(1), on(2)}), chunk(3, {on(3)})});
  ASSERT_THAT(steps, SizeIs(3));
  EXPECT_EQ(steps[0].chunk, ChunkId{3});
  EXPECT_EQ(steps[1].chunk, ChunkId{2});
  EXPECT_EQ(steps[2].chunk, ChunkId{1});
  EXPECT_EQ(steps[2].kind, Kind::kDrop);
}

TEST(Repair, SurplusGoesFromTheCrowdedDomainThenFromTheFullest) {
  std::vector<ServerView> view = {server(1, "a"), server(2, "b"), server(3, "c"), server(4, "c")};
  view[2].free_bytes = 10 * kGiB;
  EXPECT_EQ(plan(view, {chunk(1, {on(1), on(2), on(3), on(4)})}).at(0).replaced, ServerId{3});
  std::vector<ServerView> apart = servers(4);
  apart[1].free_bytes = kGiB;
  EXPECT_EQ(plan(apart, {chunk(1, {on(1), on(2), on(3), on(4)})}).at(0).replaced, ServerId{2});
}

TEST(Repair, NothingIsDroppedForACopyThatIsSilent) {
  EXPECT_THAT(plan(with(servers(4), 4, ServerHealth::kSilent), {chunk(1, {on(1), on(2), on(3), on(4)})}), IsEmpty());
}

TEST(Repair, DeadOrBadOneIsNamedNoLongerWhenThereAreEnough) {
  const std::vector<RepairStep> dead =
      plan(with(servers(4), 4, ServerHealth::kDead), {chunk(1, {on(1), on(2), on(3), on(4)})});
  EXPECT_EQ(dead.at(0).kind, Kind::kDrop);
  EXPECT_EQ(dead.at(0).replaced, ServerId{4});
  EXPECT_EQ(plan(servers(4), {chunk(1, {on(1), on(2), on(3), on(4, State::kUnusable)})}).at(0).replaced, ServerId{4});
}

TEST(Repair, DrainedServersReplicaIsMoved) {
  std::vector<ServerView> view = servers(4);
  view[0].accepts_chunks = false;
  const std::vector<RepairStep> steps = plan(view, {chunk(1, {on(1), on(2), on(3)})});
  ASSERT_THAT(steps, SizeIs(1));
  EXPECT_EQ(steps[0].kind, Kind::kCopy);
  EXPECT_EQ(steps[0].target, ServerId{4});
  EXPECT_EQ(steps[0].replaced, ServerId{1});
}

TEST(Repair, OpenChunkGetsAJoinerAndTheJoinerIsFilled) {
  const std::vector<RepairStep> join =
      plan(with(servers(4), 3, ServerHealth::kDead), {chunk(1, {on(1), on(2), on(3)}, true)});
  ASSERT_THAT(join, SizeIs(1));
  EXPECT_EQ(join[0].kind, Kind::kJoin);
  EXPECT_EQ(join[0].target, ServerId{4});
  EXPECT_EQ(join[0].replaced, ServerId{3});
  const std::vector<RepairStep> fill = plan(servers(4), {chunk(1, {on(1), on(2), on(4, State::kJoining)}, true)});
  ASSERT_THAT(fill, SizeIs(1));
  EXPECT_EQ(fill[0].kind, Kind::kFill);
  EXPECT_EQ(fill[0].target, ServerId{4});
}

TEST(Repair, OpenChunkIsNotMovedNorShed) {
  EXPECT_THAT(plan(servers(5), {chunk(1, {on(1), on(2), on(3), on(4)}, true)}), IsEmpty());
}

TEST(Repair, LoadIsBoundedPerServerAndInAll) {
  std::vector<RepairChunk> chunks;
  for (uint64_t id = 1; id <= 100; ++id)
    chunks.push_back(chunk(id, {on(1), on(2)}));
  const std::vector<RepairStep> steps = plan(servers(3), chunks, {.copies_per_server_max = 5});
  std::map<ServerId, int> load;
  for (const RepairStep& step : steps)
    ++load[step.source], ++load[step.target];
  EXPECT_EQ(load[ServerId{3}], 5);
  EXPECT_LE(load[ServerId{1}], 5);
  EXPECT_THAT(steps, SizeIs(5));
  EXPECT_THAT(plan(servers(30), chunks, {.steps_max = 7, .copies_per_server_max = 100}), SizeIs(7));
  std::vector<ServerView> busy = servers(3);
  busy[2].copies_running = 5;
  EXPECT_THAT(plan(busy, chunks, {.copies_per_server_max = 5}), IsEmpty());
}

TEST(Repair, EqualInputGivesEqualPlans) {
  std::vector<RepairChunk> chunks;
  for (uint64_t id = 1; id <= 20; ++id)
    chunks.push_back(chunk(id, {on(id % 5 + 1)}));
  const std::vector<RepairStep> a = plan(servers(9), chunks), b = plan(servers(9), chunks);
  ASSERT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_EQ(a[i].target, b[i].target);
}

}  // namespace
}  // namespace cairn
