#include "common/kv/leveldb_store.h"

#include <leveldb/cache.h>
#include <leveldb/db.h>
#include <leveldb/filter_policy.h>
#include <leveldb/write_batch.h>
#include <mutex>

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
  explicit LevelDbIterator(leveldb::Iterator* iterator) : iterator_(iterator) {}
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
  std::unique_ptr<leveldb::Iterator> iterator_;
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
  Impl(Disk& disk_in, std::string folder_in, uint64_t log_fill_bytes)
      : disk(disk_in), folder(std::move(folder_in)), env(disk, folder, log_fill_bytes) {}

  Disk& disk;
  const std::string folder;
  LevelDbEnv env;
  std::unique_ptr<leveldb::Logger> logger;
  std::unique_ptr<leveldb::Cache> cache;
  std::unique_ptr<const leveldb::FilterPolicy> filter;
  std::mutex checkpoint_mutex;  // one at a time; taken before write_mutex
  std::mutex write_mutex;       // one writer; a checkpoint is made between two writes
  std::unique_ptr<leveldb::DB> db;
};

LevelDbStore::LevelDbStore(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LevelDbStore::~LevelDbStore() = default;

Result<std::unique_ptr<LevelDbStore>> LevelDbStore::open(Disk& disk, std::string folder, LevelDbOptions options) {
  Result<void> ready = make_durable_folder(disk, folder);
  if (!ready) return ready.error();
  {
    // Tails are cut under the lock, which LevelDB then takes itself.
    Result<std::unique_ptr<FolderLock>> lock = disk.lock_folder(folder);
    if (!lock) return lock.error();
    ready = cut_torn_tails(disk, folder);
    if (!ready) return ready.error();
  }
  auto impl = std::make_unique<Impl>(disk, std::move(folder), options.log_fill_bytes);
  impl->logger = make_leveldb_logger(impl->folder);
  impl->cache.reset(leveldb::NewLRUCache(options.block_cache_bytes));
  if (options.bloom_bits_per_key > 0) impl->filter.reset(leveldb::NewBloomFilterPolicy(options.bloom_bits_per_key));

  leveldb::Options leveldb_options;
  leveldb_options.create_if_missing = true;
  leveldb_options.paranoid_checks = true;
  leveldb_options.env = &impl->env;
  leveldb_options.info_log = impl->logger.get();
  leveldb_options.write_buffer_size = options.write_buffer_bytes;
  leveldb_options.max_open_files = options.open_files_max;
  leveldb_options.block_cache = impl->cache.get();
  leveldb_options.block_size = options.block_bytes;
  leveldb_options.max_file_size = options.table_bytes;
  leveldb_options.compression = options.compress ? leveldb::kSnappyCompression : leveldb::kNoCompression;
  leveldb_options.filter_policy = impl->filter.get();

  leveldb::DB* db = nullptr;
  leveldb::Status status = leveldb::DB::Open(leveldb_options, impl->folder, &db);
  if (!status.ok()) return to_error(status).in("opening " + impl->folder);
  impl->db.reset(db);
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
  std::string value;
  leveldb::Status status = impl_->db->Get(read_options(), slice_of(key), &value);
  if (status.IsNotFound()) return Error(ErrorCode::kNotFound);
  if (!status.ok()) return to_error(status);
  return value;
}

std::unique_ptr<KvIterator> LevelDbStore::iterate() const {
  return std::make_unique<LevelDbIterator>(impl_->db->NewIterator(read_options()));
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
  Result<void> reserved = impl_->env.reserve_log(log_bytes_max(changes.ApproximateSize()));
  if (!reserved) return reserved;
  leveldb::Status status = impl_->db->Write(options, &changes);
  if (!status.ok()) return to_error(status);
  // The log before may have failed to sync while LevelDB went on to this one.
  if (std::optional<Error> failure = impl_->env.failure()) return *failure;
  return {};
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
