// Waiting for one another on one loop: no locks, no threads. Each wakes waiters in the order they came, by post(). A waiter
// whose frame is destroyed is forgotten. Loop thread only; the object must outlive its waiters' frames or be destroyed after them.
#pragma once

#include <cstdint>
#include <list>

#include "common/base/result.h"
#include "common/runtime/clock.h"
#include "common/runtime/executor.h"
#include "common/runtime/future.h"
#include "common/runtime/task.h"

namespace cairn {

// Counts units of something bounded: bytes in flight, requests in flight.
class Semaphore {
 public:
  Semaphore(Executor& executor, uint64_t units) : executor_(executor), free_(units), total_(units) {}

  // Waits until `units` are free (in order of asking; more than the total waits for all of them). The units come back when the Permit
  // goes away.
  class Permit;
  Task<Permit> acquire(uint64_t units);
  bool try_acquire(uint64_t units, Permit& out);
  uint64_t free() const { return free_; }
  uint64_t waiting() const { return waiters_.size(); }

 private:
  friend class Permit;
  struct Waiter {
    uint64_t units;
    Promise<void> promise;
  };
  void release(uint64_t units);
  void wake();
  Executor& executor_;
  uint64_t free_;
  uint64_t total_;
  std::list<Waiter> waiters_;
};

class Semaphore::Permit {
 public:
  Permit() = default;
  Permit(Permit&& other) noexcept;
  Permit& operator=(Permit&& other) noexcept;
  ~Permit();
  uint64_t units() const { return units_; }

 private:
  friend class Semaphore;
  Permit(Semaphore* semaphore, uint64_t units) : semaphore_(semaphore), units_(units) {}
  Semaphore* semaphore_ = nullptr;
  uint64_t units_ = 0;
};

// One at a time, across co_await.
class Mutex : public Semaphore {
 public:
  explicit Mutex(Executor& executor) : Semaphore(executor, 1) {}
  Task<Permit> lock() { return acquire(1); }
};

// Wakes everybody who waits, each time it is told that something changed. Waiters look again at their condition.
class Condition {
 public:
  explicit Condition(Executor& executor) : executor_(executor) {}
  Task<void> wait();
  // kTimeout if nothing was notified by then.
  Task<Result<void>> wait_until(Clock& clock, TimePoint deadline);
  void notify_all();

 private:
  Executor& executor_;
  std::list<Promise<void>> waiters_;
};

}  // namespace cairn
