// What mount(8) says: its options, and how it calls mount.cairn.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "fs/fuse/run_mount.h"

namespace cairn {

// One word of `-o a,b`: what Cairn knows goes into `mount`; what mount(8) means for itself (auto, _netdev, x-...), and
// what is so anyway (rw, dirsync, relatime), does nothing. Later words win. Others are refused, by name.
Result<void> take_mount_option(MountOptions& mount, std::string_view option);

// The arguments of `cairn` that do what `mount.cairn SOURCE DIR [-sfnv] [-o OPTIONS]` asks for: mount(8) and fstab call
// programs of that name. Note that its -f (change nothing) is not the -f of `cairn mount` (foreground).
std::vector<std::string> mount_helper_arguments(const std::vector<std::string>& arguments);

// The status that mount(8) expects of a helper, for one of ours.
int mount_helper_status(int status);

}  // namespace cairn
