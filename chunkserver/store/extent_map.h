// ExtentMap: where the blocks of one chunk are. Two layers: what the key-value store says (extents, by groups of 256
// KiB), and above it the overlay: blocks in memory that are not yet durable. Checksums are of whole 4 KiB blocks
// (block_checksum.h).
//
// Pure: no I/O. Not thread-safe; owned by a Chunk, on the loop. Pieces are shared with jobs on pools, which only read
// them.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/result.h"
#include "common/base/units.h"

namespace cairn {

inline constexpr uint32_t kBlocksPerGroup = kExtentGroupBytes / kBlockSizeBytes;
inline constexpr uint32_t kBlocksPerChunk = kChunkSizeBytes / kBlockSizeBytes;
inline constexpr uint32_t kGroupsPerChunk = kBlocksPerChunk / kBlocksPerGroup;

// A block of the value log. Segments are numbered from 1; 0: nowhere.
struct LogPlace {
  uint32_t segment = 0;
  uint32_t block = 0;

  explicit operator bool() const { return segment != 0; }
  auto operator<=>(const LogPlace&) const = default;
  LogPlace plus(uint32_t blocks) const { return {segment, block + blocks}; }
};

// Consecutive blocks of the value log.
struct LogRange {
  LogPlace place;
  uint32_t blocks = 0;

  bool operator==(const LogRange&) const = default;
};
// Sorted, with neighbours merged.
std::vector<LogRange> ranges_of(std::vector<LogPlace> places);

enum class BlockKind : uint8_t { kHole = 0, kInline = 1, kLog = 2 };

struct BlockEntry {
  BlockKind kind = BlockKind::kHole;
  LogPlace place;         // kLog
  uint32_t checksum = 0;  // not for kHole

  bool operator==(const BlockEntry&) const = default;
};

// The extents of one group, as the key-value store keeps them.
class ExtentGroup {
 public:
  const BlockEntry& at(uint32_t block_in_group) const { return entries_[block_in_group]; }
  BlockEntry& at(uint32_t block_in_group) { return entries_[block_in_group]; }
  uint32_t allocated_blocks() const;
  // The segments it refers to, ascending.
  std::vector<uint32_t> segments() const;

  std::string encode() const;                              // docs/formats.md, "Chunk store"
  static Result<ExtentGroup> decode(std::string_view in);  // kCorrupt, kNotSupported
  bool operator==(const ExtentGroup&) const = default;

 private:
  std::array<BlockEntry, kBlocksPerGroup> entries_;
};

// Bytes of consecutive whole blocks in memory, never changed once shared.
struct Piece {
  Buffer data;
  std::vector<uint32_t> checksums;  // one a block
};
using PiecePtr = std::shared_ptr<const Piece>;

// One block of a piece; without a piece: a hole.
struct BlockBytes {
  PiecePtr piece;
  uint32_t index = 0;

  std::span<const std::byte> span() const {
    return piece->data.span().subspan(index * kBlockSizeBytes, kBlockSizeBytes);
  }
  uint32_t checksum() const { return piece->checksums[index]; }
};

class ExtentMap {
 public:
  // A block of the overlay as it was when a commit began.
  struct Pending {
    uint32_t block = 0;
    uint64_t id = 0;  // of the write that made it
    BlockBytes bytes;
    LogPlace place;  // where its bytes are in the value log; none: goes inline
  };
  // What a block is now.
  struct View {
    enum class Where : uint8_t {
      kHole,
      kMemory,
      kInline,
      kLog,
      kUnknown
    } where = Where::kHole;  // kUnknown: its group is not loaded
    BlockBytes bytes;        // kMemory
    LogPlace place;          // kLog
    uint32_t checksum = 0;
  };
  // Blocks of the overlay that follow one another and have no place in the value log yet.
  struct Run {
    uint32_t first_block = 0;
    std::vector<BlockBytes> blocks;
  };
  // What a commit writes.
  struct GroupChange {
    uint32_t group = 0;
    bool erase = false;
    std::string record;                  // ExtentGroup::encode()
    std::vector<uint32_t> new_segments;  // referred to now and not before, and the other way round
    std::vector<uint32_t> gone_segments;
  };
  struct Plan {
    std::vector<GroupChange> groups;
    std::vector<std::pair<uint32_t, BlockBytes>> inline_put;  // block, bytes
    std::vector<uint32_t> inline_erase;                       // blocks
    std::vector<LogPlace> added;
    std::vector<LogPlace> freed;
    int64_t allocated_blocks_delta = 0;
  };
  // Moves blocks to other places without changing their bytes (the cleaner).
  struct Move {
    uint32_t block = 0;
    LogPlace from;
    LogPlace to;
  };

