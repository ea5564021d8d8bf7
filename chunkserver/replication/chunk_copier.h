// ChunkCopier: makes this server's replica of a chunk equal to another server's: for repair, for joining a chunk that
// is being written, and for recovery (consistency.md "Versions" 6 to 8). It fetches what the other one has, in pieces,
// into a copy beside what is here, and puts it in place when it is whole and on disk. What was here stays until then.
//
// A copy that has begun goes on when the one who ordered it stops waiting; ordering it again waits for the same copy.
//
// Loop thread only. Everything passed to the constructor outlives it. stop() ends copies and waiting.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "chunkserver/replication/chunk_peers.h"
#include "chunkserver/replication/open_chunks.h"
#include "chunkserver/store/chunk_store.h"
#include "common/base/units.h"
#include "common/proto/chunk_types.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"

namespace cairn {

inline constexpr uint32_t kCopyPieceBytes = 1 * kMiB;
inline constexpr size_t kCopyPiecesInFlight = 4;  // of one copy: enough to keep the other's disk and the wire busy
inline constexpr uint64_t kCopyMemoryBytes = 32 * kMiB;  // of all copies: pieces asked for and not yet stored
inline constexpr int kCopyAttempts = 3;                  // of one piece, and of the map
inline constexpr Duration kCopyCallDeadline = std::chrono::seconds(5);
inline constexpr Duration kCopyRetryPause =
    std::chrono::milliseconds(250);  // grows; longer in all than a client waits to dial again

class ChunkCopier {
 public:
  ChunkCopier(World& world, ChunkStore& store, OpenChunks& chunks, ChunkPeers& peers);

  // kOldVersion if what is here is newer; kCorrupt if what the source sends is damaged; kTimeout if it is not done by
  // the deadline (it goes on); the source's errors, with its address.
  Task<Result<ReplicaStatus>> copy(CopyChunkRequest order, TimePoint deadline, uint64_t trace_id);

  size_t running() const { return runs_.size(); }
  Task<void> stop();

 private:
  struct Run {
    Run(Executor& executor, CopyChunkRequest order_in) : order(std::move(order_in)), changed(executor) {}
    bool same_as(const CopyChunkRequest& other) const {
      return order.version == other.version && order.source == other.source && order.seal == other.seal;
    }
    CopyChunkRequest order;
    bool began = false;  // begin_install
    uint64_t trace_id = 0;
    struct Piece {
      uint32_t offset = 0;
      uint32_t length = 0;
    };
    std::vector<Piece> pieces;
    size_t next_piece = 0;
    size_t workers = 0;
    uint64_t copied_bytes = 0;
    std::optional<Error> error;  // the first one; ends the workers
    std::optional<Result<ReplicaStatus>> result;
    Condition changed;
  };
  using RunPtr = std::shared_ptr<Run>;  // shared by its workers and those who wait for it

  Task<void> run(RunPtr run);
  Task<Result<ReplicaStatus>> do_copy(RunPtr run);
  Task<Result<ChunkMapReply>> fetch_map(RunPtr run);
  Task<Result<ChunkMapReply>> fetch_map_once(RunPtr run);
  Task<Result<void>> fetch_pieces(RunPtr run);
  Task<void> work(RunPtr run);
  Task<Result<void>> fetch(RunPtr run, Run::Piece piece);
  Task<Result<void>> fetch_once(RunPtr run, Run::Piece piece);
  // Whether to try once more after this error; after a pause if so.
  Task<bool> again(RunPtr run, int attempt, ErrorCode code);
  static std::vector<Run::Piece> pieces_of(const std::vector<ChunkMapReply::Range>& data);

  World& world_;
  ChunkStore& store_;
  OpenChunks& chunks_;
  ChunkPeers& peers_;
  Counter& copied_bytes_;
  Counter& copies_;
  Counter& failures_;
  std::map<ChunkId, RunPtr> runs_;
  Semaphore memory_;
  TaskGroup tasks_;
};

}  // namespace cairn
