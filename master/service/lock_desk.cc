#include "master/service/lock_desk.h"

#include <algorithm>

namespace cairn {

namespace {
constexpr Duration kWait = std::chrono::seconds(15);          // then the client is answered, and asks again
constexpr Duration kMargin = std::chrono::milliseconds(500);  // before the request's own deadline
// Of one session: each is a request that its connection holds, and there must be room for others.
constexpr size_t kWaitsMax = 4096;
// Whoever was let go has set its lock by then, or will not: the next ones may try.
constexpr Duration kLookAgain = std::chrono::seconds(1);
}  // namespace

LockDesk::LockDesk(MasterCore& core, RecallDesk& recalls)
    : core_(core),
      recalls_(recalls),
      waiting_(core.world().metrics().gauge("cairn_master_locks_waited_for", "Requests that wait for a lock.")),
      deadlocks_(core.world().metrics().counter("cairn_master_lock_deadlocks_total",
                                                "Waits for locks that would have closed a circle.")),
      tasks_(core.world().executor(), core.world().clock()) {}

void LockDesk::stop_leading() {
  ++leadership_;
  waits_.clear();
  numbers_.clear();
  for (auto& [id, waiter] : std::exchange(waiters_, {}))
    waiter->wake.notify_all();
  waiting_.set(0);
}

Task<void> LockDesk::stop() {
  stop_leading();
  co_await tasks_.stop();
}

bool LockDesk::locked_elsewhere(InodeId inode, SessionId session) const {
  for (auto it = interested_.lower_bound({inode, SessionId()}); it != interested_.end() && it->first == inode; ++it) {
    if (it->second != session) return true;
  }
  return waits_.others_wait(inode, session) || core_.machine().locks(inode).has_others(session);
}

Task<Result<WaitLockReply>> LockDesk::wait(WaitLockRequest request, TimePoint deadline) {
  request.lock.session = request.session;
  Result<void> right = check_lock(request.lock);
  if (!right) co_return right.error();
  if (waits_.of_session(request.session) >= kWaitsMax)
    co_return Error(ErrorCode::kWait, "too many locks are waited for by this session");
  uint64_t leadership = leadership_;
  TimePoint until = std::min(core_.world().clock().now() + kWait, deadline - kMargin);
  Interest interested = interest(request.inode, request.session);
  auto waiter = std::make_shared<Waiter>(core_.world().executor());
  LockWaits::Id id = waits_.add(request.inode, request.lock, request.place);
  uint64_t place = waits_.find(id)->place;  // kept whatever lets it go
  waiters_[id] = waiter;
  numbers_[{request.session, request.wait}] = id;
  waiting_.set(static_cast<double>(waits_.size()));
  // Whoever decides these locks by itself hands them over first; nobody else will while this waits.
  Result<void> known = co_await recalls_.wait_written(request.inode, request.session, until);
  Result<WaitLockReply> reply(WaitLockReply{.place = place});
  if (!known) reply = known.error();
  if (known && leadership == leadership_ && waits_.find(id)) reply = co_await wait_in_queue(request, waiter, id, until);
  if (leadership != leadership_) co_return core_.not_leader();
  let_go(id);
  numbers_.erase({request.session, request.wait});
  co_return reply;
}

Task<Result<WaitLockReply>> LockDesk::wait_in_queue(WaitLockRequest request, std::shared_ptr<Waiter> waiter,
                                                    LockWaits::Id id, TimePoint until) {
  uint64_t place = waits_.find(id)->place;
  if (waits_.in_a_circle(id, [this](InodeId inode) { return core_.machine().locks(inode); })) {
    deadlocks_.add();
    co_return Error(ErrorCode::kDeadlock, "whoever holds the lock waits for the one who asks");
  }
  std::vector<LockWaits::Id> free = waits_.free_now(request.inode, core_.machine().locks(request.inode));
  bool now = std::ranges::find(free, id) != free.end();
  if (!now && !waiter->over) (void)co_await waiter->wake.wait_until(core_.world().clock(), until);
  co_return WaitLockReply{.place = place};
}

void LockDesk::let_go(LockWaits::Id id) {
  waits_.remove(id);
  auto found = waiters_.find(id);
  if (found == waiters_.end()) return;
  found->second->over = true;
  found->second->wake.notify_all();
  waiters_.erase(found);
  waiting_.set(static_cast<double>(waits_.size()));
}

void LockDesk::cancel(const CancelWaitRequest& request) {
  auto found = numbers_.find({request.session, request.wait});
  if (found == numbers_.end()) return;
  const LockWaits::Wait* wait = waits_.find(found->second);
  InodeId inode = wait ? wait->inode : InodeId();
  let_go(found->second);
  if (inode) changed(inode);  // who came after it may not have to wait for what it wanted
}

void LockDesk::changed(InodeId inode) {
  std::vector<LockWaits::Id> free = waits_.free_now(inode, core_.machine().locks(inode));
  for (LockWaits::Id id : free)
    let_go(id);
  if (!free.empty() && looking_again_.insert(inode).second) tasks_.spawn(look_again(inode));
}

Task<void> LockDesk::look_again(InodeId inode) {
  Result<void> slept = co_await tasks_.sleep_for(kLookAgain);
  looking_again_.erase(inode);
  if (slept) changed(inode);
}

void LockDesk::session_ended(SessionId session) {
  std::vector<LockWaits::Id> gone;
  for (const auto& [number, id] : numbers_) {
    if (number.first == session) gone.push_back(id);
  }
  for (LockWaits::Id id : gone)
    let_go(id);
  for (InodeId inode : waits_.inodes())
    changed(inode);
}

std::vector<FileLock> LockDesk::waiting(InodeId inode) const {
  std::vector<FileLock> locks;
  for (const LockWaits::Wait& wait : waits_.of_inode(inode))
    locks.push_back(wait.lock);
  return locks;
}

}  // namespace cairn
