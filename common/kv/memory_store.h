// MemoryStore: a KvStore in memory, alone or with a journal on a disk. The twin of LevelDbStore in tests and in the
// simulator (no threads of its own: the same calls give the same bytes on the disk), and enough for small clusters.
//
// Threads as in KvStore. Iterators may outlive the store. The Disk must outlive it.
#pragma once

#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>

#include "common/kv/kv_store.h"
#include "common/kv/persistent_map.h"
#include "common/runtime/disk.h"

namespace cairn {

class Journal;

struct MemoryStoreOptions {
  // The journal is written anew when it is longer than this and than twice what is alive in it.
  uint64_t journal_bytes_min = 16ull << 20;
};

class MemoryStore : public KvStore {
 public:
  // In memory only: checkpoint() answers kNotSupported.
  static std::unique_ptr<MemoryStore> in_memory();
  // Makes the folder and its journal if they are not there. kBusy if another process has it open, kCorrupt.
  static Result<std::unique_ptr<MemoryStore>> open(Disk& disk, std::string folder, MemoryStoreOptions options = {});
  // A fresh folder `to` with what the checkpoint (or closed store) `from` holds, durable when it returns; `from` stays
  // as it is.
  static Result<void> copy_checkpoint(Disk& disk, const std::string& from, const std::string& to);

  ~MemoryStore() override;
  Result<std::string> get(std::string_view key) const override;
  // For about half of all keys kAgain, the same ones always: whoever asks meets both answers in simulation, too.
  Result<std::string> get_cached(std::string_view key) const override;
  std::unique_ptr<KvIterator> iterate() const override;
  Result<void> write(const WriteBatch& batch, bool sync) override;
  Result<void> checkpoint(const std::string& target, const std::function<void()>& freeze) override;
  uint64_t disk_bytes() const override;

 private:
  MemoryStore(Disk* disk, std::string folder, MemoryStoreOptions options);
  void apply(const WriteBatch& batch);
  void rewrite_journal_if_mostly_dead();
  PersistentMap snapshot() const;

  Disk* const disk_;
  const std::string folder_;
  const MemoryStoreOptions options_;
  std::unique_ptr<FolderLock> lock_;

  mutable std::mutex write_mutex_;  // one writer, and its order in the journal; taken before map_mutex_
  std::unique_ptr<Journal> journal_;
  uint64_t rewrite_at_bytes_;
  bool failed_ = false;  // it is unknown which journal a crash would leave

  mutable std::shared_mutex map_mutex_;
  PersistentMap map_;
};

}  // namespace cairn
