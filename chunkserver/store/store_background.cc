// What runs by itself: making old data durable, taking removed bodies apart, giving space back, rewriting segments that
// are mostly holes.
#include <algorithm>
#include <fmt/format.h>

#include "chunkserver/store/kv_chunk_store.h"
#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/base/log.h"

namespace cairn {
namespace {

constexpr Duration kReclaimDelay = 100ms;  // lets neighbours come together
constexpr Duration kReclaimIdle = 1s;
constexpr Duration kRetryDelay = 1s;
constexpr size_t kPurgeBodiesMax = 16;

}  // namespace

// ---- flushing

void KvChunkStore::mark_dirty(const ChunkPtr& chunk) {
  if (chunk->removed || failure_) return;
  if (!chunk->dirty_since) {
    chunk->dirty_since = clock_.now();
    dirty_.emplace_back(*chunk->dirty_since, chunk);
    if (!flusher_running_) {
      flusher_running_ = true;
      tasks_.spawn(run_flusher());
    }
  }
  if (uint64_t{chunk->map.overlay_blocks()} * kBlockSizeBytes >= kChunkFlushBytes) start_flush(chunk);
  if (unsynced_bytes_ >= options_.unsynced_limit_bytes / 2) kick_flusher();
}

void KvChunkStore::kick_flusher() {
  flusher_kick_.notify_all();
}

Task<void> KvChunkStore::run_flusher() {
  while (!dirty_.empty() && !failure_ && !tasks_.stop_requested()) {
    auto [since, chunk] = dirty_.front();
    if (chunk->removed || chunk->flushing || chunk->dirty_since != since) {
      dirty_.pop_front();
      continue;
    }
    if (flushes_ >= kFlushesMax) {
      chunk.reset();
      co_await flushed_.wait();
      continue;
    }
    bool pressed = unsynced_bytes_ >= options_.unsynced_limit_bytes / 2;
    TimePoint due = since + kFlushAge;
    if (!pressed && clock_.now() < due) {
      chunk.reset();
      Result<void> kicked = co_await flusher_kick_.wait_until(clock_, due);
      (void)kicked;  // either way it is time to look again
      continue;
    }
    dirty_.pop_front();
    start_flush(chunk);
  }
  if (failure_) dirty_.clear();
  flusher_running_ = false;
}

void KvChunkStore::start_flush(const ChunkPtr& chunk) {
  if (chunk->flushing || chunk->removed) return;
  chunk->flushing = true;
  ++flushes_;
  tasks_.spawn(flush_one(chunk));
}

Task<void> KvChunkStore::flush_one(ChunkPtr chunk) {
  Result<void> done = co_await commit_now(chunk, {});
  if (!done && !failure_ && !chunk->removed) {
    log_warning("store.flush_failed", "chunk={} error={}", to_string(chunk->id), quoted(done.error().message()));
    Result<void> slept = co_await tasks_.sleep_for(kRetryDelay);
    (void)slept;
  }
  chunk->flushing = false;
  --flushes_;
  flushed_.notify_all();
  // What came meanwhile: its entry in the list may have been skipped because of this flush.
  if (chunk->dirty_since) {
    chunk->dirty_since.reset();
    mark_dirty(chunk);
  }
}

// ---- purging

void KvChunkStore::doom(BodyId body) {
  doomed_.push_back(body);
  if (purging_ || closing_) return;
  purging_ = true;
  tasks_.spawn(run_purger());
}

struct KvChunkStore::Doomed {
  BodyId body;
  std::vector<LogPlace> places;
  std::vector<std::string> keys;
};

Result<std::vector<KvChunkStore::Doomed>> KvChunkStore::read_doomed(const KvStore& kv, std::vector<BodyId> bodies) {
  std::vector<Doomed> found;
  std::unique_ptr<KvIterator> it = kv.iterate();
  for (BodyId body : bodies) {
    Doomed doomed;
    doomed.body = body;
    std::string prefix = store_keys::prefix(store_keys::kExtentsLetter, body.value);
    for (it->seek(prefix); it->valid() && it->key().starts_with(prefix); it->next()) {
      doomed.keys.emplace_back(it->key());
      Result<store_keys::BodyKey> key = store_keys::parse_body_key(it->key());
      Result<ExtentGroup> group = ExtentGroup::decode(it->value());
      if (!key || !group) continue;  // its blocks cannot be found; the key goes
      for (uint32_t i = 0; i < kBlocksPerGroup; ++i) {
        const BlockEntry& entry = group->at(i);
        if (entry.kind == BlockKind::kLog) doomed.places.push_back(entry.place);
        if (entry.kind == BlockKind::kInline) {
          doomed.keys.push_back(store_keys::inline_block(body, key->number * kBlocksPerGroup + i));
        }
      }
      for (uint32_t segment : group->segments())
        doomed.keys.push_back(store_keys::user(segment, body, key->number));
    }
    Result<void> ended = it->status();
    if (!ended) return ended.error();
    found.push_back(std::move(doomed));
  }
  return found;
}

Task<Result<void>> KvChunkStore::purge(std::vector<BodyId> bodies) {
  Result<std::vector<Doomed>> found =
      co_await read_pool_->run([kv = kv_.get(), bodies] { return read_doomed(*kv, bodies); });
  if (!found) co_return found.error();
  std::vector<LogPlace> places;
  for (const Doomed& doomed : *found)
    places.insert(places.end(), doomed.places.begin(), doomed.places.end());
  Result<void> shared = co_await load_shared(places);
  if (!shared) co_return shared;
  Result<void> written = co_await commit([this, &found](BatchWriter& writer) {
    for (const Doomed& doomed : *found) {
      for (const std::string& key : doomed.keys)
        writer.erase(key);
      writer.erase(store_keys::doomed(doomed.body));
      writer.add_freed(log_->drop_references(doomed.places));
    }
  });
  co_return written;
}

Task<void> KvChunkStore::run_purger() {
  while (!doomed_.empty() && !failure_ && !tasks_.stop_requested()) {
    size_t count = std::min(doomed_.size(), kPurgeBodiesMax);
    std::vector<BodyId> bodies(doomed_.begin(), doomed_.begin() + static_cast<std::ptrdiff_t>(count));
    doomed_.erase(doomed_.begin(), doomed_.begin() + static_cast<std::ptrdiff_t>(count));
    Result<void> done = co_await purge(std::move(bodies));
    if (!done) fail_if_disk(done.error());  // what is left is found again at the next start
  }
  purging_ = false;
}

// ---- giving space back

void KvChunkStore::kick_reclaimer() {
  if (reclaiming_ || closing_ || failure_) return;
  reclaiming_ = true;
  tasks_.spawn(run_reclaimer());
}

Task<Result<void>> KvChunkStore::reclaim_round(bool all) {
  Result<ValueLog::Reclaimed> done = co_await log_->reclaim(all);
  if (!done) {
    fail_if_disk(done.error());
    co_return done.error();
  }
  punched_.insert(punched_.end(), done->punched.begin(), done->punched.end());
  removed_segments_.insert(removed_segments_.end(), done->removed.begin(), done->removed.end());
  co_return Result<void>{};
}

// Lives while there is something to do; started again by the next batch.
Task<void> KvChunkStore::run_reclaimer() {
  Duration delay = kReclaimDelay;
  while (!failure_) {
    Result<void> slept = co_await tasks_.sleep_for(delay);
    if (!slept) break;
    if (clock_.now() - sampled_at_ > kSpaceSampleAge) {
      Result<void> sampled = co_await sample_space();
      if (!sampled) break;
    }
    Result<void> done = co_await reclaim_round(/*all=*/false);
    if (!done) break;
    Result<bool> cleaned = co_await clean_one_segment();
    if (!cleaned && !closing_) {
      log_warning("store.clean_failed", "folder={} error={}", options_.folder, quoted(cleaned.error().message()));
    }
    bool cleaning = cleaned && *cleaned;
    if (!log_->has_freed() && !cleaning) break;
    delay = cleaning ? kReclaimDelay : kReclaimIdle;
  }
  reclaiming_ = false;
}

// ---- cleaning

// True if there may be more to do.
Task<Result<bool>> KvChunkStore::clean_one_segment() {
  if (options_.clean_bytes_per_second == 0) co_return false;
  uint32_t segment = log_->mostly_holes();
  if (segment == 0) co_return false;
  if (clock_.now() < clean_again_at_) co_return true;
  Result<std::vector<SegmentUser>> users =
      co_await read_pool_->run([kv = kv_.get(), segment] { return read_users(*kv, segment); });
  if (!users) co_return users.error();
  uint64_t bytes = 0;
  for (const SegmentUser& user : *users) {
    Result<uint64_t> moved = co_await clean_group(user, segment);
    if (!moved && failure_) co_return moved.error();
    if (!moved) {
      // This one stays where it is; it would come up again at once, so the cleaner rests.
      clean_again_at_ = clock_.now() + 60s;
      co_return moved.error();
    }
    bytes += *moved;
    if (tasks_.stop_requested()) co_return false;
  }
  // A segment whose users are all being removed, or move by themselves, gives nothing to do: look again in a while.
  Duration pause = bytes == 0 ? Duration(10s) : Duration(bytes * 1'000'000'000 / options_.clean_bytes_per_second);
  clean_again_at_ = clock_.now() + pause;
  co_return true;
}

Result<std::vector<KvChunkStore::SegmentUser>> KvChunkStore::read_users(const KvStore& kv, uint32_t segment) {
  std::vector<SegmentUser> users;
  std::string prefix = store_keys::segment_prefix(store_keys::kUserLetter, segment);
  std::unique_ptr<KvIterator> it = kv.iterate();
  for (it->seek(prefix); it->valid() && it->key().starts_with(prefix); it->next()) {
    Result<store_keys::UserKey> key = store_keys::parse_user_key(it->key());
    if (!key) return key.error();
    ByteReader value(it->value());
    ChunkId chunk(value.u64());
    Result<void> finished = value.finish("a segment's user");
    if (!finished) return finished.error();
    users.push_back({chunk, key->body, key->group});
  }
  Result<void> ended = it->status();
  if (!ended) return ended.error();
  return users;
}

namespace {

struct BlocksToMove {
  std::vector<ExtentMap::Move> moves;
  std::vector<uint32_t> checksums;  // of each
};
BlocksToMove blocks_in(uint32_t segment, const ExtentGroup& extents, uint32_t group) {
  BlocksToMove found;
  for (uint32_t i = 0; i < kBlocksPerGroup; ++i) {
    const BlockEntry& entry = extents.at(i);
    if (entry.kind != BlockKind::kLog || entry.place.segment != segment) continue;
    found.moves.push_back({group * kBlocksPerGroup + i, entry.place, {}});
    found.checksums.push_back(entry.checksum);
  }
  return found;
}

// What is moved is checked first: a copy would give a block that has rotted a new life.
Result<Buffer> read_verified(SegmentFile& file, const std::vector<ExtentMap::Move>& moves,
                             const std::vector<uint32_t>& checksums, ChunkId chunk) {
  Buffer all = Buffer::allocate(moves.size() * kBlockSizeBytes);
  for (size_t i = 0; i < moves.size(); ++i) {
    std::span<std::byte> block = all.mutable_span().subspan(i * kBlockSizeBytes, kBlockSizeBytes);
    Result<void> read = file.read(moves[i].from.block, block);
    if (!read) return read.error();
    if (crc32c(block) == checksums[i]) continue;
    return Error(ErrorCode::kCorrupt, fmt::format("chunk {}: the block at {} does not match its checksum", chunk,
                                                  moves[i].block * kBlockSizeBytes));
  }
  return all;
}

}  // namespace

// Moves what the group has in the segment to the active one. Returns the bytes moved.
Task<Result<uint64_t>> KvChunkStore::clean_group(SegmentUser user, uint32_t segment) {
  Result<ChunkPtr> found = co_await find(user.chunk);
  if (found.failed_with(ErrorCode::kNotFound)) co_return uint64_t{0};
  if (!found) co_return found.error();
  ChunkPtr chunk = std::move(*found);
  if (chunk->body != user.body) co_return uint64_t{0};
  Semaphore::Permit permit = co_await chunk->commit_mutex.lock();
  if (chunk->removed) co_return uint64_t{0};
  Result<void> loaded = co_await load_groups(chunk, {user.group});
  if (!loaded) co_return loaded.error();
  auto [moves, checksums] = blocks_in(segment, *chunk->map.committed(user.group), user.group);
  if (moves.empty()) co_return uint64_t{0};
  std::shared_ptr<SegmentFile> file = log_->file(segment);
  if (!file) co_return uint64_t{0};
  uint32_t blocks = static_cast<uint32_t>(moves.size());
  Result<void> space = co_await take_space(blocks * kBlockSizeBytes);
  if (!space) co_return space.error();
  ValueLog::Pin pin = log_->pin();
  Result<Buffer> bytes = co_await read_pool_->run(
      [file, moves, checksums, chunk = chunk->id] { return read_verified(*file, moves, checksums, chunk); });
  if (!bytes) {
    report_bad(chunk->id, bytes.error());
    co_return bytes.error();
  }
  Result<std::vector<LogPlace>> places = co_await allocate_run(blocks);
  if (!places) co_return places.error();
  auto piece = std::make_shared<Piece>();
  piece->data = std::move(*bytes);
  piece->checksums = checksums;
  std::vector<uint32_t> touched_segments;
  for (size_t at = 0; at < places->size(); ++at) {
    uint32_t first = static_cast<uint32_t>(at) * log_->max_run_blocks();
    uint32_t part = std::min(log_->max_run_blocks(), blocks - first);
    std::vector<BlockBytes> run;
    for (uint32_t i = 0; i < part; ++i) {
      run.push_back({piece, first + i});
      moves[first + i].to = (*places)[at].plus(i);
    }
    Result<void> written = co_await log_->write((*places)[at], std::move(run));
    if (!written) {
      fail(written.error());
      co_return written.error();
    }
    touched_segments.push_back((*places)[at].segment);
  }
  Result<void> synced = co_await log_->sync(touched_segments);
  if (!synced) {
    fail(synced.error());
    co_return synced.error();
  }
  Result<void> moved = co_await commit([this, &chunk, &moves](BatchWriter& writer) {
    std::vector<LogPlace> unused;
    ExtentMap::Plan plan = chunk->map.plan_moves(moves, unused);
    writer.add(chunk->id, chunk->body, plan);
    log_->add_references(plan.added);
    writer.add_freed(log_->drop_references(plan.freed));
    log_->free_uncommitted(unused);
  });
  if (!moved) co_return moved.error();
  co_return uint64_t{blocks} * kBlockSizeBytes;
}

}  // namespace cairn
