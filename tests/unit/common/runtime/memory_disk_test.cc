// What MemoryDisk forgets, and how it fails.
#include "common/runtime/memory_disk.h"

#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace cairn {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

class MemoryDiskTest : public testing::Test {
 protected:
  MemoryDisk disk;

  std::unique_ptr<File> open(const std::string& path, OpenFlags flags = {.create = true}) {
    auto file = disk.open(path, flags);
    EXPECT_TRUE(file) << file.error().message();
    return std::move(*file);
  }
  void put(const std::string& path, std::string_view text, bool sync) {
    auto file = open(path);
    EXPECT_TRUE(file->write(0, bytes_of(text)));
    if (sync) {
      EXPECT_TRUE(file->sync());
      EXPECT_TRUE(disk.sync_folder(path.substr(0, path.rfind('/') + 1)));
    }
  }
  std::string get(const std::string& path) {
    Result<std::string> content = read_file(disk, path);
    return content ? *content : std::string(to_string(content.code()));
  }
};

TEST_F(MemoryDiskTest, CrashDropsBytesThatWereNotSynced) {
  put("/a", "durable", true);
  put("/a", "LOST", false);
  EXPECT_EQ(get("/a"), "LOSTble");
  disk.crash();
  EXPECT_EQ(get("/a"), "durable");
}

TEST_F(MemoryDiskTest, CrashDropsNamesThatWereNotSynced) {
  auto file = open("/a");
  ASSERT_TRUE(file->write(0, bytes_of("text")));
  ASSERT_TRUE(file->sync());
  disk.crash();
  EXPECT_EQ(get("/a"), "not_found");
}

TEST_F(MemoryDiskTest, NameWithoutDataIsAnEmptyFileAfterACrash) {
  put("/a", "text", false);
  ASSERT_TRUE(disk.sync_folder("/"));
  disk.crash();
  EXPECT_EQ(get("/a"), "");
}

