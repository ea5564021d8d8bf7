// Taking writes: in order, into memory, long runs on their way to the value log at once.
#include <algorithm>
#include <cstring>
#include <fmt/format.h>

#include "chunkserver/store/block_checksum.h"
#include "chunkserver/store/kv_chunk_store.h"
#include "common/base/check.h"
#include "common/base/crc32c.h"

namespace cairn {

namespace {

// What [offset, offset + length) covers of `block`.
struct Cover {
  uint32_t first_byte = 0;
  uint32_t bytes = 0;
  bool whole() const { return bytes == kBlockSizeBytes; }
};
Cover cover_of(uint32_t block, uint32_t offset, uint32_t end) {
  uint32_t start = block * kBlockSizeBytes;
  uint32_t from = std::max(offset, start);
  uint32_t to = static_cast<uint32_t>(std::min<uint64_t>(end, uint64_t{start} + kBlockSizeBytes));
  return {from - start, to - from};
}

}  // namespace

Result<void> KvChunkStore::check_write(const ChunkWrite& write) {
  if (!write.chunk || write.version == 0 || write.sequence == 0)
    return Error(ErrorCode::kInvalid, "a write without an id");
  if (write.kind == WriteKind::kTruncate) {
    if (write.offset > kChunkSizeBytes) return Error(ErrorCode::kInvalid, "beyond the chunk's 64 MiB");
    return {};
  }
  if (uint64_t{write.offset} + write.length > kChunkSizeBytes)
    return Error(ErrorCode::kInvalid, "beyond the chunk's 64 MiB");
  if (write.kind == WriteKind::kZero) return {};
  if (write.kind != WriteKind::kData) return Error(ErrorCode::kInvalid, "an unknown kind of write");
  if (write.length == 0 || write.data.size() != write.length)
    return Error(ErrorCode::kInvalid, "length and data differ");
  uint32_t first = write.offset / kBlockSizeBytes;
  uint32_t last = (write.offset + write.length - 1) / kBlockSizeBytes;
  if (write.checksums.size() != last - first + 1) return Error(ErrorCode::kInvalid, "one checksum a block is needed");
  size_t at = 0;
  for (uint32_t block = first; block <= last; ++block) {
    Cover cover = cover_of(block, write.offset, write.offset + write.length);
    if (crc32c(write.data.span().subspan(at, cover.bytes)) != write.checksums[block - first]) {
      return Error(ErrorCode::kCorrupt, fmt::format("chunk {}: what came for offset {} does not match its checksum",
                                                    write.chunk, block * kBlockSizeBytes));
    }
    at += cover.bytes;
  }
  return {};
}

Task<Result<ReplicaStatus>> KvChunkStore::create(ChunkId id, uint64_t version, uint64_t sequence, OwnerHint owner) {
  if (!id || version == 0) co_return Error(ErrorCode::kInvalid, "a chunk without an id");
  Result<ChunkPtr> found = co_await find(id);
  if (found) {
    Result<void> right = check_version(**found, version);
    if (!right) co_return right.error();
    co_return status_of(**found);
  }
  if (!found.failed_with(ErrorCode::kNotFound)) co_return found.error();
  Result<void> space = co_await take_space(kBlockSizeBytes);
  if (!space) co_return space.error();
  Slot& slot = chunks_[id];
  if (!slot.main) {
    slot.main = make_chunk(id, version, sequence, owner);
    slot.looked_up = true;
    loaded_.notify_all();
    mark_dirty(slot.main);
    touched(id);
  }
  Result<void> right = check_version(*slot.main, version);
  if (!right) co_return right.error();
  co_return status_of(*slot.main);
}

// The copy that writes of this version go to.
Task<Result<ChunkPtr>> KvChunkStore::find_for_write(ChunkId id, uint64_t version, uint64_t sequence, OwnerHint owner,
                                                    TimePoint deadline) {
  while (true) {
    Result<ChunkPtr> found = co_await find(id);
    auto slot = chunks_.find(id);
    if (slot != chunks_.end() && slot->second.incoming && version >= slot->second.incoming->version) {
      co_return slot->second.incoming;
    }
    if (found) co_return found;
    if (!found.failed_with(ErrorCode::kNotFound)) co_return found;
    if (sequence == 1) {
      Result<ReplicaStatus> created = co_await create(id, version, 0, owner);
      if (!created && !created.failed_with(ErrorCode::kOldVersion)) co_return created.error();
      continue;
    }
    Result<void> waited = co_await loaded_.wait_until(clock_, deadline);
    if (!waited) co_return found;
  }
}

// Returns when this write is the next one, or has been taken already.
Task<Result<void>> KvChunkStore::wait_turn(ChunkPtr chunk, uint64_t version, uint64_t sequence, TimePoint deadline) {
  while (true) {
    Result<void> ready = usable();
    if (!ready) co_return ready;
    if (chunk->removed) co_return Error(ErrorCode::kNotFound, "chunk " + to_string(chunk->id) + " was removed");
    Result<void> right = check_version(*chunk, version);
    if (!right) co_return right;
    if (sequence <= chunk->sequence) co_return Result<void>{};
    if (chunk->sealed() || chunk->sealing) {
      co_return Error(ErrorCode::kOldVersion, "chunk " + to_string(chunk->id) + " is sealed");
    }
    if (sequence == chunk->sequence + 1 && !chunk->applying) co_return Result<void>{};
    Result<void> waited = co_await chunk->turn.wait_until(clock_, deadline);
    if (!waited) {
      co_return Error(ErrorCode::kMissingWrites,
                      fmt::format("chunk {}: write {} came, but not {}", chunk->id, sequence, chunk->sequence + 1));
    }
  }
}

Task<Result<WriteResult>> KvChunkStore::write(ChunkWrite write, TimePoint deadline) {
  Result<void> ready = usable();
  if (!ready) co_return ready.error();
  Result<void> valid = check_write(write);
  if (!valid) co_return valid.error();
  Result<ChunkPtr> found = co_await find_for_write(write.chunk, write.version, write.sequence, write.owner, deadline);
  if (!found) co_return found.error();
  ChunkPtr chunk = std::move(*found);
  Result<void> turn = co_await wait_turn(chunk, write.version, write.sequence, deadline);
  if (!turn) co_return turn.error();
  if (write.sequence <= chunk->sequence) co_return WriteResult{chunk->sequence, chunk->synced_sequence};
  {
    Turn mine(chunk);
    Result<void> room = co_await wait_for_memory(deadline);
    if (!room) co_return room.error();
    uint64_t sequence = write.sequence;
    OwnerHint owner = write.owner;
    Result<void> taken;
    if (write.kind == WriteKind::kData) {
      taken = co_await take_data(chunk, std::move(write));
    } else {
      bool truncate = write.kind == WriteKind::kTruncate;
      uint32_t offset = write.offset;
      uint32_t end = truncate ? static_cast<uint32_t>(kChunkSizeBytes) : offset + write.length;
      // What is still to be filled may lie behind the end that the copy has so far.
      if (!chunk->install) end = std::min(end, chunk->length_bytes);
      taken = co_await take_zeros(chunk, offset, end);
      if (taken && truncate) {
        chunk->length_bytes = std::min(chunk->length_bytes, offset);
        if (chunk->install) chunk->install->cut_at = std::min(chunk->install->cut_at, offset);
      }
    }
    if (!taken) co_return taken.error();
    // No wait between the change of the blocks (the last thing that the two did) and this: a commit sees both or
    // neither.
    chunk->sequence = sequence;
    chunk->owner = owner;
    account(*chunk);
    mark_dirty(chunk);
  }
  touched(write.chunk);
  co_return WriteResult{chunk->sequence, chunk->synced_sequence, status_of(*chunk).allocated_bytes};
}

Task<Result<void>> KvChunkStore::wait_for_memory(TimePoint deadline) {
  while (unsynced_bytes_ >= options_.unsynced_limit_bytes) {
    Result<void> ready = usable();
    if (!ready) co_return ready;
    kick_flusher();
    Result<void> waited = co_await memory_freed_.wait_until(clock_, deadline);
    if (!waited) co_return Error(ErrorCode::kOverload, options_.folder + ": the disk is slower than the writers");
  }
  co_return Result<void>{};
}

Task<Result<void>> KvChunkStore::take_space(uint64_t bytes) {
  if (!space_.try_charge(bytes)) {
    Result<void> sampled = co_await sample_space();
    if (!sampled) co_return sampled;
    if (!space_.try_charge(bytes)) co_return Error(ErrorCode::kNoSpace, options_.folder + " is full");
  }
  if (!sampling_ && clock_.now() - sampled_at_ > kSpaceSampleAge) kick_reclaimer();  // which samples
  co_return Result<void>{};
}

Task<Result<void>> KvChunkStore::sample_space() {
  while (sampling_)
    co_await sampled_.wait();
  sampling_ = true;
  space_.begin_sample(memory_only_bytes_, log_->reserved_ahead_bytes());
  Result<DiskSpace> space =
      co_await read_pool_->run([disk = &world_.disk(), folder = options_.folder] { return disk->space(folder); });
  sampling_ = false;
  sampled_at_ = clock_.now();
  if (space) space_.end_sample(*space);
  sampled_.notify_all();
  if (!space) {
    fail_if_disk(space.error());
    co_return space.error();
  }
  co_return Result<void>{};
}

// ---- data

Task<Result<void>> KvChunkStore::take_data(ChunkPtr chunk, ChunkWrite write) {
  uint32_t end = write.offset + write.length;
  uint32_t first = write.offset / kBlockSizeBytes;
  uint32_t last = (end - 1) / kBlockSizeBytes;
  Result<void> space = co_await take_space((last - first + 1) * kBlockSizeBytes);
  if (!space) co_return space;

  // Everything that may wait or fail comes first; then the blocks change at once.
  struct Edge {
    uint32_t block = 0;
    PiecePtr piece;
  };
  std::vector<Edge> edges;
  uint32_t whole_from = first;
  uint32_t whole_to = last + 1;
  for (uint32_t block : {first, last}) {
    Cover cover = cover_of(block, write.offset, end);
    if (cover.whole() || (!edges.empty() && edges.back().block == block)) continue;
    Buffer part = write.data.slice(block * kBlockSizeBytes + cover.first_byte - write.offset, cover.bytes);
    uint32_t part_checksum = write.checksums[block - first];
    Edge edge{block, nullptr};
    if (!chunk->install || chunk->install->settled[block]) {
      Result<PiecePtr> merged =
          co_await merged_block(chunk, block, cover.first_byte, cover.bytes, std::move(part), part_checksum);
      if (!merged) co_return merged.error();
      edge.piece = std::move(*merged);
    }
    edges.push_back(std::move(edge));
    if (block == first) whole_from = first + 1;
    if (block == last) whole_to = last;
  }
  std::vector<LogPlace> places;
  if (whole_to > whole_from && wants_log(whole_to - whole_from)) {
    Result<std::vector<LogPlace>> allocated = co_await allocate_run(whole_to - whole_from);
    if (!allocated) co_return allocated.error();
    places = std::move(*allocated);
  }
  if (chunk->removed) {
    for (size_t i = 0; i < places.size(); ++i) {
      uint32_t blocks = std::min<uint32_t>(log_->max_run_blocks(),
                                           whole_to - whole_from - static_cast<uint32_t>(i) * log_->max_run_blocks());
      std::vector<LogPlace> unused;
      for (uint32_t b = 0; b < blocks; ++b)
        unused.push_back(places[i].plus(b));
      log_->free_uncommitted(unused);
    }
    co_return Error(ErrorCode::kNotFound, "chunk " + to_string(chunk->id) + " was removed");
  }

  std::vector<LogPlace> unused;
  for (const Edge& edge : edges) {
    Cover cover = cover_of(edge.block, write.offset, end);
    if (edge.piece) {
      chunk->map.put(edge.block, edge.piece, {}, unused);
    } else {
      Buffer part = write.data.slice(edge.block * kBlockSizeBytes + cover.first_byte - write.offset, cover.bytes);
      patch_instead(*chunk, edge.block, cover.first_byte, cover.bytes, part);
    }
  }
  if (whole_to > whole_from) {
    uint32_t blocks = whole_to - whole_from;
    Buffer data = write.data.slice(whole_from * kBlockSizeBytes - write.offset, blocks * kBlockSizeBytes);
    auto sums = write.checksums.begin() + (whole_from - first);
    put_run(chunk, whole_from, data, std::vector<uint32_t>(sums, sums + blocks), places);
    if (chunk->install) {
      for (uint32_t block = whole_from; block < whole_to; ++block) {
        chunk->install->settled.set(block);
        chunk->install->patches.erase(block);
      }
    }
  }
  log_->free_uncommitted(unused);
  chunk->length_bytes = std::max(chunk->length_bytes, end);
  if (chunk->map.unplaced_blocks() >= kSpillBlocks && !chunk->spilling && wants_log(kSpillBlocks)) {
    chunk->spilling = true;
    tasks_.spawn(spill(chunk));
  }
  co_return Result<void>{};
}

// Places for a run, in pieces of max_run_blocks() (the last one may be shorter).
Task<Result<std::vector<LogPlace>>> KvChunkStore::allocate_run(uint32_t blocks) {
  std::vector<LogPlace> places;
  while (blocks > 0) {
    uint32_t part = std::min(blocks, log_->max_run_blocks());
    std::optional<LogPlace> place = log_->allocate(part);
    if (!place) {
      Result<void> room = co_await log_->make_room(part, space_.free_bytes() / 4);
      if (!room && !room.failed_with(ErrorCode::kAgain)) {
        std::vector<LogPlace> unused;
        for (LogPlace taken : places) {
          for (uint32_t b = 0; b < log_->max_run_blocks(); ++b)
            unused.push_back(taken.plus(b));
        }
        log_->free_uncommitted(unused);
        fail_if_disk(room.error());
        co_return room.error();
      }
      continue;
    }
    places.push_back(*place);
    blocks -= part;
  }
  co_return places;
}

void KvChunkStore::put_run(const ChunkPtr& chunk, uint32_t first_block, const Buffer& data,
                           const std::vector<uint32_t>& checksums, const std::vector<LogPlace>& places) {
  std::vector<LogPlace> unused;
  uint32_t total = static_cast<uint32_t>(checksums.size());
  uint32_t step = places.empty() ? total : log_->max_run_blocks();
  for (uint32_t at = 0; at < total; at += step) {
    uint32_t blocks = std::min(step, total - at);
    auto piece = std::make_shared<Piece>();
    piece->data = data.slice(at * kBlockSizeBytes, blocks * kBlockSizeBytes);
    piece->checksums.assign(checksums.begin() + at, checksums.begin() + at + blocks);
    LogPlace place = places.empty() ? LogPlace{} : places[at / step];
    chunk->map.put(first_block + at, piece, place, unused);
    if (!place) continue;
    std::vector<BlockBytes> bytes;
    bytes.reserve(blocks);
    for (uint32_t i = 0; i < blocks; ++i)
      bytes.push_back({piece, i});
    start_log_write(chunk, place, std::move(bytes));
  }
  log_->free_uncommitted(unused);
}

void KvChunkStore::start_log_write(const ChunkPtr& chunk, LogPlace place, std::vector<BlockBytes> blocks) {
  io_.spawn(run_log_write(chunk, place, std::move(blocks)));
}

Task<void> KvChunkStore::run_log_write(ChunkPtr chunk, LogPlace place, std::vector<BlockBytes> blocks) {
  uint64_t number = chunk->next_log_write++;
  chunk->log_writes.insert(number);
  Result<void> written = co_await log_->write(place, std::move(blocks));
  chunk->log_writes.erase(number);
  // What was taken is in memory only now, and cannot be kept: whoever has it must send it elsewhere.
  if (!written) fail(written.error());
  chunk->log_idle.notify_all();
}

Task<void> KvChunkStore::spill(ChunkPtr chunk) {
  Result<void> placed = co_await place_runs(chunk);
  if (!placed) fail_if_disk(placed.error());  // a full disk is told when it is synced
  chunk->spilling = false;
  account(*chunk);
}

// ---- blocks that are written in part

Task<Result<BlockBytes>> KvChunkStore::load_block(ChunkPtr chunk, uint32_t block) {
  Result<ReadPlan> plan = co_await read_blocks(chunk, block, 1);
  if (!plan) co_return plan.error();
  const ReadPart& part = plan->parts.front();
  if (part.from == ReadPart::From::kZeros) co_return BlockBytes{};
  if (part.from == ReadPart::From::kMemory) co_return part.bytes;
  if (crc32c(part.data.span()) != plan->checksums.front()) {
    Error error(ErrorCode::kCorrupt, fmt::format("chunk {}: the block at {} does not match its checksum", chunk->id,
                                                 block * kBlockSizeBytes));
    report_bad(chunk->id, error);
    co_return error;
  }
  auto piece = std::make_shared<Piece>();
  piece->data = part.data;
  piece->checksums = plan->checksums;
  co_return BlockBytes{std::move(piece), 0};
}

Task<Result<PiecePtr>> KvChunkStore::merged_block(ChunkPtr chunk, uint32_t block, uint32_t first_byte, uint32_t bytes,
                                                  Buffer data, uint32_t data_checksum) {
  Result<BlockBytes> old = co_await load_block(chunk, block);
  if (!old) co_return old.error();
  auto piece = std::make_shared<Piece>();
  piece->data = Buffer::allocate(kBlockSizeBytes);
  std::span<std::byte> out = piece->data.mutable_span();
  if (old->piece) {
    std::memcpy(out.data(), old->span().data(), kBlockSizeBytes);
  } else {
    std::memset(out.data(), 0, kBlockSizeBytes);
  }
  if (data.empty()) {
    std::memset(out.data() + first_byte, 0, bytes);
  } else {
    std::memcpy(out.data() + first_byte, data.data(), bytes);
  }
  bool zeros_behind = !old->piece && first_byte == 0 && !data.empty();
  piece->checksums.push_back(zeros_behind ? checksum_with_zeros(data_checksum, kBlockSizeBytes - bytes) : crc32c(out));
  PiecePtr merged = std::move(piece);
  co_return merged;
}

// ---- zeros

Task<Result<void>> KvChunkStore::take_zeros(ChunkPtr chunk, uint32_t offset, uint32_t end) {
  if (offset >= end) co_return Result<void>{};
  uint32_t first = offset / kBlockSizeBytes;
  uint32_t last = (end - 1) / kBlockSizeBytes;
  struct Edge {
    uint32_t block = 0;
    PiecePtr piece;
  };
  std::vector<Edge> edges;
  uint32_t whole_from = first;
  uint32_t whole_to = last + 1;
  for (uint32_t block : {first, last}) {
    Cover cover = cover_of(block, offset, end);
    if (cover.whole() || (!edges.empty() && edges.back().block == block)) continue;
    // Up to the chunk's end is as good as whole: behind it are zeros.
    bool rest_is_zeros = cover.first_byte == 0 && end >= chunk->length_bytes && !chunk->install;
    if (rest_is_zeros) continue;
    Edge edge{block, nullptr};
    if (!chunk->install || chunk->install->settled[block]) {
      Result<PiecePtr> merged = co_await merged_block(chunk, block, cover.first_byte, cover.bytes, Buffer(), 0);
      if (!merged) co_return merged.error();
      edge.piece = std::move(*merged);
    }
    edges.push_back(std::move(edge));
    if (block == first) whole_from = first + 1;
    if (block == last) whole_to = last;
  }
  if (chunk->removed) co_return Error(ErrorCode::kNotFound, "chunk " + to_string(chunk->id) + " was removed");
  std::vector<LogPlace> unused;
  for (const Edge& edge : edges) {
    if (edge.piece) {
      chunk->map.put(edge.block, edge.piece, {}, unused);
    } else {
      Cover cover = cover_of(edge.block, offset, end);
      patch_instead(*chunk, edge.block, cover.first_byte, cover.bytes, Buffer());
    }
  }
  if (whole_to > whole_from) {
    uint32_t used = (chunk->length_bytes + kBlockSizeBytes - 1) / kBlockSizeBytes;
    uint32_t hole_to = std::min(whole_to, used);
    if (hole_to > whole_from) chunk->map.put_hole(whole_from, hole_to - whole_from, unused);
    if (chunk->install) {
      for (uint32_t block = whole_from; block < whole_to; ++block) {
        chunk->install->settled.set(block);
        chunk->install->patches.erase(block);
      }
    }
  }
  log_->free_uncommitted(unused);
  co_return Result<void>{};
}

}  // namespace cairn
