// AsioLoop: the real Executor and Clock, one boost::asio::io_context run by one thread. Internal to common/runtime: it
// includes Asio.
//
// A turn of the loop runs what was posted, what the reactor has, and the timers that are due. Posts from the loop's own
// thread are a plain queue. Posts from other threads go into a list under a lock, and wake the loop only if it sleeps:
// one wake-up for many posts. post() and the clocks' readings are thread-safe, the rest is for the loop's thread, which
// is the one that made it and later the one that calls run(). Must outlive everything that uses it.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>

#include "common/runtime/clock.h"
#include "common/runtime/executor.h"
#include "common/runtime/poll_governor.h"
#include "common/runtime/real_world.h"
#include "common/runtime/timer_queue.h"

namespace cairn {

class AsioLoop final : public Executor, public Clock {
 public:
  explicit AsioLoop(LoopOptions options);
  ~AsioLoop() override;

  void post(std::move_only_function<void()> fn) override;
  bool on_loop() const override { return loop_thread_.load(std::memory_order_relaxed) == std::this_thread::get_id(); }

  TimePoint now() const override;
  WallTime wall() const override;
  TimerId call_at(TimePoint when, std::move_only_function<void()> fire) override;
  void cancel(TimerId timer) override { timers_.cancel(timer); }

  boost::asio::io_context& io() { return io_; }

  // Runs until `finished` says so; it is asked after each turn.
  void run(const std::function<bool()>& finished);

  LoopCounters counters() const;

 private:
  // After so many of the one the other gets its turn, however many more there are.
  static constexpr int kPostedPerTurn = 256;
  static constexpr int kHandlersPerTurn = 64;

  bool run_posted();
  bool run_handlers();
  bool has_posted() const { return !posted_.empty() || remote_waiting_.load(std::memory_order_acquire); }
  void take_remote();
  // True if work came.
  bool poll_for_work();
  void sleep();
  void arm_timer();

  boost::asio::io_context io_{1};  // a hint: one thread runs it
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{io_.get_executor()};
  boost::asio::posix::stream_descriptor timer_fd_{io_};
  bool timer_awaited_ = false;
  TimePoint timer_armed_ = kNever;  // what the timerfd is set to
  TimerQueue timers_;
  PollGovernor governor_;
  std::atomic<std::thread::id> loop_thread_;
  std::deque<std::move_only_function<void()>> posted_;
  bool closing_ = false;

  std::mutex remote_mutex_;
  std::vector<std::move_only_function<void()>> remote_;  // under remote_mutex_
  std::atomic<bool> remote_waiting_ = false;             // remote_ is not empty
  std::atomic<bool> sleeping_ = false;                   // taken back by the one who wakes the loop

  std::atomic<uint64_t> sleeps_ = 0;
  std::atomic<uint64_t> wake_ups_ = 0;
  std::atomic<uint64_t> poll_hits_ = 0;
  std::atomic<uint64_t> poll_misses_ = 0;
};

}  // namespace cairn
