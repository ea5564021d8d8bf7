// FuseServer: serves one connection to a kernel: libfuse's session, the operations, the notifier. Whoever has the
// device (FuseSession; the simulator) says when there are requests.
//
// Loop thread only. stop() must have been awaited before it goes away.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "common/runtime/world.h"
#include "fs/client/file_system.h"
#include "fs/fuse/kernel_channel.h"
#include "fs/fuse/kernel_state.h"
#include "fs/fuse/notifier.h"
#include "fs/fuse/run_mount.h"

struct fuse_session;

namespace cairn {

class FuseServer {
 public:
  struct Options {
    KernelFeatures features;
    Duration conflict_time{};
    uint32_t max_background = 0;
  };
  // The file system is told of this kernel's caches. `give_up`: a notification is stuck, the connection must end.
  FuseServer(World& world, FileSystem& file_system, const Options& options, std::function<void()> give_up);
  ~FuseServer();
  FuseServer(const FuseServer&) = delete;
  FuseServer& operator=(const FuseServer&) = delete;

  // Makes libfuse's session, from its command line.
  Result<void> open(const std::vector<std::string>& arguments);
  fuse_session* session() { return session_.get(); }
  // From now on requests come from this device, which outlives the server; `fd` is what libfuse takes for it.
  Result<void> attach(KernelDevice& device, int fd);

  enum class Served {
    kAll,    // none waits
    kSome,   // others may want the loop; there may be more
    kFull,   // too many are under way: when_open()
    kEnded,  // by the kernel
  };
  // Takes requests and begins them.
  Result<Served> serve();
  // The kernel and libfuse have agreed on features.
  bool agreed() const { return agreed_; }
  // Called when there is room for requests again, once.
  void when_open(std::function<void()> callback);

  // Brings the gauges up to date.
  void collect();
  // Waits for all that is under way: the connection must be going on, or be aborted.
  Task<void> stop();
  // A crash, as the simulator makes it: what is under way is gone, and the file system may go.
  void abandon();

 private:
  KernelChannel channel_;
  FuseContext context_;
  std::unique_ptr<fuse_session, void (*)(fuse_session*)> session_;
  KernelState state_;
  Notifier notifier_;
  std::unique_ptr<FuseOps> ops_;
  bool agreed_ = false;
};

}  // namespace cairn
