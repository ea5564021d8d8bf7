// Reading: what is in memory is answered at once; what the page cache has, without leaving the loop; the rest on a
// pool.
#include <algorithm>
#include <cstring>
#include <fmt/format.h>

#include "chunkserver/store/block_checksum.h"
#include "chunkserver/store/kv_chunk_store.h"
#include "common/base/check.h"
#include "common/base/crc32c.h"

namespace cairn {
namespace {

constexpr uint32_t kLoopReadBlocks = 32;  // copied from the page cache by the loop itself: 128 KiB, some 20 us
constexpr int kReadTriesMax = 8;          // a block that is overwritten each time lies in memory by then

// Zeros to send; shared by all.
Buffer zero_buffer(size_t size_bytes) {
  static const Buffer kZeros = Buffer::zeros(kExtentGroupBytes);
  CHECK(size_bytes <= kZeros.size());
  return kZeros.slice(0, size_bytes);
}

}  // namespace

Result<KvChunkStore::ReadPlan> KvChunkStore::plan_read(const ChunkPtr& chunk, uint32_t first_block, uint32_t blocks) {
  using From = ReadPart::From;
  using Where = ExtentMap::View::Where;
  ReadPlan plan;
  plan.length_bytes = chunk->length_bytes;
  plan.checksums.reserve(blocks);
  for (uint32_t block = first_block; block < first_block + blocks; ++block) {
    ExtentMap::View view = chunk->map.view(block);
    CHECK(view.where != Where::kUnknown);
    plan.checksums.push_back(view.where == Where::kHole ? zero_block_checksum() : view.checksum);
    ReadPart part;
    part.first_block = block;
    part.blocks = 1;
    ReadPart* last = plan.parts.empty() ? nullptr : &plan.parts.back();
    switch (view.where) {
      case Where::kHole:
        part.from = From::kZeros;
        if (last && last->from == From::kZeros && last->blocks < kBlocksPerGroup) {
          ++last->blocks;
          continue;
        }
        break;
      case Where::kMemory:
        part.from = From::kMemory;
        part.bytes = view.bytes;
        if (last && last->from == From::kMemory && last->bytes.piece == view.bytes.piece &&
            last->bytes.index + last->blocks == view.bytes.index) {
          ++last->blocks;
          continue;
        }
        break;
      case Where::kInline:
        part.from = From::kInline;
        plan.in_memory = false;
        if (plan.generations.empty() || plan.generations.back().first != block / kBlocksPerGroup) {
          plan.generations.emplace_back(block / kBlocksPerGroup, chunk->map.generation(block / kBlocksPerGroup));
        }
        if (last && last->from == From::kInline) {
          ++last->blocks;
          continue;
        }
        break;
      case Where::kLog:
        part.from = From::kLog;
        part.place = view.place;
        plan.in_memory = false;
        if (last && last->from == From::kLog && last->place.plus(last->blocks) == view.place) {
          ++last->blocks;
          continue;
        }
        part.file = log_->file(view.place.segment);
        if (!part.file) {
          Error error(ErrorCode::kIo, log_->path_of(view.place.segment) + " is missing");
          report_bad(chunk->id, error);
          return error;
        }
        break;
      case Where::kUnknown:
        break;
    }
    plan.parts.push_back(std::move(part));
  }
  return plan;
}

// On a pool. Inline blocks that are not there (any more) leave their part without data.
Result<KvChunkStore::ReadPlan> KvChunkStore::run_read(const KvStore& kv, BodyId body, ReadPlan plan, bool past_cache) {
  using From = ReadPart::From;
  uint32_t waiting_blocks = 0;
  for (const ReadPart& part : plan.parts) {
    if (part.from == From::kInline || part.from == From::kLog) waiting_blocks += part.blocks;
  }
  Buffer whole = Buffer::allocate(waiting_blocks * kBlockSizeBytes);
  size_t at = 0;
  for (ReadPart& part : plan.parts) {
    if (part.from != From::kInline && part.from != From::kLog) continue;
    Buffer data = whole.slice(at, part.blocks * kBlockSizeBytes);
    at += data.size();
    std::span<std::byte> out = data.mutable_span();
    if (part.from == From::kLog) {
      Result<void> read =
          past_cache ? part.file->read_direct(part.place.block, out) : part.file->read(part.place.block, out);
      if (!read) return read.error();
    } else {
      bool complete = true;
      for (uint32_t i = 0; i < part.blocks; ++i) {
        Result<std::string> value = kv.get(store_keys::inline_block(body, part.first_block + i));
        if (value.failed_with(ErrorCode::kNotFound)) {
          complete = false;
          break;
        }
        if (!value) return value.error();
        if (value->size() > kBlockSizeBytes) return Error(ErrorCode::kCorrupt, "an inline block is too long");
        std::byte* block = out.data() + i * kBlockSizeBytes;
        std::memcpy(block, value->data(), value->size());
        std::memset(block + value->size(), 0, kBlockSizeBytes - value->size());
      }
      if (!complete) continue;
    }
    part.data = data;
  }
  return plan;
}

// From the page cache, if all of it is there.
bool KvChunkStore::read_without_waiting(ReadPlan& plan) {
  uint32_t blocks = 0;
  for (const ReadPart& part : plan.parts) {
    if (part.from == ReadPart::From::kInline) return false;
    if (part.from == ReadPart::From::kLog) blocks += part.blocks;
  }
  if (blocks > kLoopReadBlocks) return false;
  for (ReadPart& part : plan.parts) {
    if (part.from != ReadPart::From::kLog) continue;
    Buffer data = Buffer::allocate(part.blocks * kBlockSizeBytes);
    if (!part.file->try_read(part.place.block, data.mutable_span())) return false;
    part.data = data;
  }
  return true;
}

Task<Result<KvChunkStore::ReadPlan>> KvChunkStore::read_blocks(ChunkPtr chunk, uint32_t first_block, uint32_t blocks) {
  for (int tries = 0; tries < kReadTriesMax; ++tries) {
    Result<void> loaded = co_await load_groups(chunk, chunk->map.missing_groups(first_block, blocks));
    if (!loaded) co_return loaded.error();
    Result<ReadPlan> plan = plan_read(chunk, first_block, blocks);
    if (!plan) co_return plan;
    if (plan->in_memory || read_without_waiting(*plan)) co_return plan;
    ValueLog::Pin pin = log_->pin();
    Result<ReadPlan> done =
        co_await read_pool_->run([kv = kv_.get(), body = chunk->body, plan = std::move(*plan)]() mutable {
          return run_read(*kv, body, std::move(plan), /*past_cache=*/false);
        });
    if (!done) {
      report_bad(chunk->id, done.error());
      co_return done;
    }
    // Inline blocks have no pin: one that changed meanwhile may be of another write than its checksum.
    bool stale = false;
    for (const auto& [group, generation] : done->generations) {
      stale = stale || chunk->map.generation(group) != generation;
    }
    bool complete = std::none_of(done->parts.begin(), done->parts.end(), [](const ReadPart& part) {
      return part.from == ReadPart::From::kInline && part.data.empty();
    });
    if (!stale && complete) {
      remember_inline(*chunk, *done);
      co_return done;
    }
    if (chunk->removed) co_return Error(ErrorCode::kNotFound, "chunk " + to_string(chunk->id) + " was removed");
    if (!stale) {
      Error error(ErrorCode::kCorrupt, "chunk " + to_string(chunk->id) + ": an inline block is missing");
      report_bad(chunk->id, error);
      co_return error;
    }
  }
  co_return Error(ErrorCode::kAgain, "chunk " + to_string(chunk->id) + " changes too fast");
}

// Small data that was just read is likely to be read again, or to be written in part.
void KvChunkStore::remember_inline(Chunk& chunk, const ReadPlan& plan) {
  for (const ReadPart& part : plan.parts) {
    if (part.from != ReadPart::From::kInline) continue;
    auto piece = std::make_shared<Piece>();
    piece->data = part.data;
    size_t first = part.first_block - plan.parts.front().first_block;
    piece->checksums.assign(plan.checksums.begin() + static_cast<std::ptrdiff_t>(first),
                            plan.checksums.begin() + static_cast<std::ptrdiff_t>(first + part.blocks));
    for (uint32_t i = 0; i < part.blocks; ++i) {
      uint32_t block = part.first_block + i;
      chunk.map.remember(block, {piece, i}, chunk.map.generation(block / kBlocksPerGroup));
    }
  }
  touched(chunk.id);
}

Payload KvChunkStore::payload_of(const ReadPlan& plan) {
  Payload payload;
  for (const ReadPart& part : plan.parts) {
    size_t size = part.blocks * kBlockSizeBytes;
    switch (part.from) {
      case ReadPart::From::kZeros:
        payload.push_back(zero_buffer(size));
        break;
      case ReadPart::From::kMemory:
        payload.push_back(part.bytes.piece->data.slice(part.bytes.index * kBlockSizeBytes, size));
        break;
      case ReadPart::From::kInline:
      case ReadPart::From::kLog:
        payload.push_back(part.data);
        break;
    }
  }
  return payload;
}

Task<Result<ReadResult>> KvChunkStore::read(ChunkId id, uint64_t version, uint32_t offset, uint32_t length) {
  if (uint64_t{offset} + length > kChunkSizeBytes) co_return Error(ErrorCode::kInvalid, "beyond the chunk's 64 MiB");
  Result<ChunkPtr> found = co_await find_version(id, version);
  if (!found) {
    auto slot = chunks_.find(id);
    bool filling = slot != chunks_.end() && slot->second.incoming && slot->second.incoming->version == version;
    if (filling) co_return Error(ErrorCode::kMissingWrites, "chunk " + to_string(id) + " is still being filled");
    co_return found.error();
  }
  ChunkPtr chunk = std::move(*found);
  ReadResult result;
  result.offset = offset / kBlockSizeBytes * kBlockSizeBytes;
  uint64_t end = (uint64_t{offset} + length + kBlockSizeBytes - 1) / kBlockSizeBytes * kBlockSizeBytes;
  uint64_t chunk_end = (uint64_t{chunk->length_bytes} + kBlockSizeBytes - 1) / kBlockSizeBytes * kBlockSizeBytes;
  end = std::min(end, chunk_end);
  if (length == 0 || end <= result.offset) co_return result;
  uint32_t blocks = static_cast<uint32_t>(end - result.offset) / kBlockSizeBytes;
  Result<ReadPlan> plan = co_await read_blocks(chunk, result.offset / kBlockSizeBytes, blocks);
  if (!plan) co_return plan.error();
  // Cut at the length that the chunk had together with these blocks: it may have changed while others were awaited.
  end = std::min<uint64_t>(end, plan->length_bytes);
  if (end <= result.offset) co_return result;
  result.length = static_cast<uint32_t>(end - result.offset);
  result.data = payload_of(*plan);
  result.checksums = std::move(plan->checksums);
  size_t surplus = blocks * kBlockSizeBytes - result.length;
  while (surplus > 0) {
    Buffer& last = result.data.back();
    size_t cut = std::min(surplus, last.size());
    surplus -= cut;
    last = last.slice(0, last.size() - cut);
    if (last.empty()) result.data.pop_back();
  }
  result.checksums.resize((result.length + kBlockSizeBytes - 1) / kBlockSizeBytes);
  uint32_t short_by = static_cast<uint32_t>(result.checksums.size() * kBlockSizeBytes - result.length);
  if (short_by > 0) result.checksums.back() = checksum_without_zeros(result.checksums.back(), short_by);
  co_return result;
}

Task<Result<void>> KvChunkStore::verify(ChunkId id, uint64_t version, uint32_t offset, uint32_t length) {
  if (uint64_t{offset} + length > kChunkSizeBytes) co_return Error(ErrorCode::kInvalid, "beyond the chunk's 64 MiB");
  Result<ChunkPtr> found = co_await find_version(id, version);
  if (!found) co_return found.error();
  ChunkPtr chunk = std::move(*found);
  uint64_t end = std::min<uint64_t>(uint64_t{offset} + length, chunk->length_bytes);
  if (offset >= end) co_return Result<void>{};
  uint32_t first = offset / kBlockSizeBytes;
  uint32_t blocks = static_cast<uint32_t>((end - 1) / kBlockSizeBytes) - first + 1;
  Result<void> loaded = co_await load_groups(chunk, chunk->map.missing_groups(first, blocks));
  if (!loaded) co_return loaded;
  Result<ReadPlan> plan = plan_read(chunk, first, blocks);
  if (!plan) co_return plan.error();
  ValueLog::Pin pin = log_->pin();
  std::vector<std::pair<uint32_t, uint64_t>> generations = plan->generations;
  Result<ReadPlan> read =
      co_await read_pool_->run([kv = kv_.get(), body = chunk->body, plan = std::move(*plan)]() mutable {
        return run_read(*kv, body, std::move(plan), /*past_cache=*/true);
      });
  if (!read) {
    report_bad(id, read.error());
    co_return read.error();
  }
  for (const auto& [group, generation] : generations) {
    if (chunk->map.generation(group) != generation) co_return Result<void>{};  // written meanwhile: nothing to say
  }
  for (const ReadPart& part : read->parts) {
    if (part.from != ReadPart::From::kInline && part.from != ReadPart::From::kLog) continue;
    for (uint32_t i = 0; i < part.blocks; ++i) {
      bool right = !part.data.empty() && crc32c(part.data.span().subspan(i * kBlockSizeBytes, kBlockSizeBytes)) ==
                                             read->checksums[part.first_block + i - first];
      if (right) continue;
      Error error(ErrorCode::kCorrupt, fmt::format("chunk {}: the block at {} does not match its checksum", id,
                                                   (part.first_block + i) * kBlockSizeBytes));
      report_bad(id, error);
      co_return error;
    }
  }
  co_return Result<void>{};
}

Task<Result<ChunkMap>> KvChunkStore::map(ChunkId id, uint64_t version) {
  Result<ChunkPtr> found = co_await find_version(id, version);
  if (!found) co_return found.error();
  ChunkPtr chunk = std::move(*found);
  uint32_t blocks = (chunk->length_bytes + kBlockSizeBytes - 1) / kBlockSizeBytes;
  Result<void> loaded = co_await load_groups(chunk, chunk->map.missing_groups(0, blocks));
  if (!loaded) co_return loaded.error();
  ChunkMap out;
  out.status = status_of(*chunk);
  blocks = std::min<uint32_t>(blocks, (chunk->length_bytes + kBlockSizeBytes - 1) / kBlockSizeBytes);
  for (uint32_t block = 0; block < blocks; ++block) {
    if (chunk->map.view(block).where == ExtentMap::View::Where::kHole) continue;
    uint32_t offset = block * kBlockSizeBytes;
    uint32_t length = std::min<uint32_t>(kBlockSizeBytes, chunk->length_bytes - offset);
    if (!out.data.empty() && out.data.back().offset + out.data.back().length == offset) {
      out.data.back().length += length;
    } else {
      out.data.push_back({offset, length});
    }
  }
  co_return out;
}

}  // namespace cairn
