// What goes wrong around a store: wrong folders, restarts of the machine, full and failing disks, rotten bytes.
#include "chunkserver/store/identity.h"
#include "chunkserver/store/scrubber.h"
#include "common/base/log.h"
#include "tests/unit/chunkserver/store/leak_check.h"

namespace cairn {
namespace {

constexpr ChunkId kA{101};
constexpr ChunkId kB{102};
constexpr StoreParam kPlain{DiskKind::kMemory, KvKind::kMemory, 16 * kKiB, ""};
constexpr StoreParam kLevel{DiskKind::kMemory, KvKind::kLevelDb, 16 * kKiB, ""};

Buffer filled(size_t size, char byte) {
  return Buffer::copy_of(std::string(size, byte));
}

TEST(StoreIdentity, AFolderOfAnotherClusterOrServerIsRefusedAndBothAreNamed) {
  StoreUnderTest t(kPlain);
  t.open();
  t.close();
  Result<void> other = t.try_open({ClusterId(0xC2), ServerId(0x51), 0});
  ASSERT_TRUE(other.failed_with(ErrorCode::kWrongCluster));
  EXPECT_NE(other.error().context.find(to_string(ClusterId(0xC1))), std::string::npos) << other.error().context;
  EXPECT_NE(other.error().context.find(to_string(ClusterId(0xC2))), std::string::npos);
  EXPECT_TRUE(t.try_open({ClusterId(0xC1), ServerId(0x52), 0}).failed_with(ErrorCode::kWrongCluster));
  ASSERT_TRUE(t.try_open({}));
  EXPECT_EQ(t.store->identity().server, ServerId(0x51)) << "the folder tells";
}

TEST(StoreIdentity, ANewFolderJoinsAClusterOnce) {
  StoreUnderTest t(kPlain);
  ASSERT_TRUE(t.try_open({ClusterId(), ServerId(0x51), 0}));
  ASSERT_TRUE(t.world->wait(t.store->join_cluster(ClusterId(0xC7))));
  EXPECT_TRUE(t.world->wait(t.store->join_cluster(ClusterId(0xC8))).failed_with(ErrorCode::kWrongCluster));
  t.close();
  ASSERT_TRUE(t.try_open({}));
  EXPECT_EQ(t.store->identity().cluster, ClusterId(0xC7));
}

TEST(StoreIdentity, AFolderInUseIsBusy) {
  StoreUnderTest t(kPlain);
  t.open();
  Result<std::unique_ptr<ChunkStore>> second = t.world->wait(ChunkStore::open(*t.world, t.options, kTestIdentity));
  EXPECT_TRUE(second.failed_with(ErrorCode::kBusy));
}

TEST(StoreIdentity, ANewerFormatAForeignFolderAndADamagedIdentityAreRefused) {
  StoreUnderTest t(kPlain);
  t.open();
  t.close();
  std::string path = t.options.folder + "/IDENTITY";
  std::string text = read_file(t.disk(), path).value();
  std::string damaged = text;
  damaged[30] ^= 1;
  ASSERT_TRUE(write_file(t.disk(), path, damaged));
  EXPECT_TRUE(t.try_open().failed_with(ErrorCode::kCorrupt));
  std::string newer = text.substr(0, text.rfind("crc32c"));
  newer.replace(newer.find("format 1"), 8, "format 9");
  char sum[32];
  std::snprintf(sum, sizeof sum, "crc32c %08x\n", crc32c(newer));
  ASSERT_TRUE(write_file(t.disk(), path, newer + sum));
  EXPECT_TRUE(t.try_open().failed_with(ErrorCode::kNotSupported));
  ASSERT_TRUE(t.disk().remove(path));
  EXPECT_TRUE(t.try_open().failed_with(ErrorCode::kNotEmpty)) << "chunks without an identity are not overwritten";
}

TEST(StoreRestart, OpenChunksAreUnverifiedAfterTheMachineRestartedAndSealedOnesAreNot) {
  StoreUnderTest t(kPlain);
  t.open();
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(100, 'a')));
  ASSERT_TRUE(t.sync(kA, 1, 1));
  ASSERT_TRUE(t.write(kB, 1, 1, 0, filled(100, 'b')));
  ASSERT_TRUE(t.seal(kB, 1, 1));
  t.kill();
  t.new_world();
  t.open();
  EXPECT_TRUE(t.status(kA)->verified) << "the process restarted, the machine did not";
  t.power_cut();
  t.open();
  EXPECT_FALSE(t.status(kA)->verified);
  EXPECT_TRUE(t.status(kB)->verified);
  Result<ChunkPage> page = t.world->wait(t.store->list(ChunkId(), 10));
  EXPECT_FALSE(page->chunks[0].verified);
  ASSERT_TRUE(t.raise(kA, 1, 2));
  EXPECT_FALSE(t.status(kA)->verified) << "a raise compares nothing";
  ASSERT_TRUE(t.seal(kA, 2, 1));
  EXPECT_TRUE(t.status(kA)->verified);
  ASSERT_TRUE(t.raise(kB, 1, 2));
  EXPECT_TRUE(t.status(kB)->verified);
}

