#define FUSE_USE_VERSION 314

#include "fs/fuse/reply.h"

#include <fuse_lowlevel.h>
#include <gtest/gtest.h>

namespace cairn {
namespace {

TEST(ToStat, KeepsNanosecondsAlsoBefore1970) {
  Attributes attributes{.inode = InodeId(5), .mode = 0644, .atime = -1, .mtime = 1'500'000'000'000'000'007};
  struct stat out = to_stat(attributes);
  EXPECT_EQ(-1, out.st_atim.tv_sec);
  EXPECT_EQ(999'999'999, out.st_atim.tv_nsec);
  EXPECT_EQ(1'500'000'000, out.st_mtim.tv_sec);
  EXPECT_EQ(7, out.st_mtim.tv_nsec);
}

TEST(ToStat, TypesModesAndBlocks) {
  Attributes attributes{
      .inode = InodeId(5), .type = FileType::kDirectory, .mode = 01777, .nlink = 3, .size = 10, .allocated_bytes = 513};
  struct stat out = to_stat(attributes);
  EXPECT_EQ(S_IFDIR | 01777u, out.st_mode);
  EXPECT_EQ(2, out.st_blocks);  // of 512 bytes
  EXPECT_EQ(10, out.st_size);
  EXPECT_EQ(3u, out.st_nlink);
  EXPECT_EQ(5u, out.st_ino);
}

TEST(ToEntryParam, CarriesWhatIsLeftOfTheLease) {
  fuse_entry_param param = to_entry_param({.inode = InodeId(5)}, {.name = 250ms, .attributes = 500ms});
  EXPECT_DOUBLE_EQ(0.25, param.entry_timeout);
  EXPECT_DOUBLE_EQ(0.5, param.attr_timeout);
  EXPECT_EQ(5u, param.ino);
}

}  // namespace
}  // namespace cairn
