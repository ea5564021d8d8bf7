// The small parts: counted ranges, checksums of blocks with zeros behind, keys and records.
#include <gtest/gtest.h>

#include "chunkserver/store/batch_writer.h"
#include "chunkserver/store/block_checksum.h"
#include "chunkserver/store/key_layout.h"
#include "chunkserver/store/shared_ranges.h"
#include "chunkserver/store/space_account.h"
#include "common/base/crc32c.h"
#include "common/base/random.h"

namespace cairn {
namespace {

TEST(BlockChecksum, ZerosAreAppendedAndTakenAwayWithoutTheBytes) {
  auto random = make_seeded_random(5);
  for (int round = 0; round < 300; ++round) {
    size_t size = random->below(4097);
    std::string bytes(size, '\0');
    for (char& byte : bytes)
      byte = static_cast<char>(random->next_u64());
    uint32_t zeros = static_cast<uint32_t>(random->below(4097));
    uint32_t longer = crc32c(bytes + std::string(zeros, '\0'));
    EXPECT_EQ(checksum_with_zeros(crc32c(bytes), zeros), longer);
    EXPECT_EQ(checksum_without_zeros(longer, zeros), crc32c(bytes));
  }
  EXPECT_EQ(zero_block_checksum(), crc32c(std::string(4096, '\0')));
}

TEST(SharedRanges, CountsAreThoseOfAPlainArray) {
  auto random = make_seeded_random(6);
  for (int round = 0; round < 60; ++round) {
    std::vector<uint32_t> model(64, 1);  // each block is referred to once at first
    SharedRanges ranges;
    std::map<uint32_t, SharedRanges::Count> records;
    for (int step = 0; step < 200; ++step) {
      uint32_t first = static_cast<uint32_t>(random->below(64));
      uint32_t blocks = 1 + static_cast<uint32_t>(random->below(64 - first));
      bool all = true;
      for (uint32_t i = first; i < first + blocks; ++i)
        all = all && model[i] > 0;
      if (!all) continue;
      if (random->chance(1, 2)) {
        ranges.add({first, blocks});
        for (uint32_t i = first; i < first + blocks; ++i)
          ++model[i];
      } else {
        std::vector<uint32_t> gone;
        for (const auto& part : ranges.release({first, blocks})) {
          for (uint32_t i = 0; i < part.blocks; ++i)
            gone.push_back(part.first + i);
        }
        std::vector<uint32_t> expected;
        for (uint32_t i = first; i < first + blocks; ++i) {
          if (--model[i] == 0) expected.push_back(i);
        }
        EXPECT_EQ(gone, expected);
      }
      for (const auto& [block, count] : ranges.take_changes()) {
        records.erase(block);
        if (count) records[block] = *count;
      }
      EXPECT_EQ(records, ranges.ranges()) << "the records are what is in memory";
      for (uint32_t i = 0; i < 64; ++i)
        EXPECT_EQ(ranges.shared(i), model[i] > 1) << i;
    }
  }
}

TEST(Keys, OfOneBodyLieTogetherInTheOrderOfBlocks) {
  EXPECT_LT(store_keys::inline_block(BodyId(1), 255), store_keys::inline_block(BodyId(1), 256));
  EXPECT_LT(store_keys::inline_block(BodyId(1), 16383), store_keys::inline_block(BodyId(2), 0));
  EXPECT_LT(store_keys::chunk(ChunkId(255)), store_keys::chunk(ChunkId(256)));
  Result<store_keys::UserKey> user = store_keys::parse_user_key(store_keys::user(7, BodyId(8), 9));
  ASSERT_TRUE(user);
  EXPECT_EQ(user->segment, 7u);
  EXPECT_EQ(user->body, BodyId(8));
  EXPECT_EQ(user->group, 9u);
  EXPECT_FALSE(store_keys::parse_user_key(store_keys::chunk(ChunkId(1))));
}

TEST(Records, ReadBackAsTheyWereAndRefuseWhatIsCutOrNewer) {
  StoredChunkRecord chunk{.body = BodyId(7),
                          .version = 300,
                          .state = ChunkState::kSealed,
                          .synced_sequence = 1u << 20,
                          .length_bytes = 5000,
                          .allocated_blocks = 2,
                          .boot = 3,
                          .owner = {InodeId(99), 4, 123456}};
  std::string record = chunk.encode();
  EXPECT_EQ(StoredChunkRecord::decode(record).value(), chunk);
  for (size_t cut = 0; cut < record.size(); ++cut)
    EXPECT_FALSE(StoredChunkRecord::decode(record.substr(0, cut)));
  EXPECT_TRUE(StoredChunkRecord::decode(record + "x").failed_with(ErrorCode::kCorrupt));
  record[0] = 2;
  EXPECT_TRUE(StoredChunkRecord::decode(record).failed_with(ErrorCode::kNotSupported));
  StoredChunkRecord too_long = chunk;
  too_long.length_bytes = static_cast<uint32_t>(kChunkSizeBytes) + 1;
  EXPECT_TRUE(StoredChunkRecord::decode(too_long.encode()).failed_with(ErrorCode::kCorrupt));
  EXPECT_TRUE(SharedRecord::decode(SharedRecord{4, 1}.encode()).failed_with(ErrorCode::kCorrupt));
}

TEST(InlineBytes, ZerosAtTheEndAreLeftOut) {
  std::string block(4096, '\0');
  EXPECT_EQ(without_zeros(std::as_bytes(std::span(block))).size(), 0u);
  block[100] = 'x';
  EXPECT_EQ(without_zeros(std::as_bytes(std::span(block))).size(), 101u);
  block[4095] = 'y';
  EXPECT_EQ(without_zeros(std::as_bytes(std::span(block))).size(), 4096u);
}

TEST(SpaceAccount, WhatCameWhileTheDiskWasAskedIsCounted) {
  SpaceAccount space(100);
  space.begin_sample(0, 0);
  EXPECT_FALSE(space.try_charge(1)) << "nothing is known yet";
  space.end_sample({1000, 500});
  EXPECT_EQ(space.free_bytes(), 400u);
  EXPECT_TRUE(space.try_charge(150));
  space.begin_sample(150, 0);
  EXPECT_TRUE(space.try_charge(100));
  space.end_sample({1000, 500});
  EXPECT_EQ(space.free_bytes(), 500u - 100 - 150 - 100);
  EXPECT_FALSE(space.try_charge(151));
}

}  // namespace
}  // namespace cairn
