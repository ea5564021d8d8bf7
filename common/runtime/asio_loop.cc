#include "common/runtime/asio_loop.h"

#include <algorithm>
#include <sys/timerfd.h>
#include <system_error>
#include <utility>

#include <boost/asio/post.hpp>

#include "common/base/check.h"
#include "common/runtime/boot_clock.h"

namespace cairn {

AsioLoop::AsioLoop(LoopOptions options) : governor_(options.poll), loop_thread_(std::this_thread::get_id()) {
  int fd = ::timerfd_create(CLOCK_BOOTTIME, TFD_NONBLOCK | TFD_CLOEXEC);
  CHECK(fd >= 0);
  timer_fd_.assign(fd);
}

AsioLoop::~AsioLoop() {
  closing_ = true;
  timers_.clear();
  // What a dropped function holds may post again when it is destroyed; post() drops that too.
  posted_.clear();
  std::vector<std::move_only_function<void()>> remote;
  {
    std::lock_guard lock(remote_mutex_);
    remote.swap(remote_);
  }
}

void AsioLoop::post(std::move_only_function<void()> fn) {
  if (on_loop()) {
    if (closing_) return;
    // What another thread posted before stays before.
    if (remote_waiting_.load(std::memory_order_acquire)) take_remote();
    posted_.push_back(std::move(fn));
    return;
  }
  {
    std::lock_guard lock(remote_mutex_);
    remote_.push_back(std::move(fn));
    remote_waiting_.store(true);
  }
  // Sequentially consistent with sleep(): either it sees remote_waiting_, or this sees sleeping_.
  if (sleeping_.exchange(false)) {
    wake_ups_.fetch_add(1, std::memory_order_relaxed);
    boost::asio::post(io_, [] {});
  }
}

void AsioLoop::take_remote() {
  std::vector<std::move_only_function<void()>> taken;
  {
    std::lock_guard lock(remote_mutex_);
    taken.swap(remote_);
    remote_waiting_.store(false);
  }
  for (auto& fn : taken)
    posted_.push_back(std::move(fn));
}

TimePoint AsioLoop::now() const {
  return boot_time_now();
}

WallTime AsioLoop::wall() const {
  return wall_time_now();
}

Clock::TimerId AsioLoop::call_at(TimePoint when, std::move_only_function<void()> fire) {
  return timers_.add(when, std::move(fire));
}

void AsioLoop::run(const std::function<bool()>& finished) {
  loop_thread_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  while (!finished()) {
    bool busy = run_posted();
    busy |= run_handlers();
    busy |= !timers_.empty() && timers_.run_due(now()) > 0;
    if (busy || has_posted() || finished()) continue;
    if (poll_for_work()) continue;
    sleep();
  }
}

bool AsioLoop::run_posted() {
  bool any = false;
  for (int i = 0; i < kPostedPerTurn; ++i) {
    if (remote_waiting_.load(std::memory_order_acquire)) take_remote();
    if (posted_.empty()) break;
    auto fn = std::move(posted_.front());
    posted_.pop_front();
    fn();
    any = true;
  }
  return any;
}

bool AsioLoop::run_handlers() {
  // Not io_.poll(): sockets that are always ready would keep it, and what their coroutines post would wait.
  for (int i = 0; i < kHandlersPerTurn; ++i) {
    if (io_.poll_one() == 0) return i > 0;
  }
  return true;
}

bool AsioLoop::poll_for_work() {
  // A turn of this loop takes about a microsecond. One that took this long was taken off its core by somebody who needs
  // it.
  constexpr Duration kPreempted = 20us;
  TimePoint start = now();
  Duration budget = governor_.budget(start);
  if (budget == Duration::zero()) return false;
  TimePoint before = start;
  while (true) {
    bool found = io_.poll_one() > 0 || has_posted();
    TimePoint after = now();
    found |= timers_.next() <= after;
    if (found) {
      governor_.found_work();
      poll_hits_.fetch_add(1, std::memory_order_relaxed);
      return true;
    }
    if (after - before > kPreempted) {
      governor_.preempted(after);
      break;
    }
    if (after - start > budget) {
      governor_.missed(after);
      break;
    }
    before = after;
  }
  poll_misses_.fetch_add(1, std::memory_order_relaxed);
  return false;
}

void AsioLoop::sleep() {
  arm_timer();
  sleeping_.store(true);
  if (remote_waiting_.load()) {
    sleeping_.store(false);
    return;
  }
  sleeps_.fetch_add(1, std::memory_order_relaxed);
  io_.run_one();
  sleeping_.store(false);
}

void AsioLoop::arm_timer() {
  // Only ever moved to an earlier time: a cancelled timer costs one idle wake-up, not a system call for each cancel.
  TimePoint next = timers_.next();
  if (next < timer_armed_) {
    int64_t ns = std::max<int64_t>(next.time_since_epoch().count(), 1);  // zero would disarm it
    itimerspec spec{};
    spec.it_value.tv_sec = ns / 1'000'000'000;
    spec.it_value.tv_nsec = ns % 1'000'000'000;
    CHECK(::timerfd_settime(timer_fd_.native_handle(), TFD_TIMER_ABSTIME, &spec, nullptr) == 0);
    timer_armed_ = next;
  }
  if (timer_armed_ == kNever || timer_awaited_) return;
  timer_awaited_ = true;
  // The expiry is never read: setting the time again clears it.
  timer_fd_.async_wait(boost::asio::posix::stream_descriptor::wait_read, [this](boost::system::error_code error) {
    if (error) return;  // the loop is being destroyed
    timer_awaited_ = false;
    timer_armed_ = kNever;
  });
}

LoopCounters AsioLoop::counters() const {
  return LoopCounters{sleeps_.load(std::memory_order_relaxed), wake_ups_.load(std::memory_order_relaxed),
                      poll_hits_.load(std::memory_order_relaxed), poll_misses_.load(std::memory_order_relaxed)};
}

}  // namespace cairn
