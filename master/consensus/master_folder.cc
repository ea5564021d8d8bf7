#include "master/consensus/master_folder.h"

#include <utility>

#include "common/base/bytes.h"
#include "common/base/crc32c.h"

namespace cairn {

namespace {
constexpr uint64_t kMagic = 0x314E44494D4E5243;  // "CRNMIDN1" in the file
constexpr uint32_t kVersion = 1;
constexpr size_t kCrcBytes = 4;

std::string identity_path(const std::string& folder) {
  return folder + "/identity";
}
std::string replacement_path(const std::string& folder) {
  return folder + "/replacement";
}
std::string origin_path(const std::string& folder) {
  return folder + "/state-origin";
}
}  // namespace

Result<void> write_master_identity(Disk& disk, const std::string& folder, const MasterIdentity& identity) {
  ByteWriter out;
  out.u64(kMagic);
  out.u32(kVersion);
  out.u64(identity.cluster.value);
  out.u64(identity.master.value);
  out.string(identity.address);
  out.u32(crc32c(out.str()));
  return write_file(disk, identity_path(folder), out.str());
}

Result<MasterIdentity> read_master_identity(Disk& disk, const std::string& folder) {
  const std::string path = identity_path(folder);
  Result<std::string> bytes = read_file(disk, path);
  if (!bytes) return bytes.error();
  ByteReader in(*bytes);
  uint64_t magic = in.u64();
  uint32_t version = in.u32();
  if (!in.ok() || magic != kMagic) return Error(ErrorCode::kCorrupt, path + " is not a master's identity");
  if (version != kVersion) {
    return Error(ErrorCode::kNotSupported,
                 path + " has version " + std::to_string(version) + "; this cairn-master knows version 1");
  }
  MasterIdentity identity;
  identity.cluster = ClusterId(in.u64());
  identity.master = MasterId(in.u64());
  identity.address = std::string(in.string());
  uint32_t crc = in.u32();
  Result<void> finished = in.finish(path);
  if (!finished) return finished.error();
  if (crc != crc32c(std::string_view(*bytes).substr(0, bytes->size() - kCrcBytes))) {
    return Error(ErrorCode::kCorrupt, path + " is damaged (its checksum does not match)");
  }
  return identity;
}

Result<MasterFolder> MasterFolder::open(Disk& disk, const std::string& folder, ClusterId cluster) {
  Result<bool> there = disk.exists(folder);
  if (!there) return there.error();
  if (!*there) return Error(ErrorCode::kNotFound, "master folder " + folder);
  Result<std::unique_ptr<FolderLock>> lock = disk.lock_folder(folder);
  if (!lock) return lock.error().in("master folder " + folder);
  Result<MasterIdentity> identity = read_master_identity(disk, folder);
  if (!identity && identity.code() == ErrorCode::kNotFound) {
    return Error(ErrorCode::kNotFound, folder + " is not an initialised master folder (no identity file)");
  }
  if (!identity) return identity.error();
  if (identity->cluster != cluster) {
    return Error(ErrorCode::kWrongCluster, folder + " belongs to cluster " + to_string(identity->cluster) +
                                               ", this master is configured for " + to_string(cluster));
  }
  MasterFolder master_folder(disk, folder);
  master_folder.identity_ = std::move(*identity);
  master_folder.lock_ = std::move(*lock);
  return master_folder;
}

Result<std::optional<std::string>> MasterFolder::state_boot_id() const {
  Result<std::string> text = read_file(*disk_, origin_path(path_));
  if (!text && text.code() == ErrorCode::kNotFound) return std::optional<std::string>();
  if (!text) return text.error();
  return std::optional<std::string>(std::move(*text));
}

Result<void> MasterFolder::set_state_boot_id(std::string_view boot_id) {
  return write_file(*disk_, origin_path(path_), boot_id);
}

Result<void> MasterFolder::forget_state() {
  return remove_file(origin_path(path_));
}

Result<void> MasterFolder::remove_file(const std::string& path) {
  Result<bool> there = disk_->exists(path);
  if (!there) return there.error();
  if (!*there) return {};
  Result<void> removed = disk_->remove(path);
  if (!removed) return removed;
  return disk_->sync_folder(path_);
}

Result<std::optional<MasterFolder::Replacement>> MasterFolder::replacement() const {
  Result<std::string> bytes = read_file(*disk_, replacement_path(path_));
  if (bytes.failed_with(ErrorCode::kNotFound)) return std::optional<Replacement>();
  if (!bytes) return bytes.error();
  ByteReader in(*bytes);
  Replacement replacement{.index = in.u64(), .term = in.u64()};
  uint32_t crc = in.u32();
  Result<void> finished = in.finish(replacement_path(path_));
  if (!finished) return finished.error();
  if (crc != crc32c(std::string_view(*bytes).substr(0, bytes->size() - kCrcBytes)))
    return Error(ErrorCode::kCorrupt, replacement_path(path_) + " is damaged (its checksum does not match)");
  return std::optional<Replacement>(replacement);
}

Result<void> MasterFolder::set_replacement(Replacement replacement) {
  ByteWriter out;
  out.u64(replacement.index);
  out.u64(replacement.term);
  out.u32(crc32c(out.str()));
  return write_file(*disk_, replacement_path(path_), out.str());
}

Result<void> MasterFolder::replaced() {
  return remove_file(replacement_path(path_));
}

}  // namespace cairn
