// The mounts of this machine: a small run file for each, with which `cairn umount`, `cairn sync` and `cairn local` find
// the process behind a mountpoint, and a Unix socket beside it on which that process answers.
//
// The folder: $CAIRN_RUN_DIR, else /run/cairn/mounts for root, else $XDG_RUNTIME_DIR/cairn, else ~/.cache/cairn/mounts.
// Run files are "key=value" lines. A process is known by its id and its start time, so that an id that was used again
// is never taken for it. Functions block briefly on the local disk; any thread.
#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/disk.h"
#include "common/runtime/world.h"
#include "fs/fuse/kernel_mount.h"
#include "fs/fuse/process_id.h"

namespace cairn {

struct MountRecord {
  std::string mountpoint;  // absolute, without links
  std::string masters;     // "host:port,host:port": those that the mount knows by now
  ProcessId process;       // the mount's own process: it ends when all is flushed
  ProcessId guardian;      // gives the exit status; ends last
  std::string socket;      // control socket: /metrics, /health, /sync
  std::string log_file;    // empty: standard error
  std::string path;        // of the run file itself
};

std::string mount_run_folder();
// Those whose process is alive; run files of others are removed.
Result<std::vector<MountRecord>> list_mounts(Disk& disk);
// By its mountpoint (links are resolved as far as that needs no access to the mount itself). kNotFound.
Result<MountRecord> find_mount(Disk& disk, const std::string& mountpoint);

// For the mount's process. Gives the record with `path` and `socket` (and log_file, if it is asked for) filled in;
// nothing is written.
MountRecord new_mount_record(const std::string& mountpoint, const std::string& masters);
Result<void> write_mount_record(Disk& disk, const MountRecord& record);
void remove_mount_record(Disk& disk, const MountRecord& record);

// Asks a mount's process: path "/metrics", "/health", or "/sync" (answered when everything that was written through the
// mount before is durable, or could not be made so: status 500 and what is missing).
struct ControlAnswer {
  int status = 0;
  std::string body;
};
Task<Result<ControlAnswer>> ask_mount(World& world, std::string socket, std::string path, TimePoint deadline);

}  // namespace cairn
