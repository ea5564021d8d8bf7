// LocalWorld: a World in one thread for tests of the store, driven step by step: posts first, then one piece of a
// pool's work, then the next timer. Work is taken in an order drawn from a seed, so that different seeds give different
// interleavings, and the same seed the same one.
#pragma once

#include <deque>
#include <functional>
#include <gtest/gtest.h>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/runtime/task_group.h"
#include "common/runtime/world.h"

namespace cairn {

class LocalWorld final : public World, public Executor, public Clock {
 public:
  LocalWorld(Disk& disk, uint64_t seed)
      : disk_(disk), random_(make_seeded_random(seed)), order_(make_seeded_random(seed + 1)) {}

  Executor& executor() override { return *this; }
  Clock& clock() override { return *this; }
  Random& random() override { return *random_; }
  Disk& disk() override { return disk_; }
  Transport& transport() override { CHECK(false); }
  Metrics& metrics() override { return metrics_; }
  std::string boot_id() override { return boot_id_; }
  void set_boot_id(std::string boot_id) { boot_id_ = std::move(boot_id); }
  std::unique_ptr<BlockingPool> make_pool(std::string, size_t threads) override {
    return std::make_unique<Pool>(*this, threads);
  }

  void post(std::move_only_function<void()> fn) override { posts_.push_back(std::move(fn)); }
  bool on_loop() const override { return true; }
  TimePoint now() const override { return now_; }
  WallTime wall() const override { return {now_.time_since_epoch().count()}; }
  TimerId call_at(TimePoint when, std::move_only_function<void()> fire) override {
    TimerId id = next_timer_++;
    timers_.emplace(std::pair(std::max(when, now_), id), std::move(fire));
    return id;
  }
  void cancel(TimerId timer) override {
    std::erase_if(timers_, [timer](const auto& entry) { return entry.first.second == timer; });
  }

  // False if there is nothing to do.
  bool step(bool may_wait = true) {
    if (!posts_.empty()) {
      auto fn = std::move(posts_.front());
      posts_.pop_front();
      fn();
      return true;
    }
    // A slow disk: time passes while work waits for it.
    bool time_first = slow_disk_ && may_wait && !jobs_.empty() && !timers_.empty() && order_->chance(1, 16);
    if (!jobs_.empty() && !time_first) {
      size_t at = order_->below(jobs_.size());
      // A pool of one thread runs its work in order.
      Pool* pool = jobs_[at].pool;
      if (pool->threads == 1) {
        for (at = 0; jobs_[at].pool != pool;)
          ++at;
      }
      Job job = std::move(jobs_[at]);
      jobs_.erase(jobs_.begin() + static_cast<std::ptrdiff_t>(at));
      job.work();
      job.work = nullptr;
      post(std::move(job.done));
      return true;
    }
    if (!may_wait || timers_.empty()) return false;
    auto node = timers_.extract(timers_.begin());
    now_ = std::max(now_, node.key().first);
    node.mapped()();
    return true;
  }
  // Runs the task to its end.
  template <class T>
  T wait(Task<T> task) {
    std::optional<T> result;
    TaskGroup group(*this, *this);
    group.spawn(keep(std::move(task), &result));
    while (!result && step()) {
    }
    CHECK(result.has_value());
    while (group.size() > 0 && step(false)) {
    }
    return std::move(*result);
  }
  void wait(Task<void> task) {
    std::optional<bool> done;
    TaskGroup group(*this, *this);
    group.spawn(keep_done(std::move(task), &done));
    while (!done && step()) {
    }
    CHECK(done.has_value());
  }
  void set_slow_disk(bool slow) { slow_disk_ = slow; }
  // The work that was submitted last is not run until release(). Runs posts first.
  void hold_newest_job() {
    while (!posts_.empty())
      step(false);
    CHECK(!jobs_.empty());
    held_.push_back(std::move(jobs_.back()));
    jobs_.pop_back();
  }
  void release() {
    for (Job& job : held_)
      jobs_.push_back(std::move(job));
    held_.clear();
  }
  // Everything that does not need time to pass.
  void settle() {
    while (step(false)) {
    }
  }
  void run_for(Duration duration) {
    TimePoint end = now_ + duration;
    while (true) {
      settle();
      if (timers_.empty() || timers_.begin()->first.first > end) break;
      step();
    }
    now_ = end;
  }
  // What a killed process leaves undone.
  void drop_everything() {
    posts_.clear();
    jobs_.clear();
    held_.clear();
    timers_.clear();
  }

  template <class T>
  static Task<void> keep(Task<T> task, std::optional<T>* out) {
    T value = co_await std::move(task);
    out->emplace(std::move(value));
  }
  static Task<void> keep_done(Task<void> task, std::optional<bool>* out) {
    co_await std::move(task);
    out->emplace(true);
  }

 private:
  struct Pool final : BlockingPool {
    Pool(LocalWorld& world_in, size_t threads_in) : world(world_in), threads(threads_in) {}
    ~Pool() override {
      // As the real one: what was submitted is done (on a frozen disk it fails) before the pool is gone.
      for (Job& job : world.jobs_) {
        if (job.pool == this && job.work) job.work();
      }
      std::erase_if(world.jobs_, [this](const Job& job) { return job.pool == this; });
    }
    void submit(std::move_only_function<void()> work, std::move_only_function<void()> done) override {
      world.jobs_.push_back({this, std::move(work), std::move(done)});
    }
    size_t pending() const override { return world.jobs_.size(); }
    Executor& executor() override { return world; }
    LocalWorld& world;
    const size_t threads;
  };
  struct Job {
    Pool* pool;
    std::move_only_function<void()> work;
    std::move_only_function<void()> done;
  };

  Disk& disk_;
  std::unique_ptr<Random> random_;
  std::unique_ptr<Random> order_;
  Metrics metrics_;
  std::string boot_id_ = "boot-1";
  TimePoint now_{std::chrono::seconds(1000)};
  std::deque<std::move_only_function<void()>> posts_;
  std::deque<Job> jobs_;
  std::vector<Job> held_;
  bool slow_disk_ = false;
  std::map<std::pair<TimePoint, TimerId>, std::move_only_function<void()>> timers_;
  TimerId next_timer_ = 1;
};

}  // namespace cairn
