// The records of the metadata store as values, with their encodings. Formats: docs/formats.md, "Metadata records". The first byte of each
// is the version of its format. Plain values; no thread or lifetime rules.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/proto/meta_types.h"
#include "master/namespace/command.h"

namespace cairn {

// A large truncate whose chunks are still being removed: a ChunkRef at or after `first_index` whose epoch is below `epoch` is dead.
struct CutRecord {
  uint32_t first_index = 0;
  uint32_t epoch = 0;
  bool operator==(const CutRecord&) const = default;
};

struct InodeRecord {
  Attributes attributes;
  InodeId parent;                // of a directory: ".."; the root's is itself
  uint64_t next_cookie = 3;      // of a directory: the next entry's
  uint32_t chunk_count = 0;      // ChunkRefs that are alive
  uint32_t xattr_count = 0;
  uint32_t xattr_bytes = 0;      // names and values
  uint32_t xattr_name_bytes = 0; // what a listing takes: each name and its NUL
  uint32_t epoch = 0;            // moves with each cut
  std::vector<CutRecord> cuts;
  std::string symlink_target;

  bool operator==(const InodeRecord&) const = default;
};

// Under (parent, name).
struct DentryRecord {
  InodeId inode;
  FileType type = FileType::kRegular;
  uint64_t cookie = 0;
};
// Under (parent, cookie).
struct CookieRecord {
  InodeId inode;
  FileType type = FileType::kRegular;
  std::string name;
};

// Under (inode, index): which chunk holds that part of the file.
struct ChunkRef {
  ChunkId chunk;
  uint32_t limit = UINT32_MAX;   // bytes at and above it read as zeros
  uint32_t allocated_bytes = 0;  // as last committed
  uint32_t epoch = 0;            // the inode's when it was attached
  bool operator==(const ChunkRef&) const = default;
};

enum class ChunkKind : uint8_t { kReplicated = 1 };

struct ReplicaRecord {
  ServerId server;
  ReplicaState state = ReplicaState::kCurrent;
  // The server's ServerRecord::boots when this replica was last known to be whole: while the chunk is open, another number there means unverified.
  uint32_t boots = 0;
  bool operator==(const ReplicaRecord&) const = default;
};
struct PendingRaise {
  uint64_t version = 0;
  SessionId session;             // who is to write afterwards; 0: nobody (recovery, repair)
  std::vector<ServerId> survivors, joiners;
  bool operator==(const PendingRaise&) const = default;
};
struct ChunkRecord {
  ChunkKind kind = ChunkKind::kReplicated;
  ChunkState state = ChunkState::kOpen;
  uint64_t version = 0;          // the active one
  uint64_t highest_version = 0;  // the highest one ever begun
  SessionId session;             // open: whose; sealed: who wrote last
  uint32_t refs = 0;             // ChunkRefs; 0: granted, not yet part of a file
  uint8_t goal = 0;
  uint8_t min_copies = 0;        // fixed when it was granted
  uint32_t length = 0;           // as sealed; open: as last known
  uint32_t allocated_bytes = 0;
  InodeId owner;                 // a hint
  uint32_t index = 0;            // in the owner
  std::vector<ReplicaRecord> replicas;  // in the order of the chain
  std::optional<PendingRaise> pending;

