#include "common/rpc/frame.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/crc32c.h"
#include "common/base/random.h"
#include "common/base/units.h"

namespace cairn {
namespace {

using testing::HasSubstr;
using Bytes = std::array<char, kFrameHeaderBytes>;

FrameHeader request_header() {
  return FrameHeader{.kind = FrameKind::kRequest,
                     .method = 0x1234,
                     .request_id = 0x1122334455667788,
                     .trace_id = 0x99AABBCCDDEEFF00,
                     .deadline_ms = 1500,
                     .message_bytes = 300,
                     .payload_bytes = 1 << 20,
                     .answer_bytes = 4096,
                     .message_crc = 0xDEADBEEF};
}

Result<FrameHeader> decode(const Bytes& bytes) {
  return decode_header(std::as_bytes(std::span(bytes)));
}

// Changes one byte and makes the checksum right again.
Bytes with_byte(Bytes bytes, size_t offset, uint8_t value) {
  bytes[offset] = static_cast<char>(value);
  uint32_t crc = crc32c(std::string_view(bytes.data(), kFrameHeaderBytes - 4));
  std::memcpy(bytes.data() + kFrameHeaderBytes - 4, &crc, 4);
  return bytes;
}

void expect_bad(const Result<FrameHeader>& result, const std::string& context) {
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.code(), ErrorCode::kBadMessage);
  EXPECT_THAT(result.error().context, HasSubstr(context));
}

TEST(Frame, HeaderComesBackAsItWas) {
  Result<FrameHeader> decoded = decode(encode_header(request_header()));
  ASSERT_TRUE(decoded.has_value()) << decoded.error().message();
  EXPECT_EQ(*decoded, request_header());
}

TEST(Frame, HeaderBytesAreThoseOfTheFormat) {
  Bytes bytes = encode_header(request_header());
  EXPECT_EQ(std::string_view(bytes.data(), 4), "CRN1");
  EXPECT_EQ(bytes[4], 1);  // frame version
  EXPECT_EQ(bytes[5], 2);  // request
  EXPECT_EQ(std::string_view(bytes.data() + 6, 2), "\x34\x12");
  EXPECT_EQ(static_cast<uint8_t>(bytes[8]), 0x88);  // the id's lowest byte first
  EXPECT_EQ(std::string_view(bytes.data() + 28, 4), std::string_view("\x2c\x01\0\0", 4));
}

TEST(Frame, AnotherMagicIsNotAFrame) {
  expect_bad(decode(with_byte(encode_header(request_header()), 0, 'G')), "not a frame");
}

TEST(Frame, AnotherVersionIsRefusedWithBothVersions) {
  expect_bad(decode(with_byte(encode_header(request_header()), 4, 2)), "frame version 2; ours is 1");
}

TEST(Frame, UnknownKindsAreRefused) {
  expect_bad(decode(with_byte(encode_header(request_header()), 5, 0)), "unknown kind of frame 0");
  expect_bad(decode(with_byte(encode_header(request_header()), 5, 6)), "unknown kind of frame 6");
}

TEST(Frame, UnknownFlagsAreRefused) {
  expect_bad(decode(with_byte(encode_header(request_header()), 40, 2)), "unknown flags 0x2");
}

TEST(Frame, EveryFlippedBitOfTheHeaderIsSeen) {
  Bytes good = encode_header(request_header());
  for (size_t bit = 0; bit < 8 * kFrameHeaderBytes; ++bit) {
    Bytes bad = good;
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << (bit % 8)));
    EXPECT_FALSE(decode(bad).has_value()) << "bit " << bit;
  }
}

TEST(Frame, LengthsAreHeldToTheirBounds) {
  FrameHeader header = request_header();
  header.message_bytes = kMaxMessageBytes;
  header.payload_bytes = kMaxPayloadBytes;
  EXPECT_TRUE(decode(encode_header(header)).has_value());
  header.message_bytes = kMaxMessageBytes + 1;
  expect_bad(decode(encode_header(header)), "a message of 1048577 bytes");
  header.message_bytes = UINT32_MAX;
  expect_bad(decode(encode_header(header)), "a message of");
  header.message_bytes = 0;
  header.payload_bytes = kMaxPayloadBytes + 1;
  expect_bad(decode(encode_header(header)), "a payload of 4194305 bytes");
}

TEST(Frame, HelloErrorAndGoodbyeAreSmallAndHaveNoPayload) {
  for (FrameKind kind : {FrameKind::kHello, FrameKind::kError, FrameKind::kGoodbye}) {
    expect_bad(decode(encode_header(FrameHeader{.kind = kind, .message_bytes = 2000})), "a message of 2000 bytes");
    expect_bad(decode(encode_header(FrameHeader{.kind = kind, .payload_bytes = 1})), "a payload of 1 bytes");
  }
}

TEST(Frame, MessageChecksumIsChecked) {
  FrameHeader header{.kind = FrameKind::kAnswer, .message_bytes = 5, .message_crc = crc32c(std::string_view("hello"))};
  EXPECT_TRUE(check_message(header, "hello").has_value());
  EXPECT_TRUE(check_message(header, "hellp").failed_with(ErrorCode::kBadMessage));
}

