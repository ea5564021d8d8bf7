// The core's steps and what each asks for.
#include <algorithm>
#include <cstdlib>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "master/consensus/raft_log.h"

namespace cairn {

namespace {
constexpr uint64_t kRememberedBytes = 16 * kMiB;  // of entries, in memory, for masters that are only a little behind
}

uint64_t RaftLog::now_ms() const {
  return static_cast<uint64_t>(clock_.now().time_since_epoch() / 1ms);
}

uint64_t RaftLog::log_time_ms() const {
  if (!leading_) return last_log_time_ms_;
  return log_time_base_ms_ + static_cast<uint64_t>((clock_.now() - leading_since_) / 1ms);
}

// The order of one step: term and vote, then entries, to the writer, which keeps it; messages when the term and vote
// before them are durable, beside the writing of entries; apply up to the commit index.
void RaftLog::after_step(int status, const CairnRaftUpdate& update) {
  if (status != 0) {
    fail(Error(ErrorCode::kIo, std::string("libraft: ") + cairn_raft_error(core_, status)));
    return;
  }
  bool state_changed = update.state_changed;
  bool commit_changed = update.commit_changed;
  if (update.term_or_vote_changed)
    term_number_ = writer_->write_term(cairn_raft_term(core_), cairn_raft_voted_for(core_));
  take_entries(update);  // before the messages that carry them
  take_messages(update);
  // From here on the core may be stepped again; `update` is no longer good.
  if (state_changed) follow_state();
  if (commit_changed) follow_commit();
  arm_timer();
}

// Entry i of the update: what this process is submitting or receiving, or the core's own (the first of a leadership
// among several voters).
std::shared_ptr<RaftEntry> RaftLog::entry_of(const CairnRaftUpdate& update, unsigned i) {
  const CairnRaftEntry& core_entry = update.entries[i];
  if (!receiving_.empty()) return receiving_[update.entries_index + i - receiving_from_];
  if (submitting_ != nullptr && core_entry.data == submitting_->payload.data()) return submitting_;
  auto entry = std::make_shared<RaftEntry>();
  entry->type = static_cast<uint8_t>(core_entry.type);
  entry->payload.assign(static_cast<const char*>(core_entry.data), core_entry.size);
  return entry;
}

void RaftLog::take_entries(const CairnRaftUpdate& update) {
  if (update.n_entries == 0) return;
  truncate_from(update.entries_index);
  for (unsigned i = 0; i < update.n_entries; ++i) {
    std::shared_ptr<RaftEntry> entry = entry_of(update, i);
    entry->index = update.entries_index + i;
    entry->term = update.entries[i].term;
    if (entry->type == CAIRN_RAFT_CHANGE) changes_.push_back({entry->index, entry->term, entry->type, entry->payload});
    if (entry->type == CAIRN_RAFT_COMMAND && !receiving_.empty()) {
      // Who leads next goes on from here.
      Result<LogEntryFields> fields = decode_log_entry_fields(entry->payload);
      if (fields) last_log_time_ms_ = std::max(last_log_time_ms_, fields->log_time_ms);
    }
    CHECK(in_flight_.empty() || in_flight_.back().entry->index + 1 == entry->index);
    in_flight_.push_back({.entry = entry});
    unapplied_bytes_ += entry->payload.size();
    remember(entry);
    unwritten_bytes_ += record_size(entry->payload.size());
    uint64_t number = writer_->write(entry);
    writing_.push_back({number, entry->index, record_size(entry->payload.size())});
  }
}

// Another leader's entries take the place of those from `index` on; none of them was committed.
void RaftLog::truncate_from(LogIndex index) {
  while (!in_flight_.empty() && in_flight_.back().entry->index >= index) {
    Batch& last = in_flight_.back();
    CHECK(!last.handed_over);
    unapplied_bytes_ -= last.entry->payload.size();
    answer_all(std::move(last.waiters), Error(ErrorCode::kUnavailable, "leadership was lost: the outcome is unknown"));
    in_flight_.pop_back();
  }
  while (!changes_.empty() && changes_.back().index >= index)
    changes_.pop_back();
  while (!remembered_.empty() && remembered_.back()->index >= index) {
    remembered_bytes_ -= remembered_.back()->payload.size();
    remembered_.pop_back();
  }
  for (Writing& write : writing_) {
    if (write.index >= index) write.index = 0;
  }
  durable_ = std::min(durable_, index - 1);
}

void RaftLog::remember(const RaftEntryPtr& entry) {
  if (!remembered_.empty() && remembered_.back()->index + 1 != entry->index) {
    remembered_.clear();
    remembered_bytes_ = 0;
  }
  remembered_.push_back(entry);
  remembered_bytes_ += entry->payload.size();
  while (remembered_bytes_ > kRememberedBytes && remembered_.size() > 1) {
    remembered_bytes_ -= remembered_.front()->payload.size();
    remembered_.pop_front();
  }
}

void RaftLog::follow_state() {
  bool leads = cairn_raft_state(core_) == CAIRN_RAFT_LEADER;
  if (leads == leading_) return;
  if (leads) {
    leading_since_ = clock_.now();
    log_time_base_ms_ = last_log_time_ms_;
    leading_ = true;
    own_term_index_ = 0;
    log_info("master.leading", "term={} log_time_ms={}", term(), log_time_base_ms_);
    if (options_.on_leadership) options_.on_leadership(true, term());
    submit_own_entry();
    if (!failed_ && !in_flight_.empty()) own_term_index_ = in_flight_.back().entry->index;
    return;
  }
  leading_ = false;
  own_term_index_ = 0;
  log_info("master.not_leading", "term={}", term());
  if (options_.on_leadership) options_.on_leadership(false, term());
  // What was not sent did not happen; of what was, nobody knows.
  open_.finish({});
  open_decoded_.clear();
  answer_all(std::exchange(open_waiters_, {}), not_leader());
  for (Batch& batch : in_flight_) {
    answer_all(std::exchange(batch.waiters, {}),
               Error(ErrorCode::kUnavailable, "leadership was lost: the outcome is unknown"));
  }
  queued_bytes_ = 0;
  for (BarrierWaiter& waiter : std::exchange(barriers_, {}))
    waiter.promise.set(not_leader());
  end_reads(not_leader());
  changed_.notify_all();
}

void RaftLog::follow_commit() {
  committed_ = std::max<LogIndex>(committed_, cairn_raft_commit_index(core_));
  while (!failed_ && !changes_.empty() && changes_.front().index <= committed_) {
    StoredEntry change = std::move(changes_.front());
    changes_.pop_front();
    CairnRaftUpdate update;
    int status =
        cairn_raft_configured(core_, now_ms(), change.index, change.payload.data(), change.payload.size(), &update);
    after_step(status, update);
  }
  hand_over();
  changed_.notify_all();
}

// Gives apply what is committed: from memory where it was appended by this process, else from the log.
void RaftLog::hand_over() {
  // Also a leader, for which others may have stored it: parts of the state reach the disk whenever LevelDB writes a
  // table, and after a loss of power the state may hold nothing that the log does not.
  LogIndex ready = std::min(committed_, durable_);
  if (failed_ || handed_over_ >= ready) return;
  LogIndex in_memory_from = in_flight_.empty() ? ready + 1 : in_flight_.front().entry->index;
  if (handed_over_ + 1 < in_memory_from) {
    LogIndex upto = std::min(ready, in_memory_from - 1);
    applier_->replay(handed_over_ + 1, upto);
    handed_over_ = upto;
  }
  std::vector<RaftEntryPtr> entries;
  for (Batch& batch : in_flight_) {
    if (batch.entry->index > ready) break;
    if (std::exchange(batch.handed_over, true)) continue;
    entries.push_back(batch.entry);
    handed_over_ = batch.entry->index;
  }
  if (!entries.empty()) applier_->apply(std::move(entries));
}

void RaftLog::on_durable(uint64_t number) {
  if (failed_ || retired_) return;
  LogIndex index = 0;
  while (!writing_.empty() && writing_.front().number <= number) {
    if (writing_.front().index != 0) index = writing_.front().index;
    unwritten_bytes_ -= writing_.front().bytes;
    writing_.pop_front();
  }
  if (peers_ != nullptr) send_waiting_messages();
  if (index != 0) {
    durable_ = index;
    CairnRaftUpdate update;
    int status = cairn_raft_persisted(core_, now_ms(), index, &update);
    after_step(status, update);
    hand_over();
  }
  if (!spare_failed_ && store_->needs_spare()) housekeeping_wake_.notify_all();
}

void RaftLog::on_applied(std::vector<AppliedEntry> applied) {
  if (failed_) return;
  for (AppliedEntry& entry : applied) {
    applied_ = entry.index;
    if (entry.commands > 0 && !first_change_) first_change_ = clock_.now();
    if (in_flight_.empty() || in_flight_.front().entry->index != entry.index) continue;  // read back from the log
    Batch batch = std::move(in_flight_.front());
    in_flight_.pop_front();
    unapplied_bytes_ -= batch.entry->payload.size();
    if (batch.waiters.empty()) continue;
    queued_bytes_ -= batch.entry->payload.size() - kLogEntryHeaderBytes;
    CHECK(batch.waiters.size() == entry.replies.size());
    for (size_t i = 0; i < batch.waiters.size(); ++i) {
      batch.waiters[i].set(Committed{entry.index, entry.term, entry.log_time_ms, std::move(entry.replies[i])});
    }
  }
  auto ready =
      std::partition(barriers_.begin(), barriers_.end(), [this](const BarrierWaiter& w) { return w.index > applied_; });
  for (auto waiter = ready; waiter != barriers_.end(); ++waiter)
    waiter->promise.set({});
  barriers_.erase(ready, barriers_.end());
  flush();
  changed_.notify_all();
}

void RaftLog::arm_timer() {
  if (failed_ || retired_) return;
  // A spare that was being promoted and no longer is keeps the core's next timeout in the past.
  uint64_t pause_ms = std::max<uint64_t>(1, static_cast<uint64_t>(options_.heartbeat / 1ms) / 2);
  uint64_t next_ms = std::max(cairn_raft_next_timeout_ms(core_), last_timeout_ms_ + pause_ms);
  if (timer_ != 0) {
    // A timer that fires early looks again; most steps only move the time further away.
    if (next_ms >= timer_ms_) return;
    clock_.cancel(timer_);
  }
  timer_ms_ = next_ms;
  timer_ = clock_.call_at(TimePoint(std::chrono::milliseconds(next_ms)), [this] { on_timer(); });
}

void RaftLog::on_timer() {
  timer_ = 0;
  if (failed_ || retired_) return;
  if (now_ms() >= cairn_raft_next_timeout_ms(core_)) {
    last_timeout_ms_ = now_ms();
    CairnRaftUpdate update;
    int status = cairn_raft_timeout(core_, now_ms(), &update);
    after_step(status, update);
  }
  arm_timer();
}

void RaftLog::fail(const Error& error) {
  if (std::exchange(failed_, true)) return;
  log_error("master.log_failed", "error={}", quoted(error.message()));
  changed_.notify_all();
  housekeeping_wake_.notify_all();
  if (!options_.on_fatal) std::abort();
  options_.on_fatal(error);
}

}  // namespace cairn
