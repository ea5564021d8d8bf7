#include "master/consensus/durable_folder.h"

namespace cairn {

std::string parent_folder(const std::string& path) {
  size_t slash = path.find_last_of('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

Result<void> make_durable_folder(Disk& disk, const std::string& folder) {
  Result<void> made = disk.make_folder(folder);
  if (!made) return made;
  // Also when it was there: the process that made it may have died before it came to this.
  return disk.sync_folder(parent_folder(folder));
}

}  // namespace cairn
