// Retries of calls that may be made twice (they are idempotent, or carry ids by which the server knows a repeated one), with
// exponential backoff and jitter, until a deadline.
//
//   Result<Answer<EntryReply>> r = co_await retry(tasks_, world_.random(), deadline, {}, [this, request](TimePoint attempt_deadline) {
//     return typed_call(client_, request, {.deadline = attempt_deadline});
//   });
//
// Loop thread only. What the function uses must outlive the task.
#pragma once

#include <algorithm>
#include <type_traits>
#include <utility>

#include "common/base/random.h"
#include "common/base/result.h"
#include "common/runtime/clock.h"
#include "common/runtime/task.h"
#include "common/runtime/task_group.h"

namespace cairn {

struct RetryOptions {
  Duration pause_min = std::chrono::milliseconds(10);  // before the second attempt; doubles
  Duration pause_max = std::chrono::seconds(1);
  Duration attempt_timeout = std::chrono::seconds(2);  // of one attempt; the last one has what is left
};

// True for what may be gone at the next attempt: nobody answered, or who answered could not do it now.
inline bool worth_retrying(ErrorCode code) {
  return code == ErrorCode::kTimeout || code == ErrorCode::kUnavailable || code == ErrorCode::kOverload ||
         code == ErrorCode::kAgain;
}

// The pauses between attempts: each somewhere between half of a doubling bound and all of it, so that many who failed together do not come
// back together.
class Backoff {
 public:
  Backoff(Random& random, Duration pause_min, Duration pause_max) : random_(random), bound_(pause_min), max_(pause_max) {}
  Duration next() {
    Duration half = bound_ / 2;
    Duration pause = half + Duration(random_.below(static_cast<uint64_t>(half.count()) + 1));
    bound_ = std::min(2 * bound_, max_);
    return pause;
  }

 private:
  Random& random_;
  Duration bound_;
  Duration max_;
};

// `attempt` is called with the deadline of one attempt and gives a Task<Result<T>>. The result is the first success, the first error that is
// not worth retrying, the last error when the next attempt would come after `deadline`, or kCancelled when the group stops.
template <class Attempt>
auto retry(TaskGroup& tasks, Random& random, TimePoint deadline, RetryOptions options, Attempt attempt)
    -> std::invoke_result_t<Attempt&, TimePoint> {
  Backoff backoff(random, options.pause_min, options.pause_max);
  for (;;) {
    TimePoint now = tasks.clock().now();
    TimePoint attempt_deadline = deadline - now > options.attempt_timeout ? now + options.attempt_timeout : deadline;
    auto result = co_await attempt(attempt_deadline);
    if (result || !worth_retrying(result.code())) co_return result;
    TimePoint next = tasks.clock().now() + backoff.next();
    if (next >= deadline) co_return result;
    Result<void> slept = co_await tasks.sleep_until(next);
    if (!slept) co_return slept.error();
  }
}

}  // namespace cairn
