#include "fs/client/file_locks.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"

namespace cairn {

namespace {
constexpr Duration kWaitAtMaster = std::chrono::seconds(20);  // longer than the master lets one wait
constexpr Duration kAskAgain = std::chrono::milliseconds(100);
constexpr Duration kTellAgain = std::chrono::milliseconds(500);
constexpr Duration kKeepLease = std::chrono::seconds(5);  // after the last lock or unlock
// So many locks in a row met nobody, though others have looked at the file: then they may look again.
constexpr uint32_t kAloneMax = 4;

FileLock unlocked(FileLock lock) {
  lock.mode = LockMode::kUnlock;
  return lock;
}

// As the master does it: a flock that changes its mode is given up first.
void give_up_before(const FileLock& wanted, InodeLocks& locks) {
  if (wanted.kind != LockKind::kFlock) return;
  std::vector<FileLock> had = locks.within(wanted);
  if (!had.empty() && had.front().mode != wanted.mode) (void)locks.set(unlocked(wanted));
}

// What set() has replaced in its range, in terms of set().
std::vector<FileLock> ways_back(const FileLock& lock, const std::vector<FileLock>& had) {
  std::vector<FileLock> steps = had;
  uint64_t at = lock.start;
  bool to_the_end = false;
  for (const FileLock& piece : had) {
    FileLock gap = unlocked(lock);
    gap.start = at;
    gap.end = piece.start - 1;
    if (piece.start > at) steps.push_back(gap);
    at = piece.end + 1;
    to_the_end = piece.end >= lock.end;
  }
  FileLock rest = unlocked(lock);
  rest.start = at;
  if (!to_the_end) steps.push_back(rest);
  return steps;
}
}  // namespace

class FileLocks::Using {
 public:
  Using(FileLocks& locks, InodeId inode) : locks_(locks) {
    auto [place, is_new] = locks.states_.try_emplace(inode);
    if (is_new) place->second = std::make_unique<State>(locks.world_.executor());
    state_ = place->second.get();
    ++state_->users;
  }
  ~Using() {
    --state_->users;
    state_->last_use = locks_.world_.clock().now();
  }
  Using(const Using&) = delete;
  Using& operator=(const Using&) = delete;
  State& operator*() const { return *state_; }
  State* operator->() const { return state_; }

