// What a client and a master say to one another, as plain values. The wire form is meta.capnp; codec.h turns one into the other. The state
// machine (master/namespace) applies the mutations as they are here. No Cap'n Proto, no Asio in this header.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/proto/chunk_types.h"

namespace cairn {

enum class FileType : uint8_t {
  kRegular = 1, kDirectory = 2, kSymlink = 3, kFifo = 4, kSocket = 5, kCharDevice = 6, kBlockDevice = 7,
};

// Nanoseconds since 1970; before it negative.
using FileTime = int64_t;

struct Attributes {
  InodeId inode;
  FileType type = FileType::kRegular;
  uint32_t mode = 0;            // permission bits with set-id and sticky: 07777
  uint32_t uid = 0;
  uint32_t gid = 0;
  uint32_t nlink = 0;           // of a directory: 2 + subdirectories
  uint32_t rdev = 0;            // devices: the kernel's 32-bit encoding
  uint64_t size = 0;            // bytes; a directory's: number of entries; a symlink's: its target's length
  uint64_t allocated_bytes = 0; // what its chunks hold of data (one copy), as last committed
  FileTime atime = 0, mtime = 0, ctime = 0, btime = 0;
  uint64_t change = 0;          // moves with every change of the inode; of a directory also with its entries
  uint64_t data_change = 0;     // moves when the content (data or size) changes
  uint8_t goal = 0;             // replicas wanted
  uint8_t min_copies = 0;       // replicas without which fsync does not succeed

  bool operator==(const Attributes&) const = default;
};

// A writer that has had no write lease for so long asks for a file's chunks anew before it writes or reads them as its
// own; twice as long without a lease, and the master seals them (master/service/idle_chunks.cc).
inline constexpr uint32_t kWriterKeepsChunksMs = 30'000;
inline constexpr uint32_t kIdleChunkSealMs = 60'000;

// How long what came with it may be used without asking again: counted from the sending of the request. Zero: this answer only.
struct Lease {
  uint32_t duration_ms = 0;
  uint64_t term = 0;      // of the master that gave it
  uint64_t sequence = 0;  // of the object, moves with each grant and recall

  bool operator==(const Lease&) const = default;
};

// ---------------------------------------------------------------- locks of files (docs/decisions/008-locks.md)

// fcntl's byte ranges (of a process, or of an open file description: the kernel tells them apart by the owner only), and flock's whole files: two
// worlds that know nothing of each other.
enum class LockKind : uint8_t { kPosix = 1, kFlock = 2 };
enum class LockMode : uint8_t { kUnlock = 1, kShared = 2, kExclusive = 3 };
inline constexpr uint64_t kLockRangeEnd = INT64_MAX;  // as `end`: to the end of the file, wherever that is
struct FileLock {
  SessionId session;
  uint64_t owner = 0;           // who holds it, as the session's kernel names it
  LockKind kind = LockKind::kPosix;
  LockMode mode = LockMode::kShared;
  uint64_t start = 0;
  uint64_t end = kLockRangeEnd; // the last byte; of a flock always kLockRangeEnd
  uint32_t pid = 0;             // of the process that set it, on the session's machine

