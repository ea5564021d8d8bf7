// What the store knows in memory: chunks and their extents, loaded when they are needed and forgotten when others are
// needed more.
#include <algorithm>
#include <fmt/format.h>

#include "chunkserver/store/kv_chunk_store.h"
#include "common/base/check.h"
#include "common/base/log.h"

namespace cairn {
namespace {

constexpr size_t kChunkMemoryBytes = 768;  // of a slot and its chunk, about

bool ends_the_store(ErrorCode code) {
  switch (code) {
    case ErrorCode::kIo:
    case ErrorCode::kReadOnly:
    case ErrorCode::kAccess:
    case ErrorCode::kPermission:
    case ErrorCode::kNotFound:
      return true;
    default:
      return false;
  }
}

}  // namespace

Result<void> KvChunkStore::usable() const {
  if (failure_) return Error(ErrorCode::kIo, options_.folder + " has failed: " + failure_->message());
  if (closing_) return Error(ErrorCode::kCancelled, options_.folder + " is closing");
  return {};
}

void KvChunkStore::fail(const Error& error) {
  if (failure_) return;
  failure_ = error;
  log_error("store.failed", "folder={} error={}", options_.folder, quoted(error.message()));
  memory_freed_.notify_all();
  for (auto& [id, slot] : chunks_) {
    if (slot.main) slot.main->turn.notify_all();
    if (slot.incoming) slot.incoming->turn.notify_all();
  }
  flusher_kick_.notify_all();
}

void KvChunkStore::fail_if_disk(const Error& error) {
  if (ends_the_store(error.code)) fail(error);
}

void KvChunkStore::report_bad(ChunkId chunk, const Error& error) {
  log_error("store.bad_chunk", "chunk={} folder={} error={}", to_string(chunk), options_.folder,
            quoted(error.message()));
  if (bad_chunk_) bad_chunk_(chunk, error);
}

// ---- chunks

Result<std::optional<KvChunkStore::LoadedChunk>> KvChunkStore::read_chunk(const KvStore& kv, ChunkId id) {
  Result<std::string> value = kv.get(store_keys::chunk(id));
  if (value.failed_with(ErrorCode::kNotFound)) return std::optional<LoadedChunk>();
  if (!value) return value.error();
  Result<StoredChunkRecord> record = StoredChunkRecord::decode(*value);
  if (!record) return record.error().in("chunk " + to_string(id));
  LoadedChunk loaded{*record, std::nullopt};
  // Most chunks are small files: their only extents come along.
  if (record->length_bytes <= kExtentGroupBytes) {
    Result<std::vector<LoadedGroup>> groups = read_groups(kv, record->body, {0});
    if (!groups) return groups.error();
    loaded.first_group = groups->front().extents;
  }
  return std::optional(loaded);
}

Result<std::vector<KvChunkStore::LoadedGroup>> KvChunkStore::read_groups(const KvStore& kv, BodyId body,
                                                                         std::vector<uint32_t> groups) {
  std::vector<LoadedGroup> loaded;
  for (uint32_t group : groups) {
    Result<std::string> value = kv.get(store_keys::extents(body, group));
    if (value.failed_with(ErrorCode::kNotFound)) {
      loaded.push_back({group, {}});
      continue;
    }
    if (!value) return value.error();
    Result<ExtentGroup> extents = ExtentGroup::decode(*value);
    if (!extents) return extents.error();
    loaded.push_back({group, *extents});
  }
  return loaded;
}

Task<Result<ChunkPtr>> KvChunkStore::find(ChunkId id) {
  while (true) {
    Result<void> ready = usable();
    if (!ready) co_return ready.error();
    auto found = chunks_.find(id);
    if (found == chunks_.end() || !found->second.looked_up) {
      if (id.value > store_record_.highest_chunk) co_return Error(ErrorCode::kNotFound, "chunk " + to_string(id));
      if (found != chunks_.end() && found->second.loading) {
        co_await loaded_.wait();
        continue;
      }
      chunks_[id].loading = true;
      Result<std::optional<LoadedChunk>> loaded =
          co_await read_pool_->run([kv = kv_.get(), id] { return read_chunk(*kv, id); });
      Slot& slot = chunks_[id];
      slot.loading = false;
      loaded_.notify_all();
      if (!loaded) {
        forget_slot(id);
        fail_if_disk(loaded.error());
        if (loaded.failed_with(ErrorCode::kCorrupt)) report_bad(id, loaded.error());
        co_return loaded.error();
      }
      if (!*loaded) {
        forget_slot(id);
        co_return Error(ErrorCode::kNotFound, "chunk " + to_string(id));
      }
      const StoredChunkRecord& record = (*loaded)->record;
      auto chunk = std::make_shared<Chunk>(executor_, id, record.body);
      chunk->version = chunk->lowest_version = record.version;
      chunk->sequence = chunk->synced_sequence = record.synced_sequence;
      chunk->state = record.state;
      chunk->length_bytes = record.length_bytes;
      chunk->allocated_blocks = record.allocated_blocks;
      chunk->boot = record.boot;
      chunk->owner = record.owner;
      chunk->in_kv = true;
      if ((*loaded)->first_group) chunk->map.load(0, *(*loaded)->first_group);
      slot.main = std::move(chunk);
      slot.looked_up = true;
    }
    ChunkPtr chunk = chunks_[id].main;
    if (!chunk) co_return Error(ErrorCode::kNotFound, "chunk " + to_string(id));
    touched(id);
    co_return chunk;
  }
}

Result<void> KvChunkStore::check_version(const Chunk& chunk, uint64_t version) const {
  if (version == kAnyVersion) return {};
  uint64_t lowest = std::max(chunk.version, chunk.lowest_version);
  if (version < lowest) {
    return Error(ErrorCode::kOldVersion, fmt::format("chunk {} is at version {}, not {}", chunk.id, lowest, version));
  }
  if (version > lowest) {
    return Error(ErrorCode::kNewVersion, fmt::format("chunk {} is at version {}, not {}", chunk.id, lowest, version));
  }
  return {};
}

Task<Result<ChunkPtr>> KvChunkStore::find_version(ChunkId id, uint64_t version) {
  Result<ChunkPtr> found = co_await find(id);
  if (!found) co_return found;
  // While a raise is under way, reads of what is there go on.
  if (version == (*found)->version) co_return found;
  Result<void> right = check_version(**found, version);
  if (!right) co_return right.error();
  co_return found;
}

ChunkPtr KvChunkStore::make_chunk(ChunkId id, uint64_t version, uint64_t sequence, OwnerHint owner) {
  auto chunk = std::make_shared<Chunk>(executor_, id, BodyId(store_record_.next_body++));
  store_record_.highest_chunk = std::max(store_record_.highest_chunk, id.value);
  store_record_changed_ = true;
  chunk->version = chunk->lowest_version = version;
  chunk->sequence = chunk->synced_sequence = sequence;
  chunk->owner = owner;
  chunk->boot = store_record_.boot;
  chunk->map.set_fresh();
  return chunk;
}

void KvChunkStore::touched(ChunkId id) {
  auto found = chunks_.find(id);
  if (found == chunks_.end()) return;
  Slot& slot = found->second;
  if (slot.place) {
    recent_.splice(recent_.end(), recent_, *slot.place);
  } else {
    slot.place = recent_.insert(recent_.end(), id);
  }
  size_t bytes = kChunkMemoryBytes;
  if (slot.main) bytes += slot.main->map.cache_bytes();
  if (slot.incoming) bytes += slot.incoming->map.cache_bytes();
  cache_bytes_ += bytes - slot.counted_bytes;
  slot.counted_bytes = bytes;
  if (cache_bytes_ > options_.cache_limit_bytes) shrink_cache();
}

void KvChunkStore::forget_slot(ChunkId id) {
  auto found = chunks_.find(id);
  if (found == chunks_.end()) return;
  if (found->second.place) recent_.erase(*found->second.place);
  cache_bytes_ -= found->second.counted_bytes;
  chunks_.erase(found);
}

// Lets go of what nobody works on, oldest first. What is busy goes to the end of the line, and one call looks at a few
// only: many busy chunks must not cost every request a walk over all of them.
void KvChunkStore::shrink_cache() {
  constexpr int kLookedAtMax = 8;
  for (int i = 0; i < kLookedAtMax && cache_bytes_ > options_.cache_limit_bytes && recent_.size() > 1; ++i) {
    ChunkId id = recent_.front();
    Slot& slot = chunks_.at(id);
    bool idle = !slot.incoming && !slot.loading && slot.main && slot.main.use_count() == 1 && slot.main->in_kv &&
                !slot.main->unsynced();
    if (idle) {
      forget_slot(id);
    } else {
      recent_.splice(recent_.end(), recent_, recent_.begin());
    }
  }
}

void KvChunkStore::account(Chunk& chunk) {
  uint64_t bytes = uint64_t{chunk.map.overlay_blocks()} * kBlockSizeBytes;
  uint64_t memory_only = uint64_t{chunk.map.memory_only_blocks()} * kBlockSizeBytes;
  bool less = bytes < chunk.counted_bytes;
  unsynced_bytes_ += bytes - chunk.counted_bytes;
  memory_only_bytes_ += memory_only - chunk.counted_memory_only_bytes;
  chunk.counted_bytes = bytes;
  chunk.counted_memory_only_bytes = memory_only;
  if (less) memory_freed_.notify_all();
}

Task<Result<void>> KvChunkStore::load_groups(ChunkPtr chunk, std::vector<uint32_t> groups) {
  std::erase_if(groups, [&](uint32_t group) { return chunk->map.loaded(group); });
  if (groups.empty()) co_return Result<void>{};
  Result<std::vector<LoadedGroup>> loaded =
      co_await read_pool_->run([kv = kv_.get(), body = chunk->body, groups] { return read_groups(*kv, body, groups); });
  if (!loaded) {
    fail_if_disk(loaded.error());
    if (loaded.failed_with(ErrorCode::kCorrupt)) report_bad(chunk->id, loaded.error());
    co_return loaded.error();
  }
  for (const LoadedGroup& group : *loaded)
    chunk->map.load(group.group, group.extents);
  touched(chunk->id);
  co_return Result<void>{};
}

// ---- what is there

ReplicaStatus KvChunkStore::status_of(const Chunk& chunk) const {
  ReplicaStatus status;
  status.chunk = chunk.id;
  status.version = chunk.version;
  status.state = chunk.state;
  status.verified = chunk.verified(store_record_.boot);
  status.complete = !chunk.install;
  status.sequence = chunk.sequence;
  status.synced_sequence = chunk.install ? 0 : chunk.synced_sequence;
  status.length = chunk.length_bytes;
  uint64_t blocks = uint64_t{chunk.allocated_blocks} + chunk.map.overlay_blocks();
  status.allocated_bytes = static_cast<uint32_t>(std::min<uint64_t>(blocks * kBlockSizeBytes, kChunkSizeBytes));
  status.inode = chunk.owner.inode;
  status.index = chunk.owner.index;
  return status;
}

Task<Result<ReplicaStatus>> KvChunkStore::status(ChunkId id) {
  Result<ChunkPtr> found = co_await find(id);
  if (found) co_return status_of(**found);
  auto slot = chunks_.find(id);
  if (found.failed_with(ErrorCode::kNotFound) && slot != chunks_.end() && slot->second.incoming) {
    co_return status_of(*slot->second.incoming);
  }
  co_return found.error();
}

Task<Result<ChunkPage>> KvChunkStore::list(ChunkId after, size_t limit) {
  limit = std::max<size_t>(limit, 1);
  // A store that has failed still says what it held, as far as it can be read.
  if (closing_) co_return Error(ErrorCode::kCancelled, options_.folder + " is closing");
  struct Scan {
    std::vector<ReplicaStatus> chunks;
    std::vector<std::pair<ChunkId, Error>> bad;
    ChunkId up_to{UINT64_MAX};
  };
  Result<Scan> scan =
      co_await read_pool_->run([kv = kv_.get(), after, limit, boot = store_record_.boot]() -> Result<Scan> {
        Scan out;
        std::unique_ptr<KvIterator> it = kv->iterate();
        it->seek(store_keys::chunk(ChunkId(after.value + 1)));
        for (; it->valid() && it->key()[0] == store_keys::kChunkLetter; it->next()) {
          Result<uint64_t> id = store_keys::parse_number_key(it->key());
          if (!id) return id.error();
          if (out.chunks.size() == limit) {
            out.up_to = out.chunks.back().chunk;
            break;
          }
          Result<StoredChunkRecord> record = StoredChunkRecord::decode(it->value());
          if (!record) {
            out.bad.emplace_back(ChunkId(*id), record.error());
            continue;
          }
          ReplicaStatus status;
          status.chunk = ChunkId(*id);
          status.version = record->version;
          status.state = record->state;
          status.verified = record->state == ChunkState::kSealed || record->boot == boot;
          status.sequence = status.synced_sequence = record->synced_sequence;
          status.length = record->length_bytes;
          status.allocated_bytes = record->allocated_blocks * kBlockSizeBytes;
          status.inode = record->owner.inode;
          status.index = record->owner.index;
          out.chunks.push_back(status);
        }
        Result<void> ended = it->status();
        if (!ended) return ended.error();
        return out;
      });
  if (!scan) {
    fail_if_disk(scan.error());
    co_return scan.error();
  }
  for (const auto& [id, error] : scan->bad)
    report_bad(id, error);
  // What is in memory is newer.
  std::map<ChunkId, ReplicaStatus> merged;
  for (const ReplicaStatus& status : scan->chunks)
    merged[status.chunk] = status;
  for (auto it = chunks_.upper_bound(after); it != chunks_.end() && it->first <= scan->up_to; ++it) {
    if (it->second.main) {
      merged[it->first] = status_of(*it->second.main);
    } else if (it->second.incoming) {
      merged[it->first] = status_of(*it->second.incoming);
    }
  }
  ChunkPage page;
  page.last = scan->up_to == ChunkId(UINT64_MAX);
  for (const auto& [id, status] : merged) {
    if (page.chunks.size() == limit) {
      page.last = false;
      break;
    }
    page.chunks.push_back(status);
  }
  co_return page;
}

StoreSpace KvChunkStore::space() {
  StoreSpace out;
  out.total_bytes = space_.total_bytes();
  out.free_bytes = failure_ ? 0 : space_.free_bytes();
  out.chunks = store_record_.chunks;
  out.stores = failure_ ? 0 : 1;
  out.stores_failed = failure_ ? 1 : 0;
  if (!failure_ && !closing_ && !sampling_ && clock_.now() - sampled_at_ > kSpaceSampleAge) kick_reclaimer();
  return out;
}

}  // namespace cairn
