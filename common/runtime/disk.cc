#include "common/runtime/disk.h"

#include <utility>

namespace cairn {

namespace {
std::string folder_of(const std::string& path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}
}  // namespace

Result<std::string> read_file(Disk& disk, const std::string& path) {
  Result<std::unique_ptr<File>> file = disk.open(path, {.read_only = true});
  if (!file) return file.error();
  Result<uint64_t> size = (*file)->size();
  if (!size) return size.error();
  std::string content(*size, '\0');
  Result<size_t> got = (*file)->read(0, std::as_writable_bytes(std::span(content)));
  if (!got) return got.error();
  content.resize(*got);
  return content;
}

Result<void> write_file(Disk& disk, const std::string& path, std::string_view content) {
  std::string temporary = path + ".new";
  Result<std::unique_ptr<File>> file = disk.open(temporary, {.create = true, .truncate = true});
  if (!file) return file.error();
  Result<void> done = (*file)->write(0, std::as_bytes(std::span(content)));
  // The bytes are on disk before the name points at them: otherwise a crash could leave an empty file in place of the
  // old one.
  if (done) done = (*file)->sync();
  if (!done) return done;
  file->reset();
  done = disk.rename(temporary, path);
  if (!done) return done;
  return disk.sync_folder(folder_of(path));
}

}  // namespace cairn
