#include "common/rpc/client_core.h"

#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "common/base/check.h"
#include "common/base/units.h"
#include "common/runtime/scoped_timer.h"

namespace cairn {

namespace {
constexpr Duration kLinger = std::chrono::milliseconds(100);

double seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

uint32_t milliseconds_left(TimePoint deadline, TimePoint now) {
  if (deadline == kNever) return kNoDeadlineMs;
  auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - now).count();
  // At least one, as 0 is none; the server's clock decides then.
  return static_cast<uint32_t>(std::clamp<int64_t>(left, 1, kNoDeadlineMs - 1));
}
}  // namespace

PendingCall::PendingCall(std::shared_ptr<ClientCore> core_in, MethodId method_in, RpcMessage request_in,
                         RpcClient::CallOptions options_in)
    : core(std::move(core_in)),
      method(method_in),
      request(std::move(request_in)),
      options(options_in),
      bytes(kFrameHeaderBytes + request.message.size() + payload_size(request.payload)) {}

PendingCall::~PendingCall() {
  core->withdraw(*this);
}

ClientCore::ClientCore(World& world, Address address, RpcClientOptions options)
    : world_(world),
      address_(std::move(address)),
      options_(std::move(options)),
      metrics_(world.metrics()),
      random_(make_seeded_random(world.random().next_u64())) {
  tasks_.emplace(world.executor(), world.clock());
}

ClientCore::~ClientCore() {
  if (timer_ != 0) world_.clock().cancel(timer_);
}

void ClientCore::submit(PendingCall& call) {
  TimePoint now = world_.clock().now();
  call.started = now;
  metrics_.calls.add();
  metrics_.in_flight.add(1);
  auto refuse = [&](Error error) {
    metrics_.in_flight.add(-1);
    metrics_.count_error(error.code);
    call.state = PendingCall::State::kDone;
    call.result.emplace(std::move(error));
  };
  if (stopping_) return refuse(Error(ErrorCode::kCancelled, "the client stops"));
  if (call.options.deadline <= now) return refuse(late(call));
  size_t payload_bytes = payload_size(call.request.payload);
  if (call.request.message.size() > kMaxMessageBytes || payload_bytes > kMaxPayloadBytes) {
    return refuse(Error(ErrorCode::kTooBig, fmt::format("a request with a message of {} and a payload of {} bytes",
                                                        call.request.message.size(), payload_bytes)));
  }
  if (!connection_ && !dialing_ && now < no_dial_before_) return refuse(*last_dial_error_);

  if (call.options.trace_id == 0) call.options.trace_id = random_->next_id();
  if (free_slots_.empty()) {
    free_slots_.push_back(static_cast<uint32_t>(slots_.size()));
    slots_.push_back(nullptr);
  }
  uint32_t slot = free_slots_.back();
  free_slots_.pop_back();
  slots_[slot] = &call;
  call.id = static_cast<uint64_t>(next_serial_++) << 32 | slot;
  if (next_serial_ == 0) next_serial_ = 1;
  if (call.options.deadline != kNever) {
    deadlines_.push(call.options.deadline, call.id, slots_.size() - free_slots_.size(),
                    [this](uint64_t id) { return find(id) != nullptr; });
    arm_timer();
  }
  // A ping overtakes what waits for memory: that is when it is needed.
  bool at_once = call.method == kPingMethod || (waiting_.empty() && has_room_for(call));
  if (ready_ && at_once) {
    send(call, now);
    return;
  }
  call.state = PendingCall::State::kWaiting;
  call.place = waiting_.insert(waiting_.end(), &call);
  if (!connection_ && !dialing_) dial();
}

PendingCall* ClientCore::find(uint64_t id) const {
  size_t slot = static_cast<uint32_t>(id);
  if (slot >= slots_.size() || !slots_[slot] || slots_[slot]->id != id) return nullptr;
  return slots_[slot];
}

bool ClientCore::has_room_for(const PendingCall& call) const {
  return in_flight_bytes_ == 0 || in_flight_bytes_ + call.bytes <= options_.memory_in_flight_bytes;
}

void ClientCore::send(PendingCall& call, TimePoint now) {
  size_t hint = std::max<size_t>(call.options.answer_bytes_hint, call.options.receive_into.size());
  FrameHeader header{.kind = FrameKind::kRequest,
                     .method = call.method,
                     .request_id = call.id,
                     .trace_id = call.options.trace_id,
                     .deadline_ms = milliseconds_left(call.options.deadline, now),
                     .answer_bytes = static_cast<uint32_t>(std::min<size_t>(hint, kMaxPayloadBytes))};
  call.state = PendingCall::State::kSent;
  in_flight_bytes_ += call.bytes;
  metrics_.sent_bytes.add(static_cast<double>(call.bytes));
  connection_->out.push(header, std::move(call.request.message), std::move(call.request.payload));
  call.written_at = connection_->out.pushed_bytes();
}

