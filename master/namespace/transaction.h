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
#include "common/locks/inode_locks.h"
#include "master/namespace/record_cache.h"
#include "master/namespace/record_reader.h"

namespace cairn {

// How many chunk references all commands of one entry may remove at once; beyond it the rest goes to the work queue. A commit that drops 1,024 chunks
// changes some 11,000 records: tens of milliseconds.
inline constexpr uint32_t kInlineRemovalsPerEntry = 1024;

class Transaction final : public RecordReader {
 public:
  // What Machine keeps decoded, as it was before the entry. Outlives the transaction.
  struct Tables {
    CounterRecord counters;
    std::optional<ClusterRecord> cluster;
    std::map<SessionId, SessionRecord> sessions;
    std::map<ServerId, ServerRecord> servers;
    std::map<InodeId, InodeLocks> locks;
  };

  Transaction(const KvStore& store, RecordCache& cache, const LogContext& context, const Tables& before);

  const LogContext& context() const { return context_; }
  const std::map<SessionId, SessionRecord>& sessions_before() const { return before_.sessions; }
  CounterRecord& counters() { return counters_; }
  const CounterRecord& counters() const { return counters_; }
  // What is left of kInlineRemovalsPerEntry; takes `count` of it if there is enough.
  bool take_inline_removals(uint32_t count);

  void put(std::string key, std::string value);
  void erase(std::string key);
  void put_inode(const InodeRecord& inode) { put(keys::inode(inode.attributes.inode), encode(inode)); }

  // These hide RecordReader's: from the tables, and from what this entry has changed. Each mutation changes its session, so that is encoded once an
  // entry: by finish().
  std::optional<ClusterRecord> cluster() const;
  std::optional<ServerRecord> server(ServerId id) const;
  std::optional<SessionRecord> session(SessionId id) const;
  InodeLocks locks(InodeId inode) const;  // none: empty
  void put_locks(InodeId inode, const InodeLocks& locks);  // with the index by session
  void put_session(SessionId id, SessionRecord session) { set_session(id, std::move(session)); }
  void erase_session(SessionId id) { set_session(id, std::nullopt); }

  // After the last command: what is still only decoded becomes part of the changes.
  void finish();

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
    Changes::value_type* change = nullptr;
    bool was_changed = false;            // before, in this entry
    std::optional<std::string> value;    // what it was changed to
  };
  using SessionChange = std::optional<SessionRecord>;  // none: erased
  struct SessionUndo {
    SessionId id;
    std::optional<SessionChange> before;  // none: it was not changed in this entry
  };
  void set(std::string key, std::optional<std::string> value);
  void set_session(SessionId id, SessionChange session);

  const KvStore& store_;
  RecordCache& cache_;
  const LogContext& context_;
  const Tables& before_;
  CounterRecord counters_, counters_saved_;
  uint32_t inline_removals_left_ = kInlineRemovalsPerEntry, inline_removals_saved_ = kInlineRemovalsPerEntry;
  Changes changes_;
  std::vector<Undo> undo_;
  std::map<SessionId, SessionChange> sessions_;
  std::vector<SessionUndo> session_undo_;
};

// Walks the store's records with that prefix; shared by Transaction and the reads.
Result<void> scan_store(const KvStore& store, std::string_view prefix, std::string_view from, const RecordReader::Visit& visit);

}  // namespace cairn
