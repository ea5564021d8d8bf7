#include "master/service/session_desk.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"

namespace cairn {

namespace {
constexpr Duration kTickPeriod = std::chrono::seconds(1);
// This process did not run for so long (it was stopped, or its machine was): it could hear nobody, so nobody's silence
// counts until they have had their time again.
constexpr Duration kStall = std::chrono::seconds(1);
constexpr size_t kConfirmedMax = 10'000;
constexpr Duration kBusyTickPeriod = std::chrono::milliseconds(20);  // while removals left work behind
}  // namespace

SessionDesk::SessionDesk(MasterCore& core, Kept kept)
    : core_(core),
      kept_(kept),
      reclaimed_(core.world().executor()),
      tasks_(core.world().executor(), core.world().clock()) {
  kept_.recalls.on_fence([this](SessionId session) { return fence(session); });
}

uint64_t SessionDesk::now_ms() const {
  return static_cast<uint64_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(core_.world().clock().now().time_since_epoch()).count());
}

void SessionDesk::start_leading() {
  ++leadership_;
  unclaimed_.clear();
  for (const SessionEntry& entry : core_.machine().sessions()) {
    if (!entry.session.ended) unclaimed_.insert(entry.id);
  }
  std::erase_if(connections_, [this](const auto& entry) { return !core_.machine().session(entry.first); });
  kept_.leases.begin_term(core_.term());
  kept_.open_files.clear();
  kept_.unheld.clear();
  kept_.locks.stop_leading();
  kept_.recalls.start_leading({unclaimed_.begin(), unclaimed_.end()});
  tasks_.spawn(run(leadership_));
}

void SessionDesk::stop_leading() {
  ++leadership_;
  kept_.recalls.stop_leading();
  kept_.locks.stop_leading();
  reclaimed_.notify_all();
}

Task<void> SessionDesk::stop() {
  ++leadership_;
  co_await kept_.locks.stop();
  co_await kept_.recalls.stop();
  co_await tasks_.stop();
}

Task<void> SessionDesk::run(uint64_t leadership) {
  TimePoint excused_until{};
  while (leadership == leadership_) {
    bool busy = core_.machine().work_pending();
    TimePoint planned = core_.world().clock().now() + (busy ? kBusyTickPeriod : kTickPeriod);
    Result<void> slept = co_await tasks_.sleep_until(planned);
    if (!slept || leadership != leadership_) co_return;
    kept_.unheld.expire(now_ms());
    TimePoint now = core_.world().clock().now();
    if (now - planned > kStall) {
      log_warning("master.stalled", "ms={}", (now - planned) / std::chrono::milliseconds(1));
      excused_until = now + std::chrono::milliseconds(core_.machine().cluster().session_ms);
      if (stalled_) stalled_();
    }
    if (now < excused_until) continue;
    if (!core_.machine().wants_ticks() && !core_.machine().work_pending()) continue;
    Result<TickReply> ticked = co_await core_.propose_for<TickReply>(Tick{}, true);
    if (!ticked) {
      log_warning("master.tick_failed", "error={}", quoted(ticked.error().message()));
      continue;
    }
    for (SessionId session : ticked->ended) {
      log_warning("master.session_expired", "session={}", session);
      forget(session, false);
    }
  }
}

void SessionDesk::forget(SessionId session, bool by_itself) {
  kept_.open_files.end_session(session);
  kept_.recalls.session_ended(session, by_itself);
  kept_.locks.session_ended(session);
  connections_.erase(session);
  unclaimed_.erase(session);
  if (unclaimed_.empty()) reclaimed_.notify_all();
}

Task<Result<void>> SessionDesk::end(SessionId session) {
  Result<ReplyBody> reply = co_await core_.propose(EndSession{session}, true);
  if (!reply) co_return reply.error();
  forget(session, false);
  co_return Result<void>();
}

Task<void> SessionDesk::fence(SessionId session) {
  Result<void> ended = co_await end(session);
  if (!ended) {
    log_warning("master.fencing_failed", "session={} error={}", session, quoted(ended.error().message()));
  }
}

Result<void> SessionDesk::arrived(SessionId session, uint64_t connection) {
  auto known = connections_.find(session);
  if (known == connections_.end()) {
    if (core_.machine().session(session)) connections_.emplace(session, connection);
    return {};
  }
  if (connection < known->second)
    return Error(ErrorCode::kUnavailable, "session " + to_string(session) + " has gone on over another connection");
  known->second = connection;
  return {};
}

bool SessionDesk::may_hold(SessionId session) const {
  Result<SessionRecord> record = core_.machine().session(session);
  return record && !record->mountpoint.empty();
}

Result<void> SessionDesk::check(SessionId session) const {
  Result<SessionRecord> record = core_.machine().session(session);
  if (record) return {};
  // A leader that was cut off may not know of it: its client would throw away what is not yet written.
  if (confirmed_ended_.contains(session)) return Error(ErrorCode::kSessionEnded, "session " + to_string(session));
  if (confirming_.insert(session).second) tasks_.spawn(confirm_ended(session));
  return Error(ErrorCode::kUnavailable, "whether session " + to_string(session) + " has ended is being found out");
}

Task<void> SessionDesk::confirm_ended(SessionId session) const {
  Result<void> current = co_await core_.log().read_barrier();
  confirming_.erase(session);
  if (!current || core_.machine().session(session)) co_return;
  if (confirmed_ended_.size() >= kConfirmedMax) confirmed_ended_.clear();  // they are found out again
  confirmed_ended_.insert(session);
}

