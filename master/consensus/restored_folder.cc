#include "master/consensus/restored_folder.h"

#include <cstdlib>
#include <memory>
#include <utility>

#include "common/base/check.h"
#include "common/base/units.h"
#include "common/kv/folder.h"
#include "master/consensus/log_store.h"
#include "master/consensus/master_folder.h"
#include "master/consensus/raft_core.h"

namespace cairn {
namespace {

constexpr uint64_t kFirstSegmentBytes = 64 * kKiB;

Result<std::string> sole_voter(const RestoredFolder& restored) {
  CairnRaftMember self{.id = restored.master.value, .address = restored.address.c_str(), .role = CAIRN_RAFT_VOTER};
  void* encoded = nullptr;
  size_t size = 0;
  if (cairn_raft_encode_configuration(&self, 1, &encoded, &size) != 0)
    return Error(ErrorCode::kInvalid, "address " + restored.address);
  std::string configuration(static_cast<const char*>(encoded), size);
  std::free(encoded);
  return configuration;
}

Result<void> make_checkpoint(Disk& disk, const RestoredFolder& restored, std::string_view boot_id,
                             const SnapshotStore::Write& state) {
  const std::string folder = restored.folder + "/checkpoints";
  Result<void> cleared = disk.remove_tree(folder);
  if (!cleared) return cleared;
  Result<std::string> configuration = sole_voter(restored);
  if (!configuration) return configuration.error();
  Result<std::unique_ptr<SnapshotStore>> store = SnapshotStore::open(disk, folder, restored.cluster);
  if (!store) return store.error();
  const CheckpointMeta meta{.index = restored.index,
                            .term = restored.term,
                            .log_time_ms = restored.log_time_ms,
                            .configuration = *configuration,
                            .configuration_index = restored.index};
  Result<Checkpoint> made = (*store)->make(state, [&meta](uint64_t) { return meta; }, boot_id);
  if (!made) return made.error();
  return {};
}

Result<void> make_log(Disk& disk, const RestoredFolder& restored) {
  const std::string folder = restored.folder + "/log";
  Result<void> cleared = disk.remove_tree(folder);
  if (!cleared) return cleared;
  RecoveredLog nothing;
  Result<std::unique_ptr<LogStore>> log = LogStore::open(disk,
                                                         {.folder = folder,
                                                          .cluster = restored.cluster,
                                                          .master = restored.master,
                                                          .segment_size_bytes = kFirstSegmentBytes},
                                                         nothing);
  if (!log) return log.error();
  const Record first[] = {{.type = RecordType::kTermAndVote, .index = 0, .term = restored.term},
                          {.type = RecordType::kReset, .index = restored.index, .term = restored.term}};
  return (*log)->append(first);
}

}  // namespace

Result<void> make_restored_folder(Disk& disk, const RestoredFolder& restored, std::string_view boot_id,
                                  const SnapshotStore::Write& state) {
  CHECK(restored.cluster && restored.master && restored.index > 0);
  Result<void> made = make_durable_folder(disk, restored.folder);
  if (!made) return made;
  Result<std::unique_ptr<FolderLock>> lock = disk.lock_folder(restored.folder);
  if (!lock) return lock.error().in("master folder " + restored.folder);
  Result<MasterIdentity> there = read_master_identity(disk, restored.folder);
  if (there) {
    return Error(ErrorCode::kExists, restored.folder + " belongs to master " + to_string(there->master) +
                                         " of cluster " + to_string(there->cluster));
  }
  if (there.code() != ErrorCode::kNotFound) return there.error();
  made = make_checkpoint(disk, restored, boot_id, state);
  if (made) made = make_log(disk, restored);
  if (!made) return made;
  // Last: without it, what is here is left over from an attempt that did not finish.
  return write_master_identity(
      disk, restored.folder,
      MasterIdentity{.cluster = restored.cluster, .master = restored.master, .address = restored.address});
}

}  // namespace cairn
