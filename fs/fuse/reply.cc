#define FUSE_USE_VERSION 314

#include "fs/fuse/reply.h"

#include <cerrno>
#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <utility>
#include <vector>

#include "common/base/check.h"

namespace cairn {

namespace {

// What stdio and cp take as their buffer: larger requests, without making a small read read much.
constexpr uint32_t kPreferredIoBytes = 64 * kKiB;

// libfuse answers 0 or -errno; -ENOENT is the kernel's "that request is gone".
bool taken(int result) {
  return result == 0;
}

double seconds_of(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

timespec to_timespec(FileTime time) {
  constexpr int64_t kSecond = 1'000'000'000;
  int64_t seconds = time / kSecond;
  int64_t rest = time % kSecond;
  if (rest < 0) {  // before 1970
    --seconds;
    rest += kSecond;
  }
  return {.tv_sec = seconds, .tv_nsec = rest};
}

}  // namespace

uint32_t file_type_bits(FileType type) {
  switch (type) {
    case FileType::kRegular:
      return S_IFREG;
    case FileType::kDirectory:
      return S_IFDIR;
    case FileType::kSymlink:
      return S_IFLNK;
    case FileType::kFifo:
      return S_IFIFO;
    case FileType::kSocket:
      return S_IFSOCK;
    case FileType::kCharDevice:
      return S_IFCHR;
    case FileType::kBlockDevice:
      return S_IFBLK;
  }
  return S_IFREG;  // a type of a later version: decoding has refused it
}

struct stat to_stat(const Attributes& attributes) {
  struct stat out{};
  out.st_ino = attributes.inode.value;
  out.st_mode = file_type_bits(attributes.type) | (attributes.mode & 07777);
  out.st_nlink = attributes.nlink;
  out.st_uid = attributes.uid;
  out.st_gid = attributes.gid;
  out.st_rdev = attributes.rdev;
  out.st_size = static_cast<off_t>(attributes.size);
  out.st_blksize = kPreferredIoBytes;
  out.st_blocks = static_cast<blkcnt_t>((attributes.allocated_bytes + 511) / 512);
  out.st_atim = to_timespec(attributes.atime);
  out.st_mtim = to_timespec(attributes.mtime);
  out.st_ctim = to_timespec(attributes.ctime);
  return out;
}

fuse_entry_param to_entry_param(const Attributes& attributes, EntryTimes times) {
  fuse_entry_param param{};
  param.ino = attributes.inode.value;
  param.entry_timeout = seconds_of(times.name);
  param.attr = to_stat(attributes);
  param.attr_timeout = seconds_of(times.attributes);
  return param;
}

void RequestGate::enter(uint64_t bytes) {
  ++requests_;
  bytes_ += bytes;
}

void RequestGate::leave(uint64_t bytes) {
  CHECK(requests_ > 0 && bytes_ >= bytes);
  --requests_;
  bytes_ -= bytes;
  if (when_open_ && !full()) std::exchange(when_open_, nullptr)();
}

void RequestGate::interrupt(Reply* reply) {
  bool first = interrupted_.empty();
  interrupted_.insert(reply);
  if (first && when_interrupted_) when_interrupted_();
}

Reply::Reply(fuse_req* request, RequestGate& gate, const Clock& clock, Histogram* seconds, uint64_t bytes)
    : request_(request), gate_(&gate), clock_(&clock), seconds_(seconds), started_(clock.now()), bytes_(bytes) {
  gate_->enter(bytes_);
  watch_for_interrupt();
}

Reply::Reply(Reply&& other) noexcept
    : request_(std::exchange(other.request_, nullptr)),
      gate_(std::exchange(other.gate_, nullptr)),
      clock_(other.clock_),
      seconds_(other.seconds_),
      started_(other.started_),
      bytes_(other.bytes_) {
  if (gate_) gate_->interrupted_.erase(&other);
  watch_for_interrupt();
}

Reply::~Reply() {
  if (!gate_) return;
  if (request_) fuse_reply_err(take(), EIO);
  if (seconds_) seconds_->observe(seconds_of(clock_->now() - started_));
  gate_->leave(bytes_);
}

// libfuse calls back while it processes the INTERRUPT, or at once if it has; it may not be answered from there.
void Reply::watch_for_interrupt() {
  if (!request_) return;
  auto interrupted = [](fuse_req_t, void* data) {
    auto* reply = static_cast<Reply*>(data);
    if (reply->interrupted_) {
      std::exchange(reply->interrupted_, nullptr)();
    } else {
      reply->gate_->interrupt(reply);
    }
  };
  fuse_req_interrupt_func(request_, interrupted, this);
}

void Reply::when_interrupted(std::function<void()> callback) {
  if (!request_) return;
  if (gate_->interrupted_.erase(this) > 0) {
    callback();
  } else {
    interrupted_ = std::move(callback);
  }
}

int Reply::caller() const {
  return request_ ? static_cast<int>(fuse_req_ctx(request_)->pid) : 0;
}

void Reply::give_up() {
  fuse_reply_err(take(), EINTR);
}

fuse_req* Reply::take() {
  CHECK(request_);  // answered twice
  gate_->interrupted_.erase(this);
  return std::exchange(request_, nullptr);
}

template <class Send>
bool Reply::answer(Send send) {
  if (!request_) return false;  // given up
  return taken(send(take()));
}

bool Reply::none() {
  fuse_reply_none(take());
  return true;
}

bool Reply::error(int error_number) {
  return answer([&](fuse_req* request) { return fuse_reply_err(request, error_number); });
}

bool Reply::error(const Error& error) {
  return this->error(error.as_errno());
}

bool Reply::result(const Result<void>& result) {
  return result ? error(0) : error(result.error());
}

bool Reply::entry(const Attributes& attributes, EntryTimes times) {
  fuse_entry_param param = to_entry_param(attributes, times);
  return answer([&](fuse_req* request) { return fuse_reply_entry(request, &param); });
}

bool Reply::created(const Attributes& attributes, EntryTimes times, const fuse_file_info& file) {
  fuse_entry_param param = to_entry_param(attributes, times);
  return answer([&](fuse_req* request) { return fuse_reply_create(request, &param, &file); });
}

bool Reply::opened(const fuse_file_info& file) {
  return answer([&](fuse_req* request) { return fuse_reply_open(request, &file); });
}

bool Reply::attributes(const AttributesView& view) {
  struct stat attributes = to_stat(view.attributes);
  return answer([&](fuse_req* request) { return fuse_reply_attr(request, &attributes, seconds_of(view.valid_for)); });
}

bool Reply::data(const Payload& payload) {
  std::vector<iovec> pieces;
  pieces.reserve(payload.size());
  for (const Buffer& piece : payload) {
    if (!piece.empty()) pieces.push_back({const_cast<std::byte*>(piece.data()), piece.size()});
  }
  // One system call must give it all, with the header.
  if (pieces.size() >= 1024) {
    Buffer whole = flatten(payload);
    return bytes(whole.view());
  }
  return answer(
      [&](fuse_req* request) { return fuse_reply_iov(request, pieces.data(), static_cast<int>(pieces.size())); });
}

bool Reply::written(size_t bytes) {
  return answer([&](fuse_req* request) { return fuse_reply_write(request, bytes); });
}

bool Reply::link_target(const std::string& target) {
  return answer([&](fuse_req* request) { return fuse_reply_readlink(request, target.c_str()); });
}

bool Reply::bytes(std::string_view bytes) {
  return answer([&](fuse_req* request) { return fuse_reply_buf(request, bytes.data(), bytes.size()); });
}

bool Reply::offset(uint64_t offset) {
  return answer([&](fuse_req* request) { return fuse_reply_lseek(request, static_cast<off_t>(offset)); });
}

bool Reply::xattr_size(size_t bytes) {
  return answer([&](fuse_req* request) { return fuse_reply_xattr(request, bytes); });
}

bool Reply::lock(const std::optional<FileLock>& in_the_way) {
  struct flock out{};
  out.l_type = F_UNLCK;
  if (in_the_way) {
    out.l_type = in_the_way->mode == LockMode::kExclusive ? F_WRLCK : F_RDLCK;
    out.l_whence = SEEK_SET;
    out.l_start = static_cast<off_t>(in_the_way->start);
    // 0: to the end of the file.
    if (in_the_way->end != kLockRangeEnd) out.l_len = static_cast<off_t>(in_the_way->end - in_the_way->start + 1);
    out.l_pid = static_cast<pid_t>(in_the_way->pid);
  }
  return answer([&](fuse_req* request) { return fuse_reply_lock(request, &out); });
}

bool Reply::stat_fs(const StatFsReply& reply) {
  struct statvfs out{};
  out.f_bsize = kPreferredIoBytes;
  out.f_frsize = kBlockSizeBytes;
  out.f_blocks = reply.total_bytes / kBlockSizeBytes;
  out.f_bfree = out.f_bavail = reply.free_bytes / kBlockSizeBytes;
  out.f_files = reply.inodes + reply.inodes_free;
  out.f_ffree = out.f_favail = reply.inodes_free;
  out.f_namemax = kMaxNameBytes;
  return answer([&](fuse_req* request) { return fuse_reply_statfs(request, &out); });
}

}  // namespace cairn
