// ReplicatedLog: the masters' log and the state machine behind it. What is proposed is written to the log of a majority
// (with one voter: to this disk), then applied in order, then answered. Over libraft's pure core (raft_core.h); the
// disk is log_store.h and snapshot_store.h.
//
// Thread rule: everything of ReplicatedLog is for the loop. StateMachine's methods run on threads of the log's own:
// open(), apply() and close() one after the other, never two at once; checkpoint() possibly while apply() runs.
// Lifetime rule: World, StateMachine and Peers outlive the log; stop() is awaited before the log is destroyed.
// Destroying it without stop() is a crash: nobody learns what became of what was proposed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/units.h"
#include "common/runtime/clock.h"
#include "common/runtime/task.h"
#include "common/runtime/world.h"

namespace cairn {

using LogIndex = uint64_t;  // of an entry; the first is 1
using Term = uint64_t;

// A command in the form that the state machine works on. The proposer may hand it over beside the encoded bytes, so
// that the leader does not decode what it has just encoded.
struct DecodedCommand {
  virtual ~DecodedCommand() = default;
};

// What the state machine answers to one command; the log only carries it from apply() to the proposer.
struct CommandReply {
  virtual ~CommandReply() = default;
};

// What the leader decided for all commands of one entry, so that apply is deterministic.
struct EntryContext {
  LogIndex index = 0;
  Term term = 0;
  uint64_t log_time_ms = 0;  // the time leaders have led so far; never goes back from one entry to the next
  WallTime wall;             // the leader's; for file times only; may go back
  uint64_t seed = 0;         // for choices of the state machine that look random
};

struct EntryCommand {
  std::string_view bytes;  // as proposed; lives until apply() returns
  const DecodedCommand* decoded =
      nullptr;  // of the same command, if its proposer was this process; else null: decode `bytes`
};

// Deterministic: the same entries in the same order give the same state and the same replies.
class StateMachine {
 public:
  virtual ~StateMachine() = default;

  // Opens the state in `folder` (empty or missing: a new one). The index of the last entry that it holds, 0 for a new
  // one. kCorrupt when it cannot be opened: it is then made anew from a checkpoint and the log.
  virtual Result<LogIndex> open(const std::string& folder) = 0;
  // Lets go of the folder. No checkpoint() runs. open() may follow.
  virtual void close() = 0;

  // One entry, whose index is above that of every entry before. `commands` may be empty: log time has moved on (a tick,
  // or a new leader). One reply a command, in their order; null stands for "nothing to say". The index is to be stored
  // in the same batch as the changes; nothing needs a sync. An error ends the process: the state can no longer follow
  // the log.
  virtual Result<std::vector<std::unique_ptr<CommandReply>>> apply(const EntryContext& entry,
                                                                   std::span<const EntryCommand> commands) = 0;

