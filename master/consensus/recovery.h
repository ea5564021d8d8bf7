// Recovery: from a master's folder to a state and a log that fit together. Blocking; runs on the thread "apply", which
// owns the state machine.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/disk.h"
#include "master/consensus/engine.h"
#include "master/consensus/log_store.h"
#include "master/consensus/master_folder.h"
#include "master/consensus/snapshot_store.h"

namespace cairn {

struct RecoveredMaster {
  RecoveredMaster(MasterFolder folder_in) : folder(std::move(folder_in)) {}

  MasterFolder folder;
  std::unique_ptr<LogStore> log;
  std::unique_ptr<SnapshotStore> checkpoints;
  RecoveredLog entries;              // its term and vote are durable
  std::vector<StoredEntry> changes;  // the entries among them that change the group's configuration
  LogIndex state_index = 0;          // the state machine is open and holds everything up to here
  CheckpointMeta position;           // at state_index
  uint64_t last_log_time_ms = 0;     // the newest entry's
  bool state_rebuilt = false;        // from a checkpoint or from nothing, rather than opened in place
};

// On an error the machine is closed.
Result<RecoveredMaster> recover_master(Disk& disk, const ReplicatedLogOptions& options, const std::string& boot_id,
                                       StateMachine& machine);

}  // namespace cairn