class StoreDisk : public testing::TestWithParam<StoreParam> {};
INSTANTIATE_TEST_SUITE_P(Kinds, StoreDisk, testing::Values(kAllParams[0], kAllParams[1], kAllParams[2], kAllParams[3]),
                         param_name);

TEST_P(StoreDisk, AFullDiskIsSaidWhenTheWriteComesAndDeletingGivesTheSpaceBack) {
  set_log_level(LogLevel::kError);
  StoreUnderTest t(GetParam());
  // LevelDB with everything inside needs room for its merges.
  bool inside = GetParam().inline_limit_bytes == kChunkSizeBytes;
  t.options.reserve_bytes = (inside ? 160 : 16) * kMiB;
  t.memory().set_capacity((inside ? 256 : 64) * kMiB);
  t.open();
  auto random = make_seeded_random(1);
  Buffer data = random_bytes(*random, 500'000);
  uint64_t chunk = 1;
  Result<WriteResult> written;
  for (; chunk < 400; ++chunk) {
    written = t.write(ChunkId(chunk), 1, 1, 0, data);
    if (!written) break;
    if (chunk % 7 == 0) {
      Result<WriteResult> synced = t.sync(ChunkId(chunk), 1, 1);
      ASSERT_TRUE(synced) << synced.error().message();
    }
  }
  ASSERT_TRUE(written.failed_with(ErrorCode::kNoSpace)) << "after " << chunk << " chunks";
  EXPECT_GT(chunk, 40u) << "most of the space is given out";
  // What was taken can all be stored.
  for (uint64_t i = 1; i < chunk; ++i) {
    Result<WriteResult> synced = t.sync(ChunkId(i), 1, 1);
    ASSERT_TRUE(synced) << synced.error().message();
  }
  EXPECT_LT(t.store->space().free_bytes, 600'000u);
  EXPECT_FALSE(t.store->failed());
  ASSERT_TRUE(t.truncate(ChunkId(1), 1, 2, 0)) << "making room takes no room";
  for (uint64_t i = 1; i < chunk; i += 2)
    ASSERT_TRUE(t.remove(ChunkId(i), 1));
  t.world->run_for(60s);
  if (GetParam().inline_limit_bytes < kChunkSizeBytes) {
    for (uint64_t i = 1000; i < 1000 + chunk / 3; ++i) {
      written = t.write(ChunkId(i), 1, 1, 0, data);
      ASSERT_TRUE(written) << i << " " << written.error().message();
    }
  }
  for (uint64_t i = 2; i < chunk; i += 2)
    EXPECT_EQ(t.read(ChunkId(i), 1, 0, 500'000).value(), data.view());
}

TEST_P(StoreDisk, ADiskThatFailsEndsTheStore) {
  set_log_level(LogLevel::kOff);
  StoreUnderTest t(GetParam());
  t.open();
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(200'000, 'a')));
  t.memory().fail_after(0);
  EXPECT_FALSE(t.sync(kA, 1, 1));
  EXPECT_TRUE(t.store->failed());
  EXPECT_TRUE(t.write(kB, 1, 1, 0, filled(10, 'a')).failed_with(ErrorCode::kIo));
  EXPECT_TRUE(t.read(kA, 1, 0, 10).failed_with(ErrorCode::kIo));
  EXPECT_EQ(t.store->space().stores_failed, 1u);
  t.memory().heal();
  EXPECT_FALSE(t.sync(kA, 1, 1)) << "a failed sync is not retried and believed";
}

std::string only_segment(StoreUnderTest& t) {
  std::string folder = t.options.folder + "/log";
  return folder + "/" + t.disk().list(folder)->front();
}

TEST(StoreRot, AFlippedByteIsSeenByTheReaderByAPartialWriteAndByTheScrubber) {
  set_log_level(LogLevel::kOff);
  StoreUnderTest t({DiskKind::kMemory, KvKind::kMemory, 0, ""});
  t.open();
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(200'000, 'a')));
  ASSERT_TRUE(t.seal(kA, 1, 1));
  ASSERT_TRUE(t.memory().flip_byte(only_segment(t), 5000));
  EXPECT_TRUE(t.read(kA, 1, 0, 4096)) << "other blocks are fine";
  EXPECT_TRUE(t.read(kA, 1, 4096, 4096).failed_with(ErrorCode::kCorrupt)) << "the checksum is the writer's";
  EXPECT_TRUE(t.bad.empty()) << "a read leaves the checking to the reader";
  ASSERT_TRUE(t.raise(kA, 1, 2));
  EXPECT_TRUE(t.write(kA, 2, 2, 4100, filled(10, 'b')).failed_with(ErrorCode::kCorrupt));
  EXPECT_EQ(t.bad.size(), 1u);
  ASSERT_TRUE(t.seal(kA, 2, 1));
  std::vector<ChunkId> bad;
  Scrubber scrubber(*t.world, *t.store, {.bytes_per_second = 1 * kMiB},
                    [&bad](ChunkId chunk, const Error&) { bad.push_back(chunk); });
  scrubber.start();
  t.world->run_for(10s);
  EXPECT_EQ(bad, std::vector<ChunkId>{kA});
  EXPECT_EQ(scrubber.progress().rounds, 1u);
  t.world->wait(scrubber.stop());
  // Another replica's bytes at the same version repair it.
  Buffer good = filled(200'000, 'a');
  ASSERT_TRUE(t.world->wait(t.store->begin_install(kA, 2, 1, {})));
  ASSERT_TRUE(t.world->wait(t.store->fill(kA, 2, 0, {good}, block_checksums(good.span()))));
  ASSERT_TRUE(t.world->wait(t.store->finish_install(kA, 2, 200'000, true)));
  EXPECT_EQ(t.read(kA, 2, 0, 200'000).value(), good.view());
}

TEST(StoreRot, TheScrubberKeepsToItsPaceAndReadsOpenChunksToo) {
  StoreUnderTest t(kPlain);
  t.open();
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(4 * kMiB, 'a')));
  ASSERT_TRUE(t.seal(kA, 1, 1));
  ASSERT_TRUE(t.write(kB, 1, 1, 0, filled(4 * kMiB, 'b')));
  ASSERT_TRUE(t.sync(kB, 1, 1));
  Scrubber scrubber(*t.world, *t.store, {.bytes_per_second = 1 * kMiB}, nullptr);
  scrubber.start();
  t.world->run_for(2s);
  EXPECT_LE(scrubber.progress().bytes, 3 * kMiB);
  EXPECT_EQ(scrubber.progress().rounds, 0u);
  t.world->run_for(7s);
  EXPECT_EQ(scrubber.progress().rounds, 1u);
  EXPECT_EQ(scrubber.progress().bytes, 8 * kMiB);
  t.world->wait(scrubber.stop());
}

TEST(StoreRot, ASegmentThatIsGoneIsSaidAndTheChunkCanStillBeRemoved) {
  set_log_level(LogLevel::kOff);
  StoreUnderTest t(kPlain);
  t.open();
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(200'000, 'a')));
  ASSERT_TRUE(t.sync(kA, 1, 1));
  t.close();
  ASSERT_TRUE(t.disk().remove(only_segment(t)));
  t.new_world();
  t.open();
  EXPECT_TRUE(t.read(kA, 1, 0, 10).failed_with(ErrorCode::kIo));
  EXPECT_EQ(t.bad.size(), 1u);
  EXPECT_TRUE(t.remove(kA, 1));
  t.world->run_for(10s);
  EXPECT_FALSE(t.store->failed());
}

TEST(StoreMemory, WritersWaitWhileTooMuchIsUnsyncedAndThenGoOn) {
  StoreUnderTest t(kLevel);
  t.options.unsynced_limit_bytes = 2 * kMiB;
  t.open();
  for (uint64_t i = 1; i <= 20; ++i) {
    Result<WriteResult> written = t.write(kA, 1, i, static_cast<uint32_t>((i - 1) * kMiB), filled(kMiB, 'a'));
    ASSERT_TRUE(written) << written.error().message();
  }
  EXPECT_GT(t.status(kA)->synced_sequence, 15u) << "the store wrote it out by itself";
}

TEST(StoreCleaner, ASegmentThatIsMostlyHolesIsRewritten) {
  StoreUnderTest t(kPlain);
  t.open();
  auto random = make_seeded_random(1);
  Buffer kept = random_bytes(*random, 64 * kKiB);
  for (uint64_t i = 0; i < 40; ++i) {
    ASSERT_TRUE(t.write(ChunkId(1 + i), 1, 1, 0, i % 10 == 0 ? kept : filled(64 * kKiB, 'x')));
    ASSERT_TRUE(t.sync(ChunkId(1 + i), 1, 1));
  }
  std::string folder = t.options.folder + "/log";
  size_t before = t.disk().list(folder)->size();
  EXPECT_GE(before, 3u);
  for (uint64_t i = 0; i < 40; ++i) {
    if (i % 10 != 0) {
      ASSERT_TRUE(t.remove(ChunkId(1 + i), 1));
    }
  }
  t.world->run_for(120s);
  EXPECT_LE(t.disk().list(folder)->size(), 2u);
  for (uint64_t i = 0; i < 40; i += 10)
    EXPECT_EQ(t.read(ChunkId(1 + i), 1, 0, 64 * kKiB).value(), kept.view());
  t.reopen();
  for (uint64_t i = 0; i < 40; i += 10)
    EXPECT_EQ(t.read(ChunkId(1 + i), 1, 0, 64 * kKiB).value(), kept.view());
}

// ---- what runs side by side: work of a pool is held back while other things happen

TEST(StoreRaces, AReadUnderWayKeepsTheBytesOfARemovedChunk) {
  StoreUnderTest t({DiskKind::kMemory, KvKind::kMemory, 0, ""});
  t.open();
  auto random = make_seeded_random(1);
  Buffer data = random_bytes(*random, 200'000);
  ASSERT_TRUE(t.write(kA, 1, 1, 0, data));
  ASSERT_TRUE(t.write(kB, 1, 1, 0, filled(4096, 'b')));  // keeps the segment
  ASSERT_TRUE(t.sync(kA, 1, 1));
  ASSERT_TRUE(t.sync(kB, 1, 1));
  t.reopen();
  ASSERT_TRUE(t.status(kA));
  t.memory().set_nothing_cached(true);
  std::optional<Result<ReadResult>> got;
  TaskGroup tasks(*t.world, *t.world);
  tasks.spawn(LocalWorld::keep(t.store->read(kA, 1, 0, 4096), &got));
  t.world->hold_newest_job();  // its bytes
  ASSERT_TRUE(t.remove(kA, 1));
  t.world->run_for(60s);
  t.world->release();
  t.world->settle();
  ASSERT_TRUE(got.has_value());
  ASSERT_TRUE(got->has_value());
  EXPECT_EQ(StoreUnderTest::checked(**got, 0, 4096).value(), data.view().substr(0, 4096));
  t.world->run_for(60s);
  t.close();
  expect_records_agree(t);
}

TEST(StoreRaces, SpaceOfAWriteThatIsUnderWayIsNotGivenBackBeforeItEnds) {
  StoreUnderTest t({DiskKind::kMemory, KvKind::kMemory, 0, ""});
  t.open();
  ASSERT_TRUE(t.write(kB, 1, 1, 0, filled(4096, 'b')));
  ASSERT_TRUE(t.sync(kB, 1, 1));
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(200'000, 'a')));
  t.world->hold_newest_job();
  ASSERT_TRUE(t.write(kA, 1, 2, 0, filled(200'000, 'n')));
  t.world->run_for(60s);
  t.world->release();
  t.world->run_for(60s);
  ASSERT_TRUE(t.sync(kA, 1, 2));
  EXPECT_EQ(t.read(kA, 1, 0, 200'000).value(), std::string(200'000, 'n'));
  t.world->run_for(60s);
  t.close();
  expect_records_agree(t);
}

TEST(StoreRaces, NoWriteSlipsBehindASealOrBelowARaise) {
  StoreUnderTest t(kPlain);
  t.open();
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(4096, 'a')));
  std::optional<Result<ReplicaStatus>> done;
  TaskGroup tasks(*t.world, *t.world);
  tasks.spawn(LocalWorld::keep(t.store->seal(kA, 1, 1), &done));
  t.world->hold_newest_job();  // its batch
  EXPECT_TRUE(t.write(kA, 1, 2, 0, filled(4096, 'b')).failed_with(ErrorCode::kOldVersion));
  t.world->release();
  t.world->settle();
  ASSERT_TRUE(done.has_value());
  ASSERT_TRUE(done->has_value());
  EXPECT_EQ((*done)->sequence, 1u);

  done.reset();
  tasks.spawn(LocalWorld::keep(t.store->raise(kA, 1, 2), &done));
  t.world->hold_newest_job();
  EXPECT_TRUE(t.write(kA, 1, 2, 0, filled(4096, 'b')).failed_with(ErrorCode::kOldVersion));
  t.world->release();
  t.world->settle();
  ASSERT_TRUE(done.has_value());
  EXPECT_TRUE(done->has_value());
}

TEST(StoreRaces, AWriteDuringACommitIsInTheNextOne) {
  StoreUnderTest t(kPlain);
  t.open();
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(8192, 'a')));
  std::optional<std::vector<Result<WriteResult>>> done;
  TaskGroup tasks(*t.world, *t.world);
  tasks.spawn(LocalWorld::keep(t.store->sync({{kA, 1, 1}}), &done));
  t.world->hold_newest_job();
  ASSERT_TRUE(t.write(kA, 1, 2, 4096, filled(4096, 'b')));
  EXPECT_EQ(t.read(kA, 1, 0, 8192).value(), std::string(4096, 'a') + std::string(4096, 'b'));
  t.world->release();
  t.world->settle();
  ASSERT_TRUE(done.has_value());
  EXPECT_EQ(done->front()->synced_sequence, 1u);
  EXPECT_EQ(done->front()->sequence, 2u);
  t.kill();
  t.new_world();
  t.open();
  EXPECT_EQ(t.read(kA, 1, 0, 8192).value(), std::string(8192, 'a'));
}

TEST(StoreSync, ManySyncsShareFewSyncsOfTheDisk) {
  StoreUnderTest t(kLevel);
  t.open();
  std::vector<SyncItem> items;
  for (uint64_t i = 1; i <= 100; ++i) {
    ASSERT_TRUE(t.write(ChunkId(i), 1, 1, 0, filled(4096, 'a')));
    items.push_back({ChunkId(i), 1, 1});
  }
  uint64_t before = t.memory().counters().syncs;
  for (const Result<WriteResult>& result : t.world->wait(t.store->sync(items))) {
    ASSERT_TRUE(result);
    EXPECT_EQ(result->synced_sequence, 1u);
  }
  EXPECT_LE(t.memory().counters().syncs - before, 3u);
}

TEST(StoreSync, ASmallSyncedWriteCostsOneSyncOfTheDisk) {
  StoreUnderTest t(kLevel);
  t.open();
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(4096, 'a')));
  ASSERT_TRUE(t.sync(kA, 1, 1));
  uint64_t before = t.memory().counters().syncs;
  for (uint64_t i = 2; i <= 11; ++i) {
    ASSERT_TRUE(t.write(kA, 1, i, 4096 * static_cast<uint32_t>(i), filled(4096, 'a')));
    ASSERT_TRUE(t.sync(kA, 1, i));
  }
  EXPECT_EQ(t.memory().counters().syncs - before, 10u);
}

}  // namespace
}  // namespace cairn
