// Nothing is kept for ever that nobody refers to: when all chunks are removed the store holds nothing but its own
// record.
#pragma once

#include <string>
#include <vector>

#include "chunkserver/store/key_layout.h"
#include "common/kv/leveldb_store.h"
#include "common/kv/memory_store.h"
#include "tests/unit/chunkserver/store/workload.h"

namespace cairn {

inline std::vector<std::string> keys_of(StoreUnderTest& t) {
  std::unique_ptr<KvStore> kv;
  std::string folder = t.options.folder + "/kv";
  if (t.options.kv == KvKind::kMemory) {
    kv = MemoryStore::open(t.disk(), folder).value();
  } else {
    kv = LevelDbStore::open(t.disk(), folder).value();
  }
  std::vector<std::string> keys;
  std::unique_ptr<KvIterator> it = kv->iterate();
  for (it->seek(""); it->valid(); it->next())
    keys.emplace_back(it->key());
  return keys;
}

// Leaves the store closed and empty.
inline void expect_no_leak(StoreUnderTest& t, Workload& work) {
  work.remove_all();
  t.world->run_for(60s);
  t.close();
  std::vector<std::string> keys = keys_of(t);
  std::string letters;
  for (const std::string& key : keys) {
    if (letters.size() < 40) letters += key.substr(0, 1);
  }
  EXPECT_EQ(keys, std::vector<std::string>{store_keys::store()}) << letters;
  EXPECT_TRUE(t.disk().list(t.options.folder + "/log")->empty());
  t.new_world();
}

}  // namespace cairn
