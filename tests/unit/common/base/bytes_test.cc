#include "common/base/bytes.h"

#include <gtest/gtest.h>

#include "common/base/random.h"

namespace cairn {
namespace {

TEST(Bytes, ValuesAreLittleEndianKeysBigEndian) {
  ByteWriter writer;
  writer.u16(0x0102);
  writer.u32(0x01020304);
  writer.key_u32(0x01020304);
  EXPECT_EQ(writer.str(), std::string("\x02\x01\x04\x03\x02\x01\x01\x02\x03\x04", 10));
}

TEST(Bytes, KeysSortAsNumbers) {
  auto key = [](uint64_t v) {
    ByteWriter writer;
    writer.key_u64(v);
    return writer.take();
  };
  EXPECT_LT(key(255), key(256));
  EXPECT_LT(key(1), key(1ull << 40));
  EXPECT_LT(key(1ull << 63), key(~0ull));
}

TEST(Bytes, VarintsTakeSevenBitsAByte) {
  for (auto [value, size] :
       {std::pair{0ull, 1u}, {127ull, 1u}, {128ull, 2u}, {16383ull, 2u}, {16384ull, 3u}, {~0ull, 10u}}) {
    ByteWriter writer;
    writer.varint(value);
    EXPECT_EQ(writer.size(), size);
    ByteReader reader(writer.str());
    EXPECT_EQ(reader.varint(), value);
    EXPECT_TRUE(reader.finish("x").has_value());
  }
}

TEST(Bytes, VarintsHaveOneEncoding) {
  for (std::string_view bad :
       {std::string_view("\x80\x00", 2), std::string_view("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", 10),
        std::string_view("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11), std::string_view("\x80", 1)}) {
    ByteReader reader(bad);
    EXPECT_EQ(reader.varint(), 0u);
    EXPECT_FALSE(reader.ok());
  }
}

TEST(Bytes, AfterAFailedReadEverythingFails) {
  ByteReader reader("abc");
  EXPECT_EQ(reader.u64(), 0u);
  EXPECT_EQ(reader.u8(), 0u);
  EXPECT_TRUE(reader.bytes(0).empty());
  EXPECT_FALSE(reader.ok());
  EXPECT_TRUE(reader.finish("record").failed_with(ErrorCode::kCorrupt));
}

TEST(Bytes, FinishRefusesBytesLeftOver) {
  ByteReader reader("ab");
  reader.u8();
  Result<void> result = reader.finish("inode");
  ASSERT_TRUE(result.failed_with(ErrorCode::kCorrupt));
  EXPECT_EQ(result.error().context, "inode: bytes left over");
}

TEST(Bytes, AStringLongerThanTheInputIsRefusedWithoutAllocating) {
  ByteWriter writer;
  writer.varint(~0ull);
  writer.bytes("short");
  ByteReader reader(writer.str());
  EXPECT_TRUE(reader.string().empty());
  EXPECT_FALSE(reader.ok());
}

// A random record comes back as it was; cut anywhere it is refused; with random bytes nothing is read outside.
TEST(Bytes, RandomRecordsRoundTripAndNoPrefixDecodes) {
  auto random = make_seeded_random(1);
  for (int round = 0; round < 500; round++) {
    uint64_t a = random->next_u64() >> random->below(64);
    auto b = static_cast<uint32_t>(random->next_u64());
    std::string text(random->below(40), 'x');
    auto decode = [&](std::string_view in) {
      ByteReader reader(in);
      bool same = reader.varint() == a && reader.u32() == b && reader.string() == text && reader.key_u64() == a &&
                  reader.i64() == -static_cast<int64_t>(b) && reader.u16() == 7 && reader.u8() == 9;
      return std::pair(same, reader.finish("record").has_value());
    };
    ByteWriter writer;
    writer.varint(a);
    writer.u32(b);
    writer.string(text);
    writer.key_u64(a);
    writer.i64(-static_cast<int64_t>(b));
    writer.u16(7);
    writer.u8(9);
    EXPECT_EQ(decode(writer.str()), std::pair(true, true));
    for (size_t cut = 0; cut < writer.size(); cut++) {
      EXPECT_FALSE(decode(std::string_view(writer.str()).substr(0, cut)).second);
    }
  }
}

TEST(Bytes, RandomReadsOfRandomInputStayInside) {
  auto random = make_seeded_random(2);
  for (int round = 0; round < 20000; round++) {
    std::string in(random->below(24), '\0');
    for (char& c : in)
      c = static_cast<char>(random->next_u64());
    ByteReader reader(in);
    size_t read = 0;
    for (int i = 0; i < 8; i++) {
      size_t before = reader.remaining();
      bool was_ok = reader.ok();
      switch (random->below(7)) {
        case 0:
          reader.u8();
          break;
        case 1:
          reader.u16();
          break;
        case 2:
          reader.u32();
          break;
        case 3:
          reader.key_u64();
          break;
        case 4:
          reader.varint();
          break;
        case 5: {
          std::string_view text = reader.string();
          if (!text.empty()) {
            EXPECT_GE(text.data(), in.data());
            EXPECT_LE(text.data() + text.size(), in.data() + in.size());
          }
          break;
        }
        default:
          reader.bytes(random->next_u64() >> random->below(64));
          break;
      }
      EXPECT_LE(reader.remaining(), before);
      if (!was_ok) {
        EXPECT_FALSE(reader.ok());
        EXPECT_EQ(reader.remaining(), before);
      }
      read += before - reader.remaining();
    }
    EXPECT_LE(read, in.size());
  }
}

}  // namespace
}  // namespace cairn
