// Scrubber reads every chunk again, slowly, and says which are bad, before the last good copy elsewhere is. Open ones
// too: a store is not told of every seal (docs/decisions/002), and what is being written meanwhile is left out by the
// store.
//
// Loop thread only. The World and the store outlive it; stop() before it goes away.
#pragma once

#include <cstdint>
#include <functional>

#include "chunkserver/store/chunk_store.h"
#include "common/runtime/task_group.h"

namespace cairn {

struct ScrubberOptions {
  uint64_t bytes_per_second = 4 * kMiB;    // on average; 0: never
  Duration pause = std::chrono::hours(1);  // between the end of a round and the next
};

struct ScrubProgress {
  uint64_t rounds = 0;  // that are complete
  uint64_t chunks = 0;  // verified since the start
  uint64_t bytes = 0;
  uint64_t bad = 0;
};

class Scrubber {
 public:
  // `bad` (may be empty) runs on the loop for each chunk with bytes that do not match, or cannot be read. (The store calls its own
  // callback too.)
  Scrubber(World& world, ChunkStore& store, ScrubberOptions options, std::function<void(ChunkId, const Error&)> bad);

  void start();
  Task<void> stop();
  const ScrubProgress& progress() const { return progress_; }

 private:
  Task<void> run();
  // False when it is to stop.
  Task<bool> scrub_all();
  Task<bool> scrub_chunk(ReplicaStatus status);

  ChunkStore& store_;
  const ScrubberOptions options_;
  std::function<void(ChunkId, const Error&)> bad_;
  ScrubProgress progress_;
  TaskGroup tasks_;
};

}  // namespace cairn
