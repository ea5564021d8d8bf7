// BatchWriter collects what one atomic, synced batch of the store holds. Built on the loop, from the plans of several
// commits; bytes of inline blocks are put in by fill() on the pool, for the loop has better things to do than to copy
// them.
//
// Loop thread only, but for fill().
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "chunkserver/store/extent_map.h"
#include "chunkserver/store/key_layout.h"
#include "common/kv/kv_store.h"

namespace cairn {

class BatchWriter {
 public:
  void put(std::string_view key, std::string_view value) {
    batch_.put(key, value);
    bytes_ += key.size() + value.size();
  }
  void erase(std::string_view key) {
    batch_.erase(key);
    bytes_ += key.size();
  }
  // Extents, inline blocks and who uses which segment.
  void add(ChunkId chunk, BodyId body, const ExtentMap::Plan& plan);
  // To be freed when the batch is durable.
  void add_freed(const std::vector<LogRange>& ranges);

  size_t bytes() const { return bytes_; }
  bool empty() const { return batch_.empty() && inline_.empty(); }
  // The batch with everything in it. On one thread at a time; nothing is added after it.
  const WriteBatch& fill();
  std::vector<LogRange> take_freed() { return std::exchange(freed_, {}); }

 private:
  WriteBatch batch_;
  std::vector<std::pair<std::string, BlockBytes>> inline_;
  std::vector<LogRange> freed_;
  size_t bytes_ = 0;
};

// The bytes without the zeros at their end.
std::string_view without_zeros(std::span<const std::byte> bytes);

}  // namespace cairn
