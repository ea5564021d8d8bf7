// What other commands need of mounting.
#pragma once

#include <memory>
#include <string>

#include "common/runtime/disk.h"
#include "fs/fuse/mount_registry.h"

namespace cairn {

// Exit statuses; errors are told.
int mount_in_background(const std::string& masters, const std::string& mountpoint);
int unmount(const std::string& mountpoint, bool quiet);

std::unique_ptr<Disk> make_command_disk();
// What a mount that has ended could not write, from the last lines of its log; empty: nothing.
Result<std::string> unwritten_at_end(Disk& disk, const MountRecord& record);

}  // namespace cairn