TEST_F(MemoryDiskTest, CrashUndoesTruncationHolesAndReservations) {
  put("/a", std::string(10'000, 'x'), true);
  auto file = open("/a");
  ASSERT_TRUE(file->punch_hole(0, 5000));
  ASSERT_TRUE(file->truncate(6000));
  ASSERT_TRUE(file->allocate(0, 50'000, false));
  file.reset();
  disk.crash();
  EXPECT_EQ(get("/a"), std::string(10'000, 'x'));
}

TEST_F(MemoryDiskTest, SyncedTruncationHolesAndReservationsStay) {
  put("/a", std::string(30'000, 'x'), true);
  auto file = open("/a");
  ASSERT_TRUE(file->truncate(9000));
  ASSERT_TRUE(file->write(20'000, bytes_of("y")));
  ASSERT_TRUE(file->truncate(12'000));
  ASSERT_TRUE(file->allocate(15'000, 1000, false));
  ASSERT_TRUE(file->punch_hole(4000, 100));
  std::string before = get("/a");
  ASSERT_TRUE(file->sync());
  file.reset();
  disk.crash();
  EXPECT_EQ(get("/a"), before);
  EXPECT_EQ(before.size(), 16'000u);
}

TEST_F(MemoryDiskTest, RenameIsLostWholly) {
  put("/a", "new", true);
  put("/b", "old", true);
  ASSERT_TRUE(disk.rename("/a", "/b"));
  disk.crash();
  EXPECT_EQ(get("/a"), "new");
  EXPECT_EQ(get("/b"), "old");
}

TEST_F(MemoryDiskTest, RenameBetweenFoldersIsDurableOnceEitherIsSynced) {
  ASSERT_TRUE(disk.make_folder("/x"));
  ASSERT_TRUE(disk.make_folder("/y"));
  ASSERT_TRUE(disk.sync_folder("/"));
  put("/x/a", "text", true);
  ASSERT_TRUE(disk.rename("/x/a", "/y/b"));
  ASSERT_TRUE(disk.sync_folder("/y"));
  disk.crash();
  EXPECT_EQ(get("/x/a"), "not_found");
  EXPECT_EQ(get("/y/b"), "text");
}

TEST_F(MemoryDiskTest, EarlierChangesToTheSameNameAreNotReplayedOverLaterOnes) {
  for (uint64_t seed = 1; seed <= 8; ++seed) {  // some of which keep every change there is
    MemoryDisk other;
    ASSERT_TRUE(other.make_folder("/x") && other.make_folder("/y") && other.sync_folder("/"));
    ASSERT_TRUE(write_file(other, "/y/b", "old"));
    ASSERT_TRUE(write_file(other, "/x/a", "new"));
    ASSERT_TRUE(other.remove("/y/b"));
    ASSERT_TRUE(other.rename("/x/a", "/y/b"));
    ASSERT_TRUE(other.sync_folder("/x"));
    auto random = make_seeded_random(seed);
    other.crash(random.get());
    Result<std::string> content = read_file(other, "/y/b");
    ASSERT_TRUE(content) << "seed " << seed << ": " << content.error().message();
    EXPECT_EQ(*content, "new");
  }
}

TEST_F(MemoryDiskTest, FolderIsLostWithEverythingInItUntilItsParentIsSynced) {
  ASSERT_TRUE(disk.make_folder("/x/y"));
  put("/x/y/a", "text", true);
  disk.crash();
  EXPECT_EQ(disk.exists("/x"), false);
}

TEST_F(MemoryDiskTest, RandomCrashKeepsEachOutcomeOfAWriteNowAndThen) {
  const std::string old_text(8192, 'o');
  const std::string new_text(8192, 'n');
  int all = 0;
  int none = 0;
  int part = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    MemoryDisk other;
    auto file = std::move(*other.open("/a", {.create = true}));
    ASSERT_TRUE(file->write(0, bytes_of(old_text)) && file->sync() && other.sync_folder("/"));
    ASSERT_TRUE(file->write(0, bytes_of(new_text)));
    auto random = make_seeded_random(seed);
    other.crash(random.get());
    std::string text = *read_file(other, "/a");
    ASSERT_EQ(text.size(), 8192u);
    (text == new_text ? all : text == old_text ? none : part) += 1;
    for (size_t sector = 0; sector < 8192; sector += 512) {
      ASSERT_EQ(text.substr(sector, 512), std::string(512, text[sector])) << "a sector is torn";
    }
  }
  EXPECT_GT(all, 5);
  EXPECT_GT(none, 5);
  EXPECT_GT(part, 5);
}

TEST_F(MemoryDiskTest, RandomCrashKeepsEachNameOrNot) {
  std::set<std::string> outcomes;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    MemoryDisk other;
    ASSERT_TRUE(other.open("/a", {.create = true}));
    ASSERT_TRUE(other.open("/b", {.create = true}));
    auto random = make_seeded_random(seed);
    other.crash(random.get());
    std::string names;
    for (const std::string& name : *other.list("/"))
      names += name;
    outcomes.insert(names);
  }
  EXPECT_EQ(outcomes, (std::set<std::string>{"", "a", "b", "ab"}));
}

TEST_F(MemoryDiskTest, SameSeedCrashesTheSameWay) {
  std::vector<std::string> results;
  for (int run = 0; run < 2; ++run) {
    MemoryDisk other;
    auto file = std::move(*other.open("/a", {.create = true}));
    ASSERT_TRUE(other.sync_folder("/"));
    for (int i = 0; i < 50; ++i) {
      ASSERT_TRUE(
          file->write(static_cast<uint64_t>(i) * 1000, bytes_of(std::string(3000, static_cast<char>('a' + i % 26)))));
    }
    auto random = make_seeded_random(99);
    other.crash(random.get());
    results.push_back(*read_file(other, "/a"));
  }
  EXPECT_TRUE(results[0] == results[1]);
}

TEST_F(MemoryDiskTest, OpenFilesAndLocksDoNotSurviveACrash) {
  put("/a", "text", true);
  auto file = open("/a");
  auto lock = disk.lock_folder("/");
  ASSERT_TRUE(lock);
  disk.crash();
  EXPECT_TRUE(file->size().failed_with(ErrorCode::kIo));
  EXPECT_TRUE(file->write(0, bytes_of("x")).failed_with(ErrorCode::kIo));
  auto again = disk.lock_folder("/");
  EXPECT_TRUE(again);
  lock->reset();
  EXPECT_TRUE(disk.lock_folder("/").failed_with(ErrorCode::kBusy));
  file.reset();
  EXPECT_EQ(get("/a"), "text");
}

TEST_F(MemoryDiskTest, FailsAtTheNamedOperationAndAtEverythingAfterIt) {
  put("/a", "text", true);
  uint64_t before = disk.operations();
  put("/b", "text", true);
  EXPECT_EQ(disk.operations() - before, 4u);  // create, write, sync, sync_folder
  disk.fail_after(2);
  auto file = open("/c");
  EXPECT_TRUE(file->write(0, bytes_of("x")));
  EXPECT_TRUE(file->sync().failed_with(ErrorCode::kIo));
  EXPECT_TRUE(disk.failing());
  EXPECT_EQ(get("/a"), "io");
  EXPECT_TRUE(disk.list("/").failed_with(ErrorCode::kIo));
  disk.heal();
  EXPECT_EQ(get("/a"), "text");
  EXPECT_TRUE(file->sync());
}

TEST_F(MemoryDiskTest, FailedOperationMayHaveDoneItsWork) {
  put("/a", "old", true);
  auto file = open("/a");
  ASSERT_TRUE(file->write(0, bytes_of("new")));
  disk.fail_after(0, MemoryDisk::LastOperation::kTakesEffect);
  EXPECT_TRUE(file->sync().failed_with(ErrorCode::kIo));
  disk.crash();
  EXPECT_EQ(get("/a"), "new");
}

TEST_F(MemoryDiskTest, AtomicReplacementSurvivesACrashAtEveryOperation) {
  for (auto last : {MemoryDisk::LastOperation::kHasNoEffect, MemoryDisk::LastOperation::kTakesEffect}) {
    bool finished = false;
    for (uint64_t stop = 0; !finished; ++stop) {
      ASSERT_LT(stop, 20u);
      for (uint64_t seed = 0; seed < 20; ++seed) {
        MemoryDisk other;
        ASSERT_TRUE(write_file(other, "/a", "the old text"));
        other.fail_after(stop, last);
        finished = write_file(other, "/a", "the new one").has_value();
        auto random = make_seeded_random(seed);
        other.crash(seed == 0 ? nullptr : random.get());
        std::string text = *read_file(other, "/a");
        ASSERT_TRUE(text == "the new one" || (!finished && text == "the old text"))
            << stop << " " << seed << " " << text;
      }
    }
  }
}

TEST_F(MemoryDiskTest, FullDiskSaysSoAndFreesWhatIsRemoved) {
  MemoryDisk small(10 * 4096);
  auto file = std::move(*small.open("/a", {.create = true}));
  ASSERT_TRUE(file->write(0, bytes_of(std::string(8 * 4096, 'x'))));
  EXPECT_EQ(small.space("/")->free_bytes, 2u * 4096);
  EXPECT_TRUE(file->write(8 * 4096, bytes_of(std::string(3 * 4096, 'y'))).failed_with(ErrorCode::kNoSpace));
  EXPECT_TRUE(file->allocate(0, 11 * 4096, true).failed_with(ErrorCode::kNoSpace));
  EXPECT_EQ(file->size(), 8u * 4096);
  EXPECT_TRUE(file->write(0, bytes_of(std::string(4096, 'z'))));  // already allocated
  ASSERT_TRUE(file->punch_hole(0, 4 * 4096));
  EXPECT_EQ(small.space("/")->free_bytes, 6u * 4096);
  ASSERT_TRUE(small.remove("/a"));
  EXPECT_EQ(small.space("/")->free_bytes, 6u * 4096);  // still open
  file.reset();
  EXPECT_EQ(small.space("/")->free_bytes, 10u * 4096);
  small.set_capacity(0);
  auto other = std::move(*small.open("/b", {.create = true}));
  EXPECT_TRUE(other->write(0, bytes_of("x")).failed_with(ErrorCode::kNoSpace));
}

TEST_F(MemoryDiskTest, CrashCountsSpaceAgain) {
  MemoryDisk small(10 * 4096);
  auto file = std::move(*small.open("/a", {.create = true}));
  ASSERT_TRUE(small.sync_folder("/"));
  ASSERT_TRUE(file->write(0, bytes_of(std::string(4096, 'x'))) && file->sync());
  ASSERT_TRUE(file->write(4096, bytes_of(std::string(4 * 4096, 'x'))));
  ASSERT_TRUE(small.link("/a", "/b") && small.sync_folder("/"));
  small.crash();
  EXPECT_EQ(small.space("/")->free_bytes, 9u * 4096);
  ASSERT_TRUE(small.remove("/a") && small.remove("/b"));
  EXPECT_EQ(small.space("/")->free_bytes, 10u * 4096);
}

TEST_F(MemoryDiskTest, FlippedByteStaysFlipped) {
  put("/a", "text", true);
  put("/a", "TE", false);
  ASSERT_TRUE(disk.flip_byte("/a", 3));
  EXPECT_NE(get("/a"), "TExt");
  disk.crash();
  EXPECT_EQ(get("/a").substr(0, 3), "tex");
  EXPECT_NE(get("/a")[3], 't');
  EXPECT_TRUE(disk.flip_byte("/a", 4).failed_with(ErrorCode::kRange));
  EXPECT_TRUE(disk.flip_byte("/b", 0).failed_with(ErrorCode::kNotFound));
}

TEST_F(MemoryDiskTest, NothingCachedMakesCachedReadsSayAgain) {
  put("/a", "text", true);
  auto file = open("/a");
  std::string text(4, '?');
  EXPECT_EQ(file->read_cached(0, std::as_writable_bytes(std::span(text))), 4u);
  disk.set_nothing_cached(true);
  EXPECT_TRUE(file->read_cached(0, std::as_writable_bytes(std::span(text))).failed_with(ErrorCode::kAgain));
  EXPECT_EQ(file->read(0, std::as_writable_bytes(std::span(text))), 4u);
}

TEST_F(MemoryDiskTest, CostsAndCountsWhatIsDone) {
  disk.set_speed({.operation = 10us, .sync = 1ms, .bytes_per_second = 1'000'000});
  put("/a", std::string(1000, 'x'), true);
  EXPECT_EQ(disk.take_cost(), 4 * 10us + 2 * 1ms + 1ms);
  EXPECT_EQ(disk.take_cost(), Duration::zero());
  DiskCounters counters = disk.counters();
  EXPECT_EQ(counters.writes, 1u);
  EXPECT_EQ(counters.bytes_written, 1000u);
  EXPECT_EQ(counters.syncs, 2u);
  EXPECT_EQ(counters.name_changes, 1u);
}

// A file that only keeps its bytes, to compare with.
TEST_F(MemoryDiskTest, RandomOperationsAgreeWithAPlainModel) {
  auto random = make_seeded_random(7);
  std::string model;
  std::string durable;
  auto file = open("/a");
  ASSERT_TRUE(disk.sync_folder("/"));
  for (int i = 0; i < 3000; ++i) {
    uint64_t offset = random->below(30'000);
    uint64_t size = random->below(9000);
    switch (random->below(7)) {
      case 0:
      case 1: {
        std::string text(size, static_cast<char>('a' + i % 26));
        ASSERT_TRUE(file->write(offset, bytes_of(text)));
        if (size > 0 && model.size() < offset + size) model.resize(offset + size);
        model.replace(offset, size, text);
        break;
      }
      case 2:
        ASSERT_TRUE(file->truncate(offset));
        model.resize(offset);
        break;
      case 3:
        ASSERT_TRUE(file->punch_hole(offset, size));
        for (uint64_t at = offset; at < std::min<uint64_t>(offset + size, model.size()); ++at)
          model[at] = '\0';
        break;
      case 4:
        ASSERT_TRUE(file->allocate(offset, size, false));
        if (size > 0 && model.size() < offset + size) model.resize(offset + size);
        break;
      case 5:
        ASSERT_TRUE(file->sync());
        durable = model;
        break;
      case 6:
        if (!random->chance(1, 4)) break;
        file.reset();
        disk.crash();
        file = open("/a");
        model = durable;
        break;
    }
    ASSERT_EQ(get("/a"), model) << "after operation " << i;
  }
}

}  // namespace
}  // namespace cairn
