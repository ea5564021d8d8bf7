// What clients, chunkservers and masters say about chunks, as plain values. The wire form is chunk.capnp; codec.h turns one into the other.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"

namespace cairn {

inline constexpr uint8_t kMaxGoal = 9;

struct ReplicaAddress {
  ServerId server;
  std::string address;  // as in transport.h

  bool operator==(const ReplicaAddress&) const = default;
};

enum class WriteKind : uint8_t {
  kData = 1,      // the payload at offset
  kTruncate = 2,  // what lies at and after `offset` is gone (reads as zeros)
  kZero = 3,      // [offset, offset + length) reads as zeros and takes no space
};

// One write of a chunk, forwarded down the chain as it arrives. Writes of one version are numbered from (the sequence that came with the grant) + 1 without
// gaps; a replica applies them in that order and answers a repeated one (same sequence) without doing it again.
struct ChunkWriteRequest {
  std::string capability;
  ChunkId chunk;
  uint64_t version = 0;
  uint64_t sequence = 0;
  WriteKind kind = WriteKind::kData;
  uint32_t offset = 0;
  uint32_t length = 0;
  // CRC32C of each piece of the payload, cut at multiples of 4 KiB of the chunk: the first and last piece may be short.
  std::vector<uint32_t> checksums;
  bool sync = false;                    // durable before it is acknowledged
  InodeId inode;                        // for the chunk's record: rebuilding a namespace from chunkservers
  uint32_t index = 0;
  uint64_t file_size_bytes = 0;
  std::vector<ReplicaAddress> chain;    // the replicas after this one
};

struct ReplicaAck {
  ServerId server;
  uint64_t incarnation = 0;             // of the server's process
  uint64_t sequence = 0;                // every write up to it has been taken
  uint64_t synced_sequence = 0;         // every write up to it is on disk
  uint16_t error = 0;                   // ErrorCode of this replica's refusal; 0: done
  std::string context;
  uint32_t allocated_bytes = UINT32_MAX;  // what the chunk takes there; known when everything is on disk
};
struct ChunkWriteReply { std::vector<ReplicaAck> acks; };  // one a replica of the chain that could be asked, first to last

// fsync of chunks on ONE replica. The client asks each replica of the chain itself, all at once.
struct ChunkSyncRequest {
  struct Item {
    std::string capability;
    ChunkId chunk;
    uint64_t version = 0;
    uint64_t sequence = 0;              // everything up to it
    uint64_t incarnation = 0;           // as acknowledged; another one answers kMissingWrites unless it can show the sequence
  };
  std::vector<Item> items;
};
struct ChunkSyncReply { std::vector<ReplicaAck> acks; };   // one an item

struct ChunkReadRequest {
  std::string capability;
  ChunkId chunk;
  uint64_t version = 0;                 // the replica's must be equal (an open chunk: equal or newer is refused too: ask the master)
  uint32_t offset = 0;
  uint32_t length = 0;
  // What the reader has written itself: a replica that has lost some of it by a restart answers kMissingWrites. 0: not
  // asked for.
  uint64_t sequence = 0;
};
// The payload covers whole 4 KiB blocks: from offset rounded down to offset + length rounded up, cut at the chunk's length.
struct ChunkReadReply {
  uint32_t offset = 0;
  uint32_t length = 0;                  // of the payload; shorter than asked: the chunk ends there, the rest is zeros
  std::vector<uint32_t> checksums;      // one a block
};

// ---------------------------------------------------------------- master to chunkserver (orders), chunkserver to chunkserver

enum class ChunkState : uint8_t { kOpen = 1, kSealed = 2 };

// What a replica says of a chunk it holds.
struct ReplicaStatus {
  ChunkId chunk;
  uint64_t version = 0;
  ChunkState state = ChunkState::kOpen;
  bool verified = true;                 // false: unsealed, and the machine has restarted since
  bool complete = true;                 // false: still being filled (joining)
  uint64_t sequence = 0;                // taken (0 after a restart: see synced_sequence)
  uint64_t synced_sequence = 0;
  uint32_t length = 0;                  // end of the furthest byte
  uint32_t allocated_bytes = 0;
  InodeId inode;                        // owner hint
  uint32_t index = 0;
};

// All orders carry the master's term; one below the highest seen is refused with kNotLeader.
struct OrderHeader { uint64_t term = 0; ClusterId cluster; };
// Raise: writes of lower versions are refused from now on; durable before the answer. Everything taken so far is made durable too.
struct RaiseVersionRequest { OrderHeader header; ChunkId chunk; uint64_t from_version = 0; uint64_t to_version = 0; };
struct RaiseVersionReply { ReplicaStatus status; uint64_t incarnation = 0; };
// Make this replica equal to `source` at `version`: fetch what differs (whole chunk if it is missing here). When it returns the copy is durable.
struct CopyChunkRequest { OrderHeader header; ChunkId chunk; uint64_t version = 0; ReplicaAddress source; std::string capability; bool seal = false; };
struct SealChunkRequest { OrderHeader header; ChunkId chunk; uint64_t version = 0; uint64_t sequence = 0; };
struct DeleteChunksRequest { OrderHeader header; std::vector<std::pair<ChunkId, uint64_t>> chunks; };  // chunk, and the version up to which it goes
// A counted-reference copy under a new id, on the same store. The source must be sealed.
struct CloneChunkRequest { OrderHeader header; ChunkId source; uint64_t source_version = 0; ChunkId target; uint64_t target_version = 0; };
struct StatChunksRequest { OrderHeader header; std::vector<ChunkId> chunks; };
struct StatChunksReply { std::vector<ReplicaStatus> chunks; uint64_t incarnation = 0; };  // those that are there
// For CopyChunk: which parts of the chunk hold data, with checksums, and the bytes by ChunkRead.
struct ChunkMapRequest { std::string capability; ChunkId chunk; uint64_t version = 0; };
struct ChunkMapReply {
  struct Range { uint32_t offset = 0; uint32_t length = 0; };
  ReplicaStatus status;
  std::vector<Range> data;
};

// ---------------------------------------------------------------- when every master is lost (cairn rescue)

// Leaders keep dumps of the metadata on the chunkservers, as files of inodes from here on up: a number of the dump is added, so that the newest has
// the highest. No inode that is given out comes near.
inline constexpr uint64_t kKeptDumpInodeBase = 1ull << 63;
inline constexpr bool is_kept_dump(InodeId inode) { return inode.value >= kKeptDumpInodeBase; }

// A page of what the server holds. Only while no master is heard (kBusy): nobody can ask for a capability then.
struct ListChunksRequest { ClusterId cluster; ChunkId after; };
struct ListChunksReply { ClusterId cluster; ServerId server; std::vector<ReplicaStatus> chunks; bool last = false; };
// Of a chunk of a kept dump, and of no other.
struct ReadKeptDumpRequest { ChunkId chunk; uint64_t version = 0; uint32_t offset = 0; uint32_t length = 0; };

}  // namespace cairn
