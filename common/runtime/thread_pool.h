// ThreadPool: the real BlockingPool. Threads are named "name-0", "name-1"... (cut at 15 characters by the kernel) and
// take no signals.
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "common/runtime/blocking_pool.h"

namespace cairn {

class ThreadPool final : public BlockingPool {
 public:
  ThreadPool(Executor& executor, const std::string& name, size_t threads);
  ~ThreadPool() override;

  void submit(std::move_only_function<void()> work, std::move_only_function<void()> done) override;
  size_t pending() const override { return *pending_; }
  Executor& executor() override { return executor_; }

 private:
  struct Job {
    std::move_only_function<void()> work;
    std::move_only_function<void()> done;
  };
  void run_jobs();

  Executor& executor_;
  std::shared_ptr<size_t> pending_;  // the loop's; shared with completions, which may run after the pool has gone
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Job> jobs_;  // under mutex_
  size_t idle_ = 0;       // under mutex_: threads that wait
  bool closing_ = false;  // under mutex_
  std::vector<std::thread> threads_;
};

}  // namespace cairn
