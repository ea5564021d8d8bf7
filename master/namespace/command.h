// What the masters' log holds: a LogEntry is the leader's time and seed, and commands that the state machine (machine.h) applies in order.
// Two kinds of command: a session's mutation (as the client sent it), and what the leader decides by itself: sessions, servers, keys, the
// life of chunks. The wire form is master/proto/command.capnp. Plain values; no thread or lifetime rules.
//
// Everything that a machine cannot know (time, chosen servers, who answered an order) travels in here; ids, versions and grace times are
// made by the machine. The rules named below are those of docs/consistency.md, "Versions".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/proto/chunk_types.h"
#include "common/proto/control_types.h"
#include "common/proto/meta_types.h"

namespace cairn {

struct LogContext {
  uint64_t index = 0;        // of the entry; rises, gaps are allowed (the engine has entries of its own)
  uint64_t term = 0;         // of the leader that made the entry
  uint64_t log_time_ms = 0;  // the sum of the time that leaders measured while they led; never falls
  int64_t wall_ns = 0;       // the leader's wall clock: file times and nothing else
  uint64_t seed = 0;         // randomness for this entry
};

// One of a session's namespace operations: exactly once by (session, sequence).
using SessionMutation = MutateRequest;

// ---------------------------------------------------------------- the cluster

// The first command of a log. kExists later.
struct MakeCluster {
  ClusterId cluster;
  uint32_t expected_servers = 0;     // the number of chunkservers it was made for; 0: not said
  uint8_t default_goal = 3;          // 1..kMaxGoal
  uint8_t default_min_copies = 2;    // lowered to the goal and to expected_servers
  uint32_t session_ms = 10'000;      // a session's time from its last renewal, in log time
  uint32_t delete_grace_ms = 60'000; // log time between the end of a chunk's record and the order that deletes its bytes
  uint32_t root_mode = 0755, root_uid = 0, root_gid = 0;
};
// The new key capabilities are signed with; the one before stays valid. Its id must be above the current one (else kConflict).
struct RotateKeys { CapabilityKey key; };
// Each second while sessions exist, and sooner while Machine::work_pending(): moves log time, ends sessions whose time is over, does a
// bounded part of the work that removals, large truncates and ended sessions left behind.
struct Tick {};

// ---------------------------------------------------------------- sessions

struct OpenSession { std::string host, mountpoint, program; };   // -> OpenSessionReply
struct RenewSessions { std::vector<SessionId> sessions; };       // -> RenewSessionsReply
// An end by the client's wish, or by the leader's: its orphans are released, unused grants are garbage, chunks it left open go to the
// recovery list (Machine::chunks_to_recover). A session that is not there is no error.
struct EndSession { SessionId session; };

// ---------------------------------------------------------------- chunkservers

// New or back. A changed boot id makes the replicas it has of open chunks unverified (rule 8). -> RegisterServerResult
struct RegisterServer {
  ServerId server;
  std::string address, domain, program, boot_id;
  uint64_t incarnation = 0;
};
// Forgets a server that has no chunks any more (else kNotEmpty).
struct RemoveServer { ServerId server; };

// ---------------------------------------------------------------- chunks

enum class ReplicaState : uint8_t {
  kCurrent = 1,  // a copy: everything of the chunk's version (in an open chunk: as far as it is synced)
  kJoining = 2,  // takes new writes of an open chunk, older bytes are on their way (rule 6): not a copy
  kBad = 3,      // it answered with a wrong checksum
  kMissing = 4,  // the server says that it does not have it
};
struct ReplicaSpec {
  ServerId server;
  ReplicaState state = ReplicaState::kCurrent;
  // Of the server's process when it answered what this rests on. If the server has started again since, the replica counts as unverified
  // while the chunk is open. 0: as it is registered now.
  uint64_t incarnation = 0;

