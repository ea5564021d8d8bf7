#include "common/runtime/sync.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/runtime/scoped_timer.h"

namespace cairn {

// ---- Semaphore

// Its destructor is what makes a destroyed frame harmless: still in the line, it leaves it; granted but not yet
// resumed, it gives the units back.
struct Semaphore::Waiter {
  Waiter(Semaphore& semaphore_in, uint64_t units_in)
      : semaphore(semaphore_in),
        units(units_in),
        promise(semaphore_in.executor_),
        place(semaphore_in.waiters_.insert(semaphore_in.waiters_.end(), this)) {}
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;
  ~Waiter() {
    if (taken) return;
    if (granted) {
      semaphore.release(units);
      return;
    }
    semaphore.waiters_.erase(place);
    semaphore.wake();  // those behind it may fit
  }
  void grant() {
    granted = true;
    promise.set({});
  }
  Permit take() {
    taken = true;
    return Permit(&semaphore, units);
  }

  Semaphore& semaphore;
  uint64_t units;
  Promise<void> promise;
  std::list<Waiter*>::iterator place;
  bool granted = false;
  bool taken = false;
};

Semaphore::~Semaphore() {
  CHECK(waiters_.empty());
  CHECK(free_ == total_);
}

Task<Semaphore::Permit> Semaphore::acquire(uint64_t units) {
  units = std::min(units, total_);
  Permit at_once;
  if (try_acquire(units, at_once)) co_return at_once;
  Waiter waiter(*this, units);
  Result<void> granted = co_await waiter.promise.future();
  CHECK(granted.has_value());
  co_return waiter.take();
}

Task<Result<Semaphore::Permit>> Semaphore::acquire_until(uint64_t units, Clock& clock, TimePoint deadline) {
  units = std::min(units, total_);
  Permit at_once;
  if (try_acquire(units, at_once)) co_return at_once;
  Waiter waiter(*this, units);
  ScopedTimer timer(clock, deadline, [&waiter] { waiter.promise.set(Error(ErrorCode::kTimeout)); });
  Result<void> granted = co_await waiter.promise.future();
  if (!granted) co_return granted.error();  // units granted too late go back with the waiter
  co_return waiter.take();
}

bool Semaphore::try_acquire(uint64_t units, Permit& out) {
  units = std::min(units, total_);
  if (!waiters_.empty() || free_ < units) return false;
  free_ -= units;
  out = Permit(this, units);
  return true;
}

void Semaphore::release(uint64_t units) {
  free_ += units;
  CHECK(free_ <= total_);
  wake();
}

void Semaphore::wake() {
  while (!waiters_.empty() && waiters_.front()->units <= free_) {
    Waiter* next = waiters_.front();
    waiters_.pop_front();
    free_ -= next->units;
    next->grant();
  }
}

Semaphore::Permit::Permit(Permit&& other) noexcept
    : semaphore_(std::exchange(other.semaphore_, nullptr)), units_(std::exchange(other.units_, 0)) {}

Semaphore::Permit& Semaphore::Permit::operator=(Permit&& other) noexcept {
  if (this == &other) return *this;
  if (semaphore_) semaphore_->release(units_);
  semaphore_ = std::exchange(other.semaphore_, nullptr);
  units_ = std::exchange(other.units_, 0);
  return *this;
}

Semaphore::Permit::~Permit() {
  if (semaphore_) semaphore_->release(units_);
}

// ---- Condition

struct Condition::Waiter {
  explicit Waiter(Condition& condition_in)
      : condition(condition_in),
        promise(condition_in.executor_),
        place(condition_in.waiters_.insert(condition_in.waiters_.end(), this)) {}
  Waiter(const Waiter&) = delete;
  Waiter& operator=(const Waiter&) = delete;
  ~Waiter() {
    if (!notified) condition.waiters_.erase(place);
  }

  Condition& condition;
  Promise<void> promise;
  std::list<Waiter*>::iterator place;
  bool notified = false;
};

Condition::~Condition() {
  CHECK(waiters_.empty());
}

Task<void> Condition::wait() {
  Waiter waiter(*this);
  Result<void> notified = co_await waiter.promise.future();
  CHECK(notified.has_value());
}

Task<Result<void>> Condition::wait_until(Clock& clock, TimePoint deadline) {
  Waiter waiter(*this);
  ScopedTimer timer(clock, deadline, [&waiter] { waiter.promise.set(Error(ErrorCode::kTimeout)); });
  Result<void> notified = co_await waiter.promise.future();
  co_return notified;
}

void Condition::notify_all() {
  while (!waiters_.empty()) {
    Waiter* waiter = waiters_.front();
    waiters_.pop_front();
    waiter->notified = true;
    waiter->promise.set({});
  }
}

}  // namespace cairn
