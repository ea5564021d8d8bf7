// Nothing is kept for ever that nobody refers to: when all chunks are removed the store holds nothing but its own
// record.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "chunkserver/store/key_layout.h"
#include "common/kv/leveldb_store.h"
#include "common/kv/memory_store.h"
#include "tests/unit/chunkserver/store/workload.h"

namespace cairn {

inline std::map<std::string, std::string> records_of(StoreUnderTest& t) {
  std::unique_ptr<KvStore> kv;
  std::string folder = t.options.folder + "/kv";
  if (t.options.kv == KvKind::kMemory) {
    kv = MemoryStore::open(t.disk(), folder).value();
  } else {
    kv = LevelDbStore::open(t.disk(), folder).value();
  }
  std::map<std::string, std::string> records;
  std::unique_ptr<KvIterator> it = kv->iterate();
  for (it->seek(""); it->valid(); it->next())
    records.emplace(it->key(), it->value());
  return records;
}

// Of a closed store: the segments take no more space than the blocks that somebody refers to, the counts of references
// and of live blocks are right, and no inline block or note of a user is there for nothing.
inline void expect_records_agree(StoreUnderTest& t) {
  std::map<std::string, std::string> records = records_of(t);
  std::map<LogPlace, uint32_t> references;
  std::set<std::string> inline_keys, user_keys;
  for (const auto& [key, value] : records) {
    if (key[0] != store_keys::kExtentsLetter) continue;
    store_keys::BodyKey at = store_keys::parse_body_key(key).value();
    ExtentGroup group = ExtentGroup::decode(value).value();
    for (uint32_t i = 0; i < kBlocksPerGroup; ++i) {
      if (group.at(i).kind == BlockKind::kLog) ++references[group.at(i).place];
      if (group.at(i).kind == BlockKind::kInline) {
        inline_keys.insert(store_keys::inline_block(at.body, at.number * kBlocksPerGroup + i));
      }
    }
    for (uint32_t segment : group.segments())
      user_keys.insert(store_keys::user(segment, at.body, at.number));
  }
  std::map<uint32_t, uint32_t> live, live_recorded;
  std::map<LogPlace, uint32_t> shared, shared_recorded;
  for (const auto& [place, count] : references) {
    ++live[place.segment];
    if (count > 1) shared[place] = count;
  }
  std::set<std::string> inline_there, user_there;
  for (const auto& [key, value] : records) {
    if (key[0] == store_keys::kInlineLetter) inline_there.insert(key);
    if (key[0] == store_keys::kUserLetter) user_there.insert(key);
    if (key[0] == store_keys::kSegmentLetter) {
      live_recorded[store_keys::parse_segment_key(key).value()] = SegmentRecord::decode(value)->live_blocks;
    }
    if (key[0] == store_keys::kSharedLetter) {
      LogPlace place = store_keys::parse_place_key(key).value();
      SharedRecord record = SharedRecord::decode(value).value();
      for (uint32_t i = 0; i < record.blocks; ++i)
        shared_recorded[place.plus(i)] = record.references;
    }
  }
  EXPECT_EQ(inline_there, inline_keys);
  EXPECT_EQ(user_there, user_keys);
  EXPECT_EQ(live_recorded, live);
  EXPECT_EQ(shared_recorded, shared);
  if (t.options.kv != KvKind::kMemory) return;  // whose files take what they are long
  uint64_t others = 0;
  for (std::string folder : {std::string(), std::string("/kv")}) {
    for (const std::string& name : t.disk().list(t.options.folder + folder).value()) {
      Result<uint64_t> size = t.disk().file_size(t.options.folder + folder + "/" + name);
      if (size) others += (*size + 4095) / 4096 * 4096;
    }
  }
  EXPECT_EQ(t.used_bytes() - others, references.size() * kBlockSizeBytes) << "space that nobody refers to";
}

// Leaves the store closed and empty.
inline void expect_no_leak(StoreUnderTest& t, Workload& work) {
  work.remove_all();
  t.world->run_for(60s);
  t.close();
  std::string letters;
  for (const auto& [key, value] : records_of(t)) {
    if (letters.size() < 40) letters += key[0];
  }
  EXPECT_EQ(letters, store_keys::store());
  EXPECT_TRUE(t.disk().list(t.options.folder + "/log")->empty());
  t.new_world();
}

}  // namespace cairn
