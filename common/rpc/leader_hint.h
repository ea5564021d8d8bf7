// What a master that does not lead says of the one that does: the context of kNotLeader, "id address term".
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "common/base/ids.h"
#include "common/runtime/transport.h"

namespace cairn {

struct LeaderHint {
  MasterId master;
  Address address;
  uint64_t term = 0;
};

// None if it is not known there, or is no hint.
std::optional<LeaderHint> parse_leader_hint(const std::string& context);

}  // namespace cairn
