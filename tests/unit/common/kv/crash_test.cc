// What survives a power cut, on both stores: the disk stops at each of its operations in turn and loses what was not
// synced, all of it or a random part. Batches then survive as a prefix, at least up to the last one that was
// acknowledged as synced.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <map>
#include <vector>

#include "common/base/random.h"
#include "common/runtime/memory_disk.h"
#include "tests/unit/common/kv/stores.h"

namespace cairn {
namespace {

using Model = std::map<std::string, std::string>;

constexpr int kBatches = 330;  // some switches of LevelDB's log and a merge of its tables

// Batch i of the workload; "last" names it.
WriteBatch batch_of(int i) {
  WriteBatch batch;
  batch.put("last", std::to_string(i));
  batch.put(fmt::format("key{:03}", i * 7 % 50), std::string(1000, static_cast<char>('a' + i % 26)));
  if (i % 3 == 0) batch.erase(fmt::format("key{:03}", i * 5 % 50));
  return batch;
}
bool is_synced(int i) {
  return i % 11 == 10;
}

void apply_to(Model& model, const WriteBatch& batch) {
  for (const auto& change : batch.changes()) {
    if (change.value) {
      model[std::string(change.key)] = *change.value;
    } else {
      model.erase(std::string(change.key));
    }
  }
}

Model contents(const KvStore& store) {
  Model all;
  auto it = store.iterate();
  for (it->seek(""); it->valid(); it->next())
    all.emplace(it->key(), it->value());
  EXPECT_TRUE(it->status().has_value());
  return all;
}

// What a store holds after batch `end`, -1 for none.
const Model& model_after(int end) {
  static std::vector<Model> models(1);
  while (models.size() < static_cast<size_t>(end + 2)) {
    Model next = models.back();
    apply_to(next, batch_of(static_cast<int>(models.size()) - 1));
    models.push_back(std::move(next));
  }
  return models[static_cast<size_t>(end + 1)];
}

// The number of the last batch that the store holds, -1 if none; fails unless it holds exactly the batches up to it.
int prefix_of(const KvStore& store) {
  Result<std::string> last = store.get("last");
  int end = last ? std::stoi(*last) : -1;
  EXPECT_EQ(contents(store), model_after(end)) << "up to batch " << end;
  return end;
}

template <class Kind>
class Crash : public testing::Test {
 protected:
  // Goes on from batch `from` until the disk fails or all are written.
  struct Progress {
    int acknowledged = -1;
    int synced = -1;
    int attempted = -1;
  };
  static Progress run(KvStore& store, int from, int to) {
    Progress progress{.acknowledged = from - 1, .synced = -1, .attempted = from - 1};
    for (int i = from; i < to; i++) {
      progress.attempted = i;
      if (!store.write(batch_of(i), is_synced(i)).has_value()) break;
      progress.acknowledged = i;
      if (is_synced(i)) progress.synced = i;
    }
    return progress;
  }

  // A process that stops in the middle: from now on nothing of it reaches the disk.
  static void kill(MemoryDisk& disk, std::unique_ptr<KvStore> store) {
    disk.fail_after(0);
    store.reset();
  }

  static std::unique_ptr<KvStore> open(MemoryDisk& disk, const std::string& folder = "data/store") {
    auto opened = Kind::open(disk, folder);
    if (opened) return std::move(*opened);
    ADD_FAILURE() << opened.error().message();
    return nullptr;
  }

  static uint64_t operations_of_a_whole_run() {
    MemoryDisk disk;
    auto store = open(disk);
    run(*store, 0, kBatches);
    return disk.operations();
  }

