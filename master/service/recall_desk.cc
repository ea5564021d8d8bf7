#include "master/service/recall_desk.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"

namespace cairn {

namespace {
constexpr Duration kTakeWait = std::chrono::seconds(20);          // then the client is answered, and asks again
constexpr Duration kTakeMargin = std::chrono::milliseconds(500);  // before the request's own deadline
constexpr size_t kRecallsMax = 1024;                              // in one answer
constexpr Duration kLookPeriod = std::chrono::seconds(1);
// This process did not run for so long: it could hear nobody, so nobody's silence counts.
constexpr Duration kStall = std::chrono::seconds(1);

const char* name_of(RecallKind kind) {
  switch (kind) {
    case RecallKind::kName:
      return "name";
    case RecallKind::kAttributes:
      return "attributes";
    case RecallKind::kContent:
      return "content";
    case RecallKind::kReader:
      return "reader";
    case RecallKind::kWriter:
      return "writer";
    case RecallKind::kGiveBack:
      return "give_back";
    case RecallKind::kLocksBroken:
      return "locks_broken";
  }
  return "unknown";
}
}  // namespace

RecallDesk::RecallDesk(MasterCore& core, LeaseTable& table)
    : core_(core),
      table_(table),
      ended_(core.world().executor()),
      lowered_(core.world().executor()),
      answered_(core.world().metrics().counter("cairn_master_recalls_answered_total", "Recalls that were answered.")),
      latency_(core.world().metrics().histogram("cairn_master_recall_seconds", "From the recall to its answer.",
                                                latency_bounds_seconds())),
      fenced_(core.world().metrics().counter("cairn_master_sessions_fenced_total",
                                             "Sessions that were ended because they did not answer a recall.")),
      shared_(core.world().metrics().gauge("cairn_master_leases", "Leases that sessions hold.", {{"kind", "shared"}})),
      exclusive_(
          core.world().metrics().gauge("cairn_master_leases", "Leases that sessions hold.", {{"kind", "exclusive"}})),
      tasks_(core.world().executor(), core.world().clock()) {
  for (auto kind : {RecallKind::kName, RecallKind::kAttributes, RecallKind::kContent, RecallKind::kReader,
                    RecallKind::kWriter, RecallKind::kGiveBack, RecallKind::kLocksBroken}) {
    recalls_[kind] = &core.world().metrics().counter("cairn_master_recalls_total", "Recalls that were sent.",
                                                     {{"kind", name_of(kind)}});
  }
}

RecallDesk::~RecallDesk() = default;

void RecallDesk::start_leading(const std::vector<SessionId>& sessions) {
  stop_leading();
  TimePoint until = core_.world().clock().now() + session_time();
  for (SessionId session : sessions)
    told_of(session)->valid_until = until;
  tasks_.spawn(run(leadership_));
}

void RecallDesk::stop_leading() {
  ++leadership_;
  for (auto& [session, told] : told_)
    told->wake.notify_all();
  for (auto& [change, condition] : changes_)
    condition->notify_all();
  ended_.notify_all();
  lowered_.notify_all();
  told_.clear();
  unanswered_.clear();
  lingering_.clear();
  turns_.clear();
}

Task<void> RecallDesk::stop() {
  stop_leading();
  co_await tasks_.stop();
}

Duration RecallDesk::session_time() const {
  return std::chrono::milliseconds(core_.machine().cluster().session_ms);
}

std::shared_ptr<RecallDesk::Told> RecallDesk::told_of(SessionId session) {
  std::shared_ptr<Told>& told = told_[session];
  if (!told) told = std::make_shared<Told>(core_.world().executor());
  return told;
}

// ---------------------------------------------------------------- what clients ask

Task<Result<TakeRecallsReply>> RecallDesk::take(TakeRecallsRequest request, TimePoint deadline) {
  std::shared_ptr<Told> told = told_of(request.session);
  uint64_t leadership = leadership_;
  TimePoint until = std::min(core_.world().clock().now() + kTakeWait, deadline - kTakeMargin);
  for (;;) {
    TakeRecallsReply reply;
    reply.term = table_.term();
    uint64_t after = request.term == reply.term ? request.after : 0;
    reply.recalls = table_.pending_of(request.session, after, kRecallsMax);
    if (!reply.recalls.empty() || request.at_once) co_return reply;
    Result<void> woken = co_await told->wake.wait_until(core_.world().clock(), until);
    if (leadership != leadership_) co_return core_.not_leader();
    if (told->ended) co_return Error(ErrorCode::kSessionEnded, "session " + to_string(request.session));
    if (!woken) co_return reply;
  }
}

Result<EmptyReply> RecallDesk::answer(const AnswerRecallsRequest& request) {
  if (request.term != table_.term()) return EmptyReply{};  // what was asked in another term is nobody's question now
  std::shared_ptr<Told> told = told_of(request.session);
  TimePoint now = core_.world().clock().now();
  for (const RecallAnswer& answer : request.answers) {
    LeaseTable::Answered answered = table_.answered(request.session, answer);
    if (!answered.known) continue;
    answered_.add();
    if (auto asked = told->asked.find(answer.sequence); asked != told->asked.end()) {
      latency_.observe(std::chrono::duration<double>(now - asked->second).count());
      told->asked.erase(asked);
    }
    if (answered.complete) complete(answered.complete);
  }
  lowered_.notify_all();
  if (told->asked.empty()) unanswered_.erase(request.session);
  return EmptyReply{};
}

Result<LeaseNumberReply> RecallDesk::give_back(const ReturnLeasesRequest& request) {
  if (request.term != table_.term()) return number();
  table_.give_back(request.session, request.inodes);
  bool any = false;
  for (InodeId inode : request.lowered)
    any = table_.lower(request.session, inode, true) || any;
  if (any) lowered();
  return number();
}

// ---------------------------------------------------------------- changes

void RecallDesk::Change::end() {
  if (RecallDesk* desk = std::exchange(desk_, nullptr)) desk->end_change(id_);
}

RecallDesk::Change RecallDesk::begin(SessionId by, std::vector<Touched> touched) {
  return {this, table_.begin_change(by, std::move(touched))};
}

void RecallDesk::end_change(ChangeId change) {
  table_.end_change(change);
  changes_.erase(change);
  ended_.notify_all();
}

void RecallDesk::complete(ChangeId change) {
  auto found = changes_.find(change);
  if (found != changes_.end()) found->second->notify_all();
}

void RecallDesk::tell(const std::vector<LeaseTable::Asked>& asked) {
  TimePoint now = core_.world().clock().now();
  for (const LeaseTable::Asked& one : asked) {
    recalls_.at(one.recall.kind)->add();
    if (lingering_.contains(one.session)) continue;  // nobody is there: its leases go when its time is over
    std::shared_ptr<Told> told = told_of(one.session);
    told->asked.emplace(one.recall.sequence, now);
    told->wake.notify_all();
    unanswered_.insert(one.session);
  }
}

Task<Result<void>> RecallDesk::ask_all(ChangeId change, TimePoint deadline) {
  for (;;) {
    std::vector<LeaseTable::Asked> asked = table_.recalls_for(change);
    if (asked.empty()) co_return Result<void>();
    tell(asked);
    Result<void> answered = co_await wait_answered(change, deadline);
    if (!answered) co_return answered;
  }
}

Task<Result<void>> RecallDesk::wait_answered(ChangeId change, TimePoint deadline) {
  uint64_t leadership = leadership_;
  while (table_.pending(change) > 0) {
    std::unique_ptr<Condition>& complete = changes_[change];
    if (!complete) complete = std::make_unique<Condition>(core_.world().executor());
    Result<void> waited = co_await complete->wait_until(core_.world().clock(), deadline);
    if (leadership != leadership_) co_return core_.not_leader();
    if (!waited) co_return Error(ErrorCode::kOverload, "others have not yet let go of what is to be changed");
  }
  co_return Result<void>();
}

Task<Result<void>> RecallDesk::wait_alone(ChangeId change, InodeId inode, TimePoint deadline) {
  uint64_t leadership = leadership_;
  while (!table_.alone(change, inode)) {
    Result<void> waited = co_await ended_.wait_until(core_.world().clock(), deadline);
    if (leadership != leadership_) co_return core_.not_leader();
    if (!waited) co_return Error(ErrorCode::kOverload, "inode " + to_string(inode) + " is being changed");
  }
  co_return Result<void>();
}

Task<Result<void>> RecallDesk::wait_written(InodeId inode, SessionId reader, TimePoint deadline) {
  uint64_t leadership = leadership_;
  for (;;) {
    std::optional<SessionId> writer = table_.writer(inode);
    if (!writer || *writer == reader) co_return Result<void>();
    if (std::optional<LeaseTable::Asked> asked = table_.recall_for_reader(inode, reader)) tell({*asked});
    Result<void> waited = co_await lowered_.wait_until(core_.world().clock(), deadline);
    if (leadership != leadership_) co_return core_.not_leader();
    if (!waited) co_return Error(ErrorCode::kOverload, "inode " + to_string(inode) + " is being written");
  }
}

Task<Result<void>> RecallDesk::wait_own(SessionId session, InodeId inode, TimePoint deadline) {
  uint64_t leadership = leadership_;
  while (table_.recalled(session, inode)) {
    Result<void> waited = co_await lowered_.wait_until(core_.world().clock(), deadline);
    if (leadership != leadership_) co_return core_.not_leader();
    if (!waited) co_return Error(ErrorCode::kOverload, "a recall of inode " + to_string(inode) + " is not answered");
  }
  co_return Result<void>();
}

Task<Result<void>> RecallDesk::wait_turn(SessionId session, InodeId inode, TimePoint deadline) {
  uint64_t leadership = leadership_;
  for (;;) {
    if (!table_.asked_for_all(session, inode))
      co_return Error(ErrorCode::kWait, "inode " + to_string(inode) + " is not being recalled from this session");
    std::erase_if(turns_, [this](const auto& turn) { return !table_.asked_for_all(turn.second, turn.first); });
    if (turns_.try_emplace(inode, session).first->second == session) co_return Result<void>();
    auto waits = waiting_for_turn_.emplace(session, inode);
    Result<void> waited = co_await lowered_.wait_until(core_.world().clock(), deadline);
    waiting_for_turn_.erase(waits);
    if (leadership != leadership_) co_return core_.not_leader();
    if (!waited) co_return Error(ErrorCode::kOverload, "inode " + to_string(inode) + " is being written");
  }
}

Duration RecallDesk::unanswered_for(SessionId session, InodeId inode) const {
  auto told = told_.find(session);
  if (told == told_.end()) return Duration::zero();
  auto asked = told->second->asked.find(table_.oldest_pending(session, inode));
  if (asked == told->second->asked.end()) return Duration::zero();
  return core_.world().clock().now() - asked->second;
}

// ---------------------------------------------------------------- sessions

uint32_t RecallDesk::grant_time(SessionId session) {
  std::shared_ptr<Told> told = told_of(session);
  TimePoint now = core_.world().clock().now();
  TimePoint until = now + session_time();
  if (!told->asked.empty()) until = std::min(until, told->asked.begin()->second + session_time());
  told->valid_until = std::max(told->valid_until, until);
  // Never nothing: what that means is not defined. Its margin is larger than one millisecond.
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - now).count();
  return static_cast<uint32_t>(std::max<int64_t>(left, 1));
}

