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
constexpr std::string_view kIncoming = "incoming";
constexpr uint32_t kMaxPartBytes = kMiB;
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
    if (name == kIncoming) continue;  // may be gone on with
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
  Result<Checkpoint> checkpoint = decode_manifest(*bytes, path);
  if (checkpoint) checkpoint->folder = folder_ + "/" + name;
  return checkpoint;
}

Result<Checkpoint> SnapshotStore::decode_manifest(std::string_view bytes, const std::string& path) const {
  ByteReader in(bytes);
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
    // It may come from elsewhere, and becomes part of a path.
    if (file.name.empty() || file.name.front() == '.' || file.name.contains('/'))
      return Error(ErrorCode::kCorrupt, path + " names a file that cannot be one");
    checkpoint.files.push_back(std::move(file));
  }
  uint32_t crc = in.u32();
  Result<void> finished = in.finish(path);
  if (!finished) return finished.error();
  if (crc != crc32c(bytes.substr(0, bytes.size() - kCrcBytes))) {
    return Error(ErrorCode::kCorrupt, path + " is damaged (its checksum does not match)");
  }
  if (cluster != cluster_) return Error(ErrorCode::kWrongCluster, path + " belongs to cluster " + to_string(cluster));
  return checkpoint;
}

Result<void> SnapshotStore::write_manifest(const std::string& folder, const Checkpoint& checkpoint) const {
  return write_file(disk_, folder + "/manifest", encode_manifest(checkpoint));
}

std::string SnapshotStore::encode_manifest(const Checkpoint& checkpoint) const {
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
  return out.take();
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

// The folder has all files; it gets its manifest and its name.
Result<void> SnapshotStore::put_among_others(const std::string& unfinished, Checkpoint& checkpoint) {
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
  std::sort(checkpoints_.begin(), checkpoints_.end(), newer);
  return {};
}

Result<Checkpoint> SnapshotStore::make(const Write& write, const std::function<CheckpointMeta(uint64_t)>& position,
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
    Result<void> written = write(target, [&](uint64_t state) { checkpoint.meta = position(state); });
    if (!written) return written;
    std::optional<Checkpoint> last = newest();
    if (last && last->meta.index >= checkpoint.meta.index) {
      checkpoint = *last;
      return disk_.remove_tree(unfinished);
    }
    Result<std::vector<CheckpointFile>> files = sum_files(target);
    if (!files) return files.error();
    checkpoint.files = std::move(*files);
    return put_among_others(unfinished, checkpoint);
  }();
  if (!made) {
    Result<void> removed = disk_.remove_tree(unfinished);
    if (!removed)
      log_warning("checkpoint.unfinished_left", "folder={} error={}", unfinished, quoted(removed.error().message()));
    return made.error().in("making a checkpoint");
  }
  return checkpoint;
}

Result<void> SnapshotStore::remove_old(uint64_t pinned) {
  while (true) {
    Checkpoint oldest;
    {
      std::lock_guard lock(mutex_);
      auto found = checkpoints_.end();
      for (size_t i = kKept; i < checkpoints_.size(); ++i) {
        if (checkpoints_[i].meta.index != pinned) found = checkpoints_.begin() + static_cast<ptrdiff_t>(i);
      }
      if (found == checkpoints_.end()) return {};
      oldest = std::move(*found);
      checkpoints_.erase(found);
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

// ---------------------------------------------------------------- from and to other masters

Result<void> SnapshotStore::begin_incoming(const Checkpoint& checkpoint) {
  const std::string folder = folder_ + "/" + std::string(kIncoming);
  const std::string manifest = encode_manifest(checkpoint);
  Result<std::string> there = read_file(disk_, folder + "/wanted");
  if (there && *there == manifest) return {};
  Result<void> cleared = disk_.remove_tree(folder);
  if (cleared) cleared = disk_.make_folder(folder);
  if (cleared) cleared = disk_.make_folder(folder + "/state");
  if (cleared) cleared = write_file(disk_, folder + "/wanted", manifest);
  if (!cleared) return cleared.error().in("taking in a checkpoint");
  return {};
}

Result<uint64_t> SnapshotStore::incoming_bytes(const std::string& file) const {
  Result<uint64_t> size = disk_.file_size(folder_ + "/" + std::string(kIncoming) + "/state/" + file);
  if (size.failed_with(ErrorCode::kNotFound)) return uint64_t{0};
  return size;
}

Result<void> SnapshotStore::write_incoming(const std::string& file, uint64_t offset, std::string_view bytes) {
  const std::string path = folder_ + "/" + std::string(kIncoming) + "/state/" + file;
  Result<std::unique_ptr<File>> opened = disk_.open(path, OpenFlags{.create = true});
  if (!opened) return opened.error();
  return (*opened)->write(offset, std::as_bytes(std::span(bytes)));
}

Result<void> SnapshotStore::check_incoming(const Checkpoint& checkpoint) {
  const std::string folder = folder_ + "/" + std::string(kIncoming);
  for (const CheckpointFile& file : checkpoint.files) {
    Result<CheckpointFile> read = read_through(
        disk_, folder + "/state", file.name, [](uint64_t, std::span<const std::byte>) -> Result<void> { return {}; });
    if (!read) return read.error();
    const std::string path = folder + "/state/" + file.name;
    if (read->size != file.size || read->crc != file.crc) {
      Result<void> removed = disk_.remove(path);
      if (!removed) return removed;
      return Error(ErrorCode::kCorrupt, path + " did not arrive as it was sent (its checksum does not match)");
    }
    Result<std::unique_ptr<File>> opened = disk_.open(path, OpenFlags{});
    if (!opened) return opened.error();
    Result<void> synced = (*opened)->sync();
    if (!synced) return synced;
  }
  return disk_.sync_folder(folder + "/state");
}

Result<void> SnapshotStore::take_incoming(const Checkpoint& incoming) {
  const std::string folder = folder_ + "/" + std::string(kIncoming);
  Checkpoint checkpoint = incoming;
  Result<void> removed = disk_.remove(folder + "/wanted");
  if (!removed) return removed;
  return put_among_others(folder, checkpoint);
}

Result<std::string> SnapshotStore::read_part(uint64_t index, uint64_t term, const std::string& file, uint64_t offset,
                                             uint32_t length) const {
  for (const Checkpoint& checkpoint : all()) {
    if (checkpoint.meta.index != index || checkpoint.meta.term != term) continue;
    auto listed = std::find_if(checkpoint.files.begin(), checkpoint.files.end(),
                               [&](const CheckpointFile& candidate) { return candidate.name == file; });
    if (listed == checkpoint.files.end()) break;
    const std::string path = checkpoint.folder + "/state/" + file;
    Result<std::unique_ptr<File>> opened = disk_.open(path, OpenFlags{.read_only = true});
    if (!opened) return opened.error();
    Buffer buffer = Buffer::allocate(std::min(length, kMaxPartBytes));
    Result<size_t> got = (*opened)->read(offset, buffer.mutable_span());
    if (!got) return got.error().in("reading " + path);
    return std::string(buffer.view().substr(0, *got));
  }
  return Error(ErrorCode::kNotFound, "file " + file + " of checkpoint " + std::to_string(index));
}

// ---------------------------------------------------------------- what is there

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
