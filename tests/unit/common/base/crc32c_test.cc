#include "common/base/crc32c.h"

#include <gtest/gtest.h>
#include <string>

#include "common/base/random.h"

namespace cairn {
namespace {

// RFC 3720, appendix B.4.
TEST(Crc32c, MatchesTheVectorsOfRfc3720) {
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  std::string up;
  std::string down;
  for (char c = 0; c < 32; c++) {
    up += c;
    down += static_cast<char>(31 - c);
  }
  EXPECT_EQ(crc32c(up), 0x46dd794eu);
  EXPECT_EQ(crc32c(down), 0x113fdb5cu);
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(crc32c(""), 0u);
}

TEST(Crc32c, SeedContinuesASum) {
  EXPECT_EQ(crc32c("6789", crc32c("12345")), crc32c("123456789"));
  EXPECT_EQ(crc32c("", crc32c("12345")), crc32c("12345"));
}

TEST(Crc32c, AgreesWithTheBitwiseDefinition) {
  auto random = make_seeded_random(3);
  for (size_t size = 0; size < 300; size++) {
    std::string text(size, '\0');
    for (char& c : text)
      c = static_cast<char>(random->next_u64());
    uint32_t plain = ~0u;
    for (char c : text) {
      plain ^= static_cast<unsigned char>(c);
      for (int bit = 0; bit < 8; bit++)
        plain = (plain >> 1) ^ (plain & 1 ? 0x82f63b78u : 0);
    }
    ASSERT_EQ(crc32c(text), ~plain) << size;
  }
}

TEST(Crc32c, BlocksAreSummedBy4KiBAndTheLastAsItIs) {
  std::string text(4096 * 2 + 10, 'a');
  text[5000] = 'b';
  std::vector<uint32_t> sums = block_checksums(std::as_bytes(std::span(text)));
  ASSERT_EQ(sums.size(), 3u);
  EXPECT_EQ(sums[0], crc32c(text.substr(0, 4096)));
  EXPECT_EQ(sums[1], crc32c(text.substr(4096, 4096)));
  EXPECT_EQ(sums[2], crc32c(text.substr(8192)));
  EXPECT_TRUE(block_checksums({}).empty());
}

}  // namespace
}  // namespace cairn