  // A durable copy in the new folder `target`, which open() accepts once copied elsewhere. Calls `freeze` once, while
  // no change can come in between (KvStore::checkpoint is the same), with the index of the last entry in the copy.
  virtual Result<void> checkpoint(const std::string& target, const std::function<void(LogIndex)>& freeze) = 0;
};

class Peers;

struct ReplicatedLogOptions {
  std::string folder;  // made by initialise_master_folder()
  ClusterId cluster;   // must be the folder's; kWrongCluster if not
  uint64_t segment_size_bytes = 64 * kMiB;
  uint64_t checkpoint_log_bytes = 256 * kMiB;              // a checkpoint when so much log has come since the last one,
  Duration checkpoint_interval = std::chrono::minutes(5);  // or when changes are this old
  uint64_t trailing_entries = 10'000;    // kept in the log behind the newest checkpoint (design.md 3.5, M6),
  uint64_t trailing_bytes = 256 * kMiB;  // less where this is reached first
  uint64_t reserve_bytes = 256 * kMiB;   // of free disk: below it only what may use the reserve is accepted
  Duration tick_interval = 1s;
  Duration election_timeout = 500ms;
  Duration heartbeat = 50ms;
  // Asked on the loop each tick_interval while leading: should log time move although nothing is proposed? Sessions
  // exist.
  std::function<bool()> ticks_wanted;
  // On the loop, whenever leadership comes or goes, before anything of the new state is answered.
  std::function<void(bool leading, Term term)> on_leadership;
  // On the loop, once: the log's disk or the state machine failed; nothing is answered any more. The process must end:
  // after a failed sync nobody knows what is on disk. Without it: a log line and abort().
  std::function<void(const Error& error)> on_fatal;
  // On the loop, once: this master lagged behind what the others still have of the log, and a checkpoint of theirs
  // stands in its folder now. It takes no part any more until it is stopped and opened again.
  std::function<void()> on_reopen;
};

struct Proposal {
  std::string bytes;  // at most kMaxCommandBytes
  std::unique_ptr<DecodedCommand> decoded;
  bool may_use_reserve = false;  // what frees space is accepted on a full disk too
};
inline constexpr uint64_t kMaxEntryBytes = 256 * kKiB;
inline constexpr uint64_t kMaxCommandBytes = kMaxEntryBytes - 64;  // an entry's own fields
// Proposals that wait in memory; more are refused with kOverload.
inline constexpr uint64_t kMaxQueuedProposalBytes = 16 * kMiB;

struct Committed {
  LogIndex index = 0;
  Term term = 0;
  uint64_t log_time_ms = 0;
  std::unique_ptr<CommandReply> reply;
};

struct LogStatus {
  bool leading = false;
  Term term = 0;
  MasterId master;  // this one
  MasterId leader;  // none while unknown
  std::string leader_address;
  LogIndex last = 0;  // appended here
  LogIndex committed = 0;
  LogIndex applied = 0;
  LogIndex first = 0;       // oldest in the log
  LogIndex checkpoint = 0;  // newest durable
  uint64_t log_bytes = 0;   // on disk, with what is kept for reuse
  bool disk_low = false;    // below the reserve
  bool member = false;      // of the group, as far as this master knows
  bool removed = false;     // others say that they removed it
};

enum class GroupRole : uint8_t { kVoter = 0, kStandby = 1, kSpare = 2 };
struct GroupMember {
  MasterId master;
  std::string address;
  GroupRole role = GroupRole::kVoter;
  LogIndex match = 0;       // stored there, as far as the leader knows
  uint64_t silent_ms = 0;   // since it was last heard; 0 for this master itself
};

class ReplicatedLog {
 public:
  // Recovers what the folder holds, joins the group and, as its only voter, leads it before it returns. kBusy: the
  // folder is in use. kWrongCluster, kNotFound (no such folder, or never initialised), kCorrupt with the file, the
  // offset and the way out.
  static Task<Result<std::unique_ptr<ReplicatedLog>>> open(World& world, ReplicatedLogOptions options,
                                                           StateMachine& machine, Peers* peers = nullptr);
  virtual ~ReplicatedLog() = default;

  // Logs and applies a command; the reply is the state machine's. kNotLeader ("id address term" of the leader when
  // known): nothing happened. kUnavailable: leadership was lost on the way, the outcome is unknown. kTooBig, kOverload,
  // kNoSpace: refused, nothing happened. kCancelled: stopping.
  virtual Task<Result<Committed>> propose(Proposal proposal) = 0;

  // When it returns without an error, the state holds everything that was acknowledged before the call, by any master.
  // kNotLeader otherwise.
  virtual Task<Result<void>> read_barrier() = 0;

  // The group. Each change is committed when it returns; asking again for what is there already does nothing. kNotLeader,
  // kUnavailable (leadership lost on the way), kTimeout (it may still happen), kBusy (another change is under way).
  virtual std::vector<GroupMember> members() const = 0;
  // First a spare that gets the log (or a checkpoint), then a voter. kExists: another member has the address.
  virtual Task<Result<void>> add_member(MasterId master, std::string address, TimePoint deadline) = 0;
  // kInvalid: it is the last voter. This master itself hands its leadership over and answers kNotLeader: ask there.
  virtual Task<Result<void>> remove_member(MasterId master, TimePoint deadline) = 0;
  // To a voter, or to whoever is furthest (0). kNotFound: no other voter.
  virtual Task<Result<void>> transfer_leadership(MasterId to, TimePoint deadline) = 0;

  // What Peers of other masters sent. Anything that does not fit is dropped.
  virtual void receive(std::string_view message) = 0;
  virtual Task<Result<std::string>> serve(std::string question) = 0;

  virtual bool leading() const = 0;
  virtual Term term() const = 0;
  // Log time now: while leading it moves with the clock; otherwise that of the last entry seen.
  virtual uint64_t log_time_ms() const = 0;
  virtual LogStatus status() const = 0;

  // Makes a checkpoint now (waits for one that runs) and removes what is no longer needed behind it.
  virtual Task<Result<LogIndex>> checkpoint() = 0;

  // Refuses what is new, waits for what is on its way, closes the state machine.
  virtual Task<void> stop() = 0;
};

// A new folder for the first master of a new cluster: itself the only voter. kExists if the folder is initialised
// already. Blocking.
Result<void> initialise_master_folder(Disk& disk, const std::string& folder, ClusterId cluster, MasterId master,
                                      const std::string& address);
// A new folder for a master that is to be added to a group: it waits to hear from a leader. Likewise.
Result<void> initialise_joining_folder(Disk& disk, const std::string& folder, ClusterId cluster, MasterId master,
                                       const std::string& address);

}  // namespace cairn