Task<Result<void>> SessionDesk::wait_reclaimed(TimePoint deadline) {
  uint64_t leadership = leadership_;
  while (!unclaimed_.empty()) {
    Result<void> waited = co_await reclaimed_.wait_until(core_.world().clock(), deadline);
    if (leadership != leadership_) co_return core_.not_leader();
    if (!waited) co_return Error(ErrorCode::kOverload, "waiting for the sessions to say what they hold open");
  }
  co_return Result<void>();
}

Task<Result<OpenSessionReply>> SessionDesk::open(OpenSessionRequest request) {
  OpenSession command{.host = std::move(request.host),
                      .mountpoint = std::move(request.mountpoint),
                      .program = std::move(request.program)};
  Result<OpenSessionReply> reply = co_await core_.propose_for<OpenSessionReply>(std::move(command));
  if (!reply) co_return reply;
  reply->term = core_.term();
  reply->duration_ms = kept_.recalls.grant_time(reply->session);
  reply->now = core_.world().clock().wall().ns;
  reply->cluster = core_.cluster();
  log_info("master.session_opened", "session={}", reply->session);
  co_return reply;
}

Task<Result<RenewSessionReply>> SessionDesk::renew(RenewSessionRequest request) {
  Result<void> known = check(request.session);
  if (!known) co_return known.error();
  uint64_t leadership = leadership_;
  // The client that already says what it holds (or that holds nothing, and knows the term) has reclaimed.
  bool claims = unclaimed_.contains(request.session) && request.known_term == core_.term();
  // Before anything is waited for: what it closes meanwhile is closed after this.
  if (claims) {
    kept_.open_files.reclaim(request.session, request.open_inodes);
  }
  Promise<void> promise(core_.world().executor());
  Future<void> future = promise.future();
  renewals_.push_back({request.session, std::move(promise)});
  if (!renewing_) {
    renewing_ = true;
    tasks_.spawn(renew_batches());
  }
  Result<void> renewed = co_await std::move(future);
  if (!renewed) co_return renewed.error();
  if (claims && !request.unanswered.empty()) {
    Result<void> counted = co_await count_created(request.session, std::move(request.unanswered));
    if (!counted) co_return counted.error();
  }
  // Whoever leads now has not heard what this session holds, though the term may be known here.
  if (leadership != leadership_) co_return core_.not_leader();
  known = check(request.session);  // it may have been ended meanwhile: nothing is remembered of it then
  if (!known) co_return known.error();
  bool unclaimed = unclaimed_.contains(request.session);
  if (unclaimed && claims) {
    Result<void> reclaimed = kept_.leases.reclaim(request.session, request.leases);
    if (!reclaimed) {
      // One of the two is wrong about what it may believe. This one is told so, and forgets everything.
      log_warning("master.wrong_claim", "session={} error={}", request.session, quoted(reclaimed.error().message()));
      Result<void> ended = co_await end(request.session);
      if (!ended) co_return ended.error();
      co_return Error(ErrorCode::kSessionEnded, "session " + to_string(request.session));
    }
    unclaimed = request.more;
    if (!unclaimed) unclaimed_.erase(request.session);
    if (unclaimed_.empty()) reclaimed_.notify_all();
  }
  RenewSessionReply reply;
  reply.term = kept_.leases.term();
  reply.duration_ms = kept_.recalls.grant_time(request.session);
  reply.now = core_.world().clock().wall().ns;
  reply.reclaim = unclaimed;
  co_return reply;
}

// A leader before this one has made these files, and died before it could say so: their creator will ask again.
Task<Result<void>> SessionDesk::count_created(SessionId session, std::vector<uint64_t> unanswered) {
  uint64_t leadership = leadership_;
  auto ask = [session, sequences = std::move(unanswered)](Machine& machine, ReadMode mode) {
    return machine.created(session, sequences, mode);
  };
  Result<std::vector<InodeId>> created = co_await core_.read(std::move(ask));
  if (!created) co_return created.error();
  // Once it has claimed what it holds, it may also have closed some of it.
  if (leadership == leadership_ && unclaimed_.contains(session)) kept_.open_files.reclaim(session, *created);
  co_return Result<void>();
}

// What comes while an entry is on its way goes with the next: many sessions cost few entries.
Task<void> SessionDesk::renew_batches() {
  while (!renewals_.empty()) {
    std::vector<Renewal> batch = std::exchange(renewals_, {});
    RenewSessions command;
    for (const Renewal& renewal : batch)
      command.sessions.push_back(renewal.session);
    Result<RenewSessionsReply> reply = co_await core_.propose_for<RenewSessionsReply>(std::move(command), true);
    for (Renewal& renewal : batch) {
      if (!reply) {
        renewal.promise.set(reply.error());
      } else if (std::ranges::find(reply->ended, renewal.session) != reply->ended.end()) {
        renewal.promise.set(Error(ErrorCode::kSessionEnded, "session " + to_string(renewal.session)));
      } else {
        renewal.promise.set({});
      }
    }
  }
  renewing_ = false;
}

Task<Result<EmptyReply>> SessionDesk::close(CloseSessionRequest request) {
  Result<ReplyBody> reply = co_await core_.propose(EndSession{request.session}, true);
  if (!reply) co_return reply.error();
  log_info("master.session_closed", "session={}", request.session);
  forget(request.session, true);
  co_return EmptyReply{};
}

}  // namespace cairn
