// ChunkStore: the chunks that one data directory holds (design.md 3.3, consistency.md "Versions"). StoreSet
// (store_set.h) is the same interface over several directories; whoever serves chunks needs only this header.
//
// Threads: everything is called, and answers, on the loop. What blocks (LevelDB, the value log) runs on the store's own
// pools. Lifetime: the World outlives the store. close() before the destructor makes everything durable; the destructor
// alone is a crash (what was not synced is lost, as the simulator wants it). Every task that the store gave must have
// finished or been destroyed before the store is.
//
// What is durable when: write() takes a write into memory, where reads see it at once. sync(), raise(), seal(),
// remove(), clone() and finish_install() answer when what they name is on disk. What nobody syncs is made durable in
// the background within kMaxUnsyncedAge.
//
// Versions: a version below the chunk's is refused with kOldVersion, one above it with kNewVersion. kAnyVersion asks
// nothing; for tools and scrubbing. A store whose disk has failed answers kIo to everything from then on; failed() says
// so.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/units.h"
#include "common/proto/chunk_types.h"
#include "common/runtime/task.h"
#include "common/runtime/world.h"

namespace cairn {

inline constexpr uint64_t kAnyVersion = 0;
inline constexpr Duration kMaxUnsyncedAge = 5s;

// Who a data directory belongs to; kept in its file IDENTITY. Zero: not known yet (a new directory takes what it is
// given, an old one tells).
struct StoreIdentity {
  ClusterId cluster;
  ServerId server;
  uint64_t store_id = 0;  // random, made with the directory
};

enum class KvKind : uint8_t {
  kLevelDb,  // the real one
  kMemory,   // in memory with a journal on the disk: the simulator's
};

struct StoreOptions {
  std::string folder;
  KvKind kv = KvKind::kLevelDb;
  // A run of blocks up to this goes into the key-value store with its extents; a longer one to the value log.
  // kChunkSizeBytes: everything inside.
  uint32_t inline_limit_bytes = 64 * kKiB;
  uint64_t segment_size_bytes = 256 * kMiB;
  uint64_t unsynced_limit_bytes = 256 * kMiB;   // held in memory before it is durable; beyond it writers wait
  uint64_t cache_limit_bytes = 64 * kMiB;       // records, extents and small data
  uint64_t reserve_bytes = 256 * kMiB;          // never given to writers: LevelDB and deleting work from it
  uint64_t clean_bytes_per_second = 32 * kMiB;  // bound on rewriting segments that are mostly holes; 0: no cleaner
};

// Whose chunk it is: the record's hint for rebuilding a namespace.
struct OwnerHint {
  InodeId inode;
  uint32_t index = 0;
  uint64_t file_size_bytes = 0;

  bool operator==(const OwnerHint&) const = default;
};

struct ChunkWrite {
  ChunkId chunk;
  uint64_t version = 0;
  uint64_t sequence = 0;
  WriteKind kind = WriteKind::kData;
  uint32_t offset = 0;
  uint32_t length = 0;              // kData: data.size(); kZero: of the range; kTruncate: not used
  Buffer data;                      // page-aligned memory for an offset that is a multiple of 4096 saves a copy
  std::vector<uint32_t> checksums;  // as ChunkWriteRequest::checksums; checked before anything is taken (kCorrupt)
  OwnerHint owner;
};
struct WriteResult {
  uint64_t sequence = 0;         // everything up to it has been taken
  uint64_t synced_sequence = 0;  // everything up to it is on disk
  uint32_t allocated_bytes = 0;  // at most, while something is not on disk
};

struct SyncItem {
  ChunkId chunk;
  uint64_t version = 0;
  uint64_t sequence = 0;
};

struct ReadResult {
  uint32_t offset = 0;  // rounded down to a block
  uint32_t length = 0;  // of data: whole blocks, cut at the chunk's length
  Payload data;
  std::vector<uint32_t> checksums;  // one a block of data; the last block may be short and is summed as it is
};

struct ChunkMap {
  ReplicaStatus status;
  std::vector<ChunkMapReply::Range>
      data;  // whole blocks, ascending, cut at the chunk's length; what is not in it reads as zeros
};

struct ChunkPage {
  std::vector<ReplicaStatus> chunks;  // ascending ids
  bool last = false;
};

struct StoreSpace {
  uint64_t total_bytes = 0;
  uint64_t free_bytes =
      0;  // what a writer may still bring: reserve, and bytes taken but not yet on disk, are taken off
  uint64_t chunks = 0;
  uint32_t stores = 1;
  uint32_t stores_failed = 0;
};

class ChunkStore {
 public:
  // Makes the directory when it is missing or empty. kBusy: another process has it. kWrongCluster: it belongs to
  // another cluster or server (the context names both). kNotSupported: written by a newer Cairn. kCorrupt. Recovers
  // from a crash.
  static Task<Result<std::unique_ptr<ChunkStore>>> open(World& world, StoreOptions options, StoreIdentity identity);

  ChunkStore() = default;
  virtual ~ChunkStore() = default;
  ChunkStore(const ChunkStore&) = delete;
  ChunkStore& operator=(const ChunkStore&) = delete;

  // Makes everything durable and stops the background work. Requests that come later answer kCancelled.
  virtual Task<void> close() = 0;
  virtual const StoreIdentity& identity() const = 0;
  // Durable. kWrongCluster if it belongs to another one already.
  virtual Task<Result<void>> join_cluster(ClusterId cluster) = 0;
  virtual bool failed() const = 0;

