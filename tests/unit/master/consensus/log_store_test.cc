#include "master/consensus/log_store.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <memory>
#include <stdlib.h>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/base/random.h"
#include "common/base/units.h"
#include "common/runtime/memory_disk.h"
#include "common/runtime/posix_disk.h"
#include "tests/unit/master/consensus/log_model.h"

namespace cairn {
namespace {

constexpr uint64_t kSmallSegment = 16 * kKiB;

LogStoreOptions options_in(const std::string& folder, uint64_t segment_size = kSmallSegment) {
  return {.folder = folder, .cluster = ClusterId{7}, .master = MasterId{9}, .segment_size_bytes = segment_size};
}

std::string payload_of(uint64_t index, size_t size) {
  std::string text = "entry " + std::to_string(index) + " ";
  while (text.size() < size)
    text += text;
  text.resize(size);
  return text;
}

OwnedRecord entry(uint64_t index, uint64_t term = 1, size_t size = 100) {
  return {.index = index, .term = term, .payload = payload_of(index * 1000 + term, size)};
}

// A store with its model beside it.
struct Log {
  Disk& disk;
  LogStoreOptions options;
  std::unique_ptr<LogStore> store;
  RecoveredLog recovered;
  LogModel model;

  Log(Disk& disk_in, LogStoreOptions options_in) : disk(disk_in), options(std::move(options_in)) {}

  Result<void> open() {
    store.reset();
    Result<std::unique_ptr<LogStore>> opened = LogStore::open(disk, options, recovered);
    if (!opened) return opened.error();
    store = std::move(*opened);
    return {};
  }
  Result<void> append(const std::vector<OwnedRecord>& records) {
    std::vector<Record> views;
    for (const OwnedRecord& record : records)
      views.push_back(record.view());
    Result<void> appended = store->append(views);
    if (!appended) return appended;
    for (const OwnedRecord& record : records)
      model.take(record);
    recovered.term = model.term;
    recovered.voted_for = model.voted_for;
    return {};
  }
  void expect_equal() {
    Result<LogModel> found = contents(*store, recovered);
    ASSERT_TRUE(found) << found.error().message();
    LogModel expected = model;
    expected.begin_at(found->first);
    EXPECT_EQ(found->first, expected.first);
    EXPECT_EQ(found->entries.size(), expected.entries.size());
    EXPECT_TRUE(*found == expected);
  }
};

struct TestDisk {
  std::unique_ptr<Disk> disk;
  std::string folder;
  bool on_real_files = false;
  ~TestDisk() {
    if (on_real_files) std::filesystem::remove_all(folder);
  }
};

std::unique_ptr<TestDisk> make_posix() {
  std::string folder = std::filesystem::current_path() / "cairn-log-XXXXXX";
  if (!::mkdtemp(folder.data())) return nullptr;
  return std::unique_ptr<TestDisk>(new TestDisk{make_posix_disk(), folder, true});
}
std::unique_ptr<TestDisk> make_memory() {
  return std::unique_ptr<TestDisk>(new TestDisk{std::make_unique<MemoryDisk>(), ""});
}

class LogStoreTest : public testing::TestWithParam<std::unique_ptr<TestDisk> (*)()> {
 protected:
  std::unique_ptr<TestDisk> test_disk = GetParam()();
  Disk& disk = *test_disk->disk;
  Log log{disk, options_in(test_disk->folder + "/log")};
};

TEST_P(LogStoreTest, EntriesReadBackAfterARestart) {
  ASSERT_TRUE(log.open());
  ASSERT_TRUE(log.append({{.type = RecordType::kTermAndVote, .index = 3, .term = 5}}));
  for (uint64_t index = 1; index <= 500; ++index)
    ASSERT_TRUE(log.append({entry(index, 5, index % 300)}));
  log.expect_equal();
  ASSERT_TRUE(log.open());
  EXPECT_EQ(log.recovered.term, 5u);
  EXPECT_EQ(log.recovered.voted_for, 3u);
  EXPECT_EQ(log.recovered.cut_bytes, 0u);
  log.expect_equal();
}

TEST_P(LogStoreTest, ManyRecordsAreOneGroup) {
  ASSERT_TRUE(log.open());
  std::vector<OwnedRecord> group;
  for (uint64_t index = 1; index <= 300; ++index)
    group.push_back(entry(index, 2, 250));  // over several segments
  ASSERT_TRUE(log.append(group));
  ASSERT_TRUE(log.open());
  log.expect_equal();
}

TEST_P(LogStoreTest, LowerIndexTruncates) {
  ASSERT_TRUE(log.open());
  for (uint64_t index = 1; index <= 200; ++index)
    ASSERT_TRUE(log.append({entry(index, 1, 200)}));
  ASSERT_TRUE(log.append({entry(50, 2), entry(51, 2)}));
  EXPECT_EQ(log.store->last_index(), 51u);
  ASSERT_TRUE(log.open());
  log.expect_equal();
  ASSERT_TRUE(log.append({entry(52, 3)}));
  ASSERT_TRUE(log.open());
  log.expect_equal();
}

TEST_P(LogStoreTest, ResetBeginsTheLogAfterACheckpointFromElsewhere) {
  ASSERT_TRUE(log.open());
  ASSERT_TRUE(log.append({entry(1), entry(2)}));
  ASSERT_TRUE(log.append({{.type = RecordType::kReset, .index = 1000, .term = 4}, entry(1001, 4)}));
  EXPECT_EQ(log.store->first_index(), 1001u);
  ASSERT_TRUE(log.open());
  EXPECT_EQ(log.recovered.first_index, 1001u);
  log.expect_equal();
}

TEST_P(LogStoreTest, PurgeKeepsWhatIsAboveAndTheTerm) {
  ASSERT_TRUE(log.open());
  ASSERT_TRUE(log.append({{.type = RecordType::kTermAndVote, .index = 0, .term = 8}}));
  for (uint64_t index = 1; index <= 500; ++index)
    ASSERT_TRUE(log.append({entry(index, 8, 200)}));
  ASSERT_TRUE(log.store->purge(400));
  EXPECT_GT(log.store->first_index(), 200u);
  EXPECT_LE(log.store->first_index(), 401u);
  EXPECT_TRUE(log.store->read(100, 1).failed_with(ErrorCode::kNotFound));
  EXPECT_TRUE(log.store->read(401, 1));
  ASSERT_TRUE(log.open());
  EXPECT_EQ(log.recovered.term, 8u);
  log.expect_equal();
}

TEST_P(LogStoreTest, RecycledSegmentsDoNotResurrectOldRecords) {
  ASSERT_TRUE(log.open());
  uint64_t index = 0;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 100; ++i)
      ASSERT_TRUE(log.append({entry(++index, 1, 200)}));
    ASSERT_TRUE(log.store->purge(index - 20));
    ASSERT_TRUE(log.open());
    ASSERT_EQ(log.store->last_index(), index);
    log.expect_equal();
  }
  // 20 KiB a round, in segments of 16 KiB: without reuse there would be dozens.
  Result<std::vector<std::string>> names = disk.list(log.options.folder);
  ASSERT_TRUE(names);
  EXPECT_LE(names->size(), 8u);
}