  bool operator==(const FileLock&) const = default;
};

// ---------------------------------------------------------------- mutations: logged, applied exactly once

struct CreateOp {               // mkdir, mknod, symlink and create are one
  InodeId parent;
  std::string name;
  FileType type = FileType::kRegular;
  uint32_t mode = 0;            // after the umask
  uint32_t uid = 0, gid = 0;    // a set-gid parent overrides gid (and gives a new directory the bit)
  uint32_t rdev = 0;
  std::string symlink_target;
  bool open = false;            // the session holds it open from now on
};
struct LinkOp {
  InodeId inode;
  InodeId new_parent;
  std::string new_name;
};
struct UnlinkOp {
  InodeId parent;
  std::string name;
  std::vector<SessionId> holders;  // filled in by the leader: sessions that have it open (they keep it as an orphan)
};
struct RmdirOp {
  InodeId parent;
  std::string name;
};
struct RenameOp {
  InodeId parent;
  std::string name;
  InodeId new_parent;
  std::string new_name;
  bool no_replace = false;         // RENAME_NOREPLACE
  bool exchange = false;           // RENAME_EXCHANGE
  std::vector<SessionId> holders;  // as in UnlinkOp, of a file that is replaced
};
struct SetAttributesOp {
  InodeId inode;
  std::optional<uint32_t> mode, uid, gid;
  std::optional<uint64_t> size;    // truncate or extend; also moves mtime
  std::optional<FileTime> atime, mtime;
  bool atime_now = false, mtime_now = false;
  bool clear_set_id = false;       // a write or truncate by somebody without CAP_FSETID
};
struct SetXattrOp {
  InodeId inode;
  std::string name;
  std::string value;
  bool create_only = false, replace_only = false;
};
struct RemoveXattrOp {
  InodeId inode;
  std::string name;
};
// Makes written data part of the file. The data is durable on its replicas before this is sent.
struct CommitOp {
  struct Chunk {
    uint32_t index = 0;            // of the file
    ChunkId chunk;
    uint64_t version = 0;          // the version that was written
    uint32_t allocated_bytes = 0;  // what the chunk holds now
    bool trimmed = false;          // the writer has cut the chunk to the file's recorded limit (ChunkRef.limit is lifted)
    uint32_t length = 0;           // end of the furthest byte in the chunk
    bool seal = false;             // everything written is on disk on every replica of this version, and the session writes this version no
                                   // more: the record becomes sealed; writing again needs OpenChunk (a new version)
  };
  InodeId inode;
  std::optional<uint64_t> size_at_least;  // the end of the furthest write; the size never shrinks by a commit
  std::optional<FileTime> mtime;          // of the last write
  bool clear_set_id = false;
  std::vector<Chunk> chunks;
};
struct SetGoalOp {
  InodeId inode;
  uint8_t goal = 0;                       // 1..kMaxGoal; 0: keep
  uint8_t min_copies = 0;                 // 0: keep (lowered to the goal if above)
};
// The session's last handle on these (orphaned) inodes is closed.
struct ReleaseOrphansOp {
  std::vector<InodeId> inodes;
};
// New chunks for files to come. Servers are filled in by the leader (placement); ids and versions by the machine.
struct GrantChunksOp {
  uint8_t goal = 0;
  uint8_t min_copies = 0;
  std::vector<std::vector<ServerId>> placements;  // one a chunk
  std::vector<ServerId> avoid = {};               // that do not answer this client; empty in the log
};
// Chunks granted and not used: given back (the session ends, or goes another way).
struct ReturnChunksOp {
  std::vector<ChunkId> chunks;
};

// Sets or (kUnlock) takes away one range of one owner of this session. What another owner has in the way is in the reply, and nothing is changed then
// (but of a flock that is to change its mode, which is gone: flock(2)).
struct SetLockOp {
  InodeId inode;
  FileLock lock;
};
// All locks that this session has on the inode, in place of those that are known: it held them under its exclusive lease, which it is about to give
// back. kConflict, and nothing is changed, if another session has one in the way.
struct ReplaceLocksOp {
  InodeId inode;
  std::vector<FileLock> locks;
};
// These owners of this session have no lock on the inode any more.
struct ReleaseLocksOp {
  InodeId inode;
  std::vector<uint64_t> owners;
};

using MetaOp = std::variant<CreateOp, LinkOp, UnlinkOp, RmdirOp, RenameOp, SetAttributesOp, SetXattrOp, RemoveXattrOp, CommitOp, SetGoalOp,
                            ReleaseOrphansOp, GrantChunksOp, ReturnChunksOp, SetLockOp, ReplaceLocksOp, ReleaseLocksOp>;

// A chunk that this session may write.
struct ChunkGrant {
  ChunkId chunk;
  uint64_t version = 0;
  std::vector<ReplicaAddress> replicas;  // the chain, in order
  uint8_t min_copies = 0;
  std::string capability;                // signed; read and write

  bool operator==(const ChunkGrant&) const = default;
};

struct MutationReply {
  Attributes attributes;              // of the object (created, changed, unlinked: as it is now)
  Attributes parent;                  // of the directory it happened in (rename: the old one)
  Attributes new_parent;              // rename and link: the new one
  Attributes replaced;                // rename: what was replaced (or exchanged), if anything
  std::vector<ChunkGrant> grants;     // GrantChunksOp
  Lease lease;                        // on `attributes`, and on the name for CreateOp
  Lease parent_lease;                 // on `parent` and `new_parent`: their attributes and the absence of names
  std::optional<FileLock> conflict;   // SetLockOp: what is in the way
  bool locked_elsewhere = true;       // ops on locks: another session has a lock on the inode, or waits for one; filled in by the leader
  bool leased_elsewhere = true;       // likewise: another session has a lease on it
  bool repeated = false;              // at the masters, not on the wire: what was answered before, as it was then

