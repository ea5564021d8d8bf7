// TaskGroup owns tasks that run by themselves: nothing is plainly detached. Loop thread only.
//
// An object that starts tasks has a TaskGroup as its LAST member and awaits stop() before it goes away. stop() asks (stop_requested(), sleeps
// of the group end early with kCancelled) and waits. The destructor, if tasks are left, destroys their frames: that is a crash, as the
// simulator makes it; a real process must have awaited stop().
#pragma once

#include <coroutine>
#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/clock.h"
#include "common/runtime/executor.h"
#include "common/runtime/future.h"
#include "common/runtime/task.h"

namespace cairn {

class TaskGroup {
 public:
  TaskGroup(Executor& executor, Clock& clock);
  ~TaskGroup();
  TaskGroup(const TaskGroup&) = delete;
  TaskGroup& operator=(const TaskGroup&) = delete;

  // Starts the task now, on this thread, until its first wait. After stop() has begun the task is destroyed unstarted.
  void spawn(Task<void> task);

  bool stop_requested() const { return stopping_; }
  // kCancelled if the group stops before `when`.
  Task<Result<void>> sleep_until(TimePoint when);
  Task<Result<void>> sleep_for(Duration duration);
  // Runs `callback` when stop() is asked for (at once, if it has been); to close what a task of the group waits for. The number returned
  // takes it back: what comes and goes (a connection) must do that, or the list grows.
  uint64_t on_stop(std::function<void()> callback);
  void forget_on_stop(uint64_t number);

  // What stop() begins with, for who has to end something else before it waits.
  void ask_to_stop();
  // May be called more than once; each call waits until no task is left. Not from a task of the group: it would wait for itself.
  Task<void> stop();
  size_t size() const { return running_.size(); }

  Executor& executor() const { return executor_; }
  Clock& clock() const { return clock_; }

 private:
  struct Root;      // the coroutine that owns and runs one task, and takes itself out of running_ when it is done
  struct Sleeper;   // lives in the frame of sleep_until()
  // Those to be told if that was the last one.
  std::vector<Promise<void>> forget(uint64_t id);

  Executor& executor_;
  Clock& clock_;
  bool stopping_ = false;
  uint64_t next_id_ = 1;
  std::map<uint64_t, std::coroutine_handle<>> running_;
  std::map<uint64_t, Sleeper*> sleepers_;
  std::map<uint64_t, std::function<void()>> on_stop_;
  std::vector<Promise<void>> all_done_;
};

}  // namespace cairn
