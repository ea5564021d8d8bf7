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

}  // namespace
}  // namespace cairn
