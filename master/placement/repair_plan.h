// What is to be done so that chunks have the copies they should have. Pure: records and the view of the servers go in, steps come out; the leader
// carries them out and commits each by compare-and-swap in the log, so a step that has been overtaken does no harm.
//
// Not here: raises that are pending and chunks of dead writers (they come before any repair), replicas that a power cut left unverified.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "common/base/ids.h"
#include "common/base/units.h"
#include "master/placement/cluster_view.h"

namespace cairn {

struct RepairReplica {
  enum class State : uint8_t { kCurrent, kJoining, kUnusable };  // unusable: bad, missing
  ServerId server;
  State state = State::kCurrent;
};
struct RepairChunk {
  ChunkId chunk;
  uint64_t version = 0;
  bool open = false;                    // a session writes it
  uint8_t goal = 0;
  std::vector<RepairReplica> replicas;
};

struct RepairStep {
  enum class Kind : uint8_t {
    kCopy,  // sealed: source -> target, then the target is named in the place of `replaced` (if given)
    kFill,  // open: the joiner `target` gets from source what it lacks, then counts as a copy
    kJoin,  // open: a raise with `target` as the joiner and without `replaced` (if given)
    kDrop,  // sealed: `replaced` is named no longer, what it holds is garbage
  };
  Kind kind = Kind::kCopy;
  ChunkId chunk;
  uint64_t version = 0;                 // that the step was planned for
  ServerId source, target;
  std::optional<ServerId> replaced;
  uint32_t copies = 0;                  // that can be reached before the step: what it is ordered by
};

struct RepairLimits {
  size_t steps_max = 64;
  uint32_t copies_per_server_max = 4;   // running and planned ones, as source or target
  uint64_t room_bytes = kChunkSizeBytes;
};

// At most one step a chunk; the chunks with the fewest copies first, drops last. A chunk of which nobody has a copy, or for which there is no server, gets none.
//  - Copies are current replicas on servers that are not dead. Fewer than the goal: a bad or missing replica is copied anew where it is, else a
//    further server gets one. Enough copies: named ones on dead servers, and bad ones, are dropped; then what is over the goal (first where two are in one failure domain,
//    then where there is least room).
//  - A source is alive and current, the one with the fewest copies running.
//  - A drained server's replicas count, but are moved: copied to another server, then dropped.
std::vector<RepairStep> plan_repair(const ClusterView& view, std::span<const RepairChunk> chunks, const RepairLimits& limits,
                                    uint64_t seed);

}  // namespace cairn
