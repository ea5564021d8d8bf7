// ManualLoop: an Executor and a Clock that run only when a test says so.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <utility>

#include "common/base/check.h"
#include "common/runtime/clock.h"
#include "common/runtime/executor.h"
#include "common/runtime/task_group.h"
#include "common/runtime/timer_queue.h"

namespace cairn {

class ManualLoop : public Executor, public Clock {
 public:
  void post(std::move_only_function<void()> fn) override { queue_.push_back(std::move(fn)); }
  bool on_loop() const override { return true; }
  TimePoint now() const override { return now_; }
  WallTime wall() const override { return WallTime{now_.time_since_epoch().count()}; }
  TimerId call_at(TimePoint when, std::move_only_function<void()> fire) override {
    return timers_.add(when, std::move(fire));
  }
  void cancel(TimerId timer) override { timers_.cancel(timer); }

  // Runs what was posted, and what that posts.
  void drain() {
    while (!queue_.empty()) {
      auto fn = std::move(queue_.front());
      queue_.pop_front();
      fn();
    }
  }
  // Moves the time on, running what becomes due at its own time.
  void advance(Duration by) {
    TimePoint end = now_ + by;
    drain();
    while (timers_.next() <= end) {
      now_ = std::max(now_, timers_.next());
      timers_.run_due(now_);
      drain();
    }
    now_ = end;
  }
  size_t timers() const { return timers_.size(); }
  size_t posted() const { return queue_.size(); }

 private:
  std::deque<std::move_only_function<void()>> queue_;
  TimePoint now_{std::chrono::seconds(1000)};
  TimerQueue timers_;
};

// Keeps what a task returns: `group.spawn(keep(work(), &out))`.
template <class T>
Task<void> keep(Task<T> task, std::optional<T>* out) {
  T value = co_await std::move(task);
  out->emplace(std::move(value));
}
inline Task<void> keep(Task<void> task, bool* done) {
  co_await std::move(task);
  *done = true;
}

}  // namespace cairn
