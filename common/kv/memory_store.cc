#include "common/kv/memory_store.h"

#include <algorithm>

#include "common/base/log.h"
#include "common/base/units.h"
#include "common/kv/folder.h"
#include "common/kv/journal.h"

namespace cairn {
namespace {

class MemoryIterator : public KvIterator {
 public:
  explicit MemoryIterator(PersistentMap snapshot) : cursor_(std::move(snapshot)) {}
  void seek(std::string_view key) override { cursor_.seek(key); }
  bool valid() const override { return cursor_.valid(); }
  void next() override { cursor_.next(); }
  std::string_view key() const override { return cursor_.key(); }
  std::string_view value() const override { return cursor_.value(); }
  Result<void> status() const override { return {}; }

 private:
  PersistentMap::Cursor cursor_;
};

// A snapshot as batches of about a megabyte, for a compact journal.
class SnapshotBatches {
 public:
  explicit SnapshotBatches(PersistentMap snapshot) : cursor_(std::move(snapshot)) { cursor_.seek(""); }
  bool operator()(WriteBatch& batch) {
    uint64_t bytes = 0;
    while (cursor_.valid() && bytes < kMiB) {
      bytes += cursor_.key().size() + cursor_.value().size();
      batch.put(cursor_.key(), cursor_.value());
      cursor_.next();
    }
    return !batch.empty();
  }

 private:
  PersistentMap::Cursor cursor_;
};

}  // namespace

MemoryStore::MemoryStore(Disk* disk, std::string folder, MemoryStoreOptions options)
    : disk_(disk), folder_(std::move(folder)), options_(options), rewrite_at_bytes_(options.journal_bytes_min) {}

MemoryStore::~MemoryStore() = default;

std::unique_ptr<MemoryStore> MemoryStore::in_memory() {
  return std::unique_ptr<MemoryStore>(new MemoryStore(nullptr, {}, {}));
}

Result<std::unique_ptr<MemoryStore>> MemoryStore::open(Disk& disk, std::string folder, MemoryStoreOptions options) {
  Result<void> made = make_durable_folder(disk, folder);
  if (!made) return made.error();
  std::unique_ptr<MemoryStore> store(new MemoryStore(&disk, std::move(folder), options));
  Result<std::unique_ptr<FolderLock>> lock = disk.lock_folder(store->folder_);
  if (!lock) return lock.error();
  store->lock_ = std::move(*lock);
  Result<std::unique_ptr<Journal>> journal =
      Journal::open(disk, store->folder_, [&](const WriteBatch& batch) { store->apply(batch); });
  if (!journal) return journal.error();
  store->journal_ = std::move(*journal);
  return store;
}

Result<void> MemoryStore::copy_checkpoint(Disk& disk, const std::string& from, const std::string& to) {
  Result<bool> there = disk.exists(from + "/journal");
  if (!there) return there.error();
  if (!*there) return Error(ErrorCode::kNotFound, from + ": no store is there");
  Result<std::string> content = read_file(disk, from + "/journal");
  if (!content) return content.error();
  Result<void> made = make_fresh_folder(disk, to);
  if (!made) return made;
  Result<void> written = write_file(disk, to + "/journal", *content);
  if (!written) return written;
  return disk.sync_folder(parent_folder(to));
}

Result<std::string> MemoryStore::get(std::string_view key) const {
  std::shared_lock lock(map_mutex_);
  const std::string* value = map_.find(key);
  if (!value) return Error(ErrorCode::kNotFound);
  return *value;
}

Result<std::string> MemoryStore::get_cached(std::string_view key) const {
  unsigned sum = 0;
  for (char c : key)
    sum += static_cast<unsigned char>(c);
  if (sum % 2 != 0) return Error(ErrorCode::kAgain);
  return get(key);
}

PersistentMap MemoryStore::snapshot() const {
  std::shared_lock lock(map_mutex_);
  return map_;
}

std::unique_ptr<KvIterator> MemoryStore::iterate() const {
  return std::make_unique<MemoryIterator>(snapshot());
}

void MemoryStore::apply(const WriteBatch& batch) {
  std::unique_lock lock(map_mutex_);
  for (const WriteBatch::Change& change : batch.changes()) {
    if (change.value) {
      map_.put(change.key, *change.value);
    } else {
      map_.erase(change.key);
    }
  }
}

Result<void> MemoryStore::write(const WriteBatch& batch, bool sync) {
  std::scoped_lock lock(write_mutex_);
  if (failed_) return Error(ErrorCode::kIo, folder_ + ": the store failed before");
  if (journal_) {
    Result<void> appended = journal_->append(batch, sync);
    if (!appended) return appended;
  }
  apply(batch);
  if (journal_) rewrite_journal_if_mostly_dead();
  return {};
}

void MemoryStore::rewrite_journal_if_mostly_dead() {
  if (journal_->size_bytes() < rewrite_at_bytes_) return;
  PersistentMap all = snapshot();
  // What a compact journal would take, roughly.
  uint64_t alive_bytes = all.content_bytes() + 8 * all.size();
  if (journal_->size_bytes() < 2 * alive_bytes) {
    rewrite_at_bytes_ = 2 * alive_bytes;
    return;
  }
  Result<std::unique_ptr<Journal>> compact = Journal::replace(*disk_, folder_, SnapshotBatches(std::move(all)));
  if (compact) {
    journal_ = std::move(*compact);
    rewrite_at_bytes_ = std::max(options_.journal_bytes_min, 2 * journal_->size_bytes());
  } else if (compact.code() == ErrorCode::kNoSpace) {
    // The long journal is still good. Try again when it has doubled.
    rewrite_at_bytes_ = 2 * journal_->size_bytes();
  } else {
    log_error("kv.journal_rewrite_failed", "folder={} error={}", quoted(folder_), quoted(compact.error().message()));
    failed_ = true;
  }
}

Result<void> MemoryStore::checkpoint(const std::string& target, const std::function<void()>& freeze) {
  if (!disk_) return Error(ErrorCode::kNotSupported, "a store without a disk");
  PersistentMap all;
  {
    std::scoped_lock lock(write_mutex_);
    all = snapshot();
    if (freeze) freeze();
  }
  Result<void> made = make_fresh_folder(*disk_, target);
  if (!made) return made;
  Result<std::unique_ptr<Journal>> journal = Journal::replace(*disk_, target, SnapshotBatches(std::move(all)));
  if (!journal) return journal.error();
  return disk_->sync_folder(parent_folder(target));
}

uint64_t MemoryStore::disk_bytes() const {
  std::scoped_lock lock(write_mutex_);
  return journal_ ? journal_->size_bytes() : 0;
}

}  // namespace cairn