  static void stop_at_every_operation(bool lose_all, MemoryDisk::LastOperation last) {
    uint64_t operations = operations_of_a_whole_run();
    ASSERT_GT(operations, static_cast<uint64_t>(kBatches));
    auto random = make_seeded_random(lose_all ? 1 : 2);
    for (uint64_t stop = 0; stop < operations; stop++) {
      SCOPED_TRACE(fmt::format("stopped at operation {} of {}", stop, operations));
      MemoryDisk disk;
      disk.fail_after(stop, last);
      Progress progress;
      if (auto opened = Kind::open(disk, "data/store")) {
        progress = run(**opened, 0, kBatches);
        kill(disk, std::move(*opened));
      }
      disk.crash(lose_all ? nullptr : random.get());

      auto store = open(disk);
      ASSERT_NE(store, nullptr);
      int end = prefix_of(*store);
      ASSERT_GE(end, progress.synced);
      ASSERT_LE(end, progress.attempted);
      // What was recovered is as good as what was written: it goes on from there.
      Progress further = run(*store, end + 1, end + 20);
      ASSERT_EQ(further.acknowledged, end + 19);
      kill(disk, std::move(store));
      disk.crash();
      store = open(disk);
      ASSERT_NE(store, nullptr);
      int end_again = prefix_of(*store);
      ASSERT_GE(end_again, further.synced);
      ASSERT_LE(end_again, further.attempted);
      if (testing::Test::HasFailure()) return;
    }
  }
};

using Kinds = testing::Types<MemoryKind, LevelDbKind>;
TYPED_TEST_SUITE(Crash, Kinds, KindNames);

TYPED_TEST(Crash, WhereverItStopsAPrefixSurvivesThatHasAllSyncedBatches) {
  this->stop_at_every_operation(true, MemoryDisk::LastOperation::kHasNoEffect);
}

TYPED_TEST(Crash, ThePrefixHoldsWhenARandomPartOfTheUnsyncedSurvives) {
  this->stop_at_every_operation(false, MemoryDisk::LastOperation::kTakesEffect);
}

// Crashes upon crashes, also while the store is being opened, and with random parts kept.
TYPED_TEST(Crash, ARowOfCrashesNeverTakesBackWhatWasSynced) {
  for (uint64_t seed = 0; seed < 60; seed++) {
    SCOPED_TRACE(fmt::format("seed {}", seed));
    auto random = make_seeded_random(seed);
    MemoryDisk disk;
    int synced = -1;
    int attempted = -1;
    for (int life = 0; life < 6; life++) {
      auto last =
          random->chance(1, 2) ? MemoryDisk::LastOperation::kHasNoEffect : MemoryDisk::LastOperation::kTakesEffect;
      if (random->chance(1, 2)) {
        disk.fail_after(random->below(30), last);
        if (auto opened = TypeParam::open(disk, "data/store")) this->kill(disk, std::move(*opened));
      } else {
        auto store = this->open(disk);
        ASSERT_NE(store, nullptr);
        int end = prefix_of(*store);
        ASSERT_GE(end, synced);
        ASSERT_LE(end, attempted);
        disk.fail_after(random->below(400), last);
        auto progress = this->run(*store, end + 1, end + 200);
        synced = std::max(synced, progress.synced);
        attempted = progress.attempted;
        this->kill(disk, std::move(store));
      }
      disk.crash(random->chance(1, 3) ? nullptr : random.get());
    }
    auto store = this->open(disk);
    ASSERT_NE(store, nullptr);
    int end = prefix_of(*store);
    ASSERT_GE(end, synced);
    ASSERT_LE(end, attempted);
  }
}

// Without a power cut (the process died) everything that was acknowledged is there, synced or not.
TYPED_TEST(Crash, AProcessThatDiesLosesNothing) {
  for (int count : {1, 50, 200, 330}) {
    MemoryDisk disk;
    auto store = this->open(disk);
    this->run(*store, 0, count);
    this->kill(disk, std::move(store));
    disk.heal();
    store = this->open(disk);
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(prefix_of(*store), count - 1);
  }
}

// A checkpoint is there once it was reported; it is there whole or not at all; its source is unharmed.
TYPED_TEST(Crash, ACheckpointIsWholeOrNotThere) {
  int whole = 0;
  int missing = 0;
  bool all_done = false;
  for (uint64_t stop = 0; !all_done; stop++) {
    ASSERT_LT(stop, 1000u);
    for (uint64_t seed = 0; seed < 16; seed++) {
      SCOPED_TRACE(fmt::format("stopped at operation {}, seed {}", stop, seed));
      const int count = seed % 2 == 0 ? 31 : 199;  // in the log only; in tables too
      auto random = make_seeded_random(seed);
      MemoryDisk disk;
      auto store = this->open(disk);
      auto progress = this->run(*store, 0, count);
      disk.fail_after(stop);
      bool made = store->checkpoint("data/checkpoints/1", {}).has_value();
      this->kill(disk, std::move(store));
      disk.crash(seed == 0 ? nullptr : random.get());

      bool there = disk.exists(fmt::format("data/checkpoints/1/{}", TypeParam::kLastFile)).value();
      if (made) ASSERT_TRUE(there);
      if (there) {
        auto checkpoint = this->open(disk, "data/checkpoints/1");
        ASSERT_NE(checkpoint, nullptr);
        ASSERT_EQ(prefix_of(*checkpoint), count - 1);
        whole++;
      } else {
        missing++;
      }
      store = this->open(disk);
      ASSERT_NE(store, nullptr);
      ASSERT_GE(prefix_of(*store), progress.synced);
      all_done = made;
    }
  }
  EXPECT_GT(whole, 0);
  EXPECT_GT(missing, 0);
}

// A full disk refuses batches whole; what was there stays readable, and with space again all goes on.
TYPED_TEST(Crash, AFullDiskRefusesBatchesAndNothingElse) {
  // Full in the middle of a log, of a table, of a merge.
  for (uint64_t capacity_kib : {40, 41, 42, 75, 100, 150, 300, 600}) {
    SCOPED_TRACE(fmt::format("{} KiB", capacity_kib));
    MemoryDisk disk(capacity_kib * kKiB);
    auto store = this->open(disk);
    ASSERT_NE(store, nullptr);
    Model model;
    Result<void> written;
    for (int i = 0; i < 2000 && written; i++) {
      WriteBatch batch;
      batch.put(fmt::format("{:05}", i), std::string(700, 'v'));
      written = store->write(batch, i % 7 == 0);
      if (written) apply_to(model, batch);
    }
    ASSERT_TRUE(written.failed_with(ErrorCode::kNoSpace));
    EXPECT_EQ(contents(*store), model);
    disk.set_capacity(64 * kMiB);
    for (int n = 0; n < 300; n++) {
      WriteBatch batch;
      batch.put(fmt::format("{:05}", n), "after");
      written = store->write(batch, true);
      ASSERT_TRUE(written.has_value()) << written.error().message();
      apply_to(model, batch);
    }
    EXPECT_EQ(contents(*store), model);
    this->kill(disk, std::move(store));
    disk.crash();
    store = this->open(disk);
    ASSERT_NE(store, nullptr);
    EXPECT_EQ(contents(*store), model);
  }
}

}  // namespace
}  // namespace cairn
