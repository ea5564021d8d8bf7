#include "fs/fuse/inode_table.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

Attributes file(uint64_t inode, uint32_t mode = 0644) {
  return {.inode = InodeId(inode), .type = FileType::kRegular, .mode = mode, .nlink = 1};
}

TEST(InodeTable, KnowsAnInodeUntilAllItsLookupsAreTakenBack) {
  InodeTable table;
  EXPECT_EQ(0u, table.lookups(InodeId(7)));
  table.looked_up(file(7));
  table.looked_up(file(7));
  table.looked_up(file(7));
  EXPECT_EQ(3u, table.lookups(InodeId(7)));
  EXPECT_FALSE(table.forget(InodeId(7), 2));
  EXPECT_EQ(1u, table.lookups(InodeId(7)));
  EXPECT_TRUE(table.forget(InodeId(7), 1));
  EXPECT_EQ(0u, table.lookups(InodeId(7)));
  EXPECT_EQ(0u, table.size());
  EXPECT_FALSE(table.forget(InodeId(7), 1));
}

TEST(InodeTable, TheRootIsAlwaysKnown) {
  InodeTable table;
  EXPECT_EQ(1u, table.lookups(kRootInode));
  EXPECT_FALSE(table.forget(kRootInode, 1));
  EXPECT_EQ(1u, table.lookups(kRootInode));
}

TEST(InodeTable, SetIdBitsAreThoseThatAWriteMustClear) {
  InodeTable table;
  table.looked_up(file(7, 04755));
  EXPECT_TRUE(table.has_set_id(InodeId(7)));
  table.seen(file(7, 0755));
  EXPECT_FALSE(table.has_set_id(InodeId(7)));
  table.seen(file(7, 02755));
  EXPECT_TRUE(table.has_set_id(InodeId(7)));
  table.seen(file(7, 02745));  // without group execute it marks mandatory locking, not a program
  EXPECT_FALSE(table.has_set_id(InodeId(7)));
  Attributes folder = file(8, 06777);
  folder.type = FileType::kDirectory;
  table.looked_up(folder);
  EXPECT_FALSE(table.has_set_id(InodeId(8)));
}

TEST(InodeTable, AttributesOfUnknownInodesAreNotKept) {
  InodeTable table;
  table.seen(file(7, 04755));
  EXPECT_FALSE(table.has_set_id(InodeId(7)));
  EXPECT_EQ(0u, table.size());
}

TEST(InodeTable, ANewFileHasNoXattrsUntilItsLeaseEndsOrItGetsOne) {
  InodeTable table;
  TimePoint now{std::chrono::seconds(100)};
  table.no_xattrs(InodeId(7), now + 1s);  // not known: nothing to remember
  EXPECT_FALSE(table.has_no_xattrs(InodeId(7), now));
  table.looked_up(file(7));
  EXPECT_FALSE(table.has_no_xattrs(InodeId(7), now));
  table.no_xattrs(InodeId(7), now + 1s);
  EXPECT_TRUE(table.has_no_xattrs(InodeId(7), now));
  EXPECT_FALSE(table.has_no_xattrs(InodeId(7), now + 1s));
  table.may_have_xattrs(InodeId(7));
  EXPECT_FALSE(table.has_no_xattrs(InodeId(7), now));
}

TEST(InodeTable, KnowsWhatWasAskedBeforeAChange) {
  InodeTable table;
  TimePoint now{std::chrono::seconds(100)};
  table.changed(InodeId(7), now);  // not known: the kernel holds nothing of it
  EXPECT_FALSE(table.changed_since(InodeId(7), now));
  table.looked_up(file(7));
  EXPECT_FALSE(table.changed_since(InodeId(7), now - 1s));
  table.changed(InodeId(7), now);
  EXPECT_TRUE(table.changed_since(InodeId(7), now - 1s));
  EXPECT_TRUE(table.changed_since(InodeId(7), now));
  EXPECT_FALSE(table.changed_since(InodeId(7), now + Duration(1)));
}

TEST(InodeTable, KnowsWhatTheKernelMayHoldOfAnInode) {
  InodeTable table;
  TimePoint until = TimePoint{} + 5s;
  table.looked_up(file(7));
  EXPECT_FALSE(table.may_have_pages(InodeId(7)));
  table.pages_given(InodeId(7));
  EXPECT_TRUE(table.may_have_pages(InodeId(7)));
  for (InodeId inode : {InodeId(7), kRootInode}) {
    EXPECT_EQ(TimePoint{}, table.attributes_until(inode));
    table.attributes_given(inode, until);
    table.attributes_given(inode, until - 1s);
    EXPECT_EQ(until, table.attributes_until(inode));
    table.attributes_forgotten(inode);
    EXPECT_EQ(TimePoint{}, table.attributes_until(inode));
  }
  EXPECT_EQ((std::vector<InodeId>{kRootInode, InodeId(7)}), table.all());
  table.forget(InodeId(7), 1);
  EXPECT_FALSE(table.may_have_pages(InodeId(7)));
}

}  // namespace
}  // namespace cairn
