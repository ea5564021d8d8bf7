// The Env by itself, without LevelDB around it: its rules one by one, and its threads under ThreadSanitizer.
#include "common/kv/leveldb_env.h"

#include <atomic>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <thread>

#include "common/base/units.h"
#include "common/runtime/memory_disk.h"

namespace cairn {
namespace {

using testing::ElementsAre;

class LevelDbEnvTest : public testing::Test {
 protected:
  LevelDbEnvTest() {
    (void)disk_.make_folder("db");
    (void)disk_.sync_folder("");
  }

  std::unique_ptr<leveldb::WritableFile> make(const std::string& name) {
    leveldb::WritableFile* file = nullptr;
    leveldb::Status status = env_.NewWritableFile("db/" + name, &file);
    EXPECT_TRUE(status.ok()) << status.ToString();
    return std::unique_ptr<leveldb::WritableFile>(file);
  }
  bool there(const std::string& name) { return disk_.exists("db/" + name).value(); }
  std::string content(const std::string& name) { return read_file(disk_, "db/" + name).value(); }

  MemoryDisk disk_;
  LevelDbEnv env_{disk_, "db", 0};
};

TEST_F(LevelDbEnvTest, ALogIsOnDiskWhenItIsClosedOrDropped) {
  auto log = make("000003.log");
  ASSERT_TRUE(log->Append("one").ok());
  ASSERT_TRUE(log->Flush().ok());
  log.reset();
  disk_.crash();
  EXPECT_EQ(content("000003.log"), "one");
}

TEST_F(LevelDbEnvTest, ASyncedLogHasItsName) {
  auto log = make("000003.log");
  ASSERT_TRUE(log->Append("one").ok());
  ASSERT_TRUE(log->Sync().ok());
  disk_.crash();
  EXPECT_EQ(content("000003.log"), "one");
}

TEST_F(LevelDbEnvTest, TablesHaveTheirNamesBeforeAnythingIsWrittenToAManifest) {
  auto manifest = make("MANIFEST-000002");
  auto table = make("000005.ldb");
  ASSERT_TRUE(table->Append("data").ok());
  ASSERT_TRUE(table->Sync().ok());
  ASSERT_TRUE(table->Close().ok());
  ASSERT_TRUE(manifest->Append("names 5").ok());
  ASSERT_TRUE(manifest->Flush().ok());  // written, not synced: it may survive all the same
  disk_.crash();
  EXPECT_EQ(content("000005.ldb"), "data");
}

TEST_F(LevelDbEnvTest, ARenameIsDurable) {
  auto file = make("000001.dbtmp");
  ASSERT_TRUE(file->Append("MANIFEST-000002\n").ok());
  ASSERT_TRUE(file->Sync().ok());
  ASSERT_TRUE(env_.RenameFile("db/000001.dbtmp", "db/CURRENT").ok());
  disk_.crash();
  EXPECT_EQ(content("CURRENT"), "MANIFEST-000002\n");
}

TEST_F(LevelDbEnvTest, AFileIsMadeAnewNotTruncated) {
  auto table = make("000005.ldb");
  ASSERT_TRUE(table->Append("linked").ok());
  ASSERT_TRUE(table->Close().ok());
  ASSERT_TRUE(disk_.link("db/000005.ldb", "db/checkpoint.ldb").has_value());
  auto again = make("000005.ldb");
  ASSERT_TRUE(again->Append("new").ok());
  ASSERT_TRUE(again->Close().ok());
  EXPECT_EQ(content("000005.ldb"), "new");
  EXPECT_EQ(content("checkpoint.ldb"), "linked");
}

TEST_F(LevelDbEnvTest, FrozenItKeepsEverythingAndNamesWhatIsFinished) {
  auto log = make("000003.log");
  ASSERT_TRUE(log->Append("12345").ok());
  ASSERT_TRUE(log->Flush().ok());
  auto manifest = make("MANIFEST-000002");
  auto done = make("000004.ldb");
  ASSERT_TRUE(done->Close().ok());
  auto writing = make("000005.ldb");

  auto frozen = env_.freeze();
  ASSERT_TRUE(frozen.has_value());
  ASSERT_TRUE(log->Append("678").ok());
  ASSERT_TRUE(log->Flush().ok());
  EXPECT_THAT(frozen->tables, ElementsAre("000004.ldb"));
  EXPECT_THAT(frozen->copies, ElementsAre(std::pair("000003.log", 5u), std::pair("MANIFEST-000002", 0u)));
  ASSERT_TRUE(env_.RemoveFile("db/000004.ldb").ok());
  EXPECT_TRUE(there("000004.ldb"));
  env_.thaw();
  EXPECT_FALSE(there("000004.ldb"));
}

TEST_F(LevelDbEnvTest, AfterASyncFailedNothingIsBelieved) {
  auto log = make("000003.log");
  ASSERT_TRUE(log->Append("one").ok());
  ASSERT_TRUE(log->Flush().ok());
  disk_.fail_after(0);
  EXPECT_FALSE(log->Sync().ok());
  disk_.heal();
  EXPECT_FALSE(log->Sync().ok());
  EXPECT_TRUE(env_.failure().has_value());
  leveldb::WritableFile* file = nullptr;
  EXPECT_FALSE(env_.NewWritableFile("db/000007.log", &file).ok());
  EXPECT_TRUE(env_.reserve_log(1).failed_with(ErrorCode::kIo));
}

TEST_F(LevelDbEnvTest, SpaceIsTakenBeforeTheLogIsWritten) {
  MemoryDisk small(40 * kKiB);
  ASSERT_TRUE(small.make_folder("db").has_value());
  LevelDbEnv env(small, "db", 16 * kKiB);
  leveldb::WritableFile* file = nullptr;
  ASSERT_TRUE(env.NewWritableFile("db/000003.log", &file).ok());
  std::unique_ptr<leveldb::WritableFile> log(file);
  int taken = 0;
  Result<void> reserved;
  while (true) {
    reserved = env.reserve_log(1000);
    if (!reserved) break;
    ASSERT_TRUE(log->Append(std::string(1000, 'x')).ok());
    ASSERT_TRUE(log->Flush().ok());
    taken++;
  }
  EXPECT_EQ(reserved.code(), ErrorCode::kNoSpace);
  EXPECT_GE(taken, 30);
  EXPECT_FALSE(env.failure().has_value());
}

TEST_F(LevelDbEnvTest, CodesTravelThroughStatus) {
  for (auto code : {ErrorCode::kNoSpace, ErrorCode::kNotFound, ErrorCode::kCorrupt, ErrorCode::kBusy}) {
    Error back = to_error(to_status(Error(code, "some file")));
    EXPECT_EQ(back.code, code);
    EXPECT_EQ(back.context, "some file");
  }
  EXPECT_EQ(to_error(leveldb::Status::Corruption("bad block")).code, ErrorCode::kCorrupt);
}

// A writer, LevelDB's background thread and a checkpoint, as they meet in a store.
TEST_F(LevelDbEnvTest, ThreadsMeetInIt) {
  constexpr int kRounds = 300;
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    for (int i = 0; i < kRounds; i++) {
      auto log = make(fmt::format("{:06}.log", 2 * i));
      for (int n = 0; n < 5; n++) {
        ASSERT_TRUE(env_.reserve_log(100).has_value());
        ASSERT_TRUE(log->Append(std::string(100, 'l')).ok());
        ASSERT_TRUE(n % 2 ? log->Sync().ok() : log->Flush().ok());
      }
    }
  });
  std::thread background([&] {
    auto manifest = make("MANIFEST-999999");
    for (int i = 0; i < kRounds; i++) {
      std::string name = fmt::format("{:06}.ldb", 2 * i + 1);
      auto table = make(name);
      ASSERT_TRUE(table->Append("table").ok());
      ASSERT_TRUE(table->Sync().ok());
      ASSERT_TRUE(table->Close().ok());
      ASSERT_TRUE(manifest->Append("record").ok());
      ASSERT_TRUE(manifest->Sync().ok());
      if (i >= 5) ASSERT_TRUE(env_.RemoveFile(fmt::format("db/{:06}.ldb", 2 * (i - 5) + 1)).ok());
    }
    stop = true;
  });
  int checkpoints = 0;
  while (!stop) {
    auto frozen = env_.freeze();
    ASSERT_TRUE(frozen.has_value());
    for (const std::string& table : frozen->tables)
      EXPECT_EQ(content(table), "table");
    for (const auto& [name, size] : frozen->copies)
      EXPECT_GE(content(name).size(), size);
    env_.thaw();
    checkpoints++;
  }
  writer.join();
  background.join();
  EXPECT_GT(checkpoints, 0);
}

}  // namespace
}  // namespace cairn