 private:
  FileLocks& locks_;
  State* state_;
};

FileLocks::FileLocks(World& world, MasterLink& master, LeaseKeeper& leases, Duration request_timeout)
    : world_(world),
      master_(master),
      leases_(leases),
      request_timeout_(request_timeout),
      here_(world.metrics().counter("cairn_client_locks_total", "locks set and taken away", {{"decided", "here"}})),
      at_master_(
          world.metrics().counter("cairn_client_locks_total", "locks set and taken away", {{"decided", "at_master"}})),
      tasks_(std::make_unique<TaskGroup>(world.executor(), world.clock())) {}

FileLocks::~FileLocks() = default;

Task<void> FileLocks::stop() {
  stopping_ = true;
  co_await tasks_->stop();
}

FileLocks::State* FileLocks::find(InodeId inode) {
  auto found = states_.find(inode);
  return found == states_.end() ? nullptr : found->second.get();
}

bool FileLocks::any(InodeId inode) const {
  auto found = states_.find(inode);
  return found != states_.end() && !found->second->used.empty();
}

bool FileLocks::decides(InodeId inode, const State& state) const {
  return leases_.decides_locks(inode) && state.waiting == 0 && !state.unsure;
}

// ---------------------------------------------------------------- setting

Task<Result<void>> FileLocks::set(InodeId inode, HandleId handle, FileLock lock, std::shared_ptr<LockWait> wait) {
  lock.session = {};
  Result<void> right = check_lock(lock);
  if (!right) co_return right;
  Using state(*this, inode);
  uint64_t place = 0;
  for (;;) {
    {
      // Before it waits for its turn: if the process is killed meanwhile, what ends its locks comes after this.
      if (lock.mode != LockMode::kUnlock) state->used[lock.owner].insert(handle);
      Semaphore::Permit turn = co_await state->mutex.lock();
      if (wait && wait->given_up()) co_return Error(ErrorCode::kInterrupted);
      if (lock.mode == LockMode::kUnlock && state->mine.within(lock).empty() && !state->unsure)
        co_return Result<void>();
      std::vector<FileLock> had = state->mine.within(lock);
      if (lock.mode != LockMode::kUnlock) state->used[lock.owner].insert(handle);
      Result<std::optional<FileLock>> in_the_way = co_await try_set(inode, *state, lock);
      // Whoever unlocks seldom looks whether it could: it must not be locked again when the master is told next.
      if (!in_the_way && lock.mode == LockMode::kUnlock) apply_unsure(inode, *state, lock);
      if (!in_the_way) co_return in_the_way.error();
      if (!*in_the_way && wait && wait->given_up()) {
        co_await put_back(inode, *state, lock, std::move(had));
        co_return Error(ErrorCode::kInterrupted);
      }
      if (!*in_the_way) co_return Result<void>();
      if (!wait) co_return Error(ErrorCode::kAgain);
      if (wait->given_up()) co_return Error(ErrorCode::kInterrupted);
      ++state->waiting;
      // Everybody who waits does so at the master: there it is seen who waits for whom.
      Result<void> told = co_await tell_all(inode, *state);
      if (!told) {
        --state->waiting;
        co_return told;
      }
    }
    Result<void> waited = co_await wait_at_master(inode, lock, wait, place);
    --state->waiting;
    if (!waited) co_return waited;
  }
}

Task<Result<std::optional<FileLock>>> FileLocks::try_set(InodeId inode, State& state, FileLock lock) {
  if (!decides(inode, state) && state.mine != state.known) {
    // The session's time may be over for a moment only.
    SessionId session = master_.session();
    Result<void> valid = co_await master_.wait_valid(world_.clock().now() + request_timeout_);
    if (!valid) co_return valid.error();
    // What is noted of the lock's owner went with the session.
    if (session != master_.session()) co_return Error(ErrorCode::kIo, "the session with the master has ended");
  }
  if (decides(inode, state)) {
    here_.add();
    give_up_before(lock, state.mine);
    std::optional<FileLock> in_the_way = state.mine.conflict(lock);
    if (in_the_way) co_return in_the_way;
    Result<void> set = state.mine.set(lock);
    if (!set) co_return set.error();
    co_return in_the_way;
  }
  Result<void> told = co_await tell_all(inode, state);
  if (!told) co_return told.error();
  Result<std::optional<FileLock>> set = co_await set_at_master(inode, state, lock);
  co_return set;
}

Task<Result<std::optional<FileLock>>> FileLocks::set_at_master(InodeId inode, State& state, FileLock lock) {
  at_master_.add();
  uint64_t tenure = leases_.tenure(inode);
  SessionId session = master_.session();
  SetLockOp op{.inode = inode, .lock = lock};
  Result<MutationReply> reply = co_await master_.mutate_in(session, std::move(op));
  if (session != master_.session()) co_return Error(ErrorCode::kIo, "the session with the master has ended");
  if (!reply) {
    // It may have been set, or not. What is right is told when the master can be asked again.
    state.unsure = state.unsure || reply.failed_with(ErrorCode::kIo) || is_masters_trouble(reply.code());
    if (state.unsure) tasks_->spawn(tell_later(inode));
    co_return reply.error();
  }
  give_up_before(lock, state.mine);
  if (!reply->conflict) (void)state.mine.set(lock);
  state.known = state.mine;
  consider_lease(inode, state, *reply, tenure);
  co_return reply->conflict;
}

void FileLocks::consider_lease(InodeId inode, State& state, const MutationReply& reply, uint64_t tenure) {
  state.alone = reply.locked_elsewhere ? 0 : state.alone + 1;
  if (reply.locked_elsewhere) return;
  if (tenure != 0) {
    leases_.decide_locks(inode, tenure);
    return;
  }
  if ((!reply.leased_elsewhere || state.alone >= kAloneMax) && want_lease_) {
    state.alone = 0;
    want_lease_(inode);
  }
}

// What was set and is not wanted any more: what was there before is there again. Never in anybody's way.
Task<void> FileLocks::put_back(InodeId inode, State& state, FileLock lock, std::vector<FileLock> had) {
  for (const FileLock& step : ways_back(lock, had)) {
    Result<std::optional<FileLock>> done = co_await try_set(inode, state, step);
    if (!done || *done) log_warning("client.lock_not_put_back", "inode={}", inode);
    if (!done) apply_unsure(inode, state, step);
  }
}

void FileLocks::apply_unsure(InodeId inode, State& state, const FileLock& lock) {
  (void)state.mine.set(lock);
  state.unsure = true;
  if (!stopping_) tasks_->spawn(tell_later(inode));
}

// ---------------------------------------------------------------- what the master has to know

Task<Result<void>> FileLocks::tell_all(InodeId inode, State& state) {
  if (state.mine == state.known && !state.unsure) co_return Result<void>();
  InodeLocks telling = state.mine;
  SessionId session = master_.session();
  ReplaceLocksOp op{.inode = inode, .locks = telling.all()};
  Result<MutationReply> reply = co_await master_.mutate_in(session, std::move(op));
  if (session != master_.session()) co_return Error(ErrorCode::kIo, "the session with the master has ended");
  if (reply.failed_with(ErrorCode::kConflict)) {
    // Somebody else decides them by now: what was set here has been lost.
    std::set<HandleId> handles = handles_of(state);
    state.mine = {};
    state.unsure = true;
    tasks_->spawn(tell_later(inode));
    if (on_lost_) on_lost_(handles);
    co_return Error(ErrorCode::kIo, "the locks of this file were lost");
  }
  bool gone = reply.failed_with(ErrorCode::kStale);  // with the file all its locks are
  if (!reply && !gone) {
    state.unsure = true;
    co_return reply.error();
  }
  state.known = std::move(telling);
  state.unsure = false;
  co_return Result<void>();
}

Task<void> FileLocks::hand_over(InodeId inode) {
  leases_.stop_deciding_locks(inode);
  State* known = find(inode);
  // From here on nothing is decided here: what the master knows already it need not wait for.
  if (!known || known->mine == known->known) co_return;
  Using state(*this, inode);
  while (!stopping_) {
    Semaphore::Permit turn = co_await state->mutex.lock();
    SessionId session = master_.session();
    Result<void> told = co_await tell_all(inode, *state);
    if (told || session != master_.session()) co_return;
    log_warning("client.locks_not_handed_over", "inode={} error={}", inode, quoted(told.error().message()));
    turn = {};
    Result<void> slept = co_await tasks_->sleep_for(kTellAgain);
    if (!slept) co_return;
  }
}

Task<void> FileLocks::tell_later(InodeId inode) {
  Result<void> slept = co_await tasks_->sleep_for(kTellAgain);
  while (slept && find(inode)) {
    Using state(*this, inode);
    Semaphore::Permit turn = co_await state->mutex.lock();
    if (!state->unsure) co_return;
    SessionId session = master_.session();
    Result<void> told = co_await tell_all(inode, *state);
    if (told || session != master_.session()) co_return;
    turn = {};
    slept = co_await tasks_->sleep_for(kTellAgain);
  }
}

// ---------------------------------------------------------------- waiting, looking

Task<Result<void>> FileLocks::wait_at_master(InodeId inode, const FileLock& lock, std::shared_ptr<LockWait> wait,
                                             uint64_t& place) {
  if (wait->given_up()) co_return Error(ErrorCode::kInterrupted);
  WaitLockRequest request;
  request.inode = inode;
  request.lock = lock;
  request.wait = next_wait_++;
  request.place = place;
  uint64_t number = request.wait;
  wait->when_given_up([this, number] { tasks_->spawn(cancel_wait(number)); });
  auto reply = co_await master_.ask_session(std::move(request), world_.clock().now() + kWaitAtMaster, true);
  wait->when_given_up(nullptr);
  if (wait->given_up()) co_return Error(ErrorCode::kInterrupted);
  if (reply) place = reply->place;
  if (reply || reply.failed_with(ErrorCode::kTimeout)) co_return Result<void>();
  if (reply.failed_with(ErrorCode::kDeadlock)) co_return reply.error();
  // Whether a master can be asked at all is found out by setting the lock again.
  Result<void> slept = co_await tasks_->sleep_for(kAskAgain);
  co_return slept;
}

Task<void> FileLocks::cancel_wait(uint64_t number) {
  CancelWaitRequest request;
  request.wait = number;
  auto reply = co_await master_.ask(request);
  if (!reply) log_debug("client.wait_not_cancelled", "error={}", quoted(reply.error().message()));
}

Task<Result<std::optional<FileLock>>> FileLocks::test(InodeId inode, FileLock lock) {
  lock.session = {};
  Result<void> right = check_lock(lock);
  if (!right) co_return right.error();
  {
    Using state(*this, inode);
    Semaphore::Permit turn = co_await state->mutex.lock();
    if (decides(inode, *state)) co_return state->mine.conflict(lock);
    Result<void> told = co_await tell_all(inode, *state);
    if (!told) co_return told.error();
  }
  TestLockRequest request;
  request.inode = inode;
  request.lock = lock;
  auto reply = co_await master_.ask(std::move(request));
  if (!reply) co_return reply.error();
  // A number of another machine names nobody here.
  if (reply->conflict && reply->conflict->session != master_.session()) reply->conflict->pid = 0;
  co_return reply->conflict;
}

// ---------------------------------------------------------------- ends

Task<void> FileLocks::release_owner(InodeId inode, uint64_t owner) {
  State* state = find(inode);
  if (!state) co_return;
  auto found = state->used.find(owner);
  if (found == state->used.end()) co_return;
  found->second.clear();
  co_await release(inode, {owner});
}

Task<void> FileLocks::release_handle(InodeId inode, HandleId handle) {
  State* state = find(inode);
  if (!state) co_return;
  // A process may have locked through another handle since, and not know this one any more (a mapping kept it).
  std::vector<uint64_t> owners;
  for (auto& [owner, handles] : state->used) {
    if (handles.erase(handle) > 0 && handles.empty()) owners.push_back(owner);
  }
  if (!owners.empty()) co_await release(inode, std::move(owners));
}

Task<void> FileLocks::release(InodeId inode, std::vector<uint64_t> owners) {
  Using state(*this, inode);
  Semaphore::Permit turn = co_await state->mutex.lock();
  InodeLocks before = state->mine;
  bool had = state->unsure;
  std::erase_if(owners, [&state](uint64_t owner) {
    auto found = state->used.find(owner);
    return found != state->used.end() && !found->second.empty();  // it has locked again meanwhile
  });
  for (uint64_t owner : owners) {
    state->used.erase(owner);
    had = state->mine.release({SessionId(), owner}) || had;
  }
  if (!had || owners.empty()) co_return;
  (decides(inode, *state) ? here_ : at_master_).add();
  if (decides(inode, *state)) co_return;
  if (before != state->known || state->unsure) {
    Result<void> told = co_await tell_all(inode, *state);
    if (!told && !stopping_) tasks_->spawn(tell_later(inode));
    co_return;
  }
  SessionId session = master_.session();
  ReleaseLocksOp op{.inode = inode, .owners = std::move(owners)};
  Result<MutationReply> reply = co_await master_.mutate_in(session, std::move(op));
  if (session != master_.session()) co_return;
  if (reply) {
    state->known = state->mine;
  } else if (!stopping_) {
    state->unsure = true;
    tasks_->spawn(tell_later(inode));
  }
}

bool FileLocks::keeps_lease(InodeId inode) const {
  auto found = states_.find(inode);
  if (found == states_.end()) return false;
  const State& state = *found->second;
  bool recent = state.last_use + kKeepLease > world_.clock().now();
  return state.users > 0 || recent || !state.mine.empty() || state.mine != state.known;
}

std::vector<InodeId> FileLocks::forget_unused() {
  std::vector<InodeId> unused;
  for (auto it = states_.begin(); it != states_.end();) {
    State& state = *it->second;
    // The master believes in a lock that was taken away here: it is told, and then this can go.
    bool idle = state.users == 0 && state.used.empty() && state.mine.empty() && !state.unsure;
    if (idle && state.mine != state.known && state.last_use + kKeepLease <= world_.clock().now()) {
      state.unsure = true;
      tasks_->spawn(tell_later(it->first));
    }
    bool used = keeps_lease(it->first) || !state.used.empty() || state.unsure;
    if (!used) unused.push_back(it->first);
    it = used ? std::next(it) : states_.erase(it);
  }
  return unused;
}

std::set<FileLocks::HandleId> FileLocks::handles_of(const State& state) {
  std::set<HandleId> handles;
  for (const auto& [owner, used] : state.used) {
    if (state.mine.has_owner({SessionId(), owner})) handles.insert(used.begin(), used.end());
  }
  return handles;
}

Task<std::set<FileLocks::HandleId>> FileLocks::broken(InodeId inode) {
  std::set<HandleId> handles;
  if (!find(inode)) co_return handles;
  Using state(*this, inode);
  Semaphore::Permit turn = co_await state->mutex.lock();
  handles = handles_of(*state);
  state->mine = {};
  // One that was set since is not there for anybody who has been told of the end of all.
  state->unsure = true;
  Result<void> told = co_await tell_all(inode, *state);
  if (!told && !stopping_) tasks_->spawn(tell_later(inode));
  co_return handles;
}

std::set<FileLocks::HandleId> FileLocks::lost() {
  std::set<HandleId> all;
  for (auto& [inode, state] : states_) {
    all.merge(handles_of(*state));
    state->mine = state->known = {};
    state->unsure = false;
  }
  return all;
}

}  // namespace cairn
