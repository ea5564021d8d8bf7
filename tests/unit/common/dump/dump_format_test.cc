#include "common/dump/dump_format.h"

#include <gtest/gtest.h>
#include <string>
#include <utility>
#include <vector>

#include "common/base/random.h"

namespace cairn {
namespace {

using Records = std::vector<std::pair<std::string, std::string>>;

DumpHeader some_header() {
  return {.cluster = ClusterId{7}, .applied_index = 11, .applied_term = 3, .log_time_ms = 99, .wall_ns = -5, .program = "p 1"};
}

struct Made {
  std::string bytes;
  std::vector<size_t> ends;  // of the header, of each page, of all
};

// A page for each group of records.
Made make(const std::vector<Records>& pages, DumpHeader header = some_header()) {
  DumpWriter writer;
  Made made;
  auto put = [&made](std::string bytes) {
    made.bytes += bytes;
    made.ends.push_back(made.bytes.size());
  };
  put(writer.header(header));
  for (const Records& records : pages) {
    for (const auto& [key, value] : records)
      writer.add(key, value);
    put(writer.page().value());
  }
  put(writer.end());
  return made;
}

// The second page is compressed, the others are too small for it.
std::vector<Records> some_pages() {
  return {{{"a1", "one"}, {"a2", ""}}, {{"b", std::string(300, 'x')}}, {{"c", "three"}, {"d", std::string(1, '\0')}}};
}

DumpSource source_of(const std::string& bytes) {
  return [&bytes](uint64_t offset, size_t size) -> Result<std::string> {
    return offset >= bytes.size() ? std::string() : bytes.substr(offset, size);
  };
}

Result<DumpSummary> read(const std::string& bytes, Records* out = nullptr) {
  return read_dump(source_of(bytes), [out](std::string_view key, std::string_view value) -> Result<void> {
    if (out != nullptr) out->emplace_back(key, value);
    return {};
  });
}

TEST(Dump, GivesBackWhatWasWritten) {
  const Made made = make(some_pages());
  Records records;
  Result<DumpSummary> summary = read(made.bytes, &records);
  ASSERT_TRUE(summary) << summary.error().message();
  EXPECT_EQ(summary->header, some_header());
  EXPECT_EQ(summary->pages, 3u);
  EXPECT_EQ(summary->records, 5u);
  EXPECT_EQ(summary->file_bytes, made.bytes.size());
  EXPECT_EQ(summary->records_of_kind, (std::map<char, uint64_t>{{'a', 2}, {'b', 1}, {'c', 1}, {'d', 1}}));
  Records expected;
  for (const Records& page : some_pages())
    expected.insert(expected.end(), page.begin(), page.end());
  EXPECT_EQ(records, expected);
}

TEST(Dump, OfNothingIsWhole) {
  Result<DumpSummary> summary = read(make({}).bytes);
  ASSERT_TRUE(summary) << summary.error().message();
  EXPECT_EQ(summary->records, 0u);
}

TEST(Dump, CutAnywhereIsNoticed) {
  const Made made = make(some_pages());
  for (size_t size = 0; size < made.bytes.size(); ++size) {
    Result<DumpSummary> cut = read(made.bytes.substr(0, size));
    ASSERT_FALSE(cut) << "cut at byte " << size;
    EXPECT_EQ(cut.code(), ErrorCode::kCorrupt) << "cut at byte " << size;
  }
}

TEST(Dump, EachFlippedBitIsNoticed) {
  const Made made = make(some_pages());
  for (size_t at = 0; at < made.bytes.size(); ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string altered = made.bytes;
      altered[at] = static_cast<char>(altered[at] ^ (1 << bit));
      EXPECT_FALSE(read(altered)) << "byte " << at << " bit " << bit;
    }
  }
}

TEST(Dump, WhatFollowsItsEndIsNoticed) {
  const Made made = make(some_pages());
  EXPECT_EQ(read(made.bytes + '\0').code(), ErrorCode::kCorrupt);
  EXPECT_EQ(read(made.bytes + made.bytes).code(), ErrorCode::kCorrupt);
}

TEST(Dump, APageLeftOutOrTakenTwiceIsNoticed) {
  const Made made = make(some_pages());
  for (size_t page = 0; page + 2 < made.ends.size(); ++page) {
    const std::string before = made.bytes.substr(0, made.ends[page]);
    const std::string it = made.bytes.substr(made.ends[page], made.ends[page + 1] - made.ends[page]);
    const std::string after = made.bytes.substr(made.ends[page + 1]);
    EXPECT_EQ(read(before + after).code(), ErrorCode::kCorrupt) << page;
    EXPECT_EQ(read(before + it + it + after).code(), ErrorCode::kCorrupt) << page;
  }
}

TEST(Dump, PagesOfTwoDumpsDoNotJoin) {
  DumpHeader other = some_header();
  other.applied_index = 12;
  const Made one = make(some_pages());
  const Made two = make(some_pages(), other);
  ASSERT_EQ(one.ends, two.ends);
  for (size_t part = 0; part + 1 < one.ends.size(); ++part) {
    const std::string joined = one.bytes.substr(0, one.ends[part]) + two.bytes.substr(two.ends[part]);
    EXPECT_EQ(read(joined).code(), ErrorCode::kCorrupt) << part;
  }
}

TEST(Dump, OfANewerVersionIsRefusedAsSuch) {
  std::string bytes = make(some_pages()).bytes;
  bytes[8] = 2;
  EXPECT_EQ(read(bytes).code(), ErrorCode::kNotSupported);
}

TEST(Dump, RecordsOutOfOrderAreRefused) {
  EXPECT_EQ(read(make({{{"b", ""}}, {{"a", ""}}}).bytes).code(), ErrorCode::kCorrupt);
  EXPECT_EQ(read(make({{{"a", "1"}, {"a", "2"}}}).bytes).code(), ErrorCode::kCorrupt);
}

TEST(Dump, AnyBytesEndWithAnError) {
  std::unique_ptr<Random> random = make_seeded_random(1);
  const std::string whole = make(some_pages()).bytes;
  for (int i = 0; i < 2000; ++i) {
    std::string bytes = whole.substr(0, random->below(whole.size() + 1));
    for (size_t changes = random->below(5) + 1; changes > 0 && !bytes.empty(); --changes)
      bytes[random->below(bytes.size())] = static_cast<char>(random->next_u64());
    if (bytes != whole) EXPECT_FALSE(read(bytes));
  }
}

TEST(Dump, TheVisitorsErrorEndsTheReading) {
  const std::string bytes = make(some_pages()).bytes;
  Result<DumpSummary> ended = read_dump(
      source_of(bytes), [](std::string_view, std::string_view) -> Result<void> { return Error(ErrorCode::kNoSpace); });
  EXPECT_EQ(ended.code(), ErrorCode::kNoSpace);
}

// These bytes have to stay readable: docs/formats.md, "Metadata dump".
TEST(Dump, HeaderAndEndAreWhereTheFormatSays) {
  const Made made = make({{{"k", "v"}}});
  EXPECT_EQ(made.bytes.substr(0, 8), "CRNDUMP1");
  EXPECT_EQ(made.bytes.substr(8, 8), std::string("\1\0\0\0\x2c\0\0\0", 8));  // version; 5 x 8 bytes and "p 1"
  EXPECT_EQ(made.ends[0], 16u + 44u + 4u);
  EXPECT_EQ(made.bytes.substr(made.ends[0], 24),
            std::string("PAGE" "\0\0\0\0" "\1\0\0\0" "\4\0\0\0" "\4\0\0\0" "\1k\1v", 24));
  EXPECT_EQ(made.ends[1], made.ends[0] + 20 + 4 + 4);
  EXPECT_EQ(made.bytes.substr(made.ends[1], 24),
            std::string("DEND" "\1\0\0\0" "\1\0\0\0\0\0\0\0" "\4\0\0\0\0\0\0\0", 24));
  EXPECT_EQ(made.bytes.size(), made.ends[1] + 24 + 4);
}

}  // namespace
}  // namespace cairn
