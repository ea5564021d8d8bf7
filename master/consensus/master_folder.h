// The folder of one master: DIR/{identity, log/, state/, state-origin, checkpoints/}, its lock and whose it is
// (docs/formats.md, "Master's log"). Blocking; not thread-safe.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/runtime/disk.h"

namespace cairn {

struct MasterIdentity {
  ClusterId cluster;
  MasterId master;
  std::string address;  // where this master says it can be reached; the group's configuration has it too
};

class MasterFolder {
 public:
  // Takes the folder for this process. kBusy: another has it. kNotFound: never initialised. kWrongCluster, kCorrupt,
  // kNotSupported.
  static Result<MasterFolder> open(Disk& disk, const std::string& folder, ClusterId cluster);

  const MasterIdentity& identity() const { return identity_; }
  std::string log_folder() const { return path_ + "/log"; }
  std::string state_folder() const { return path_ + "/state"; }
  std::string checkpoints_folder() const { return path_ + "/checkpoints"; }

  // Under which boot of the machine the state folder was made and opened; nothing if there is no whole one. The state
  // is not synced: after another boot it may have holes (docs/consistency.md, "Metadata").
  Result<std::optional<std::string>> state_boot_id() const;
  Result<void> set_state_boot_id(std::string_view boot_id);
  // Before the state folder is taken apart.
  Result<void> forget_state();

  // That the log and the state are to be replaced by the checkpoint of another master, at (index, term), once that
  // stands among the checkpoints; recovery does it.
  struct Replacement {
    uint64_t index = 0;
    uint64_t term = 0;
  };
  Result<std::optional<Replacement>> replacement() const;
  Result<void> set_replacement(Replacement replacement);
  Result<void> replaced();

 private:
  Result<void> remove_file(const std::string& path);
  MasterFolder(Disk& disk, std::string path) : disk_(&disk), path_(std::move(path)) {}
  Disk* disk_;
  std::string path_;
  MasterIdentity identity_;
  std::unique_ptr<FolderLock> lock_;
};

// kNotFound if there is none.
Result<MasterIdentity> read_master_identity(Disk& disk, const std::string& folder);
Result<void> write_master_identity(Disk& disk, const std::string& folder, const MasterIdentity& identity);

}  // namespace cairn
