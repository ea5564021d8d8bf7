// GrantPool: chunks granted in advance for files to come, so that a new file costs no round trip to the master for its
// data.
//
// Loop thread only. What is left when the session ends is the master's to collect.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>

#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "fs/client/master_link.h"
#include "fs/client/server_pool.h"

namespace cairn {

class GrantPool {
 public:
  GrantPool(World& world, MasterLink& master, const ServerPool& servers);
  // kTimeout if nobody has answered by then.
  Task<Result<ChunkGrant>> take(uint8_t goal, uint8_t min_copies, TimePoint deadline);
  // What was granted under an ended session is worth nothing.
  void forget_all();
  Task<void> stop() { return tasks_.stop(); }

 private:
  struct Ready {
    ChunkGrant grant;
    std::shared_ptr<const std::vector<ServerId>> avoided;  // the servers that the master was asked to leave out
  };
  struct Kind {
    std::deque<Ready> ready;
    bool asking = false;
    uint32_t batch = 1;  // doubles with use
    TimePoint granted_at{};
    std::optional<Error> last_error;  // of the last answer
    uint64_t rounds = 0;              // answers so far
  };
  Task<void> refill(uint8_t goal, uint8_t min_copies);
  // Grants that name a server which has gone silent since they were asked for are given back.
  void drop_silent(Kind& kind);
  Task<void> give_back(std::vector<ChunkId> chunks);

  World& world_;
  MasterLink& master_;
  const ServerPool& servers_;
  std::map<std::pair<uint8_t, uint8_t>, Kind> kinds_;
  Condition changed_;
  TaskGroup tasks_;
};

}  // namespace cairn
