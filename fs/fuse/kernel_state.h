// KernelState: what the FUSE side knows of the kernel: what it may hold, and which of its requests are under way.
// FuseOps keeps it true, the Notifier goes by it. Pure but for the clock; loop thread only.
#pragma once

#include "fs/fuse/dir_handle.h"
#include "fs/fuse/inode_table.h"
#include "fs/fuse/inode_traffic.h"
#include "fs/fuse/reply_times.h"

namespace cairn {

struct KernelState {
  KernelState(const Clock& clock, Duration conflict_time) : times(clock, conflict_time) {}

  InodeTable inodes;
  InodeTraffic traffic;
  DirectoryHandles directories;
  ReplyTimes times;
};

}  // namespace cairn
