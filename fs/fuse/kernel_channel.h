// KernelChannel: /dev/fuse before libfuse. The one place that sees every buffer in both directions, because
// libfuse 3.14 lacks flags and notifications that kernels have and we need (docs/design.md 3.1).
//
// Requests are received here and handed to libfuse; the data of a WRITE lands in a page-aligned Buffer of its own,
// which its handler takes without a copy. The answer to INIT is completed on its way out. Notifications are written
// raw.
//
// Loop thread only. Must outlive the fuse_session.
#pragma once

#include <cstddef>
#include <cstdint>
#include <linux/fuse.h>
#include <memory>
#include <string>
#include <vector>

#include "common/base/buffer.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/units.h"
#include "fs/fuse/kernel_device.h"
#include "fs/fuse/notifier.h"
#include "fs/fuse/run_mount.h"

struct fuse_session;
struct iovec;

namespace cairn {

inline constexpr uint32_t kFuseMaxIoBytes = 1 * kMiB;  // of one READ or WRITE: 256 pages, what kernels allow by default

class FuseOps;
class KernelChannel;

// What a fuse_session's userdata points to.
struct FuseContext {
  KernelChannel* channel = nullptr;
  FuseOps* ops = nullptr;
};

class KernelChannel final : public KernelNotifications {
 public:
  explicit KernelChannel(KernelFeatures features);
  KernelChannel(const KernelChannel&) = delete;
  KernelChannel& operator=(const KernelChannel&) = delete;

  // Takes over the session's reading and writing, from now on and to this device, which outlives the channel. `fd` is
  // the session's.
  Result<void> attach(fuse_session* session, int fd, KernelDevice& device);

  enum class Received {
    kRequest,
    kNothing,  // none waits
    kEnded,    // unmounted, or aborted
  };
  Result<Received> receive();

  // The request that was received last; valid until the next receive().
  const fuse_in_header& header() const { return *reinterpret_cast<const fuse_in_header*>(head_.get()); }
  std::byte* message() { return head_.get(); }
  // Without the data of a WRITE.
  size_t message_bytes() const { return message_bytes_; }
  // What follows the header, as the kernel's struct; must be the one of its opcode.
  template <class T>
  const T& argument() const {
    return *reinterpret_cast<const T*>(head_.get() + sizeof(fuse_in_header));
  }
  // The data of the WRITE, once.
  Buffer take_written();

  // The kernel has taken the answer to INIT.
  bool initialised() const { return initialised_; }

  // INIT has been received, and the kernel will tell who clears set-id bits (since 5.12).
  bool kills_privileges() const { return (init_offered_ & FUSE_HANDLE_KILLPRIV_V2) != 0; }

  // -ENOENT if the kernel does not hold the inode or name.
  Task<int> notify(Notification what, std::shared_ptr<std::atomic<bool>> begun) override;
  int advance_epoch() override;

  // A handle that goes past the kernel's pages can be mapped all the same (since 6.6).
  bool direct_handles_map() const { return direct_handles_map_; }

 private:
  // The kernel wants a buffer for the largest WRITE: header, fuse_write_in, data.
  static constexpr size_t kWriteHeadBytes = sizeof(fuse_in_header) + sizeof(fuse_write_in);

  static ssize_t read_hook(int fd, void* buffer, size_t size, void* userdata);
  static ssize_t write_hook(int fd, iovec* pieces, int count, void* userdata);
  void mask_init_request();
  void complete_init_answer(iovec* pieces, int count);

  const KernelFeatures features_;
  KernelDevice* device_ = nullptr;
  // Head and data of a WRITE are read apart, so that the data is page-aligned; everything else is put together in
  // head_.
  std::unique_ptr<std::byte[]> head_;
  size_t message_bytes_ = 0;
  Buffer data_;
  size_t data_bytes_ = 0;
  uint64_t init_unique_ = 0;
  uint32_t init_offered_ = 0;
  bool direct_handles_map_ = false;
  bool initialised_ = false;
};

}  // namespace cairn
