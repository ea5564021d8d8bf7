#include "common/proto/codec.h"

#include <cstdint>
#include <gtest/gtest.h>
#include <string>
#include <string_view>

#include "common/base/random.h"
#include "common/proto/methods.h"
#include "tests/unit/common/proto/plain_value.h"

namespace cairn {
namespace {

using testing::random_value;
using testing::same;

// ---------------------------------------------------------------- every type

template <class T>
void expect_round_trip() {
  auto random = make_seeded_random(0xC0DEC);
  for (int i = 0; i < 300; i++) {
    const T value = random_value<T>(*random);
    const std::string bytes = encode(value);
    Result<T> decoded = decode<T>(bytes);
    ASSERT_TRUE(decoded.has_value()) << decoded.error().message();
    ASSERT_TRUE(same(*decoded, value)) << "value " << i;
    ASSERT_EQ(encode(*decoded), bytes) << "value " << i;
  }
}

#define CAIRN_TEST_ROUND_TRIP(type)      \
  TEST(RoundTripKeepsEveryField, type) { \
    expect_round_trip<type>();           \
  }
CAIRN_MESSAGES(CAIRN_TEST_ROUND_TRIP)

// One segment of one word: the root is a struct that has no fields at all, or is missing.
const std::string kStructWithoutFields("\0\0\0\0\1\0\0\0\xfc\xff\xff\xff\0\0\0\0", 16);
const std::string kNoStruct("\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0", 16);

// So a field that was added later reads, from an older sender, as what the plain value starts with.
template <class T>
void expect_default_of_empty_message() {
  for (const std::string& bytes : {kStructWithoutFields, kNoStruct}) {
    Result<T> decoded = decode<T>(bytes);
    if (std::is_same_v<T, MetaOp> || std::is_same_v<T, MutateRequest>) {
      EXPECT_TRUE(decoded.failed_with(ErrorCode::kBadMessage)) << "no operation is none";
      continue;
    }
    ASSERT_TRUE(decoded.has_value()) << decoded.error().message();
    EXPECT_TRUE(same(*decoded, T()));
  }
}

#define CAIRN_TEST_DEFAULT(type)             \
  TEST(MissingFieldsReadAsDefaults, type) {  \
    expect_default_of_empty_message<type>(); \
  }
CAIRN_MESSAGES(CAIRN_TEST_DEFAULT)

// ---------------------------------------------------------------- the bytes themselves

std::string to_hex(std::string_view bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (size_t i = 0; i < bytes.size(); i++) {
    if (i > 0 && i % 8 == 0) hex += ' ';
    hex += kDigits[static_cast<uint8_t>(bytes[i]) >> 4];
    hex += kDigits[static_cast<uint8_t>(bytes[i]) & 15];
  }
  return hex;
}

Attributes some_attributes() {
  return {.inode = InodeId(0x1122334455667788),
          .type = FileType::kDirectory,
          .mode = 02755,
          .uid = 1000,
          .gid = 100,
          .nlink = 3,
          .rdev = 0,
          .size = 7,
          .allocated_bytes = 4096,
          .atime = 1,
          .mtime = -2,
          .ctime = 3,
          .btime = 4,
          .change = 5,
          .data_change = 6,
          .goal = 3,
          .min_copies = 2};
}

// If one of these fails, the format has changed: other versions and the log of the masters no longer read alike.
TEST(BytesStayAsTheyAre, LookupRequest) {
  EXPECT_EQ(to_hex(encode(LookupRequest{.session = SessionId(1), .parent = InodeId(2), .name = "file"})),
            "0000000005000000 0000000002000100 0100000000000000 0200000000000000 0100000022000000 66696c6500000000");
}

TEST(BytesStayAsTheyAre, EntryReply) {
  EntryReply reply{.attributes = some_attributes(), .lease = {.duration_ms = 1000, .term = 2, .sequence = 9}};
  EXPECT_EQ(to_hex(encode(reply)),
            "0000000015000000 0000000000000500 100000000c000000 0000000000000000 3800000003000000 4100000002000000 "
            "0000000000000000 8877665544332211 03000302ed050000 e803000064000000 0300000000000000 0700000000000000 0010000000000000 "
            "0100000000000000 feffffffffffffff 0300000000000000 0400000000000000 0500000000000000 0600000000000000 "
            "e803000000000000 0200000000000000 0900000000000000");
}

TEST(BytesStayAsTheyAre, MutateRequestWithCreate) {
  CreateOp create{.parent = InodeId(2), .name = "a.txt", .mode = 0644, .uid = 10, .gid = 20, .open = true};
  MutateRequest request{
      .session = SessionId(1), .sequence = 5, .first_unacknowledged = 4, .now = 1700000000000000000, .op = create};
  EXPECT_EQ(to_hex(encode(request)),
            "000000000f000000 0000000004000100 0100000000000000 0500000000000000 0400000000000000 00002a36fe9c9717 "
            "0000000001000100 0100000000000000 0000000004000200 0200000000000000 00000100a4010000 0a00000014000000 "
            "0000000000000000 050000002a000000 0500000002000000 612e747874000000");
}

TEST(BytesStayAsTheyAre, MetaOpWithSetAttributes) {
  EXPECT_EQ(to_hex(encode(MetaOp(SetAttributesOp{.inode = InodeId(2), .gid = 0, .size = 10, .mtime_now = true}))),
            "0000000009000000 0000000001000100 0600000000000000 0000000006000000 0200000000000000 8c00000000000000 "
            "0000000000000000 0a00000000000000 0000000000000000 0000000000000000");
}

TEST(BytesStayAsTheyAre, MetaOpWithCommit) {
  CommitOp commit{.inode = InodeId(2), .size_at_least = 4096, .mtime = -1};
  commit.chunks.push_back(
      {.index = 1, .chunk = ChunkId(0xABCD), .version = 3, .allocated_bytes = 4096, .length = 4096, .seal = true});
  EXPECT_EQ(to_hex(encode(MetaOp(commit))),
            "000000000d000000 0000000001000100 0900000000000000 0000000004000100 0200000000000000 0300000000000000 "
            "0010000000000000 ffffffffffffffff 0100000027000000 0400000004000000 0100000000100000 cdab000000000000 "
            "0300000000000000 0200000000100000");
}

TEST(BytesStayAsTheyAre, ChunkWriteRequest) {
  ChunkWriteRequest request{.capability = "cap",
                            .chunk = ChunkId(0xABCD),
                            .version = 3,
                            .sequence = 8,
                            .kind = WriteKind::kZero,
                            .offset = 4096,
                            .length = 8192,
                            .checksums = {0x11223344, 0x55667788},
                            .sync = true,
                            .inode = InodeId(2),
                            .index = 1,
                            .file_size_bytes = 12288,
                            .chain = {{.server = ServerId(0xFF), .address = "h:1"}}};
  EXPECT_EQ(to_hex(encode(request)),
            "0000000011000000 0000000007000300 cdab000000000000 0300000000000000 0800000000000000 0200010000100000 "
            "0020000001000000 0200000000000000 0030000000000000 090000001a000000 0900000014000000 0900000017000000 "
            "6361700000000000 4433221188776655 0400000001000100 ff00000000000000 0100000022000000 683a310000000000");
}

TEST(BytesStayAsTheyAre, HeartbeatRequest) {
  HeartbeatRequest request{.server = ServerId(0xFF),
                           .incarnation = 6,
                           .space = {.total_bytes = 1000, .free_bytes = 900, .chunks = 2, .stores = 1},
                           .bad_chunks = {ChunkId(0xABCD)}};
  EXPECT_EQ(to_hex(encode(request)),
            "000000000a000000 0000000002000200 ff00000000000000 0600000000000000 0400000004000000 110000000d000000 "
            "e803000000000000 8403000000000000 0200000000000000 0100000000000000 cdab000000000000");
}

// ---------------------------------------------------------------- what else holds

TEST(Codec, FieldsOfANewerSenderAreSkipped) {
  // A GetAttributesRequest {session 1, inode 2} whose struct has a third number and a pointer besides.
  const std::string bytes(
      "\0\0\0\0\5\0\0\0"
      "\0\0\0\0\3\0\1\0"
      "\1\0\0\0\0\0\0\0"
      "\2\0\0\0\0\0\0\0"
      "\3\0\0\0\0\0\0\0"
      "\0\0\0\0\0\0\0\0",
      48);
  Result<GetAttributesRequest> decoded = decode<GetAttributesRequest>(bytes);
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message();
  EXPECT_EQ(decoded->session, SessionId(1));
  EXPECT_EQ(decoded->inode, InodeId(2));
}

TEST(Codec, BytesNeedNoAlignment) {
  auto random = make_seeded_random(7);
  const auto value = random_value<EntryReply>(*random);
  const std::string shifted = "x" + encode(value);
  Result<EntryReply> decoded = decode<EntryReply>(std::string_view(shifted).substr(1));
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message();
  EXPECT_TRUE(same(*decoded, value));
}

TEST(Codec, MessagesOfSeveralSegmentsRoundTrip) {
  ReadDirectoryReply page;
  auto random = make_seeded_random(8);
  for (int i = 0; i < 2000; i++)
    page.entries.push_back(random_value<DirectoryEntry>(*random));
  const std::string bytes = encode(page);
  ASSERT_NE(bytes.substr(0, 4), std::string(4, '\0')) << "it fits one segment";
  Result<ReadDirectoryReply> decoded = decode<ReadDirectoryReply>(bytes);
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message();
  EXPECT_TRUE(same(*decoded, page));
}

TEST(Codec, NothingOfAMessageShowsInTheNext) {
  auto random = make_seeded_random(9);
  const std::string before = encode(LookupRequest{.session = SessionId(1), .name = "a"});
  for (int i = 0; i < 50; i++) {
    encode(random_value<EntryReply>(*random));
    EXPECT_EQ(encode(LookupRequest{.session = SessionId(1), .name = "a"}), before);
  }
}

TEST(Codec, AFullPageOfAChunkReportFits) {
  ChunkReportRequest report;
  report.chunks.resize(12 * 1024);
  const std::string bytes = encode(report);
  EXPECT_LE(bytes.size(), kMaxMessageBytes);
  Result<ChunkReportRequest> decoded = decode<ChunkReportRequest>(bytes);
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message();
  EXPECT_EQ(decoded->chunks.size(), report.chunks.size());
}

}  // namespace
}  // namespace cairn
