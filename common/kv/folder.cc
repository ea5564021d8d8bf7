#include "common/kv/folder.h"

#include <algorithm>

#include "common/base/buffer.h"
#include "common/base/units.h"

namespace cairn {

std::string parent_folder(const std::string& path) {
  size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<void> make_durable_folder(Disk& disk, const std::string& folder) {
  Result<bool> there = disk.exists(folder);
  if (!there) return there.error();
  if (!*there) {
    std::string parent = parent_folder(folder);
    if (parent != folder && parent != ".") {
      Result<void> made = make_durable_folder(disk, parent);
      if (!made) return made;
    }
    Result<void> made = disk.make_folder(folder);
    if (!made) return made;
  }
  // Also if it was there: whoever made it may have stopped before this.
  return disk.sync_folder(parent_folder(folder));
}

Result<void> make_fresh_folder(Disk& disk, const std::string& folder) {
  Result<bool> there = disk.exists(folder);
  if (!there) return there.error();
  if (*there) {
    Result<std::vector<std::string>> names = disk.list(folder);
    if (!names) return names.error();
    if (!names->empty()) return Error(ErrorCode::kExists, folder + ": not empty");
  }
  return make_durable_folder(disk, folder);
}

Result<void> copy_prefix(Disk& disk, const std::string& from, const std::string& to, uint64_t size) {
  Result<std::unique_ptr<File>> source = disk.open(from, {.read_only = true});
  if (!source) return source.error();
  Result<std::unique_ptr<File>> copy = disk.open(to, {.create = true, .exclusive = true});
  if (!copy) return copy.error();
  Buffer buffer = Buffer::allocate(std::min<uint64_t>(std::max<uint64_t>(size, 1), kMiB));
  for (uint64_t done = 0; done < size;) {
    auto piece = buffer.mutable_span().first(std::min<uint64_t>(buffer.size(), size - done));
    Result<size_t> got = (*source)->read(done, piece);
    if (!got) return got.error();
    if (*got == 0) return Error(ErrorCode::kCorrupt, from + ": shorter than it was");
    Result<void> written = (*copy)->write(done, piece.first(*got));
    if (!written) return written;
    done += *got;
  }
  return (*copy)->sync();
}

}  // namespace cairn