  bool operator==(const ReplicaSpec&) const = default;
};

// Rule 5, first half: `survivors` (of the present set) and `joiners` (new servers) are to record a new version, which the machine chooses:
// above every version ever begun. Compare-and-swap on (version, state, pending). With a session: it is to write afterwards, and the set must
// reach min_copies (kTooFewReplicas); the chunk must be sealed or already that session's (kBusy). Without: recovery or repair. -> RaiseBegun
struct BeginRaise {
  ChunkId chunk;
  uint64_t expected_version = 0;
  ChunkState expected_state = ChunkState::kSealed;
  uint64_t expected_pending = 0;      // the version of the pending raise that this one replaces; 0: there is none
  SessionId session;
  std::vector<ServerId> survivors, joiners;
};
// Rule 5, second half: the raise that is pending with `version` is active, with those who did what was asked. The others leave the set, and what
// they hold becomes garbage. With `seal` the chunk is sealed: every replica named is equal and on disk (recovery, rules 7 and 8).
struct FinishRaise {
  struct Seal { uint32_t length = 0, allocated_bytes = 0; };
  ChunkId chunk;
  uint64_t version = 0;
  std::vector<ReplicaSpec> replicas;  // in the order of the chain
  std::optional<Seal> seal;
};
// Only for a raise of which no order has left: a replica that recorded the version takes no lower one any more. The version is not used again.
struct AbandonRaise { ChunkId chunk; uint64_t version = 0; };
// Rule 9: all replicas are equal and on disk. kConflict unless open at that version, attached to a file, nothing pending, nobody joining.
struct SealChunk { ChunkId chunk; uint64_t version = 0; uint32_t length = 0, allocated_bytes = 0; };
// Rule 11: a sealed chunk's new set (after a copy, or to shed what is over the goal). Compare-and-swap on version and state. Never fewer current copies
// than before, except down to the goal (kTooFewReplicas). Adding a server for which garbage of that version is queued: kConflict. Who is left out becomes garbage.
struct SetReplicas { ChunkId chunk; uint64_t expected_version = 0; std::vector<ReplicaSpec> replicas; };
// One replica's state, by compare-and-swap: a joiner that is complete, a replica that was copied anew.
struct MarkReplica {
  ChunkId chunk;
  uint64_t expected_version = 0;
  ServerId server;
  ReplicaState expected = ReplicaState::kJoining, state = ReplicaState::kCurrent;
  uint64_t incarnation = 0;           // as in ReplicaSpec
};
// What a server said of its own chunks (kBad or kMissing); those that it is not named for, or in another version (0: any), are skipped.
struct MarkReplicas {
  struct Item { ChunkId chunk; uint64_t version = 0; };
  ServerId server;
  ReplicaState state = ReplicaState::kBad;
  std::vector<Item> chunks;
};
// Chunks a server holds and that no record names it for (rule 10): kept for the grace time too. Those that a record does name it for, or of
// an id not yet given out, are skipped.
struct AddGarbage {
  struct Item { ChunkId chunk; uint64_t version = 0; };  // up to this version
  ServerId server;
  std::vector<Item> chunks;
};
// The order has been carried out, or is called off.
struct RemoveGarbage { ServerId server; std::vector<ChunkId> chunks; };

// The session no longer has these inodes open: if they are orphans it lets go of them. The leader proposes it when a client closes files.
struct CloseInodes { SessionId session; std::vector<InodeId> inodes; };

// Forgets a server that is gone for good, whatever it held: its replicas leave their records with the next ticks. (The leader has made sure that
// nothing is lost with it, or was told to give that up.)
struct DropServer { ServerId server; };

// ---------------------------------------------------------------- a state that comes from an export (ops/restore.cc)

// The first command on such a state. Masters that are lost may have gone on for any time after the export was made, so every counter goes up by
// kRestoreMargin: no inode, chunk, session or version is given out twice. Sessions end; keys of capabilities are forgotten; nothing that only
// servers know is garbage until AcceptRestore.
enum class RestoreSource : uint8_t { kExport = 1, kRescue = 2 };
struct BeginRestore {
  RestoreSource source = RestoreSource::kExport;
  uint64_t taken_ns = 0;
};
// Above everything that masters can have given out between two restores: 50,000 a second for 700 years; as log time, 34 years.
inline constexpr uint64_t kRestoreMargin = 1ull << 40;
// What a server holds of chunks that the records have otherwise. The newest version that a server has whole is the chunk's; who has that
// version is a replica. Chunks that a raise made newer are left to recovery (rules 7 and 8). Only until SettleRestore (kConflict).
struct AdoptReplicas {
  struct Item {
    ChunkId chunk;
    uint64_t version = 0;
    ChunkState state = ChunkState::kOpen;
    uint8_t complete = 0, verified = 0;
    uint32_t length = 0;
  };
  ServerId server;
  uint64_t incarnation = 0;
  std::vector<Item> chunks;
};
// Every server has been heard: chunks may be used.
struct SettleRestore {};
// The operator says that what only servers know is not needed: from now on it is garbage as always. kBusy before SettleRestore.
struct AcceptRestore {};
// A chunk that a server holds of a file, and that is newer than the state: it becomes part of the file if its place there is free or has an older
// chunk; of a file that is not known it makes /lost+found/inode-N. Its version and replicas come with AdoptReplicas. kStale if it is older than what
// is known.
struct AttachFound {
  InodeId inode;
  uint32_t index = 0;
  ChunkId chunk;
  uint32_t length = 0, allocated_bytes = 0;
};

// ---------------------------------------------------------------- dumps of the metadata that are kept as chunks (ops/kept_dumps.cc)

// A dump is a file without a name, whose inode says what it is (kKeptDumpInodeBase): begun, given its chunks one after the other, and finished,
// which removes all but the newest two. -> MutationReply: attributes.inode
struct BeginKeptDump {};
// The next chunk of it, on these servers, for the leader to write. -> MutationReply: grants
struct GrantKeptDumpChunk {
  InodeId inode;
  std::vector<ServerId> servers;
};
// Everything is written and on disk on every replica.
struct FinishKeptDump {
  InodeId inode;
  uint64_t size = 0;
};

// ---------------------------------------------------------------- locks of files (ops/locks.cc)

// All locks of all sessions on the inode go; no error if there are none. The leader has had them handed over to it before. -> BrokenLocks
struct BreakLocks { InodeId inode; };

using Command = std::variant<SessionMutation, MakeCluster, RotateKeys, Tick, OpenSession, RenewSessions, EndSession, RegisterServer, RemoveServer,
                             BeginRaise, FinishRaise, AbandonRaise, SealChunk, SetReplicas, MarkReplica, MarkReplicas, AddGarbage, RemoveGarbage, CloseInodes,
                             DropServer, BeginRestore, AdoptReplicas, SettleRestore, AcceptRestore, AttachFound,
                             BeginKeptDump, GrantKeptDumpChunk, FinishKeptDump, BreakLocks>;

struct LogEntry {
  LogContext context;
  std::vector<Command> commands;
};

// ---------------------------------------------------------------- replies

struct RenewSessionsReply { std::vector<SessionId> ended; };     // of those asked for: they are gone
struct TickReply { std::vector<SessionId> ended; };              // whose time ran out with this tick
struct RegisterServerResult { bool is_new = false, rebooted = false, restarted = false; };
struct RaiseBegun { uint64_t version = 0; };
struct BrokenLocks { std::vector<FileLock> locks; };             // that went

using ReplyBody = std::variant<EmptyReply, MutationReply, OpenSessionReply, RenewSessionsReply, TickReply, RegisterServerResult, RaiseBegun,
                               BrokenLocks>;
// One a command, in order.
using Reply = Result<ReplyBody>;

}  // namespace cairn
