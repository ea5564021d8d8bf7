// FuseOps: locks of files.
#include <cerrno>
#include <utility>

#include "fs/fuse/fuse_ops.h"

namespace cairn {

namespace {
// Whoever unlocks, or does anything else, must find room in the RequestGate.
constexpr uint32_t kLockWaitersMax = RequestGate::kRequestsMax / 2;
}  // namespace

Task<void> FuseOps::set_lock(Reply reply, uint64_t handle, FileLock lock, bool waits) {
  waits = waits && lock.mode != LockMode::kUnlock;  // the kernel says so for these, too
  if (waits && lock_waiters_ >= kLockWaitersMax) {
    reply.error(ENOLCK);
    co_return;
  }
  std::shared_ptr<LockCaller> caller;  // shared with what a signal starts
  std::shared_ptr<LockWait> wait;
  uint64_t at_stop = 0;
  if (waits) {
    caller = std::make_shared<LockCaller>();
    caller->reply = &reply;
    ++lock_waiters_;
    wait = std::shared_ptr<LockWait>(caller, &caller->wait);
    reply.when_interrupted([this, caller] { start(give_up_lock(caller)); });
    at_stop = tasks_.on_stop([caller] { caller->wait.give_up(); });
  }
  Result<void> set = co_await file_system_.set_lock(handle, lock, wait);
  if (caller) {
    tasks_.forget_on_stop(at_stop);
    caller->reply = nullptr;
    --lock_waiters_;
  }
  // Only with a signal does the kernel take "interrupted" for what it is.
  bool ended = set.failed_with(ErrorCode::kInterrupted) && tasks_.stop_requested();
  reply.result(ended ? Result<void>(Error(ErrorCode::kIo, "the mount has ended")) : std::move(set));
}

// Unlike other operations: whoever waits for a lock may set a timer to be woken by.
Task<void> FuseOps::give_up_lock(std::shared_ptr<LockCaller> caller) {
  Result<void> later = co_await tasks_.sleep_for(Duration::zero());  // not from where the signal is told
  if (!later || !caller->reply) co_return;
  std::exchange(caller->reply, nullptr)->give_up();
  caller->wait.give_up();
}

Task<void> FuseOps::test_lock(Reply reply, uint64_t handle, FileLock lock) {
  Result<std::optional<FileLock>> in_the_way = co_await file_system_.test_lock(handle, lock);
  if (in_the_way) {
    reply.lock(*in_the_way);
  } else {
    reply.error(in_the_way.error());
  }
}

}  // namespace cairn
