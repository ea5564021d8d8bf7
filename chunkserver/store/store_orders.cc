// The master's orders: raising versions, sealing, removing, cloning.
#include <algorithm>
#include <fmt/format.h>

#include "chunkserver/store/kv_chunk_store.h"
#include "common/base/check.h"

namespace cairn {

namespace {

// Of a chunk with nothing that is not yet on disk.
StoredChunkRecord record_of(const Chunk& chunk) {
  StoredChunkRecord record;
  record.body = chunk.body;
  record.version = chunk.version;
  record.state = chunk.state;
  record.synced_sequence = chunk.synced_sequence;
  record.length_bytes = chunk.length_bytes;
  record.allocated_blocks = chunk.allocated_blocks;
  record.boot = chunk.boot;
  record.owner = chunk.owner;
  return record;
}

}  // namespace

Task<Result<ReplicaStatus>> KvChunkStore::raise(ChunkId id, uint64_t from_version, uint64_t to_version) {
  if (to_version <= from_version) co_return Error(ErrorCode::kInvalid, "a version is raised upwards");
  Result<ChunkPtr> found = co_await find(id);
  if (!found) co_return found.error();
  ChunkPtr chunk = std::move(*found);
  uint64_t now = std::max(chunk->version, chunk->lowest_version);
  if (now > to_version) {
    co_return Error(ErrorCode::kOldVersion, fmt::format("chunk {} is at version {}, not {}", id, now, from_version));
  }
  if (chunk->version < from_version) {
    co_return Error(ErrorCode::kNewVersion,
                    fmt::format("chunk {} is at version {}, not {}", id, chunk->version, from_version));
  }
  // Lower versions stay out from here on; those that wait for their turn are told. What is being taken is still ours.
  chunk->lowest_version = to_version;
  chunk->turn.notify_all();
  co_await wait_idle(chunk);
  uint64_t taken = chunk->sequence;
  while (chunk->version < to_version || !chunk->in_kv || chunk->synced_sequence < taken) {
    Result<void> done = co_await commit_chunk(chunk, {.raise_to = to_version});
    if (!done) co_return done.error();
  }
  co_return status_of(*chunk);
}

Task<void> KvChunkStore::wait_idle(ChunkPtr chunk) {
  while (chunk->applying)
    co_await chunk->turn.wait();
}

Task<Result<ReplicaStatus>> KvChunkStore::seal(ChunkId id, uint64_t version, uint64_t sequence) {
  Result<ChunkPtr> found = co_await find(id);
  if (!found) co_return found.error();
  ChunkPtr chunk = std::move(*found);
  while (true) {
    Result<void> right = check_version(*chunk, version);
    if (!right) co_return right.error();
    if (chunk->sealed()) {
      if (chunk->sequence == sequence) co_return status_of(*chunk);
      co_return Error(ErrorCode::kConflict,
                      fmt::format("chunk {} is sealed with {} writes, not {}", id, chunk->sequence, sequence));
    }
    if (!chunk->applying && !chunk->sealing) break;
    co_await chunk->turn.wait();
    if (chunk->removed) co_return Error(ErrorCode::kNotFound, "chunk " + to_string(id) + " was removed");
    Result<void> ready = usable();
    if (!ready) co_return ready.error();
  }
  chunk->sealing = true;
  Result<void> done = co_await commit_chunk(chunk, {.seal = true, .seal_sequence = sequence});
  chunk->sealing = false;
  chunk->turn.notify_all();
  if (!done) co_return done.error();
  co_return status_of(*chunk);
}

// ---- removing

Task<Result<void>> KvChunkStore::remove(ChunkId id, uint64_t up_to_version) {
  return owned(remove_now(id, up_to_version));
}

// The chunk has left the key-value store, or was never in it.
void KvChunkStore::forget_removed(const ChunkPtr& chunk) {
  chunk->removed = true;
  chunk->dirty_since.reset();
  log_->free_uncommitted(chunk->map.drop_overlay());
  account(*chunk);
  if (chunk->in_kv) doom(chunk->body);
  chunk->turn.notify_all();
}

Task<Result<void>> KvChunkStore::remove_now(ChunkId id, uint64_t up_to_version) {
  Result<void> dropped = co_await drop_incoming(id);
  if (!dropped) co_return dropped;
  Result<ChunkPtr> found = co_await find(id);
  if (found.failed_with(ErrorCode::kNotFound)) co_return Result<void>{};
  // A record that cannot be read hides nothing worth keeping; but its bytes cannot be found either. Left to people.
  if (!found) co_return found.error();
  ChunkPtr chunk = std::move(*found);
  Semaphore::Permit permit = co_await chunk->commit_mutex.lock();
  if (chunk->removed) co_return Result<void>{};
  if (std::max(chunk->version, chunk->lowest_version) > up_to_version) {
    co_return Error(ErrorCode::kConflict,
                    fmt::format("chunk {} is at version {}, above {}", id, chunk->version, up_to_version));
  }
  if (chunk->in_kv) {
    Result<void> written = co_await commit([this, &chunk](BatchWriter& writer) {
      writer.erase(store_keys::chunk(chunk->id));
      writer.put(store_keys::doomed(chunk->body), {});
      --store_record_.chunks;
      store_record_changed_ = true;
    });
    if (!written) co_return written;
  }
  forget_removed(chunk);
  auto slot = chunks_.find(id);
  CHECK(slot != chunks_.end() && slot->second.main == chunk);
  if (slot->second.incoming) {
    slot->second.main.reset();
  } else {
    forget_slot(id);
  }
  co_return Result<void>{};
}

// ---- cloning

struct KvChunkStore::ClonePlan {
  // The blocks of the value log that both will name.
  std::vector<LogPlace> log_places() const {
    std::vector<LogPlace> places;
    for (const LoadedGroup& group : groups) {
      for (uint32_t i = 0; i < kBlocksPerGroup; ++i) {
        const BlockEntry& entry = group.extents.at(i);
        if (entry.kind == BlockKind::kLog) places.push_back(entry.place);
      }
    }
    return places;
  }

