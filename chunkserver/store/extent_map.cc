#include "chunkserver/store/extent_map.h"

#include <algorithm>

#include "common/base/bytes.h"
#include "common/base/check.h"

namespace cairn {
namespace {

constexpr uint8_t kGroupFormat = 1;
constexpr size_t kGroupMemoryBytes = sizeof(BlockEntry) * kBlocksPerGroup + 128;

uint32_t group_of(uint32_t block) {
  return block / kBlocksPerGroup;
}
uint32_t in_group(uint32_t block) {
  return block % kBlocksPerGroup;
}

}  // namespace

std::vector<LogRange> ranges_of(std::vector<LogPlace> places) {
  std::sort(places.begin(), places.end());
  std::vector<LogRange> ranges;
  for (LogPlace place : places) {
    if (!ranges.empty() && ranges.back().place.plus(ranges.back().blocks) == place) {
      ++ranges.back().blocks;
    } else {
      ranges.push_back({place, 1});
    }
  }
  return ranges;
}

// ---- ExtentGroup

uint32_t ExtentGroup::allocated_blocks() const {
  return static_cast<uint32_t>(
      std::count_if(entries_.begin(), entries_.end(), [](const BlockEntry& e) { return e.kind != BlockKind::kHole; }));
}

std::vector<uint32_t> ExtentGroup::segments() const {
  std::vector<uint32_t> segments;
  for (const BlockEntry& entry : entries_) {
    if (entry.kind != BlockKind::kLog) continue;
    if (segments.empty() || segments.back() != entry.place.segment) segments.push_back(entry.place.segment);
  }
  std::sort(segments.begin(), segments.end());
  segments.erase(std::unique(segments.begin(), segments.end()), segments.end());
  return segments;
}

std::string ExtentGroup::encode() const {
  struct Extent {
    uint32_t first;
    uint32_t count;
  };
  std::vector<Extent> extents;
  for (uint32_t i = 0; i < kBlocksPerGroup; ++i) {
    const BlockEntry& entry = entries_[i];
    if (entry.kind == BlockKind::kHole) continue;
    if (!extents.empty() && extents.back().first + extents.back().count == i) {
      const BlockEntry& head = entries_[extents.back().first];
      if (head.kind == entry.kind &&
          (entry.kind == BlockKind::kInline || head.place.plus(extents.back().count) == entry.place)) {
        ++extents.back().count;
        continue;
      }
    }
    extents.push_back({i, 1});
  }
  ByteWriter out;
  out.u8(kGroupFormat);
  out.u8(static_cast<uint8_t>(extents.size()));
  for (const Extent& extent : extents) {
    const BlockEntry& head = entries_[extent.first];
    out.u8(static_cast<uint8_t>(head.kind));
    out.u8(static_cast<uint8_t>(extent.first));
    out.u8(static_cast<uint8_t>(extent.count));
    if (head.kind == BlockKind::kLog) {
      out.varint(head.place.segment);
      out.varint(head.place.block);
    }
    for (uint32_t i = 0; i < extent.count; ++i)
      out.u32(entries_[extent.first + i].checksum);
  }
  return out.take();
}

Result<ExtentGroup> ExtentGroup::decode(std::string_view in) {
  ByteReader reader(in);
  uint8_t format = reader.u8();
  if (reader.ok() && format > kGroupFormat) return Error(ErrorCode::kNotSupported, "extents of a newer format");
  uint8_t extents = reader.u8();
  ExtentGroup group;
  uint32_t next = 0;
  for (uint32_t i = 0; i < extents && reader.ok(); ++i) {
    uint8_t kind = reader.u8();
    uint32_t first = reader.u8();
    uint32_t count = reader.u8();
    bool in_log = kind == static_cast<uint8_t>(BlockKind::kLog);
    if (!in_log && kind != static_cast<uint8_t>(BlockKind::kInline)) return Error(ErrorCode::kCorrupt, "extent kind");
    if (first < next || count == 0 || first + count > kBlocksPerGroup)
      return Error(ErrorCode::kCorrupt, "extent range");
    LogPlace place;
    if (in_log) {
      uint64_t segment = reader.varint();
      uint64_t block = reader.varint();
      if (segment == 0 || segment > UINT32_MAX || block > UINT32_MAX - count) {
        return Error(ErrorCode::kCorrupt, "extent place");
      }
      place = {static_cast<uint32_t>(segment), static_cast<uint32_t>(block)};
    }
    for (uint32_t k = 0; k < count; ++k) {
      group.entries_[first + k] = {static_cast<BlockKind>(kind), in_log ? place.plus(k) : LogPlace{}, reader.u32()};
    }
    next = first + count;
  }
  Result<void> finished = reader.finish("extents");
  if (!finished) return finished.error();
  return group;
}

// ---- the committed layer

ExtentMap::Group& ExtentMap::group_for(uint32_t group) {
  auto [it, added] = groups_.try_emplace(group);
  if (added) {
    it->second.loaded = fresh_;
    it->second.generation = next_generation_++;
    cache_bytes_ += kGroupMemoryBytes;
  }
  return it->second;
}

bool ExtentMap::loaded(uint32_t group) const {
  auto it = groups_.find(group);
  return it == groups_.end() ? fresh_ : it->second.loaded;
}

void ExtentMap::load(uint32_t group, const ExtentGroup& extents) {
  Group& node = group_for(group);
  if (node.loaded) return;
  node.loaded = true;
  node.committed = extents;
}

std::vector<uint32_t> ExtentMap::missing_groups(uint32_t first_block, uint32_t count) const {
  std::vector<uint32_t> missing;
  if (count == 0) return missing;
  for (uint32_t group = group_of(first_block); group <= group_of(first_block + count - 1); ++group) {
    if (!loaded(group)) missing.push_back(group);
  }
  return missing;
}

uint64_t ExtentMap::generation(uint32_t group) const {
  auto it = groups_.find(group);
  return it == groups_.end() ? 0 : it->second.generation;
}

void ExtentMap::remember(uint32_t block, BlockBytes bytes, uint64_t generation) {
  auto it = groups_.find(group_of(block));
  if (it == groups_.end() || it->second.generation != generation) return;
  Group& node = it->second;
  if (!node.loaded || node.committed.at(in_group(block)).kind != BlockKind::kInline) return;
  if (!node.remembered) {
    node.remembered = std::make_unique<std::array<BlockBytes, kBlocksPerGroup>>();
    cache_bytes_ += sizeof(*node.remembered);
  }
  BlockBytes& kept = (*node.remembered)[in_group(block)];
  if (!kept.piece) cache_bytes_ += kBlockSizeBytes;
  kept = std::move(bytes);
}

void ExtentMap::forget_remembered(Group& group, uint32_t block_in_group) {
  if (!group.remembered) return;
  BlockBytes& kept = (*group.remembered)[block_in_group];
  if (!kept.piece) return;
  kept = {};
  cache_bytes_ -= kBlockSizeBytes;
}

void ExtentMap::forget() {
  CHECK(overlay_blocks_ == 0);
  groups_.clear();
  fresh_ = false;
  cache_bytes_ = 0;
}

const ExtentGroup* ExtentMap::committed(uint32_t group) const {
  auto it = groups_.find(group);
  return it == groups_.end() || !it->second.loaded ? nullptr : &it->second.committed;
}

// ---- the overlay

ExtentMap::View ExtentMap::view(uint32_t block) const {
  View out;
  auto it = groups_.find(group_of(block));
  if (it == groups_.end()) {
    if (!fresh_) out.where = View::Where::kUnknown;
    return out;
  }
  const Group& node = it->second;
  if (node.overlay) {
    const OverlayBlock& over = node.overlay->blocks[in_group(block)];
    if (over.id != 0) {
      if (!over.bytes.piece) return out;
      out.where = View::Where::kMemory;
      out.bytes = over.bytes;
      out.checksum = over.bytes.checksum();
      return out;
    }
  }
  if (!node.loaded) {
    out.where = View::Where::kUnknown;
    return out;
  }
  const BlockEntry& entry = node.committed.at(in_group(block));
  out.checksum = entry.checksum;
  out.place = entry.place;
  if (entry.kind == BlockKind::kLog) out.where = View::Where::kLog;
  if (entry.kind == BlockKind::kInline) {
    out.where = View::Where::kInline;
    if (node.remembered && (*node.remembered)[in_group(block)].piece) {
      out.where = View::Where::kMemory;
      out.bytes = (*node.remembered)[in_group(block)];
    }
  }
  return out;
}

void ExtentMap::count(const OverlayBlock& block) {
  overlay_blocks_ += block.id != 0;
  unplaced_blocks_ += unplaced(block);
  memory_only_blocks_ += block.bytes.piece && !block.place;
}

void ExtentMap::uncount(const OverlayBlock& block) {
  overlay_blocks_ -= block.id != 0;
  unplaced_blocks_ -= unplaced(block);
  memory_only_blocks_ -= block.bytes.piece && !block.place;
}

ExtentMap::OverlayBlock& ExtentMap::overlay_at(uint32_t block) {
  Group& node = group_for(group_of(block));
  if (!node.overlay) {
    node.overlay = std::make_unique<OverlayGroup>();
    overlaid_.insert(group_of(block));
  }
  OverlayBlock& over = node.overlay->blocks[in_group(block)];
  if (over.id == 0) ++node.overlay->used;
  return over;
}

void ExtentMap::put(uint32_t first_block, PiecePtr piece, LogPlace place, std::vector<LogPlace>& unused) {
  uint32_t blocks = static_cast<uint32_t>(piece->checksums.size());
  CHECK(piece->data.size() == blocks * kBlockSizeBytes);
  uint64_t id = next_id_++;
  for (uint32_t i = 0; i < blocks; ++i) {
    OverlayBlock& over = overlay_at(first_block + i);
    if (over.place && !over.committing) unused.push_back(over.place);
    uncount(over);
    over = {id, {piece, i}, place ? place.plus(i) : LogPlace{}};
    count(over);
  }
}

void ExtentMap::put_hole(uint32_t first_block, uint32_t blocks, std::vector<LogPlace>& unused) {
  uint64_t id = next_id_++;
  for (uint32_t i = 0; i < blocks; ++i) {
    OverlayBlock& over = overlay_at(first_block + i);
    if (over.place && !over.committing) unused.push_back(over.place);
    uncount(over);
    over = {id, {}, {}};
    count(over);
  }
}

std::vector<ExtentMap::Run> ExtentMap::unplaced_runs(uint32_t longer_than) const {
  std::vector<Run> runs;
  Run run;
  auto end_run = [&] {
    if (run.blocks.size() > longer_than) runs.push_back(std::move(run));
    run = {};
  };
  if (unplaced_blocks_ == 0) return runs;
  for (uint32_t group : overlaid_) {
    const Group& node = groups_.at(group);
    for (uint32_t i = 0; i < kBlocksPerGroup; ++i) {
      const OverlayBlock& over = node.overlay->blocks[i];
      if (!unplaced(over)) continue;
      uint32_t block = group * kBlocksPerGroup + i;
      if (!run.blocks.empty() && run.first_block + run.blocks.size() != block) end_run();
      if (run.blocks.empty()) run.first_block = block;
      run.blocks.push_back(over.bytes);
    }
  }
  end_run();
  return runs;
}

void ExtentMap::set_place(uint32_t first_block, uint32_t blocks, LogPlace place) {
  for (uint32_t i = 0; i < blocks; ++i) {
    OverlayBlock& over = overlay_at(first_block + i);
    CHECK(unplaced(over));
    uncount(over);
    over.place = place.plus(i);
    count(over);
  }
}

std::vector<LogPlace> ExtentMap::drop_overlay() {
  std::vector<LogPlace> unused;
  for (uint32_t group : overlaid_) {
    Group& node = groups_.at(group);
    for (const OverlayBlock& over : node.overlay->blocks) {
      CHECK(!over.committing);
      if (over.place) unused.push_back(over.place);
    }
    node.overlay.reset();
  }
  overlaid_.clear();
  overlay_blocks_ = 0;
  unplaced_blocks_ = 0;
  memory_only_blocks_ = 0;
  return unused;
}

// ---- committing

std::vector<ExtentMap::Pending> ExtentMap::snapshot() {
  std::vector<Pending> pending;
  pending.reserve(overlay_blocks_);
  for (uint32_t group : overlaid_) {
    Group& node = groups_.at(group);
    for (uint32_t i = 0; i < kBlocksPerGroup; ++i) {
      OverlayBlock& over = node.overlay->blocks[i];
      if (over.id == 0) continue;
      CHECK(!over.committing);
      uncount(over);
      over.committing = true;
      count(over);
      pending.push_back({group * kBlocksPerGroup + i, over.id, over.bytes, over.place});
    }
  }
  return pending;
}

std::vector<uint32_t> ExtentMap::groups(const std::vector<Pending>& pending) {
  std::vector<uint32_t> groups;
  for (const Pending& block : pending) {
    if (groups.empty() || groups.back() != group_of(block.block)) groups.push_back(group_of(block.block));
  }
  return groups;
}

namespace {

std::vector<uint32_t> only_in_first(const std::vector<uint32_t>& first, const std::vector<uint32_t>& second) {
  std::vector<uint32_t> out;
  std::set_difference(first.begin(), first.end(), second.begin(), second.end(), std::back_inserter(out));
  return out;
}

ExtentMap::GroupChange change_of(uint32_t group, const ExtentGroup& before, const ExtentGroup& after) {
  ExtentMap::GroupChange change;
  change.group = group;
  change.erase = after.allocated_blocks() == 0;
  if (!change.erase) change.record = after.encode();
  std::vector<uint32_t> old_segments = before.segments();
  std::vector<uint32_t> new_segments = after.segments();
  change.new_segments = only_in_first(new_segments, old_segments);
  change.gone_segments = only_in_first(old_segments, new_segments);
  return change;
}

}  // namespace

ExtentMap::Plan ExtentMap::plan(const std::vector<Pending>& pending) {
  Plan plan;
  for (size_t i = 0; i < pending.size();) {
    uint32_t group = group_of(pending[i].block);
    Group& node = group_for(group);
    CHECK(node.loaded);
    ExtentGroup before = node.committed;
    for (; i < pending.size() && group_of(pending[i].block) == group; ++i) {
      const Pending& change = pending[i];
      BlockEntry& entry = node.committed.at(in_group(change.block));
      forget_remembered(node, in_group(change.block));
      if (entry.kind == BlockKind::kLog) plan.freed.push_back(entry.place);
      bool was_inline = entry.kind == BlockKind::kInline;
      plan.allocated_blocks_delta -= entry.kind != BlockKind::kHole;
      if (!change.bytes.piece) {
        entry = {};
      } else if (change.place) {
        entry = {BlockKind::kLog, change.place, change.bytes.checksum()};
        plan.added.push_back(change.place);
      } else {
        entry = {BlockKind::kInline, {}, change.bytes.checksum()};
        plan.inline_put.emplace_back(change.block, change.bytes);
      }
      plan.allocated_blocks_delta += entry.kind != BlockKind::kHole;
      if (was_inline && entry.kind != BlockKind::kInline) plan.inline_erase.push_back(change.block);
    }
    node.generation = next_generation_++;
    plan.groups.push_back(change_of(group, before, node.committed));
  }
  return plan;
}

ExtentMap::Plan ExtentMap::plan_moves(const std::vector<Move>& moves, std::vector<LogPlace>& unused) {
  Plan plan;
  std::map<uint32_t, ExtentGroup> before;
  for (const Move& move : moves) {
    Group& node = group_for(group_of(move.block));
    CHECK(node.loaded);
    BlockEntry& entry = node.committed.at(in_group(move.block));
    if (entry.kind != BlockKind::kLog || entry.place != move.from) {
      unused.push_back(move.to);
      continue;
    }
    before.try_emplace(group_of(move.block), node.committed);
    plan.freed.push_back(move.from);
    plan.added.push_back(move.to);
    entry.place = move.to;
    node.generation = next_generation_++;
  }
  for (const auto& [group, extents] : before)
    plan.groups.push_back(change_of(group, extents, group_for(group).committed));
  return plan;
}

void ExtentMap::finish(const std::vector<Pending>& pending) {
  for (const Pending& done : pending) {
    Group& node = group_for(group_of(done.block));
    if (!node.overlay) continue;
    OverlayBlock& over = node.overlay->blocks[in_group(done.block)];
    if (over.id != done.id) continue;  // written again since
    uncount(over);
    over = {};
    bool is_inline = done.bytes.piece && !done.place;
    uint64_t generation = node.generation;
    if (--node.overlay->used == 0) {
      node.overlay.reset();
      overlaid_.erase(group_of(done.block));
    }
    if (is_inline) remember(done.block, done.bytes, generation);
  }
}

std::vector<LogPlace> ExtentMap::cancel(const std::vector<Pending>& pending) {
  std::vector<LogPlace> unused;
  for (const Pending& failed : pending) {
    Group& node = group_for(group_of(failed.block));
    OverlayBlock* over = node.overlay ? &node.overlay->blocks[in_group(failed.block)] : nullptr;
    if (!over || over->id != failed.id) {
      if (failed.place) unused.push_back(failed.place);  // written again since
      continue;
    }
    uncount(*over);
    over->committing = false;
    count(*over);
  }
  return unused;
}

}  // namespace cairn