void ClientCore::post(MethodId method, RpcMessage request) {
  if (stopping_) return;
  if (!ready_) {
    if (!connection_ && !dialing_) {
      if (world_.clock().now() < no_dial_before_) return;
      dial();
    }
    if (posts_.size() < RpcClient::kPostsWaiting) posts_.push_back({method, std::move(request)});
    return;
  }
  if (connection_->out.queued_bytes() > options_.memory_in_flight_bytes) return;
  FrameHeader header{.kind = FrameKind::kRequest,
                     .method = method,
                     .trace_id = random_->next_id(),
                     .deadline_ms = kNoDeadlineMs,
                     .flags = kFlagNoAnswer};
  metrics_.sent_bytes.add(
      static_cast<double>(kFrameHeaderBytes + request.message.size() + payload_size(request.payload)));
  connection_->out.push(header, std::move(request.message), std::move(request.payload));
}

void ClientCore::pump() {
  if (ready_ && !posts_.empty()) {
    for (Post& post : std::exchange(posts_, {}))
      this->post(post.method, std::move(post.request));
  }
  while (ready_ && !waiting_.empty() && has_room_for(*waiting_.front())) {
    PendingCall& call = *waiting_.front();
    waiting_.pop_front();
    send(call, world_.clock().now());
  }
}

void ClientCore::fail_waiting(const Error& why) {
  while (!waiting_.empty())
    finish(*waiting_.front(), why);
}

void ClientCore::leave(PendingCall& call) {
  if (call.state == PendingCall::State::kWaiting) {
    waiting_.erase(call.place);
  } else if (connection_ && connection_->out.written_bytes() < call.written_at) {
    connection_->unwritten.push_back({call.written_at, call.bytes});
  } else {
    in_flight_bytes_ -= call.bytes;
  }
  uint32_t slot = static_cast<uint32_t>(call.id);
  slots_[slot] = nullptr;
  free_slots_.push_back(slot);
  call.state = PendingCall::State::kDone;
  metrics_.in_flight.add(-1);
}

void ClientCore::release_written(Connection& connection) {
  std::erase_if(connection.unwritten, [&](const Connection::Unwritten& unwritten) {
    if (!connection.lost && connection.out.written_bytes() < unwritten.written_at) return false;
    in_flight_bytes_ -= unwritten.bytes;
    return true;
  });
  pump();
}

void ClientCore::finish(PendingCall& call, Result<RpcMessage> result) {
  leave(call);
  metrics_.seconds.observe(seconds(world_.clock().now() - call.started));
  if (!result) metrics_.count_error(result.code());
  call.result.emplace(std::move(result));
  call.to_resume = true;
  finished_.push_back(&call);
  if (!waiting_.empty()) pump();
  if (resume_posted_) return;
  resume_posted_ = true;
  world_.executor().post([self = shared_from_this()] { self->resume_finished(); });
}

void ClientCore::resume_finished() {
  // Whoever is resumed may finish, withdraw or make other calls.
  while (next_resume_ < finished_.size()) {
    PendingCall* call = finished_[next_resume_++];
    if (!call) continue;
    call->to_resume = false;
    if (call->waiter) std::exchange(call->waiter, {}).resume();
  }
  finished_.clear();
  next_resume_ = 0;
  resume_posted_ = false;
}

void ClientCore::withdraw(PendingCall& call) {
  if (call.state == PendingCall::State::kNew) return;
  if (call.state == PendingCall::State::kDone) {
    if (call.to_resume) std::ranges::replace(finished_, &call, nullptr);
    return;
  }
  bool receiving = call.state == PendingCall::State::kReceiving;
  leave(call);
  // Its memory goes away while the stream writes to it: only closing stops that.
  if (receiving) lose(*connection_, Error(ErrorCode::kUnavailable, "a call was given up while its payload arrived"));
  pump();
}

Error ClientCore::late(const PendingCall& call) const {
  const char* how = "no answer from";
  if (call.state == PendingCall::State::kWaiting) how = ready_ ? "no memory free to send to" : "no connection to";
  if (call.state == PendingCall::State::kNew) how = "the deadline has passed before the call to";
  auto waited = std::chrono::duration_cast<std::chrono::milliseconds>(world_.clock().now() - call.started).count();
  return Error(ErrorCode::kTimeout,
               fmt::format("{} {} (method {}, {} ms)", how, to_string(address_), call.method, waited));
}

