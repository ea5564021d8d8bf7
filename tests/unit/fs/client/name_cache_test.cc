#include "fs/client/name_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cairn {
namespace {

constexpr InodeId kFolder{2};
constexpr InodeId kFile{3};

Attributes folder(uint64_t change, InodeId inode = kFolder) {
  Attributes a;
  a.inode = inode;
  a.type = FileType::kDirectory;
  a.nlink = 2;
  a.change = change;
  return a;
}

Attributes file(uint64_t change) {
  Attributes a;
  a.inode = kFile;
  a.nlink = 1;
  a.change = change;
  return a;
}

ReadDirectoryReply page(uint64_t change, std::vector<std::pair<std::string, uint64_t>> entries, bool end) {
  ReadDirectoryReply reply;
  reply.directory = folder(change);
  reply.parent = kRootInode;
  reply.end = end;
  for (auto& [name, cookie] : entries) {
    DirectoryEntry entry;
    entry.name = name;
    entry.inode = InodeId(100 + cookie);
    entry.cookie = cookie;
    reply.entries.push_back(entry);
  }
  return reply;
}

std::vector<std::string> names_of(const std::optional<NameCache::Page>& page) {
  std::vector<std::string> names;
  if (!page) return {"(unknown)"};
  for (const DirectoryEntry& entry : page->entries)
    names.push_back(entry.name);
  return names;
}

TEST(NameCache, WhatComesLateDoesNotReplaceWhatIsNewer) {
  NameCache cache(100);
  EXPECT_EQ(cache.attributes(kFile), nullptr);
  cache.heard(file(5));
  cache.heard(file(4));
  ASSERT_NE(cache.attributes(kFile), nullptr);
  EXPECT_EQ(cache.attributes(kFile)->change, 5u);
}

TEST(NameCache, NewsWithoutALeaseEndWhatWasKnown) {
  NameCache cache(100);
  cache.heard_of(file(1));
  EXPECT_EQ(cache.attributes(kFile), nullptr);
  cache.heard(file(2));
  cache.heard_of(file(2));
  EXPECT_NE(cache.attributes(kFile), nullptr);
  cache.heard_of(file(3));
  EXPECT_EQ(cache.attributes(kFile), nullptr);
}

TEST(NameCache, AFileWithoutNamesIsForgotten) {
  NameCache cache(100);
  cache.heard(file(1));
  Attributes gone = file(2);
  gone.nlink = 0;
  cache.heard(gone);
  EXPECT_EQ(cache.attributes(kFile), nullptr);
}

TEST(NameCache, ExtendedAttributesAreOfTheAttributesTheyCameWith) {
  NameCache cache(100);
  cache.heard(file(2));
  cache.heard_xattrs(kFile, 1, {"user.old"});
  EXPECT_EQ(cache.xattrs(kFile), nullptr);
  cache.heard_xattrs(kFile, 2, {"user.a"});
  ASSERT_NE(cache.xattrs(kFile), nullptr);
  cache.heard(file(3));
  EXPECT_EQ(cache.xattrs(kFile), nullptr);
}

TEST(NameCache, AFolderMadeHereHasNoNamesButThoseMadeHere) {
  NameCache cache(100);
  EXPECT_FALSE(cache.name(kFolder, "a"));
  cache.made_directory(folder(1));
  EXPECT_EQ(cache.name(kFolder, "a"), InodeId{});
  cache.added(folder(2), "a", kFile);
  EXPECT_EQ(cache.name(kFolder, "a"), kFile);
  EXPECT_EQ(cache.name(kFolder, "b"), InodeId{});
  cache.removed(folder(3), "a");
  EXPECT_EQ(cache.name(kFolder, "a"), InodeId{});
}

TEST(NameCache, ARecalledNameIsNeitherThereNorAbsent) {
  NameCache cache(100);
  cache.made_directory(folder(1));
  cache.heard(folder(1));
  cache.forget_name(kFolder, "a");
  EXPECT_FALSE(cache.name(kFolder, "a"));
  EXPECT_EQ(cache.name(kFolder, "b"), InodeId{});
  EXPECT_EQ(cache.attributes(kFolder), nullptr);
  cache.looked_up(folder(2), "a", kFile);
  EXPECT_EQ(cache.name(kFolder, "a"), kFile);
}

TEST(NameCache, NamesThatWereLookedUpAreKnownAndOthersAreNot) {
  NameCache cache(100);
  cache.looked_up(folder(1), "a", kFile);
  cache.looked_up(folder(1), "b", {});
  EXPECT_EQ(cache.name(kFolder, "a"), kFile);
  EXPECT_EQ(cache.name(kFolder, "b"), InodeId{});
  EXPECT_FALSE(cache.name(kFolder, "c"));
}

TEST(NameCache, AnAnswerFromBeforeAnOwnChangeIsPassedOver) {
  NameCache cache(100);
  cache.looked_up(folder(1), "a", kFile);
  cache.removed(folder(2), "a");
  cache.looked_up(folder(1), "a", kFile);
  EXPECT_EQ(cache.name(kFolder, "a"), InodeId{});
}

TEST(NameCache, AnOwnChangeThatIsAnsweredLateIsNotCertain) {
  NameCache cache(100);
  cache.made_directory(folder(1));
  cache.added(folder(3), "a", kFile);  // after the one that removed it
  cache.removed(folder(2), "a");
  EXPECT_FALSE(cache.name(kFolder, "a"));
}

TEST(NameCache, AWholeListingAnswersForAllNamesAndForListings) {
  NameCache cache(100);
  cache.listed(0, page(1, {{"a", 3}, {"b", 4}}, false));
  EXPECT_FALSE(cache.page(kFolder, 0, 10));
  EXPECT_FALSE(cache.name(kFolder, "zz"));
  cache.listed(4, page(1, {{"c", 9}}, true));
  EXPECT_THAT(names_of(cache.page(kFolder, 0, 10)), testing::ElementsAre("a", "b", "c"));
  EXPECT_THAT(names_of(cache.page(kFolder, 3, 1)), testing::ElementsAre("b"));
  EXPECT_FALSE(cache.page(kFolder, 3, 1)->end);
  EXPECT_TRUE(cache.page(kFolder, 4, 1)->end);
  EXPECT_EQ(cache.page(kFolder, 0, 1)->parent, kRootInode);
  EXPECT_EQ(cache.name(kFolder, "zz"), InodeId{});
  EXPECT_EQ(cache.name(kFolder, "c"), InodeId(109));
}

TEST(NameCache, PagesOfDifferentStatesAreNoListing) {
  NameCache cache(100);
  cache.listed(0, page(1, {{"a", 3}}, false));
  cache.listed(3, page(2, {{"c", 9}}, true));
  EXPECT_FALSE(cache.page(kFolder, 0, 10));
  cache.listed(0, page(2, {{"a", 3}}, false));
  cache.forget_name(kFolder, "b");
  cache.listed(3, page(2, {{"c", 9}}, true));
  EXPECT_FALSE(cache.page(kFolder, 0, 10));
}

TEST(NameCache, OwnChangesKeepAListingOrEndIt) {
  NameCache cache(100);
  cache.listed(0, page(1, {{"a", 3}, {"b", 4}}, true));
  cache.removed(folder(2), "a");
  EXPECT_THAT(names_of(cache.page(kFolder, 0, 10)), testing::ElementsAre("b"));
  cache.added(folder(3), "new", kFile);
  EXPECT_FALSE(cache.page(kFolder, 0, 10));
  EXPECT_EQ(cache.name(kFolder, "a"), InodeId{});
  EXPECT_EQ(cache.name(kFolder, "new"), kFile);
}

TEST(NameCache, BothKindsAreBounded) {
  NameCache cache(100);
  for (uint64_t i = 0; i < 1000; ++i) {
    Attributes a = file(1);
    a.inode = InodeId(1000 + i);
    cache.heard(a);
    cache.looked_up(folder(1, InodeId(5000 + i % 50)), "n" + std::to_string(i), a.inode);
  }
  EXPECT_LE(cache.size(), 100u);
  EXPECT_LE(cache.names(), 100u);
  ReadDirectoryReply large = page(1, {}, true);
  for (uint64_t i = 0; i < 200; ++i)
    large.entries.push_back({.name = "e" + std::to_string(i), .inode = InodeId(7000 + i), .cookie = 3 + i});
  cache.listed(0, large);
  EXPECT_FALSE(cache.page(kFolder, 0, 10));
  EXPECT_LE(cache.names(), 100u);
}

}  // namespace
}  // namespace cairn
