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
  if (waits && lock_waiters_ >= kLockWaitersMax) {
    reply.error(ENOLCK);
    co_return;
  }
  std::shared_ptr<LockCaller> caller;  // shared with what a signal starts
  std::shared_ptr<LockWait> wait;
  if (waits) {
    caller = std::make_shared<LockCaller>();
    caller->reply = &reply;
    ++lock_waiters_;
    wait = std::shared_ptr<LockWait>(caller, &caller->wait);
    reply.when_interrupted([this, caller] { start(give_up_lock(caller)); });
  }
  Result<void> set = co_await file_system_.set_lock(handle, lock, wait);
  if (caller) {
    caller->reply = nullptr;
    --lock_waiters_;
  }
  reply.result(set);
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