TEST_P(LogStoreTest, SpareIsTakenIntoUse) {
  ASSERT_TRUE(log.open());
  ASSERT_TRUE(log.store->needs_spare());
  ASSERT_TRUE(log.store->prepare_spare());
  EXPECT_FALSE(log.store->needs_spare());
  uint64_t bytes = log.store->disk_bytes();
  EXPECT_EQ(bytes, kSmallSegment);
  ASSERT_TRUE(log.append({entry(1)}));
  EXPECT_EQ(log.store->disk_bytes(), bytes);
  EXPECT_TRUE(log.store->needs_spare());
}

TEST_P(LogStoreTest, ReadGivesAtLeastOneAndStopsAtTheBound) {
  ASSERT_TRUE(log.open());
  for (uint64_t index = 1; index <= 10; ++index)
    ASSERT_TRUE(log.append({entry(index, 1, 1000)}));
  EXPECT_EQ(log.store->read(4, 1)->size(), 1u);
  EXPECT_EQ(log.store->read(4, 3 * record_size(1000))->size(), 3u);
  EXPECT_EQ(log.store->read(4, kMiB)->size(), 7u);
  EXPECT_TRUE(log.store->read(11, kMiB).failed_with(ErrorCode::kNotFound));
  EXPECT_TRUE(log.store->read(0, kMiB).failed_with(ErrorCode::kNotFound));
}

