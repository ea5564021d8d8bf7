// RwLock: a lock as the kernel's rwsem: shared or exclusive, in the order of asking, so that one who waits for it
// exclusively keeps all who come later out. Loop thread only.
#pragma once

#include <deque>
#include <memory>
#include <utility>

#include "common/runtime/future.h"
#include "common/runtime/task.h"

namespace cairn {

class RwLock : public std::enable_shared_from_this<RwLock> {
 public:
  explicit RwLock(Executor& executor) : executor_(executor) {}

  class Hold {
   public:
    Hold() = default;
    Hold(std::shared_ptr<RwLock> lock, bool exclusive) : lock_(std::move(lock)), exclusive_(exclusive) {}
    Hold(Hold&& other) noexcept : lock_(std::exchange(other.lock_, nullptr)), exclusive_(other.exclusive_) {}
    Hold& operator=(Hold&& other) noexcept {
      if (this != &other) {
        release();
        lock_ = std::exchange(other.lock_, nullptr);
        exclusive_ = other.exclusive_;
      }
      return *this;
    }
    ~Hold() { release(); }
    void release() {
      if (auto lock = std::exchange(lock_, nullptr)) lock->release(exclusive_);
    }

   private:
    std::shared_ptr<RwLock> lock_;  // shared with its object: that may go before who holds it
    bool exclusive_ = false;
  };

  static Task<Hold> shared(std::shared_ptr<RwLock> lock) {
    Hold hold = co_await take(std::move(lock), false);
    co_return hold;
  }
  static Task<Hold> exclusive(std::shared_ptr<RwLock> lock) {
    Hold hold = co_await take(std::move(lock), true);
    co_return hold;
  }

 private:
  static Task<Hold> take(std::shared_ptr<RwLock> lock, bool exclusive) {
    Promise<bool> promise(lock->executor_);
    Future<bool> turn = promise.future();
    lock->waiting_.emplace_back(exclusive, std::move(promise));
    lock->next();
    Result<bool> taken = co_await std::move(turn);
    CHECK(taken);
    co_return Hold(lock, exclusive);
  }
  void release(bool exclusive) {
    if (exclusive) {
      writer_ = false;
    } else {
      --readers_;
    }
    next();
  }
  void next() {
    while (!waiting_.empty()) {
      bool exclusive = waiting_.front().first;
      if (writer_ || (exclusive && readers_ > 0)) return;
      if (exclusive) {
        writer_ = true;
      } else {
        ++readers_;
      }
      Promise<bool> promise = std::move(waiting_.front().second);
      waiting_.pop_front();
      promise.set(true);
    }
  }

  Executor& executor_;
  std::deque<std::pair<bool, Promise<bool>>> waiting_;
  bool writer_ = false;
  uint64_t readers_ = 0;
};

}  // namespace cairn
