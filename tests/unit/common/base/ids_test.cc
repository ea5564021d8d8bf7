#include "common/base/ids.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <type_traits>

namespace cairn {
namespace {

TEST(Ids, InodesAndSessionsAreDecimalTheOthersHexadecimal) {
  EXPECT_EQ(to_string(InodeId{255}), "255");
  EXPECT_EQ(to_string(SessionId{255}), "255");
  EXPECT_EQ(to_string(ChunkId{255}), "00000000000000ff");
  EXPECT_EQ(to_string(ServerId{~0ull}), "ffffffffffffffff");
}

TEST(Ids, FormatAsTheyArePrinted) {
  EXPECT_EQ(fmt::format("inode={} chunk={}", InodeId{12}, ChunkId{0xabc}), "inode=12 chunk=0000000000000abc");
}

TEST(Ids, ZeroIsNone) {
  EXPECT_FALSE(InodeId());
  EXPECT_TRUE(kRootInode);
}

TEST(Ids, OfDifferentKindsDoNotMix) {
  static_assert(!std::is_convertible_v<ChunkId, InodeId>);
  static_assert(!std::is_constructible_v<ChunkId, InodeId>);
  static_assert(!std::is_convertible_v<uint64_t, ChunkId>);
}

}  // namespace
}  // namespace cairn
