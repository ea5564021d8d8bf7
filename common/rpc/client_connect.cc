// The connection of a ClientCore: dialling, hello, and what arrives.
#include <algorithm>
#include <fmt/format.h>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/rpc/client_core.h"
#include "common/runtime/scoped_timer.h"

namespace cairn {

void ClientCore::dial() {
  dialing_ = true;
  tasks_->spawn(run_connection());
}

void ClientCore::dial_failed(Error error) {
  dialing_ = false;
  connection_.reset();
  metrics_.failed_connects.add();
  pause_ = std::clamp(2 * pause_, options_.reconnect_pause_min, options_.reconnect_pause_max);
  // A quarter more at random: clients that lost their server at the same moment do not come back at the same moment.
  uint64_t jitter = static_cast<uint64_t>(pause_.count()) / 4;
  no_dial_before_ = world_.clock().now() + pause_ + Duration(jitter == 0 ? 0 : random_->below(jitter));
  last_dial_error_ = std::move(error);
  posts_.clear();
  if (!stopping_) fail_waiting(*last_dial_error_);
}

Task<void> ClientCore::run_connection() {
  TimePoint deadline = world_.clock().now() + options_.connect_timeout;
  Result<std::unique_ptr<Stream>> stream = co_await world_.transport().connect(address_, deadline);
  if (!stream || stopping_) {
    Error error = stream ? Error(ErrorCode::kCancelled) : stream.error();
    // For who calls it makes no difference whether nobody answered or somebody refused.
    if (error.code == ErrorCode::kTimeout) error.code = ErrorCode::kUnavailable;
    dial_failed(error.in("connecting to " + to_string(address_)));
    co_return;
  }
  auto connection = std::make_shared<Connection>(world_, std::move(*stream));
  connection->out.on_written([this, raw = connection.get()] {
    if (!raw->unwritten.empty()) release_written(*raw);
  });
  connection_ = connection;
  tasks_->spawn(write(connection));
  Result<void> greeted = co_await greet(connection, deadline);
  if (greeted && !stopping_) {
    dialing_ = false;
    ready_ = true;
    pause_ = Duration::zero();
    metrics_.connections.add(1);
    log_debug("rpc.connected", "address={} program={}", to_string(address_), quoted(server_hello_->program));
    if (options_.keep_alive > Duration::zero()) tasks_->spawn(keep_alive(connection));
    pump();
    Error end = co_await receive(connection);
    if (end.code == ErrorCode::kBadMessage)
      log_warning("rpc.bad_frame", "address={} error={}", to_string(address_), quoted(end.context));
    lose(*connection, end);
  } else {
    connection->lost = true;
    connection->stream->close();
    connection->out.close();
    Error error = greeted ? Error(ErrorCode::kCancelled) : greeted.error();
    dial_failed(error.in("connecting to " + to_string(address_)));
  }
  while (connection->writing)
    co_await connection->writer_ended.wait();
}

Task<void> ClientCore::keep_alive(ConnectionPtr connection) {
  for (;;) {
    Result<void> slept = co_await tasks_->sleep_for(options_.keep_alive);
    if (!slept || connection->lost || connection_ != connection) co_return;
    bool somebody_waits = slots_.size() > free_slots_.size();
    if (!somebody_waits) continue;
    uint64_t heard = connection->in.received_bytes();
    PendingCall ping(shared_from_this(), kPingMethod, RpcMessage(), RpcClient::CallOptions{.deadline = world_.clock().now() + 2 * options_.keep_alive});
    submit(ping);
    co_await ping;
    if (connection->lost || connection_ != connection) co_return;
    if (!ping.result->failed_with(ErrorCode::kTimeout) || connection->in.received_bytes() != heard) continue;
    lose(*connection, Error(ErrorCode::kUnavailable, to_string(address_) + " does not answer any more"));
    co_return;
  }
}

Task<Result<void>> ClientCore::greet(ConnectionPtr connection, TimePoint deadline) {
  Hello ours = options_.hello;
  connection->out.push(FrameHeader{.kind = FrameKind::kHello}, encode_hello(ours));
  bool late = false;
  ScopedTimer timer(world_.clock(), deadline, [&late, raw = connection.get()] {
    late = true;
    raw->stream->close();
  });
  Result<Hello> theirs = co_await receive_hello(connection);
  if (late) co_return Error(ErrorCode::kUnavailable, "no hello came in time");
  if (!theirs) {
    if (theirs.failed_with(ErrorCode::kCancelled)) co_return Error(ErrorCode::kUnavailable, "closed before its hello");
    co_return theirs.error();
  }
  // The server has checked this too; a server that has not is not believed.
  Result<uint16_t> version = agree(ours, *theirs);
  if (!version) co_return version.error();
  server_hello_ = std::move(*theirs);
  co_return Result<void>();
}

Task<Result<Hello>> ClientCore::receive_hello(ConnectionPtr connection) {
  Result<FrameHeader> header = co_await connection->in.receive_header();
  if (!header) co_return header.error();
  Result<std::string> message = co_await connection->in.receive_message(*header);
  if (!message) co_return message.error();
  if (header->kind == FrameKind::kError || header->kind == FrameKind::kGoodbye) co_return decode_error(*message);
  if (header->kind != FrameKind::kHello) co_return Error(ErrorCode::kBadMessage, "the first frame is not a hello");
  co_return decode_hello(*message);
}

Task<void> ClientCore::write(ConnectionPtr connection) {
  // stop() lets the writer finish: not for long.
  Result<void> written = co_await connection->out.run();
  connection->stream->close();
  lose(*connection, written ? Error(ErrorCode::kCancelled) : written.error());
  connection->writing = false;
  connection->writer_ended.notify_all();
}

void ClientCore::lose(Connection& connection, const Error& why) {
  if (connection.lost || connection_.get() != &connection || !ready_) {
    connection.stream->close();
    return;
  }
  ConnectionPtr keep = std::move(connection_);
  connection_.reset();
  ready_ = false;
  connection.lost = true;
  // First, so that nothing is received any more into the memory of the calls that end now.
  connection.stream->close();
  connection.out.close();
  metrics_.connections.add(-1);
  Error error(ErrorCode::kUnavailable,
              fmt::format("lost the connection to {}: {}", to_string(address_),
                          why.context.empty() ? std::string(to_string(why.code)) : why.context));
  if (!stopping_) log_debug("rpc.lost", "address={} reason={}", to_string(address_), quoted(why.message()));
  for (size_t slot = 0; slot < slots_.size(); ++slot) {
    PendingCall* call = slots_[slot];
    if (!call || call->state == PendingCall::State::kWaiting) continue;
    if (call->overdue) {
      finish(*call, late(*call));
    } else {
      finish(*call, error);
    }
  }
  release_written(connection);
  if (!stopping_ && !waiting_.empty()) dial();
  world_.executor().post([weak = weak_from_this()] {
    std::shared_ptr<ClientCore> self = weak.lock();
    if (self && self->disconnected_) self->disconnected_();
  });
}

// ---- what arrives

Task<Error> ClientCore::receive(ConnectionPtr connection) {
  FrameReader& in = connection->in;
  for (;;) {
    if (in.turn_is_over()) co_await in.wait_for_turn();
    while (!in.has_header()) {
      Result<void> more = co_await in.receive_more();
      if (!more) co_return more.error();
    }
    Result<FrameHeader> header = in.take_header();
    if (!header) co_return header.error();
    Result<std::string> message = std::string();
    if (in.has_message(*header)) {
      message = in.take_message(*header);
    } else {
      message = co_await in.receive_message(*header);
    }
    if (!message) co_return message.error();
    metrics_.received_bytes.add(static_cast<double>(kFrameHeaderBytes + header->message_bytes + header->payload_bytes));
    if (header->kind == FrameKind::kGoodbye) co_return decode_error(*message);
    if (header->kind == FrameKind::kError) {
      PendingCall* call = find(header->request_id);
      if (call) finish(*call, decode_error(*message));
    } else if (header->kind != FrameKind::kAnswer) {
      co_return Error(ErrorCode::kBadMessage,
                      fmt::format("a frame of kind {} from a server", static_cast<int>(header->kind)));
    } else if (header->payload_bytes == 0) {
      PendingCall* call = find(header->request_id);
      if (call) finish(*call, RpcMessage{.message = std::move(*message)});
    } else {
      Result<void> received = co_await receive_payload(connection, *header, std::move(*message));
      if (!received) co_return received.error();
    }
  }
}

Task<Result<void>> ClientCore::receive_payload(ConnectionPtr connection, FrameHeader header, std::string message) {
  PendingCall* call = find(header.request_id);
  if (!call) {
    // Its deadline has passed: nobody wants the bytes, and nothing is kept of them.
    Result<void> skipped = co_await connection->in.skip(header.payload_bytes);
    co_return skipped;
  }
  if (call->options.receive_into.size() == header.payload_bytes) {
    Result<void> received = co_await receive_in_place(connection, header, std::move(message));
    co_return received;
  }
  Result<Buffer> payload = co_await connection->in.receive_payload(header);
  if (!payload) co_return payload.error();
  call = find(header.request_id);  // it may have ended meanwhile
  if (call) finish(*call, RpcMessage{.message = std::move(message), .payload = {std::move(*payload)}});
  co_return Result<void>();
}

Task<Result<void>> ClientCore::receive_in_place(ConnectionPtr connection, FrameHeader header, std::string message) {
  PendingCall* call = find(header.request_id);
  std::span<std::byte> rest = call->options.receive_into;
  while (!rest.empty()) {
    // From here on the call cannot return while the read is under way: see expire() and withdraw().
    call->state = PendingCall::State::kReceiving;
    Result<size_t> count = co_await connection->in.receive_some(rest);
    call = find(header.request_id);
    if (!count) co_return count.error();
    if (!call) co_return Error(ErrorCode::kCancelled);  // withdrawn, and the connection closed by that
    call->state = PendingCall::State::kSent;
    rest = rest.subspan(*count);
    if (call->overdue && !rest.empty()) {
      finish(*call, late(*call));
      Result<void> skipped = co_await connection->in.skip(rest.size());
      co_return skipped;
    }
  }
  finish(*call, RpcMessage{.message = std::move(message), .payload = {}, .in_place = true});
  co_return Result<void>();
}

}  // namespace cairn
