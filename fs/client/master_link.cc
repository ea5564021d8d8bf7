#include "fs/client/master_link.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"

namespace cairn {

namespace {
constexpr Duration kRetryPause = std::chrono::milliseconds(100);

// What says nothing about the request itself: somebody else, or the same a little later, may answer.
bool worth_repeating(ErrorCode code) {
  switch (code) {
    case ErrorCode::kTimeout:
    case ErrorCode::kUnavailable:
    case ErrorCode::kNotLeader:
    case ErrorCode::kOverload:
    case ErrorCode::kSessionEnded:
      return true;
    default:
      return false;
  }
}
}  // namespace

MasterLink::MasterLink(World& world, ClientOptions options)
    : world_(world),
      options_(std::move(options)),
      replaced_(world.executor()),
      tasks_(world.executor(), world.clock()) {
  RpcClientOptions rpc;
  rpc.hello.program = options_.program;
  for (const Address& address : options_.masters)
    masters_.push_back(std::make_unique<RpcClient>(world_, address, rpc));
}

MasterLink::~MasterLink() = default;

Task<Result<void>> MasterLink::open_session() {
  if (masters_.empty()) co_return Error(ErrorCode::kInvalid, "no master's address is given");
  TimePoint deadline = world_.clock().now() + options_.connect_timeout;
  Result<void> opened = co_await try_open_session(deadline);
  if (!opened) co_return opened;
  tasks_.spawn(renew_forever());
  co_return opened;
}

Task<Result<void>> MasterLink::try_open_session(TimePoint deadline) {
  Error last(ErrorCode::kUnavailable);
  while (world_.clock().now() < deadline && !tasks_.stop_requested()) {
    TimePoint asked = world_.clock().now();
    RpcClient::CallOptions options{.deadline = std::min(deadline, asked + kMasterAttempt)};
    OpenSessionRequest request{.host = options_.host, .mountpoint = options_.mountpoint, .program = options_.program};
    auto answer = co_await typed_call(current(), std::move(request), options);
    if (answer) {
      session_ = answer->reply.session;
      cluster_ = answer->reply.cluster;
      term_ = answer->reply.term;
      session_time_ = std::chrono::milliseconds(answer->reply.duration_ms);
      next_sequence_ = 1;
      in_flight_.clear();
      learn_time(asked, answer->reply.now);
      co_return Result<void>();
    }
    last = answer.error();
    if (!worth_repeating(last.code)) break;
    current_ = (current_ + 1) % masters_.size();
    Result<void> slept = co_await tasks_.sleep_until(std::min(deadline, world_.clock().now() + kRetryPause));
    if (!slept) break;
  }
  std::string names;
  for (const Address& address : options_.masters)
    names += (names.empty() ? "" : ", ") + to_string(address);
  ErrorCode code = worth_repeating(last.code) ? ErrorCode::kUnavailable : last.code;
  co_return Error(code, "no session with a master at " + names + ": " + last.message());
}

void MasterLink::learn_time(TimePoint asked, FileTime now) {
  // The answer is about half a round trip old.
  int64_t half = (world_.clock().now() - asked).count() / 2;
  wall_offset_ns_ = now + half - world_.clock().wall().ns;
}

Task<Result<MutationReply>> MasterLink::mutate(MetaOp op) {
  TimePoint deadline = world_.clock().now() + options_.request_timeout;
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
    RpcClient::CallOptions options{.deadline = std::min(deadline, world_.clock().now() + kMasterAttempt)};
    ++requests_sent_;
    auto answer = co_await typed_call(current(), request, options);
    if (answer) {
      result = std::move(answer->reply);
      break;
    }
    Error error = answer.error();
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
  if (!worth_repeating(error.code) || tasks_.stop_requested()) co_return false;
  if (error.code == ErrorCode::kSessionEnded) {
    if (used == session_ && !replacing_) {
      replacing_ = true;
      tasks_.spawn(replace_session());
    }
    while (replacing_ && !tasks_.stop_requested())
      co_await replaced_.wait();
    co_return world_.clock().now() < deadline;
  }
  if (error.code != ErrorCode::kOverload && masters_.size() > 1) {
    size_t next = (current_ + 1) % masters_.size();
    // "id address term": go straight to the one that leads.
    for (size_t i = 0; i < masters_.size(); ++i) {
      if (error.code == ErrorCode::kNotLeader &&
          error.context.find(to_string(masters_[i]->address())) != std::string::npos)
        next = i;
    }
    current_ = next;
  }
  TimePoint next_try = world_.clock().now() + kRetryPause;
  if (next_try >= deadline) co_return false;
  Result<void> slept = co_await tasks_.sleep_until(next_try);
  co_return slept.has_value();
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
  for (;;) {
    Result<void> slept = co_await tasks_.sleep_for(
        std::clamp<Duration>(session_time_ * 3 / 10, std::chrono::milliseconds(500), std::chrono::seconds(3)));
    if (!slept) co_return;
    if (replacing_) continue;
    co_await renew_once();
  }
}

Task<void> MasterLink::renew_once() {
  RenewSessionRequest request;
  request.known_term = term_;
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
    if (goes_on && !request.more) co_return;
    if (!goes_on) {
      if (!reply->reclaim || !open_inodes_) co_return;
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
  closing_ = true;
  if (session_) {
    RpcClient::CallOptions options{.deadline = std::min(deadline, world_.clock().now() + std::chrono::seconds(2))};
    auto answer = co_await typed_call(current(), CloseSessionRequest{.session = session_}, options);
    if (!answer)
      log_warning("client.close_session_failed", "session={} error={}", session_, quoted(answer.error().message()));
  }
  co_await tasks_.stop();
  replaced_.notify_all();
  for (std::unique_ptr<RpcClient>& master : masters_)
    co_await master->stop();
}

}  // namespace cairn
