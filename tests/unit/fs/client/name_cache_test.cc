#include "fs/client/name_cache.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

using namespace std::chrono_literals;

constexpr InodeId kFolder{2};
constexpr InodeId kFile{3};

TimePoint at(Duration since) {
  return TimePoint{} + 100s + since;
}

Attributes folder(uint64_t change) {
  Attributes a;
  a.inode = kFolder;
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

TEST(NameCache, AttributesAreKnownUntilTheLeaseEnds) {
  NameCache cache(100);
  EXPECT_FALSE(cache.attributes(kFile, at(0s)));
  cache.heard(file(1), at(1s));
  ASSERT_TRUE(cache.attributes(kFile, at(999ms)));
  EXPECT_EQ(cache.attributes(kFile, at(999ms))->until, at(1s));
  EXPECT_FALSE(cache.attributes(kFile, at(1s)));
}

TEST(NameCache, WhatComesLateDoesNotReplaceWhatIsNewer) {
  NameCache cache(100);
  cache.heard(file(5), at(1s));
  cache.heard(file(4), at(2s));
  EXPECT_EQ(cache.attributes(kFile, at(0s))->attributes.change, 5u);
  EXPECT_FALSE(cache.attributes(kFile, at(1500ms)));
}

TEST(NameCache, NewsWithoutALeaseAreTakenInAndDoNotMakeItLonger) {
  NameCache cache(100);
  cache.heard(file(1), {});
  EXPECT_FALSE(cache.attributes(kFile, at(0s)));
  cache.heard(file(1), at(1s));
  cache.heard(file(2), {});
  EXPECT_EQ(cache.attributes(kFile, at(0s))->attributes.change, 2u);
  EXPECT_FALSE(cache.attributes(kFile, at(1s)));
}

TEST(NameCache, AFileWithoutNamesIsForgotten) {
  NameCache cache(100);
  cache.heard(file(1), at(1s));
  Attributes gone = file(2);
  gone.nlink = 0;
  cache.heard(gone, at(1s));
  EXPECT_FALSE(cache.attributes(kFile, at(0s)));
}

TEST(NameCache, AFolderMadeHereHasNoNamesButThoseMadeHere) {
  NameCache cache(100);
  cache.made_directory(folder(1));
  EXPECT_FALSE(cache.absent_until(kFolder, "a", at(0s))) << "without a lease nothing is certain";
  cache.heard(folder(1), at(1s));
  EXPECT_EQ(cache.absent_until(kFolder, "a", at(0s)), at(1s));
  cache.changed(folder(2), 1);
  cache.added(kFolder, "a");
  cache.heard(folder(2), at(2s));
  EXPECT_FALSE(cache.absent_until(kFolder, "a", at(0s)));
  EXPECT_TRUE(cache.absent_until(kFolder, "b", at(1500ms)));
  cache.changed(folder(3), 1);
  cache.removed(kFolder, "a");
  cache.heard(folder(3), at(2s));
  EXPECT_TRUE(cache.absent_until(kFolder, "a", at(1500ms)));
  EXPECT_FALSE(cache.absent_until(kFolder, "a", at(2s)));
}

TEST(NameCache, TheNamesOutliveALease) {
  NameCache cache(100);
  cache.made_directory(folder(1));
  cache.heard(folder(1), at(1s));
  EXPECT_FALSE(cache.absent_until(kFolder, "a", at(5s)));
  cache.heard(folder(1), at(6s));  // asked again, and nothing has changed
  EXPECT_TRUE(cache.absent_until(kFolder, "a", at(5s)));
}

TEST(NameCache, AChangeByOthersMakesTheNamesUnknown) {
  NameCache seen(100);
  seen.made_directory(folder(1));
  seen.heard(folder(2), at(1s));  // an answer shows it
  EXPECT_FALSE(seen.absent_until(kFolder, "a", at(0s)));

  NameCache between(100);
  between.made_directory(folder(1));
  between.heard(folder(1), at(1s));
  between.changed(folder(3), 1);  // our change is the second
  between.added(kFolder, "b");
  between.heard(folder(3), at(1s));
  EXPECT_FALSE(between.absent_until(kFolder, "a", at(0s)));
}

TEST(NameCache, AnUncertainChangeMakesEverythingUnknown) {
  NameCache cache(100);
  cache.made_directory(folder(1));
  cache.heard(folder(1), at(1s));
  cache.forget(kFolder);
  EXPECT_FALSE(cache.attributes(kFolder, at(0s)));
  cache.heard(folder(1), at(1s));
  EXPECT_FALSE(cache.absent_until(kFolder, "a", at(0s)));
}

TEST(NameCache, ItIsBounded) {
  NameCache cache(100);
  for (uint64_t i = 1; i <= 1000; ++i) {
    Attributes a = file(1);
    a.inode = InodeId(10 + i);
    cache.heard(a, at(1s));
  }
  EXPECT_LE(cache.size(), 100u);
  EXPECT_TRUE(cache.attributes(InodeId(1010), at(0s))) << "the newest stay";
  cache.made_directory(folder(1));
  cache.heard(folder(1), at(1s));
  for (int i = 0; i < 1000; ++i)
    cache.added(kFolder, std::to_string(i));
  EXPECT_LE(cache.names(), 100u);
  EXPECT_FALSE(cache.absent_until(kFolder, "5", at(0s))) << "names that were dropped are not absent";
}

TEST(NameCache, WhatIsUsedStaysLonger) {
  NameCache cache(100);
  cache.heard(file(1), at(1s));
  for (uint64_t i = 1; i <= 300; ++i) {
    Attributes a = file(1);
    a.inode = InodeId(10 + i);
    cache.heard(a, at(1s));
    EXPECT_TRUE(cache.attributes(kFile, at(0s))) << i;
  }
}

}  // namespace
}  // namespace cairn