TEST_P(LogStoreTest, TrailingIndexIsBoundInEntriesAndBytes) {
  ASSERT_TRUE(log.open());
  for (uint64_t index = 1; index <= 20; ++index)
    ASSERT_TRUE(log.append({entry(index, 1, 1000)}));
  EXPECT_EQ(log.store->trailing_index(15, 5, kMiB), 10u);
  EXPECT_EQ(log.store->trailing_index(15, 100, 4 * record_size(1000)), 11u);
  EXPECT_EQ(log.store->trailing_index(15, 100, kMiB), 0u);
}

TEST_P(LogStoreTest, RecordLargerThanASegmentIsRefused) {
  ASSERT_TRUE(log.open());
  EXPECT_TRUE(log.append({entry(1, 1, kSmallSegment)}).failed_with(ErrorCode::kTooBig));
}

INSTANTIATE_TEST_SUITE_P(Posix, LogStoreTest, testing::Values(&make_posix));
INSTANTIATE_TEST_SUITE_P(Memory, LogStoreTest, testing::Values(&make_memory));

// ---------------------------------------------------------------- damage

class DamagedLog : public testing::Test {
 protected:
  MemoryDisk disk;
  Log log{disk, options_in("/log")};

  void fill(uint64_t entries) {
    ASSERT_TRUE(log.open());
    for (uint64_t index = log.store->last_index() + 1; entries > 0; ++index, --entries)
      ASSERT_TRUE(log.append({entry(index)}));
    log.store.reset();
  }
  std::string segment(uint64_t generation) { return "/log/000000000000000" + std::to_string(generation) + ".log"; }
};

constexpr uint64_t kEntryBytes = 144;  // a record of entry() with 100 bytes

TEST_F(DamagedLog, FlippedByteInTheMiddleStopsWithFileOffsetAndWayOut) {
  fill(50);
  uint64_t offset = kSegmentHeaderBytes + 20 * kEntryBytes;
  ASSERT_TRUE(disk.flip_byte(segment(1), offset + 60));
  Result<void> opened = log.open();
  ASSERT_TRUE(opened.failed_with(ErrorCode::kCorrupt));
  EXPECT_NE(opened.error().context.find(segment(1)), std::string::npos) << opened.error().context;
  EXPECT_NE(opened.error().context.find("offset " + std::to_string(offset)), std::string::npos)
      << opened.error().context;
  EXPECT_NE(opened.error().context.find("truncate -s " + std::to_string(offset)), std::string::npos);
}

TEST_F(DamagedLog, TheWayOutWorks) {
  fill(50);
  uint64_t offset = kSegmentHeaderBytes + 20 * kEntryBytes;
  ASSERT_TRUE(disk.flip_byte(segment(1), offset + 60));
  ASSERT_FALSE(log.open());
  ASSERT_TRUE((*disk.open(segment(1), {}))->truncate(offset));
  ASSERT_TRUE(log.open());
  EXPECT_EQ(log.store->last_index(), 20u);
  log.model.entries.resize(20);
  ASSERT_TRUE(log.append({entry(21, 2)}));
  ASSERT_TRUE(log.open());
  log.expect_equal();
}

TEST_F(DamagedLog, FlippedLengthInTheMiddleStops) {
  fill(50);
  ASSERT_TRUE(disk.flip_byte(segment(1), kSegmentHeaderBytes + 20 * kEntryBytes + 9));
  EXPECT_TRUE(log.open().failed_with(ErrorCode::kCorrupt));
}

TEST_F(DamagedLog, EveryFlippedByteBeforeTheLastGroupIsNoticed) {
  fill(30);
  for (uint64_t offset = kSegmentHeaderBytes; offset < kSegmentHeaderBytes + 29 * kEntryBytes; offset += 7) {
    ASSERT_TRUE(disk.flip_byte(segment(1), offset));
    Result<void> opened = log.open();
    if (opened) {
      // Only padding may change without a word.
      log.expect_equal();
      EXPECT_GE((offset - kSegmentHeaderBytes) % kEntryBytes, kRecordHeaderBytes + 100) << offset;
    }
    log.store.reset();
    // A flip changes one byte by the same mask: the second one undoes it.
    ASSERT_TRUE(disk.flip_byte(segment(1), offset));
  }
}

