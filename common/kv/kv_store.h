// KvStore: an ordered store of bytes by bytes (bytewise order). Two of them, LevelDB (leveldb_store.h) and memory (memory_store.h); every
// suite that needs a store runs on both.
//
// Blocking: called on a BlockingPool, or on the thread that owns it. get, iterators and snapshots are thread-safe beside one writer.
// What write() returned without sync is kept when the process dies and may be lost when the machine does, always from the end: a batch
// survives only if all before it do (LevelDB alone does not promise this; our Env does, leveldb_env.h). A synced write makes everything before it durable.
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace cairn {

// Atomic changes, in order. Keeps its own copies, in blocks: a batch of a thousand records is a handful of allocations.
class WriteBatch {
 public:
  struct Change {  // views of the batch's own; good until clear() or its end
    std::string_view key;
    std::optional<std::string_view> value;  // none: erase
    bool is_new = false;                    // the caller knows that nothing is under the key
  };
  void put(std::string_view key, std::string_view value) { changes_.push_back({keep(key), keep(value)}); }
  void put_new(std::string_view key, std::string_view value) { changes_.push_back({keep(key), keep(value), true}); }
  void erase(std::string_view key) { changes_.push_back({keep(key), std::nullopt}); }
  void reserve(size_t changes) { changes_.reserve(changes); }
  bool empty() const { return changes_.empty(); }
  void clear() {
    changes_.clear();
    blocks_.clear();
    free_ = {};
  }
  const std::vector<Change>& changes() const { return changes_; }

 private:
  std::string_view keep(std::string_view bytes) {
    if (bytes.size() > free_.size()) {
      const size_t size = std::max(bytes.size(), kBlockBytes);
      blocks_.push_back(std::make_unique_for_overwrite<char[]>(size));
      free_ = {blocks_.back().get(), size};
    }
    std::copy(bytes.begin(), bytes.end(), free_.begin());
    const std::string_view kept(free_.data(), bytes.size());
    free_ = free_.subspan(bytes.size());
    return kept;
  }

  static constexpr size_t kBlockBytes = 4096;
  std::vector<Change> changes_;
  std::vector<std::unique_ptr<char[]>> blocks_;
  std::span<char> free_;  // of the last block
};

// A position in a consistent view taken when it was made. Views of key and value last until the next move.
class KvIterator {
 public:
  virtual ~KvIterator() = default;
  virtual void seek(std::string_view key) = 0;  // the first key >= key
  virtual bool valid() const = 0;
  virtual void next() = 0;
  virtual std::string_view key() const = 0;
  virtual std::string_view value() const = 0;
  virtual Result<void> status() const = 0;      // an error that ended it early: kCorrupt, kIo
};

class KvStore {
 public:
  virtual ~KvStore() = default;
  // kNotFound if the key is not there.
  virtual Result<std::string> get(std::string_view key) const = 0;
  // The same without waiting for the disk; kAgain where it would have to.
  virtual Result<std::string> get_cached(std::string_view key) const = 0;
  virtual std::unique_ptr<KvIterator> iterate() const = 0;
  virtual Result<void> write(const WriteBatch& batch, bool sync) = 0;
  // A copy of everything up to the last write, as a folder `target` that open() of the same kind accepts; durable when it returns. Cheap (hard links) where
  // possible. May run on another thread than the writer's; `freeze` runs while no write can come in between, to note which state this is.
  virtual Result<void> checkpoint(const std::string& target, const std::function<void()>& freeze) = 0;
  // Approximate bytes on disk.
  virtual uint64_t disk_bytes() const = 0;
};

}  // namespace cairn
