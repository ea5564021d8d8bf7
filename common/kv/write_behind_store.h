// WriteBehindStore: a KvStore over another one that gathers batches and hands them on as one, sorted: what is changed
// again and again (counters, sessions, directories) is written once, what comes and goes meanwhile not at all, and a
// sorted batch costs LevelDB's skip list a third of what single records do.
//
// What write() returned without sync may be lost with the process, always from the end and by whole batches: for an
// owner who can make it again (the masters' log). flush(), a synced write, iterate() and checkpoint() hand everything
// on. After an error of the store below nothing is handed on any more, and every write fails with it.
// Thread-safe as KvStore says. The destructor does not flush.
#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <boost/unordered/unordered_flat_map.hpp>

#include "common/kv/kv_store.h"

namespace cairn {

class WriteBehindStore final : public KvStore {
 public:
  // Holds back batches of up to about `held_bytes` together.
  WriteBehindStore(std::unique_ptr<KvStore> store, size_t held_bytes)
      : store_(std::move(store)), held_bytes_(held_bytes) {}

  // The store below has everything that was written before this.
  Result<void> flush();

  Result<std::string> get(std::string_view key) const override;
  Result<std::string> get_cached(std::string_view key) const override;
  std::unique_ptr<KvIterator> iterate() const override;
  Result<void> write(const WriteBatch& batch, bool sync) override;
  Result<void> checkpoint(const std::string& target, const std::function<void()>& freeze) override;
  uint64_t disk_bytes() const override { return store_->disk_bytes(); }

 private:
  // Changes on their way, and the bytes of their keys and values.
  class Held {
   public:
    struct Slot {
      std::optional<std::string_view> value;  // none: erased
      bool absent_below = false;              // the store below has nothing under the key
    };
    void take(const WriteBatch& batch);
    // None: nothing is known here. The inner one none: erased.
    std::optional<std::optional<std::string_view>> find(std::string_view key) const;
    bool empty() const { return slots_.empty(); }
    size_t bytes() const { return bytes_; }
    WriteBatch sorted() const;

   private:
    std::string_view keep(std::string_view bytes);
    boost::unordered_flat_map<std::string_view, Slot> slots_;
    std::vector<std::unique_ptr<char[]>> blocks_;
    std::span<char> free_;  // of the last block
    size_t bytes_ = 0;      // taken, also by what was written over since
  };

  std::optional<Result<std::string>> find_held(std::string_view key) const;
  // Under flush_mutex_.
  Result<void> hand_on(bool sync) const;

  const std::unique_ptr<KvStore> store_;
  const size_t held_bytes_;
  std::mutex write_mutex_;          // one writer; taken first
  mutable std::mutex flush_mutex_;  // one at a time hands on; taken before mutex_
  mutable std::mutex mutex_;        // what follows; held for a moment
  mutable Held held_;
  mutable std::shared_ptr<const Held> leaving_;  // being written below, or failed; shared with the one who writes it
  mutable std::optional<Error> failure_;
};

}  // namespace cairn
