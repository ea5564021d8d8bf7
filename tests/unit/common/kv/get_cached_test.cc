// get_cached(): what is in memory is answered, and nothing waits for the disk.
#include <gtest/gtest.h>

#include "common/base/units.h"
#include "common/kv/leveldb_store.h"
#include "common/runtime/memory_disk.h"

namespace cairn {
namespace {

class GetCached : public testing::Test {
 protected:
  static constexpr int kKeys = 200;
  static std::string key(int i) { return "key" + std::to_string(i); }

  void open() {
    LevelDbOptions options;
    options.write_buffer_bytes = 64 * kKiB;
    Result<std::unique_ptr<LevelDbStore>> opened = LevelDbStore::open(disk_, "db", options);
    ASSERT_TRUE(opened) << opened.error().message();
    store_ = std::move(*opened);
  }
  void put(const std::string& name, const std::string& value) {
    WriteBatch batch;
    batch.put(name, value);
    ASSERT_TRUE(store_->write(batch, false));
  }
  // More than the memory of LevelDB holds: the first keys are in tables.
  void fill() {
    for (int i = 0; i < kKeys; ++i)
      put(key(i), std::string(4000, static_cast<char>('a' + i % 26)));
  }

  MemoryDisk disk_;
  std::unique_ptr<LevelDbStore> store_;
};

TEST_F(GetCached, WhatIsInTablesIsAnsweredWhenThePagesAreInMemory) {
  open();
  fill();
  store_.reset();
  open();
  Result<std::string> first = store_->get_cached(key(0));
  ASSERT_TRUE(first) << first.error().message();
  EXPECT_EQ(*first, std::string(4000, 'a'));
  EXPECT_EQ(store_->get_cached("nobody").code(), ErrorCode::kNotFound);
}

TEST_F(GetCached, WhatWouldHaveToBeReadIsNotWaitedForAndNothingIsBrokenByThat) {
  open();
  fill();
  store_.reset();
  open();
  disk_.set_nothing_cached(true);
  EXPECT_EQ(store_->get_cached(key(0)).code(), ErrorCode::kAgain);
  put("new", "value");
  EXPECT_EQ(store_->get_cached("new").value_or("none"), "value") << "it is in LevelDB's memory";
  EXPECT_TRUE(store_->get(key(0))) << "whoever may wait, reads";
  EXPECT_EQ(store_->get_cached(key(0)).value_or("none"), std::string(4000, 'a')) << "its block has been read";
}

// A store that does not sync the logs it leaves (the masters' state) is lost with its machine; what it gave away is not.
TEST_F(GetCached, ACheckpointIsDurableWhoseLogsWereNeverSynced) {
  LevelDbOptions options;
  options.write_buffer_bytes = 64 * kKiB;
  options.lost_with_machine = true;
  Result<std::unique_ptr<LevelDbStore>> opened = LevelDbStore::open(disk_, "db", options);
  ASSERT_TRUE(opened) << opened.error().message();
  store_ = std::move(*opened);
  fill();
  EXPECT_EQ(store_->get_cached(key(kKeys - 1)).value_or("none").size(), 4000u);
  ASSERT_TRUE(disk_.make_folder("copies") && disk_.sync_folder("."));
  ASSERT_TRUE(store_->checkpoint("copies/one", [] {}));
  ASSERT_TRUE(disk_.sync_folder("copies"));
  store_.reset();
  disk_.crash();
  ASSERT_TRUE(LevelDbStore::copy_checkpoint(disk_, "copies/one", "again"));
  opened = LevelDbStore::open(disk_, "again", options);
  ASSERT_TRUE(opened) << opened.error().message();
  for (int i = 0; i < kKeys; ++i)
    EXPECT_TRUE((*opened)->get(key(i))) << i;
}

}  // namespace
}  // namespace cairn
