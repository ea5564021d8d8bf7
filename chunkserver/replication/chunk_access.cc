#include "chunkserver/replication/chunk_access.h"

#include <algorithm>
#include <chrono>
#include <utility>

namespace cairn {

ChunkAccess::ChunkAccess(World& world, ClusterId cluster, MastersState kept)
    : world_(world), cluster_(cluster), heard_(kept), heard_at_(world.clock().now()), changed_(world.executor()) {}

Result<void> ChunkAccess::check_term(uint64_t term) const {
  if (term >= heard_.term) return {};
  return Error(ErrorCode::kNotLeader,
               "term " + std::to_string(term) + " is over: term " + std::to_string(heard_.term) + " has been heard");
}

void ChunkAccess::learn(uint64_t term, uint64_t log_time_ms, std::map<uint32_t, std::string> keys) {
  if (!check_term(term)) return;
  heard_.term = term;
  heard_.log_time_ms = std::max(heard_.log_time_ms, log_time_ms);
  heard_at_ = world_.clock().now();
  verifier_.set_keys(std::move(keys));
  ready_ = true;
  changed_.notify_all();
}

Task<Result<void>> ChunkAccess::wait_ready(TimePoint deadline) {
  deadline = std::min(deadline, world_.clock().now() + kStartWait);
  while (!ready_) {
    if (stopping_) co_return Error(ErrorCode::kCancelled, "the chunkserver stops");
    Result<void> waited = co_await changed_.wait_until(world_.clock(), deadline);
    if (!waited) co_return Error(ErrorCode::kOverload, "starting: no master has answered yet");
  }
  co_return Result<void>();
}

uint64_t ChunkAccess::log_time_ms() const {
  if (!ready_) return heard_.log_time_ms;
  auto since = std::chrono::duration_cast<std::chrono::milliseconds>(world_.clock().now() - heard_at_).count();
  return heard_.log_time_ms + static_cast<uint64_t>(std::max<int64_t>(since, 0));
}

bool ChunkAccess::masters_silent() const {
  return world_.clock().now() >= heard_at_ + kMastersSilentAfter;
}

Result<Capability> ChunkAccess::verify(std::string_view capability, ChunkId chunk, uint64_t version,
                                       CapabilityRights rights) {
  if (!ready_) return Error(ErrorCode::kOverload, "starting: no master has answered yet");
  return verifier_.verify(capability, log_time_ms(), chunk, version, rights);
}

Result<Capability> ChunkAccess::verify_any(std::string_view capability, ChunkId chunk, uint64_t version,
                                           CapabilityRights rights) {
  Result<Capability> verified = verify(capability, chunk, version, CapabilityRights::kNone);
  if (!verified) return verified;
  bool allowed = (static_cast<uint8_t>(verified->rights) & static_cast<uint8_t>(rights)) != 0;
  if (!allowed) return Error(ErrorCode::kUnauthorized, "the capability does not allow this");
  return verified;
}

Task<Result<void>> ChunkAccess::keep_term(uint64_t term) {
  if (term <= heard_.term || !keeper_) co_return Result<void>();
  Result<void> kept = co_await keeper_(term);
  co_return kept;
}

Result<void> ChunkAccess::check_order(const OrderHeader& header) {
  if (!cluster_ || header.cluster != cluster_) {
    return Error(ErrorCode::kWrongCluster, "an order of cluster " + to_string(header.cluster) +
                                               ", this chunkserver belongs to " + to_string(cluster_));
  }
  if (!ready_) return Error(ErrorCode::kOverload, "starting: no master has answered yet");
  Result<void> term = check_term(header.term);
  if (!term) return term;
  heard_.term = header.term;
  return {};
}

void ChunkAccess::stop() {
  stopping_ = true;
  changed_.notify_all();
}

}  // namespace cairn
