#include "master/consensus/applier.h"

#include <utility>

#include "common/base/check.h"
#include "master/consensus/raft_core.h"
#include "master/proto/log_entry.h"

namespace cairn {

namespace {
constexpr uint64_t kReplayBytes = 4 * kMiB;  // of the log read at once
}

Applier::Applier(World& world, StateMachine& machine, LogStore& store, LogIndex state_index, CheckpointMeta position,
                 Callbacks callbacks)
    : callbacks_(std::move(callbacks)),
      shared_(std::make_shared<Shared>(world.clock(), machine, store)),
      pool_(world.make_pool("apply", 1)) {
  shared_->state_index = state_index;
  shared_->position = std::move(position);
}

Applier::~Applier() {
  alive_.reset();
}

void Applier::apply(std::vector<RaftEntryPtr> entries) {
  submit([entries = std::move(entries)](Shared& shared) { apply_all(shared, entries); });
}

void Applier::replay(LogIndex from, LogIndex upto) {
  submit([from, upto](Shared& shared) { replay_all(shared, from, upto); });
}

void Applier::submit(std::move_only_function<void(Shared&)> work) {
  pool_->submit([shared = shared_, work = std::move(work)]() mutable { work(*shared); },
                [this, alive = std::weak_ptr(alive_)] {
                  if (!alive.expired()) finished();
                });
}

Task<void> Applier::close() {
  Result<void> closed = co_await pool_->run([shared = shared_]() -> Result<void> {
    shared->machine.close();
    return {};
  });
  CHECK(closed || closed.failed_with(ErrorCode::kCancelled));
}

CheckpointMeta Applier::position_at(LogIndex state) const {
  std::lock_guard lock(shared_->mutex);
  CheckpointMeta position = shared_->position;
  if (state <= position.index) return position;
  CHECK(state == shared_->applying_index);
  position.index = state;
  position.term = shared_->applying_term;
  position.log_time_ms = shared_->applying_log_time_ms;
  return position;
}

bool Applier::has_failed(Shared& shared) {
  std::lock_guard lock(shared.mutex);
  return shared.error.has_value();
}

Result<AppliedEntry> Applier::apply_one(Shared& shared, const RaftEntry& entry) {
  AppliedEntry applied{.index = entry.index, .term = entry.term};
  if (entry.type == CAIRN_RAFT_COMMAND) {
    Result<LogEntryView> view = decode_log_entry(entry.payload);
    if (!view) return view.error().in("log entry " + std::to_string(entry.index));
    applied.log_time_ms = view->fields.log_time_ms;
    applied.commands = static_cast<uint32_t>(view->commands.size());
    if (entry.index > shared.state_index) {
      const std::vector<std::unique_ptr<DecodedCommand>> decoded = std::move(entry.decoded);
      CHECK(decoded.empty() || decoded.size() == view->commands.size());
      std::vector<EntryCommand> commands;
      commands.reserve(view->commands.size());
      for (size_t i = 0; i < view->commands.size(); ++i) {
        commands.push_back({view->commands[i], decoded.empty() ? nullptr : decoded[i].get()});
      }
      EntryContext context{.index = entry.index,
                           .term = entry.term,
                           .log_time_ms = view->fields.log_time_ms,
                           .wall = WallTime{view->fields.wall_ns},
                           .seed = view->fields.seed};
      {
        std::lock_guard lock(shared.mutex);
        shared.applying_index = entry.index;
        shared.applying_term = entry.term;
        shared.applying_log_time_ms = view->fields.log_time_ms;
      }
      const TimePoint begun = shared.slow.begin();
      Result<std::vector<std::unique_ptr<CommandReply>>> replies = shared.machine.apply(context, commands);
      shared.slow.end(begun, commands.size());
      if (!replies) return replies.error().in("applying log entry " + std::to_string(entry.index));
      CHECK(replies->size() == commands.size());
      applied.replies = std::move(*replies);
    }
  }
  std::lock_guard lock(shared.mutex);
  shared.position.index = entry.index;
  shared.position.term = entry.term;
  if (entry.type == CAIRN_RAFT_COMMAND) shared.position.log_time_ms = applied.log_time_ms;
  if (entry.type == CAIRN_RAFT_CHANGE) {
    shared.position.configuration = entry.payload;
    shared.position.configuration_index = entry.index;
  }
  return applied;
}

void Applier::apply_all(Shared& shared, const std::vector<RaftEntryPtr>& entries) {
  if (has_failed(shared)) return;
  for (const RaftEntryPtr& entry : entries) {
    Result<AppliedEntry> applied = apply_one(shared, *entry);
    std::lock_guard lock(shared.mutex);
    if (!applied) {
      shared.error = applied.error();
      return;
    }
    shared.applied.push_back(std::move(*applied));
  }
}

void Applier::replay_all(Shared& shared, LogIndex from, LogIndex upto) {
  if (has_failed(shared)) return;
  AppliedEntry last;
  while (from <= upto) {
    Result<std::vector<StoredEntry>> entries = shared.store.read(from, kReplayBytes);
    if (!entries) {
      std::lock_guard lock(shared.mutex);
      shared.error = entries.error().in("replaying the log");
      return;
    }
    for (StoredEntry& stored : *entries) {
      if (stored.index > upto) break;
      RaftEntry entry{
          .index = stored.index, .term = stored.term, .type = stored.type, .payload = std::move(stored.payload)};
      Result<AppliedEntry> applied = apply_one(shared, entry);
      if (!applied) {
        std::lock_guard lock(shared.mutex);
        shared.error = applied.error();
        return;
      }
      last = std::move(*applied);
      last.replies.clear();
      from = stored.index + 1;
    }
  }
  std::lock_guard lock(shared.mutex);
  shared.applied.push_back(std::move(last));
}

void Applier::finished() {
  if (failed_) return;
  std::vector<AppliedEntry> applied;
  std::optional<Error> error;
  {
    std::lock_guard lock(shared_->mutex);
    applied.swap(shared_->applied);
    error = shared_->error;
  }
  if (!applied.empty()) callbacks_.applied(std::move(applied));
  if (!error) return;
  failed_ = true;
  callbacks_.failed(*error);
}

}  // namespace cairn
