#include "fs/cli/mount_tools.h"

#include <string_view>

#include "common/runtime/posix_disk.h"

namespace cairn {

std::unique_ptr<Disk> make_command_disk() {
  return make_posix_disk();
}

Result<std::string> unwritten_at_end(Disk& disk, const MountRecord& record) {
  if (record.log_file.empty()) return std::string();
  Result<std::string> log = read_file(disk, record.log_file);
  if (!log) return log.error();
  // Its last words (fs/fuse/mount_process.cc): how it ended, and before that what was left.
  size_t ended = log->rfind(" mount.ended ");
  if (ended == std::string::npos) return Error(ErrorCode::kIo, "the mount's process died; see " + record.log_file);
  if (log->find("clean=true", ended) != std::string::npos) return std::string();
  size_t reason = log->rfind(" mount.not_flushed ", ended);
  if (reason == std::string::npos) return "see " + record.log_file;
  reason += std::string_view(" mount.not_flushed ").size();
  return log->substr(reason, log->find('\n', reason) - reason);
}

}  // namespace cairn
