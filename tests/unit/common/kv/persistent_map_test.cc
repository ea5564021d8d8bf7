#include "common/kv/persistent_map.h"

#include <gtest/gtest.h>
#include <map>
#include <thread>

#include "common/base/random.h"

namespace cairn {
namespace {

using Model = std::map<std::string, std::string>;

Model contents(const PersistentMap& map) {
  Model all;
  PersistentMap::Cursor cursor(map);
  for (cursor.seek(""); cursor.valid(); cursor.next())
    all.emplace(cursor.key(), cursor.value());
  return all;
}

TEST(PersistentMap, AgreesWithAModelAndKeepsEverySnapshot) {
  auto random = make_seeded_random(8);
  PersistentMap map;
  Model model;
  std::vector<std::pair<PersistentMap, Model>> snapshots;
  for (int i = 0; i < 20000; i++) {
    std::string key = std::to_string(random->below(400));
    if (random->chance(2, 5)) {
      map.erase(key);
      model.erase(key);
    } else {
      std::string value = std::to_string(i);
      map.put(key, value);
      model[key] = value;
    }
    ASSERT_EQ(map.size(), model.size());
    const std::string* found = map.find(key);
    ASSERT_EQ(found != nullptr, model.contains(key));
    if (random->chance(1, 500)) snapshots.emplace_back(map, model);
    if (random->chance(1, 2000))
      snapshots.erase(snapshots.begin(), snapshots.begin() + static_cast<long>(snapshots.size() / 2));
  }
  EXPECT_EQ(contents(map), model);
  EXPECT_GT(snapshots.size(), 5u);
  for (auto& [snapshot, expected] : snapshots)
    EXPECT_EQ(contents(snapshot), expected);
}

TEST(PersistentMap, CountsItsContent) {
  PersistentMap map;
  map.put("ab", "cde");
  map.put("ab", "f");
  map.put("x", "yz");
  EXPECT_EQ(map.content_bytes(), 6u);
  map.erase("ab");
  map.erase("ab");
  EXPECT_EQ(map.content_bytes(), 3u);
}

TEST(PersistentMap, SortedInsertsDoNotMakeItDeep) {
  // Recursion would end in a stack overflow if it were a list.
  PersistentMap map;
  std::string key(8, '\0');
  for (uint64_t i = 0; i < 100000; i++) {
    for (int b = 0; b < 8; b++)
      key[static_cast<size_t>(b)] = static_cast<char>(i >> (56 - 8 * b));
    map.put(key, "");
  }
  EXPECT_EQ(map.size(), 100000u);
}

TEST(PersistentMap, SnapshotsAreReadOnOtherThreadsWhileItChanges) {
  PersistentMap map;
  for (int i = 0; i < 1000; i++)
    map.put(std::to_string(i), "0");
  std::vector<std::thread> readers;
  for (int round = 1; round <= 50; round++) {
    readers.emplace_back([snapshot = map, round]() mutable {
      PersistentMap::Cursor cursor(std::move(snapshot));
      std::string expected = std::to_string(round - 1);
      size_t count = 0;
      for (cursor.seek(""); cursor.valid(); cursor.next(), count++)
        EXPECT_EQ(cursor.value(), expected);
      EXPECT_EQ(count, 1000u);
    });
    for (int i = 0; i < 1000; i++)
      map.put(std::to_string(i), std::to_string(round));
    if (readers.size() == 5) {
      for (auto& reader : readers)
        reader.join();
      readers.clear();
    }
  }
  for (auto& reader : readers)
    reader.join();
}

}  // namespace
}  // namespace cairn
