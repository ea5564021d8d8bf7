#include "fs/fuse/kernel_device.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utility>

namespace cairn {

DeviceFile::DeviceFile(World& world, int fd) : fd_(fd), pool_(world.make_pool("fuse-notify", kNotificationsAtOnce)) {}

Result<void> DeviceFile::prepare() {
  int flags = ::fcntl(fd_, F_GETFL);
  if (flags < 0 || ::fcntl(fd_, F_SETFL, flags | O_NONBLOCK) < 0) return errno_error("/dev/fuse: fcntl");
  return {};
}

ssize_t DeviceFile::receive(iovec* pieces, int count) {
  ssize_t got = ::readv(fd_, pieces, count);
  return got < 0 ? -errno : got;
}

ssize_t DeviceFile::send(const iovec* pieces, int count) {
  ssize_t sent = ::writev(fd_, pieces, count);
  return sent < 0 ? -errno : sent;
}

Task<int> DeviceFile::notify(std::string message, std::shared_ptr<std::atomic<bool>> begun) {
  Result<int> told = co_await pool_->run([fd = fd_, message = std::move(message), begun]() -> Result<int> {
    *begun = true;
    return ::write(fd, message.data(), message.size()) < 0 ? -errno : 0;
  });
  co_return told ? *told : -ENODEV;
}

}  // namespace cairn
