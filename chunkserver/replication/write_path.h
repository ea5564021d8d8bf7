// WritePath: a write goes down the chain of its chunk's replicas (design.md 3.6). Each replica forwards what it gets at
// once, stores it itself meanwhile, and answers with its own acknowledgement followed by those of the replicas behind
// it. A replica that does not answer is acknowledged by the one before it, with the error, so that the writer knows
// who failed. Syncs are not forwarded: the writer asks every replica itself.
//
// Loop thread only. Everything passed to the constructor outlives it. stop() ends what waits; calls must have ended
// before it goes away.
#pragma once

#include <cstdint>
#include <vector>

#include "chunkserver/replication/chunk_access.h"
#include "chunkserver/replication/chunk_peers.h"
#include "chunkserver/replication/open_chunks.h"
#include "chunkserver/store/chunk_store.h"
#include "common/proto/chunk_types.h"
#include "common/runtime/task_group.h"

namespace cairn {

// How long a write waits for those before it, or for its version: they may come over another connection.
inline constexpr Duration kPredecessorWait = std::chrono::milliseconds(500);
// Of the time that is left, what the replica behind gets: the one before it must still be able to answer.
inline constexpr int kForwardPercent = 75;
// And what the own store gets: it may wait for memory, and whoever asked wants to hear of that in time.
inline constexpr int kStorePercent = 90;

// Who this replica is in an acknowledgement.
struct ReplicaIdentity {
  ServerId server;
  uint64_t incarnation = 0;
};

class WritePath {
 public:
  WritePath(World& world, ChunkStore& store, OpenChunks& chunks, ChunkAccess& access, ChunkPeers& peers,
            ReplicaIdentity self);

  // Acknowledgements, this replica's first. An error only for what is wrong with the request itself: kInvalid,
  // kUnauthorized, kOverload (starting).
  Task<Result<ChunkWriteReply>> write(ChunkWriteRequest request, Buffer payload, TimePoint deadline, uint64_t trace_id);
  // One group commit of the store for all chunks.
  Task<Result<ChunkSyncReply>> sync(ChunkSyncRequest request, TimePoint deadline);

  Task<void> stop();

 private:
  using Acks = std::vector<ReplicaAck>;
  static Result<void> check(const ChunkWriteRequest& request, const Buffer& payload);
  Task<void> forward(ChunkWriteRequest request, Buffer payload, TimePoint deadline, uint64_t trace_id,
                     Promise<Acks> done);
  Task<ReplicaAck> store(ChunkWriteRequest request, Buffer payload, TimePoint deadline);
  // What is to be done with the write, after waiting for those before it.
  struct Admission {
    WriteVerdict verdict = WriteVerdict::kWait;
    OpenChunks::EntryPtr entry;
  };
  Task<Result<Admission>> admit(ChunkId chunk, uint64_t version, uint64_t sequence, TimePoint deadline);
  // The same for a sync: a refusal, or nothing if the store can do it.
  Task<Result<void>> admit_sync(ChunkSyncRequest::Item item, TimePoint deadline);
  Task<ReplicaAck> answer_sync(ChunkSyncRequest::Item item, Result<WriteResult> result);
  // After the store refused: what is here, for the acknowledgement.
  Task<ReplicaAck> refuse(ChunkId chunk, Error error);

  World& world_;
  ChunkStore& store_;
  OpenChunks& chunks_;
  ChunkAccess& access_;
  ChunkPeers& peers_;
  ReplicaIdentity self_;
  Counter& written_bytes_;
  Counter& forwarded_bytes_;
  Counter& refused_writes_;
  Counter& forward_failures_;
  TaskGroup tasks_;
};

}  // namespace cairn
