#include "fs/client/master_link.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"

namespace cairn {

namespace {
constexpr Duration kCloseWait = std::chrono::seconds(2);
}  // namespace

MasterLink::MasterLink(World& world, ClientOptions options)
    : world_(world),
      options_(std::move(options)),
      masters_(world, options_.masters, options_.program),
      replaced_(world.executor()),
      renewal_(world.executor()),
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
  tasks_.on_stop([this] { renewal_.notify_all(); });
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
      term_ = told_term_ = reply->term;
      session_time_ = std::chrono::milliseconds(reply->duration_ms);
      next_sequence_ = 1;
      in_flight_.clear();
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

Task<Result<MutationReply>> MasterLink::mutate_until(MetaOp op, TimePoint deadline) {
  while (replacing_)
    co_await replaced_.wait();
  MutateRequest request;
  request.session = session_;
  request.sequence = next_sequence_++;
  request.now = now();
  request.op = std::move(op);
  in_flight_.insert(request.sequence);
  Result<MutationReply> result(ErrorCode::kIo);
  for (;;) {
    request.first_unacknowledged =
        in_flight_.empty() ? request.sequence : std::min(*in_flight_.begin(), request.sequence);
    ++requests_sent_;
    auto reply = co_await masters_.ask_once(request, deadline);
    if (reply) {
      result = std::move(*reply);
      break;
    }
    Error error = reply.error();
    // A mutation belongs to its session: under a new one it would be another mutation.
    bool again = co_await may_retry(error, deadline, request.session);
    if (!again || session_ != request.session) {
      result = error.code == ErrorCode::kSessionEnded ? Error(ErrorCode::kIo, "the session with the master has ended")
                                                      : error;
      break;
    }
  }
  if (session_ == request.session) in_flight_.erase(request.sequence);
  co_return result;
}

Task<bool> MasterLink::may_retry(Error error, TimePoint deadline, SessionId used) {
  if (tasks_.stop_requested()) co_return false;
  if (error.code == ErrorCode::kSessionEnded) {
    if (used == session_ && !replacing_) {
      replacing_ = true;
      tasks_.spawn(replace_session());
    }
    while (replacing_ && !tasks_.stop_requested())
      co_await replaced_.wait();
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
  replacing_ = false;
  if (session_lost_) session_lost_();
  replaced_.notify_all();
}

Task<void> MasterLink::renew_forever() {
  while (!tasks_.stop_requested()) {
    TimePoint next = world_.clock().now() + std::clamp<Duration>(session_time_ * 3 / 10, std::chrono::milliseconds(500),
                                                                 std::chrono::seconds(3));
    while (!renew_now_ && world_.clock().now() < next && !tasks_.stop_requested())
      (void)co_await renewal_.wait_until(world_.clock(), next);
    renew_now_ = false;
    if (replacing_ || tasks_.stop_requested()) continue;
    co_await renew_once();
  }
}

Task<void> MasterLink::renew_once() {
  RenewSessionRequest request;
  request.known_term = told_term_;
  std::vector<InodeId> held;  // what is not yet told
  bool telling = false;
  for (;;) {
    TimePoint asked = world_.clock().now();
    auto reply = co_await ask_until(request, asked + session_time_);
    if (!reply) {
      log_warning("client.renewal_failed", "session={} error={}", session_, quoted(reply.error().message()));
      co_return;
    }
    learn_time(asked, reply->now);
    session_time_ = std::chrono::milliseconds(reply->duration_ms);
    term_ = reply->term;
    // A new master leads: it learns what we hold open before it may remove anything without names. If another one
    // leads before it has heard all, that one hears it from the beginning.
    bool goes_on = telling && reply->term == request.known_term;
    bool all_told = goes_on ? !request.more : !reply->reclaim || !open_inodes_;
    if (all_told) {
      // Not before: a renewal that is not answered in between would claim the next time that nothing is held.
      told_term_ = reply->term;
      co_return;
    }
    if (!goes_on) {
      held = open_inodes_();
      telling = true;
      request.known_term = reply->term;
    }
    size_t told = std::min<size_t>(held.size(), options_.reclaim_page);
    request.open_inodes.assign(held.end() - static_cast<ptrdiff_t>(told), held.end());
    held.resize(held.size() - told);
    request.more = !held.empty();
  }
}

Task<void> MasterLink::close(TimePoint deadline) {
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
