// OpenChunks: what this replica knows of the chunks that are being written: a view (version_rule.h) of each, so that a
// write is judged without asking the store, and the place where a write waits for those before it.
//
// The store is the truth: whoever changes a chunk there by other means than a write (an order, a copy) calls forget().
// Loop thread only. The store outlives it; it outlives whoever waits in it (stop() ends the waiting).
#pragma once

#include <cstdint>
#include <map>
#include <memory>

#include "chunkserver/replication/version_rule.h"
#include "chunkserver/store/chunk_store.h"
#include "common/runtime/sync.h"
#include "common/runtime/world.h"

namespace cairn {

class OpenChunks {
 public:
  static constexpr size_t kViewsMax = 16384;  // of about 250 bytes; beyond it those that nobody uses are forgotten

  static constexpr size_t kFencesMax = 65536;

  struct Entry {
    explicit Entry(Executor& executor) : changed(executor) {}
    ReplicaView view;
    bool copying = false;  // kept until the copy ends: the store answers for what was here before
    bool forgotten = false;
    Condition changed;
  };
  using EntryPtr = std::shared_ptr<Entry>;  // shared with the writes that are under way

  OpenChunks(World& world, ChunkStore& store);
  ~OpenChunks();

  // From memory, or from the store; never forgotten when it is given. The store's errors, but for kNotFound: then the
  // view says so.
  Task<Result<EntryPtr>> find(ChunkId chunk);
  // Waits until the view has changed or is forgotten. kTimeout, kCancelled.
  Task<Result<void>> wait_changed(EntryPtr entry, TimePoint deadline);

  // The view's numbers only grow; those who wait look again.
  void handed(Entry& entry, uint64_t version, uint64_t sequence);
  void taken(Entry& entry, uint64_t sequence, uint64_t synced);
  void synced(ChunkId chunk, uint64_t version, uint64_t sequence, uint64_t synced);
  // A chunk that is being copied is kept: its view is the copy's.
  void forget(ChunkId chunk);

  // The version of a chunk that is not here has been raised: a write of a lower one that was on its way may not make it
  // now. Remembered for the kFencesMax newest; a process that starts again has no such writes.
  void fence(ChunkId chunk, uint64_t version);

  // Writes of `version` after `sequence` now go to the copy.
  void copy_began(ChunkId chunk, uint64_t version, uint64_t sequence);
  void copy_ended(ChunkId chunk);

  size_t size() const { return entries_.size(); }
  void stop();

 private:
  void drop(std::map<ChunkId, EntryPtr>::iterator place);
  void make_room();

  World& world_;
  ChunkStore& store_;
  std::map<ChunkId, EntryPtr> entries_;
  std::map<ChunkId, uint64_t> fences_;
  uint64_t forgotten_ = 0;  // times: an answer of the store from before says nothing
  bool stopping_ = false;
};

}  // namespace cairn
