// SharedRanges: which blocks of one segment of the value log are referred to more than once, and how often. A block
// that is not in it has one reference or none; so a store without clones keeps nothing here.
//
// Pure. Not thread-safe; owned by the store, on the loop. Changes to the records are collected for the next batch.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace cairn {

class SharedRanges {
 public:
  struct Count {
    uint32_t blocks = 0;
    uint32_t references = 0;  // at least 2
    bool operator==(const Count&) const = default;
  };
  struct Blocks {
    uint32_t first = 0;
    uint32_t blocks = 0;
    bool operator==(const Blocks&) const = default;
  };
  // A record that is to be put, or erased (no count).
  using Changes = std::map<uint32_t, std::optional<Count>>;

  void load(uint32_t first, Count count) { ranges_[first] = count; }
  // One reference more for each block; they have at least one.
  void add(Blocks blocks);
  // One reference less. Returns the blocks that nobody refers to now.
  std::vector<Blocks> release(Blocks blocks);
  bool shared(uint32_t block) const;
  bool empty() const { return ranges_.empty(); }
  size_t size() const { return ranges_.size(); }
  const std::map<uint32_t, Count>& ranges() const { return ranges_; }
  Changes take_changes() { return std::exchange(changes_, {}); }

 private:
  void split_at(uint32_t block);
  void put(uint32_t first, Count count);
  void erase(uint32_t first);
  void merge(uint32_t first, uint32_t end);

  std::map<uint32_t, Count> ranges_;  // do not overlap
  Changes changes_;
};

}  // namespace cairn