  // ---- writing

  // An empty open chunk at (version, sequence): the next write is sequence + 1. In memory, durable with its first sync.
  // If the chunk is here already at this version it is left as it is. kOldVersion, kNewVersion; kNoSpace.
  virtual Task<Result<ReplicaStatus>> create(ChunkId chunk, uint64_t version, uint64_t sequence, OwnerHint owner) = 0;

  // Takes the write in the order of sequences: one that comes early waits for those before it until the deadline (then
  // kMissingWrites), a repeated one is answered without doing it again. Sequence 1 of a chunk that is not here creates
  // it. Also waits, until the deadline, while too much is unsynced (kOverload). kOldVersion (also: the chunk is sealed,
  // writing needs a raised version), kNewVersion, kNotFound, kInvalid, kNoSpace, kCorrupt (the checksums, or what is
  // here of a block that is only partly written).
  virtual Task<Result<WriteResult>> write(ChunkWrite write, TimePoint deadline) = 0;

  // Makes each item's chunk durable up to what has been taken. One answer an item, in order. kMissingWrites if the
  // sequence has not been taken (the process restarted in between) or the chunk is still being filled; kNotFound,
  // kOldVersion, kNewVersion.
  virtual Task<std::vector<Result<WriteResult>>> sync(std::vector<SyncItem> items) = 0;

  // ---- reading

  // kNotFound, kOldVersion, kNewVersion, kMissingWrites (still being filled), kInvalid (beyond 64 MiB), kIo. Does not
  // verify: the reader does.
  virtual Task<Result<ReadResult>> read(ChunkId chunk, uint64_t version, uint32_t offset, uint32_t length) = 0;
  virtual Task<Result<ChunkMap>> map(ChunkId chunk, uint64_t version) = 0;
  virtual Task<Result<ReplicaStatus>> status(ChunkId chunk) = 0;
  // All chunks, a page at a time: up to `limit` of those with an id above `after`. A store that has failed tries to
  // tell what it held.
  virtual Task<Result<ChunkPage>> list(ChunkId after, size_t limit) = 0;

  // Reads the range again from the disk itself, past what lies in memory where the disk can do that, and verifies it:
  // kCorrupt, kIo. Otherwise as read(). What has not been made durable yet is left out.
  virtual Task<Result<void>> verify(ChunkId chunk, uint64_t version, uint32_t offset, uint32_t length) = 0;

  // ---- orders of the master

  // Lower versions are refused from the call on; everything taken so far is durable at `to_version` when it answers.
  // Opens a sealed chunk. Repeating it is harmless. kOldVersion if the chunk is above to_version, kNewVersion if it is
  // below from_version.
  virtual Task<Result<ReplicaStatus>> raise(ChunkId chunk, uint64_t from_version, uint64_t to_version) = 0;
  // kMissingWrites if fewer than `sequence` have been taken, kConflict if more. Repeating it is harmless.
  virtual Task<Result<ReplicaStatus>> seal(ChunkId chunk, uint64_t version, uint64_t sequence) = 0;
  // Removes the chunk, and a copy that is being filled, if its version is at most up_to_version (else kConflict). Fine
  // if it is not here.
  virtual Task<Result<void>> remove(ChunkId chunk, uint64_t up_to_version) = 0;
  // `target`, sealed, shares the bytes of `source`, which must be sealed (kConflict). kExists if target is here with
  // another version.
  virtual Task<Result<ReplicaStatus>> clone(ChunkId source, uint64_t source_version, ChunkId target,
                                            uint64_t target_version, OwnerHint owner) = 0;

  // ---- filling a copy from another replica
  //
  // begin_install starts an empty copy beside what is here; whatever was here stays, and keeps being answered for
  // reads, until finish_install takes its place atomically. Writes of `version` go to the copy from then on (joining an
  // open chunk): they are numbered from sequence + 1 and win over what is filled, whichever comes first. An unfinished
  // copy does not survive a restart.

  // kOldVersion if what is here is newer than `version`. Beginning again drops what had been filled.
  virtual Task<Result<void>> begin_install(ChunkId chunk, uint64_t version, uint64_t sequence, OwnerHint owner) = 0;
  // Whole blocks at a multiple of 4096 (the last one may be short), as a ReadResult has them; verified here (kCorrupt).
  // What is never filled reads as zeros.
  virtual Task<Result<void>> fill(ChunkId chunk, uint64_t version, uint32_t offset, Payload data,
                                  std::vector<uint32_t> checksums) = 0;
  // `length_bytes` is the source's length at the copy's beginning; durable, complete and verified when it answers.
  virtual Task<Result<ReplicaStatus>> finish_install(ChunkId chunk, uint64_t version, uint32_t length_bytes,
                                                     bool seal) = 0;
  virtual Task<Result<void>> abandon_install(ChunkId chunk, uint64_t version) = 0;

  // ---- what is going on

  virtual StoreSpace space() = 0;
  // Called on the loop for each chunk whose bytes turn out to be bad (a checksum, an error of the disk) when the store
  // reads for itself, or that is gone with its disk.
  virtual void on_bad_chunk(std::function<void(ChunkId, const Error&)> callback) = 0;
};

}  // namespace cairn
