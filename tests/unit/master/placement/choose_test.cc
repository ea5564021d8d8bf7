#include "master/placement/choose.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <map>
#include <set>

#include "tests/unit/master/placement/views.h"

namespace cairn {
namespace {

using ::testing::Each;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;
using ::testing::UnorderedElementsAre;

std::set<ServerId> as_set(const std::vector<ServerId>& servers) {
  return {servers.begin(), servers.end()};
}

TEST(Choose, GivesDistinctServers) {
  const ClusterView view(servers(5));
  for (uint64_t seed = 0; seed < 100; ++seed) {
    EXPECT_THAT(as_set(*choose_servers(view, {.count = 3}, seed)), SizeIs(3));
  }
}

TEST(Choose, SameSeedGivesTheSameServersAndOthersGiveOthers) {
  const ClusterView view(servers(10));
  std::set<std::vector<ServerId>> seen;
  for (uint64_t seed = 0; seed < 50; ++seed) {
    EXPECT_EQ(*choose_servers(view, {.count = 3}, seed), *choose_servers(view, {.count = 3}, seed));
    seen.insert(*choose_servers(view, {.count = 3}, seed));
  }
  EXPECT_GT(seen.size(), 30u);
}

TEST(Choose, OrderInTheViewDoesNotMatter) {
  std::vector<ServerView> backwards = servers(6);
  std::reverse(backwards.begin(), backwards.end());
  EXPECT_EQ(*choose_servers(ClusterView(servers(6)), {.count = 3}, 5),
            *choose_servers(ClusterView(backwards), {.count = 3}, 5));
}

TEST(Choose, UsesEachFailureDomainOnceWhileThereAreOthers) {
  const ClusterView view({server(1, "a"), server(2, "a"), server(3, "a"), server(4, "b"), server(5, "c")});
  for (uint64_t seed = 0; seed < 100; ++seed) {
    const std::set<ServerId> chosen = as_set(*choose_servers(view, {.count = 3}, seed));
    EXPECT_TRUE(chosen.contains(ServerId{4}) && chosen.contains(ServerId{5}));
  }
  EXPECT_THAT(*choose_servers(view, {.count = 5}, 1), SizeIs(5));
}

TEST(Choose, DomainsOfMembersAreTaken) {
  const ClusterView view({server(1, "a"), server(2, "a"), server(3, "b"), server(4, "b"), server(5, "c")});
  const ChooseRequest request{.members = {ServerId{1}, ServerId{3}}};
  for (uint64_t seed = 0; seed < 50; ++seed)
    EXPECT_EQ(choose_servers(view, request, seed)->front(), ServerId{5});
}

TEST(Choose, ServersWithoutADomainAreNotOneDomain) {
  const ClusterView view({server(1), server(2), server(3)});
  EXPECT_THAT(*choose_servers(view, {.count = 3}, 1), SizeIs(3));
}

TEST(Choose, DeadSilentDrainedFullAndExcludedServersGetNothing) {
  std::vector<ServerView> all = servers(6);
  all[0].health = ServerHealth::kDead;
  all[1].health = ServerHealth::kSilent;
  all[2].accepts_chunks = false;
  all[3].free_bytes = kMiB;
  const ClusterView view(all);
  const ChooseRequest request{.count = 6, .excluded = {ServerId{5}}};
  EXPECT_THAT(*choose_servers(view, request, 1), UnorderedElementsAre(ServerId{6}));
}

TEST(Choose, PromisedSpaceCounts) {
  std::vector<ServerView> all = servers(2);
  all[0].promised_bytes = all[0].free_bytes - kMiB;
  EXPECT_THAT(*choose_servers(ClusterView(all), {.count = 2}, 1), UnorderedElementsAre(ServerId{2}));
  all[0].promised_bytes = 2 * all[0].free_bytes;
  EXPECT_EQ(all[0].room_bytes(), 0u);
}

TEST(Choose, MoreRoomIsChosenMoreOften) {
  std::vector<ServerView> all = servers(2);
  all[0].free_bytes = 900 * kGiB;
  const ClusterView view(all);
  std::map<ServerId, int> count;
  for (uint64_t seed = 0; seed < 2000; ++seed)
    ++count[choose_servers(view, {}, seed)->front()];
  EXPECT_GT(count[ServerId{1}], 1700);
  EXPECT_GT(count[ServerId{2}], 100);
}

TEST(Choose, FewerThanTheGoalIsWhatThereIs) {
  EXPECT_THAT(*choose_servers(ClusterView(servers(2)), {.count = 3, .count_min = 2}, 1), SizeIs(2));
}

TEST(Choose, BelowTheMinimumIsTooFew) {
  EXPECT_TRUE(
      choose_servers(ClusterView(servers(1)), {.count = 3, .count_min = 2}, 1).failed_with(ErrorCode::kTooFewReplicas));
  EXPECT_TRUE(choose_servers(ClusterView({}), {}, 1).failed_with(ErrorCode::kTooFewReplicas));
}

TEST(Choose, EnoughServersWithoutRoomIsNoSpace) {
  std::vector<ServerView> all = servers(3);
  for (ServerView& full : all)
    full.free_bytes = 1000;
  EXPECT_TRUE(choose_servers(ClusterView(all), {.count = 3, .count_min = 2}, 1).failed_with(ErrorCode::kNoSpace));
  all[0].free_bytes = kGiB;
  EXPECT_TRUE(choose_servers(ClusterView(all), {.count = 3, .count_min = 2}, 1).failed_with(ErrorCode::kNoSpace));
  EXPECT_THAT(*choose_servers(ClusterView(all), {.count = 3, .count_min = 1}, 1), UnorderedElementsAre(ServerId{1}));
}

}  // namespace
}  // namespace cairn