  bool operator==(const MutationReply&) const = default;
};

struct MutateRequest {
  SessionId session;
  uint64_t sequence = 0;              // of the session, from 1; a retry has the same
  uint64_t first_unacknowledged = 0;  // replies below it are no longer needed
  FileTime now = 0;                   // the client's estimate of the master's wall clock: file times are made of it
  MetaOp op;
};

// ---------------------------------------------------------------- reads

struct LookupRequest { SessionId session; InodeId parent; std::string name; };
struct EntryReply {
  Attributes attributes;       // inode 0: no such name (the lease covers its absence)
  Attributes parent;
  Lease lease;                 // of the name and of the attributes
  std::string symlink_target;  // if it is one
  Lease parent_lease;          // of `parent`
};
struct GetAttributesRequest { SessionId session; InodeId inode; };
// The session holds the inode open until it says otherwise (CloseRequest, or its end). The answer is fresh.
struct OpenRequest { SessionId session; InodeId inode; bool write = false; };
struct AttributesReply { Attributes attributes; Lease lease; };
// Fresh attributes of inodes whose pages the kernel holds, many at once: what has changed elsewhere is found within a second.
struct RefreshRequest { SessionId session; std::vector<InodeId> inodes; };
struct RefreshReply { std::vector<Attributes> attributes; Lease lease; };  // in the order asked; inode 0: gone
struct CloseRequest { SessionId session; std::vector<InodeId> inodes; };  // lazily, in batches
struct ReadDirectoryRequest {
  SessionId session;
  InodeId directory;
  uint64_t cookie = 0;         // entries after this one; 0: from the start
  uint32_t count_max = 0;
  bool plus = false;           // with attributes
};
struct DirectoryEntry {
  std::string name;
  InodeId inode;
  FileType type = FileType::kRegular;
  uint64_t cookie = 0;         // stays the entry's for as long as it exists; > 2 (1 and 2 are "." and "..")
  std::optional<Attributes> attributes;
  bool leased = false;         // with them comes a shared lease on the inode, of the number (and term) of the page's `lease`, whatever
                               // that one's duration; else they are for this answer only
};
struct ReadDirectoryReply {
  std::vector<DirectoryEntry> entries;
  bool end = false;
  InodeId parent;              // ".."
  Attributes directory;
  Lease lease;
};
struct ReadLinkRequest { SessionId session; InodeId inode; };
struct ReadLinkReply { std::string target; };
struct GetXattrRequest { SessionId session; InodeId inode; std::string name; };
struct GetXattrReply { std::string value; };
struct ListXattrRequest { SessionId session; InodeId inode; };
struct ListXattrReply { std::vector<std::string> names; };
struct StatFsRequest { SessionId session; InodeId inode; };
struct StatFsReply {
  uint64_t total_bytes = 0;    // at the goal of that inode: what a user can store
  uint64_t free_bytes = 0;
  uint64_t inodes = 0;
  uint64_t inodes_free = 0;
};

// Where a file's data is.
struct ChunkLocation {
  uint32_t index = 0;
  ChunkId chunk;
  uint64_t version = 0;
  bool open = false;                     // some session may be writing it
  uint32_t limit = UINT32_MAX;           // bytes at and above it read as zeros, whatever the chunk holds (after a truncate)
  std::vector<ReplicaAddress> replicas;
  std::string capability;                // to read
};
// At most so many chunks in an answer, the first ones of the range: fewer are all that there are in it.
inline constexpr uint32_t kLayoutChunksMax = 1024;
struct GetLayoutRequest { SessionId session; InodeId inode; uint32_t first_index = 0; uint32_t count = 1; };
struct GetLayoutReply { std::vector<ChunkLocation> chunks; Attributes attributes; Lease lease; };  // indexes without data are left out

// ---------------------------------------------------------------- writing

// The exclusive lease that a writer needs. Waits (up to the deadline) for the one who has it. Renewing is the same request;
// refused with kWait when somebody else waits: flush, commit, release.
struct WriteLeaseRequest { SessionId session; InodeId inode; bool renew = false; };
struct WriteLeaseReply {
  Attributes attributes;
  Lease lease;
  bool locked_elsewhere = true;  // another session has a lock on the inode, or waits for one; if not, locks are the lease's holder's to decide
};
struct ReleaseWriteLeaseRequest { SessionId session; InodeId inode; bool keep_shared = false; };
// The answer to leases that were given back. Grants of them up to this number are over, also those that arrive later (they crossed with
// the request).
struct LeaseNumberReply { uint64_t term = 0; uint64_t sequence = 0; };
// To write a chunk that the file already has: it is opened for this session under a new version (or, still this session's, as it is).
struct OpenChunkRequest { SessionId session; InodeId inode; uint32_t index = 0; };
struct OpenChunkReply { ChunkGrant grant; uint32_t limit = UINT32_MAX; uint64_t length = 0; uint64_t sequence = 0; };  // sequence: of the last write all replicas have; the next is + 1
// A replica did not do what was asked. The master raises the version on the survivors (with a replacement below min_copies) and answers with the
// new chain and the sequence from which every write must be sent again.
struct ReplicaFailedRequest { SessionId session; ChunkId chunk; uint64_t version = 0; std::vector<ServerId> failed; std::string reason; };
// Capabilities run out; a new one for a chunk that this session has open or granted.
struct RenewGrantRequest { SessionId session; ChunkId chunk; };
// A reader found a replica that answers wrongly: the master looks into it.
struct ReportBadReplicaRequest { SessionId session; ChunkId chunk; uint64_t version = 0; ServerId server; uint16_t error = 0; };

// ---------------------------------------------------------------- waiting for locks: not in the log

// What would be in the way of a lock (F_GETLK). Nothing: no value.
struct TestLockRequest { SessionId session; InodeId inode; FileLock lock; };
struct TestLockReply { std::optional<FileLock> conflict; };
// Waits at the master until the lock may be free, in the order in which sessions asked, or for some seconds; then SetLockOp is tried again.
// kDeadlock: those who are in the way wait for this owner.
struct WaitLockRequest {
  SessionId session;
  InodeId inode;
  FileLock lock;
  uint64_t wait = 0;   // the session's own number for it, for CancelWaitRequest
  uint64_t place = 0;  // in the queue, as the answer before said; 0: at its end
};
struct WaitLockReply { uint64_t place = 0; };
struct CancelWaitRequest { SessionId session; uint64_t wait = 0; };

// ---------------------------------------------------------------- sessions

struct OpenSessionRequest { std::string host; std::string mountpoint; std::string program; };
struct OpenSessionReply { SessionId session; uint64_t term = 0; uint32_t duration_ms = 0; FileTime now = 0; ClusterId cluster; };
// What the leader asks of a session, so that somebody else can go on (docs/decisions/007-recalls.md).
enum class RecallKind : uint8_t {
  kName = 1,        // `name` of the directory changes, and its attributes: both are to be forgotten, the lease stays
  kAttributes = 2,  // to be forgotten; the lease stays
  kContent = 3,     // attributes and data are to be forgotten, the lease goes
  kReader = 4,      // held exclusively: flush, commit, keep it shared
  kWriter = 5,      // flush, commit, forget; the lease goes
  kGiveBack = 6,    // too many are held: `count` of the least useful are to be returned (return_leases)
  kLocksBroken = 7, // the locks that this session had on the inode were taken away by an administrator; leases stay as they are
};
struct Recall {
  uint64_t sequence = 0;  // grants up to it, of the same term, are over for what it names
  RecallKind kind = RecallKind::kAttributes;
  InodeId inode;
  std::string name;    // kName
  uint32_t count = 0;  // kGiveBack