TEST_F(DamagedLog, LastRecordOfAnEarlierSegmentIsMissed) {
  fill(200);  // 85 records a segment
  uint64_t in_first = (kSmallSegment - kSegmentHeaderBytes) / kEntryBytes;
  ASSERT_TRUE(disk.flip_byte(segment(1), kSegmentHeaderBytes + (in_first - 1) * kEntryBytes + 50));
  Result<void> opened = log.open();
  ASSERT_TRUE(opened.failed_with(ErrorCode::kCorrupt));
  EXPECT_NE(opened.error().context.find(segment(1)), std::string::npos) << opened.error().context;
}

TEST_F(DamagedLog, MissingSegmentIsNamed) {
  fill(300);
  ASSERT_TRUE(disk.remove(segment(2)));
  Result<void> opened = log.open();
  ASSERT_TRUE(opened.failed_with(ErrorCode::kCorrupt));
  EXPECT_NE(opened.error().context.find(segment(2)), std::string::npos) << opened.error().context;
}

TEST_F(DamagedLog, DamagedHeaderStops) {
  fill(10);
  ASSERT_TRUE(disk.flip_byte(segment(1), 30));
  EXPECT_TRUE(log.open().failed_with(ErrorCode::kCorrupt));
}

TEST_F(DamagedLog, AnotherMastersLogIsRefused) {
  fill(10);
  log.options.master = MasterId{10};
  EXPECT_TRUE(log.open().failed_with(ErrorCode::kWrongCluster));
}

TEST_F(DamagedLog, DamageUnderAReaderIsNotHandedOn) {
  fill(10);
  ASSERT_TRUE(log.open());
  ASSERT_TRUE(disk.flip_byte(segment(1), kSegmentHeaderBytes + 4 * kEntryBytes + 60));
  EXPECT_TRUE(log.store->read(4, 1));
  EXPECT_TRUE(log.store->read(5, 1).failed_with(ErrorCode::kCorrupt));
}

TEST_F(DamagedLog, LeftoversOfATornGroupNeverJoinNewRecords) {
  fill(5);
  // A group of ten of which a crash leaves all but the first.
  ASSERT_TRUE(log.open());
  std::vector<OwnedRecord> group;
  for (uint64_t index = 6; index <= 15; ++index)
    group.push_back(entry(index));
  ASSERT_TRUE(log.append(group));
  ASSERT_TRUE(disk.flip_byte(segment(1), kSegmentHeaderBytes + 5 * kEntryBytes + 60));
  log.model.entries.resize(5);
  ASSERT_TRUE(log.open());
  EXPECT_EQ(log.recovered.cut_bytes, 10 * kEntryBytes);
  log.expect_equal();
  // A new record exactly over the damaged one: what stands behind it was its successor once.
  ASSERT_TRUE(log.append({entry(6, 1)}));
  ASSERT_TRUE(log.open());
  EXPECT_EQ(log.store->last_index(), 6u);
  log.expect_equal();
}

// ---------------------------------------------------------------- space

TEST(LogSpace, FullDiskRefusesASpareAndLeavesNothing) {
  MemoryDisk disk(3 * kSmallSegment);
  Log log(disk, options_in("/log"));
  ASSERT_TRUE(log.open());
  ASSERT_TRUE(log.store->prepare_spare());
  ASSERT_TRUE(log.append({entry(1)}));
  ASSERT_TRUE(log.store->prepare_spare());
  disk.set_capacity(2 * kSmallSegment + 4 * kKiB);
  uint64_t writable = log.store->writable_bytes();
  EXPECT_GT(writable, 0u);
  uint64_t index = 1;
  while (!log.store->needs_spare())
    ASSERT_TRUE(log.append({entry(++index)}));
  EXPECT_TRUE(log.store->prepare_spare().failed_with(ErrorCode::kNoSpace));
  EXPECT_EQ(disk.list("/log")->size(), 2u);
  EXPECT_LT(log.store->writable_bytes(), writable);
  // What is left can still be written to the last byte that was promised.
  for (uint64_t left = log.store->writable_bytes(); left >= kEntryBytes; left -= kEntryBytes)
    ASSERT_TRUE(log.append({entry(++index)}));
  ASSERT_TRUE(log.open());
  log.expect_equal();
  // Purging gives room again, on the full disk.
  ASSERT_TRUE(log.store->purge(index));
  EXPECT_FALSE(log.store->needs_spare());
}

// ---------------------------------------------------------------- crashes

// A life of a log: appends of all kinds, purges, spares, restarts. Says what was acknowledged and what was on its way
// when it failed.
struct Life {
  Log log;
  uint64_t purged = 0;
  std::vector<OwnedRecord> in_flight;
  std::unique_ptr<Random> random;

