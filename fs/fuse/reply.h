// Reply: one FUSE request's answer. It owns the request: whoever holds it answers once, by the call that fits the
// operation; one that is dropped unanswered answers EIO, so that no caller of the kernel waits for ever. One that was
// given up meanwhile, because its caller is being killed, has been answered: the operation goes on to its end, and
// hears from its answer that the kernel no longer wants it.
//
// RequestGate bounds what is held: requests, and the bytes of their WRITEs, and knows which were interrupted. Loop
// thread only; the fuse_session and the gate must outlive every Reply.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <set>
#include <string_view>
#include <sys/stat.h>

#include "common/base/buffer.h"
#include "common/base/metrics.h"
#include "common/runtime/clock.h"
#include "fs/client/file_system.h"

struct fuse_req;
struct fuse_file_info;
struct fuse_entry_param;

namespace cairn {

class Reply;

class RequestGate {
 public:
  // Kernels hold thousands of requests back by themselves; a coroutine is about 2 KiB.
  static constexpr uint64_t kRequestsMax = 8192;
  // WRITEs that wait for room in the file system's own buffer; one file has at most one under way.
  static constexpr uint64_t kBytesMax = 128 * kMiB;

  bool full() const { return requests_ >= kRequestsMax || bytes_ >= kBytesMax; }
  uint64_t requests() const { return requests_; }
  // Called when it is no longer full, once.
  void when_open(std::function<void()> callback) { when_open_ = std::move(callback); }

  // Requests whose callers got a signal while they waited. The callback, set once, is called when the first is there.
  const std::set<Reply*>& interrupted() const { return interrupted_; }
  void when_interrupted(std::function<void()> callback) { when_interrupted_ = std::move(callback); }

 private:
  friend class Reply;
  void interrupt(Reply* reply);
  void enter(uint64_t bytes);
  void leave(uint64_t bytes);

  uint64_t requests_ = 0;
  uint64_t bytes_ = 0;
  std::function<void()> when_open_;
  std::set<Reply*> interrupted_;
  std::function<void()> when_interrupted_;
};

// How long the kernel may go by a name, and by its inode's attributes, without asking.
struct EntryTimes {
  Duration name{};
  Duration attributes{};
};

class Reply {
 public:
  // `seconds` (may be null) is told how long it took. `bytes` of memory are held by the request.
  Reply(fuse_req* request, RequestGate& gate, const Clock& clock, Histogram* seconds, uint64_t bytes = 0);
  Reply(Reply&& other) noexcept;
  Reply& operator=(Reply&&) = delete;
  ~Reply();

  fuse_req* request() const { return request_; }  // null once given up
  TimePoint started() const { return started_; }
  // The thread that waits for the answer; 0 if it is in another space of process ids.
  int caller() const;
  // A caller that waits for a lock is let go by any signal: the callback is called for the first one (perhaps at once),
  // in a place where nothing may be answered. While this object stays where it is.
  void when_interrupted(std::function<void()> callback);
  // Answers EINTR; what the operation comes to is not told any more.
  void give_up();

  // Each gives false if the kernel no longer wants the answer: what was counted or opened for it must be undone.
  bool none();  // FORGET
  bool error(int error_number);
  bool error(const Error& error);
  bool result(const Result<void>& result);  // success without content, or the error
  // A name's inode.
  bool entry(const Attributes& attributes, EntryTimes times);
  bool created(const Attributes& attributes, EntryTimes times, const fuse_file_info& file);
  bool opened(const fuse_file_info& file);
  bool attributes(const AttributesView& view);
  bool data(const Payload& payload);
  bool written(size_t bytes);
  bool link_target(const std::string& target);
  bool bytes(std::string_view bytes);
  bool xattr_size(size_t bytes);
  bool offset(uint64_t offset);
  bool stat_fs(const StatFsReply& reply);
  // What is in the way of a lock, if anything.
  bool lock(const std::optional<FileLock>& in_the_way);

 private:
  template <class Send>
  bool answer(Send send);
  fuse_req* take();
  void watch_for_interrupt();

  fuse_req* request_;
  RequestGate* gate_;
  const Clock* clock_;
  Histogram* seconds_;
  TimePoint started_;
  uint64_t bytes_;
  std::function<void()> interrupted_;
};

// As the kernel wants them.
struct stat to_stat(const Attributes& attributes);
fuse_entry_param to_entry_param(const Attributes& attributes, EntryTimes times);
uint32_t file_type_bits(FileType type);  // S_IFMT

}  // namespace cairn
