#include "fs/fuse/inode_traffic.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

using Ranges = std::vector<ByteRange>;
constexpr InodeId kFile(7);
constexpr TimePoint kStart{};

TEST(Without, LeavesWhatIsAroundTheOthers) {
  EXPECT_EQ((Ranges{{0, 10}}), without({0, 10}, {}));
  EXPECT_EQ((Ranges{{0, 4}, {8, kFileEnd}}), without({0, kFileEnd}, {{4, 8}}));
  EXPECT_EQ((Ranges{{2, 3}, {5, 8}}), without({2, 8}, {{8, 9}, {3, 5}, {0, 2}}));
  EXPECT_EQ(Ranges{}, without({2, 8}, {{4, 9}, {0, 5}}));
}

TEST(InodeTraffic, KnowsThePagesThatAWriteFillsInPart) {
  InodeTraffic traffic;
  uint64_t whole = traffic.write_began(kFile, {4096, 12'288}, kStart, true);
  EXPECT_EQ(Ranges{}, traffic.partial_pages(kFile, {0, kFileEnd}, kStart));
  uint64_t part = traffic.write_began(kFile, {4000, 8200}, kStart + std::chrono::seconds(1), true);
  EXPECT_EQ(Ranges{}, traffic.partial_pages(kFile, {0, kFileEnd}, kStart));
  TimePoint later = kStart + std::chrono::seconds(2);
  EXPECT_EQ((Ranges{{0, 4096}, {8192, 12'288}}), traffic.partial_pages(kFile, {0, kFileEnd}, later));
  EXPECT_EQ((Ranges{{8192, 12'288}}), traffic.partial_pages(kFile, {4096, kFileEnd}, later));
  traffic.write_answered(kFile, part);
  EXPECT_EQ(Ranges{}, traffic.partial_pages(kFile, {0, kFileEnd}, later));
  traffic.write_answered(kFile, whole);
  EXPECT_EQ(0u, traffic.size());
}

TEST(InodeTraffic, ADirectWriteHoldsNoPage) {
  InodeTraffic traffic;
  traffic.write_began(kFile, {1, 2}, kStart, false);
  EXPECT_EQ(Ranges{}, traffic.partial_pages(kFile, {0, kFileEnd}, kStart));
}

TEST(InodeTraffic, APassHearsOfReadsThatWereAnsweredOrAreUnderWay) {
  InodeTraffic traffic;
  uint64_t first = traffic.read_began(kFile, {0, 4096});
  traffic.begin_pass(kFile, false);
  EXPECT_EQ((Ranges{{0, 4096}}), traffic.end_pass(kFile));
  traffic.begin_pass(kFile, false);
  traffic.read_answered(kFile, first);
  traffic.read_answered(kFile, traffic.read_began(kFile, {4096, 8000}));
  uint64_t last = traffic.read_began(kFile, {1 << 20, (1 << 20) + 1});
  EXPECT_EQ((Ranges{{0, 8192}, {1 << 20, (1 << 20) + 4096}}), traffic.end_pass(kFile));
  traffic.read_answered(kFile, last);
  traffic.begin_pass(kFile, false);
  EXPECT_EQ(Ranges{}, traffic.end_pass(kFile));
  EXPECT_EQ(0u, traffic.size());
}

TEST(InodeTraffic, ManyReadsAreToldAsOne) {
  InodeTraffic traffic;
  traffic.begin_pass(kFile, false);
  for (uint64_t i = 0; i < 1000; ++i)
    traffic.read_answered(kFile, traffic.read_began(kFile, {i * 8192, i * 8192 + 4096}));
  Ranges again = traffic.end_pass(kFile);
  EXPECT_LE(again.size(), 64u);
  EXPECT_EQ(0u, again.front().begin);
  EXPECT_EQ(999u * 8192 + 4096, again.back().end);
}

TEST(InodeTraffic, WhatIsReadDuringAWriteIsOlder) {
  InodeTraffic traffic;
  uint64_t elsewhere = traffic.read_began(kFile, {8192, 12'288});
  uint64_t before = traffic.read_began(kFile, {0, 4096});
  uint64_t write = traffic.write_began(kFile, {100, 200}, kStart, true);
  EXPECT_EQ(Ranges{}, traffic.read_during(kFile, write));
  traffic.read_answered(kFile, traffic.read_began(kFile, {0, 4096}));
  traffic.read_answered(kFile, traffic.read_began(kFile, {4096, 8192}));
  EXPECT_EQ((Ranges{{0, 4096}}), traffic.read_during(kFile, write));
  EXPECT_EQ(Ranges{}, traffic.read_during(kFile, write));
  EXPECT_FALSE(traffic.read_is_old(kFile, before));
  traffic.write_answered(kFile, write);
  EXPECT_TRUE(traffic.read_is_old(kFile, before));
  EXPECT_FALSE(traffic.read_is_old(kFile, before));  // begun anew
  EXPECT_FALSE(traffic.read_is_old(kFile, elsewhere));
  traffic.read_answered(kFile, before);
  traffic.read_answered(kFile, elsewhere);
  EXPECT_EQ(0u, traffic.size());
}

TEST(InodeTraffic, AHoldingPassLetsThroughWhatItMayWaitFor) {
  InodeTraffic traffic;
  EXPECT_FALSE(traffic.holds(kFile, {0, 4096}));
  traffic.begin_pass(kFile, true);
  EXPECT_TRUE(traffic.holds(kFile, {0, 4096}));
  traffic.let_through(kFile, {4096, 8192});
  EXPECT_TRUE(traffic.holds(kFile, {0, 4096}));
  EXPECT_FALSE(traffic.holds(kFile, {0, 4097}));
  traffic.end_pass(kFile);
  EXPECT_FALSE(traffic.holds(kFile, {0, 4096}));
}

TEST(InodeTraffic, CountsChangesOfADirectory) {
  InodeTraffic traffic;
  {
    OwnChange one(traffic, kFile);
    OwnChange two(traffic, kFile);
    EXPECT_TRUE(traffic.changing(kFile));
  }
  EXPECT_FALSE(traffic.changing(kFile));
  EXPECT_EQ(0u, traffic.size());
}

}  // namespace
}  // namespace cairn
