// Making durable: bytes first, then one synced batch that moves extents, checksums and the chunk's record. Batches are
// shared by all who wait.
#include <algorithm>
#include <fmt/format.h>
#include <set>

#include "chunkserver/store/kv_chunk_store.h"
#include "common/base/check.h"
#include "common/base/log.h"

namespace cairn {
namespace {

constexpr int kFullDiskTries = 50;
constexpr Duration kFullDiskPause = 100ms;

}  // namespace

// ---- one chunk

// Runs as a task of the store: a caller who goes away in the middle leaves nothing half done.
Task<Result<void>> KvChunkStore::commit_chunk(ChunkPtr chunk, CommitGoal goal) {
  return owned(commit_now(std::move(chunk), goal));
}

Task<Result<void>> KvChunkStore::commit_now(ChunkPtr chunk, CommitGoal goal) {
  Semaphore::Permit permit = co_await chunk->commit_mutex.lock();
  Result<void> done = co_await commit_locked(chunk, goal, nullptr);
  co_return done;
}

// Everything between the snapshot and the batch that may wait or fail.
Task<Result<void>> KvChunkStore::prepare_commit(ChunkPtr chunk, const std::vector<ExtentMap::Pending>* pending,
                                                uint64_t log_writes_before) {
  Result<void> loaded = co_await load_groups(chunk, ExtentMap::groups(*pending));
  if (!loaded) co_return loaded;
  std::set<uint32_t> segments;
  std::vector<LogPlace> replaced;
  for (const ExtentMap::Pending& block : *pending) {
    if (block.place) segments.insert(block.place.segment);
    const BlockEntry& entry =
        chunk->map.committed(block.block / kBlocksPerGroup)
            ? chunk->map.committed(block.block / kBlocksPerGroup)->at(block.block % kBlocksPerGroup)
            : BlockEntry{};
    if (entry.kind == BlockKind::kLog) replaced.push_back(entry.place);
  }
  while (!chunk->log_writes.empty() && *chunk->log_writes.begin() < log_writes_before) {
    co_await chunk->log_idle.wait();
  }
  Result<void> ready = usable();
  if (failure_) co_return ready;
  Result<void> synced = co_await log_->sync({segments.begin(), segments.end()});
  if (!synced) {
    fail(synced.error());
    co_return synced;
  }
  Result<void> shared = co_await load_shared(std::move(replaced));
  co_return shared;
}

Task<Result<void>> KvChunkStore::commit_locked(ChunkPtr chunk, CommitGoal goal,
                                               std::move_only_function<void(BatchWriter&, StoredChunkRecord)> change) {
  if (failure_) co_return usable();
  if (chunk->removed) co_return Error(ErrorCode::kNotFound, "chunk " + to_string(chunk->id) + " was removed");
  bool nothing_to_do = !change && !chunk->unsynced() && !goal.seal && goal.raise_to <= chunk->version;
  if (nothing_to_do) co_return Result<void>{};
  Result<void> placed = co_await place_runs(chunk);
  if (!placed) {
    fail_if_disk(placed.error());
    co_return placed;
  }
  if (goal.seal && chunk->sequence != *goal.seal_sequence) {
    ErrorCode code = chunk->sequence < *goal.seal_sequence ? ErrorCode::kMissingWrites : ErrorCode::kConflict;
    co_return Error(
        code, fmt::format("chunk {} has taken {} writes, not {}", chunk->id, chunk->sequence, *goal.seal_sequence));
  }
  // The snapshot. Writes that come from here on belong to the next commit.
  std::vector<ExtentMap::Pending> pending = chunk->map.snapshot();
  StoredChunkRecord record;
  record.body = chunk->body;
  record.synced_sequence = chunk->sequence;
  record.length_bytes = chunk->length_bytes;
  record.owner = chunk->owner;
  chunk->dirty_since.reset();
  Result<void> prepared = co_await prepare_commit(chunk, &pending, chunk->next_log_write);
  if (!prepared) {
    log_->free_uncommitted(chunk->map.cancel(pending));
    mark_dirty(chunk);
    co_return prepared;
  }
  Result<void> written = co_await commit([this, &chunk, &pending, &record, &goal, &change](BatchWriter& writer) {
    ExtentMap::Plan plan = chunk->map.plan(pending);
    writer.add(chunk->id, chunk->body, plan);
    log_->add_references(plan.added);
    writer.add_freed(log_->drop_references(plan.freed));
    chunk->allocated_blocks = static_cast<uint32_t>(chunk->allocated_blocks + plan.allocated_blocks_delta);
    bool opens = goal.raise_to > chunk->version;
    if (opens) {
      if (chunk->sealed()) chunk->boot = store_record_.boot;
      chunk->version = goal.raise_to;
      chunk->lowest_version = std::max(chunk->lowest_version, chunk->version);
      chunk->state = ChunkState::kOpen;
    }
    if (goal.seal) {
      chunk->state = ChunkState::kSealed;
      chunk->boot = store_record_.boot;
    }
    record.version = chunk->version;
    record.state = chunk->state;
    record.boot = chunk->boot;
    record.allocated_blocks = chunk->allocated_blocks;
    if (change) {
      change(writer, record);
    } else if (chunk->install) {
      // Until it is finished the copy belongs to nobody: a restart takes it apart.
      if (!chunk->in_kv) writer.put(store_keys::doomed(chunk->body), {});
    } else {
      writer.put(store_keys::chunk(chunk->id), record.encode());
      if (!chunk->in_kv) {
        ++store_record_.chunks;
        store_record_changed_ = true;
      }
    }
    chunk->in_kv = true;
  });
  if (!written) co_return written;
  chunk->map.finish(pending);
  if (!chunk->install) chunk->synced_sequence = std::max(chunk->synced_sequence, record.synced_sequence);
  account(*chunk);
  touched(chunk->id);
  co_return Result<void>{};
}

// Long runs that came in small pieces go to the value log; they are synced by the commit.
Task<Result<void>> KvChunkStore::place_runs(ChunkPtr chunk) {
  while (true) {
    uint32_t room_needed = 0;
    for (const ExtentMap::Run& run : chunk->map.unplaced_runs(options_.inline_limit_bytes / kBlockSizeBytes)) {
      for (size_t at = 0; at < run.blocks.size();) {
        uint32_t blocks = static_cast<uint32_t>(std::min<size_t>(log_->max_run_blocks(), run.blocks.size() - at));
        std::optional<LogPlace> place = log_->allocate(blocks);
        if (!place) {
          room_needed = blocks;
          break;
        }
        uint32_t first = run.first_block + static_cast<uint32_t>(at);
        chunk->map.set_place(first, blocks, *place);
        auto begin = run.blocks.begin() + static_cast<std::ptrdiff_t>(at);
        start_log_write(chunk, *place, std::vector<BlockBytes>(begin, begin + blocks));
        at += blocks;
      }
      if (room_needed > 0) break;
    }
    account(*chunk);
    if (room_needed == 0) co_return Result<void>{};
    Result<void> room = co_await log_->make_room(room_needed, space_.free_bytes() / 4);
    if (!room && !room.failed_with(ErrorCode::kAgain)) co_return room;
  }
}

Task<Result<void>> KvChunkStore::load_shared(std::vector<LogPlace> places) {
  for (uint32_t segment : log_->shared_to_load(places)) {
    Result<SharedRanges> loaded = co_await read_pool_->run([kv = kv_.get(), segment]() -> Result<SharedRanges> {
      SharedRanges ranges;
      std::string prefix = store_keys::segment_prefix(store_keys::kSharedLetter, segment);
      std::unique_ptr<KvIterator> it = kv->iterate();
      for (it->seek(prefix); it->valid() && it->key().starts_with(prefix); it->next()) {
        Result<LogPlace> place = store_keys::parse_place_key(it->key());
        if (!place) return place.error();
        Result<SharedRecord> record = SharedRecord::decode(it->value());
        if (!record) return record.error();
        ranges.load(place->block, {record->blocks, record->references});
      }
      Result<void> ended = it->status();
      if (!ended) return ended.error();
      return ranges;
    });
    if (!loaded) {
      fail(loaded.error());
      co_return loaded.error();
    }
    log_->load_shared(segment, std::move(*loaded));
  }
  co_return Result<void>{};
}

// ---- batches

Task<Result<void>> KvChunkStore::commit(std::move_only_function<void(BatchWriter&)> build) {
  if (failure_) co_return usable();
  jobs_.push_back(std::make_unique<BatchJob>(std::move(build), executor_));
  Future<void> done = jobs_.back()->done.future();
  if (!batching_) {
    batching_ = true;
    io_.spawn(run_batches());
  }
  Result<void> result = co_await std::move(done);
  co_return result;
}

// What belongs to the store as a whole.
void KvChunkStore::finish_batch(BatchWriter& writer) {
  for (const ValueLog::SegmentPtr& segment : log_->take_changed()) {
    writer.put(store_keys::segment(segment->number), segment->record.encode());
    if (!segment->shared) continue;
    for (const auto& [block, count] : segment->shared->take_changes()) {
      std::string key = store_keys::shared({segment->number, block});
      if (count) {
        writer.put(key, SharedRecord{count->blocks, count->references}.encode());
      } else {
        writer.erase(key);
      }
    }
  }
  for (const LogRange& range : std::exchange(punched_, {}))
    writer.erase(store_keys::freed(range.place));
  for (uint32_t segment : std::exchange(removed_segments_, {}))
    writer.erase(store_keys::segment(segment));
  if (store_record_changed_) {
    store_record_changed_ = false;
    writer.put(store_keys::store(), store_record_.encode());
  }
}

// The plans have moved what is in memory, so the batch has to be written. The reserve should always let it; if somebody
// else has filled the disk, there may be room again soon.
Task<Result<void>> KvChunkStore::write_batch(std::shared_ptr<BatchWriter> writer) {
  Result<void> written;
  for (int tries = 0; tries < kFullDiskTries; ++tries) {
    written = co_await commit_pool_->run([kv = kv_.get(), writer] { return kv->write(writer->fill(), /*sync=*/true); });
    if (!written.failed_with(ErrorCode::kNoSpace)) break;
    log_warning("store.no_space", "folder={} try={}", options_.folder, tries);
    Result<void> reclaimed = co_await reclaim_round(/*all=*/true);
    Result<void> slept = co_await io_.sleep_for(kFullDiskPause);
    if (!reclaimed || !slept) break;
  }
  co_return written;
}

Task<void> KvChunkStore::run_batches() {
  while (!jobs_.empty()) {
    auto writer = std::make_shared<BatchWriter>();  // shared with the pool's work, which may outlive this task
    std::vector<std::unique_ptr<BatchJob>> taken;
    while (!jobs_.empty() && writer->bytes() < kBatchBytesMax && !failure_) {
      taken.push_back(std::move(jobs_.front()));
      jobs_.pop_front();
      taken.back()->build(*writer);
    }
    Result<void> written;
    if (failure_) {
      while (!jobs_.empty()) {
        taken.push_back(std::move(jobs_.front()));
        jobs_.pop_front();
      }
      written = usable();
    } else {
      finish_batch(*writer);
      written = co_await write_batch(writer);
      if (!written) fail(written.error());
    }
    if (written) {
      log_->free(writer->take_freed());
      kick_reclaimer();
    }
    for (std::unique_ptr<BatchJob>& job : taken)
      job->done.set(written);
  }
  batching_ = false;
}

// ---- sync

Task<Result<WriteResult>> KvChunkStore::sync_one(SyncItem item) {
  Result<ChunkPtr> found = co_await find(item.chunk);
  auto slot = chunks_.find(item.chunk);
  bool filling = slot != chunks_.end() && slot->second.incoming && item.version == slot->second.incoming->version;
  if (filling) co_return Error(ErrorCode::kMissingWrites, "chunk " + to_string(item.chunk) + " is still being filled");
  if (!found) co_return found.error();
  ChunkPtr chunk = std::move(*found);
  Result<void> right = check_version(*chunk, item.version);
  if (!right) co_return right.error();
  if (chunk->sequence < item.sequence) {
    co_return Error(ErrorCode::kMissingWrites,
                    fmt::format("chunk {} has taken {} writes, not {}", chunk->id, chunk->sequence, item.sequence));
  }
  // A chunk without any write is to be durable too: in_kv.
  while (!chunk->in_kv || chunk->synced_sequence < item.sequence) {
    Result<void> done = co_await commit_chunk(chunk, {});
    if (!done) co_return done.error();
  }
  co_return WriteResult{chunk->sequence, chunk->synced_sequence, status_of(*chunk).allocated_bytes};
}

Task<void> KvChunkStore::sync_into(SyncItem item, Promise<WriteResult> done) {
  Result<WriteResult> result = co_await sync_one(item);
  done.set(std::move(result));
}

Task<std::vector<Result<WriteResult>>> KvChunkStore::sync(std::vector<SyncItem> items) {
  std::vector<Result<WriteResult>> results;
  if (items.size() == 1) {
    Result<WriteResult> only = co_await sync_one(items.front());
    results.push_back(std::move(only));
    co_return results;
  }
  // All at once: they share their batches.
  std::vector<Future<WriteResult>> futures;
  for (const SyncItem& item : items) {
    Promise<WriteResult> promise(executor_);
    futures.push_back(promise.future());
    tasks_.spawn(sync_into(item, std::move(promise)));
  }
  for (Future<WriteResult>& future : futures) {
    Result<WriteResult> result = co_await std::move(future);
    results.push_back(std::move(result));
  }
  co_return results;
}

}  // namespace cairn
