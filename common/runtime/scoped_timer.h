// ScopedTimer: a timer that lives in the frame or object that waits for it, and is cancelled with it. Loop thread only;
// the Clock must outlive it.
#pragma once

#include <functional>
#include <utility>

#include "common/runtime/clock.h"

namespace cairn {

class ScopedTimer {
 public:
  // Runs `fire` at `when`, unless this has gone away by then. kNever makes no timer.
  ScopedTimer(Clock& clock, TimePoint when, std::move_only_function<void()> fire)
      : clock_(clock), timer_(when == kNever ? 0 : clock.call_at(when, std::move(fire))) {}
  ~ScopedTimer() {
    if (timer_ != 0) clock_.cancel(timer_);
  }
  ScopedTimer(const ScopedTimer&) = delete;
  ScopedTimer& operator=(const ScopedTimer&) = delete;

 private:
  Clock& clock_;
  Clock::TimerId timer_;
};

}  // namespace cairn
