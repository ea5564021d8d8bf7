#include "common/kv/leveldb_store.h"

#include <leveldb/cache.h>
#include <leveldb/db.h>
#include <leveldb/filter_policy.h>
#include <leveldb/write_batch.h>
#include <mutex>
#include <shared_mutex>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/kv/folder.h"
#include "common/kv/leveldb_env.h"
#include "common/kv/leveldb_log.h"

namespace cairn {
namespace {

leveldb::Slice slice_of(std::string_view text) {
  return {text.data(), text.size()};
}
std::string_view view_of(const leveldb::Slice& slice) {
  return {slice.data(), slice.size()};
}

leveldb::ReadOptions read_options() {
  leveldb::ReadOptions options;
  options.verify_checksums = true;  // check data just after reading it
  return options;
}

class LevelDbIterator : public KvIterator {
 public:
  explicit LevelDbIterator(std::shared_ptr<leveldb::DB> db)
      : db_(std::move(db)), iterator_(db_->NewIterator(read_options())) {}
  void seek(std::string_view key) override { iterator_->Seek(slice_of(key)); }
  bool valid() const override { return iterator_->Valid(); }
  void next() override { iterator_->Next(); }
  std::string_view key() const override { return view_of(iterator_->key()); }
  std::string_view value() const override { return view_of(iterator_->value()); }
  Result<void> status() const override {
    leveldb::Status status = iterator_->status();
    if (!status.ok()) return to_error(status);
    return {};
  }

 private:
  const std::shared_ptr<leveldb::DB> db_;  // the store opens LevelDB anew only when nobody else holds it
  const std::unique_ptr<leveldb::Iterator> iterator_;
};

// When LevelDB could not be opened anew.
class FailedIterator : public KvIterator {
 public:
  explicit FailedIterator(Error error) : error_(std::move(error)) {}
  void seek(std::string_view) override {}
  bool valid() const override { return false; }
  void next() override { CHECK(false); }
  std::string_view key() const override { return {}; }
  std::string_view value() const override { return {}; }
  Result<void> status() const override { return error_; }

 private:
  const Error error_;
};

// The most that LevelDB's log takes for a batch of `bytes`: a header a fragment, a fragment a block, and the rest of
// the block before.
uint64_t log_bytes_max(uint64_t bytes) {
  constexpr uint64_t kHeaderBytes = 7;
  constexpr uint64_t kBlockDataBytes = 32 * kKiB - kHeaderBytes;
  return bytes + (bytes / kBlockDataBytes + 2) * 2 * kHeaderBytes;
}

// Links or copies the parts of a store into a fresh folder. CURRENT is the last, and makes it one: open() refuses a
// folder that has other parts of a store and no CURRENT.
Result<void> assemble(Disk& disk, const std::string& from, const std::string& to, const LevelDbEnv::Frozen& parts) {
  Result<std::string> current = read_file(disk, from + "/CURRENT");
  if (!current) return current.error();
  Result<void> done = make_fresh_folder(disk, to);
  if (!done) return done;
  for (const auto& [name, size] : parts.copies) {
    done = copy_prefix(disk, from + "/" + name, to + "/" + name, size);
    if (!done) return done;
  }
  for (const std::string& name : parts.tables) {
    done = disk.link(from + "/" + name, to + "/" + name);
    if (!done) return done;
  }
  done = disk.sync_folder(to);
  if (!done) return done;
  return write_file(disk, to + "/CURRENT", *current);
}

}  // namespace

// Members are destroyed from the last to the first: the DB before everything that it uses.
struct LevelDbStore::Impl {
  Impl(Disk& disk_in, std::string folder_in, const LevelDbOptions& options)
      : disk(disk_in),
        folder(std::move(folder_in)),
        syncs_closed_logs(!options.lost_with_machine),
        reopen_bytes(3 * options.write_buffer_bytes + 2 * options.table_bytes),
        env(disk, folder, options.log_fill_bytes, syncs_closed_logs),
        logger(make_leveldb_logger(folder)),
        cache(leveldb::NewLRUCache(options.block_cache_bytes)) {
    if (options.bloom_bits_per_key > 0) filter.reset(leveldb::NewBloomFilterPolicy(options.bloom_bits_per_key));
    leveldb_options.create_if_missing = true;
    leveldb_options.paranoid_checks = true;
    leveldb_options.env = &env;
    leveldb_options.info_log = logger.get();
    leveldb_options.write_buffer_size = options.write_buffer_bytes;
    leveldb_options.max_open_files = options.open_files_max;
    leveldb_options.block_cache = cache.get();
    leveldb_options.block_size = options.block_bytes;
    leveldb_options.max_file_size = options.table_bytes;
    leveldb_options.compression = options.compress ? leveldb::kSnappyCompression : leveldb::kNoCompression;
    leveldb_options.filter_policy = filter.get();
  }

