// What KvStore promises, on all stores, over the real disk.
#include "common/kv/kv_store.h"

#include <atomic>
#include <filesystem>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <map>
#include <thread>
#include <unistd.h>

#include "common/base/random.h"
#include "common/runtime/posix_disk.h"
#include "tests/unit/common/kv/stores.h"

namespace cairn {
namespace {

using Model = std::map<std::string, std::string>;

Model contents(const KvStore& store) {
  Model all;
  auto it = store.iterate();
  for (it->seek(""); it->valid(); it->next())
    all.emplace(it->key(), it->value());
  EXPECT_TRUE(it->status().has_value());
  return all;
}

WriteBatch one(std::string_view key, std::string_view value) {
  WriteBatch batch;
  batch.put(key, value);
  return batch;
}

template <class Kind>
class Store : public testing::Test {
 protected:
  void SetUp() override {
    base_ = std::filesystem::temp_directory_path() / fmt::format("cairn_kv_{}_{}", ::getpid(), Kind::kName);
    std::filesystem::remove_all(base_);
    open();
  }
  void TearDown() override {
    store_.reset();
    std::filesystem::remove_all(base_);
  }
  std::string path(std::string_view name) const { return base_ / name; }
  void open() {
    // Its destructor leaves what is held back: it may be the process's end.
    if (auto* behind = dynamic_cast<WriteBehindStore*>(store_.get()))
      ASSERT_TRUE(behind->flush().has_value());
    store_.reset();
    auto opened = Kind::open(*disk_, path("live"));
    ASSERT_TRUE(opened.has_value()) << opened.error().message();
    store_ = std::move(*opened);
  }
  void write(const WriteBatch& batch, bool sync = false) {
    Result<void> written = store_->write(batch, sync);
    ASSERT_TRUE(written.has_value()) << written.error().message();
  }

