// What chunkservers tell masters, and what administrators ask them, as plain values. Wire form: control.capnp and admin.capnp.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/proto/chunk_types.h"
#include "common/proto/meta_types.h"

namespace cairn {

// ---------------------------------------------------------------- chunkserver to master

struct SpaceReport {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;       // what may still be written, reserve taken off
  uint64_t chunks = 0;
  uint32_t stores = 0;           // data directories in use
  uint32_t stores_failed = 0;
};
struct RegisterServerRequest {
  ServerId server;
  ClusterId cluster;             // zero: new, belongs to none yet; the answer tells
  std::string address;           // where others reach it
  std::string domain;            // failure domain ("rack1", default: the host's name); empty: none said
  std::string program;
  uint64_t incarnation = 0;
  std::string boot_id;
  SpaceReport space;
};
struct CapabilityKey { uint32_t id = 0; std::string key; };
struct RegisterServerReply { ClusterId cluster; uint64_t term = 0; uint64_t log_time_ms = 0; std::vector<CapabilityKey> keys; uint32_t heartbeat_ms = 0; };
struct HeartbeatRequest {
  ServerId server;
  uint64_t incarnation = 0;
  SpaceReport space;
  std::vector<ChunkId> bad_chunks;      // a checksum failed, or the store that held them is gone, since the last one
};
struct HeartbeatReply { uint64_t term = 0; uint64_t log_time_ms = 0; std::vector<CapabilityKey> keys; bool register_again = false; };
// All chunks, in pages, after registering; first/last mark the ends. The master reconciles with its records when it has the last.
struct ChunkReportRequest { ServerId server; uint64_t incarnation = 0; bool first = false; bool last = false; std::vector<ReplicaStatus> chunks; };

// ---------------------------------------------------------------- administration

struct StatusRequest {};
struct ServerStatus {
  ServerId server;
  std::string address, domain, program;
  bool alive = false;
  uint64_t silent_ms = 0;        // since its last heartbeat
  SpaceReport space;
};
struct SessionStatus {
  SessionId session;
  std::string host, mountpoint, program;
  uint64_t idle_ms = 0, open_files = 0;
  uint64_t shared_leases = 0, exclusive_leases = 0, unanswered_recalls = 0;
};
struct ChunkHealth {
  uint64_t total = 0, healthy = 0, under_goal = 0, at_risk = 0, lost = 0, open = 0, unverified = 0, over_goal = 0, garbage = 0;
};
struct StatusReply {
  ClusterId cluster;
  std::string program;
  uint64_t term = 0;
  uint64_t log_time_ms = 0;
  uint64_t inodes = 0;
  uint64_t applied_index = 0;
  uint8_t default_goal = 0;
  ChunkHealth health;
  std::vector<ServerStatus> servers;
  std::vector<SessionStatus> sessions;
  std::vector<std::string> warnings;  // for people: "goal 3 but only 2 chunkservers are alive"
};
struct InfoRequest { InodeId inode; uint32_t first_index = 0; uint32_t count = 1024; };
struct ReplicaInfo { ServerId server; std::string address; bool alive = false; std::string state; };  // state: "ok", "missing", "unverified", "bad", ...
struct ChunkInfo {
  uint32_t index = 0;
  ChunkId chunk;
  uint64_t version = 0;
  ChunkState state = ChunkState::kSealed;
  uint32_t length = 0;
  std::vector<ReplicaInfo> replicas;
};
// Forgets a chunkserver that is gone for good, and what it held. Refused with kBusy while it is heard of, and with kNotEmpty while a file has no
// copy elsewhere that can be reached now, unless `force` gives those up.
struct RemoveServerRequest { ServerId server; bool force = false; };
struct RemoveServerReply {
  uint64_t chunks = 0;                // had a replica there
  uint64_t lost = 0;                  // of them had none elsewhere
  std::vector<InodeId> lost_inodes;   // whose chunks those were; the first few
};
struct InfoReply { Attributes attributes; std::vector<ChunkInfo> chunks; uint64_t chunks_total = 0; };

// ---------------------------------------------------------------- the masters' group

enum class MasterRole : uint8_t {
  kVoter = 1,    // its vote counts, in elections and for what is committed
  kStandby = 2,  // has the log, but no vote
  kSpare = 3,    // is only known; catches up before it becomes more
};
struct MasterMember {
  MasterId master;
  std::string address;
  MasterRole role = MasterRole::kVoter;
  uint64_t match_index = 0;      // known to be equal and on its disk up to here; only the leader knows, else 0
  uint64_t silent_ms = 0;        // since the leader last heard of it; 0: of itself, or who answers does not lead
};
// Answered by every master, whether it leads or not.
struct MasterStatusRequest {};
struct MasterStatusReply {
  ClusterId cluster;
  MasterId master;               // who answers
  std::string address;
  std::string program;
  bool leading = false;
  bool joining = false;          // its folder belongs to no group yet: it waits for add_master
  uint64_t term = 0;
  MasterId leader;               // zero: not known
  std::string leader_address;
  uint64_t last = 0;             // log indices: the newest on its disk,
  uint64_t committed = 0;
  uint64_t applied = 0;
  uint64_t first = 0;            // the oldest in its log
  uint64_t checkpoint = 0;       // the newest durable one
  uint64_t log_bytes = 0;        // on its disk, with what is kept for reuse
  bool disk_low = false;         // below the reserve
  std::vector<MasterMember> members;
};
// Takes the master that waits at `address` into the group and makes it a voter; may take minutes (it first gets the
// state). Asking again for the same address goes on where it stopped, and answers at once for one that is a voter.
struct AddMasterRequest { std::string address; };
struct AddMasterReply { MasterId master; };
struct RemoveMasterRequest { MasterId master; };
struct TransferLeadershipRequest { MasterId to; };  // zero: to any that is up to date
struct TransferLeadershipReply { MasterId leader; };

// ---------------------------------------------------------------- the metadata as a file (common/dump), and back

// One part of an export, as the answer's payload. `export_id` 0 begins one. The last part may be asked for again, so that a lost answer costs nothing.
struct ExportRequest { uint64_t export_id = 0; uint64_t part = 0; };
struct ExportReply { uint64_t export_id = 0; bool last = false; };
// What servers hold and no file has, after the state was restored from an export; and what files miss.
struct UnknownChunk { ChunkId chunk; InodeId inode; uint32_t index = 0; uint32_t length = 0; uint64_t version = 0; uint32_t replicas = 0; };
struct RestoreStatusRequest { ChunkId after; uint32_t count = 1024; };
struct RestoreStatusReply {
  bool restored = false;               // and not accepted
  bool from_chunkservers = false;
  int64_t taken_ns = 0;
  bool settled = false;                // every server has been heard
  std::vector<std::string> waiting_for;
  uint64_t unknown_chunks = 0, unknown_bytes = 0;
  uint64_t stale_replicas = 0;         // of chunks that are known, on servers that their records do not name
  uint64_t lost_chunks = 0;
  std::vector<UnknownChunk> chunks, lost;
};
// What only servers know becomes garbage from now on. kBusy before all have been heard.
struct AcceptRestoreRequest {};

// ---------------------------------------------------------------- who holds what up (cairn lock, cairn why)

struct SessionName { SessionId session; std::string host; std::string mountpoint; };
struct LockInfo {
  InodeId inode;
  FileLock lock;
  bool waits = false;                  // for it; else it is held
};
// Of one inode, after whoever decides its locks alone has handed them over; 0: all that the master knows.
struct ListLocksRequest { InodeId inode; };
struct ListLocksReply {
  std::vector<LockInfo> locks;
  std::vector<SessionName> sessions;   // that occur in them
  bool more = false;                   // there are too many to list
};
struct BreakLocksRequest { InodeId inode; };
struct BreakLocksReply { std::vector<LockInfo> locks; std::vector<SessionName> sessions; };  // that were taken away

struct LeaseInfo {
  SessionId session;
  bool exclusive = false;
  bool recalled = false;               // has been asked about it, and has not answered
  uint64_t recalled_ms = 0;            // for so long
};
struct ChangeInfo {
  SessionId session;                   // that changes it; 0: a command
  RecallKind kind = RecallKind::kAttributes;  // what others have to forget; kWriter: it is to hold it exclusively
  std::string name;                    // kName
  uint64_t unanswered = 0;             // recalls that it waits for
};
struct WhyRequest { InodeId inode; };
struct WhyReply {
  Attributes attributes;
  std::vector<LeaseInfo> leases;
  std::vector<ChangeInfo> changes;     // under way
  std::vector<LockInfo> locks;
  bool locks_are_local = false;        // who holds it exclusively may have more, decided there
  std::vector<SessionId> open;         // that have it open
  std::vector<ChunkId> writing;        // chunks of it that are open for writing; the first few
  std::vector<SessionName> sessions;   // that occur above
};

}  // namespace cairn