  const ReplicaRecord* replica_on(ServerId server) const;
  uint32_t current_copies() const;      // replicas in state kCurrent
  bool operator==(const ChunkRecord&) const = default;
};

struct SessionRecord {
  std::string host, mountpoint, program;
  uint64_t opened_ms = 0, renewed_ms = 0;  // log time
  uint64_t first_unacknowledged = 1;
  uint64_t highest_sequence = 0; // of the mutations it has sent
  bool ended = false;            // kept until its chunks are recovered
  bool cleaned = false;          // ended, and its replies, orphans and grants are gone
};

struct ServerRecord {
  std::string address, domain, program, boot_id;
  uint64_t incarnation = 0;
  uint32_t boots = 1;            // boot ids seen
  uint64_t registered_ms = 0;    // log time
};

struct GarbageRecord {
  uint64_t version = 0;          // up to this one
  uint64_t due_ms = 0;           // log time from which on it may be deleted
};

struct OrphanRecord { std::vector<SessionId> holders; };  // ascending

// What is left to do, in bounded steps by Tick.
struct WorkRecord {
  enum class Kind : uint8_t {
    kRemoveInode = 1,  // ChunkRefs and xattrs of an inode that is gone
    kCut = 2,          // dead ChunkRefs of an inode that lives
    kSetGoal = 3,      // the inode's goal, into its chunks
    kEndSession = 4,   // replies, orphans and grants of a session that has ended
    kForgetServer = 5, // the replicas and the garbage of a server that was removed
  };
  Kind kind = Kind::kRemoveInode;
  InodeId inode;
  SessionId session;
  ServerId server;
  uint64_t next = 0;             // where the next step begins: an index, a chunk
  CutRecord cut;
};

// While the state has come from an export (or from what chunkservers kept of one) and the operator has not accepted it.
struct RestoreRecord {
  RestoreSource source = RestoreSource::kExport;
  int64_t taken_ns = 0;          // wall clock when the export was made
  SessionId session;             // ended; whose the chunks are that have to be recovered because servers hold newer ones
  bool settled = false;          // versions and replicas are what the servers say; chunks may be used
  bool operator==(const RestoreRecord&) const = default;
};

struct ClusterRecord {
  ClusterId cluster;
  uint32_t expected_servers = 0;
  uint8_t default_goal = 0, default_min_copies = 0;
  uint32_t session_ms = 0, delete_grace_ms = 0;
  std::vector<CapabilityKey> keys;  // the current one first, then the one before
  // New versions of chunks are above it: masters that are lost may have given out any below. 0: never restored.
  uint64_t version_floor = 0;
  std::optional<RestoreRecord> restore;
};

// Changes with every entry.
struct CounterRecord {
  uint64_t applied_index = 0, applied_term = 0;
  uint64_t log_time_ms = 0;
  uint64_t term_began_ms = 0;    // log time of the term's first entry: no session's time began before it
  uint64_t next_inode = 2, next_chunk = 1, next_session = 1, next_work = 1;
  uint64_t inodes = 0;           // those with a name, the root among them, and orphans
  uint64_t orphans = 0;
  uint64_t sessions = 0;         // not ended
  uint64_t servers = 0;
  uint64_t work = 0;             // WorkRecords
  uint64_t allocated_bytes = 0;  // of all inodes, one copy
  // Chunks that are part of a file, by what their records say (not by who is alive).
  uint64_t chunks = 0, healthy = 0, under_goal = 0, one_copy = 0, lost = 0, over_goal = 0, open = 0;
  uint64_t granted = 0;          // chunks not yet part of a file
  uint64_t garbage = 0;          // GarbageRecords
  bool operator==(const CounterRecord&) const = default;
};

std::string encode(const InodeRecord& r);
std::string encode(const DentryRecord& r);
std::string encode(const CookieRecord& r);
std::string encode(const ChunkRef& r);
std::string encode(const ChunkRecord& r);
std::string encode(const SessionRecord& r);
std::string encode(const ServerRecord& r);
std::string encode(const GarbageRecord& r);
std::string encode(const OrphanRecord& r);
std::string encode(const WorkRecord& r);
std::string encode(const ClusterRecord& r);
std::string encode(const CounterRecord& r);

// kCorrupt for what cannot be decoded. The record's own id is not in it: `inode` of the attributes is set by who reads it.
Result<void> decode(std::string_view bytes, InodeRecord& r);
Result<void> decode(std::string_view bytes, DentryRecord& r);
Result<void> decode(std::string_view bytes, CookieRecord& r);
Result<void> decode(std::string_view bytes, ChunkRef& r);
Result<void> decode(std::string_view bytes, ChunkRecord& r);
Result<void> decode(std::string_view bytes, SessionRecord& r);
Result<void> decode(std::string_view bytes, ServerRecord& r);
Result<void> decode(std::string_view bytes, GarbageRecord& r);
Result<void> decode(std::string_view bytes, OrphanRecord& r);
Result<void> decode(std::string_view bytes, WorkRecord& r);
Result<void> decode(std::string_view bytes, ClusterRecord& r);
Result<void> decode(std::string_view bytes, CounterRecord& r);

}  // namespace cairn