  std::unique_ptr<Disk> disk_ = make_posix_disk();
  std::filesystem::path base_;
  std::unique_ptr<KvStore> store_;
};

using Kinds = testing::Types<MemoryKind, LevelDbKind, WriteBehindKind>;
TYPED_TEST_SUITE(Store, Kinds, KindNames);

TYPED_TEST(Store, GivesBackWhatWasPutAndNotWhatWasErased) {
  WriteBatch batch;
  batch.put("a", "1");
  batch.put("b", "");
  batch.put(std::string("\0\xff", 2), "binary");
  this->write(batch);
  EXPECT_EQ(this->store_->get("a").value(), "1");
  EXPECT_EQ(this->store_->get("b").value(), "");
  EXPECT_EQ(this->store_->get(std::string("\0\xff", 2)).value(), "binary");
  EXPECT_TRUE(this->store_->get("c").failed_with(ErrorCode::kNotFound));
  batch.clear();
  batch.erase("a");
  batch.erase("never there");
  this->write(batch);
  EXPECT_TRUE(this->store_->get("a").failed_with(ErrorCode::kNotFound));
}

TYPED_TEST(Store, ChangesOfABatchApplyInTheirOrder) {
  WriteBatch batch;
  batch.put("a", "1");
  batch.erase("a");
  batch.put("b", "1");
  batch.put("b", "2");
  batch.erase("c");
  batch.put("c", "3");
  this->write(batch);
  EXPECT_EQ(contents(*this->store_), (Model{{"b", "2"}, {"c", "3"}}));
}

TYPED_TEST(Store, IteratesInBytewiseOrderFromTheKeySought) {
  for (auto* key : {"b", "a", "ab", "\x7f", "\xc3", "B"})
    this->write(one(key, key));
  auto it = this->store_->iterate();
  std::vector<std::string> keys;
  for (it->seek("a"); it->valid(); it->next())
    keys.emplace_back(it->key());
  EXPECT_EQ(keys, (std::vector<std::string>{"a", "ab", "b", "\x7f", "\xc3"}));
  it->seek("aa");
  ASSERT_TRUE(it->valid());
  EXPECT_EQ(it->key(), "ab");
  EXPECT_EQ(it->value(), "ab");
  it->seek("\xff");
  EXPECT_FALSE(it->valid());
}

TYPED_TEST(Store, AnIteratorSeesTheStateOfItsMaking) {
  Model before;
  for (int i = 0; i < 500; i++) {
    std::string key = fmt::format("{:05}", i);
    this->write(one(key, "old"));
    before[key] = "old";
  }
  auto it = this->store_->iterate();
  for (int i = 0; i < 500; i++) {
    WriteBatch batch;
    if (i % 2) {
      batch.erase(fmt::format("{:05}", i));
    } else {
      batch.put(fmt::format("{:05}", i), "new");
    }
    batch.put(fmt::format("{:05}x", i), std::string(300, 'n'));
    this->write(batch);
  }
  Model seen;
  for (it->seek(""); it->valid(); it->next())
    seen.emplace(it->key(), it->value());
  EXPECT_EQ(seen, before);
  EXPECT_EQ(contents(*this->store_).size(), 750u);
}

TYPED_TEST(Store, AgreesWithAModelThroughReopens) {
  auto random = make_seeded_random(5);
  Model model;
  for (int round = 0; round < 3000; round++) {
    WriteBatch batch;
    for (uint64_t n = random->below(6); n > 0; n--) {
      std::string key = fmt::format("key{}", random->below(300));
      if (random->chance(1, 3)) {
        batch.erase(key);
        model.erase(key);
      } else {
        std::string value(random->below(200), static_cast<char>('a' + random->below(26)));
        batch.put(key, value);
        model[key] = value;
      }
    }
    this->write(batch, random->chance(1, 50));
    std::string probe = fmt::format("key{}", random->below(300));
    Result<std::string> got = this->store_->get(probe);
    ASSERT_EQ(got.has_value(), model.contains(probe));
    if (got) ASSERT_EQ(*got, model[probe]);
    if (random->chance(1, 400)) {
      this->open();
      ASSERT_EQ(contents(*this->store_), model);
    }
  }
  ASSERT_EQ(contents(*this->store_), model);
}

TYPED_TEST(Store, KeepsValuesOfMegabytes) {
  std::string value(3 * kMiB, '\0');
  auto random = make_seeded_random(6);
  for (char& c : value)
    c = static_cast<char>(random->next_u64());
  this->write(one("big", value), true);
  this->write(one("small", "x"), true);
  this->open();
  EXPECT_EQ(this->store_->get("big").value(), value);
  EXPECT_EQ(this->store_->get("small").value(), "x");
}

TYPED_TEST(Store, AnEmptySyncedBatchIsFine) {
  this->write({}, true);
  this->open();
  EXPECT_TRUE(contents(*this->store_).empty());
}

TYPED_TEST(Store, IsForOneProcessAtATime) {
  EXPECT_TRUE(TypeParam::open(*this->disk_, this->path("live")).failed_with(ErrorCode::kBusy));
}

TYPED_TEST(Store, ACheckpointHoldsWhatWasThereAndNothingLater) {
  Model model;
  for (int i = 0; i < 2000; i++) {
    this->write(one(fmt::format("{:05}", i), std::string(100, 'v')));
    model[fmt::format("{:05}", i)] = std::string(100, 'v');
  }
  int frozen = 0;
  Result<void> made = this->store_->checkpoint(this->path("checkpoint"), [&] { frozen++; });
  ASSERT_TRUE(made.has_value()) << made.error().message();
  EXPECT_EQ(frozen, 1);
  for (int i = 0; i < 4000; i++)
    this->write(one(fmt::format("{:05}", i), std::string(100, 'w')));
  auto opened = TypeParam::open(*this->disk_, this->path("checkpoint"));
  ASSERT_TRUE(opened.has_value()) << opened.error().message();
  EXPECT_EQ(contents(**opened), model);
}

TYPED_TEST(Store, ACheckpointsFolderMustBeFresh) {
  this->write(one("a", "1"));
  ASSERT_TRUE(this->store_->checkpoint(this->path("checkpoint"), {}).has_value());
  EXPECT_TRUE(this->store_->checkpoint(this->path("checkpoint"), {}).failed_with(ErrorCode::kExists));
}

// The freeze callback notes the state; a writer goes on all the time. Each checkpoint holds exactly what was noted.
TYPED_TEST(Store, CheckpointsWhileWritingAreOfOneInstant) {
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    for (int64_t i = 0; !stop; i++) {
      WriteBatch batch;
      batch.put(fmt::format("k{}", i % 997), std::to_string(i));
      batch.put("last", std::to_string(i));
      batch.put(fmt::format("filler{}", i % 101), std::string(200, 'f'));
      ASSERT_TRUE(this->store_->write(batch, false).has_value());
    }
  });
  std::vector<std::string> noted;
  for (int n = 0; n < 8; n++) {
    std::string state;
    Result<void> made = this->store_->checkpoint(this->path(fmt::format("checkpoint{}", n)), [&] {
      Result<std::string> now = this->store_->get("last");
      state = now ? *now : "none";
    });
    ASSERT_TRUE(made.has_value()) << made.error().message();
    noted.push_back(state);
  }
  stop = true;
  writer.join();
  for (size_t n = 0; n < noted.size(); n++) {
    auto opened = TypeParam::open(*this->disk_, this->path(fmt::format("checkpoint{}", n)));
    ASSERT_TRUE(opened.has_value()) << opened.error().message();
    Result<std::string> there = (*opened)->get("last");
    ASSERT_EQ(there ? *there : "none", noted[n]);
    if (!there) continue;
    int64_t end = std::stoll(*there);
    for (int64_t i = std::max<int64_t>(0, end - 996); i <= end; i++) {
      ASSERT_EQ((*opened)->get(fmt::format("k{}", i % 997)).value(), std::to_string(i));
    }
  }
}