void RecallDesk::session_ended(SessionId session, bool by_itself) {
  auto known = told_.find(session);
  TimePoint until{};
  if (known != told_.end()) {
    until = known->second->valid_until;
    known->second->ended = true;
    known->second->wake.notify_all();
    told_.erase(known);
  }
  unanswered_.erase(session);
  if (by_itself || until <= core_.world().clock().now()) {
    end_leases(session);
  } else {
    lingering_[session] = until;
  }
}

void RecallDesk::end_leases(SessionId session) {
  for (ChangeId change : table_.end_session(session))
    complete(change);
  lowered_.notify_all();
}

Task<void> RecallDesk::run(uint64_t leadership) {
  TimePoint planned = core_.world().clock().now() + kLookPeriod;
  for (;;) {
    Result<void> slept = co_await tasks_.sleep_until(planned);
    if (!slept || leadership != leadership_) co_return;
    TimePoint now = core_.world().clock().now();
    for (SessionId session : unanswered_) {
      // Who waits for the one before it to write is not silent; that one's time is not longer than a session's.
      if (now - planned > kStall || waits_for_turn(session)) excuse(session, now);
    }
    planned = look_after(now);
    if (std::optional<LeaseTable::Asked> greedy = table_.greediest()) tell({*greedy});
    shared_.set(static_cast<double>(table_.shared_count()));
    exclusive_.set(static_cast<double>(table_.exclusive_count()));
  }
}

