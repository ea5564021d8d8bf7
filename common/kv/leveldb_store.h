// LevelDbStore: a KvStore in LevelDB, over LevelDbEnv, which gives it the order and the durability that KvStore
// promises.
//
// Threads as in KvStore; compactions run on a thread of the store. Iterators must not outlive the store. The Disk must
// outlive it.
#pragma once

#include <memory>
#include <string>

#include "common/base/units.h"
#include "common/kv/kv_store.h"
#include "common/runtime/disk.h"

namespace cairn {

struct LevelDbOptions {
  uint64_t block_cache_bytes = 64 * kMiB;  // of uncompressed blocks; the bound on what reads keep
  uint64_t write_buffer_bytes =
      16 * kMiB;  // in memory and in the log before it becomes a table; up to two of them at a time
  uint64_t table_bytes = 8 * kMiB;
  uint64_t block_bytes = 4 * kKiB;
  int open_files_max = 512;
  int bloom_bits_per_key = 10;  // 0: no filter
  bool compress = false;        // snappy; our values are mostly small or already compressed
  // Zeros ahead in the log, so that a sync changes no metadata. 0: off, and a full disk in the middle of a write ends
  // the store.
  uint64_t log_fill_bytes = 256 * kKiB;
  // Of a store that nobody opens after its machine has stopped (a state that is made anew from a checkpoint): a log is
  // not synced when LevelDB goes on to the next, which costs 0.1 s with all writers waiting. Checkpoints are durable as
  // ever, and so is what write() was asked to sync.
  bool lost_with_machine = false;
};

class LevelDbStore : public KvStore {
 public:
  // Makes the folder and the store if they are not there. Cuts what was being written when the machine stopped (a tail
  // of unsynced batches). kBusy if another process has it open, kCorrupt.
  static Result<std::unique_ptr<LevelDbStore>> open(Disk& disk, std::string folder, LevelDbOptions options = {});
  // A fresh folder `to` with what the checkpoint `from` holds, durable when it returns: tables are linked, the rest is
  // copied. A checkpoint that is to be kept is copied so before it is opened, for an open store changes its folder
  // (though never a linked table).
  static Result<void> copy_checkpoint(Disk& disk, const std::string& from, const std::string& to);

  ~LevelDbStore() override;
  Result<std::string> get(std::string_view key) const override;
  Result<std::string> get_cached(std::string_view key) const override;
  std::unique_ptr<KvIterator> iterate() const override;
  // kNoSpace: the batch is not in the store, and writing works again when there is space. After any other error the
  // store writes no more.
  Result<void> write(const WriteBatch& batch, bool sync) override;
  Result<void> checkpoint(const std::string& target, const std::function<void()>& freeze) override;
  uint64_t disk_bytes() const override;

  // Merges all tables; for tests and for maintenance.
  void compact();

 private:
  struct Impl;
  explicit LevelDbStore(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cairn
