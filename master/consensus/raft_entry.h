// RaftEntry: an entry on its way through the log, before it is only on disk.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "master/consensus/engine.h"

namespace cairn {

// Shared, and not changed any more, once it has an index (but for `decoded`): the loop, the log's thread and apply's
// thread each hold it until they are done.
struct RaftEntry {
  LogIndex index = 0;
  Term term = 0;
  uint8_t type = 0;     // raft_core.h: CAIRN_RAFT_COMMAND, ...
  std::string payload;  // of a command: master/proto/log_entry.h; of a change: libraft's encoded configuration
  // Of each command in the payload; empty if nobody has them. Apply's thread takes them: the entry itself may be kept
  // for other masters for long.
  mutable std::vector<std::unique_ptr<DecodedCommand>> decoded;
};
using RaftEntryPtr = std::shared_ptr<const RaftEntry>;

}  // namespace cairn
