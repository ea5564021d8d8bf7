// Chunk: what the store knows in memory of one copy of a chunk. A copy that is being filled (install) is a Chunk of its
// own beside the one it will replace.
//
// Loop thread only. Shared between the store's table and the tasks that work on the chunk right now: a task that comes
// back after an await finds it even if it has been removed (`removed`).
#pragma once

#include <bitset>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "chunkserver/store/chunk_store.h"
#include "chunkserver/store/extent_map.h"
#include "chunkserver/store/key_layout.h"
#include "common/base/check.h"
#include "common/runtime/sync.h"

namespace cairn {

// What is known only while a copy is being filled.
struct Install {
  // Bytes of a block that came (as a write) before the block itself was filled; applied over it in order.
  struct Patch {
    uint32_t first_byte = 0;  // in the block
    uint32_t bytes = 0;
    Buffer data;  // empty: zeros
  };
  std::bitset<kBlocksPerChunk> settled;  // filled, or written as a whole: filling it (again) would undo a newer write
  std::map<uint32_t, std::vector<Patch>> patches;
  uint32_t cut_at = kChunkSizeBytes;  // the lowest truncation: what is filled behind it is gone
};

struct Chunk {
  Chunk(Executor& executor, ChunkId id_in, BodyId body_in)
      : id(id_in), body(body_in), turn(executor), log_idle(executor), commit_mutex(executor) {}

  const ChunkId id;
  const BodyId body;
  // As of the newest write taken.
  uint64_t version = 0;
  uint64_t lowest_version = 0;  // what a raise that is under way lets in; version otherwise
  uint64_t sequence = 0;
  uint32_t length_bytes = 0;
  OwnerHint owner;
  ExtentMap map;
  // As of the newest batch.
  uint64_t synced_sequence = 0;
  ChunkState state = ChunkState::kOpen;
  uint32_t allocated_blocks = 0;
  uint32_t boot = 0;
  bool in_kv = false;  // the key-value store has something of it
  bool removed = false;

  std::unique_ptr<Install> install;  // while it is being filled

  // One write at a time is applied; others wait for their turn.
  bool applying = false;
  bool sealing = false;
  Condition turn;
  // Writes to the value log that are under way, by their number in this chunk.
  uint64_t next_log_write = 1;
  std::set<uint64_t> log_writes;
  Condition log_idle;
  Mutex commit_mutex;
  // Unsynced data: since when, and whether somebody is writing it out.
  std::optional<TimePoint> dirty_since;
  bool flushing = false;
  bool spilling = false;
  uint64_t counted_bytes = 0;  // what the store's sums hold for this chunk
  uint64_t counted_memory_only_bytes = 0;

  bool sealed() const { return state == ChunkState::kSealed; }
  bool verified(uint32_t current_boot) const { return sealed() || boot == current_boot; }
  bool unsynced() const { return !in_kv || map.has_overlay() || sequence > synced_sequence; }
};
using ChunkPtr = std::shared_ptr<Chunk>;

// Holds a chunk's turn to change its blocks; given back with the frame.
class Turn {
 public:
  explicit Turn(ChunkPtr chunk) : chunk_(std::move(chunk)) {
    CHECK(!chunk_->applying);
    chunk_->applying = true;
  }
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;
  ~Turn() {
    chunk_->applying = false;
    chunk_->turn.notify_all();
  }

 private:
  ChunkPtr chunk_;
};

}  // namespace cairn
