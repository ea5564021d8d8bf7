// Waiting for one another on one loop: no locks, no threads. Each wakes waiters in the order they came, by post(). A waiter
// whose frame is destroyed is forgotten, and what it had been given comes back. Loop thread only; the object must outlive its waiters' frames
// and the Permits it gave (a member declared before the TaskGroup does); its destructor CHECKs that.
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
  ~Semaphore();
  Semaphore(const Semaphore&) = delete;
  Semaphore& operator=(const Semaphore&) = delete;

  // Waits until `units` are free (in order of asking; more than the total waits for all of them). The units come back when the Permit
  // goes away.
  class Permit;
  Task<Permit> acquire(uint64_t units);
  // kTimeout if they are not free by then.
  Task<Result<Permit>> acquire_until(uint64_t units, Clock& clock, TimePoint deadline);
  bool try_acquire(uint64_t units, Permit& out);
  uint64_t free() const { return free_; }
  uint64_t waiting() const { return waiters_.size(); }

 private:
  friend class Permit;
  struct Waiter;  // lives in the frame that waits
  void release(uint64_t units);
  void wake();
  Executor& executor_;
  uint64_t free_;
  uint64_t total_;
  std::list<Waiter*> waiters_;  // in the order of asking
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
  ~Condition();
  Condition(const Condition&) = delete;
  Condition& operator=(const Condition&) = delete;
  Task<void> wait();
  // kTimeout if nothing was notified by then.
  Task<Result<void>> wait_until(Clock& clock, TimePoint deadline);
  void notify_all();

 private:
  struct Waiter;  // lives in the frame that waits
  Executor& executor_;
  std::list<Waiter*> waiters_;
};

}  // namespace cairn