  Life(Disk& disk, uint64_t seed) : log(disk, options_in("/log", 8 * kKiB)), random(make_seeded_random(seed)) {}

  bool step() {
    switch (random->below(12)) {
      case 0:
        return log.store->prepare_spare().has_value();
      case 1: {
        uint64_t upto = log.model.last() - std::min<uint64_t>(log.model.last(), random->below(40));
        purged = std::max(purged, upto);
        return log.store->purge(upto).has_value();
      }
      case 2:
        return append({{.type = RecordType::kTermAndVote, .index = random->below(3), .term = log.model.term + 1}});
      default: {
        std::vector<OwnedRecord> group;
        uint64_t next = log.model.last() + 1;
        // Sometimes it replaces what was not purged.
        if (random->chance(1, 10) && next > purged + 5) next -= random->below(5);
        uint64_t count = 1 + random->below(8);
        for (uint64_t i = 0; i < count; ++i)
          group.push_back(entry(next + i, log.model.term, random->below(700)));
        return append(group);
      }
    }
  }
  bool append(std::vector<OwnedRecord> records) {
    in_flight = std::move(records);
    if (!log.append(in_flight)) return false;
    in_flight.clear();
    return true;
  }
  bool live(int steps) {
    if (!log.open()) return false;
    for (int i = 0; i < steps; ++i) {
      if (!step()) return false;
    }
    return true;
  }

  // After the crash: what was acknowledged is there, and of what was on its way nothing but a prefix.
  void expect_recovered(const std::string& what) {
    Result<void> opened = log.open();
    ASSERT_TRUE(opened) << what << ": " << opened.error().message();
    Result<LogModel> found = contents(*log.store, log.recovered);
    ASSERT_TRUE(found) << what << ": " << found.error().message();
    ASSERT_LE(found->first, std::max<uint64_t>(purged, log.model.first - 1) + 1) << what;
    LogModel possible = log.model;
    for (size_t taken = 0;; ++taken) {
      LogModel expected = possible;
      if (expected.last() + 1 >= found->first) expected.begin_at(found->first);
      if (expected == *found) {
        log.model = *found;
        in_flight.clear();
        return;
      }
      ASSERT_LT(taken, in_flight.size()) << what << ": neither what was acknowledged nor a prefix of what followed: "
                                         << found->first << "+" << found->entries.size() << " term " << found->term
                                         << ", expected " << log.model.first << "+" << log.model.entries.size()
                                         << " term " << log.model.term;
      possible.take(in_flight[taken]);
    }
  }
};

void crash_everywhere(bool keep_some, MemoryDisk::LastOperation last) {
  set_log_level(LogLevel::kError);
  constexpr int kSteps = 60;
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    uint64_t operations = 0;
    {
      MemoryDisk disk;
      Life life(disk, seed);
      ASSERT_TRUE(life.live(kSteps));
      operations = disk.operations();
    }
    ASSERT_GT(operations, 100u);
    for (uint64_t count = 0; count < operations; ++count) {
      std::string what = "seed " + std::to_string(seed) + " operation " + std::to_string(count);
      MemoryDisk disk;
      Life life(disk, seed);
      auto fate = make_seeded_random(seed * 100'000 + count);
      disk.fail_after(count, last);
      ASSERT_FALSE(life.live(kSteps)) << what;
      disk.crash(keep_some ? fate.get() : nullptr);
      life.expect_recovered(what);
      if (testing::Test::HasFatalFailure()) return;
      // The log goes on, and a second crash loses nothing either.
      for (int i = 0; i < 10; ++i)
        ASSERT_TRUE(life.step()) << what;
      disk.crash(keep_some ? fate.get() : nullptr);
      life.expect_recovered(what + ", again");
      if (testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(LogCrash, AtEveryOperationWithEverythingUnsyncedLost) {
  crash_everywhere(false, MemoryDisk::LastOperation::kHasNoEffect);
}
TEST(LogCrash, AtEveryOperationWithSomeOfTheUnsyncedKept) {
  crash_everywhere(true, MemoryDisk::LastOperation::kHasNoEffect);
}
TEST(LogCrash, AfterEveryOperationWithSomeOfTheUnsyncedKept) {
  crash_everywhere(true, MemoryDisk::LastOperation::kTakesEffect);
}

}  // namespace
}  // namespace cairn
