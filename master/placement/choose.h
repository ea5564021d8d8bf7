// Which servers get a new chunk, or a further copy. Pure: equal views, requests and seeds give equal answers.
#pragma once

#include <cstdint>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/units.h"
#include "master/placement/cluster_view.h"

namespace cairn {

struct ChooseRequest {
  uint32_t count = 1;                           // servers wanted
  uint32_t count_min = 1;                       // fewer than that is an error; 1..count
  std::vector<ServerId> members;                // have it already: not chosen again, and their domains are taken
  std::vector<ServerId> excluded;               // not to be chosen for another reason
  uint64_t room_bytes = kChunkSizeBytes;        // a server with less room counts as full
};

// Distinct servers that are alive and accept chunks, each drawn with a chance proportional to its room. A failure domain is used a second time only when
// every other one is used. Fewer than `count` where there are no more.
//   kTooFewReplicas: fewer than count_min servers are there, whatever their room.
//   kNoSpace: there are enough servers, but too few of them have room.
Result<std::vector<ServerId>> choose_servers(const ClusterView& view, const ChooseRequest& request, uint64_t seed);

}  // namespace cairn
