// Machine: the metadata state machine. A log entry goes in, a reply for each of its commands comes out, and the state (inodes, names,
// chunks, sessions, servers) is in the KvStore, which holds the index of the last applied entry in the same batch. Pure: no clock, no
// randomness, no I/O but the KvStore; equal logs give byte-equal states, whatever is in the cache and wherever the process was restarted.
//
// Threads: apply() by one thread at a time. Reads and prefetch() from any thread beside it; a read sees the state after a whole entry. A
// read in mode kMemoryOnly never waits for the KvStore's disk (nor for an apply that does): it answers kNotCached instead.
// Lifetime: the KvStore outlives it and is written by nobody else.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/kv/kv_store.h"
#include "common/locks/inode_locks.h"
#include "common/proto/meta_types.h"
#include "master/namespace/command.h"
#include "master/namespace/records.h"

namespace cairn {

enum class ReadMode : uint8_t {
  kMemoryOnly,  // kNotCached if it would have to wait for the KvStore's disk: for the loop's thread
  kMayBlock,    // for a pool's thread
};

struct MachineOptions {
  size_t cache_bytes = 256 << 20;  // of raw records above the KvStore
};

// A part of a file that has a chunk.
struct FileChunk {
  uint32_t index = 0;
  ChunkId id;
  uint32_t limit = UINT32_MAX;
  ChunkRecord chunk;
};
struct ChunkEntry { ChunkId id; ChunkRecord chunk; };
struct SessionEntry { SessionId id; SessionRecord session; };
struct ServerEntry { ServerId id; ServerRecord server; };
struct GarbageEntry { ChunkId chunk; uint64_t version = 0; uint64_t due_ms = 0; };

// The index of the last entry that a store holds; 0 if none, or if it cannot be read.
uint64_t stored_index(const KvStore& store);

class Machine {
 public:
  // On a store that is empty, or that an earlier Machine left.
  static Result<std::unique_ptr<Machine>> open(KvStore& store, MachineOptions options = {});
  ~Machine();
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  // Applies the entry's commands in order and writes one batch, unsynced. The index must be above applied_index(). An error is the store's: the
  // state is as before or no longer known, and the process has to end. What a command itself meets (ENOENT, a conflict) is in its Reply.
  Result<std::vector<Reply>> apply(const LogContext& context, std::span<const Command* const> commands);
  Result<std::vector<Reply>> apply(const LogEntry& entry);

  // Brings what the command will need into memory. kMemoryOnly: kNotCached if something is missing, without loading it.
  Result<void> prefetch(const Command& command, ReadMode mode) const;

  // ------------------------------------------------------------ always in memory
  uint64_t applied_index() const;
  uint64_t applied_term() const;
  uint64_t log_time_ms() const;
  bool work_pending() const;         // a Tick now would find something to remove
  // Log time has to move: sessions live or wait for their last trace to be removed, or garbage waits for its grace time.
  bool wants_ticks() const;
  CounterRecord counters() const;
  bool has_cluster() const;
  ClusterRecord cluster() const;     // all zero before MakeCluster
  std::optional<RestoreRecord> restore() const;  // while the state comes from an export and has not been accepted

  // ------------------------------------------------------------ the tree
  // Leases, capabilities and terms in the answers are left for the caller to fill in.
  // No such name: attributes.inode is 0, `parent` is set. The parent is gone: kStale; is no directory: kNotDirectory.
  Result<EntryReply> lookup(InodeId parent, std::string_view name, ReadMode mode) const;
  Result<Attributes> get_attributes(InodeId inode, ReadMode mode) const;          // kStale if it is gone
  Result<InodeRecord> inode(InodeId inode, ReadMode mode) const;                  // kStale if it is gone
  // Entries whose cookie is above `cookie`, ascending; at most count_max of them. Never from memory only: kNotCached.
  Result<ReadDirectoryReply> read_directory(InodeId directory, uint64_t cookie, uint32_t count_max, bool plus, ReadMode mode) const;
  Result<std::string> read_link(InodeId inode, ReadMode mode) const;              // kInvalid if it is none
  Result<std::string> get_xattr(InodeId inode, std::string_view name, ReadMode mode) const;  // kNoData
  Result<std::vector<std::string>> list_xattr(InodeId inode, ReadMode mode) const;
  Result<std::vector<SessionId>> orphan_holders(InodeId inode, ReadMode mode) const;  // empty: not an orphan

  // ------------------------------------------------------------ chunks
  // Parts [first, first + count) of the file that have a chunk, by index.
  // The first `max` of them.
  Result<std::vector<FileChunk>> layout(InodeId inode, uint32_t first, uint32_t count, ReadMode mode, size_t max = SIZE_MAX) const;
  Result<ChunkRecord> chunk(ChunkId chunk, ReadMode mode) const;                  // kNotFound
  // The lists below block, and answer up to `max` with an id above `after`, ascending.
  Result<std::vector<ChunkEntry>> chunks(ChunkId after, uint32_t max) const;
  Result<std::vector<ChunkEntry>> chunks_on(ServerId server, ChunkId after, uint32_t max) const;
  // Those whose record asks for something: copies not equal to the goal, a replica that is not current, a raise that is pending.
  Result<std::vector<ChunkEntry>> chunks_to_repair(ChunkId after, uint32_t max) const;
  Result<std::vector<ChunkEntry>> open_chunks(SessionId session, ChunkId after, uint32_t max) const;  // granted ones too
  // Rule 7: chunks of files that sessions which have ended left open. All, up to `max`.
  Result<std::vector<ChunkEntry>> chunks_to_recover(uint32_t max) const;
  // What `server` may delete at log time `now_ms`, oldest first. Leaves out what a record names the server for, and replicas of a chunk that has
  // fewer current copies than its min_copies (the last copy is never thrown away).
  Result<std::vector<GarbageEntry>> due_garbage(ServerId server, uint64_t now_ms, uint32_t max) const;

  // ------------------------------------------------------------ sessions and servers
  // Always in memory.
  Result<SessionRecord> session(SessionId session) const;  // kSessionEnded if it is not there or has ended
  // Regular files that these mutations of the session have created, as far as what was answered to them is still kept.
  Result<std::vector<InodeId>> created(SessionId session, std::span<const uint64_t> sequences, ReadMode mode) const;
  std::vector<SessionEntry> sessions() const;              // those that have ended but wait for recovery too
  Result<ServerRecord> server(ServerId server) const;      // kNotFound
  std::vector<ServerEntry> servers() const;

  // ------------------------------------------------------------ locks of files
  // Always in memory. Without those of sessions that have ended.
  InodeLocks locks(InodeId inode) const;
  // Inodes that have some, above `after`, ascending; at most `max`.
  std::vector<InodeId> locked_inodes(InodeId after, size_t max) const;

  // A consistent view of every record, as it is between two entries, for an export. Must not outlive the machine; the store cannot be opened anew
  // while it is there.
  std::unique_ptr<KvIterator> records() const;

  // Over every record, in order: equal states have equal hashes. Reads everything: for tests and `cairn doctor`.
  Result<uint64_t> state_hash() const;

 private:
  class Impl;
  explicit Machine(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// True if the replica may be read, or be a source: current, and not unverified (chunk open, and its server's machine has restarted since).
bool replica_verified(const ChunkRecord& chunk, const ReplicaRecord& replica, const ServerRecord& server);

}  // namespace cairn
