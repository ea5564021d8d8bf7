// What masters say to one another for the log. The transport (master/service/raft_peers.h) carries bytes and knows
// nothing of them.
//
// Loop thread only.
#pragma once

#include <string>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/runtime/clock.h"
#include "common/runtime/task.h"

namespace cairn {

class Peers {
 public:
  virtual ~Peers() = default;

  // Best effort: dropped when it cannot be sent now. The other side hands it to ReplicatedLog::receive().
  virtual void send(MasterId to, const std::string& address, std::string message) = 0;

  // A question to another master's ReplicatedLog::serve(), and its answer: at most kMaxPeerAnswerBytes.
  virtual Task<Result<std::string>> ask(MasterId to, std::string address, std::string question, TimePoint deadline) = 0;
};
inline constexpr size_t kMaxPeerMessageBytes = 1 << 20;
inline constexpr size_t kMaxPeerAnswerBytes = 2 << 20;

}  // namespace cairn
