// ValueLog: the large data of a store, in segments (files) beside the key-value store. Space is given out once, from
// the front of the active segment to its end; what is freed becomes a hole, and a segment that is all holes is removed.
//
// It knows how many blocks of each segment are referred to (the store keeps that in its records, in the same batch as
// the extents), and reclaims a block only when all of this holds: a synced batch does not refer to it any more, no read
// that may have seen it is under way, no write to it is under way.
//
// Loop thread only; the files' work runs on its pools. An error of the disk is final: failed().
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "chunkserver/store/extent_map.h"
#include "chunkserver/store/key_layout.h"
#include "chunkserver/store/segment_file.h"
#include "chunkserver/store/shared_ranges.h"
#include "common/base/result.h"
#include "common/runtime/sync.h"
#include "common/runtime/world.h"

namespace cairn {

inline constexpr uint32_t kMaxLogRunBlocks = 4 * kMiB / kBlockSizeBytes;  // one write
inline constexpr uint64_t kReserveStepBytes = 32 * kMiB;                  // disk space taken ahead of the writing
inline constexpr size_t kOpenSegmentsMax = 256;
// A segment is rewritten when less than 1 / kCleanBelow of it is alive: then the copying costs at most a third of what
// the writing did.
inline constexpr uint64_t kCleanBelow = 4;
// A hole costs the filesystem an extent, so small ones wait for neighbours: until they are this old, or this many.
inline constexpr uint32_t kSmallHoleBlocks = 16;
inline constexpr Duration kSmallHoleAge = 10s;
inline constexpr uint64_t kSmallHolesMaxBytes = 64 * kMiB;

// How the files of segments are called.
class ValueLogNames {
 public:
  explicit ValueLogNames(std::string folder) : folder_(std::move(folder)) {}
  const std::string& folder() const { return folder_; }
  std::string path_of(uint32_t segment) const;
  static std::optional<uint32_t> number_of(const std::string& name);

 private:
  std::string folder_;
};

class ValueLog {
 public:
  struct Segment {
    explicit Segment(Executor& executor) : synced_changed(executor) {}
    uint32_t number = 0;
    std::shared_ptr<SegmentFile> file;
    SegmentRecord record;                // as the newest batch says (which may be on its way)
    bool record_changed = false;         // the next batch is to put it
    uint32_t live_blocks = 0;            // as record, but falls only when the batch is durable
    std::optional<SharedRanges> shared;  // none: not loaded (record.shared_ranges > 0)
    // Only of segments begun by this process:
    bool active = false;
    bool retired = false;             // was active; its tail may still be cut
    uint32_t end_block = 0;           // given out up to here
    uint32_t reserved_block = 0;      // disk space taken up to here
    uint32_t uncommitted_blocks = 0;  // given out, and neither in a batch nor a hole
    // Writing and syncing.
    uint64_t writes_started = 0;
    std::set<uint64_t> writes_running;
    uint64_t writes_done = 0;
    uint64_t writes_synced = 0;  // of writes_done
    bool name_durable = true;
    bool syncing = false;
    Condition synced_changed;
    std::optional<std::list<uint32_t>::iterator> opened;  // its place in opened_
  };
  using SegmentPtr = std::shared_ptr<Segment>;

  ValueLog(World& world, std::string folder, uint64_t segment_size_bytes, BlockingPool& write_pool);

  std::string path_of(uint32_t segment) const { return names_.path_of(segment); }
  uint32_t segment_blocks() const { return segment_blocks_; }
  // The longest run that one allocate() gives.
  uint32_t max_run_blocks() const;

  // What recovery found. `next_segment` is above every number that was ever used.
  void add_recovered(uint32_t number, SegmentRecord record);
  void start(uint32_t next_segment) { next_segment_ = next_segment; }
  const std::map<uint32_t, SegmentPtr>& segments() const { return segments_; }
  SegmentPtr find(uint32_t segment) const;

  // ---- writing

