// Random operations against a plain model, with reopening in between.
#include "tests/unit/chunkserver/store/leak_check.h"
#include "tests/unit/chunkserver/store/workload.h"

namespace cairn {
namespace {

class StoreRandom : public testing::TestWithParam<StoreParam> {};
INSTANTIATE_TEST_SUITE_P(Kinds, StoreRandom, testing::ValuesIn(kAllParams), param_name);

TEST_P(StoreRandom, TheStoreHoldsWhatAModelHolds) {
  uint64_t seeds = GetParam().disk == DiskKind::kMemory ? 4 : 1;  // a real disk's syncs take their time
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE(seed);
    StoreUnderTest t(GetParam(), seed);
    t.options.cache_limit_bytes = seed % 2 == 0 ? 4096 : 64 * kMiB;  // with next to no cache all comes from the disk
    t.open();
    Workload work(t, seed, {});
    auto random = make_seeded_random(seed + 100);
    for (int i = 0; i < 400; ++i) {
      ASSERT_TRUE(work.step());
      if (random->chance(1, 60)) {
        t.reopen();
        work.check_all();
      }
      if (testing::Test::HasFailure()) return;
    }
    work.check_all();
    EXPECT_TRUE(t.bad.empty());
    if (GetParam().disk == DiskKind::kMemory) {
      t.world->run_for(60s);
      t.close();
      expect_records_agree(t);
      t.new_world();
      t.open();
    }
    expect_no_leak(t, work);
  }
}

}  // namespace
}  // namespace cairn
