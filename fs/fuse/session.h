// FuseSession: one mount in the kernel, served from the loop. It mounts, reads requests when /dev/fuse has some, and
// ends when the kernel does (umount) or when it is told to.
//
// Loop thread only. Lifetime: mount(), then ended() and stop() must have been awaited before it goes away.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "common/runtime/future.h"
#include "common/runtime/real_world.h"
#include "fs/client/file_system.h"
#include "fs/fuse/fuse_server.h"
#include "fs/fuse/kernel_device.h"
#include "fs/fuse/run_mount.h"

namespace cairn {

// How a session ended by itself.
enum class SessionEnd {
  kUnmounted,  // or aborted from outside: for us the same
  kFailed,     // /dev/fuse did something unexpected, or a notification was stuck; it has been logged
};

class FuseSession {
 public:
  // The file system is told of this session's caches.
  FuseSession(RealWorld& world, FileSystem& file_system, const MountOptions& options);
  ~FuseSession();
  FuseSession(const FuseSession&) = delete;
  FuseSession& operator=(const FuseSession&) = delete;

  // Mounts and starts to serve. `options.mountpoint` is absolute.
  Result<void> mount();
  // Completes when the kernel has agreed on features.
  Task<Result<void>> initialised();
  // N of /sys/fs/fuse/connections/N; after mount().
  uint32_t device_minor() const { return device_minor_; }
  // Brings the gauges up to date.
  void collect() { server_.collect(); }
  Task<SessionEnd> ended();
  // Takes the mount out of the namespace; files that are open stay served.
  void detach();
  // Ends the connection whatever is under way: callers get ENOTCONN.
  void abort();
  // After ended(), or after abort(): waits for operations under way (each ends within its deadline).
  Task<void> stop();

 private:
  static std::vector<std::string> arguments(const MountOptions& options);
  void watch();
  void receive_requests();
  void end(SessionEnd why);
  void give_up();
  void set_read_ahead();

  RealWorld& world_;
  const MountOptions options_;
  std::unique_ptr<DeviceFile> device_;
  FuseServer server_;
  std::unique_ptr<RealWorld::Watch> watch_;
  uint32_t device_minor_ = 0;
  bool over_ = false;
  bool gave_up_ = false;  // a notification was stuck
  Promise<void> agreed_;
  Promise<SessionEnd> end_;
};

}  // namespace cairn
