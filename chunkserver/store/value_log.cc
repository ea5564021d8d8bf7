#include "chunkserver/store/value_log.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <iterator>

#include "common/base/check.h"

namespace cairn {
namespace {

constexpr std::string_view kSuffix = ".log";

}  // namespace

ValueLog::ValueLog(World& world, std::string folder, uint64_t segment_size_bytes, BlockingPool& write_pool)
    : world_(world),
      names_(std::move(folder)),
      segment_blocks_(static_cast<uint32_t>(segment_size_bytes / kBlockSizeBytes)),
      pool_(write_pool),
      room_mutex_(world.executor()) {
  CHECK(segment_blocks_ > 0);
}

std::string ValueLogNames::path_of(uint32_t segment) const {
  char name[16];
  std::snprintf(name, sizeof name, "%08x", segment);
  return folder_ + "/" + name + std::string(kSuffix);
}

std::optional<uint32_t> ValueLogNames::number_of(const std::string& name) {
  if (name.size() != 8 + kSuffix.size() || !name.ends_with(kSuffix)) return std::nullopt;
  uint32_t number = 0;
  auto [end, error] = std::from_chars(name.data(), name.data() + 8, number, 16);
  if (error != std::errc() || end != name.data() + 8 || number == 0) return std::nullopt;
  return number;
}

uint32_t ValueLog::max_run_blocks() const {
  return std::min(kMaxLogRunBlocks, segment_blocks_);
}

void ValueLog::add_recovered(uint32_t number, SegmentRecord record) {
  auto segment = std::make_shared<Segment>(world_.executor());
  segment->number = number;
  segment->file = std::make_shared<SegmentFile>(world_.disk(), path_of(number));
  segment->record = record;
  segment->live_blocks = record.live_blocks;
  segments_[number] = std::move(segment);
}

ValueLog::SegmentPtr ValueLog::find(uint32_t segment) const {
  auto it = segments_.find(segment);
  return it == segments_.end() ? nullptr : it->second;
}

// ---- writing

std::optional<LogPlace> ValueLog::allocate(uint32_t blocks) {
  CHECK(blocks > 0 && blocks <= max_run_blocks());
  if (!active_ || active_->end_block + blocks > active_->reserved_block) return std::nullopt;
  LogPlace place{active_->number, active_->end_block};
  active_->end_block += blocks;
  active_->uncommitted_blocks += blocks;
  return place;
}

uint64_t ValueLog::reserved_ahead_bytes() const {
  return active_ ? (active_->reserved_block - active_->end_block) * kBlockSizeBytes : 0;
}

void ValueLog::retire_active() {
  if (!active_) return;
  active_->active = false;
  active_->retired = true;
  active_.reset();
}

Task<Result<void>> ValueLog::make_room(uint32_t blocks, uint64_t budget_bytes) {
  Semaphore::Permit permit = co_await room_mutex_.lock();
  if (active_ && active_->end_block + blocks <= active_->reserved_block) co_return Result<void>{};
  if (active_ && active_->end_block + blocks > segment_blocks_) retire_active();
  SegmentPtr segment = active_;
  if (!segment) {
    segment = std::make_shared<Segment>(world_.executor());
    segment->number = next_segment_++;
    segment->file = std::make_shared<SegmentFile>(world_.disk(), path_of(segment->number));
    segment->active = true;
    segment->name_durable = false;
    Result<void> created = co_await pool_.run([file = segment->file] { return file->create(); });
    if (!created) co_return created;
    segments_[segment->number] = segment;
    active_ = segment;
    used(*segment);
  }
  uint32_t from = segment->reserved_block;
  uint32_t least = segment->end_block + blocks;
  uint64_t ahead = std::min<uint64_t>(kReserveStepBytes, budget_bytes) / kBlockSizeBytes;
  uint32_t most = static_cast<uint32_t>(std::clamp<uint64_t>(segment->end_block + ahead, least, segment_blocks_));
  Result<void> reserved = co_await pool_.run([file = segment->file, from, most] { return file->reserve(from, most); });
  if (reserved.failed_with(ErrorCode::kNoSpace) && most > least) {
    most = least;
    reserved = co_await pool_.run([file = segment->file, from, most] { return file->reserve(from, most); });
  }
  if (!reserved) co_return reserved;
  segment->reserved_block = most;
  if (!segment->active) co_return Error(ErrorCode::kAgain, "the segment was retired");
  co_return Result<void>{};
}

Task<Result<void>> ValueLog::write(LogPlace place, std::vector<BlockBytes> blocks) {
  SegmentPtr segment = find(place.segment);
  CHECK(segment != nullptr);
  uint64_t number = ++segment->writes_started;
  segment->writes_running.insert(number);
  Result<void> written = co_await pool_.run(
      [file = segment->file, place, blocks = std::move(blocks)] { return file->write(place.block, blocks); });
  segment->writes_running.erase(number);
  ++segment->writes_done;
  co_return written;
}

Task<Result<void>> ValueLog::sync(std::vector<uint32_t> segments) {
  for (uint32_t number : segments) {
    SegmentPtr segment = find(number);
    CHECK(segment != nullptr);
    uint64_t wanted = segment->writes_done;
    while (segment->writes_synced < wanted) {
      if (segment->syncing) {
        co_await segment->synced_changed.wait();
        continue;
      }
      segment->syncing = true;
      uint64_t up_to = segment->writes_done;
      Result<void> synced = co_await pool_.run(
          [file = segment->file, &disk = world_.disk(), folder = names_.folder(), named = segment->name_durable]() {
            Result<void> done = file->sync();
            if (done && !named) done = disk.sync_folder(folder);
            return done;
          });
      segment->syncing = false;
      if (synced) {
        segment->name_durable = true;
        segment->writes_synced = up_to;
      }
      segment->synced_changed.notify_all();
      if (!synced) co_return synced;
    }
  }
  co_return Result<void>{};
}

// ---- references

void ValueLog::add_references(const std::vector<LogPlace>& places) {
  for (LogPlace place : places) {
    SegmentPtr segment = find(place.segment);
    CHECK(segment && segment->uncommitted_blocks > 0);
    --segment->uncommitted_blocks;
    ++segment->record.live_blocks;
    ++segment->live_blocks;
    segment->record_changed = true;
  }
}

std::vector<uint32_t> ValueLog::shared_to_load(const std::vector<LogPlace>& places) const {
  std::set<uint32_t> numbers;
  for (LogPlace place : places) {
    SegmentPtr segment = find(place.segment);
    if (segment && !segment->shared && segment->record.shared_ranges > 0) numbers.insert(place.segment);
  }
  return {numbers.begin(), numbers.end()};
}

void ValueLog::load_shared(uint32_t segment, SharedRanges ranges) {
  SegmentPtr found = find(segment);
  if (found && !found->shared) found->shared = std::move(ranges);
}

std::vector<LogRange> ValueLog::drop_references(const std::vector<LogPlace>& places) {
  std::vector<LogRange> gone;
  for (const LogRange& range : ranges_of(places)) {
    SegmentPtr segment = find(range.place.segment);
    if (!segment) continue;  // its file is lost; the extents that named it may go
    segment->record_changed = true;
    std::vector<SharedRanges::Blocks> unused = {{range.place.block, range.blocks}};
    if (segment->record.shared_ranges > 0) {
      CHECK(segment->shared.has_value());
      unused = segment->shared->release(unused.front());
      segment->record.shared_ranges = static_cast<uint32_t>(segment->shared->size());
    }
    for (const SharedRanges::Blocks& blocks : unused) {
      CHECK(segment->record.live_blocks >= blocks.blocks);
      segment->record.live_blocks -= blocks.blocks;
      gone.push_back({{segment->number, blocks.first}, blocks.blocks});
    }
  }
  return gone;
}

void ValueLog::share(const std::vector<LogPlace>& places) {
  for (const LogRange& range : ranges_of(places)) {
    SegmentPtr segment = find(range.place.segment);
    CHECK(segment != nullptr);
    if (!segment->shared) {
      CHECK(segment->record.shared_ranges == 0);
      segment->shared.emplace();
    }
    segment->shared->add({range.place.block, range.blocks});
    segment->record.shared_ranges = static_cast<uint32_t>(segment->shared->size());
    segment->record_changed = true;
  }
}

std::vector<ValueLog::SegmentPtr> ValueLog::take_changed() {
  std::vector<SegmentPtr> changed;
  for (auto& [number, segment] : segments_) {
    if (!segment->record_changed) continue;
    segment->record_changed = false;
    changed.push_back(segment);
  }
  return changed;
}

// ---- reclaiming

void ValueLog::free(const std::vector<LogRange>& ranges) {
  TimePoint now = world_.clock().now();
  for (const LogRange& range : ranges) {
    SegmentPtr segment = find(range.place.segment);
    CHECK(segment && segment->live_blocks >= range.blocks);
    segment->live_blocks -= range.blocks;
    freed_.push_back({range, epoch_, 0, false, now});
  }
  ++epoch_;
}

void ValueLog::free_again(LogRange range) {
  freed_.push_back({range, 0, 0, false, world_.clock().now()});
}

void ValueLog::free_uncommitted(const std::vector<LogPlace>& places) {
  TimePoint now = world_.clock().now();
  for (const LogRange& range : ranges_of(places)) {
    SegmentPtr segment = find(range.place.segment);
    CHECK(segment != nullptr);
    freed_.push_back({range, 0, segment->writes_started, true, now});
  }
}

bool ValueLog::reclaimable(const Free& free) const {
  if (free.epoch > 0 && !pins_.empty() && pins_.begin()->first <= free.epoch) return false;
  SegmentPtr segment = find(free.range.place.segment);
  if (!segment) return true;
  return segment->writes_running.empty() || *segment->writes_running.begin() > free.after_write;
}

bool ValueLog::removable(const Segment& segment, const std::vector<Free>& its) const {
  if (segment.active || segment.live_blocks > 0 || segment.record.live_blocks > 0) return false;
  if (!segment.writes_running.empty() || segment.syncing) return false;
  uint32_t garbage = 0;
  for (const Free& free : its) {
    if (!reclaimable(free)) return false;
    if (free.uncommitted) garbage += free.range.blocks;
  }
  return garbage == segment.uncommitted_blocks;
}

std::vector<ValueLog::Round> ValueLog::choose(bool all) const {
  std::map<uint32_t, std::vector<Free>> by_segment;
  for (const Free& free : freed_)
    by_segment[free.range.place.segment].push_back(free);
  uint64_t small_bytes = 0;
  for (const Free& free : freed_) {
    if (free.range.blocks < kSmallHoleBlocks) small_bytes += free.range.blocks * kBlockSizeBytes;
  }
  bool small_too = all || small_bytes > kSmallHolesMaxBytes;
  TimePoint now = world_.clock().now();

  std::vector<Round> rounds;
  for (const auto& [number, segment] : segments_) {
    auto found = by_segment.find(number);
    bool cut = segment->retired && !segment->record.closed &&
               (segment->reserved_block > segment->end_block || segment->uncommitted_blocks == 0);
    bool emptied = !segment->active && segment->live_blocks == 0;
    if (found == by_segment.end() && !cut && !emptied) continue;
    std::vector<Free> its = found == by_segment.end() ? std::vector<Free>{} : found->second;
    Round round;
    round.segment = segment;
    round.file = segment->file;
    if (removable(*segment, its)) {
      round.remove = true;
      round.free = its;
      rounds.push_back(std::move(round));
      continue;
    }
    round.cut = cut && segment->writes_running.empty();
    round.end_block = segment->end_block;
    std::erase_if(its, [&](const Free& free) { return !reclaimable(free); });
    std::sort(its.begin(), its.end(), [](const Free& a, const Free& b) { return a.range.place < b.range.place; });
    for (size_t i = 0; i < its.size();) {
      size_t end = i;
      LogRange hole{its[i].range.place, 0};
      bool old = false;
      for (; end < its.size() && its[end].range.place == hole.place.plus(hole.blocks); ++end) {
        hole.blocks += its[end].range.blocks;
        old = old || now - its[end].since >= kSmallHoleAge;
      }
      if (small_too || old || hole.blocks >= kSmallHoleBlocks) {
        round.holes.push_back(hole);
        round.free.insert(round.free.end(), its.begin() + static_cast<std::ptrdiff_t>(i),
                          its.begin() + static_cast<std::ptrdiff_t>(end));
      }
      i = std::max(end, i + 1);
    }
    if (round.cut || !round.holes.empty()) rounds.push_back(std::move(round));
  }
  return rounds;
}

uint32_t ValueLog::mostly_holes() const {
  for (const auto& [number, segment] : segments_) {
    const SegmentRecord& record = segment->record;
    if (!record.closed || record.shared_ranges > 0 || record.live_blocks == 0) continue;
    if (uint64_t{record.live_blocks} * kCleanBelow < segment_blocks_) return number;
  }
  return 0;
}

Result<void> ValueLog::run_round(Disk& disk, const std::vector<Round>& rounds) {
  for (const Round& round : rounds) {
    if (round.remove) {
      Result<void> removed = disk.remove(round.file->path());
      if (!removed && !removed.failed_with(ErrorCode::kNotFound)) return removed;
      continue;
    }
    for (const LogRange& hole : round.holes) {
      Result<void> punched = round.file->punch(hole.place.block, hole.blocks);
      if (!punched) return punched;
    }
    if (round.cut) {
      Result<void> cut = round.file->truncate(round.end_block);
      if (!cut) return cut;
    }
    // The record of what is to be punched goes only when the hole is there to stay.
    Result<void> synced = round.file->sync();
    if (!synced) return synced;
  }
  return {};
}

Task<Result<ValueLog::Reclaimed>> ValueLog::reclaim(bool all) {
  std::vector<Round> rounds = choose(all);
  Reclaimed reclaimed;
  if (rounds.empty()) co_return reclaimed;
  // Taken out first: what comes while the disk works belongs to the next round.
  std::set<LogRange, decltype([](const LogRange& a, const LogRange& b) { return a.place < b.place; })> taken;
  for (const Round& round : rounds) {
    for (const Free& free : round.free)
      taken.insert(free.range);
    if (round.remove) segments_.erase(round.segment->number);
  }
  std::erase_if(freed_, [&](const Free& free) { return taken.contains(free.range); });
  for (const Round& round : rounds) {
    if (round.remove && round.segment->opened) {
      opened_.erase(*round.segment->opened);
      round.segment->opened.reset();
    }
  }
  Result<void> done = co_await pool_.run([&disk = world_.disk(), rounds] { return run_round(disk, rounds); });
  if (!done) co_return done.error();
  for (const Round& round : rounds) {
    Segment& segment = *round.segment;
    for (const Free& free : round.free) {
      if (free.uncommitted) {
        segment.uncommitted_blocks -= free.range.blocks;
      } else {
        reclaimed.punched.push_back(free.range);
      }
    }
    if (round.remove) {
      reclaimed.removed.push_back(segment.number);
      continue;
    }
    if (round.cut) segment.reserved_block = segment.end_block;
    bool settled = segment.retired && segment.reserved_block == segment.end_block && segment.uncommitted_blocks == 0;
    if (settled && !segment.record.closed) {
      segment.record.closed = true;
      segment.record_changed = true;
    }
  }
  co_return reclaimed;
}

// ---- reading

ValueLog::Pin ValueLog::pin() {
  ++pins_[epoch_];
  return Pin(this, epoch_);
}

ValueLog::Pin& ValueLog::Pin::operator=(Pin&& other) noexcept {
  if (this == &other) return *this;
  std::swap(log_, other.log_);
  std::swap(epoch_, other.epoch_);
  return *this;
}

ValueLog::Pin::~Pin() {
  if (!log_) return;
  auto it = log_->pins_.find(epoch_);
  if (--it->second == 0) log_->pins_.erase(it);
}

std::shared_ptr<SegmentFile> ValueLog::file(uint32_t segment) {
  SegmentPtr found = find(segment);
  if (!found) return nullptr;
  used(*found);
  return found->file;
}

// Keeps the number of open files bounded: the one not used for longest is closed (by letting go of it; jobs keep
// theirs).
void ValueLog::used(Segment& segment) {
  if (segment.opened) {
    opened_.splice(opened_.end(), opened_, *segment.opened);
    return;
  }
  segment.opened = opened_.insert(opened_.end(), segment.number);
  if (opened_.size() <= kOpenSegmentsMax) return;
  for (auto it = opened_.begin(); it != opened_.end(); ++it) {
    SegmentPtr oldest = find(*it);
    if (!oldest || oldest->active || !oldest->writes_running.empty() || oldest->syncing) continue;
    oldest->file = std::make_shared<SegmentFile>(world_.disk(), oldest->file->path());
    oldest->opened.reset();
    opened_.erase(it);
    return;
  }
}

}  // namespace cairn
