// The seam for work that blocks (LevelDB, fdatasync, notifications to the kernel): named threads beside the loop. In the simulator
// the work runs at once on the loop and its result arrives after a simulated delay.
//
// A pool of one thread runs its work in the order of submission. The destructor waits for what has been submitted.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <type_traits>

#include "common/base/result.h"
#include "common/runtime/executor.h"
#include "common/runtime/future.h"
#include "common/runtime/task.h"

namespace cairn {

class BlockingPool {
 public:
  virtual ~BlockingPool() = default;

  // Runs `work` on one of the pool's threads, then `done` on the loop. Loop thread only.
  virtual void submit(std::move_only_function<void()> work, std::move_only_function<void()> done) = 0;
  // Work that waits or runs.
  virtual size_t pending() const = 0;
  virtual Executor& executor() = 0;

  // Result<T> r = co_await pool.run([...]() -> Result<T> {...}); everything the function uses must be owned by it or outlive the pool.
  template <class F>
  auto run(F work) -> Task<std::invoke_result_t<F&>> {
    return run_on(*this, std::move(work));
  }

 private:
  template <class F>
  static auto run_on(BlockingPool& pool, F work) -> Task<std::invoke_result_t<F&>> {
    using R = std::invoke_result_t<F&>;
    using T = typename R::value_type;  // the function returns a Result<T>
    struct Job {
      explicit Job(F work_in, Executor& executor) : work(std::move(work_in)), promise(executor) {}
      F work;
      std::optional<R> result;
      Promise<T> promise;
    };
    auto job = std::make_shared<Job>(std::move(work), pool.executor());
    Future<T> future = job->promise.future();
    pool.submit([job] { job->result.emplace(job->work()); }, [job] { job->promise.set(std::move(*job->result)); });
    R result = co_await std::move(future);
    co_return result;
  }
};

}  // namespace cairn
