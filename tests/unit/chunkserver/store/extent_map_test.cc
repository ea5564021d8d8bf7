#include "chunkserver/store/extent_map.h"

#include <gtest/gtest.h>
#include <set>

#include "common/base/crc32c.h"
#include "common/base/random.h"

namespace cairn {
namespace {

using Where = ExtentMap::View::Where;

PiecePtr piece_of(uint32_t blocks, char byte) {
  auto piece = std::make_shared<Piece>();
  piece->data = Buffer::copy_of(std::string(blocks * kBlockSizeBytes, byte));
  piece->checksums = block_checksums(piece->data.span());
  return piece;
}

ExtentMap fresh() {
  ExtentMap map;
  map.set_fresh();
  return map;
}

std::vector<LogPlace> commit(ExtentMap& map) {
  auto pending = map.snapshot();
  ExtentMap::Plan plan = map.plan(pending);
  map.finish(pending);
  return plan.freed;
}

TEST(ExtentGroup, ARecordReadsBackAsItWas) {
  auto random = make_seeded_random(3);
  for (int round = 0; round < 200; ++round) {
    ExtentGroup group;
    for (uint32_t i = 0; i < kBlocksPerGroup; ++i) {
      uint32_t checksum = static_cast<uint32_t>(random->next_u64());
      switch (random->below(4)) {
        case 0:
          break;
        case 1:
          group.at(i) = {BlockKind::kInline, {}, checksum};
          break;
        default:
          group.at(i) = {BlockKind::kLog, {1 + static_cast<uint32_t>(random->below(2)), i + 7}, checksum};
      }
    }
    Result<ExtentGroup> back = ExtentGroup::decode(group.encode());
    ASSERT_TRUE(back);
    EXPECT_EQ(*back, group);
  }
}

TEST(ExtentGroup, ADamagedRecordIsRefusedNotBelieved) {
  ExtentGroup group;
  for (uint32_t i = 0; i < 40; ++i)
    group.at(i) = {BlockKind::kLog, {1, i}, i};
  std::string record = group.encode();
  for (size_t cut = 0; cut < record.size(); ++cut)
    EXPECT_FALSE(ExtentGroup::decode(record.substr(0, cut)));
  std::string newer = record;
  newer[0] = 9;
  EXPECT_TRUE(ExtentGroup::decode(newer).failed_with(ErrorCode::kNotSupported));
  std::string beyond = record;
  beyond[3] = 60;  // first block of an extent of 40
  EXPECT_TRUE(ExtentGroup::decode(beyond).failed_with(ErrorCode::kCorrupt));
}

TEST(ExtentMap, TheNewestWriteIsSeen) {
  ExtentMap map = fresh();
  std::vector<LogPlace> unused;
  map.put(3, piece_of(4, 'a'), {}, unused);
  map.put(5, piece_of(1, 'b'), {}, unused);
  EXPECT_EQ(map.view(4).bytes.span()[0], std::byte{'a'});
  EXPECT_EQ(map.view(5).bytes.span()[0], std::byte{'b'});
  EXPECT_EQ(map.view(2).where, Where::kHole);
  map.put_hole(4, 1, unused);
  EXPECT_EQ(map.view(4).where, Where::kHole);
  EXPECT_TRUE(unused.empty());
}

TEST(ExtentMap, APlaceThatIsWrittenOverBeforeItsCommitIsNotNeeded) {
  ExtentMap map = fresh();
  std::vector<LogPlace> unused;
  map.put(0, piece_of(4, 'a'), {1, 10}, unused);
  map.put(1, piece_of(2, 'b'), {}, unused);
  EXPECT_EQ(unused, (std::vector<LogPlace>{{1, 11}, {1, 12}}));
}

TEST(ExtentMap, APlaceThatIsBeingCommittedIsFreedByTheNextCommit) {
  ExtentMap map = fresh();
  std::vector<LogPlace> unused;
  map.put(0, piece_of(2, 'a'), {1, 10}, unused);
  auto pending = map.snapshot();
  map.put(0, piece_of(1, 'b'), {}, unused);
  EXPECT_TRUE(unused.empty()) << "the commit under way refers to it";
  map.plan(pending);
  map.finish(pending);
  EXPECT_EQ(map.view(0).bytes.span()[0], std::byte{'b'});
  EXPECT_EQ(map.view(1).where, Where::kLog);
  EXPECT_EQ(commit(map), (std::vector<LogPlace>{{1, 10}}));
}

TEST(ExtentMap, ACancelledCommitGivesBackWhatWasWrittenOver) {
  ExtentMap map = fresh();
  std::vector<LogPlace> unused;
  map.put(0, piece_of(2, 'a'), {1, 10}, unused);
  auto pending = map.snapshot();
  map.put(0, piece_of(1, 'b'), {}, unused);
  EXPECT_EQ(map.cancel(pending), (std::vector<LogPlace>{{1, 10}}));
  ExtentMap::Plan plan = map.plan(map.snapshot());
  EXPECT_EQ(plan.added, (std::vector<LogPlace>{{1, 11}}));
  EXPECT_EQ(plan.inline_put.size(), 1u);
}

TEST(ExtentMap, AnInlineBlockStaysInMemoryAfterItsCommitAndLeavesWhenItChanges) {
  ExtentMap map = fresh();
  std::vector<LogPlace> unused;
  map.put(0, piece_of(1, 'a'), {}, unused);
  commit(map);
  EXPECT_EQ(map.view(0).where, Where::kMemory);
  EXPECT_FALSE(map.has_overlay());
  map.put_hole(0, 1, unused);
  auto pending = map.snapshot();
  ExtentMap::Plan plan = map.plan(pending);
  EXPECT_EQ(plan.inline_erase, std::vector<uint32_t>{0});
  EXPECT_EQ(plan.allocated_blocks_delta, -1);
  EXPECT_TRUE(plan.groups.front().erase);
  map.finish(pending);
  EXPECT_EQ(map.view(0).where, Where::kHole);
}

TEST(ExtentMap, APlanNamesTheSegmentsThatComeAndGo) {
  ExtentMap map = fresh();
  std::vector<LogPlace> unused;
  map.put(0, piece_of(2, 'a'), {1, 0}, unused);
  ExtentMap::Plan first = map.plan(map.snapshot());
  EXPECT_EQ(first.groups.front().new_segments, std::vector<uint32_t>{1});
  ExtentMap other = fresh();
  Result<ExtentGroup> record = ExtentGroup::decode(first.groups.front().record);
  ASSERT_TRUE(record);
  ExtentMap loaded;
  EXPECT_EQ(loaded.view(0).where, Where::kUnknown);
  EXPECT_EQ(loaded.missing_groups(0, 65), (std::vector<uint32_t>{0, 1}));
  loaded.load(0, *record);
  loaded.put(0, piece_of(2, 'b'), {2, 0}, unused);
  ExtentMap::Plan second = loaded.plan(loaded.snapshot());
  EXPECT_EQ(second.groups.front().new_segments, std::vector<uint32_t>{2});
  EXPECT_EQ(second.groups.front().gone_segments, std::vector<uint32_t>{1});
  EXPECT_EQ(second.freed, (std::vector<LogPlace>{{1, 0}, {1, 1}}));
}

TEST(ExtentMap, AMoveOfABlockThatChangedMeanwhileIsNotDone) {
  ExtentMap map = fresh();
  std::vector<LogPlace> unused;
  map.put(0, piece_of(2, 'a'), {1, 0}, unused);
  commit(map);
  map.put(0, piece_of(1, 'b'), {2, 0}, unused);
  commit(map);
  ExtentMap::Plan plan = map.plan_moves({{0, {1, 0}, {3, 0}}, {1, {1, 1}, {3, 1}}}, unused);
  EXPECT_EQ(unused, (std::vector<LogPlace>{{3, 0}}));
  EXPECT_EQ(plan.freed, (std::vector<LogPlace>{{1, 1}}));
  EXPECT_EQ(map.view(1).place, (LogPlace{3, 1}));
}

TEST(ExtentMap, RunsAreFoundAcrossPiecesAndGroups) {
  ExtentMap map = fresh();
  std::vector<LogPlace> unused;
  for (uint32_t block = 60; block < 70; ++block)
    map.put(block, piece_of(1, 'a'), {}, unused);
  map.put(80, piece_of(3, 'a'), {}, unused);
  auto runs = map.unplaced_runs(4);
  ASSERT_EQ(runs.size(), 1u);
  EXPECT_EQ(runs[0].first_block, 60u);
  EXPECT_EQ(runs[0].blocks.size(), 10u);
  EXPECT_EQ(map.unplaced_blocks(), 13u);
  map.set_place(60, 10, {1, 5});
  EXPECT_EQ(map.unplaced_blocks(), 3u);
  EXPECT_EQ(map.drop_overlay().size(), 10u);
}

TEST(LogRanges, NeighboursAreMerged) {
  EXPECT_EQ(ranges_of({{1, 3}, {1, 1}, {1, 2}, {2, 4}}), (std::vector<LogRange>{{{1, 1}, 3}, {{2, 4}, 1}}));
}

}  // namespace
}  // namespace cairn
