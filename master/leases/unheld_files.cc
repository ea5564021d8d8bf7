#include "master/leases/unheld_files.h"

namespace cairn {

uint64_t UnheldFiles::unheld_since(InodeId inode, uint64_t now_ms) {
  if (leases_.writer(inode)) return now_ms;
  if (watched_.size() >= watched_max_ && !watched_.contains(inode)) return now_ms;
  Watched& watched = watched_.try_emplace(inode, Watched{.since_ms = now_ms}).first->second;
  watched.asked_ms = now_ms;
  return watched.since_ms;
}

void UnheldFiles::expire(uint64_t now_ms) {
  std::erase_if(watched_, [&](const auto& entry) { return entry.second.asked_ms + kUnwatchMs <= now_ms; });
}

}  // namespace cairn
