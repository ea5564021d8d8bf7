// Opening a data directory and recovering it; closing it.
#include <algorithm>
#include <fmt/format.h>
#include <vector>

#include "chunkserver/store/identity.h"
#include "chunkserver/store/kv_chunk_store.h"
#include "common/base/check.h"
#include "common/base/log.h"
#include "common/kv/leveldb_store.h"
#include "common/kv/memory_store.h"

namespace cairn {
namespace {

constexpr size_t kLogThreads = 3;  // writes and syncs of the value log
constexpr size_t kReadThreads = 4;

Result<void> prepare_folder(Disk& disk, const std::string& folder) {
  Result<bool> there = disk.exists(folder);
  if (!there) return there.error();
  if (*there) return {};
  Result<void> made = disk.make_folder(folder);
  if (!made) return made;
  size_t slash = folder.find_last_of('/');
  if (slash == std::string::npos || slash == 0) return {};
  return disk.sync_folder(folder.substr(0, slash));
}

// The identity of the folder; a new one is written down. Anything unknown in a folder without identity is somebody
// else's.
Result<StoreIdentity> settle_identity(Disk& disk, const std::string& folder, StoreIdentity expected,
                                      uint64_t new_store_id) {
  Result<std::optional<StoreIdentity>> found = read_identity(disk, folder);
  if (!found) return found.error();
  StoreIdentity identity;
  if (*found) {
    Result<StoreIdentity> agreed = reconcile_identity(folder, **found, expected);
    if (!agreed) return agreed.error();
    if (agreed->cluster == (*found)->cluster && agreed->server == (*found)->server) return agreed;
    identity = *agreed;
  } else {
    Result<std::vector<std::string>> names = disk.list(folder);
    if (!names) return names.error();
    for (const std::string& name : *names) {
      // What a crash in the middle of the first start can leave is ours.
      if (name == "lost+found" || name.starts_with("IDENTITY") || name.starts_with("STATE")) continue;
      return Error(ErrorCode::kNotEmpty,
                   folder + " holds '" + name + "' and no IDENTITY: it is not a data directory of a chunkserver");
    }
    identity = expected;
    identity.store_id = new_store_id;
  }
  Result<void> written = write_identity(disk, folder, identity);
  if (!written) return written.error();
  return identity;
}

// [first, first + blocks) of what is not in `live`, up to `end`.
std::vector<SharedRanges::Blocks> gaps_of(const std::vector<bool>& live, uint32_t end) {
  std::vector<SharedRanges::Blocks> gaps;
  for (uint32_t block = 0; block < end; ++block) {
    if (live[block]) continue;
    if (!gaps.empty() && gaps.back().first + gaps.back().blocks == block) {
      ++gaps.back().blocks;
    } else {
      gaps.push_back({block, 1});
    }
  }
  return gaps;
}

// What a segment that was being written holds for the records that survived: everything else is given back.
struct SettledSegment {
  bool empty = false;
  uint32_t live_blocks = 0;
};
Result<SettledSegment> settle_segment(Disk& disk, const KvStore& kv, const std::string& path, uint32_t number,
                                      uint32_t segment_blocks) {
  std::vector<bool> live(segment_blocks, false);
  std::string prefix = store_keys::segment_prefix(store_keys::kUserLetter, number);
  std::unique_ptr<KvIterator> it = kv.iterate();
  for (it->seek(prefix); it->valid() && it->key().starts_with(prefix); it->next()) {
    Result<store_keys::UserKey> key = store_keys::parse_user_key(it->key());
    if (!key) return key.error();
    Result<std::string> record = kv.get(store_keys::extents(key->body, key->group));
    if (record.failed_with(ErrorCode::kNotFound)) continue;
    if (!record) return record.error();
    Result<ExtentGroup> extents = ExtentGroup::decode(*record);
    if (!extents) return extents.error();
    for (uint32_t i = 0; i < kBlocksPerGroup; ++i) {
      const BlockEntry& entry = extents->at(i);
      if (entry.kind != BlockKind::kLog || entry.place.segment != number) continue;
      if (entry.place.block >= live.size()) live.resize(entry.place.block + 1, false);
      live[entry.place.block] = true;
    }
  }
  Result<void> ended = it->status();
  if (!ended) return ended.error();
  SettledSegment settled;
  uint32_t end = 0;
  for (uint32_t block = 0; block < live.size(); ++block) {
    if (!live[block]) continue;
    ++settled.live_blocks;
    end = block + 1;
  }
  if (settled.live_blocks == 0) {
    settled.empty = true;
    Result<void> removed = disk.remove(path);
    if (!removed && !removed.failed_with(ErrorCode::kNotFound)) return removed.error();
    return settled;
  }
  SegmentFile file(disk, path);
  Result<uint64_t> size = file.size_bytes();
  if (!size) return size.error();
  if (*size > end * kBlockSizeBytes) {
    Result<void> cut = file.truncate(end);
    if (!cut) return cut.error();
  }
  for (const SharedRanges::Blocks& gap : gaps_of(live, end)) {
    Result<void> punched = file.punch(gap.first, gap.blocks);
    if (!punched) return punched.error();
  }
  Result<void> synced = file.sync();
  if (!synced) return synced.error();
  return settled;
}

}  // namespace

struct KvChunkStore::Recovered {
  StoreIdentity identity;
  std::unique_ptr<FolderLock> lock;
  std::unique_ptr<KvStore> kv;
  StoreRecord record;
  std::vector<std::pair<uint32_t, SegmentRecord>> segments;
  uint32_t next_segment = 1;
  std::vector<LogRange> freed;
  std::vector<BodyId> doomed;
};

Result<std::unique_ptr<KvStore>> KvChunkStore::open_kv(Disk& disk, const StoreOptions& options) {
  std::string folder = options.folder + "/kv";
  if (options.kv == KvKind::kMemory) {
    Result<std::unique_ptr<MemoryStore>> opened = MemoryStore::open(disk, folder);
    if (!opened) return opened.error();
    return std::unique_ptr<KvStore>(std::move(*opened));
  }
  LevelDbOptions tuning;
  tuning.block_cache_bytes = std::max<uint64_t>(options.cache_limit_bytes / 2, 8 * kMiB);
  Result<std::unique_ptr<LevelDbStore>> opened = LevelDbStore::open(disk, folder, tuning);
  if (!opened) return opened.error();
  return std::unique_ptr<KvStore>(std::move(*opened));
}

namespace {

// The records that must be known from the start.
template <class Visit>
Result<void> for_each(const KvStore& kv, char letter, Visit visit) {
  std::string prefix = store_keys::prefix(letter);
  std::unique_ptr<KvIterator> it = kv.iterate();
  for (it->seek(prefix); it->valid() && it->key().starts_with(prefix); it->next()) {
    Result<void> visited = visit(it->key(), it->value());
    if (!visited) return visited;
  }
  return it->status();
}

Result<StoreRecord> settle_store_record(const KvStore& kv, const std::string& boot_id, WriteBatch& batch) {
  StoreRecord record;
  Result<std::string> value = kv.get(store_keys::store());
  if (value) {
    Result<StoreRecord> decoded = StoreRecord::decode(*value);
    if (!decoded) return decoded.error();
    record = *decoded;
  } else if (!value.failed_with(ErrorCode::kNotFound)) {
    return value.error();
  }
  if (record.boot_id != boot_id) {
    // The machine restarted: what is open and was written before may have lost what another replica still has.
    ++record.boot;
    record.boot_id = boot_id;
  }
  batch.put(store_keys::store(), record.encode());
  return record;
}

Result<std::vector<BodyId>> doomed_bodies(const KvStore& kv) {
  std::vector<BodyId> doomed;
  Result<void> read =
      for_each(kv, store_keys::kDoomedLetter, [&](std::string_view key, std::string_view) -> Result<void> {
        Result<uint64_t> body = store_keys::parse_number_key(key);
        if (!body) return body.error();
        doomed.push_back(BodyId(*body));
        return {};
      });
  if (!read) return read.error();
  return doomed;
}

// The value log as a start finds it, and then as it goes on.
struct SegmentsFound {
  ValueLogNames names;
  std::map<uint32_t, SegmentRecord> records;
  std::set<uint32_t> files;
  std::set<uint32_t> settled;  // by this start: what their keys say of freed ranges has been done
  uint32_t next = 1;           // above every number that was ever seen
};

// A file without a record holds nothing and is removed.
Result<SegmentsFound> find_segments(Disk& disk, const KvStore& kv, ValueLogNames log_names) {
  SegmentsFound found{.names = std::move(log_names), .records = {}, .files = {}, .settled = {}};
  Result<void> read =
      for_each(kv, store_keys::kSegmentLetter, [&](std::string_view key, std::string_view value) -> Result<void> {
        Result<uint32_t> number = store_keys::parse_segment_key(key);
        if (!number) return number.error();
        Result<SegmentRecord> decoded = SegmentRecord::decode(value);
        if (!decoded) return decoded.error();
        found.records[*number] = *decoded;
        found.next = std::max(found.next, *number + 1);
        return {};
      });
  if (!read) return read.error();
  Result<std::vector<std::string>> names = disk.list(found.names.folder());
  if (!names) return names.error();
  for (const std::string& name : *names) {
    std::optional<uint32_t> number = ValueLogNames::number_of(name);
    if (!number) continue;
    found.next = std::max(found.next, *number + 1);
    found.files.insert(*number);
    if (found.records.contains(*number)) continue;
    Result<void> removed = disk.remove(found.names.path_of(*number));
    if (!removed) return removed.error();
  }
  return found;
}

// Closes the segments that were being written. Those without a file or without a live block are left out from here on.
Result<void> settle_segments(Disk& disk, const KvStore& kv, uint32_t segment_blocks, SegmentsFound& found,
                             WriteBatch& batch) {
  for (auto it = found.records.begin(); it != found.records.end();) {
    auto& [number, segment] = *it;
    bool there = found.files.contains(number);
    bool holds_something = there;
    if (!there) {
      if (segment.live_blocks > 0) log_error("store.segment_missing", "path={}", found.names.path_of(number));
      if (segment.live_blocks == 0) batch.erase(store_keys::segment(number));
      found.settled.insert(number);
    } else if (!segment.closed || segment.live_blocks == 0) {
      Result<SettledSegment> now = settle_segment(disk, kv, found.names.path_of(number), number, segment_blocks);
      if (!now) return now.error().in("recovering " + found.names.path_of(number));
      found.settled.insert(number);
      holds_something = !now->empty;
      if (now->empty) {
        batch.erase(store_keys::segment(number));
      } else {
        segment.live_blocks = now->live_blocks;
        segment.closed = true;
        batch.put(store_keys::segment(number), segment.encode());
      }
    }
    it = holds_something ? std::next(it) : found.records.erase(it);
  }
  return {};
}

// Ranges that were freed and are not yet holes. Of a segment that was settled or is gone nothing is left to do.
Result<std::vector<LogRange>> read_freed(const KvStore& kv, const SegmentsFound& found, WriteBatch& batch) {
  std::vector<LogRange> freed;
  Result<void> read =
      for_each(kv, store_keys::kFreedLetter, [&](std::string_view key, std::string_view value) -> Result<void> {
        Result<LogPlace> place = store_keys::parse_place_key(key);
        if (!place) return place.error();
        ByteReader reader(value);
        uint32_t blocks = static_cast<uint32_t>(reader.varint());
        Result<void> finished = reader.finish("a freed range");
        if (!finished) return finished;
        if (found.settled.contains(place->segment) || !found.records.contains(place->segment)) {
          batch.erase(key);
        } else {
          freed.push_back({*place, blocks});
        }
        return {};
      });
  if (!read) return read.error();
  return freed;
}

}  // namespace

// On a pool, before anything else knows of the store.
Result<KvChunkStore::Recovered> KvChunkStore::recover(Disk& disk, const StoreOptions& options, StoreIdentity identity,
                                                      std::string boot_id, uint64_t new_store_id) {
  Recovered out;
  const std::string& folder = options.folder;
  const std::string log_folder = folder + "/log";
  Result<void> prepared = prepare_folder(disk, folder);
  if (!prepared) return prepared.error();
  Result<std::unique_ptr<FolderLock>> lock = disk.lock_folder(folder);
  if (!lock) return lock.error();
  out.lock = std::move(*lock);
  Result<StoreIdentity> settled = settle_identity(disk, folder, identity, new_store_id);
  if (!settled) return settled.error();
  out.identity = *settled;
  Result<void> made = disk.make_folder(log_folder);
  if (!made) return made.error();
  Result<void> named = disk.sync_folder(folder);
  if (!named) return named.error();
  Result<std::unique_ptr<KvStore>> kv = open_kv(disk, options);
  if (!kv) return kv.error();
  out.kv = std::move(*kv);

  WriteBatch batch;
  Result<StoreRecord> record = settle_store_record(*out.kv, boot_id, batch);
  if (!record) return record.error();
  out.record = *record;
  Result<std::vector<BodyId>> doomed = doomed_bodies(*out.kv);
  if (!doomed) return doomed.error();
  out.doomed = std::move(*doomed);

  Result<SegmentsFound> segments = find_segments(disk, *out.kv, ValueLogNames(log_folder));
  if (!segments) return segments.error();
  out.next_segment = segments->next;
  uint32_t segment_blocks = static_cast<uint32_t>(options.segment_size_bytes / kBlockSizeBytes);
  Result<void> usable = settle_segments(disk, *out.kv, segment_blocks, *segments, batch);
  if (!usable) return usable.error();
  out.segments.assign(segments->records.begin(), segments->records.end());
  Result<std::vector<LogRange>> freed = read_freed(*out.kv, *segments, batch);
  if (!freed) return freed.error();
  out.freed = std::move(*freed);
  Result<void> written = out.kv->write(batch, /*sync=*/true);
  if (!written) return written.error();
  return out;
}

KvChunkStore::KvChunkStore(World& world, StoreOptions options)
    : world_(world),
      executor_(world.executor()),
      clock_(world.clock()),
      options_(std::move(options)),
      loaded_(executor_),
      space_(options_.reserve_bytes),
      sampled_(executor_),
      memory_freed_(executor_),
      flusher_kick_(executor_),
      flushed_(executor_),
      log_pool_(world.make_pool("store-log", kLogThreads)),
      log_(std::make_unique<ValueLog>(world, options_.folder + "/log", options_.segment_size_bytes, *log_pool_)),
      commit_pool_(world.make_pool("store-commit", 1)),
      read_pool_(world.make_pool("store-read", kReadThreads)),
      io_(executor_, clock_),
      tasks_(executor_, clock_) {
  tasks_.on_stop([this] {
    flusher_kick_.notify_all();
    flushed_.notify_all();
  });
}

KvChunkStore::~KvChunkStore() = default;

void KvChunkStore::adopt(Recovered recovered) {
  identity_ = recovered.identity;
  lock_ = std::move(recovered.lock);
  kv_ = std::move(recovered.kv);
  store_record_ = recovered.record;
  for (const auto& [number, record] : recovered.segments)
    log_->add_recovered(number, record);
  log_->start(recovered.next_segment);
  for (const LogRange& range : recovered.freed)
    log_->free_again(range);
  for (BodyId body : recovered.doomed)
    doom(body);
  if (!recovered.freed.empty()) kick_reclaimer();
}

Task<Result<std::unique_ptr<ChunkStore>>> ChunkStore::open(World& world, StoreOptions options, StoreIdentity identity) {
  return KvChunkStore::open_store(world, std::move(options), identity);
}

Task<Result<std::unique_ptr<ChunkStore>>> KvChunkStore::open_store(World& world, StoreOptions options,
                                                                   StoreIdentity identity) {
  if (options.segment_size_bytes < kBlockSizeBytes || options.segment_size_bytes > (uint64_t{1} << 40)) {
    co_return Error(ErrorCode::kInvalid, "the size of a segment is out of bounds");
  }
  std::unique_ptr<KvChunkStore> store(new KvChunkStore(world, options));
  uint64_t new_store_id = world.random().next_id();
  Result<Recovered> recovered = co_await store->read_pool_->run(
      [disk = &world.disk(), options = std::move(options), identity, boot_id = world.boot_id(), new_store_id] {
        return recover(*disk, options, identity, boot_id, new_store_id);
      });
  if (!recovered) co_return recovered.error();
  store->adopt(std::move(*recovered));
  Result<void> sampled = co_await store->sample_space();
  if (!sampled) co_return sampled.error();
  log_info("store.opened", "folder={} chunks={} segments={} boot={}", store->options_.folder,
           store->store_record_.chunks, store->log_->segments().size(), store->store_record_.boot);
  std::unique_ptr<ChunkStore> opened = std::move(store);
  co_return opened;
}

Task<Result<void>> KvChunkStore::join_cluster(ClusterId cluster) {
  Result<void> ready = usable();
  if (!ready) co_return ready;
  if (identity_.cluster == cluster) co_return Result<void>{};
  StoreIdentity joined = identity_;
  joined.cluster = cluster;
  Result<StoreIdentity> agreed = reconcile_identity(options_.folder, identity_, joined);
  if (!agreed) co_return agreed.error();
  Result<void> written = co_await commit_pool_->run(
      [disk = &world_.disk(), folder = options_.folder, joined] { return write_identity(*disk, folder, joined); });
  if (!written) {
    fail_if_disk(written.error());
    co_return written;
  }
  identity_ = joined;
  co_return Result<void>{};
}

// Many at a time, so that they share their batches.
Task<void> KvChunkStore::flush_all() {
  std::vector<ChunkPtr> unsynced;
  for (auto& [id, slot] : chunks_) {
    if (slot.main && slot.main->unsynced()) unsynced.push_back(slot.main);
  }
  while (!unsynced.empty()) {
    std::vector<Future<void>> flushes;
    while (!unsynced.empty() && flushes.size() < kFlushesMax) {
      ChunkPtr chunk = std::move(unsynced.back());
      unsynced.pop_back();
      Promise<void> promise(executor_);
      flushes.push_back(promise.future());
      tasks_.spawn(flush_idle(std::move(chunk), std::move(promise)));
    }
    for (Future<void>& flush : flushes) {
      Result<void> done = co_await std::move(flush);
      if (!done) log_error("store.close", "folder={} error={}", options_.folder, quoted(done.error().message()));
    }
  }
}

Task<void> KvChunkStore::flush_idle(ChunkPtr chunk, Promise<void> promise) {
  co_await wait_idle(chunk);
  Result<void> done = co_await commit_now(chunk, {});
  if (chunk->removed) done = {};
  promise.set(std::move(done));
}

Task<void> KvChunkStore::close() {
  if (closing_) co_return;
  closing_ = true;
  for (auto& [id, slot] : chunks_) {
    if (slot.main) slot.main->turn.notify_all();
    if (slot.incoming) slot.incoming->turn.notify_all();
  }
  memory_freed_.notify_all();
  loaded_.notify_all();
  co_await flush_all();
  co_await tasks_.stop();
  log_->retire_active();
  Result<void> reclaimed;
  if (!failure_) reclaimed = co_await reclaim_round(/*all=*/true);
  if (!failure_ && reclaimed) {
    Result<void> noted = co_await commit([](BatchWriter&) {});
    if (!noted) log_error("store.close", "folder={} error={}", options_.folder, quoted(noted.error().message()));
  }
  co_await io_.stop();
}

}  // namespace cairn
