// What the chunk store promises, on every kind of disk and key-value store.
#include "tests/unit/chunkserver/store/store_fixture.h"

namespace cairn {
namespace {

constexpr ChunkId kA{101};
constexpr ChunkId kB{102};

Buffer filled(size_t size, char byte) {
  return Buffer::copy_of(std::string(size, byte));
}

class Store : public testing::TestWithParam<StoreParam> {
 protected:
  void SetUp() override { t.open(); }
  StoreUnderTest t{GetParam()};
  std::unique_ptr<Random> random = make_seeded_random(7);
};
INSTANTIATE_TEST_SUITE_P(Kinds, Store, testing::ValuesIn(kAllParams), param_name);

TEST_P(Store, AWriteIsReadAtOnceAndAfterReopening) {
  Buffer data = random_bytes(*random, 300'000);
  Result<WriteResult> written = t.write(kA, 1, 1, 0, data);
  ASSERT_TRUE(written) << written.error().message();
  EXPECT_EQ(written->sequence, 1u);
  EXPECT_EQ(written->synced_sequence, 0u);
  EXPECT_EQ(t.read(kA, 1, 0, 300'000).value(), data.view());
  EXPECT_EQ(t.sync(kA, 1, 1)->synced_sequence, 1u);
  EXPECT_EQ(t.read(kA, 1, 0, 300'000).value(), data.view());
  t.reopen();
  EXPECT_EQ(t.read(kA, 1, 0, 300'000).value(), data.view());
  EXPECT_EQ(t.status(kA)->length, 300'000u);
}

TEST_P(Store, AReadIsAlignedToBlocksAndCutAtTheEnd) {
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(10'000, 'x')));
  Result<ReadResult> got = t.world->wait(t.store->read(kA, 1, 5000, 10'000));
  ASSERT_TRUE(got);
  EXPECT_EQ(got->offset, 4096u);
  EXPECT_EQ(got->length, 10'000u - 4096u);
  ASSERT_EQ(got->checksums.size(), 2u);
  EXPECT_EQ(got->checksums[1], crc32c(std::string(10'000 - 8192, 'x')));
  EXPECT_EQ(t.world->wait(t.store->read(kA, 1, 10'000, 100))->length, 10'000u - 8192u);
  EXPECT_EQ(t.world->wait(t.store->read(kA, 1, 12'288, 100))->length, 0u);
}

TEST_P(Store, PartsOfBlocksAreMergedWithWhatIsThere) {
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(100, 'a')));
  ASSERT_TRUE(t.write(kA, 1, 2, 50, filled(100, 'b')));
  EXPECT_EQ(t.read(kA, 1, 0, 200).value(), std::string(50, 'a') + std::string(100, 'b') + std::string(50, '\0'));
  ASSERT_TRUE(t.sync(kA, 1, 2));
  t.reopen();
  ASSERT_TRUE(t.write(kA, 1, 3, 4000, filled(200, 'c')));
  EXPECT_EQ(t.read(kA, 1, 3990, 20).value(), std::string(10, '\0') + std::string(10, 'c'));
  EXPECT_EQ(t.read(kA, 1, 0, 60).value(), std::string(50, 'a') + std::string(10, 'b'));
}

TEST_P(Store, TruncatingAndGrowingAgainShowsZeros) {
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(100'000, 'a')));
  ASSERT_TRUE(t.sync(kA, 1, 1));
  ASSERT_TRUE(t.truncate(kA, 1, 2, 5000));
  EXPECT_EQ(t.status(kA)->length, 5000u);
  ASSERT_TRUE(t.write(kA, 1, 3, 50'000, filled(10, 'z')));
  std::string expected = std::string(5000, 'a') + std::string(45'000, '\0') + std::string(10, 'z');
  EXPECT_EQ(t.read(kA, 1, 0, 50'010).value(), expected);
  ASSERT_TRUE(t.sync(kA, 1, 3));
  t.reopen();
  EXPECT_EQ(t.read(kA, 1, 0, 50'010).value(), expected);
}

TEST_P(Store, AZeroedRangeTakesNoSpaceAndIsNotInTheMap) {
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(100 * 4096, 'a')));
  ASSERT_TRUE(t.zero(kA, 1, 2, 10 * 4096, 50 * 4096));
  ASSERT_TRUE(t.sync(kA, 1, 2));
  EXPECT_EQ(t.status(kA)->allocated_bytes, 50u * 4096);
  Result<ChunkMap> map = t.world->wait(t.store->map(kA, 1));
  ASSERT_TRUE(map);
  ASSERT_EQ(map->data.size(), 2u);
  EXPECT_EQ(map->data[0].offset, 0u);
  EXPECT_EQ(map->data[0].length, 10u * 4096);
  EXPECT_EQ(map->data[1].offset, 60u * 4096);
  EXPECT_EQ(map->data[1].length, 40u * 4096);
}

TEST_P(Store, ARepeatedWriteIsAnsweredAndNotDoneAgain) {
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(4096, 'a')));
  ASSERT_TRUE(t.write(kA, 1, 2, 0, filled(4096, 'b')));
  Result<WriteResult> again = t.write(kA, 1, 1, 0, filled(4096, 'a'));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->sequence, 2u);
  EXPECT_EQ(t.read(kA, 1, 0, 4096).value(), std::string(4096, 'b'));
}

TEST_P(Store, AnEarlyWriteWaitsForThoseBeforeIt) {
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(4096, 'a')));
  std::optional<Result<WriteResult>> third;
  TaskGroup tasks(*t.world, *t.world);
  Buffer data = filled(4096, 'c');
  ChunkWrite early{.chunk = kA,
                   .version = 1,
                   .sequence = 3,
                   .offset = 0,
                   .length = 4096,
                   .data = data,
                   .checksums = piece_checksums(0, data.span())};
  tasks.spawn(LocalWorld::keep(t.store->write(early, t.world->now() + 10s), &third));
  t.world->settle();
  EXPECT_FALSE(third.has_value());
  ASSERT_TRUE(t.write(kA, 1, 2, 0, filled(4096, 'b')));
  t.world->settle();
  ASSERT_TRUE(third.has_value());
  EXPECT_TRUE(third->has_value());
  EXPECT_EQ(t.read(kA, 1, 0, 4096).value(), std::string(4096, 'c'));
}

TEST_P(Store, AWriteWhosePredecessorNeverComesIsMissingWrites) {
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(4096, 'a')));
  EXPECT_TRUE(t.write(kA, 1, 3, 0, filled(4096, 'c')).failed_with(ErrorCode::kMissingWrites));
  EXPECT_TRUE(t.write(kB, 1, 3, 0, filled(4096, 'c')).failed_with(ErrorCode::kNotFound));
}

TEST_P(Store, AWriteWhoseChecksumDoesNotMatchIsNotTaken) {
  Buffer data = filled(4096, 'a');
  ChunkWrite write{.chunk = kA, .version = 1, .sequence = 1, .length = 4096, .data = data, .checksums = {0x1234}};
  EXPECT_TRUE(t.world->wait(t.store->write(write, t.world->now() + 1s)).failed_with(ErrorCode::kCorrupt));
  EXPECT_TRUE(t.status(kA).failed_with(ErrorCode::kNotFound));
}

TEST_P(Store, WritesBeyondAChunkAreInvalid) {
  EXPECT_TRUE(t.write(kA, 1, 1, kChunkSizeBytes - 10, filled(20, 'a')).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(t.truncate(kA, 1, 1, kChunkSizeBytes + 1).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(t.write(kA, 1, 1, kChunkSizeBytes - 20, filled(20, 'a')));
  EXPECT_EQ(t.status(kA)->length, kChunkSizeBytes);
}

TEST_P(Store, RaisingRefusesLowerVersionsAndMakesDurable) {
  ASSERT_TRUE(t.write(kA, 3, 1, 0, filled(4096, 'a')));
  Result<ReplicaStatus> raised = t.raise(kA, 3, 4);
  ASSERT_TRUE(raised) << raised.error().message();
  EXPECT_EQ(raised->version, 4u);
  EXPECT_EQ(raised->synced_sequence, 1u);
  EXPECT_TRUE(t.write(kA, 3, 2, 0, filled(4096, 'b')).failed_with(ErrorCode::kOldVersion));
  EXPECT_TRUE(t.write(kA, 5, 2, 0, filled(4096, 'b')).failed_with(ErrorCode::kNewVersion));
  EXPECT_TRUE(t.sync(kA, 3, 1).failed_with(ErrorCode::kOldVersion));
  EXPECT_TRUE(t.read(kA, 3, 0, 10).failed_with(ErrorCode::kOldVersion));
  EXPECT_TRUE(t.raise(kA, 3, 4)) << "repeating it is harmless";
  EXPECT_TRUE(t.raise(kA, 2, 3).failed_with(ErrorCode::kOldVersion));
  EXPECT_TRUE(t.raise(kA, 7, 8).failed_with(ErrorCode::kNewVersion));
  t.kill();
  t.new_world();
  t.open();
  EXPECT_EQ(t.status(kA)->version, 4u);
  ASSERT_TRUE(t.write(kA, 4, 2, 0, filled(4096, 'b')));
  EXPECT_EQ(t.read(kA, 4, 0, 4096).value(), std::string(4096, 'b'));
}

TEST_P(Store, ASealedChunkIsWrittenOnlyAfterARaise) {
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(4096, 'a')));
  EXPECT_TRUE(t.seal(kA, 1, 2).failed_with(ErrorCode::kMissingWrites));
  EXPECT_TRUE(t.seal(kA, 1, 0).failed_with(ErrorCode::kConflict));
  Result<ReplicaStatus> sealed = t.seal(kA, 1, 1);
  ASSERT_TRUE(sealed);
  EXPECT_EQ(sealed->state, ChunkState::kSealed);
  EXPECT_TRUE(t.seal(kA, 1, 1)) << "repeating it is harmless";
  EXPECT_TRUE(t.write(kA, 1, 2, 0, filled(4096, 'b')).failed_with(ErrorCode::kOldVersion));
  EXPECT_TRUE(t.write(kA, 1, 1, 0, filled(4096, 'a'))) << "a repeat is answered";
  t.reopen();
  EXPECT_EQ(t.status(kA)->state, ChunkState::kSealed);
  ASSERT_TRUE(t.raise(kA, 1, 2));
  EXPECT_EQ(t.status(kA)->state, ChunkState::kOpen);
  EXPECT_TRUE(t.write(kA, 2, 2, 0, filled(4096, 'b')));
}

TEST_P(Store, ASyncOfWritesThatWereLostIsMissingWrites) {
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(4096, 'a')));
  ASSERT_TRUE(t.sync(kA, 1, 1));
  ASSERT_TRUE(t.write(kA, 1, 2, 0, filled(4096, 'b')));
  t.kill();
  t.new_world();
  t.open();
  EXPECT_TRUE(t.sync(kA, 1, 2).failed_with(ErrorCode::kMissingWrites));
  EXPECT_EQ(t.sync(kA, 1, 1)->synced_sequence, 1u);
  EXPECT_EQ(t.read(kA, 1, 0, 4096).value(), std::string(4096, 'a'));
  EXPECT_TRUE(t.write(kA, 1, 2, 0, filled(4096, 'b'))) << "offered again it is taken";
}

TEST_P(Store, ACreatedChunkIsThereAfterItsFirstSync) {
  Result<ReplicaStatus> made = t.world->wait(t.store->create(kA, 2, 5, {InodeId(9), 3, 77}));
  ASSERT_TRUE(made);
  EXPECT_EQ(made->sequence, 5u);
  ASSERT_TRUE(t.sync(kA, 2, 5));
  t.reopen();
  Result<ReplicaStatus> status = t.status(kA);
  ASSERT_TRUE(status);
  EXPECT_EQ(status->version, 2u);
  EXPECT_EQ(status->synced_sequence, 5u);
  EXPECT_EQ(status->inode, InodeId(9));
  EXPECT_EQ(status->index, 3u);
  EXPECT_TRUE(t.write(kA, 2, 6, 0, filled(10, 'a')));
}

TEST_P(Store, UnsyncedDataBecomesDurableByItself) {
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(200'000, 'a')));
  t.world->run_for(kMaxUnsyncedAge);
  EXPECT_EQ(t.status(kA)->synced_sequence, 1u);
  t.kill();
  t.new_world();
  t.open();
  EXPECT_EQ(t.read(kA, 1, 0, 200'000).value(), std::string(200'000, 'a'));
}

TEST_P(Store, RemovingGivesTheSpaceBack) {
  ASSERT_TRUE(t.write(kB, 1, 1, 0, filled(4096, 'b')));
  ASSERT_TRUE(t.sync(kB, 1, 1));
  Buffer data = random_bytes(*random, 3 * kMiB);
  ASSERT_TRUE(t.write(kA, 1, 1, 0, data));
  ASSERT_TRUE(t.sync(kA, 1, 1));
  EXPECT_TRUE(t.remove(kA, 0).failed_with(ErrorCode::kConflict));
  ASSERT_TRUE(t.remove(kA, 1));
  EXPECT_TRUE(t.status(kA).failed_with(ErrorCode::kNotFound));
  EXPECT_TRUE(t.remove(kA, 1)) << "what is not here is removed";
  t.world->run_for(60s);
  t.reopen();
  EXPECT_TRUE(t.status(kA).failed_with(ErrorCode::kNotFound));
  EXPECT_EQ(t.store->space().chunks, 1u);
  uint64_t log_bytes = 0;
  for (const std::string& name : t.disk().list(t.options.folder + "/log").value()) {
    log_bytes += t.disk().file_size(t.options.folder + "/log/" + name).value();
  }
  EXPECT_LE(log_bytes, 8192u);
  EXPECT_EQ(t.read(kB, 1, 0, 4096).value(), std::string(4096, 'b'));
}

TEST_P(Store, AListHasEveryChunkOnceInPages) {
  for (uint64_t i = 1; i <= 25; ++i) {
    ASSERT_TRUE(t.write(ChunkId(i * 10), 1, 1, 0, filled(100, 'a')));
    if (i % 2 == 0) {
      ASSERT_TRUE(t.sync(ChunkId(i * 10), 1, 1));
    }
  }
  std::vector<uint64_t> seen;
  ChunkId after;
  while (true) {
    Result<ChunkPage> page = t.world->wait(t.store->list(after, 4));
    ASSERT_TRUE(page);
    EXPECT_LE(page->chunks.size(), 4u);
    for (const ReplicaStatus& status : page->chunks)
      seen.push_back(status.chunk.value);
    if (page->last) break;
    ASSERT_FALSE(page->chunks.empty());
    after = page->chunks.back().chunk;
  }
  ASSERT_EQ(seen.size(), 25u);
  for (uint64_t i = 1; i <= 25; ++i)
    EXPECT_EQ(seen[i - 1], i * 10);
}

TEST_P(Store, ACloneSharesUntilOneIsWritten) {
  Buffer data = random_bytes(*random, 700'000);
  ASSERT_TRUE(t.write(kA, 1, 1, 0, data));
  EXPECT_TRUE(t.world->wait(t.store->clone(kA, 1, kB, 1, {})).failed_with(ErrorCode::kConflict)) << "not sealed";
  ASSERT_TRUE(t.seal(kA, 1, 1));
  Result<ReplicaStatus> cloned = t.world->wait(t.store->clone(kA, 1, kB, 4, {InodeId(5), 1, 2}));
  ASSERT_TRUE(cloned) << cloned.error().message();
  EXPECT_EQ(cloned->state, ChunkState::kSealed);
  EXPECT_EQ(cloned->version, 4u);
  EXPECT_EQ(cloned->length, 700'000u);
  EXPECT_EQ(t.read(kB, 4, 0, 700'000).value(), data.view());
  ASSERT_TRUE(t.raise(kB, 4, 5));
  ASSERT_TRUE(t.write(kB, 5, 2, 8192, filled(100'000, 'n')));
  ASSERT_TRUE(t.sync(kB, 5, 2));
  EXPECT_EQ(t.read(kA, 1, 0, 700'000).value(), data.view());
  ASSERT_TRUE(t.remove(kA, 1));
  t.world->run_for(60s);
  std::string expected(data.view());
  expected.replace(8192, 100'000, std::string(100'000, 'n'));
  EXPECT_EQ(t.read(kB, 5, 0, 700'000).value(), expected);
  t.reopen();
  EXPECT_EQ(t.read(kB, 5, 0, 700'000).value(), expected);
  ASSERT_TRUE(t.remove(kB, 5));
  t.world->run_for(60s);
  t.reopen();
  EXPECT_TRUE(t.disk().list(t.options.folder + "/log")->empty()) << "nobody refers to the log any more";
}

}  // namespace
}  // namespace cairn
