// A master's folder that begins with a state from elsewhere (an export) instead of with nothing: a checkpoint, and a
// log that goes on behind it. Blocking.
#pragma once

#include <cstdint>
#include <string>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/runtime/disk.h"
#include "master/consensus/snapshot_store.h"

namespace cairn {

struct RestoredFolder {
  std::string folder;
  ClusterId cluster;
  MasterId master;      // a fresh id: the master that had the folder before may still be somewhere
  std::string address;  // the group is this one voter
  // The state's last entry. The term must be above all that chunkservers may have heard of.
  uint64_t index = 0, term = 0, log_time_ms = 0;
};

// The folder must hold no master (kExists). `state` makes a durable copy of the state in the folder that it is given.
// What a failed attempt leaves counts as empty.
Result<void> make_restored_folder(Disk& disk, const RestoredFolder& restored, std::string_view boot_id,
                                  const SnapshotStore::Write& state);

}  // namespace cairn
