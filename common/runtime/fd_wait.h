// WaitableFd: a descriptor in the loop's reactor, with awaitables for "readable" and "writable". Internal to
// common/runtime: it includes Asio.
//
// It is shared by the streams' coroutines and by what Asio has pending, so that neither touches freed memory, whoever
// goes first: a frame that is destroyed while it waits is forgotten, and a descriptor that is closed wakes its waiters.
// Loop thread only. At most one waiter a direction.
#pragma once

#include <coroutine>
#include <memory>
#include <unistd.h>
#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "common/base/check.h"
#include "common/base/result.h"
#include "common/runtime/read_predictor.h"

namespace cairn {

class WaitableFd : public std::enable_shared_from_this<WaitableFd> {
 public:
  enum class For { kRead, kWrite };

  // Takes the descriptor, which must be non-blocking; closes it if the reactor has no room for it.
  static Result<std::shared_ptr<WaitableFd>> make(boost::asio::io_context& io, int fd) {
    std::shared_ptr<WaitableFd> made(new WaitableFd(io));
    boost::system::error_code error;
    made->descriptor_.assign(fd, error);
    if (!error) return made;
    ::close(fd);
    return Error(from_errno(error.value()), "registering with epoll: " + error.message());
  }

  int fd() { return descriptor_.native_handle(); }
  bool closed() const { return closed_; }
  // Why it was closed: what its waiters then answer.
  const Error& reason() const { return reason_; }
  // The first call wins. The waiters are resumed by the loop, not inside this.
  void close(Error reason) {
    if (closed_) return;
    closed_ = true;
    reason_ = std::move(reason);
    boost::system::error_code ignored;
    descriptor_.close(ignored);
  }

  // `co_await fd->ready(For::kRead)`: resumed when it may be so, or when it was closed: try again, and look at closed()
  // first.
  class Ready {
   public:
    Ready(std::shared_ptr<WaitableFd> fd, For direction) : fd_(std::move(fd)), direction_(direction) {}
    Ready(const Ready&) = delete;
    Ready& operator=(const Ready&) = delete;
    ~Ready() {
      if (waiting_) fd_->waiter(direction_) = {};
    }
    bool await_ready() const noexcept { return fd_->closed_; }
    void await_suspend(std::coroutine_handle<> handle) {
      CHECK(!fd_->waiter(direction_));  // two at once: the caller broke the stream's rule
      waiting_ = true;
      fd_->waiter(direction_) = handle;
      fd_->arm(direction_);
    }
    void await_resume() noexcept { waiting_ = false; }

   private:
    std::shared_ptr<WaitableFd> fd_;
    For direction_;
    bool waiting_ = false;
  };
  Ready ready(For direction) { return Ready(shared_from_this(), direction); }

  ReadPredictor reads;  // for a stream's reader

 private:
  using Descriptor = boost::asio::posix::stream_descriptor;
  explicit WaitableFd(boost::asio::io_context& io) : descriptor_(io) {}
  std::coroutine_handle<>& waiter(For direction) { return waiters_[direction == For::kWrite]; }
  void arm(For direction) {
    bool& armed = armed_[direction == For::kWrite];
    if (armed) return;  // left by a waiter that was destroyed: it serves this one
    armed = true;
    descriptor_.async_wait(direction == For::kWrite ? Descriptor::wait_write : Descriptor::wait_read,
                           [self = shared_from_this(), direction](boost::system::error_code) {
                             self->armed_[direction == For::kWrite] = false;
                             std::coroutine_handle<> waiter = std::exchange(self->waiter(direction), {});
                             if (waiter) waiter.resume();
                           });
  }

  Descriptor descriptor_;
  bool closed_ = false;
  Error reason_{ErrorCode::kCancelled};
  std::coroutine_handle<> waiters_[2];
  bool armed_[2] = {false, false};
};

}  // namespace cairn
