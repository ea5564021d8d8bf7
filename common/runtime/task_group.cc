#include "common/runtime/task_group.h"

#include <iterator>
#include <utility>

#include "common/base/check.h"
#include "common/runtime/scoped_timer.h"

namespace cairn {

// A coroutine that belongs to the group's map, not to a Task: when it has finished it takes itself out of the map and
// destroys its own frame, which a Task in a map could not do.
struct TaskGroup::Root {
  struct promise_type {
    promise_type(TaskGroup* group_in, uint64_t id_in, Task<void>&) : group(group_in), id(id_in) {}

    struct Finish {
      bool await_ready() const noexcept { return false; }
      void await_suspend(std::coroutine_handle<promise_type> finished) const noexcept {
        // The frame may own the last reference to what owns the group: nothing of the group is touched once it is gone.
        std::vector<Promise<void>> all_done = finished.promise().group->forget(finished.promise().id);
        finished.destroy();  // `this` is gone from here on
        for (Promise<void>& waiting : all_done)
          waiting.set({});
      }
      void await_resume() const noexcept {}
    };
    Root get_return_object() { return Root{std::coroutine_handle<promise_type>::from_promise(*this)}; }
    std::suspend_always initial_suspend() const noexcept { return {}; }
    Finish final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }

    TaskGroup* group;
    uint64_t id;
  };

  static Root run([[maybe_unused]] TaskGroup* group, [[maybe_unused]] uint64_t id, Task<void> task) {
    co_await std::move(task);
  }

  std::coroutine_handle<promise_type> handle;
};

struct TaskGroup::Sleeper {
  Sleeper(TaskGroup& group_in, TimePoint when)
      : group(group_in),
        id(group_in.next_id_++),
        promise(group_in.executor_),
        timer(group_in.clock_, when, [this] { promise.set({}); }) {
    group.sleepers_.emplace(id, this);
  }
  ~Sleeper() { group.sleepers_.erase(id); }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;

  TaskGroup& group;
  uint64_t id;
  Promise<void> promise;
  ScopedTimer timer;
};

TaskGroup::TaskGroup(Executor& executor, Clock& clock) : executor_(executor), clock_(clock) {}

TaskGroup::~TaskGroup() {
  // A destroyed frame may release what lets others go on, and these may try to spawn: nothing starts any more.
  stopping_ = true;
  on_stop_.clear();
  // The newest first: a task may use what an older one, which started it, keeps in its frame.
  while (!running_.empty()) {
    auto node = running_.extract(std::prev(running_.end()));
    node.mapped().destroy();
  }
  // Whoever awaits stop() elsewhere is told by the promises' destructors.
}

void TaskGroup::spawn(Task<void> task) {
  if (stopping_) return;
  uint64_t id = next_id_++;
  Root root = Root::run(this, id, std::move(task));
  running_.emplace(id, root.handle);
  root.handle.resume();
}

std::vector<Promise<void>> TaskGroup::forget(uint64_t id) {
  running_.erase(id);
  if (!running_.empty()) return {};
  return std::exchange(all_done_, {});
}

Task<Result<void>> TaskGroup::sleep_until(TimePoint when) {
  if (stopping_) co_return ErrorCode::kCancelled;
  Sleeper sleeper(*this, when);
  Result<void> slept = co_await sleeper.promise.future();
  co_return slept;
}

Task<Result<void>> TaskGroup::sleep_for(Duration duration) {
  return sleep_until(clock_.now() + duration);
}

uint64_t TaskGroup::on_stop(std::function<void()> callback) {
  uint64_t number = next_id_++;
  if (stopping_) {
    callback();
  } else {
    on_stop_.emplace(number, std::move(callback));
  }
  return number;
}

void TaskGroup::forget_on_stop(uint64_t number) {
  on_stop_.erase(number);
}

void TaskGroup::ask_to_stop() {
  stopping_ = true;
  // A callback may take back others, so each is taken out before it runs.
  while (!on_stop_.empty()) {
    auto node = on_stop_.extract(on_stop_.begin());
    node.mapped()();
  }
  for (auto& [id, sleeper] : sleepers_)
    sleeper->promise.set(Error(ErrorCode::kCancelled));
}

Task<void> TaskGroup::stop() {
  ask_to_stop();
  if (running_.empty()) co_return;
  Future<void> done = all_done_.emplace_back(executor_).future();
  Result<void> ignored = co_await std::move(done);
  (void)ignored;  // kCancelled: the group is gone, and its tasks with it
}

}  // namespace cairn
