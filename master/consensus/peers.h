// What masters send one another for Raft. The transport comes with the second voter.
#pragma once

#include <string>

#include "master/consensus/raft_core.h"

namespace cairn {

struct RaftMessage {
  CairnRaftMessage core;  // core.to_address is not to be used: `to_address` is
  std::string to_address;
};

}  // namespace cairn
