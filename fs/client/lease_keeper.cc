#include "fs/client/lease_keeper.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"

namespace cairn {

namespace {
constexpr Duration kTakeWait = std::chrono::seconds(20);
constexpr Duration kTakeAgain = std::chrono::milliseconds(50);  // after a failure
constexpr Duration kCatchUpWait = std::chrono::seconds(5);
constexpr Duration kAnswerWait = std::chrono::seconds(5);
constexpr size_t kAnswersMax = 4096;
constexpr size_t kReturnsMax = 1024;  // leases in one request
constexpr Duration kReturnPause = std::chrono::milliseconds(100);
constexpr size_t kTakeRoundsMax = 100;  // of catch_up()
}  // namespace

LeaseKeeper::LeaseKeeper(World& world, MasterLink& master, size_t leases_max, Duration late_max)
    : world_(world),
      master_(master),
      leases_max_(std::max<size_t>(leases_max, 1)),
      late_max_(late_max),
      settled_(world.executor()),
      answers_there_(world.executor()),
      returns_there_(world.executor()),
      lowering_there_(world.executor()),
      received_(world.metrics().counter("cairn_client_recalls_total", "recalls that the master has sent")),
      tasks_(std::make_unique<TaskGroup>(world.executor(), world.clock())) {}

LeaseKeeper::~LeaseKeeper() = default;

void LeaseKeeper::start(Handler handler, Forget forget) {
  handler_ = std::move(handler);
  forget_ = std::move(forget);
  tasks_->on_stop([this] {
    answers_there_.notify_all();
    returns_there_.notify_all();
    lowering_there_.notify_all();
  });
  tasks_->spawn(take_forever());
  tasks_->spawn(answer_forever());
  tasks_->spawn(return_forever());
  tasks_->spawn(lower_forever());
}

Task<void> LeaseKeeper::stop() {
  stopping_ = true;
  co_await tasks_->stop();
}

void LeaseKeeper::abandon() {
  tasks_.reset();
}

// ---------------------------------------------------------------- what is held

LeaseKeeper::Held* LeaseKeeper::find(InodeId inode) {
  auto found = leases_.find(inode);
  return found == leases_.end() ? nullptr : &found->second;
}

const LeaseKeeper::Held* LeaseKeeper::find(InodeId inode) const {
  auto found = leases_.find(inode);
  return found == leases_.end() ? nullptr : &found->second;
}

bool LeaseKeeper::shared(InodeId inode) const {
  const Held* held = find(inode);
  return held && !held->returning && !master_.suspended();
}

bool LeaseKeeper::exclusive(InodeId inode) const {
  const Held* held = find(inode);
  return held && held->exclusive && !held->returning && !master_.suspended();
}

bool LeaseKeeper::recalling(InodeId inode) const {
  return queues_.contains(inode);
}

bool LeaseKeeper::reads_as_before(InodeId inode) const {
  auto found = queues_.find(inode);
  return found != queues_.end() && !found->second.for_nobody && !master_.suspended();
}

bool LeaseKeeper::going(InodeId inode) const {
  auto found = queues_.find(inode);
  return found != queues_.end() && found->second.going;
}

uint64_t LeaseKeeper::newest_recall(InodeId inode) const {
  auto found = queues_.find(inode);
  return found == queues_.end() ? 0 : found->second.newest;
}

uint64_t LeaseKeeper::last_recall(InodeId inode) const {
  auto found = recalled_.find(inode);
  return found == recalled_.end() ? 0 : found->second.sequence;
}

Duration LeaseKeeper::left(InodeId inode) const {
  if (!usable(inode)) return Duration::zero();
  return master_.valid_left();
}

bool LeaseKeeper::accept(InodeId inode, const Lease& lease, bool exclusive) {
  if (lease.duration_ms == 0 || !inode || lease.term < master_.term()) return false;
  Order order{lease.term, lease.sequence};
  auto recalled = recalled_.find(inode);
  if (recalled != recalled_.end() && order <= recalled->second) return false;
  auto [place, is_new] = leases_.try_emplace(inode);
  Held& held = place->second;
  if (is_new) held.use = uses_.insert(uses_.end(), inode);
  if (held.returned || held.in_doubt) return false;  // in doubt the master has heard of the return later
  if (!is_new && order < Order{held.term, held.sequence})
    return false;  // what came with it may be older than what is known
  if (held.returning) {
    held.returning = false;
    held.use = uses_.insert(uses_.end(), inode);
  }
  held.term = std::max(held.term, lease.term);
  held.sequence = held.term == lease.term ? std::max(held.sequence, lease.sequence) : lease.sequence;
  if (exclusive && !held.exclusive) {
    held.exclusive = true;
    held.tenure = ++last_tenure_;
    ++exclusive_count_;
  }
  used(inode);
  if (uses_.size() > leases_max_) give_back_least_used(uses_.size() - leases_max_);
  return true;
}

bool LeaseKeeper::granted_exclusive(InodeId inode, const Lease& lease, bool locks_too) {
  bool held = accept(inode, lease, true);
  if (held && locks_too) decide_locks(inode, tenure(inode));
  return held;
}

bool LeaseKeeper::decides_locks(InodeId inode) const {
  const Held* held = find(inode);
  return held && held->decides_locks && exclusive(inode);
}

uint64_t LeaseKeeper::tenure(InodeId inode) const {
  const Held* held = find(inode);
  return held && exclusive(inode) ? held->tenure : 0;
}

void LeaseKeeper::decide_locks(InodeId inode, uint64_t tenure) {
  if (tenure == 0 || this->tenure(inode) != tenure || recalling(inode)) return;
  find(inode)->decides_locks = true;
}

void LeaseKeeper::stop_deciding_locks(InodeId inode) {
  if (Held* held = find(inode)) held->decides_locks = false;
}

void LeaseKeeper::used(InodeId inode) {
  Held* held = find(inode);
  if (held && !held->returning) uses_.splice(uses_.end(), uses_, held->use);
}

void LeaseKeeper::pin(InodeId inode, bool pinned) {
  if (pinned) {
    ++pins_[inode];
    return;
  }
  auto found = pins_.find(inode);
  if (found != pins_.end() && --found->second == 0) pins_.erase(found);
}

void LeaseKeeper::lowered(InodeId inode) {
  Held* held = find(inode);
  if (!held || !held->exclusive) return;
  held->exclusive = false;
  held->tenure = 0;
  held->decides_locks = false;
  --exclusive_count_;
}

void LeaseKeeper::erase(InodeId inode) {
  auto found = leases_.find(inode);
  if (found == leases_.end()) return;
  if (found->second.exclusive) --exclusive_count_;
  if (!found->second.returning) uses_.erase(found->second.use);
  leases_.erase(found);
}

void LeaseKeeper::lost() {
  leases_.clear();
  uses_.clear();
  exclusive_count_ = 0;
  returns_.clear();
  lowering_.clear();
  settled_.notify_all();
  answers_.clear();
  recalls_.clear();
  for (auto& [inode, queue] : queues_) {
    queue.waiting.clear();  // what is being worked on is finished
    queue.for_nobody = true;
  }
  after_ = 0;
  term_ = 0;
}

// ---------------------------------------------------------------- a new leader

std::vector<HeldLease> LeaseKeeper::held(uint64_t term) {
  std::vector<HeldLease> all;
  all.reserve(leases_.size());
  for (auto& [inode, held] : leases_) {
    if (held.in_doubt) continue;  // another session may have it by now; told() forgets it
    held.told_to = term;
    all.push_back({.inode = inode, .exclusive = held.exclusive});
  }
  std::ranges::sort(all, {}, &HeldLease::inode);
  return all;
}

void LeaseKeeper::told(uint64_t term) {
  std::vector<InodeId> unknown;
  for (auto& [inode, held] : leases_) {
    if (held.told_to == term && held.term < term) {
      held.term = term;
      held.sequence = 0;  // numbers begin anew: any recall of this leader is of it
    }
    if (held.term < term) unknown.push_back(inode);  // an answer of the old leader that came in between
  }
  for (InodeId inode : unknown) {
    erase(inode);
    if (forget_) tasks_->spawn(forget_(inode));
  }
}

// ---------------------------------------------------------------- recalls

Task<Result<size_t>> LeaseKeeper::take(bool at_once) {
  TakeRecallsRequest request;
  request.term = term_;
  request.after = at_once ? 0 : after_;
  request.at_once = at_once;
  TimePoint deadline = world_.clock().now() + (at_once ? kCatchUpWait : kTakeWait);
  auto reply = co_await master_.ask_session(request, deadline, true);
  if (!reply) co_return reply.error();
  size_t count = reply->recalls.size();
  received(std::move(*reply));
  co_return count;
}

Task<void> LeaseKeeper::take_forever() {
  while (!stopping_) {
    Result<size_t> taken = co_await take(false);
    if (taken || taken.failed_with(ErrorCode::kTimeout)) continue;
    after_ = 0;  // whatever was not answered may be told again
    Result<void> slept = co_await tasks_->sleep_for(kTakeAgain);
    if (!slept) co_return;
  }
}

Task<bool> LeaseKeeper::catch_up() {
  Result<size_t> taken = co_await take(true);
  for (size_t round = 1; taken && *taken > 0 && round < kTakeRoundsMax; ++round) {
    TakeRecallsRequest request{.session = {}, .term = term_, .after = after_, .at_once = true};
    auto reply = co_await master_.ask_session(request, world_.clock().now() + kCatchUpWait, true);
    if (!reply) co_return false;
    taken = reply->recalls.size();
    received(std::move(*reply));
  }
  co_return taken.has_value();
}

void LeaseKeeper::received(TakeRecallsReply reply) {
  if (reply.term < term_) return;
  if (reply.term > term_) {
    term_ = reply.term;
    after_ = 0;
    recalls_.clear();
    answers_.clear();
  }
  forget_notes();
  for (Recall& recall : reply.recalls) {
    after_ = std::max(after_, recall.sequence);
    auto [known, is_new] = recalls_.try_emplace(recall.sequence, false);
    if (!is_new) {
      if (known->second) answers_.push_back({.sequence = recall.sequence});
      continue;
    }
    received_.add();
    note(recall.inode, {reply.term, recall.sequence});
    if (recall.kind == RecallKind::kGiveBack) {
      give_back_least_used(recall.count);
      worked_on(reply.term, recall, true);
      continue;
    }
    Queue& queue = queues_[recall.inode];
    InodeId inode = recall.inode;
    queue.waiting.emplace_back(reply.term, std::move(recall));
    queue.newest = ++queued_;
    queue.for_nobody = false;
    if (!std::exchange(queue.running, true)) tasks_->spawn(work_on(inode));
    settled_.notify_all();
  }
  if (!answers_.empty()) answers_there_.notify_all();
}

void LeaseKeeper::note(InodeId inode, Order order) {
  if (inode) {
    Order& highest = recalled_[inode];
    highest = std::max(highest, order);
  }
  notes_.push_back({world_.clock().now(), inode, order.sequence});
}

void LeaseKeeper::given_back(InodeId inode, const LeaseNumberReply& number) {
  note(inode, {number.term, number.sequence});
}

// What no late answer can pass any more.
void LeaseKeeper::forget_notes() {
  TimePoint old = world_.clock().now() - 2 * late_max_;
  while (!notes_.empty() && notes_.front().at < old) {
    const Note& note = notes_.front();
    auto recalled = recalled_.find(note.inode);
    if (recalled != recalled_.end() && recalled->second.sequence == note.sequence) recalled_.erase(recalled);
    auto handled = recalls_.find(note.sequence);
    if (handled != recalls_.end() && handled->second) recalls_.erase(handled);
    notes_.pop_front();
  }
}

Task<void> LeaseKeeper::work_on(InodeId inode) {
  for (;;) {
    auto found = queues_.find(inode);
    if (found->second.waiting.empty()) break;
    auto [term, recall] = std::move(found->second.waiting.front());
    found->second.waiting.pop_front();
    found->second.going = recall.kind == RecallKind::kContent || recall.kind == RecallKind::kWriter;
    settled_.notify_all();
    bool kept = co_await handler_(recall);
    worked_on(term, recall, kept);
  }
  queues_.erase(inode);
  settled_.notify_all();
}

void LeaseKeeper::worked_on(uint64_t term, const Recall& recall, bool kept) {
  Held* held = find(recall.inode);
  // A lease that was given after the recall is another one.
  bool same = held && Order{held->term, held->sequence} < Order{term, recall.sequence};
  bool goes = recall.kind == RecallKind::kContent || recall.kind == RecallKind::kWriter;
  if (same && (goes || !kept)) {
    erase(recall.inode);
  } else if (same && recall.kind == RecallKind::kReader) {
    lowered(recall.inode);
  }
  if (term != term_) return;  // nobody's question any more
  recalls_[recall.sequence] = true;
  // What a late answer would have given is not held here, though the master believes so.
  bool returned = !goes && recall.inode && !find(recall.inode);
  answers_.push_back({.sequence = recall.sequence, .returned = returned});
  answers_there_.notify_all();
}

Task<void> LeaseKeeper::answer_forever() {
  while (!tasks_->stop_requested() && !stopping_) {
    if (answers_.empty()) {
      co_await answers_there_.wait();
      continue;
    }
    AnswerRecallsRequest request;
    request.term = term_;
    size_t count = std::min(answers_.size(), kAnswersMax);
    request.answers.assign(answers_.begin(), answers_.begin() + static_cast<ptrdiff_t>(count));
    answers_.erase(answers_.begin(), answers_.begin() + static_cast<ptrdiff_t>(count));
    SessionId session = master_.session();
    std::vector<RecallAnswer> sent = request.answers;
    uint64_t term = request.term;
    auto reply = co_await master_.ask_session(std::move(request), world_.clock().now() + kAnswerWait);
    if (reply || term != term_ || session != master_.session()) continue;
    log_debug("client.recall_answers_failed", "error={}", quoted(reply.error().message()));
    answers_.insert(answers_.begin(), sent.begin(), sent.end());
    Result<void> slept = co_await tasks_->sleep_for(kTakeAgain);
    if (!slept) co_return;
  }
}

// ---------------------------------------------------------------- giving back

void LeaseKeeper::lower(InodeId inode) {
  if (!exclusive(inode) || recalling(inode)) return;
  lowered(inode);
  lowering_.insert(inode);
  lowering_there_.notify_all();
}

Task<void> LeaseKeeper::lower_forever() {
  while (!tasks_->stop_requested() && !stopping_) {
    if (lowering_.empty()) {
      co_await lowering_there_.wait();
      continue;
    }
    ReturnLeasesRequest request;
    request.term = master_.term();
    for (InodeId inode : lowering_) {
      if (request.lowered.size() < kReturnsMax) request.lowered.push_back(inode);
    }
    std::vector<InodeId> told = request.lowered;
    SessionId session = master_.session();
    auto reply = co_await master_.ask_session(std::move(request), world_.clock().now() + kAnswerWait);
    if (session != master_.session()) continue;
    if (!reply) {
      // Perhaps it is still on its way: the lease is not asked for before it is known.
      Result<void> slept = co_await tasks_->sleep_for(kTakeAgain);
      if (!slept) co_return;
      continue;
    }
    for (InodeId inode : told) {
      given_back(inode, *reply);
      lowering_.erase(inode);
    }
    settled_.notify_all();
  }
}

void LeaseKeeper::give_back_least_used(size_t count) {
  // Until then the kernel may use what it was told under the lease.
  TimePoint when = world_.clock().now() + master_.valid_left();
  size_t looked_at = 0;
  size_t most = uses_.size();
  for (auto use = uses_.begin(); use != uses_.end() && count > 0 && looked_at < most; ++looked_at) {
    InodeId inode = *use;
    auto next = std::next(use);
    Held& held = leases_[inode];
    bool busy = held.exclusive && busy_ && busy_(inode);
    if (!busy && !pins_.contains(inode) && !recalling(inode)) {
      uses_.erase(use);
      held.returning = true;
      returns_.push_back({inode, when});
      --count;
    }
    use = next;
  }
  returns_there_.notify_all();
}

Task<void> LeaseKeeper::return_forever() {
  while (!tasks_->stop_requested() && !stopping_) {
    if (returns_.empty()) {
      co_await returns_there_.wait();
      continue;
    }
    TimePoint next = std::max(returns_.front().when, world_.clock().now() + kReturnPause);
    Result<void> slept = co_await tasks_->sleep_until(next);
    if (!slept) co_return;
    std::vector<InodeId> shared, exclusive;
    TimePoint now = world_.clock().now();
    SessionId session = master_.session();
    while (!returns_.empty() && returns_.front().when <= now && shared.size() + exclusive.size() < kReturnsMax) {
      InodeId inode = returns_.front().inode;
      returns_.pop_front();
      Held* held = find(inode);
      if (!held || !held->returning || held->returned) continue;
      held->returned = held->in_doubt = true;
      (held->exclusive ? exclusive : shared).push_back(inode);
      if (forget_) co_await forget_(inode);
    }
    if (session != master_.session()) continue;  // what was returned went with it
    Result<void> returned = co_await give_back(shared, exclusive);
    if (session != master_.session()) continue;
    shared.insert(shared.end(), exclusive.begin(), exclusive.end());
    for (InodeId inode : shared) {
      Held* held = find(inode);
      if (!held || !held->returned) continue;
      if (returned) {
        erase(inode);
      } else {
        held->returned = false;
        returns_.push_back({inode, now});
      }
    }
  }
}

Task<Result<void>> LeaseKeeper::give_back(std::vector<InodeId> shared, std::vector<InodeId> exclusive) {
  for (InodeId inode : exclusive) {
    ReleaseWriteLeaseRequest request;
    request.inode = inode;
    auto reply = co_await master_.ask_session(request, world_.clock().now() + kAnswerWait);
    if (!reply) co_return reply.error();
    given_back(inode, *reply);
  }
  if (shared.empty()) co_return Result<void>();
  ReturnLeasesRequest request;
  request.term = master_.term();
  request.inodes = shared;
  auto reply = co_await master_.ask_session(std::move(request), world_.clock().now() + kAnswerWait);
  if (!reply) co_return reply.error();
  for (InodeId inode : shared)
    given_back(inode, *reply);
  co_return Result<void>();
}

}  // namespace cairn