  Result<void> open_db() {
    {
      // Tails are cut under the lock, which LevelDB then takes itself.
      Result<std::unique_ptr<FolderLock>> lock = disk.lock_folder(folder);
      if (!lock) return lock.error();
      Result<void> cut = cut_torn_tails(disk, folder);
      if (!cut) return cut;
    }
    leveldb::DB* opened = nullptr;
    leveldb::Status status = leveldb::DB::Open(leveldb_options, folder, &opened);
    if (!status.ok()) return to_error(status).in("opening " + folder);
    std::unique_lock lock(db_mutex);
    db.reset(opened);
    return {};
  }

  // LevelDB stops writing for good when one of its own files finds the disk full. Once there is space again it is
  // opened anew, which is what a restart of the process would do. Under write_mutex.
  Result<void> recover_from_full_disk() {
    Result<DiskSpace> space = disk.space(folder);
    if (!space) return space.error();
    if (space->free_bytes < reopen_bytes) return Error(ErrorCode::kNoSpace, folder);
    {
      std::unique_lock lock(db_mutex);
      // Copies are made under db_mutex only: if this is the only one, nobody reads.
      if (db && db.use_count() > 1) return Error(ErrorCode::kNoSpace, folder + ": in use while it recovers");
      db.reset();
    }
    Result<void> opened = open_db();
    if (!opened) return opened;
    disk_was_full = false;
    log_info("kv.recovered_from_full_disk", "folder={}", quoted(folder));
    return {};
  }

  // Under write_mutex. After kNoSpace the batch is not in the store.
  Result<void> write(const leveldb::WriteOptions& options, leveldb::WriteBatch& changes) {
    if (disk_was_full) return Error(ErrorCode::kNoSpace, folder);
    Result<void> reserved = env.reserve_log(log_bytes_max(changes.ApproximateSize()));
    if (!reserved) return reserved;
    leveldb::Status status = db->Write(options, &changes);
    // The log before may have failed to sync while LevelDB went on to this one.
    if (std::optional<Error> failure = env.failure()) return *failure;
    if (status.ok()) return {};
    Error error = to_error(status);
    disk_was_full = error.code == ErrorCode::kNoSpace;
    return error;
  }

  Result<std::shared_ptr<leveldb::DB>> current() {
    std::shared_lock lock(db_mutex);
    if (!db) return Error(ErrorCode::kIo, folder + ": could not be opened anew after the disk was full");
    return db;
  }

