// GrantPool: chunks granted in advance for files to come, so that a new file costs no round trip to the master for its
// data.
//
// Loop thread only. What is left when the session ends is the master's to collect.
#pragma once

#include <deque>
#include <map>
#include <memory>

#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "fs/client/master_link.h"

namespace cairn {

class GrantPool {
 public:
  GrantPool(World& world, MasterLink& master);
  Task<Result<ChunkGrant>> take(uint8_t goal, uint8_t min_copies);
  // What was granted under an ended session is worth nothing.
  void forget_all();
  // Grants that name this server are not handed out any more: it has failed.
  void forget_server(ServerId server);
  Task<void> stop() { return tasks_.stop(); }

 private:
  struct Kind {
    std::deque<ChunkGrant> ready;
    bool asking = false;
    uint32_t batch = 1;  // doubles with use
    TimePoint granted_at{};
    Error last_error{ErrorCode::kUnavailable};
    uint64_t rounds = 0;  // answers so far
  };
  Task<void> refill(uint8_t goal, uint8_t min_copies);

  World& world_;
  MasterLink& master_;
  std::map<std::pair<uint8_t, uint8_t>, Kind> kinds_;
  Condition changed_;
  TaskGroup tasks_;
};

}  // namespace cairn
