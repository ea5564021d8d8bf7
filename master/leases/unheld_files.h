// UnheldFiles: since when nobody has held a file exclusively, as far as it is watched: what was left unsealed by a
// writer that lives may be sealed after a while (service/idle_chunks.cc).
//
// Pure: time (milliseconds of the leader's boot clock) comes as an argument. Not thread-safe; on the loop. Bounded:
// what is not asked about for a minute is forgotten.
#pragma once

#include <cstddef>
#include <cstdint>
#include <unordered_map>

#include "common/base/ids.h"
#include "master/leases/lease_table.h"

namespace cairn {

inline constexpr uint32_t kUnwatchMs = 60'000;

class UnheldFiles {
 public:
  // `leases` outlives it.
  explicit UnheldFiles(const LeaseTable& leases, size_t watched_max = 1'000'000)
      : leases_(leases), watched_max_(watched_max) {}

  // The first question begins to watch. now_ms while somebody holds it.
  uint64_t unheld_since(InodeId inode, uint64_t now_ms);
  // An exclusive lease on it has been given.
  void taken(InodeId inode) { watched_.erase(inode); }
  // Call it now and then.
  void expire(uint64_t now_ms);
  void clear() { watched_.clear(); }

 private:
  struct Watched {
    uint64_t since_ms = 0;
    uint64_t asked_ms = 0;
  };
  const LeaseTable& leases_;
  size_t watched_max_;
  std::unordered_map<InodeId, Watched> watched_;
};

}  // namespace cairn
