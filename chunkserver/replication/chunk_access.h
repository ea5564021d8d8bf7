// ChunkAccess: whom this chunkserver obeys: which cluster it belongs to, the highest term of a master that it has
// heard, the keys that sign capabilities, and log time (consistency.md "Versions" 12 and "Time"). The agent teaches it
// what masters say; the services ask it before they do anything.
//
// Until a master has answered since the start nothing that needs a capability or an order is done: the time may have
// moved on while the process was away.
//
// Loop thread only. The World outlives it; it outlives whoever waits in it (stop() ends the waiting).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "common/base/capability.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/proto/chunk_types.h"
#include "common/runtime/sync.h"
#include "common/runtime/world.h"

namespace cairn {

// What is kept durably about the masters.
struct MastersState {
  uint64_t term = 0;         // the highest heard
  uint64_t log_time_ms = 0;  // the last heard

  bool operator==(const MastersState&) const = default;
};

class ChunkAccess {
 public:
  // `kept`: from before the start.
  ChunkAccess(World& world, ClusterId cluster, MastersState kept);

  // ---- what masters say (agent)

  // kNotLeader below the highest term: a master that has been replaced may not turn time back.
  Result<void> check_term(uint64_t term) const;
  // After check_term() and with the term durable.
  void learn(uint64_t term, uint64_t log_time_ms, std::map<uint32_t, std::string> keys);
  void set_cluster(ClusterId cluster) { cluster_ = cluster; }
  // What makes a new term durable: an order may bring one before any answer of the master that gives it.
  void set_keeper(std::function<Task<Result<void>>(uint64_t term)> keeper) { keeper_ = std::move(keeper); }
  ClusterId cluster() const { return cluster_; }
  const MastersState& heard() const { return heard_; }

  // ---- what services ask

  bool ready() const { return ready_; }
  // Waits for the first answer of a master since the start, at most kStartWait; then kOverload "starting".
  Task<Result<void>> wait_ready(TimePoint deadline);
  // The last heard, moved on by our own clock. Gaps without a leader do not count as log time, so this may be ahead;
  // the next answer puts it right.
  uint64_t log_time_ms() const;
  // No master has answered for kMastersSilentAfter, or since the start if that is longer ago.
  bool masters_silent() const;
  // kUnauthorized; needs ready().
  Result<Capability> verify(std::string_view capability, ChunkId chunk, uint64_t version, CapabilityRights rights);
  // One of the rights is enough.
  Result<Capability> verify_any(std::string_view capability, ChunkId chunk, uint64_t version, CapabilityRights rights);
  // A term above the highest heard is durable when it returns: before an order of it is obeyed.
  Task<Result<void>> keep_term(uint64_t term);
  // kWrongCluster; kNotLeader if a newer leader has been heard; kOverload before the first answer. An order of a newer
  // term is obeyed, and older ones are refused from then on.
  Result<void> check_order(const OrderHeader& header);

  // Whoever waits gets kCancelled.
  void stop();

 private:
  World& world_;
  ClusterId cluster_;
  MastersState heard_;
  TimePoint heard_at_{};
  bool ready_ = false;
  bool stopping_ = false;
  CapabilityVerifier verifier_;
  std::function<Task<Result<void>>(uint64_t term)> keeper_;
  Condition changed_;
};

inline constexpr Duration kMastersSilentAfter = std::chrono::seconds(10);  // several elections
inline constexpr Duration kStartWait = std::chrono::seconds(1);  // a registration takes one round trip

}  // namespace cairn