// Whatever the bytes are, the decoder gives a header within its bounds or kBadMessage.
TEST(Frame, RandomBytesNeverGiveAHeaderOutOfBounds) {
  std::unique_ptr<Random> random = make_seeded_random(20240611);
  Bytes good = encode_header(request_header());
  size_t accepted = 0;
  for (int round = 0; round < 200'000; ++round) {
    Bytes bytes = good;
    size_t changes = 1 + random->below(4);
    for (size_t i = 0; i < changes; ++i)
      bytes[random->below(bytes.size())] = static_cast<char>(random->next_u64());
    if (random->chance(3, 4)) bytes = with_byte(bytes, 5, static_cast<uint8_t>(random->below(8)));
    Result<FrameHeader> decoded = decode(bytes);
    if (!decoded) {
      ASSERT_EQ(decoded.code(), ErrorCode::kBadMessage);
      continue;
    }
    ++accepted;
    ASSERT_LE(decoded->message_bytes, kMaxMessageBytes);
    ASSERT_LE(decoded->payload_bytes, kMaxPayloadBytes);
    ASSERT_EQ(encode_header(*decoded), bytes);
  }
  EXPECT_GT(accepted, 1000u);  // else the mutations test nothing but the checksum
}

TEST(Frame, RandomHellosAndErrorsAreDecodedOrRefused) {
  std::unique_ptr<Random> random = make_seeded_random(99);
  std::string hello =
      encode_hello(Hello{.cluster = ClusterId(5), .protocol_min = 1, .protocol_max = 3, .program = "p 1"});
  std::string error = encode_error(Error(ErrorCode::kNoSpace, "disk"));
  for (int round = 0; round < 50'000; ++round) {
    for (std::string bytes : {hello, error}) {
      bytes[random->below(bytes.size())] = static_cast<char>(random->next_u64());
      bytes.resize(random->below(bytes.size() + 1));
      Result<Hello> decoded = decode_hello(bytes);
      if (decoded) ASSERT_LE(decoded->program.size(), kMaxProgramBytes);
      Error as_error = decode_error(bytes);
      ASSERT_LE(as_error.context.size(), bytes.size() + 64);
    }
  }
}

TEST(Frame, HelloComesBackAsItWas) {
  Hello hello{.cluster = ClusterId(0xABCDEF), .protocol_min = 2, .protocol_max = 5, .program = "cairn-master 0.1.0"};
  Result<Hello> decoded = decode_hello(encode_hello(hello));
  ASSERT_TRUE(decoded.has_value());
  EXPECT_EQ(decoded->cluster, hello.cluster);
  EXPECT_EQ(decoded->protocol_min, 2);
  EXPECT_EQ(decoded->protocol_max, 5);
  EXPECT_EQ(decoded->program, "cairn-master 0.1.0");
}

TEST(Frame, LaterVersionsMayAddToAHello) {
  EXPECT_TRUE(decode_hello(encode_hello(Hello{.program = "p"}) + "more").has_value());
}

TEST(Frame, LongProgramNamesAndContextsAreCut) {
  Result<Hello> hello = decode_hello(encode_hello(Hello{.program = std::string(1000, 'p')}));
  ASSERT_TRUE(hello.has_value());
  EXPECT_EQ(hello->program.size(), kMaxProgramBytes);
  std::string error = encode_error(Error(ErrorCode::kIo, std::string(100'000, 'x')));
  EXPECT_TRUE(decode(encode_header(
                         FrameHeader{.kind = FrameKind::kError, .message_bytes = static_cast<uint32_t>(error.size())}))
                  .has_value());
  EXPECT_EQ(decode_error(error).context.size(), kMaxErrorContextBytes);
}

TEST(Frame, ErrorsKeepCodeAndContext) {
  Error error = decode_error(encode_error(Error(ErrorCode::kOldVersion, "chunk 7 is at version 9")));
  EXPECT_EQ(error.code, ErrorCode::kOldVersion);
  EXPECT_EQ(error.context, "chunk 7 is at version 9");
}

TEST(Frame, AnUnreadableErrorIsABadMessage) {
  EXPECT_EQ(decode_error("\x01").code, ErrorCode::kBadMessage);
}

Hello peer(uint64_t cluster, uint16_t protocol_min, uint16_t protocol_max, std::string program) {
  return Hello{ClusterId(cluster), protocol_min, protocol_max, std::move(program)};
}

TEST(Hello, TheNewestCommonVersionIsAgreedOn) {
  Result<uint16_t> version = agree(peer(1, 1, 4, "a"), peer(1, 2, 9, "b"));
  ASSERT_TRUE(version.has_value());
  EXPECT_EQ(*version, 4);
}

TEST(Hello, VersionsThatDoNotMeetAreNamedOnBothSides) {
  Result<uint16_t> version = agree(peer(1, 3, 4, "new"), peer(1, 1, 2, "old"));
  ASSERT_TRUE(version.failed_with(ErrorCode::kProtocol));
  EXPECT_EQ(version.error().context, "new speaks protocol 3 to 4, old speaks 1 to 2");
  EXPECT_TRUE(agree(peer(1, 1, 2, "old"), peer(1, 3, 4, "new")).failed_with(ErrorCode::kProtocol));
}

TEST(Hello, TwoClustersDoNotMeet) {
  Result<uint16_t> version = agree(peer(0xA, 1, 1, "a"), peer(0xB, 1, 1, "b"));
  ASSERT_TRUE(version.failed_with(ErrorCode::kWrongCluster));
  EXPECT_EQ(version.error().context, "a belongs to cluster 000000000000000a, b to cluster 000000000000000b");
}

TEST(Hello, WhoKnowsNoClusterTalksToAnybody) {
  EXPECT_TRUE(agree(peer(0, 1, 1, "a"), peer(0xB, 1, 1, "b")).has_value());
  EXPECT_TRUE(agree(peer(0xA, 1, 1, "a"), peer(0, 1, 1, "b")).has_value());
}

}  // namespace
}  // namespace cairn
