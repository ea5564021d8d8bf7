// run_mount: a whole `cairn mount`, from the checks of the mountpoint to the exit status. By default it goes to the
// background and returns to the shell when the mount can be used.
//
// Three processes: the caller; the guardian (guardian.h), which watches; and the mount's own process. Call it from the
// main thread before any thread exists: it forks.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/log.h"
#include "common/runtime/real_world.h"
#include "common/tls/tls_settings.h"
#include "fs/client/file_system.h"

namespace cairn {

// Kernel features that may be there, and that tests switch off to run as on an older kernel (`-o kernel=6.1`).
struct KernelFeatures {
  bool kill_privileges = true;  // FUSE_HANDLE_KILLPRIV_V2: no GETXATTR before each write
  bool readdirplus = true;
  bool parallel_dirops = true;
  bool epoch = true;        // FUSE_NOTIFY_INC_EPOCH: all names are looked up again
  bool direct_mmap = true;  // FUSE_DIRECT_IO_ALLOW_MMAP
};

struct MountOptions {
  // masters, read_only, timeouts and buffers; host and program for `cairn status`. The mountpoint is filled in.
  ClientOptions client;
  std::string mountpoint;
  bool foreground = false;
  TlsSettings tls;
  std::vector<std::string> tls_folders;  // where a client's certificate is looked for, before /etc/cairn/tls

  std::optional<bool> allow_other;  // default: when root mounts
  bool no_suid = false;
  bool no_dev = false;
  bool no_exec = false;
  bool no_atime = false;
  std::string extra_options;  // as in `-o a,b`: handed to libfuse as they are

  uint32_t read_ahead_kb = 4096;   // of the kernel; where /sys lets us
  uint32_t max_background = 4096;  // requests that the kernel may have waiting here
  // The loop polls that long before it sleeps (design 3.1).
  Duration poll = std::chrono::microseconds(50);
  // At the end: how long to wait until all that was written is on disk elsewhere.
  Duration flush_timeout = std::chrono::minutes(5);
  // What other mounts have changed is for so long not cached by the kernel, but here: then the next recall is free.
  Duration conflict_time = std::chrono::seconds(5);
  KernelFeatures kernel;

  // In the background lines go to a file; empty: beside the run file (mount_registry.h).
  std::string log_file;
  LogLevel log_level = LogLevel::kInfo;

  // Makes the file system; default: FileSystem::connect. Tests mount one of their own.
  std::function<Task<Result<std::unique_ptr<FileSystem>>>(World&, ClientOptions)> connect;
};

// Exit statuses: 0 mounted (background) or cleanly ended (foreground); 1 could not mount, or ended with something not
// written or by a fault. What went wrong is one line on standard error.
int run_mount(MountOptions options);

}  // namespace cairn
