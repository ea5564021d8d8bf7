#define FUSE_USE_VERSION 314

#include "fs/fuse/kernel_channel.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utility>

#include "common/base/check.h"

namespace cairn {

namespace {
// A WRITE smaller than this is copied: keeping its 1 MiB receive buffer alive would cost more memory than it holds.
constexpr size_t kStealMinBytes = kFuseMaxIoBytes / 2;

// Of later kernels' <linux/fuse.h>.
constexpr int32_t kNotifyIncEpoch = 8;             // FUSE_NOTIFY_INC_EPOCH, 6.16
constexpr uint32_t kDirectIoAllowMmap2 = 1U << 4;  // FUSE_DIRECT_IO_ALLOW_MMAP (1 << 36), 6.6: of flags2
}  // namespace

KernelChannel::KernelChannel(KernelFeatures features)
    : features_(features), head_(new std::byte[kWriteHeadBytes + kFuseMaxIoBytes]) {}

Result<void> KernelChannel::attach(fuse_session* session) {
  fd_ = fuse_session_fd(session);
  int flags = ::fcntl(fd_, F_GETFL);
  if (flags < 0 || ::fcntl(fd_, F_SETFL, flags | O_NONBLOCK) < 0) return errno_error("/dev/fuse: fcntl");
  static constexpr fuse_custom_io kHooks{.writev = write_hook, .read = read_hook};
  int failed = fuse_session_custom_io(session, &kHooks, fd_);
  if (failed != 0) return Error(from_errno(-failed), "fuse_session_custom_io");
  return {};
}

Result<KernelChannel::Received> KernelChannel::receive() {
  if (data_.empty()) data_ = Buffer::allocate(kFuseMaxIoBytes);
  iovec pieces[2] = {{head_.get(), kWriteHeadBytes}, {data_.mutable_span().data(), kFuseMaxIoBytes}};
  ssize_t got = ::readv(fd_, pieces, 2);
  if (got < 0) {
    // ENOENT: the request was interrupted before we took it.
    if (errno == EAGAIN || errno == EINTR || errno == ENOENT) return Received::kNothing;
    if (errno == ENODEV || errno == ENOTCONN || errno == ECONNABORTED) return Received::kEnded;
    return errno_error("reading /dev/fuse");
  }
  auto bytes = static_cast<size_t>(got);
  if (bytes < sizeof(fuse_in_header) || bytes != header().len) {
    return Error(ErrorCode::kIo, "a request of " + std::to_string(bytes) + " bytes from /dev/fuse");
  }
  data_bytes_ = bytes > kWriteHeadBytes ? bytes - kWriteHeadBytes : 0;
  message_bytes_ = bytes;
  if (header().opcode == FUSE_WRITE) {
    message_bytes_ = bytes - data_bytes_;
    if (message_bytes_ < kWriteHeadBytes || argument<fuse_write_in>().size != data_bytes_) {
      return Error(ErrorCode::kIo, "a WRITE whose size is not its data's");
    }
  } else if (data_bytes_ > 0) {
    std::memcpy(head_.get() + kWriteHeadBytes, data_.data(), data_bytes_);
  }
  if (header().opcode == FUSE_INIT) mask_init_request();
  return Received::kRequest;
}

Buffer KernelChannel::take_written() {
  CHECK(header().opcode == FUSE_WRITE);
  if (data_bytes_ < kStealMinBytes) return Buffer::copy_of(data_.span().first(data_bytes_));
  Buffer taken = data_.slice(0, data_bytes_);
  data_ = {};
  return taken;
}

// What is switched off was not offered: libfuse and we see an older kernel.
void KernelChannel::mask_init_request() {
  CHECK(message_bytes_ >= sizeof(fuse_in_header) + 16);  // major, minor, max_readahead, flags
  auto* init = reinterpret_cast<fuse_init_in*>(head_.get() + sizeof(fuse_in_header));
  uint32_t off = 0;
  if (!features_.kill_privileges) off |= FUSE_HANDLE_KILLPRIV_V2;
  if (!features_.readdirplus) off |= FUSE_DO_READDIRPLUS | FUSE_READDIRPLUS_AUTO;
  if (!features_.parallel_dirops) off |= FUSE_PARALLEL_DIROPS;
  init->flags &= ~off;
  constexpr size_t kWithFlags2 = sizeof(fuse_in_header) + offsetof(fuse_init_in, flags2) + sizeof(uint32_t);
  direct_handles_map_ = features_.direct_mmap && (init->flags & FUSE_INIT_EXT) != 0 && message_bytes_ >= kWithFlags2 &&
                        (init->flags2 & kDirectIoAllowMmap2) != 0;
  init_offered_ = init->flags;
  init_unique_ = header().unique;
}

void KernelChannel::complete_init_answer(iovec* pieces, int count) {
  auto* head = static_cast<fuse_out_header*>(pieces[0].iov_base);
  if (head->unique != init_unique_ || head->error != 0 || count < 2) return;
  CHECK(pieces[1].iov_len >= offsetof(fuse_init_out, flags) + sizeof(uint32_t));
  auto* answer = static_cast<fuse_init_out*>(pieces[1].iov_base);
  // Whoever writes without CAP_FSETID clears set-id bits: we are told so in the request, instead of the kernel's asking
  // for security.capability before each write.
  answer->flags |= init_offered_ & FUSE_HANDLE_KILLPRIV_V2;
  if (pieces[1].iov_len < offsetof(fuse_init_out, flags2) + sizeof(uint32_t)) direct_handles_map_ = false;
  if (!direct_handles_map_) return;
  answer->flags |= FUSE_INIT_EXT;
  answer->flags2 |= kDirectIoAllowMmap2;
}

ssize_t KernelChannel::read_hook(int fd, void* buffer, size_t size, void*) {
  return ::read(fd, buffer, size);  // libfuse wants one; receive() is what reads
}

ssize_t KernelChannel::write_hook(int fd, iovec* pieces, int count, void* userdata) {
  KernelChannel* channel = static_cast<FuseContext*>(userdata)->channel;
  bool init = !channel->initialised_ && channel->init_unique_ != 0;
  if (init) channel->complete_init_answer(pieces, count);
  ssize_t written = ::writev(fd, pieces, count);
  if (init && written > 0) channel->initialised_ = true;
  return written;
}

int KernelChannel::notify(int32_t code, const void* body, size_t body_bytes, const std::string* name) {
  fuse_out_header head{};
  head.error = code;  // unique 0 makes it a notification
  iovec pieces[3] = {{&head, sizeof head}, {const_cast<void*>(body), body_bytes}, {}};
  int count = body_bytes > 0 ? 2 : 1;
  if (name) pieces[count++] = {const_cast<char*>(name->c_str()), name->size() + 1};
  head.len = static_cast<uint32_t>(sizeof head + body_bytes + (name ? name->size() + 1 : 0));
  return ::writev(fd_, pieces, count) < 0 ? -errno : 0;
}

int KernelChannel::invalidate_attributes(InodeId inode) {
  fuse_notify_inval_inode_out body{.ino = inode.value, .off = -1, .len = 0};
  return notify(FUSE_NOTIFY_INVAL_INODE, &body, sizeof body, nullptr);
}

int KernelChannel::invalidate_pages(InodeId inode, uint64_t offset, uint64_t size) {
  fuse_notify_inval_inode_out body{
      .ino = inode.value, .off = static_cast<int64_t>(offset), .len = static_cast<int64_t>(size)};
  return notify(FUSE_NOTIFY_INVAL_INODE, &body, sizeof body, nullptr);
}

int KernelChannel::invalidate_entry(InodeId parent, const std::string& name) {
  fuse_notify_inval_entry_out body{};
  body.parent = parent.value;
  body.namelen = static_cast<uint32_t>(name.size());
  return notify(FUSE_NOTIFY_INVAL_ENTRY, &body, sizeof body, &name);
}

int KernelChannel::advance_epoch() {
  return features_.epoch ? notify(kNotifyIncEpoch, nullptr, 0, nullptr) : -EINVAL;
}

}  // namespace cairn
