// KernelDevice: the kernel's end of one FUSE connection. DeviceFile is /dev/fuse; the simulator has a model of the
// kernel behind it (tests/support/sim_kernel.h).
//
// Loop thread only. Messages are those of <linux/fuse.h>, whole.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>
#include <sys/types.h>

#include "common/base/result.h"
#include "common/runtime/task.h"
#include "common/runtime/world.h"

struct iovec;

namespace cairn {

// How many notifications may block at a time; more wait for one of them.
inline constexpr size_t kNotificationsAtOnce = 32;

class KernelDevice {
 public:
  virtual ~KernelDevice() = default;
  // Takes one request: its bytes, or -errno (-EAGAIN: none waits). Never blocks.
  virtual ssize_t receive(iovec* pieces, int count) = 0;
  // Gives an answer, or a notification that cannot block: its bytes, or -errno.
  virtual ssize_t send(const iovec* pieces, int count) = 0;
  // A notification that may block behind requests without an answer. Completes with 0 or -errno when the kernel's call
  // returns; `*begun` becomes true when it is made, which may be later than now.
  virtual Task<int> notify(std::string message, std::shared_ptr<std::atomic<bool>> begun) = 0;
};

// The device's file. Notifications wait on threads of its own.
class DeviceFile final : public KernelDevice {
 public:
  // The descriptor stays the caller's, and must be there until the last notification has returned.
  DeviceFile(World& world, int fd);
  // Reading does not wait from now on.
  Result<void> prepare();

  ssize_t receive(iovec* pieces, int count) override;
  ssize_t send(const iovec* pieces, int count) override;
  Task<int> notify(std::string message, std::shared_ptr<std::atomic<bool>> begun) override;

 private:
  int fd_;
  std::unique_ptr<BlockingPool> pool_;
};

}  // namespace cairn