void ClientCore::arm_timer() {
  if (deadlines_.empty() || (timer_ != 0 && timer_at_ <= deadlines_.earliest())) return;
  if (timer_ != 0) world_.clock().cancel(timer_);
  timer_at_ = deadlines_.earliest();
  timer_ = world_.clock().call_at(timer_at_, [this] { timer_fired(); });
}

void ClientCore::timer_fired() {
  timer_ = 0;
  TimePoint now = world_.clock().now();
  // Calls that have ended are skipped here; the timer is not moved for each of them.
  while (!deadlines_.empty() && deadlines_.earliest() <= now) {
    PendingCall* call = find(deadlines_.pop());
    if (call) expire(*call);
  }
  arm_timer();
}

void ClientCore::expire(PendingCall& call) {
  if (call.state != PendingCall::State::kReceiving) return finish(call, late(call));
  if (!call.overdue) {
    // The reader ends the call with the next bytes.
    call.overdue = true;
    deadlines_.push(world_.clock().now() + RpcClient::kReceiveGrace, call.id, slots_.size() - free_slots_.size(),
                    [this](uint64_t id) { return find(id) != nullptr; });
    return;
  }
  lose(*connection_,
       Error(ErrorCode::kUnavailable, fmt::format("{} stopped in the middle of an answer", to_string(address_))));
}

Task<void> ClientCore::stop() {
  // What is queued for a server that does not read, and the goodbye, may not hold this up.
  ScopedTimer linger(world_.clock(), world_.clock().now() + kLinger, [this] {
    if (connection_) connection_->stream->close();
  });
  if (!stopping_) {
    stopping_ = true;
    Error why(ErrorCode::kCancelled, "the client stops");
    fail_waiting(why);
    // Requests on the way are given up; their answers, if they come, are nobody's.
    for (size_t slot = 0; slot < slots_.size(); ++slot) {
      if (slots_[slot] && slots_[slot]->state == PendingCall::State::kReceiving) lose(*connection_, why);
      if (slots_[slot]) finish(*slots_[slot], why);
    }
    if (connection_) {
      connection_->out.push(FrameHeader{.kind = FrameKind::kGoodbye}, encode_error(why));
      connection_->out.finish();
    }
  }
  if (tasks_) co_await tasks_->stop();
}

void ClientCore::drop(const std::string& why) {
  if (stopping_) return;
  fail_waiting(Error(ErrorCode::kUnavailable, to_string(address_) + ": " + why));
  if (connection_) lose(*connection_, Error(ErrorCode::kUnavailable, why));
}

void ClientCore::abandon() {
  stopping_ = true;
  disconnected_ = nullptr;
  tasks_.reset();
  Error why(ErrorCode::kCancelled, "the client is gone");
  fail_waiting(why);
  connection_.reset();  // closes the stream
  for (size_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot]) finish(*slots_[slot], why);
  }
  if (timer_ != 0) world_.clock().cancel(std::exchange(timer_, 0));
}

// ---- RpcClient

struct RpcClient::Impl {
  std::shared_ptr<ClientCore> core;
};

RpcClient::RpcClient(World& world, Address address, RpcClientOptions options)
    : impl_(std::make_unique<Impl>(std::make_shared<ClientCore>(world, std::move(address), std::move(options)))) {}

RpcClient::~RpcClient() {
  impl_->core->abandon();
}

Task<Result<RpcMessage>> RpcClient::call(MethodId method, RpcMessage request, CallOptions options) {
  PendingCall call(impl_->core, method, std::move(request), options);
  call.core->submit(call);
  co_await call;
  Result<RpcMessage> result = std::move(*call.result);
  co_return result;
}

void RpcClient::post(MethodId method, RpcMessage request) {
  impl_->core->post(method, std::move(request));
}

const Address& RpcClient::address() const {
  return impl_->core->address();
}
bool RpcClient::connected() const {
  return impl_->core->connected();
}
void RpcClient::set_cluster(ClusterId cluster) {
  impl_->core->set_cluster(cluster);
}
void RpcClient::on_disconnect(std::function<void()> callback) {
  impl_->core->on_disconnect(std::move(callback));
}
void RpcClient::drop(const std::string& why) {
  impl_->core->drop(why);
}
const Hello* RpcClient::server_hello() const {
  return impl_->core->server_hello();
}
Task<void> RpcClient::stop() {
  return impl_->core->stop();
}

}  // namespace cairn
