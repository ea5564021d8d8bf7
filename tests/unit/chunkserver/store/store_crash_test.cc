// The disk stops at every write and every sync in turn, and the machine loses what was not synced, all of it or a
// random part. Then: everything synced is there and right, each chunk is as it was after one of its writes and never
// between two, and nothing is left behind for ever.
#include "common/base/log.h"
#include "tests/unit/chunkserver/store/leak_check.h"
#include "tests/unit/chunkserver/store/workload.h"

namespace cairn {
namespace {

struct CrashParam {
  StoreParam store;
  uint64_t seed;
};
std::string crash_name(const testing::TestParamInfo<CrashParam>& info) {
  return std::string(info.param.store.name) + "Seed" + std::to_string(info.param.seed);
}

class StoreCrash : public testing::TestWithParam<CrashParam> {
 protected:
  void SetUp() override { set_log_level(LogLevel::kOff); }  // failing disks say so, hundreds of times

  static constexpr int kSteps = 60;
  static Workload::Sizes sizes() { return {.chunk_bytes = 120'000, .write_max = 60'000, .chunks = 3}; }
  static void tune(StoreUnderTest& t) {
    t.slow_disk = true;
    t.new_world();
    t.options.segment_size_bytes = 128 * kKiB;  // many segments come and go
    t.options.clean_bytes_per_second = 1000 * kMiB;
  }
  uint64_t operations_of_a_run() {
    StoreUnderTest t(GetParam().store, GetParam().seed);
    tune(t);
    t.open();
    Workload work(t, GetParam().seed, sizes());
    for (int i = 0; i < kSteps; ++i)
      EXPECT_TRUE(work.step());
    t.close();
    return t.memory().operations();
  }
  void crash_at(uint64_t operation, MemoryDisk::LastOperation last, Random* keep) {
    SCOPED_TRACE("operation " + std::to_string(operation));
    StoreUnderTest t(GetParam().store, GetParam().seed);
    tune(t);
    t.memory().fail_after(operation, last);
    Workload work(t, GetParam().seed, sizes());
    if (t.try_open()) {
      for (int i = 0; i < kSteps && work.step(); ++i) {
      }
    }
    t.power_cut(keep);
    t.open();
    if (!t.store) return;
    work.check_survivors();
    EXPECT_TRUE(t.bad.empty());
    t.world->run_for(60s);
    t.close();
    expect_records_agree(t);
    t.new_world();
    t.open();
    // The store goes on from there.
    for (int i = 0; i < 15; ++i)
      ASSERT_TRUE(work.step());
    work.check_all();
    expect_no_leak(t, work);
  }
};

INSTANTIATE_TEST_SUITE_P(Kinds, StoreCrash,
                         testing::Values(CrashParam{{DiskKind::kMemory, KvKind::kMemory, 16 * kKiB, "Memory"}, 1},
                                         CrashParam{{DiskKind::kMemory, KvKind::kMemory, 0, "AllInLog"}, 2},
                                         CrashParam{{DiskKind::kMemory, KvKind::kLevelDb, 16 * kKiB, "LevelDb"}, 3}),
                         crash_name);

TEST_P(StoreCrash, AtEveryOperationLosingAllThatWasNotSynced) {
  uint64_t operations = operations_of_a_run();
  ASSERT_GT(operations, 100u);
  for (uint64_t i = 0; i < operations; ++i) {
    crash_at(i, i % 2 ? MemoryDisk::LastOperation::kTakesEffect : MemoryDisk::LastOperation::kHasNoEffect, nullptr);
    if (testing::Test::HasFailure()) return;
  }
}

TEST_P(StoreCrash, AtEveryOperationKeepingARandomPart) {
  uint64_t operations = operations_of_a_run();
  auto keep = make_seeded_random(GetParam().seed + 50);
  for (uint64_t i = 0; i < operations; ++i) {
    crash_at(i, i % 2 ? MemoryDisk::LastOperation::kHasNoEffect : MemoryDisk::LastOperation::kTakesEffect, keep.get());
    if (testing::Test::HasFailure()) return;
  }
}

TEST(StoreCrashAgain, CrashAfterCrashOfRandomWork) {
  set_log_level(LogLevel::kOff);
  for (uint64_t seed = 1; seed <= 12; ++seed) {
    SCOPED_TRACE(seed);
    KvKind kv = seed % 3 == 0 ? KvKind::kLevelDb : KvKind::kMemory;
    StoreUnderTest t({DiskKind::kMemory, kv, 16 * kKiB, ""}, seed);
    t.options.segment_size_bytes = 256 * kKiB;
    t.options.clean_bytes_per_second = 1000 * kMiB;
    auto random = make_seeded_random(seed + 1000);
    t.slow_disk = true;
    t.new_world();
    t.open();
    Workload work(t, seed, {.chunk_bytes = 200'000, .write_max = 100'000, .chunks = 5});
    for (int crash = 0; crash < 12; ++crash) {
      t.memory().fail_after(random->below(400));
      while (work.step()) {
      }
      t.power_cut(random->chance(1, 2) ? random.get() : nullptr);
      if (random->chance(1, 3)) {
        // And again in the middle of recovering.
        t.memory().fail_after(random->below(12));
        Result<void> opened = t.try_open();
        if (opened) t.world->run_for(Duration(random->below(2'000'000'000)));
        t.power_cut(random.get());
      }
      t.open();
      work.check_survivors();
      if (testing::Test::HasFailure()) return;
    }
    expect_no_leak(t, work);
  }
}

}  // namespace
}  // namespace cairn
