// When every master is lost and no export is at hand: from the newest dump that leaders kept on the chunkservers
// (master/service/kept_dumps.cc), and what the chunkservers' own records tell that is newer, to the folder of a new
// master.
//
// Runs on a World; the disk is used from a pool.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/runtime/task.h"
#include "common/runtime/world.h"
#include "master/restore/import.h"

namespace cairn {

struct RescueOptions {
  std::string folder, address;     // of the new master
  std::vector<Address> servers;    // every chunkserver that there is; all must answer
};

// A chunk that servers hold, newer than the dump.
struct FoundChunk {
  ChunkId chunk;
  InodeId inode;
  uint32_t index = 0;
  uint32_t length = 0, allocated_bytes = 0;
};

struct RescueResult {
  ImportResult imported;
  uint64_t dump_number = 0;
  uint32_t dumps_passed_over = 0;      // newer ones that were not whole
  uint64_t servers = 0, chunks = 0;    // that were heard, that they hold
  std::vector<FoundChunk> attached;    // to files that the dump knows
  std::vector<FoundChunk> unnamed;     // of files that it does not know: /lost+found/inode-N
  uint64_t removed_before = 0;         // chunks that had been removed when the dump was made
};

Task<Result<RescueResult>> rescue(World& world, RescueOptions options);

}  // namespace cairn
