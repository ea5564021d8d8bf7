#include "fs/client/master_link.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"

namespace cairn {

namespace {
constexpr Duration kCloseWait = std::chrono::seconds(2);
// Between clocks of two machines: what 1 % is of the session's time, and this.
constexpr Duration kValidMargin = std::chrono::milliseconds(200);
constexpr Duration kRenewPeriodMin = std::chrono::milliseconds(100);
constexpr Duration kRenewPeriodMax = std::chrono::seconds(3);
}  // namespace

MasterLink::MasterLink(World& world, ClientOptions options)
    : world_(world),
      options_(std::move(options)),
      masters_(world, options_.masters, options_.program),
      replaced_(world.executor()),
      renewal_(world.executor()),
      valid_(world.executor()),
      requests_(world.metrics().counter("cairn_client_master_requests_total",
                                        "requests to masters, without those that keep the session alive")),
      tasks_(world.executor(), world.clock()) {
  masters_.on_found([this] {
    renew_now_ = true;
    renewal_.notify_all();
  });
}

MasterLink::~MasterLink() = default;

Task<Result<void>> MasterLink::open_session() {
  if (options_.masters.empty()) co_return Error(ErrorCode::kInvalid, "no master's address is given");
  masters_.start();
  TimePoint deadline = world_.clock().now() + options_.connect_timeout;
  Result<void> opened = co_await try_open_session(deadline);
  if (!opened) co_return opened;
  tasks_.on_stop([this] {
    renewal_.notify_all();
    valid_.notify_all();
  });
  tasks_.spawn(renew_forever());
  co_return opened;
}

Task<Result<void>> MasterLink::try_open_session(TimePoint deadline) {
  Error last(ErrorCode::kUnavailable);
  while (world_.clock().now() < deadline && !tasks_.stop_requested()) {
    TimePoint asked = world_.clock().now();
    OpenSessionRequest request{.host = options_.host, .mountpoint = options_.mountpoint, .program = options_.program};
    auto reply = co_await masters_.ask_once(std::move(request), deadline);
    if (reply) {
      session_ = reply->session;
      cluster_ = reply->cluster;
      term_ = reply->term;
      session_time_ = std::chrono::milliseconds(reply->duration_ms);
      valid_until_ = asked + session_time_ - session_time_ / 100 - kValidMargin;
      next_sequence_ = 1;
      in_flight_.clear();
      creating_.clear();
      masters_.set_cluster(cluster_);
      learn_time(asked, reply->now);
      co_return Result<void>();
    }
    last = reply.error();
    if (!is_masters_trouble(last.code)) break;
  }
  std::string names;
  for (const Address& address : options_.masters)
    names += (names.empty() ? "" : ", ") + to_string(address);
  ErrorCode code = is_masters_trouble(last.code) ? ErrorCode::kUnavailable : last.code;
  co_return Error(code, "no session with a master at " + names + ": " + last.message());
}

void MasterLink::learn_time(TimePoint asked, FileTime now) {
  // The answer is about half a round trip old.
  int64_t half = (world_.clock().now() - asked).count() / 2;
  wall_offset_ns_ = now + half - world_.clock().wall().ns;
}

void MasterLink::count_request() {
  ++requests_sent_;
  requests_.add();
}

Duration MasterLink::valid_left() const {
  if (replacing_) return Duration::zero();
  return std::max(valid_until_ - world_.clock().now(), Duration::zero());
}

Task<Result<void>> MasterLink::wait_valid(TimePoint deadline) {
  while (suspended() && !tasks_.stop_requested()) {
    if (world_.clock().now() >= deadline) co_return Error(ErrorCode::kIo, "no master renews the session");
    if (!wanted_valid_) {
      wanted_valid_ = true;
      renew_now_ = true;
      renewal_.notify_all();
    }
    (void)co_await valid_.wait_until(world_.clock(), deadline);
  }
  co_return tasks_.stop_requested() ? Result<void>(ErrorCode::kCancelled) : Result<void>();
}

Task<Result<MutationReply>> MasterLink::mutate_in(SessionId session, MetaOp op) {
  TimePoint deadline = world_.clock().now() + options_.request_timeout;
  Result<void> replaced = co_await wait_replaced(deadline);
  if (!replaced) co_return replaced.error();
  if (session_ != session) co_return Error(ErrorCode::kIo, "the session with the master has ended");
  Result<MutationReply> reply = co_await mutate_until(std::move(op), deadline);
  co_return reply;
}

Task<Result<void>> MasterLink::wait_replaced(TimePoint deadline) {
  while (replacing_ && !tasks_.stop_requested()) {
    Result<void> waited = co_await replaced_.wait_until(world_.clock(), deadline);
    if (!waited) co_return Error(ErrorCode::kUnavailable, "no master has opened a session in time");
  }
  co_return Result<void>();
}

Task<Result<MutationReply>> MasterLink::mutate_until(MetaOp op, TimePoint deadline) {
  Result<void> replaced = co_await wait_replaced(deadline);
  if (!replaced) co_return replaced.error();
  MutateRequest request;
  request.session = session_;
  request.sequence = next_sequence_++;
  request.now = now();
  request.op = std::move(op);
  in_flight_.insert(request.sequence);
  const auto* create = std::get_if<CreateOp>(&request.op);
  if (create && create->open) creating_.insert(request.sequence);
  Result<MutationReply> result(ErrorCode::kIo);
  for (;;) {
    request.first_unacknowledged =
        in_flight_.empty() ? request.sequence : std::min(*in_flight_.begin(), request.sequence);
    count_request();
    auto reply = co_await masters_.ask_once(request, deadline);
    if (reply) {
      result = std::move(*reply);
      break;
    }
    Error error = reply.error();
    // A mutation belongs to its session: under a new one it would be another mutation.
    bool again = co_await may_retry(error, deadline, request.session);
    if (!again || session_ != request.session) {
      bool ended = error.code == ErrorCode::kSessionEnded || session_ != request.session;
      result = ended ? Error(ErrorCode::kIo, "the session with the master has ended") : error;
      break;
    }
  }
  if (session_ == request.session) {
    in_flight_.erase(request.sequence);
    creating_.erase(request.sequence);
  } else if (result) {
    result->lease = result->parent_lease = {};
  }
  co_return result;
}

Task<bool> MasterLink::may_retry(Error error, TimePoint deadline, SessionId used) {
  if (tasks_.stop_requested() || closing_) co_return false;
  if (error.code == ErrorCode::kSessionEnded) {
    if (used == session_ && !replacing_) {
      replacing_ = true;
      tasks_.spawn(replace_session());
    }
    Result<void> replaced = co_await wait_replaced(deadline);
    if (!replaced) co_return false;
  } else if (!is_masters_trouble(error.code)) {
    co_return false;
  }
  co_return world_.clock().now() < deadline;
}

Task<void> MasterLink::replace_session() {
  log_warning("client.session_ended", "session={}", session_);
  while (!tasks_.stop_requested()) {
    Result<void> opened = co_await try_open_session(world_.clock().now() + options_.connect_timeout);
    if (opened) break;
    log_warning("client.no_session", "error={}", quoted(opened.error().message()));
    Result<void> slept = co_await tasks_.sleep_for(std::chrono::seconds(1));
    if (!slept) break;
  }
  if (session_lost_) co_await session_lost_();
  replacing_ = false;
  wanted_valid_ = false;
  replaced_.notify_all();
  valid_.notify_all();
}

Task<void> MasterLink::renew_forever() {
  while (!tasks_.stop_requested()) {
    TimePoint next =
        world_.clock().now() + std::clamp<Duration>(session_time_ * 3 / 10, kRenewPeriodMin, kRenewPeriodMax);
    while (!renew_now_ && world_.clock().now() < next && !tasks_.stop_requested())
      (void)co_await renewal_.wait_until(world_.clock(), next);
    renew_now_ = false;
    if (replacing_ || tasks_.stop_requested()) continue;
    co_await renew_once();
    wanted_valid_ = false;
    valid_.notify_all();
  }
}

Task<Result<RenewSessionReply>> MasterLink::renew(RenewSessionRequest request) {
  TimePoint deadline = world_.clock().now() + std::max<Duration>(session_time_, kMasterAttempt);
  for (;;) {
    request.session = session_;
    auto reply = co_await masters_.ask_once(request, deadline);
    if (reply && request.session == session_) co_return reply;
    Error error = reply ? Error(ErrorCode::kSessionEnded) : reply.error();
    bool again = co_await may_retry(error, deadline, request.session);
    if (!again) co_return error;
    // Another leader may be asked by now: it hears everything from the beginning.
    if (request.session != session_ || !request.leases.empty() || !request.open_inodes.empty()) co_return error;
  }
}

Task<void> MasterLink::renew_once() {
  RenewSessionRequest request;
  request.known_term = term_;
  std::vector<InodeId> held;  // what is not yet told
  std::vector<HeldLease> leases;
  bool telling = false;
  for (;;) {
    TimePoint asked = world_.clock().now();
    auto reply = co_await renew(request);
    if (!reply) {
      log_warning("client.renewal_failed", "session={} error={}", session_, quoted(reply.error().message()));
      renew_now_ = telling;  // others wait for the new leader to hear it
      co_return;
    }
    learn_time(asked, reply->now);
    // A new master leads: it learns what we hold before anybody may change it. If another one leads before it has heard
    // all, that one hears it from the beginning.
    bool goes_on = telling && reply->term == request.known_term;
    bool all_told = goes_on && !request.more;
    if (!goes_on && reply->reclaim && open_inodes_) {
      held = open_inodes_();
      request.unanswered.assign(creating_.begin(), creating_.end());
      leases = leases_ ? leases_(reply->term) : std::vector<HeldLease>();
      telling = true;
      request.known_term = reply->term;
    } else if (!goes_on) {
      all_told = true;
    } else {
      request.unanswered.clear();  // they went with the first page
    }
    if (all_told) {
      term_ = reply->term;
      if (telling && leases_told_) leases_told_(term_);
      co_await renewed(asked, reply->duration_ms);
      co_return;
    }
    size_t told = std::min<size_t>(held.size(), options_.reclaim_page);
    request.open_inodes.assign(held.end() - static_cast<ptrdiff_t>(told), held.end());
    held.resize(held.size() - told);
    size_t leases_told = std::min<size_t>(leases.size(), options_.reclaim_page);
    request.leases.assign(leases.end() - static_cast<ptrdiff_t>(leases_told), leases.end());
    leases.resize(leases.size() - leases_told);
    request.more = !held.empty() || !leases.empty();
  }
}

Task<void> MasterLink::renewed(TimePoint asked, uint32_t duration_ms) {
  SessionId renewed = session_;
  Duration time = std::chrono::milliseconds(duration_ms);
  if (suspended() && before_resuming_) {
    bool known = co_await before_resuming_();
    if (!known || session_ != renewed) co_return;
  }
  session_time_ = time;
  valid_until_ = std::max(valid_until_, asked + time - time / 100 - kValidMargin);
  if (!suspended()) valid_.notify_all();
}

Task<void> MasterLink::close(TimePoint deadline) {
  closing_ = true;
  if (session_) {
    TimePoint until = std::min(deadline, world_.clock().now() + kCloseWait);
    auto closed = co_await masters_.ask_once(CloseSessionRequest{.session = session_}, until);
    if (!closed)
      log_warning("client.close_session_failed", "session={} error={}", session_, quoted(closed.error().message()));
  }
  co_await masters_.stop();
  co_await tasks_.stop();
  replaced_.notify_all();
}

}  // namespace cairn
