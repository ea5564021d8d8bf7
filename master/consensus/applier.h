// Applier: the thread "apply". Gives committed entries to the state machine, one after the other, and brings back what
// it answered.
//
// Loop thread only, but for position(). Machine and store outlive it; the destructor waits for what runs.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "common/runtime/world.h"
#include "master/consensus/engine.h"
#include "master/consensus/log_store.h"
#include "master/consensus/raft_entry.h"
#include "master/consensus/slow_steps.h"
#include "master/consensus/snapshot_store.h"

namespace cairn {

struct AppliedEntry {
  LogIndex index = 0;
  Term term = 0;
  uint64_t log_time_ms = 0;
  uint32_t commands = 0;
  std::vector<std::unique_ptr<CommandReply>> replies;  // empty for what had been applied before a restart
};

class Applier {
 public:
  // Both on the loop. `applied`: in order; for entries that were read back from the log only the last of each stretch.
  // `failed`: once; the state cannot follow the log any more.
  struct Callbacks {
    std::function<void(std::vector<AppliedEntry>)> applied;
    std::function<void(const Error&)> failed;
  };
  // `state_index`: the last entry that the machine holds; what is at or below it is passed over. `position`: where the
  // log stands at it, as far as is known.
  Applier(World& world, StateMachine& machine, LogStore& store, LogIndex state_index, CheckpointMeta position,
          Callbacks callbacks);
  ~Applier();

  void apply(std::vector<RaftEntryPtr> entries);
  // Reads (what was handed over before, upto] back from the log and applies it.
  void replay(LogIndex from, LogIndex upto);
  // Closes the machine after everything handed over before. Once, last.
  Task<void> close();

  // Where the log stands when the machine holds everything up to `state`. Asked while that is so: inside a checkpoint's
  // freeze. Thread-safe.
  CheckpointMeta position_at(LogIndex state) const;

 private:
  // What the loop and the thread share; it outlives the applier in the completions that the loop has not run yet.
  struct Shared {
    Shared(Clock& clock, StateMachine& machine_in, LogStore& store_in)
        : machine(machine_in), store(store_in), slow(clock, "apply") {}
    StateMachine& machine;
    LogStore& store;
    SlowSteps slow;            // the thread's
    LogIndex state_index = 0;  // the thread's
    mutable std::mutex mutex;
    CheckpointMeta position;      // under mutex
    LogIndex applying_index = 0;  // under mutex; of the entry that the machine is being given: it may have it already
    Term applying_term = 0;
    uint64_t applying_log_time_ms = 0;
    std::vector<AppliedEntry> applied;  // under mutex
    std::optional<Error> error;         // under mutex
  };
  static Result<AppliedEntry> apply_one(Shared& shared, const RaftEntry& entry);
  static void apply_all(Shared& shared, const std::vector<RaftEntryPtr>& entries);
  static void replay_all(Shared& shared, LogIndex from, LogIndex upto);
  static bool has_failed(Shared& shared);
  void submit(std::move_only_function<void(Shared&)> work);
  void finished();

  Callbacks callbacks_;
  bool failed_ = false;
  std::shared_ptr<Shared> shared_;
  std::shared_ptr<bool> alive_ =
      std::make_shared<bool>(true);  // completions hold it weakly: they may run after the applier is gone
  std::unique_ptr<BlockingPool> pool_;
};

}  // namespace cairn
