// What is damaged on disk is refused or reported, never read as something else.
#include <algorithm>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/bytes.h"
#include "common/base/crc32c.h"
#include "common/base/random.h"
#include "common/kv/leveldb_log.h"
#include "common/runtime/memory_disk.h"
#include "tests/unit/common/kv/stores.h"

namespace cairn {
namespace {

using testing::HasSubstr;

// As LevelDB's log_writer.cc does it.
void append_record(std::string& log, std::string_view data) {
  bool first = true;
  do {
    size_t left = 32768 - log.size() % 32768;
    if (left < 7) {
      log.append(left, '\0');
      left = 32768;
    }
    std::string_view piece = data.substr(0, left - 7);
    data.remove_prefix(piece.size());
    char type = static_cast<char>(first ? (data.empty() ? 1 : 2) : (data.empty() ? 4 : 3));
    uint32_t crc = crc32c(std::string(1, type) + std::string(piece));
    ByteWriter header;
    header.u32(((crc >> 15) | (crc << 17)) + 0xa282ead8u);
    header.u16(static_cast<uint16_t>(piece.size()));
    header.u8(static_cast<uint8_t>(type));
    log += header.str();
    log += piece;
    first = false;
  } while (!data.empty());
}

TEST(LevelDbLog, IsWholeUpToItsEnd) {
  std::string log;
  EXPECT_EQ(scan_leveldb_log(log).end, 0u);
  for (size_t size : {10ul, 0ul, 32768ul, 100000ul, 32700ul, 20ul})
    append_record(log, std::string(size, 'x'));
  LogScan scan = scan_leveldb_log(log);
  EXPECT_EQ(scan.end, log.size());
  EXPECT_EQ(scan.records, 6u);
  EXPECT_FALSE(scan.damaged);
}

TEST(LevelDbLog, ZerosBehindTheEndAreNoDamage) {
  std::string log;
  append_record(log, "abc");
  size_t end = log.size();
  log.append(100000, '\0');
  LogScan scan = scan_leveldb_log(log);
  EXPECT_EQ(scan.end, end);
  EXPECT_FALSE(scan.damaged);
}

TEST(LevelDbLog, EndsBeforeTheFirstDamageWhereverItIs) {
  std::string log;
  std::vector<size_t> ends = {0};
  auto random = make_seeded_random(9);
  for (int i = 0; i < 40; i++) {
    append_record(log, std::string(random->below(5000), static_cast<char>('a' + i % 26)));
    ends.push_back(log.size());
  }
  for (int round = 0; round < 300; round++) {
    std::string bad = log;
    size_t at = random->below(bad.size());
    bad[at] = static_cast<char>(bad[at] ^ (1 << random->below(8)));
    size_t expected = *(std::ranges::upper_bound(ends, at) - 1);
    LogScan scan = scan_leveldb_log(bad);
    // The padding at the end of a block is not looked at.
    if (scan.end == bad.size()) continue;
    ASSERT_EQ(scan.end, expected) << at;
    ASSERT_TRUE(scan.damaged);
    size_t cut = random->below(log.size());
    ASSERT_EQ(scan_leveldb_log(std::string_view(log).substr(0, cut)).end, *(std::ranges::upper_bound(ends, cut) - 1));
  }
}

TEST(LevelDbLog, RandomBytesAreNoRecords) {
  auto random = make_seeded_random(10);
  for (int round = 0; round < 200; round++) {
    std::string text(random->below(70000), '\0');
    for (char& c : text)
      c = static_cast<char>(random->next_u64());
    EXPECT_EQ(scan_leveldb_log(text).records, 0u);
  }
}

class Damage : public testing::Test {
 protected:
  void fill(int from, int to) {
    auto store = LevelDbKind::open(disk_, "db");
    ASSERT_TRUE(store.has_value()) << store.error().message();
    for (int i = from; i < to; i++) {
      WriteBatch batch;
      batch.put(fmt::format("{:05}", i), std::string(500, 'v'));
      ASSERT_TRUE((*store)->write(batch, false).has_value());
    }
  }
  std::vector<std::string> files(std::string_view ending) {
    std::vector<std::string> found;
    auto names = disk_.list("db");
    if (!names) return found;
    for (const std::string& name : *names) {
      if (name.find(ending) != std::string::npos) found.push_back("db/" + name);
    }
    return found;
  }
  MemoryDisk disk_;
};

TEST_F(Damage, AStoreWithoutCurrentIsRefused) {
  fill(0, 10);
  ASSERT_TRUE(disk_.remove("db/CURRENT").has_value());
  auto store = LevelDbKind::open(disk_, "db");
  ASSERT_TRUE(store.failed_with(ErrorCode::kCorrupt));
  EXPECT_THAT(store.error().context, HasSubstr("CURRENT"));
}

TEST_F(Damage, AManifestThatIsDamagedBeforeItsEndIsRefused) {
  fill(0, 500);
  fill(500, 1000);
  auto manifests = files("MANIFEST-");
  ASSERT_EQ(manifests.size(), 1u);
  ASSERT_TRUE(disk_.flip_byte(manifests[0], 10).has_value());
  EXPECT_TRUE(LevelDbKind::open(disk_, "db").failed_with(ErrorCode::kCorrupt));
}

TEST_F(Damage, AMissingManifestOrTableIsRefused) {
  fill(0, 1000);
  fill(1000, 1001);
  auto tables = files(".ldb");
  ASSERT_FALSE(tables.empty());
  ASSERT_TRUE(disk_.remove(tables[0]).has_value());
  EXPECT_TRUE(LevelDbKind::open(disk_, "db").failed_with(ErrorCode::kCorrupt));
  ASSERT_TRUE(disk_.remove(files("MANIFEST-")[0]).has_value());
  EXPECT_TRUE(LevelDbKind::open(disk_, "db").failed_with(ErrorCode::kCorrupt));
}

TEST_F(Damage, ALogThatIsDamagedThoughALaterOneFollowsIsRefused) {
  fill(0, 20);
  auto logs = files(".log");
  ASSERT_EQ(logs.size(), 1u);
  // The log of a later life, beside the one of this.
  Result<std::string> content = read_file(disk_, logs[0]);
  ASSERT_TRUE(content.has_value());
  ASSERT_TRUE(write_file(disk_, "db/999999.log", *content).has_value());
  ASSERT_TRUE(disk_.flip_byte(logs[0], 300).has_value());
  auto store = LevelDbKind::open(disk_, "db");
  ASSERT_TRUE(store.failed_with(ErrorCode::kCorrupt));
  EXPECT_THAT(store.error().context, HasSubstr("999999.log follows"));
}

TEST_F(Damage, ATornLogIsCutAndItsBeginningKept) {
  fill(0, 20);
  auto logs = files(".log");
  ASSERT_EQ(logs.size(), 1u);
  ASSERT_TRUE(disk_.flip_byte(logs[0], 5200).has_value());  // in the tenth of records of some 540 bytes
  auto store = LevelDbKind::open(disk_, "db");
  ASSERT_TRUE(store.has_value()) << store.error().message();
  EXPECT_TRUE((*store)->get("00008").has_value());
  EXPECT_TRUE((*store)->get("00009").failed_with(ErrorCode::kNotFound));
  EXPECT_TRUE((*store)->get("00019").failed_with(ErrorCode::kNotFound));
}

TEST_F(Damage, AFlippedByteInATableIsReportedNotRead) {
  fill(0, 2000);
  fill(2000, 2001);
  auto tables = files(".ldb");
  ASSERT_FALSE(tables.empty());
  for (const std::string& table : tables)
    ASSERT_TRUE(disk_.flip_byte(table, 700).has_value());
  auto store = LevelDbKind::open(disk_, "db");
  ASSERT_TRUE(store.has_value()) << store.error().message();
  int corrupt = 0;
  for (int i = 0; i < 2000; i++) {
    Result<std::string> got = (*store)->get(fmt::format("{:05}", i));
    if (got) {
      EXPECT_EQ(*got, std::string(500, 'v'));
    } else {
      EXPECT_EQ(got.code(), ErrorCode::kCorrupt) << got.error().message();
      corrupt++;
    }
  }
  EXPECT_GT(corrupt, 0);
  auto it = (*store)->iterate();
  int seen = 0;
  for (it->seek(""); it->valid(); it->next())
    seen++;
  EXPECT_TRUE(it->status().failed_with(ErrorCode::kCorrupt));
  EXPECT_LT(seen, 2001);
}

TEST(Journal, AFileThatIsNoJournalIsRefused) {
  MemoryDisk disk;
  ASSERT_TRUE(disk.make_folder("db").has_value());
  ASSERT_TRUE(write_file(disk, "db/journal", "something else").has_value());
  EXPECT_TRUE(MemoryKind::open(disk, "db").failed_with(ErrorCode::kCorrupt));
  EXPECT_EQ(read_file(disk, "db/journal").value(), "something else");
}

// Whatever bytes a crash leaves behind the last whole record: they are cut, and whole records in them do not come back,
// though the next crash keeps what it likes.
TEST(Journal, WhatIsCutOffDoesNotComeBack) {
  auto put = [](KvStore& store, std::string_view key, bool sync) {
    WriteBatch batch;
    batch.put(key, "12345678");
    ASSERT_TRUE(store.write(batch, sync).has_value());
  };
  for (uint64_t seed = 0; seed < 64; seed++) {
    auto random = make_seeded_random(seed);
    MemoryDisk disk;
    {
      auto store = MemoryKind::open(disk, "db");
      ASSERT_TRUE(store.has_value());
      for (auto* key : {"a", "b", "c"})
        put(**store, key, true);
    }
    // Records of one size: were "c" only overlooked, it would follow on the new second record.
    uint64_t size = disk.file_size("db/journal").value();
    uint64_t record = (size - 8) / 3;
    ASSERT_TRUE(disk.flip_byte("db/journal", 8 + record + 12).has_value());
    {
      auto store = MemoryKind::open(disk, "db");
      ASSERT_TRUE(store.has_value());
      EXPECT_TRUE((*store)->get("a").has_value());
      EXPECT_FALSE((*store)->get("b").has_value());
      put(**store, "d", seed % 2 == 0);
      disk.crash(seed < 2 ? nullptr : random.get());
    }
    auto store = MemoryKind::open(disk, "db");
    ASSERT_TRUE(store.has_value());
    if (seed % 2 == 0) EXPECT_TRUE((*store)->get("d").has_value());
    EXPECT_FALSE((*store)->get("c").has_value());
  }
}

TEST(Status, OurCodesSurviveTheWayThroughLevelDb) {
  MemoryDisk disk(200 * kKiB);
  auto store = LevelDbKind::open(disk, "db");
  ASSERT_TRUE(store.has_value());
  Result<void> written;
  for (int i = 0; i < 1000 && written; i++) {
    WriteBatch batch;
    batch.put(std::to_string(i), std::string(1000, 'x'));
    written = (*store)->write(batch, false);
  }
  EXPECT_TRUE(written.failed_with(ErrorCode::kNoSpace));
}

}  // namespace
}  // namespace cairn
