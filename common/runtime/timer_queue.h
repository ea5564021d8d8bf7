// TimerQueue: timers in the order of (time, id), for the clocks of the real loop and of the simulator. Pure: time
// arrives as an argument. Not thread-safe.
#pragma once

#include <functional>
#include <map>
#include <unordered_map>
#include <utility>

#include "common/runtime/clock.h"

namespace cairn {

class TimerQueue {
 public:
  Clock::TimerId add(TimePoint when, std::move_only_function<void()> fire);
  void cancel(Clock::TimerId timer);

  bool empty() const { return timers_.empty(); }
  size_t size() const { return timers_.size(); }
  // kNever if there is none.
  TimePoint next() const { return timers_.empty() ? kNever : timers_.begin()->first.first; }

  // Runs the timers due at `now` that were there when it was called; a timer added by one of them waits for the next
  // call. Returns how many ran.
  size_t run_due(TimePoint now);
  // Destroys all without running them.
  void clear();

 private:
  using Key = std::pair<TimePoint, Clock::TimerId>;
  Clock::TimerId next_id_ = 1;
  std::map<Key, std::move_only_function<void()>> timers_;
  std::unordered_map<Clock::TimerId, TimePoint> when_;  // only looked up, never walked
};

}  // namespace cairn