  Disk& disk;
  const std::string folder;
  const bool syncs_closed_logs;
  const uint64_t reopen_bytes;  // what opening may need: tables of two write buffers, and merging to go on
  LevelDbEnv env;
  const std::unique_ptr<leveldb::Logger> logger;
  const std::unique_ptr<leveldb::Cache> cache;
  std::unique_ptr<const leveldb::FilterPolicy> filter;
  leveldb::Options leveldb_options;
  std::mutex checkpoint_mutex;      // one at a time; taken before write_mutex
  std::mutex write_mutex;           // one writer; a checkpoint is made between two writes
  bool disk_was_full = false;       // LevelDB writes no more; under write_mutex
  std::shared_mutex db_mutex;       // taken last
  std::shared_ptr<leveldb::DB> db;  // shared with readers and iterators while they read
};

LevelDbStore::LevelDbStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LevelDbStore::~LevelDbStore() = default;

Result<std::unique_ptr<LevelDbStore>> LevelDbStore::open(Disk& disk, std::string folder, LevelDbOptions options) {
  Result<void> ready = make_durable_folder(disk, folder);
  if (!ready) return ready.error();
  auto impl = std::make_unique<Impl>(disk, std::move(folder), options);
  Result<void> opened = impl->open_db();
  if (!opened) return opened.error();
  return std::unique_ptr<LevelDbStore>(new LevelDbStore(std::move(impl)));
}

Result<void> LevelDbStore::copy_checkpoint(Disk& disk, const std::string& from, const std::string& to) {
  Result<std::vector<std::string>> names = disk.list(from);
  if (!names) return names.error();
  LevelDbEnv::Frozen parts;
  for (const std::string& name : *names) {
    if (name.ends_with(".ldb") || name.ends_with(".sst")) {
      parts.tables.push_back(name);
    } else if (name.ends_with(".log") || name.starts_with("MANIFEST-")) {
      Result<uint64_t> size = disk.file_size(from + "/" + name);
      if (!size) return size.error();
      parts.copies[name] = *size;
    }
  }
  return assemble(disk, from, to, parts);
}

Result<std::string> LevelDbStore::get(std::string_view key) const {
  Result<std::shared_ptr<leveldb::DB>> db = impl_->current();
  if (!db) return db.error();
  std::string value;
  leveldb::Status status = (*db)->Get(read_options(), slice_of(key), &value);
  if (status.IsNotFound()) return Error(ErrorCode::kNotFound);
  if (!status.ok()) return to_error(status);
  return value;
}

Result<std::string> LevelDbStore::get_cached(std::string_view key) const {
  // LevelDB syncs the log that it leaves under a lock that readers need, in the middle of some write.
  std::unique_lock nobody_writes(impl_->write_mutex, std::defer_lock);
  if (impl_->syncs_closed_logs && !nobody_writes.try_lock()) return Error(ErrorCode::kAgain);
  LevelDbEnv::CachedReadsOnly only;
  Result<std::string> value = get(key);
  return value;
}

std::unique_ptr<KvIterator> LevelDbStore::iterate() const {
  Result<std::shared_ptr<leveldb::DB>> db = impl_->current();
  if (!db) return std::make_unique<FailedIterator>(db.error());
  return std::make_unique<LevelDbIterator>(std::move(*db));
}

Result<void> LevelDbStore::write(const WriteBatch& batch, bool sync) {
  leveldb::WriteBatch changes;
  for (const WriteBatch::Change& change : batch.changes()) {
    if (change.value) {
      changes.Put(slice_of(change.key), slice_of(*change.value));
    } else {
      changes.Delete(slice_of(change.key));
    }
  }
  leveldb::WriteOptions options;
  options.sync = sync;
  std::scoped_lock lock(impl_->write_mutex);
  Result<void> written = impl_->write(options, changes);
  // It may have been LevelDB's own files that met the full disk, some time ago.
  if (!impl_->disk_was_full) return written;
  Result<void> recovered = impl_->recover_from_full_disk();
  if (!recovered) return recovered;
  return impl_->write(options, changes);
}

Result<void> LevelDbStore::checkpoint(const std::string& target, const std::function<void()>& freeze) {
  std::scoped_lock one_at_a_time(impl_->checkpoint_mutex);
  Result<LevelDbEnv::Frozen> parts = LevelDbEnv::Frozen{};
  {
    std::scoped_lock lock(impl_->write_mutex);
    parts = impl_->env.freeze();
    if (!parts) return parts.error();
    if (freeze) freeze();
  }
  // Writing goes on: of logs and the manifest only what was there is copied, and nothing is removed until then.
  Result<void> done = assemble(impl_->disk, impl_->folder, target, *parts);
  impl_->env.thaw();
  return done;
}

uint64_t LevelDbStore::disk_bytes() const {
  Result<std::vector<std::string>> names = impl_->disk.list(impl_->folder);
  if (!names) return 0;
  uint64_t total = 0;
  for (const std::string& name : *names) {
    Result<uint64_t> size = impl_->disk.file_size(impl_->folder + "/" + name);
    if (size) total += *size;  // it may have been removed meanwhile
  }
  return total;
}

void LevelDbStore::compact() {
  impl_->db->CompactRange(nullptr, nullptr);
}

}  // namespace cairn