bool RecallDesk::waits_for_turn(SessionId session) const {
  auto [begin, end] = waiting_for_turn_.equal_range(session);
  return std::any_of(begin, end, [this](const auto& wait) {
    auto turn = turns_.find(wait.second);
    return turn != turns_.end() && !waiting_for_turn_.contains(turn->second);
  });
}

void RecallDesk::excuse(SessionId session, TimePoint now) {
  for (auto& [sequence, when] : told_of(session)->asked)
    when = now;
}

// Gives the time to look again.
TimePoint RecallDesk::look_after(TimePoint now) {
  TimePoint next = now + kLookPeriod;
  for (SessionId session : unanswered_) {
    std::shared_ptr<Told> told = told_of(session);
    TimePoint due = told->asked.begin()->second + session_time();
    if (due > now) {
      next = std::min(next, due);
    } else if (!told->fencing) {
      told->fencing = true;
      tasks_.spawn(fence(session, leadership_));
    }
  }
  for (auto it = lingering_.begin(); it != lingering_.end();) {
    if (it->second > now) {
      next = std::min(next, it->second);
      ++it;
      continue;
    }
    SessionId session = it->first;
    it = lingering_.erase(it);
    end_leases(session);
  }
  return next;
}

Task<void> RecallDesk::fence(SessionId session, uint64_t leadership) {
  log_warning("master.session_fenced", "session={} unanswered={}", session, table_.pending_of(session));
  fenced_.add();
  co_await fence_(session);
  if (leadership != leadership_) co_return;
  auto known = told_.find(session);
  if (known != told_.end()) known->second->fencing = false;  // it did not work: again
}

}  // namespace cairn
