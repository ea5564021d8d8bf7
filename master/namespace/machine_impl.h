// The inside of Machine: what machine.cc (applying) and reads.cc (reading) share.
//
// Two locks. `memory_lock` guards what is in memory (the cache as a state, the counters, the decoded tables): an apply takes it for the moment in which its
// changes become visible. `store_lock` is held from that moment until the store has them too: whoever reads the store takes it, so
// that cache and store agree. A read from memory only takes the first and so never waits for the store.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <shared_mutex>

#include "master/namespace/fair_shared_mutex.h"
#include "master/namespace/machine.h"
#include "master/namespace/record_cache.h"
#include "master/namespace/record_reader.h"
#include "master/namespace/transaction.h"

namespace cairn {

// One read of the state as it is between two entries. Holds the lock that its mode needs; short-lived.
class StateReader final : public RecordReader {
 public:
  StateReader(const KvStore& store, RecordCache& cache, FairSharedMutex& store_lock, FairSharedMutex& memory_lock,
              ReadMode mode)
      : store_(store), cache_(cache), mode_(mode), lock_(mode == ReadMode::kMayBlock ? store_lock : memory_lock) {}

 protected:
  Result<std::optional<std::string>> load(std::string_view key) const override;
  Result<void> load_range(std::string_view prefix, std::string_view from, const Visit& visit) const override;

 private:
  const KvStore& store_;
  RecordCache& cache_;
  const ReadMode mode_;
  std::shared_lock<FairSharedMutex> lock_;
};

class Machine::Impl {
 public:
  Impl(KvStore& store_in, const MachineOptions& options) : store(store_in), cache(options.cache_bytes) {}

  Result<void> load();
  Result<std::vector<Reply>> apply(const LogContext& context, std::span<const Command* const> commands);
  StateReader reader(ReadMode mode) const { return StateReader(store, cache, store_lock, memory_lock, mode); }

  KvStore& store;
  mutable RecordCache cache;
  mutable FairSharedMutex store_lock;
  mutable FairSharedMutex memory_lock;
  Transaction::Tables tables;  // guarded by memory_lock; written by apply only

 private:
  void publish(Transaction& tx, WriteBatch& batch);
  Result<void> update_tables(std::string_view key, const std::optional<std::string>& value);
};

}  // namespace cairn
