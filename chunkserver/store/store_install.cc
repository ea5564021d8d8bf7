// Filling a copy from another replica, beside what is here, while new writes may already go to it.
#include <algorithm>
#include <cstring>
#include <fmt/format.h>

#include "chunkserver/store/block_checksum.h"
#include "chunkserver/store/kv_chunk_store.h"
#include "common/base/check.h"
#include "common/base/crc32c.h"

namespace cairn {
namespace {

constexpr Duration kFillWait = 30s;  // for memory; the source waits as long

}  // namespace

Result<ChunkPtr> KvChunkStore::find_incoming(ChunkId id, uint64_t version) {
  Result<void> ready = usable();
  if (!ready) return ready.error();
  auto slot = chunks_.find(id);
  if (slot == chunks_.end() || !slot->second.incoming) {
    return Error(ErrorCode::kNotFound, "chunk " + to_string(id) + " is not being filled");
  }
  ChunkPtr chunk = slot->second.incoming;
  Result<void> right = check_version(*chunk, version);
  if (!right) return right.error();
  return chunk;
}

Task<Result<void>> KvChunkStore::begin_install(ChunkId id, uint64_t version, uint64_t sequence, OwnerHint owner) {
  if (!id || version == 0) co_return Error(ErrorCode::kInvalid, "a copy without an id");
  Result<ChunkPtr> found = co_await find(id);
  if (!found && !found.failed_with(ErrorCode::kNotFound)) {
    // A copy whose record is damaged is what is being replaced.
    if (!found.failed_with(ErrorCode::kCorrupt)) co_return found.error();
  }
  if (found && std::max((*found)->version, (*found)->lowest_version) > version) {
    co_return Error(ErrorCode::kOldVersion,
                    fmt::format("chunk {} is at version {}, not {}", id, (*found)->version, version));
  }
  Result<void> dropped = co_await drop_incoming(id);
  if (!dropped) co_return dropped;
  Slot& slot = chunks_[id];
  if (slot.incoming) co_return Error(ErrorCode::kBusy, "chunk " + to_string(id) + " is being filled by somebody else");
  ChunkPtr chunk = make_chunk(id, version, sequence, owner);
  chunk->install = std::make_unique<Install>();
  slot.looked_up = true;
  slot.incoming = std::move(chunk);
  touched(id);
  loaded_.notify_all();
  co_return Result<void>{};
}

Task<Result<void>> KvChunkStore::drop_incoming(ChunkId id) {
  auto slot = chunks_.find(id);
  if (slot == chunks_.end() || !slot->second.incoming) co_return Result<void>{};
  ChunkPtr chunk = slot->second.incoming;
  Semaphore::Permit permit = co_await chunk->commit_mutex.lock();
  slot = chunks_.find(id);
  if (slot == chunks_.end() || slot->second.incoming != chunk) co_return Result<void>{};
  // Its body is doomed in the key-value store already, from its first batch on.
  slot->second.incoming.reset();
  forget_removed(chunk);
  if (!slot->second.main) forget_slot(id);
  co_return Result<void>{};
}

Task<Result<void>> KvChunkStore::abandon_install(ChunkId id, uint64_t version) {
  Result<ChunkPtr> found = find_incoming(id, version);
  if (found.failed_with(ErrorCode::kNotFound)) co_return Result<void>{};
  if (!found) co_return found.error();
  Result<void> dropped = co_await owned(drop_incoming(id));
  co_return dropped;
}

// ---- filling

Task<Result<void>> KvChunkStore::fill(ChunkId id, uint64_t version, uint32_t offset, Payload data,
                                      std::vector<uint32_t> checksums) {
  Result<ChunkPtr> found = find_incoming(id, version);
  if (!found) co_return found.error();
  size_t size = payload_size(data);
  bool shape = offset % kBlockSizeBytes == 0 && offset + size <= kChunkSizeBytes && size > 0 &&
               checksums.size() == (size + kBlockSizeBytes - 1) / kBlockSizeBytes;
  if (!shape) co_return Error(ErrorCode::kInvalid, "a copy is filled by whole blocks");
  ChunkPtr chunk = std::move(*found);
  Result<void> done = co_await fill_now(chunk, offset, std::move(data), std::move(checksums));
  if (done) {
    account(*chunk);
    mark_dirty(chunk);
    touched(id);
  }
  co_return done;
}

Task<Result<void>> KvChunkStore::fill_now(ChunkPtr chunk, uint32_t offset, Payload data,
                                          std::vector<uint32_t> checksums) {
  Buffer bytes = flatten(data);
  uint32_t blocks = static_cast<uint32_t>(checksums.size());
  for (uint32_t i = 0; i < blocks; ++i) {
    size_t part = std::min<size_t>(kBlockSizeBytes, bytes.size() - i * kBlockSizeBytes);
    if (crc32c(bytes.span().subspan(i * kBlockSizeBytes, part)) != checksums[i]) {
      co_return Error(ErrorCode::kCorrupt, fmt::format("chunk {}: what came to fill {} does not match its checksum",
                                                       chunk->id, offset + i * kBlockSizeBytes));
    }
  }
  if (bytes.size() % kBlockSizeBytes != 0) {
    // The source's last block: kept with zeros behind it.
    uint32_t zeros = static_cast<uint32_t>(blocks * kBlockSizeBytes - bytes.size());
    Buffer whole = Buffer::allocate(blocks * kBlockSizeBytes);
    std::memcpy(whole.mutable_span().data(), bytes.data(), bytes.size());
    std::memset(whole.mutable_span().data() + bytes.size(), 0, zeros);
    checksums.back() = checksum_with_zeros(checksums.back(), zeros);
    bytes = std::move(whole);
  }
  Result<void> space = co_await take_space(bytes.size());
  if (!space) co_return space;
  Result<void> room = co_await wait_for_memory(clock_.now() + kFillWait);
  if (!room) co_return room;
  co_await wait_idle(chunk);
  if (chunk->removed || !chunk->install) {
    co_return Error(ErrorCode::kNotFound, "chunk " + to_string(chunk->id) + " is not being filled any more");
  }
  Turn mine(chunk);
  uint32_t first = offset / kBlockSizeBytes;
  // Runs of blocks that no newer write has settled; one with patches stands alone.
  for (uint32_t i = 0; i < blocks;) {
    Install& install = *chunk->install;
    if (install.settled[first + i]) {
      ++i;
      continue;
    }
    auto patches = install.patches.find(first + i);
    uint32_t end = i + 1;
    Buffer run;
    std::vector<uint32_t> sums;
    if (patches != install.patches.end()) {
      run = Buffer::copy_of(bytes.span().subspan(i * kBlockSizeBytes, kBlockSizeBytes));
      for (const Install::Patch& patch : patches->second) {
        std::byte* at = run.mutable_span().data() + patch.first_byte;
        if (patch.data.empty()) {
          std::memset(at, 0, patch.bytes);
        } else {
          std::memcpy(at, patch.data.data(), patch.bytes);
        }
      }
      sums.push_back(crc32c(run.span()));
    } else {
      while (end < blocks && !install.settled[first + end] && !install.patches.contains(first + end))
        ++end;
      run = bytes.slice(i * kBlockSizeBytes, (end - i) * kBlockSizeBytes);
      sums.assign(checksums.begin() + i, checksums.begin() + end);
    }
    Result<void> put = co_await fill_run(chunk, first + i, std::move(run), std::move(sums));
    if (!put) co_return put;
    for (; i < end; ++i) {
      install.settled.set(first + i);
      install.patches.erase(first + i);
    }
  }
  co_return Result<void>{};
}

Task<Result<void>> KvChunkStore::fill_run(ChunkPtr chunk, uint32_t first_block, Buffer data,
                                          std::vector<uint32_t> checksums) {
  std::vector<LogPlace> places;
  uint32_t blocks = static_cast<uint32_t>(checksums.size());
  if (wants_log(blocks)) {
    Result<std::vector<LogPlace>> allocated = co_await allocate_run(blocks);
    if (!allocated) co_return allocated.error();
    places = std::move(*allocated);
  }
  put_run(chunk, first_block, data, checksums, places);
  co_return Result<void>{};
}

// A write of a part of a block that is still to be filled waits as a patch.
void KvChunkStore::patch_instead(Chunk& chunk, uint32_t block, uint32_t first_byte, uint32_t bytes,
                                 const Buffer& data) {
  CHECK(chunk.install && !chunk.install->settled[block]);
  chunk.install->patches[block].push_back({first_byte, bytes, data});
}

// What was never filled is zeros: the patches that are left lie over those.
Task<Result<void>> KvChunkStore::settle_install(ChunkPtr chunk, uint32_t length_bytes) {
  Install& install = *chunk->install;
  std::map<uint32_t, std::vector<Install::Patch>> patches = std::exchange(install.patches, {});
  std::vector<LogPlace> unused;
  for (const auto& [block, list] : patches) {
    auto piece = std::make_shared<Piece>();
    piece->data = Buffer::zeros(kBlockSizeBytes);
    for (const Install::Patch& patch : list) {
      std::byte* at = piece->data.mutable_span().data() + patch.first_byte;
      if (patch.data.empty()) {
        std::memset(at, 0, patch.bytes);
      } else {
        std::memcpy(at, patch.data.data(), patch.bytes);
      }
    }
    piece->checksums.push_back(crc32c(piece->data.span()));
    chunk->map.put(block, piece, {}, unused);
    install.settled.set(block);
  }
  log_->free_uncommitted(unused);
  chunk->length_bytes = std::max(chunk->length_bytes, std::min(length_bytes, install.cut_at));
  account(*chunk);
  co_return Result<void>{};
}

// ---- finishing

Task<Result<ReplicaStatus>> KvChunkStore::finish_install(ChunkId id, uint64_t version, uint32_t length_bytes,
                                                         bool seal) {
  return owned(finish_now(id, version, length_bytes, seal));
}

Task<Result<ReplicaStatus>> KvChunkStore::finish_now(ChunkId id, uint64_t version, uint32_t length_bytes, bool seal) {
  if (length_bytes > kChunkSizeBytes) co_return Error(ErrorCode::kInvalid, "longer than a chunk");
  Result<ChunkPtr> found = find_incoming(id, version);
  if (!found) co_return found.error();
  ChunkPtr chunk = std::move(*found);
  // The turn is ours until the end: no write comes between the last look at the patches and the batch.
  co_await wait_idle(chunk);
  Turn mine(chunk);
  ChunkPtr old;
  auto replaced = chunks_.find(id);
  if (replaced != chunks_.end()) old = replaced->second.main;
  Semaphore::Permit old_permit;
  if (old) old_permit = co_await old->commit_mutex.lock();
  Semaphore::Permit permit = co_await chunk->commit_mutex.lock();
  if (chunk->removed || !chunk->install) {
    co_return Error(ErrorCode::kNotFound, "chunk " + to_string(id) + " is not being filled any more");
  }
  Result<void> settled = co_await settle_install(chunk, length_bytes);
  if (!settled) co_return settled.error();
  uint64_t sequence = chunk->sequence;
  if (old && old->removed) old.reset();
  Result<void> done =
      co_await commit_locked(chunk, {}, [this, &old, &chunk, seal](BatchWriter& writer, StoredChunkRecord record) {
        if (seal) record.state = ChunkState::kSealed;
        record.boot = store_record_.boot;
        writer.put(store_keys::chunk(chunk->id), record.encode());
        if (chunk->in_kv) writer.erase(store_keys::doomed(chunk->body));
        bool replaces = old && old->in_kv;
        if (replaces) {
          writer.put(store_keys::doomed(old->body), {});
        } else {
          ++store_record_.chunks;
          store_record_changed_ = true;
        }
      });
  if (!done) co_return done.error();
  chunk->install.reset();
  chunk->synced_sequence = sequence;
  chunk->boot = store_record_.boot;
  if (seal) chunk->state = ChunkState::kSealed;
  Slot& slot = chunks_.at(id);
  slot.main = chunk;
  slot.incoming.reset();
  slot.looked_up = true;
  if (old) forget_removed(old);
  loaded_.notify_all();
  touched(id);
  co_return status_of(*chunk);
}

}  // namespace cairn
