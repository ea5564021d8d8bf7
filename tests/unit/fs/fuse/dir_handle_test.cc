#include "fs/fuse/dir_handle.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

DirectoryPage page_of(uint64_t after, std::vector<uint64_t> cookies, bool end, bool plus = true) {
  DirectoryPage page{.after = after, .end = end, .plus = plus};
  for (uint64_t cookie : cookies)
    page.entries.push_back({.name = std::to_string(cookie), .inode = InodeId(cookie), .cookie = cookie});
  return page;
}

TEST(DirectoryPage, GoesOnAfterTheEntryThatACookieNames) {
  DirectoryPage page = page_of(10, {11, 15, 20}, false);
  EXPECT_EQ(0u, page.position_after(10));
  EXPECT_EQ(1u, page.position_after(11));
  EXPECT_EQ(3u, page.position_after(20));
  EXPECT_EQ(std::nullopt, page.position_after(12));
  EXPECT_EQ(std::nullopt, page.position_after(0));
}

TEST(DirectoryHandles, ServeWhatIsLeftOfAPage) {
  DirectoryHandles handles;
  uint64_t handle = handles.open(InodeId(1));
  EXPECT_EQ(nullptr, handles.page(handle, 11, true));
  handles.store(handle, page_of(0, {11, 15, 20}, false));
  EXPECT_NE(nullptr, handles.page(handle, 11, true));
  EXPECT_NE(nullptr, handles.page(handle, kDotDotCookie, true));
  EXPECT_NE(nullptr, handles.page(handle, kDotCookie, true));
  EXPECT_EQ(nullptr, handles.page(handle, 20, true));  // the next page must be fetched
  EXPECT_EQ(nullptr, handles.page(handle, 17, true));  // sought to where the page does not say
}

TEST(DirectoryHandles, ARewoundListingIsFetchedAfresh) {
  DirectoryHandles handles;
  uint64_t handle = handles.open(InodeId(1));
  handles.store(handle, page_of(0, {11}, true));
  EXPECT_EQ(nullptr, handles.page(handle, 0, true));
}

TEST(DirectoryHandles, TheLastPageAlsoSaysThatNothingFollows) {
  DirectoryHandles handles;
  uint64_t handle = handles.open(InodeId(1));
  handles.store(handle, page_of(0, {11, 15}, true));
  EXPECT_NE(nullptr, handles.page(handle, 15, true));
}

TEST(DirectoryHandles, APageWithoutAttributesServesPlainListingsOnly) {
  DirectoryHandles handles;
  uint64_t handle = handles.open(InodeId(1));
  handles.store(handle, page_of(0, {11, 15}, true, false));
  EXPECT_EQ(nullptr, handles.page(handle, 11, true));
  EXPECT_NE(nullptr, handles.page(handle, 11, false));
}

TEST(DirectoryHandles, KeepNothingOfReleasedOnes) {
  DirectoryHandles handles;
  uint64_t handle = handles.open(InodeId(1));
  handles.release(handle);
  handles.store(handle, page_of(0, {11}, true));
  EXPECT_EQ(nullptr, handles.page(handle, 11, true));
  EXPECT_EQ(0u, handles.size());
}

DirectoryPage page_with_attributes(std::vector<uint64_t> inodes) {
  DirectoryPage page = page_of(0, inodes, false);
  for (DirectoryEntry& entry : page.entries)
    entry.attributes = Attributes{.inode = entry.inode};
  return page;
}

TEST(DirectoryHandles, APageIsDroppedWhenANameOfItsDirectoryIsRecalled) {
  DirectoryHandles handles;
  uint64_t own = handles.open(InodeId(1)), other = handles.open(InodeId(2));
  for (uint64_t handle : {own, other})
    handles.store(handle, page_of(0, {11, 15}, true));
  handles.names_recalled(InodeId(1));
  EXPECT_EQ(nullptr, handles.page(own, 11, true));
  EXPECT_NE(nullptr, handles.page(other, 11, true));
  handles.everything_recalled();
  EXPECT_EQ(nullptr, handles.page(other, 11, true));
}

TEST(DirectoryHandles, APageLosesTheAttributesThatAreRecalled) {
  DirectoryHandles handles;
  uint64_t handle = handles.open(InodeId(1));
  handles.store(handle, page_with_attributes({11, 15}));
  handles.attributes_recalled(InodeId(15));
  const DirectoryPage* page = handles.page(handle, 11, true);
  ASSERT_NE(nullptr, page);
  EXPECT_TRUE(page->entries[0].attributes);
  EXPECT_FALSE(page->entries[1].attributes);
}

TEST(DirectoryHandles, WhatIsRecalledWhileAPageIsFetchedIsNotInIt) {
  DirectoryHandles handles;
  DirectoryPage page = page_with_attributes({11, 15});
  uint64_t fetch = handles.fetching(InodeId(1));
  handles.attributes_recalled(InodeId(15));
  handles.names_recalled(InodeId(2));
  handles.fetched(fetch, page);
  EXPECT_TRUE(page.entries[0].attributes);
  EXPECT_FALSE(page.entries[1].attributes);
  EXPECT_FALSE(page.names_removed);

  fetch = handles.fetching(InodeId(1));
  handles.names_recalled(InodeId(1));
  handles.fetched(fetch, page);
  EXPECT_TRUE(page.names_removed);

  page.names_removed = false;
  fetch = handles.fetching(InodeId(1));
  for (uint64_t i = 0; i < 1000; ++i)
    handles.attributes_recalled(InodeId(1000 + i));
  handles.fetched(fetch, page);
  EXPECT_TRUE(page.names_removed);  // nothing of it is believed
}

TEST(DirectoryHandles, KnowWhichAnswersTheKernelMayNotHaveTakenIn) {
  DirectoryHandles handles;
  uint64_t handle = handles.open(InodeId(1));
  EXPECT_FALSE(handles.plus_under_way(InodeId(1)));
  handles.plus_given(handle, TimePoint{} + 5s);
  EXPECT_EQ(TimePoint{} + 5s, handles.plus_under_way(InodeId(1)));
  EXPECT_FALSE(handles.plus_under_way(InodeId(2)));
  EXPECT_TRUE(handles.any_plus_under_way());
  EXPECT_FALSE(handles.plus_taken(handle));  // nobody waits for it
  EXPECT_FALSE(handles.any_plus_under_way());
  handles.plus_given(handle, TimePoint{} + 6s);
  handles.wait_for_proof(InodeId(2));
  handles.wait_for_proof(InodeId(1));
  EXPECT_TRUE(handles.plus_taken(handle));
}

}  // namespace
}  // namespace cairn