  // ---- the committed layer

  // Nothing of this chunk is in the key-value store: every group counts as loaded.
  void set_fresh() { fresh_ = true; }
  bool loaded(uint32_t group) const;
  void load(uint32_t group, const ExtentGroup& extents);
  // Groups with blocks in [first, first + count) that are not loaded.
  std::vector<uint32_t> missing_groups(uint32_t first_block, uint32_t count) const;
  // Changes whenever a committed block of the group does: what was read by an older entry must be looked up again.
  uint64_t generation(uint32_t group) const;
  // Keeps the bytes of an inline block in memory, if it is still the one of `generation`.
  void remember(uint32_t block, BlockBytes bytes, uint64_t generation);
  // Forgets the committed layer and the remembered bytes. Only without an overlay.
  void forget();
  // About how much memory the committed layer and the remembered bytes take.
  size_t cache_bytes() const { return cache_bytes_; }
  const ExtentGroup* committed(uint32_t group) const;

  // ---- the overlay

  View view(uint32_t block) const;
  // The blocks [first_block, ...) are those of `piece`; with a place: they are being written there. Places in the value
  // log that are not needed any more (of writes never committed) are appended to `unused`.
  void put(uint32_t first_block, PiecePtr piece, LogPlace place, std::vector<LogPlace>& unused);
  void put_hole(uint32_t first_block, uint32_t blocks, std::vector<LogPlace>& unused);
  // The runs longer than `longer_than` blocks.
  std::vector<Run> unplaced_runs(uint32_t longer_than) const;
  void set_place(uint32_t first_block, uint32_t blocks, LogPlace place);
  bool has_overlay() const { return overlay_blocks_ != 0; }
  uint32_t overlay_blocks() const { return overlay_blocks_; }
  // With bytes, no place, and not in a commit.
  uint32_t unplaced_blocks() const { return unplaced_blocks_; }
  // With bytes and no place: they take no space on the disk yet.
  uint32_t memory_only_blocks() const { return memory_only_blocks_; }
  // Drops it all; returns the places that were taken for it.
  std::vector<LogPlace> drop_overlay();

  // ---- committing: snapshot(), load what groups() of it are missing, plan(), write it, finish()

  // One commit at a time.
  std::vector<Pending> snapshot();
  static std::vector<uint32_t> groups(const std::vector<Pending>& pending);
  // Moves the committed layer to what `pending` says. Every group must be loaded.
  Plan plan(const std::vector<Pending>& pending);
  // The same for blocks that are still where the move found them; the places `to` of the others come back in `unused`.
  Plan plan_moves(const std::vector<Move>& moves, std::vector<LogPlace>& unused);
  // What the plan wrote is durable: blocks that were not written again leave the overlay.
  void finish(const std::vector<Pending>& pending);
  // It was not written, and nothing was planned. Returns places that nothing needs any more.
  std::vector<LogPlace> cancel(const std::vector<Pending>& pending);

 private:
  struct OverlayBlock {
    uint64_t id = 0;  // 0: nothing here
    BlockBytes bytes;
    LogPlace place;
    bool committing = false;  // in a snapshot that is not finished: its place is about to be the committed one
  };
  struct OverlayGroup {
    std::array<OverlayBlock, kBlocksPerGroup> blocks;
    uint32_t used = 0;
  };
  struct Group {
    bool loaded = false;
    uint64_t generation = 0;
    ExtentGroup committed;
    std::unique_ptr<OverlayGroup> overlay;
    std::unique_ptr<std::array<BlockBytes, kBlocksPerGroup>> remembered;
  };
  Group& group_for(uint32_t group);
  OverlayBlock& overlay_at(uint32_t block);
  void uncount(const OverlayBlock& block);
  void count(const OverlayBlock& block);
  void forget_remembered(Group& group, uint32_t block_in_group);
  static bool unplaced(const OverlayBlock& block) {
    return block.id != 0 && block.bytes.piece && !block.place && !block.committing;
  }

  bool fresh_ = false;
  std::map<uint32_t, Group> groups_;
  std::set<uint32_t> overlaid_;  // groups with an overlay: a commit looks at these only
  uint64_t next_id_ = 1;
  uint64_t next_generation_ = 1;
  uint32_t overlay_blocks_ = 0;
  uint32_t unplaced_blocks_ = 0;
  uint32_t memory_only_blocks_ = 0;
  size_t cache_bytes_ = 0;
};

}  // namespace cairn
