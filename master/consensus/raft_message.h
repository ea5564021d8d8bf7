// The bytes of what masters send one another (docs/formats.md, "Between masters"). Pure; not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "master/consensus/raft_core.h"
#include "master/consensus/snapshot_store.h"

namespace cairn {

// Beside libraft's own types (CAIRN_RAFT_MESSAGE_..., 1 to 6).
inline constexpr uint8_t kReadProbe = 100;  // a leader asks: has anybody a later term? `index` is the round
inline constexpr uint8_t kReadEcho = 101;   // nobody here
inline constexpr uint8_t kRemoved = 102;    // to a master that the group no longer has; `index`: of that change

struct RaftMessage {
  CairnRaftMessage core{};  // its type, and libraft's fields; `peer` and `peer_address` are not part of the bytes
  ClusterId cluster;
  MasterId from;
  std::string from_address;
  MasterId to;
  struct Entry {
    uint64_t term = 0;
    uint8_t type = 0;
    std::string_view payload;  // of a decoded message: into its bytes
  };
  std::vector<Entry> entries;  // of an AppendEntries: [core.index + 1, ...)
};

std::string encode_raft_message(const RaftMessage& message);
// kBadMessage, kNotSupported (a newer version).
Result<RaftMessage> decode_raft_message(std::string_view bytes);

// Questions (Peers::ask): which checkpoint is there, and parts of its files.
struct CheckpointQuestion {
  ClusterId cluster;
  MasterId to;
  bool part = false;  // false: the newest checkpoint; true: the bytes below
  uint64_t index = 0;
  uint64_t term = 0;
  std::string file;
  uint64_t offset = 0;
  uint32_t length = 0;
};
std::string encode_checkpoint_question(const CheckpointQuestion& question);
Result<CheckpointQuestion> decode_checkpoint_question(std::string_view bytes);

}  // namespace cairn
