// ServerState: what a chunkserver process knows of itself and its masters beyond the life of the process: how often it
// has started, the highest term and the last log time that it has heard. Kept in the file STATE of each data directory
// (docs/formats.md, "Chunkserver state"), so that no single disk holds the only copy.
//
// Blocking functions, for a pool; no state of their own.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "chunkserver/replication/chunk_access.h"
#include "common/base/result.h"
#include "common/runtime/disk.h"

namespace cairn {

struct ServerState {
  uint64_t incarnation = 0;  // starts so far
  MastersState masters;

  bool operator==(const ServerState&) const = default;
};

std::string encode_server_state(const ServerState& state);
Result<ServerState> decode_server_state(std::string_view bytes);

// The highest of each number in all folders that have a file; nothing in any of them: a new server. A folder that
// cannot be read is skipped; kCorrupt, kIo if none can be read though one has a file.
Result<ServerState> load_server_state(Disk& disk, const std::vector<std::string>& folders);
// Durable in every folder that can be written. An error if that is none.
Result<void> save_server_state(Disk& disk, const std::vector<std::string>& folders, const ServerState& state);

}  // namespace cairn