  std::vector<LoadedGroup> groups;
  std::vector<std::pair<uint32_t, std::string>> inline_blocks;
};

Result<KvChunkStore::ClonePlan> KvChunkStore::read_for_clone(const KvStore& kv, BodyId source) {
  ClonePlan plan;
  std::unique_ptr<KvIterator> it = kv.iterate();
  std::string extents = store_keys::prefix(store_keys::kExtentsLetter, source.value);
  for (it->seek(extents); it->valid() && it->key().starts_with(extents); it->next()) {
    Result<store_keys::BodyKey> key = store_keys::parse_body_key(it->key());
    if (!key) return key.error();
    Result<ExtentGroup> group = ExtentGroup::decode(it->value());
    if (!group) return group.error();
    plan.groups.push_back({key->number, *group});
  }
  std::string blocks = store_keys::prefix(store_keys::kInlineLetter, source.value);
  for (it->seek(blocks); it->valid() && it->key().starts_with(blocks); it->next()) {
    Result<store_keys::BodyKey> key = store_keys::parse_body_key(it->key());
    if (!key) return key.error();
    plan.inline_blocks.emplace_back(key->number, std::string(it->value()));
  }
  Result<void> ended = it->status();
  if (!ended) return ended.error();
  return plan;
}

Task<Result<ReplicaStatus>> KvChunkStore::clone(ChunkId source, uint64_t source_version, ChunkId target,
                                                uint64_t target_version, OwnerHint owner) {
  return owned(clone_now(source, source_version, target, target_version, owner));
}

Task<Result<ReplicaStatus>> KvChunkStore::clone_now(ChunkId source, uint64_t source_version, ChunkId target,
                                                    uint64_t target_version, OwnerHint owner) {
  if (!target || target_version == 0 || source == target) co_return Error(ErrorCode::kInvalid, "a clone without an id");
  Result<ChunkPtr> there = co_await find(target);
  if (there) {
    if ((*there)->version == target_version) co_return status_of(**there);
    co_return Error(ErrorCode::kExists, fmt::format("chunk {} is at version {}", target, (*there)->version));
  }
  if (!there.failed_with(ErrorCode::kNotFound)) co_return there.error();
  Result<ChunkPtr> found = co_await find_version(source, source_version);
  if (!found) co_return found.error();
  ChunkPtr from = std::move(*found);
  // Nothing of the source moves while it is cloned.
  Semaphore::Permit permit = co_await from->commit_mutex.lock();
  if (from->removed) co_return Error(ErrorCode::kNotFound, "chunk " + to_string(source) + " was removed");
  if (!from->sealed() || from->unsynced()) {
    co_return Error(ErrorCode::kConflict, "chunk " + to_string(source) + " is not sealed");
  }
  Result<ClonePlan> plan =
      co_await read_pool_->run([kv = kv_.get(), body = from->body] { return read_for_clone(*kv, body); });
  if (!plan) {
    fail_if_disk(plan.error());
    if (plan.failed_with(ErrorCode::kCorrupt)) report_bad(source, plan.error());
    co_return plan.error();
  }
  Result<void> space = co_await take_space((plan->inline_blocks.size() + 1) * kBlockSizeBytes);
  if (!space) co_return space.error();
  std::vector<LogPlace> shared = plan->log_places();
  auto missing = std::ranges::find_if(shared, [this](const LogPlace& place) { return !log_->find(place.segment); });
  if (missing != shared.end()) {
    Error error(ErrorCode::kIo, log_->path_of(missing->segment) + " is missing");
    report_bad(source, error);
    co_return error;
  }
  Result<void> loaded = co_await load_shared(shared);
  if (!loaded) co_return loaded.error();
  // As if it were being loaded: whoever asks for it waits.
  Slot& slot = chunks_[target];
  if (slot.main || slot.loading) co_return Error(ErrorCode::kBusy, "chunk " + to_string(target) + " is being made");
  slot.loading = true;
  ChunkPtr to = make_chunk(target, target_version, 0, owner);
  to->sequence = to->synced_sequence = from->synced_sequence;
  to->length_bytes = from->length_bytes;
  to->allocated_blocks = from->allocated_blocks;
  to->state = ChunkState::kSealed;
  Result<void> written = co_await commit([this, &to, &plan, &shared](BatchWriter& writer) {
    ByteWriter user;
    user.u64(to->id.value);
    for (const LoadedGroup& group : plan->groups) {
      writer.put(store_keys::extents(to->body, group.group), group.extents.encode());
      for (uint32_t segment : group.extents.segments())
        writer.put(store_keys::user(segment, to->body, group.group), user.str());
    }
    for (const auto& [block, bytes] : plan->inline_blocks)
      writer.put(store_keys::inline_block(to->body, block), bytes);
    log_->share(shared);
    writer.put(store_keys::chunk(to->id), record_of(*to).encode());
    ++store_record_.chunks;
    store_record_changed_ = true;
  });
  Slot& made = chunks_[target];
  made.loading = false;
  loaded_.notify_all();
  if (!written) {
    forget_slot(target);
    co_return written.error();
  }
  to->in_kv = true;
  to->map.forget();  // it is not fresh: its extents are in the key-value store
  for (const LoadedGroup& group : plan->groups)
    to->map.load(group.group, group.extents);
  made.main = to;
  made.looked_up = true;
  touched(target);
  co_return status_of(*to);
}

}  // namespace cairn
