// The kinds of KvStore, under one set of names, for the suites that run on all of them. Options are small, so that logs
// are switched, tables are merged, journals are rewritten and what is held back is handed on within a few hundred
// writes.
#pragma once

#include <memory>
#include <string>

#include "common/kv/leveldb_store.h"
#include "common/kv/memory_store.h"
#include "common/kv/write_behind_store.h"

namespace cairn {

struct MemoryKind {
  static constexpr const char* kName = "Memory";
  static constexpr const char* kLastFile = "journal";  // whose name makes a folder a store
  static Result<std::unique_ptr<KvStore>> open(Disk& disk, const std::string& folder) {
    auto store = MemoryStore::open(disk, folder, {.journal_bytes_min = 32 * kKiB});
    if (!store) return store.error();
    return std::unique_ptr<KvStore>(std::move(*store));
  }
  static Result<void> copy(Disk& disk, const std::string& from, const std::string& to) {
    return MemoryStore::copy_checkpoint(disk, from, to);
  }
};

struct LevelDbKind {
  static constexpr const char* kName = "LevelDb";
  static constexpr const char* kLastFile = "CURRENT";
  static LevelDbOptions options() {
    LevelDbOptions options;
    options.block_cache_bytes = kMiB;
    options.write_buffer_bytes = 64 * kKiB;  // the smallest that LevelDB takes
    options.log_fill_bytes = 8 * kKiB;
    return options;
  }
  static Result<std::unique_ptr<KvStore>> open(Disk& disk, const std::string& folder) {
    auto store = LevelDbStore::open(disk, folder, options());
    if (!store) return store.error();
    return std::unique_ptr<KvStore>(std::move(*store));
  }
  static Result<void> copy(Disk& disk, const std::string& from, const std::string& to) {
    return LevelDbStore::copy_checkpoint(disk, from, to);
  }
};

struct WriteBehindKind {
  static constexpr const char* kName = "WriteBehind";
  static constexpr const char* kLastFile = LevelDbKind::kLastFile;
  static Result<std::unique_ptr<KvStore>> open(Disk& disk, const std::string& folder) {
    auto store = LevelDbKind::open(disk, folder);
    if (!store) return store.error();
    return std::unique_ptr<KvStore>(std::make_unique<WriteBehindStore>(std::move(*store), 3 * kKiB));
  }
  static Result<void> copy(Disk& disk, const std::string& from, const std::string& to) {
    return LevelDbKind::copy(disk, from, to);
  }
};

struct KindNames {
  template <class Kind>
  static std::string GetName(int) {
    return Kind::kName;
  }
};

}  // namespace cairn
