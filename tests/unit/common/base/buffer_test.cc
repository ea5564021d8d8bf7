#include "common/base/buffer.h"

#include <cstring>
#include <gtest/gtest.h>
#include <thread>

#include "common/base/random.h"
#include "common/base/units.h"

namespace cairn {
namespace {

TEST(Buffer, IsAlignedToPagesAndCountsThem) {
  for (size_t size : {1ul, 4096ul, 4097ul, 65536ul, 300000ul, 1048576ul, 4194304ul, 9000001ul}) {
    Buffer buffer = Buffer::allocate(size);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(buffer.data()) % 4096, 0u);
    EXPECT_EQ(buffer.size(), size);
    EXPECT_GE(buffer.memory_bytes(), size);
    EXPECT_EQ(buffer.memory_bytes() % 4096, 0u);
    // A fifth unused at most, beyond the last page.
    EXPECT_LE(buffer.memory_bytes(), (size + 4095) / 4096 * 4096 * 5 / 4);
    std::memset(buffer.mutable_span().data(), 0xff, size);
  }
}

TEST(Buffer, OfNothingHasNoMemory) {
  EXPECT_EQ(Buffer::allocate(0).memory_bytes(), 0u);
  EXPECT_TRUE(Buffer::copy_of(std::string_view()).empty());
  EXPECT_TRUE(Buffer::zeros(0).empty());
}

TEST(Buffer, ZerosAreZeroAlsoInMemoryUsedBefore) {
  {
    std::memset(Buffer::allocate(8192).mutable_span().data(), 0xff, 8192);
  }
  Buffer zeros = Buffer::zeros(8192);
  for (std::byte b : zeros.span())
    ASSERT_EQ(b, std::byte{0});
}

TEST(Buffer, SlicesShareTheMemoryAndKeepItAlive) {
  Buffer slice;
  {
    Buffer whole = Buffer::copy_of(std::string_view("hello, world"));
    slice = whole.slice(7, 5);
    EXPECT_EQ(slice.data(), whole.data() + 7);
  }
  EXPECT_EQ(slice.view(), "world");
  EXPECT_EQ(slice.slice(1, 3).view(), "orl");
  EXPECT_EQ(slice.memory_bytes(), 4096u);
}

TEST(BufferDeathTest, SliceBeyondTheEndStopsTheProcess) {
  Buffer buffer = Buffer::allocate(10);
  EXPECT_DEATH((void)buffer.slice(5, 6), "CHECK failed");
  EXPECT_DEATH((void)buffer.slice(11, 0), "CHECK failed");
}

TEST(Buffer, FlattenJoinsPiecesAndDoesNotCopyOne) {
  Buffer one = Buffer::copy_of(std::string_view("abc"));
  Payload payload{one};
  EXPECT_EQ(flatten(payload).data(), one.data());
  payload.push_back(Buffer());
  payload.push_back(Buffer::copy_of(std::string_view("defg")));
  EXPECT_EQ(payload_size(payload), 7u);
  EXPECT_EQ(flatten(payload).view(), "abcdefg");
  EXPECT_TRUE(flatten({}).empty());
}

// Memory that was let go and taken again belongs to one buffer only, from any thread.
TEST(Buffer, LiveBuffersNeverOverlapWhateverTheOrderOfFreeing) {
  auto work = [](uint64_t seed) {
    auto random = make_seeded_random(seed);
    std::vector<Buffer> live;
    for (int i = 0; i < 3000; i++) {
      if (live.size() < 8 || random->chance(1, 2)) {
        size_t size = 1 + random->below(random->chance(1, 8) ? 2 * kMiB : 20000);
        Buffer buffer = Buffer::allocate(size);
        uint64_t stamp = random->next_u64();
        auto span = buffer.mutable_span();
        std::memset(span.data(), static_cast<int>(stamp & 0xff), span.size());
        live.push_back(std::move(buffer));
      } else {
        size_t victim = random->below(live.size());
        auto span = live[victim].span();
        ASSERT_EQ(span.front(), span.back());
        ASSERT_EQ(span.front(), span[span.size() / 2]);
        std::swap(live[victim], live.back());
        live.pop_back();
      }
    }
  };
  std::thread a(work, 1);
  std::thread b(work, 2);
  a.join();
  b.join();
}

}  // namespace
}  // namespace cairn
