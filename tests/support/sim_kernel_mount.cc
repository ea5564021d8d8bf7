#include "tests/support/sim_kernel_mount.h"

#include <fcntl.h>

#include "common/base/check.h"

namespace cairn {

KernelMount::KernelMount(World& world, FileSystem& file_system, SimKernel& kernel)
    : world_(world),
      server_(world, file_system,
              {.conflict_time = MountOptions{}.conflict_time, .max_background = MountOptions{}.max_background},
              [this] { gave_up_ = true; }) {
  Result<void> opened = server_.open({"cairn", "-o", "max_read=" + std::to_string(kFuseMaxIoBytes)});
  // libfuse wants a descriptor, which it closes, and never looks at it.
  if (opened) opened = server_.attach(kernel, ::open("/dev/null", O_RDWR | O_CLOEXEC));
  CHECK(opened);
  kernel.connect([this] { serve(); }, world.executor());
}

KernelMount::~KernelMount() = default;

void KernelMount::serve() {
  Result<FuseServer::Served> served = server_.serve();
  if (!served) {
    failure_ = served.error().message();
  } else if (*served == FuseServer::Served::kSome) {
    world_.executor().post([this] { serve(); });
  } else if (*served == FuseServer::Served::kFull) {
    server_.when_open([this] { world_.executor().post([this] { serve(); }); });
  }
}

}  // namespace cairn
