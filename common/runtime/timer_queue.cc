#include "common/runtime/timer_queue.h"

#include <iterator>

namespace cairn {

Clock::TimerId TimerQueue::add(TimePoint when, std::move_only_function<void()> fire) {
  Clock::TimerId id = next_id_++;
  timers_.emplace(Key{when, id}, std::move(fire));
  when_.emplace(id, when);
  return id;
}

void TimerQueue::cancel(Clock::TimerId timer) {
  auto found = when_.find(timer);
  if (found == when_.end()) return;
  Key key{found->second, timer};
  when_.erase(found);
  // Destroyed at the end of the scope, when the queue is consistent: its destructor may add or cancel timers.
  auto dropped = timers_.extract(key);
}

size_t TimerQueue::run_due(TimePoint now) {
  Clock::TimerId newest = next_id_;
  size_t ran = 0;
  while (true) {
    auto first = timers_.begin();
    // Timers added meanwhile have larger ids; one may stand before others that are due, so it is stepped over.
    while (first != timers_.end() && first->first.first <= now && first->first.second >= newest)
      ++first;
    if (first == timers_.end() || first->first.first > now) return ran;
    auto due = timers_.extract(first);
    when_.erase(due.key().second);
    due.mapped()();
    ++ran;
  }
}

void TimerQueue::clear() {
  when_.clear();
  while (!timers_.empty()) {
    auto dropped = timers_.extract(timers_.begin());
    when_.erase(dropped.key().second);
  }
}

}  // namespace cairn
