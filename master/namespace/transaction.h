// Transaction: the changes of one log entry before they are written, seen by the commands that follow in it. A command that fails half-way is
// taken back with rollback(). Owned by Machine::apply; not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/kv/kv_store.h"
#include "master/namespace/record_cache.h"
#include "master/namespace/record_reader.h"

namespace cairn {

// How many chunk references all commands of one entry may remove at once; beyond it the rest goes to the work queue. A commit that drops 1,024 chunks
// changes some 11,000 records: tens of milliseconds.
inline constexpr uint32_t kInlineRemovalsPerEntry = 1024;

class Transaction final : public RecordReader {
 public:
  // The sessions as they were before the entry: what a Tick looks through.
  using Sessions = std::map<SessionId, SessionRecord>;

  Transaction(const KvStore& store, RecordCache& cache, const LogContext& context, const CounterRecord& counters,
              const Sessions& sessions);

  const LogContext& context() const { return context_; }
  const Sessions& sessions_before() const { return sessions_before_; }
  CounterRecord& counters() { return counters_; }
  const CounterRecord& counters() const { return counters_; }
  // What is left of kInlineRemovalsPerEntry; takes `count` of it if there is enough.
  bool take_inline_removals(uint32_t count);

  void put(std::string key, std::string value);
  void erase(std::string key);
  void put_inode(const InodeRecord& inode) { put(keys::inode(inode.attributes.inode), encode(inode)); }

  // Takes back everything since the last call of savepoint(), counters included.
  void savepoint();
  void rollback();

  struct KeyHash {
    using is_transparent = void;
    size_t operator()(std::string_view key) const { return std::hash<std::string_view>()(key); }
  };
  // In no order: each key occurs once, so the state does not depend on it.
  using Changes = std::unordered_map<std::string, std::optional<std::string>, KeyHash, std::equal_to<>>;
  Changes& changes() { return changes_; }

 protected:
  Result<std::optional<std::string>> load(std::string_view key) const override;
  Result<void> load_range(std::string_view prefix, std::string_view from, const Visit& visit) const override;

 private:
  struct Undo {
    std::string key;
    bool was_changed = false;            // before, in this entry
    std::optional<std::string> value;    // what it was changed to
  };
  void set(std::string key, std::optional<std::string> value);

  const KvStore& store_;
  RecordCache& cache_;
  const LogContext& context_;
  const Sessions& sessions_before_;
  CounterRecord counters_, counters_saved_;
  uint32_t inline_removals_left_ = kInlineRemovalsPerEntry, inline_removals_saved_ = kInlineRemovalsPerEntry;
  Changes changes_;
  std::vector<Undo> undo_;
};

// Walks the store's records with that prefix; shared by Transaction and the reads.
Result<void> scan_store(const KvStore& store, std::string_view prefix, std::string_view from, const RecordReader::Visit& visit);

}  // namespace cairn
