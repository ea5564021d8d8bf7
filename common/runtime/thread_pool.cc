#include "common/runtime/thread_pool.h"

#include <pthread.h>
#include <signal.h>
#include <utility>

#include "common/base/check.h"

namespace cairn {

ThreadPool::ThreadPool(Executor& executor, const std::string& name, size_t threads)
    : executor_(executor), pending_(std::make_shared<size_t>(0)) {
  CHECK(threads > 0);
  // Threads inherit the mask: signals are for the loop's thread.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (size_t i = 0; i < threads; ++i) {
    threads_.emplace_back([this] { run_jobs(); });
    std::string number = "-" + std::to_string(i);
    std::string thread_name = name.substr(0, 15 - number.size()) + number;
    pthread_setname_np(threads_.back().native_handle(), thread_name.c_str());
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  for (std::thread& thread : threads_)
    thread.join();
}

void ThreadPool::submit(std::move_only_function<void()> work, std::move_only_function<void()> done) {
  CHECK(executor_.on_loop());
  ++*pending_;
  bool wake = false;
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(Job{std::move(work), std::move(done)});
    // A thread that is busy looks again before it waits; waking more than there is work for costs a switch each.
    wake = idle_ > 0;
  }
  if (wake) changed_.notify_one();
}

void ThreadPool::run_jobs() {
  while (true) {
    Job job;
    {
      std::unique_lock lock(mutex_);
      ++idle_;
      changed_.wait(lock, [this] { return closing_ || !jobs_.empty(); });
      --idle_;
      if (jobs_.empty()) return;
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job.work();
    // Gone before the loop is told: what the work owns is destroyed by this thread or, later, by the loop, never by
    // both at once.
    job.work = nullptr;
    executor_.post([pending = pending_, done = std::move(job.done)]() mutable {
      --*pending;
      done();
    });
  }
}

}  // namespace cairn