  bool operator==(const Recall&) const = default;
};
// Waits at the master until there is one, or for some seconds; a client always has one of these waiting.
struct TakeRecallsRequest {
  SessionId session;
  uint64_t term = 0;   // of the last recall that was received, and its number: those after it are wanted. Another term: all.
  uint64_t after = 0;
  bool at_once = false;  // does not wait: a client that was suspended serves nothing before it knows what was recalled
};
struct TakeRecallsReply { uint64_t term = 0; std::vector<Recall> recalls; };
struct RecallAnswer {
  uint64_t sequence = 0;
  bool returned = false;  // the lease would have stayed, but is not wanted any more
};
struct AnswerRecallsRequest { SessionId session; uint64_t term = 0; std::vector<RecallAnswer> answers; };
// Shared leases that this session does without from now on (lazily, in batches). It has forgotten what they covered.
struct ReturnLeasesRequest {
  SessionId session;
  uint64_t term = 0;
  std::vector<InodeId> inodes;
  std::vector<InodeId> lowered;  // held exclusively, kept as shared: nothing has been written for a while
};

struct HeldLease { InodeId inode; bool exclusive = false; bool operator==(const HeldLease&) const = default; };
struct RenewSessionRequest {
  SessionId session;
  uint64_t known_term = 0;
  std::vector<InodeId> open_inodes;  // all of them, when the term has changed
  bool more = false;                 // they do not fit: the next request has more of them
  std::vector<HeldLease> leases;     // likewise
  std::vector<uint64_t> unanswered = {};  // likewise: sequences of mutations without an answer. What they have created is open
};
struct RenewSessionReply { uint64_t term = 0; uint32_t duration_ms = 0; FileTime now = 0; bool reclaim = false; };  // reclaim: say again with open_inodes
struct CloseSessionRequest { SessionId session; };

struct EmptyReply {};

}  // namespace cairn
