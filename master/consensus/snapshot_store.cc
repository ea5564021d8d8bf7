#include "master/consensus/snapshot_store.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <utility>

#include "common/base/buffer.h"
#include "common/base/bytes.h"
#include "common/base/crc32c.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "common/kv/folder.h"

namespace cairn {

namespace {
constexpr uint64_t kMagic = 0x31504B434D4E5243;  // "CRNMCKP1" in the file
constexpr uint32_t kVersion = 1;
constexpr size_t kCrcBytes = 4;
constexpr size_t kKept = 2;
constexpr uint64_t kCopyPieceBytes = kMiB;
constexpr std::string_view kUnfinished = "making";
constexpr std::string_view kRemovedPrefix = "removing-";

std::string name_of(const CheckpointMeta& meta) {
  char name[48];
  std::snprintf(name, sizeof name, "%016" PRIx64 "-%016" PRIx64, meta.index, meta.term);
  return name;
}

bool newer(const Checkpoint& a, const Checkpoint& b) {
  return std::pair(a.meta.index, a.meta.term) > std::pair(b.meta.index, b.meta.term);
}

// Reads the file in pieces and gives each to `take`. Returns size and checksum.
Result<CheckpointFile> read_through(
    Disk& disk, const std::string& folder, const std::string& name,
    const std::function<Result<void>(uint64_t offset, std::span<const std::byte>)>& take) {
  Result<std::unique_ptr<File>> file = disk.open(folder + "/" + name, OpenFlags{.read_only = true});
  if (!file) return file.error();
  CheckpointFile read{.name = name};
  Buffer piece = Buffer::allocate(kCopyPieceBytes);
  while (true) {
    Result<size_t> got = (*file)->read(read.size, piece.mutable_span());
    if (!got) return got.error().in("reading " + folder + "/" + name);
    if (*got == 0) return read;
    std::span<const std::byte> bytes = piece.span().first(*got);
    read.crc = crc32c(bytes, read.crc);
    Result<void> taken = take(read.size, bytes);
    if (!taken) return taken.error();
    read.size += *got;
  }
}
}  // namespace

Result<std::unique_ptr<SnapshotStore>> SnapshotStore::open(Disk& disk, std::string folder, ClusterId cluster) {
  std::unique_ptr<SnapshotStore> store(new SnapshotStore(disk, std::move(folder), cluster));
  Result<void> made = make_durable_folder(disk, store->folder_);
  if (!made) return made.error();
  Result<std::vector<std::string>> names = disk.list(store->folder_);
  if (!names) return names.error();
  for (const std::string& name : *names) {
    if (name == kUnfinished || name.starts_with(kRemovedPrefix)) {
      Result<void> removed = disk.remove_tree(store->folder_ + "/" + name);
      if (!removed) return removed.error();
      continue;
    }
    Result<Checkpoint> checkpoint = store->read_manifest(name);
    if (!checkpoint) {
      log_warning("checkpoint.unreadable", "folder={}/{} error={}", store->folder_, name,
                  quoted(checkpoint.error().message()));
      continue;
    }
    store->checkpoints_.push_back(std::move(*checkpoint));
  }
  std::sort(store->checkpoints_.begin(), store->checkpoints_.end(), newer);
  return store;
}

Result<Checkpoint> SnapshotStore::read_manifest(const std::string& name) const {
  const std::string path = folder_ + "/" + name + "/manifest";
  Result<std::string> bytes = read_file(disk_, path);
  if (!bytes) return bytes.error();
  ByteReader in(*bytes);
  uint64_t magic = in.u64();
  uint32_t version = in.u32();
  if (!in.ok() || magic != kMagic) return Error(ErrorCode::kCorrupt, path + " is not a checkpoint's manifest");
  if (version != kVersion) return Error(ErrorCode::kNotSupported, path + " has version " + std::to_string(version));
  Checkpoint checkpoint;
  ClusterId cluster(in.u64());
  checkpoint.meta.index = in.u64();
  checkpoint.meta.term = in.u64();
  checkpoint.meta.log_time_ms = in.u64();
  checkpoint.meta.configuration = std::string(in.string());
  checkpoint.meta.configuration_index = in.u64();
  checkpoint.boot_id = std::string(in.string());
  uint64_t count = in.varint();
  for (uint64_t i = 0; i < count && in.ok(); ++i) {
    CheckpointFile file;
    file.name = std::string(in.string());
    file.size = in.u64();
    file.crc = in.u32();
    checkpoint.files.push_back(std::move(file));
  }
  uint32_t crc = in.u32();
  Result<void> finished = in.finish(path);
  if (!finished) return finished.error();
  if (crc != crc32c(std::string_view(*bytes).substr(0, bytes->size() - kCrcBytes))) {
    return Error(ErrorCode::kCorrupt, path + " is damaged (its checksum does not match)");
  }
  if (cluster != cluster_) return Error(ErrorCode::kWrongCluster, path + " belongs to cluster " + to_string(cluster));
  checkpoint.folder = folder_ + "/" + name;
  return checkpoint;
}

Result<void> SnapshotStore::write_manifest(const std::string& folder, const Checkpoint& checkpoint) const {
  ByteWriter out;
  out.u64(kMagic);
  out.u32(kVersion);
  out.u64(cluster_.value);
  out.u64(checkpoint.meta.index);
  out.u64(checkpoint.meta.term);
  out.u64(checkpoint.meta.log_time_ms);
  out.string(checkpoint.meta.configuration);
  out.u64(checkpoint.meta.configuration_index);
  out.string(checkpoint.boot_id);
  out.varint(checkpoint.files.size());
  for (const CheckpointFile& file : checkpoint.files) {
    out.string(file.name);
    out.u64(file.size);
    out.u32(file.crc);
  }
  out.u32(crc32c(out.str()));
  return write_file(disk_, folder + "/manifest", out.str());
}

Result<std::vector<CheckpointFile>> SnapshotStore::sum_files(const std::string& folder) const {
  Result<std::vector<std::string>> names = disk_.list(folder);
  if (!names) return names.error();
  std::vector<CheckpointFile> files;
  for (const std::string& name : *names) {
    Result<CheckpointFile> file =
        read_through(disk_, folder, name, [](uint64_t, std::span<const std::byte>) -> Result<void> { return {}; });
    if (!file) return file.error();
    files.push_back(std::move(*file));
  }
  return files;
}

Result<Checkpoint> SnapshotStore::make(const Write& write, const std::function<CheckpointMeta()>& position,
                                       std::string_view boot_id) {
  const std::string unfinished = folder_ + "/" + std::string(kUnfinished);
  Checkpoint checkpoint;
  checkpoint.boot_id = std::string(boot_id);
  Result<void> made = [&]() -> Result<void> {
    Result<void> cleared = disk_.remove_tree(unfinished);
    if (!cleared) return cleared;
    Result<void> folder = disk_.make_folder(unfinished);
    if (!folder) return folder;
    const std::string target = unfinished + "/state";
    Result<void> written = write(target, [&] { checkpoint.meta = position(); });
    if (!written) return written;
    std::optional<Checkpoint> last = newest();
    if (last && last->meta.index >= checkpoint.meta.index) {
      checkpoint = *last;
      return disk_.remove_tree(unfinished);
    }
    Result<std::vector<CheckpointFile>> files = sum_files(target);
    if (!files) return files.error();
    checkpoint.files = std::move(*files);
    Result<void> listed = write_manifest(unfinished, checkpoint);
    if (!listed) return listed;
    checkpoint.folder = folder_ + "/" + name_of(checkpoint.meta);
    // One that could not be read may have the name.
    Result<void> free = disk_.remove_tree(checkpoint.folder);
    if (!free) return free;
    Result<void> renamed = disk_.rename(unfinished, checkpoint.folder);
    if (!renamed) return renamed;
    Result<void> synced = disk_.sync_folder(folder_);
    if (!synced) return synced;
    std::lock_guard lock(mutex_);
    checkpoints_.insert(checkpoints_.begin(), checkpoint);
    return {};
  }();
  if (!made) {
    Result<void> removed = disk_.remove_tree(unfinished);
    if (!removed)
      log_warning("checkpoint.unfinished_left", "folder={} error={}", unfinished, quoted(removed.error().message()));
    return made.error().in("making a checkpoint");
  }
  return checkpoint;
}

Result<void> SnapshotStore::remove_old() {
  while (true) {
    Checkpoint oldest;
    {
      std::lock_guard lock(mutex_);
      if (checkpoints_.size() <= kKept) return {};
      oldest = checkpoints_.back();
      checkpoints_.pop_back();
    }
    // Under another name first: a half removed one never looks whole.
    std::string name = folder_ + "/" + std::string(kRemovedPrefix) + name_of(oldest.meta);
    Result<void> renamed = disk_.rename(oldest.folder, name);
    if (!renamed) return renamed;
    Result<void> synced = disk_.sync_folder(folder_);
    if (!synced) return synced;
    Result<void> removed = disk_.remove_tree(name);
    if (!removed) return removed;
  }
}

std::vector<Checkpoint> SnapshotStore::all() const {
  std::lock_guard lock(mutex_);
  return checkpoints_;
}

std::optional<Checkpoint> SnapshotStore::newest() const {
  std::lock_guard lock(mutex_);
  if (checkpoints_.empty()) return std::nullopt;
  return checkpoints_.front();
}

uint64_t SnapshotStore::log_not_needed_upto() const {
  std::lock_guard lock(mutex_);
  return checkpoints_.size() < kKept ? 0 : checkpoints_.back().meta.index;
}

Result<void> SnapshotStore::restore(const Checkpoint& checkpoint, const std::string& target) {
  Result<void> made = disk_.make_folder(target);
  if (!made) return made;
  const std::string source = checkpoint.folder + "/state";
  for (const CheckpointFile& expected : checkpoint.files) {
    Result<std::unique_ptr<File>> copy =
        disk_.open(target + "/" + expected.name, OpenFlags{.create = true, .truncate = true});
    if (!copy) return copy.error();
    Result<CheckpointFile> read =
        read_through(disk_, source, expected.name,
                     [&](uint64_t offset, std::span<const std::byte> bytes) { return (*copy)->write(offset, bytes); });
    if (!read && read.code() == ErrorCode::kNotFound)
      return Error(ErrorCode::kCorrupt, source + "/" + expected.name + " is missing");
    if (!read) return read.error();
    if (read->size != expected.size || read->crc != expected.crc) {
      return Error(ErrorCode::kCorrupt, source + "/" + expected.name + " is damaged (size or checksum do not match)");
    }
  }
  return {};
}

}  // namespace cairn