// Both sides write, merge and are opened again; tables that they share stay as they are.
TYPED_TEST(Store, ACheckpointAndItsSourceGoTheirOwnWays) {
  auto fill = [](KvStore& store, std::string_view value, Model& model) {
    for (int i = 0; i < 3000; i++) {
      std::string key = fmt::format("{:05}", i % 1500);
      ASSERT_TRUE(store.write(one(key, std::string(100, value[0])), false).has_value());
      model[key] = std::string(100, value[0]);
    }
  };
  Model live;
  fill(*this->store_, "a", live);
  ASSERT_TRUE(this->store_->checkpoint(this->path("checkpoint"), {}).has_value());
  ASSERT_TRUE(TypeParam::copy(*this->disk_, this->path("checkpoint"), this->path("copy")).has_value());
  Model original = live;

  auto copy = TypeParam::open(*this->disk_, this->path("copy"));
  ASSERT_TRUE(copy.has_value()) << copy.error().message();
  Model other = original;
  fill(**copy, "b", other);
  fill(*this->store_, "c", live);
  EXPECT_EQ(contents(**copy), other);
  EXPECT_EQ(contents(*this->store_), live);

  // The checkpoint itself, opened last, in place: still what it was.
  auto checkpoint = TypeParam::open(*this->disk_, this->path("checkpoint"));
  ASSERT_TRUE(checkpoint.has_value());
  EXPECT_EQ(contents(**checkpoint), original);
  fill(**checkpoint, "d", original);
  this->open();
  EXPECT_EQ(contents(*this->store_), live);
  EXPECT_EQ(contents(**copy), other);
}

TYPED_TEST(Store, ReadersBesideTheWriterSeeWholeBatches) {
  this->write([] {
    WriteBatch batch;
    batch.put("left", "0");
    batch.put("right", "0");
    return batch;
  }());
  std::atomic<bool> stop = false;
  std::vector<std::thread> readers;
  std::atomic<int> torn = 0;
  std::atomic<int> reads = 0;
  for (int t = 0; t < 2; t++) {
    readers.emplace_back([&] {
      while (!stop) {
        auto it = this->store_->iterate();
        it->seek("left");
        std::string left(it->value());
        it->seek("right");
        torn += left != it->value();
        torn += !this->store_->get("left").has_value();
        reads++;
      }
    });
  }
  for (int i = 0; i < 5000 || reads < 100; i++) {
    WriteBatch batch;
    batch.put("left", std::to_string(i));
    batch.put(fmt::format("middle{}", i % 100), "x");
    batch.put("right", std::to_string(i));
    this->write(batch);
  }
  stop = true;
  for (auto& reader : readers)
    reader.join();
  EXPECT_EQ(torn, 0);
}

TYPED_TEST(Store, DiskBytesCountWhatIsOnDisk) {
  uint64_t before = this->store_->disk_bytes();
  for (int i = 0; i < 1000; i++)
    this->write(one(fmt::format("{:05}", i), std::string(1000, 'v')));
  EXPECT_GE(this->store_->disk_bytes(), before + 900 * 1000);
}

// What is overwritten and erased gives its space back.
TYPED_TEST(Store, DeadDataDoesNotStay) {
  for (int i = 0; i < 8000; i++) {
    WriteBatch batch;
    batch.put(fmt::format("{}", i % 10), std::string(200, 'v'));
    this->write(batch);
  }
  EXPECT_LT(this->store_->disk_bytes(), kMiB);
}

}  // namespace
}  // namespace cairn
