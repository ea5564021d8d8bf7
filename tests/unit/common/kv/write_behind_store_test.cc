// What WriteBehindStore adds to what every KvStore promises: what it hands on, when, and what is lost with the process.
#include "common/kv/write_behind_store.h"

#include <gtest/gtest.h>
#include <map>
#include <vector>

#include "common/base/units.h"

namespace cairn {
namespace {

// The store below: notes the batches that come, and can fail.
class Below final : public KvStore {
 public:
  struct Seen {
    std::vector<std::vector<std::string>> batches;  // keys; those erased with a '-' before them
    std::map<std::string, std::string> content;
    bool fails = false;
  };
  explicit Below(Seen& seen) : seen_(seen) {}

  Result<std::string> get(std::string_view key) const override {
    auto found = seen_.content.find(std::string(key));
    if (found == seen_.content.end()) return Error(ErrorCode::kNotFound);
    return found->second;
  }
  Result<std::string> get_cached(std::string_view) const override { return Error(ErrorCode::kAgain); }
  std::unique_ptr<KvIterator> iterate() const override { return nullptr; }
  Result<void> write(const WriteBatch& batch, bool) override {
    if (seen_.fails) return Error(ErrorCode::kIo, "as the test wants");
    std::vector<std::string>& keys = seen_.batches.emplace_back();
    for (const WriteBatch::Change& change : batch.changes()) {
      keys.push_back((change.value ? "" : "-") + std::string(change.key));
      if (change.value) {
        seen_.content[std::string(change.key)] = *change.value;
      } else {
        seen_.content.erase(std::string(change.key));
      }
    }
    return {};
  }
  Result<void> checkpoint(const std::string&, const std::function<void()>& freeze) override {
    freeze();
    return {};
  }
  uint64_t disk_bytes() const override { return 0; }

 private:
  Seen& seen_;
};

class WriteBehind : public testing::Test {
 protected:
  void put(std::string_view key, std::string_view value) {
    WriteBatch batch;
    batch.put(key, value);
    ASSERT_TRUE(store_.write(batch, false).has_value());
  }
  void put_new(std::string_view key, std::string_view value) {
    WriteBatch batch;
    batch.put_new(key, value);
    ASSERT_TRUE(store_.write(batch, false).has_value());
  }
  void erase(std::string_view key) {
    WriteBatch batch;
    batch.erase(key);
    ASSERT_TRUE(store_.write(batch, false).has_value());
  }
  using Keys = std::vector<std::string>;

  Below::Seen seen_;
  WriteBehindStore store_{std::make_unique<Below>(seen_), 4 * kKiB};
};

TEST_F(WriteBehind, ManyBatchesAreHandedOnAsOneSortedOneWithTheNewestValues) {
  put("c", "1");
  put("a", "1");
  put("c", "2");
  erase("b");
  EXPECT_TRUE(seen_.batches.empty());
  ASSERT_TRUE(store_.flush().has_value());
  ASSERT_EQ(seen_.batches, (std::vector<Keys>{{"a", "-b", "c"}}));
  EXPECT_EQ(seen_.content["c"], "2");
}

TEST_F(WriteBehind, WhatIsHeldBackIsReadAndSoIsThatItIsErased) {
  seen_.content = {{"a", "below"}, {"b", "below"}};
  put("a", "held");
  erase("b");
  EXPECT_EQ(store_.get("a").value(), "held");
  EXPECT_TRUE(store_.get("b").failed_with(ErrorCode::kNotFound));
  EXPECT_EQ(store_.get_cached("a").value(), "held");
  EXPECT_TRUE(store_.get_cached("c").failed_with(ErrorCode::kAgain));
}

TEST_F(WriteBehind, WhatIsNewAndErasedAgainNeverComesBelow) {
  put_new("gone", "1");
  put("gone", "2");
  put("stays", "1");
  erase("gone");
  EXPECT_TRUE(store_.get("gone").failed_with(ErrorCode::kNotFound));
  ASSERT_TRUE(store_.flush().has_value());
  EXPECT_EQ(seen_.batches, (std::vector<Keys>{{"stays"}}));
}

// What the store below has must be erased there, whatever happened to it since.
TEST_F(WriteBehind, WhatWasThereBeforeIsErasedBelow) {
  put_new("a", "1");
  ASSERT_TRUE(store_.flush().has_value());
  erase("a");
  put_new("a", "2");
  erase("a");
  ASSERT_TRUE(store_.flush().has_value());
  EXPECT_EQ(seen_.batches, (std::vector<Keys>{{"a"}, {"-a"}}));
  EXPECT_TRUE(seen_.content.empty());
}

TEST_F(WriteBehind, AtItsLimitItHandsOn) {
  for (int i = 0; i < 8; ++i)
    put("key", std::string(kKiB, 'v'));  // written over, it counts all the same: its bytes are kept until then
  EXPECT_EQ(seen_.batches.size(), 2u);
}

TEST_F(WriteBehind, ACheckpointFindsEverythingBelow) {
  put("a", "1");
  size_t batches = 0;
  ASSERT_TRUE(store_.checkpoint("", [&] { batches = seen_.batches.size(); }).has_value());
  EXPECT_EQ(batches, 1u);
}

TEST_F(WriteBehind, AfterAFailureEverythingFailsAndNothingOlderIsRead) {
  seen_.content = {{"a", "old"}};
  put("a", "new");
  seen_.fails = true;
  EXPECT_TRUE(store_.flush().failed_with(ErrorCode::kIo));
  seen_.fails = false;
  WriteBatch batch;
  batch.put("b", "1");
  EXPECT_TRUE(store_.write(batch, false).failed_with(ErrorCode::kIo));
  EXPECT_TRUE(store_.flush().failed_with(ErrorCode::kIo));
  EXPECT_TRUE(store_.checkpoint("", {}).failed_with(ErrorCode::kIo));
  EXPECT_TRUE(store_.iterate()->status().failed_with(ErrorCode::kIo));
  EXPECT_EQ(store_.get("a").value(), "new");
  EXPECT_EQ(seen_.content["a"], "old");
}

TEST_F(WriteBehind, LosesWholeBatchesFromTheEnd) {
  Below::Seen seen;
  {
    WriteBehindStore store(std::make_unique<Below>(seen), kMiB);
    WriteBatch batch;
    batch.put("a", "1");
    batch.put("b", "1");
    ASSERT_TRUE(store.write(batch, true).has_value());
    batch.put("a", "2");
    batch.put("b", "2");
    ASSERT_TRUE(store.write(batch, false).has_value());
  }
  EXPECT_EQ(seen.content, (std::map<std::string, std::string>{{"a", "1"}, {"b", "1"}}));
}

}  // namespace
}  // namespace cairn
