#define FUSE_USE_VERSION 314

#include "fs/fuse/kernel_channel.h"

#include <cerrno>
#include <cstring>
#include <fuse_lowlevel.h>
#include <sys/uio.h>
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

Result<void> KernelChannel::attach(fuse_session* session, int fd, KernelDevice& device) {
  device_ = &device;
  static constexpr fuse_custom_io kHooks{.writev = write_hook, .read = read_hook};
  int failed = fuse_session_custom_io(session, &kHooks, fd);
  if (failed != 0) return Error(from_errno(-failed), "fuse_session_custom_io");
  return {};
}

Result<KernelChannel::Received> KernelChannel::receive() {
  if (data_.empty()) data_ = Buffer::allocate(kFuseMaxIoBytes);
  iovec pieces[2] = {{head_.get(), kWriteHeadBytes}, {data_.mutable_span().data(), kFuseMaxIoBytes}};
  ssize_t got = device_->receive(pieces, 2);
  if (got < 0) {
    // ENOENT: the request was interrupted before we took it.
    if (got == -EAGAIN || got == -EINTR || got == -ENOENT) return Received::kNothing;
    if (got == -ENODEV || got == -ENOTCONN || got == -ECONNABORTED) return Received::kEnded;
    errno = static_cast<int>(-got);
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

// libfuse wants one; receive() is what reads.
ssize_t KernelChannel::read_hook(int, void*, size_t, void*) {
  errno = EAGAIN;
  return -1;
}

ssize_t KernelChannel::write_hook(int, iovec* pieces, int count, void* userdata) {
  KernelChannel* channel = static_cast<FuseContext*>(userdata)->channel;
  bool init = !channel->initialised_ && channel->init_unique_ != 0;
  if (init) channel->complete_init_answer(pieces, count);
  ssize_t written = channel->device_->send(pieces, count);
  if (init && written > 0) channel->initialised_ = true;
  if (written < 0) errno = static_cast<int>(-written);
  return written < 0 ? -1 : written;
}

namespace {

// A notification is an answer to no request (unique 0), whose error is its code.
template <class Body>
std::string notification(int32_t code, const Body& body, const std::string* name = nullptr) {
  std::string message(sizeof(fuse_out_header), '\0');
  message.append(reinterpret_cast<const char*>(&body), sizeof body);
  if (name) message.append(name->c_str(), name->size() + 1);
  fuse_out_header head{.len = static_cast<uint32_t>(message.size()), .error = code, .unique = 0};
  std::memcpy(message.data(), &head, sizeof head);
  return message;
}

std::string message_of(const Notification& what) {
  switch (what.kind) {
    case Notification::Kind::kAttributes:
      return notification(FUSE_NOTIFY_INVAL_INODE,
                          fuse_notify_inval_inode_out{.ino = what.inode.value, .off = -1, .len = 0});
    case Notification::Kind::kPages:
      return notification(FUSE_NOTIFY_INVAL_INODE, fuse_notify_inval_inode_out{.ino = what.inode.value,
                                                                               .off = static_cast<int64_t>(what.offset),
                                                                               .len = static_cast<int64_t>(what.size)});
    case Notification::Kind::kEntry:
      break;
  }
  fuse_notify_inval_entry_out body{};
  body.parent = what.inode.value;
  body.namelen = static_cast<uint32_t>(what.name.size());
  return notification(FUSE_NOTIFY_INVAL_ENTRY, body, &what.name);
}

}  // namespace

Task<int> KernelChannel::notify(Notification what, std::shared_ptr<std::atomic<bool>> begun) {
  int answer = co_await device_->notify(message_of(what), std::move(begun));
  co_return answer;
}

int KernelChannel::advance_epoch() {
  if (!features_.epoch) return -EINVAL;
  fuse_out_header head{.len = sizeof head, .error = kNotifyIncEpoch, .unique = 0};
  iovec piece{&head, sizeof head};
  ssize_t sent = device_->send(&piece, 1);
  return sent < 0 ? static_cast<int>(sent) : 0;
}

}  // namespace cairn