  // Room for `blocks` (at most max_run_blocks()) behind one another; nothing if make_room() has to be awaited first.
  std::optional<LogPlace> allocate(uint32_t blocks);
  // Takes disk space, or begins a new segment. `budget_bytes`: what it may take ahead. kNoSpace.
  Task<Result<void>> make_room(uint32_t blocks, uint64_t budget_bytes);
  // Writes blocks to a place that allocate() gave. Not durable yet.
  Task<Result<void>> write(LogPlace place, std::vector<BlockBytes> blocks);
  // What write() has written to these segments is durable.
  Task<Result<void>> sync(std::vector<uint32_t> segments);
  // Disk space taken and not given out.
  uint64_t reserved_ahead_bytes() const;

  // ---- references (the store's batches)

  // The batch that is being built refers to them.
  void add_references(const std::vector<LogPlace>& places);
  // The batch that is being built refers to them no more. Returns those that nobody refers to then, which go to free()
  // when the batch is durable. Each of their segments must have its shared ranges loaded.
  std::vector<LogRange> drop_references(const std::vector<LogPlace>& places);
  // One more reference for blocks that have one.
  void share(const std::vector<LogPlace>& places);
  // Segments among these whose shared ranges must be loaded first.
  std::vector<uint32_t> shared_to_load(const std::vector<LogPlace>& places) const;
  void load_shared(uint32_t segment, SharedRanges ranges);
  // Segments whose records the batch must put; and which of them are to be erased.
  std::vector<SegmentPtr> take_changed();

  // ---- reclaiming

  // A synced batch does not refer to them any more.
  void free(const std::vector<LogRange>& ranges);
  // Freed earlier (records of an earlier process): the counts are right already.
  void free_again(LogRange range);
  // Given out and never committed.
  void free_uncommitted(const std::vector<LogPlace>& places);
  // One round: punches, cuts, removes. `all`: small ranges too. Returns what can be forgotten in the key-value store
  // now.
  struct Reclaimed {
    std::vector<LogRange> punched;  // their `freed` records
    std::vector<uint32_t> removed;  // segments that are gone: all of their records
  };
  Task<Result<Reclaimed>> reclaim(bool all);
  bool has_freed() const { return !freed_.empty(); }
  // A closed segment that is mostly holes, not shared: the cleaner's next. 0: none.
  uint32_t mostly_holes() const;
  // Reads hold a pin from when they look at extents until they have read.
  class Pin {
   public:
    Pin() = default;
    Pin(Pin&& other) noexcept : log_(std::exchange(other.log_, nullptr)), epoch_(other.epoch_) {}
    Pin& operator=(Pin&& other) noexcept;
    ~Pin();

   private:
    friend class ValueLog;
    Pin(ValueLog* log, uint64_t epoch) : log_(log), epoch_(epoch) {}
    ValueLog* log_ = nullptr;
    uint64_t epoch_ = 0;
  };
  Pin pin();
  // For a read on a pool; null if there is no such segment.
  std::shared_ptr<SegmentFile> file(uint32_t segment);

  // Stops giving out the rest of the active segment, so that the next reclaim() cuts and closes it.
  void retire_active();

 private:
  struct Free {
    LogRange range;
    uint64_t epoch = 0;        // no pin at or below it may be alive
    uint64_t after_write = 0;  // no write at or below it may be running in the segment
    bool uncommitted = false;
    TimePoint since;
  };
  // What a round does to one segment.
  struct Round {
    SegmentPtr segment;
    std::shared_ptr<SegmentFile> file;
    bool remove = false;
    bool cut = false;
    uint32_t end_block = 0;
    std::vector<Free> free;
    std::vector<LogRange> holes;
  };
  bool reclaimable(const Free& free) const;
  bool removable(const Segment& segment, const std::vector<Free>& its) const;
  std::vector<Round> choose(bool all) const;
  static Result<void> run_round(Disk& disk, const std::vector<Round>& rounds);
  void used(Segment& segment);

  World& world_;
  const ValueLogNames names_;
  const uint32_t segment_blocks_;
  BlockingPool& pool_;
  std::map<uint32_t, SegmentPtr> segments_;
  SegmentPtr active_;
  uint32_t next_segment_ = 1;
  Mutex room_mutex_;
  std::vector<Free> freed_;
  uint64_t epoch_ = 1;
  std::map<uint64_t, uint32_t> pins_;  // epoch, how many
  std::list<uint32_t> opened_;         // segments whose file may be open; recently used last
};

}  // namespace cairn
