// What runs beside the proposals: ticks of log time, spare segments and free space, checkpoints.
#include <utility>

#include "common/base/log.h"
#include "master/consensus/raft_log.h"

namespace cairn {

namespace {
constexpr Duration kHousekeepingInterval = 1s;
// If the others have no room either, leadership does not go round faster than this.
constexpr Duration kStepAsideInterval = std::chrono::seconds(30);
// How long changes wait for another leader before they are refused for want of room.
constexpr Duration kStepAsideLimit = std::chrono::seconds(5);
constexpr Duration kStepAsidePause = 50ms;
}  // namespace

Task<void> RaftLog::step_aside() {
  stepping_aside_ = true;
  TimePoint end = clock_.now() + kStepAsideLimit;
  Result<void> handed = co_await transfer_leadership(MasterId(), end);
  // The core gives up after an election timeout.
  while (!handed && leading_ && disk_low_ && clock_.now() < end) {
    Result<void> slept = co_await tasks_.sleep_for(kStepAsidePause);
    if (!slept) break;
    handed = co_await transfer_leadership(MasterId(), end);
  }
  stepping_aside_ = false;
  if (!handed) log_warning("master.still_leading", "error={}", quoted(handed.error().message()));
}

Task<void> RaftLog::tick() {
  while (true) {
    Result<void> slept = co_await tasks_.sleep_for(options_.tick_interval);
    if (!slept || failed_) co_return;
    if (!leading_) continue;
    // Without it nothing can be read: if there was no room when leading began, again.
    bool wanted = own_term_index_ == 0;
    // Any entry carries the time.
    bool quiet = clock_.now() - last_submit_ >= options_.tick_interval && in_flight_.empty();
    if (quiet && options_.ticks_wanted && options_.ticks_wanted()) wanted = true;
    if (!wanted) continue;
    LogIndex last = cairn_raft_last_index(core_);
    submit_own_entry();
    if (!failed_ && own_term_index_ == 0 && cairn_raft_last_index(core_) > last) {
      own_term_index_ = last + 1;
      for (BarrierWaiter& waiter : barriers_)
        waiter.index = own_term_index_;
    }
  }
}

Task<void> RaftLog::keep_house() {
  while (!tasks_.stop_requested() && !failed_) {
    Result<DiskSpace> space = co_await files_pool_->run([&disk = world_.disk(), &store = *store_,
                                                         folder = options_.folder, reserve = options_.reserve_bytes,
                                                         segment = options_.segment_size_bytes]() -> Result<DiskSpace> {
      Result<DiskSpace> found = disk.space(folder);
      if (!found || !store.needs_spare() || found->free_bytes < reserve + segment) return found;
      Result<void> prepared = store.prepare_spare();
      if (!prepared) return prepared.error();
      return disk.space(folder);
    });
    if (space.failed_with(ErrorCode::kCancelled)) co_return;
    spare_failed_ = store_->needs_spare();
    if (!space && !space.failed_with(ErrorCode::kNoSpace)) {
      fail(space.error());
      co_return;
    }
    bool low = !space || space->free_bytes < options_.reserve_bytes;
    if (low != disk_low_) log_warning("master.disk_low", "low={} free_bytes={}", low, space ? space->free_bytes : 0);
    disk_low_ = low;
    if (low && leading_ && !is_sole_voter() && clock_.now() >= next_step_aside_) {
      // Somebody with room goes on.
      next_step_aside_ = clock_.now() + kStepAsideInterval;
      log_warning("master.stepping_aside", "free_bytes={}", space ? space->free_bytes : 0);
      tasks_.spawn(step_aside());
    }
    // Two, because it was looked at up to an interval ago.
    disk_has_room_ = space && space->free_bytes >= options_.reserve_bytes + 2 * options_.segment_size_bytes;
    if (checkpoint_due() && checkpoint_mutex_.free() > 0) tasks_.spawn(checkpoint_when_due());
    if (tasks_.stop_requested() || failed_) co_return;
    // Woken or not, it looks.
    [[maybe_unused]] Result<void> woken =
        co_await housekeeping_wake_.wait_until(clock_, clock_.now() + kHousekeepingInterval);
  }
}

bool RaftLog::checkpoint_due() const {
  if (applied_ <= snapshot_index_) return false;
  if (store_->appended_bytes() - checkpointed_bytes_ >= options_.checkpoint_log_bytes) return true;
  return first_change_ && clock_.now() - *first_change_ >= options_.checkpoint_interval;
}

Task<void> RaftLog::checkpoint_when_due() {
  Result<LogIndex> made = co_await checkpoint();
  if (!made && !made.failed_with(ErrorCode::kCancelled))
    log_error("checkpoint.failed", "error={}", quoted(made.error().message()));
}

Task<Result<LogIndex>> RaftLog::checkpoint() {
  Semaphore::Permit permit = co_await checkpoint_mutex_.lock();
  if (failed_ || retired_) co_return ErrorCode::kCancelled;
  TimePoint started = clock_.now();
  uint64_t bytes = store_->appended_bytes();
  std::optional<TimePoint> first_change = std::exchange(first_change_, std::nullopt);
  // Who fetches it will need the log behind it, too.
  uint64_t pinned = started < pinned_until_ ? pinned_checkpoint_ : 0;
  Result<Checkpoint> made =
      co_await checkpoint_pool_->run([&machine = machine_, &snapshots = *snapshots_, &applier = *applier_,
                                      boot_id = world_.boot_id(), pinned]() -> Result<Checkpoint> {
        Result<Checkpoint> checkpoint = snapshots.make(
            [&machine](const std::string& target, const std::function<void(uint64_t)>& freeze) {
              return machine.checkpoint(target, freeze);
            },
            [&applier](uint64_t state) { return applier.position_at(state); }, boot_id);
        if (!checkpoint) return checkpoint;
        Result<void> removed = snapshots.remove_old(pinned);
        if (!removed) return removed.error();
        return checkpoint;
      });
  if (failed_) co_return ErrorCode::kCancelled;
  if (!made) {
    if (first_change) first_change_ = first_change;
    co_return made.error();
  }
  checkpointed_bytes_ = bytes;
  const CheckpointMeta& meta = made->meta;
  LogIndex upto = std::min(snapshots_->log_not_needed_upto(),
                           store_->trailing_index(meta.index, options_.trailing_entries, options_.trailing_bytes));
  if (pinned != 0) upto = std::min(upto, pinned);
  if (meta.index > snapshot_index_) {
    snapshot_index_ = meta.index;
    CairnRaftSnapshot snapshot{.index = meta.index,
                               .term = meta.term,
                               .configuration = meta.configuration.data(),
                               .configuration_size = meta.configuration.size(),
                               .configuration_index = meta.configuration_index};
    CairnRaftUpdate update;
    int status =
        cairn_raft_snapshot_taken(core_, now_ms(), &snapshot, static_cast<unsigned>(meta.index - upto), &update);
    after_step(status, update);
    if (failed_) co_return ErrorCode::kCancelled;
  }
  // Not what the core believes to be there: it was not told if this is where the last checkpoint was.
  upto = std::min<LogIndex>(upto, cairn_raft_first_index(core_) - 1);
  Result<void> purged =
      co_await files_pool_->run([&store = *store_, upto]() -> Result<void> { return store.purge(upto); });
  if (!purged) co_return purged.error();
  log_info("checkpoint.made", "index={} files={} ms={} log_first={}", meta.index, made->files.size(),
           (clock_.now() - started) / 1ms, store_->first_index());
  co_return meta.index;
}

}  // namespace cairn
