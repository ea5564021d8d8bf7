#include <fmt/format.h>
#include <map>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "common/rpc/frame.h"
#include "common/rpc/rpc.h"
#include "common/rpc/rpc_metrics.h"
#include "common/rpc/server_connection.h"

namespace cairn {

namespace {

// After an error of accept (no file descriptors left): to not spin.
constexpr Duration kAcceptPause = std::chrono::milliseconds(100);

bool may_call(Callers callers, PeerRole role) {
  switch (callers) {
    case Callers::kAnybody:
      return true;
    case Callers::kClients:
      return role == PeerRole::kClient || role == PeerRole::kAdmin;
    case Callers::kAdmins:
      return role == PeerRole::kAdmin;
    case Callers::kChunkservers:
      return role == PeerRole::kChunkserver;
    case Callers::kMasters:
      return role == PeerRole::kMaster;
  }
  return false;
}

// For who is refused: what would be needed.
std::string_view certificate_of(Callers callers) {
  switch (callers) {
    case Callers::kAnybody:
      return "a certificate";
    case Callers::kClients:
      return "a client's certificate";
    case Callers::kAdmins:
      return "an administrator's certificate (cairn cluster issue --role admin)";
    case Callers::kChunkservers:
      return "a chunkserver's certificate";
    case Callers::kMasters:
      return "a master's certificate";
  }
  return "another certificate";
}

double seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

struct RpcServer::Impl {
  struct Method {
    std::string name;
    RpcHandler handler;
    Callers callers = Callers::kAnybody;
    RpcServerMetrics::OfMethod metrics;
  };
  using ConnectionPtr = std::shared_ptr<ServerConnection>;  // shared by its reader, its writer and its requests

  Impl(World& world_in, RpcServerOptions options_in)
      : world(world_in), options(std::move(options_in)), metrics(world.metrics()) {
    tasks.emplace(world.executor(), world.clock());
  }
  ~Impl() {
    // The tasks' frames use the connections; a handler elsewhere may keep a connection longer than all of this.
    tasks.reset();
    for (auto& [id, connection] : connections)
      connection->drop_stream();
  }

  Task<void> accept(Listener* listener);
  Task<void> serve(ConnectionPtr connection);
  Task<Result<void>> greet(ConnectionPtr connection);
  // Ends with the reason why nothing more will be read.
  Task<Error> read_requests(ConnectionPtr connection);
  // One request, while its handler runs.
  struct Handling {
    FrameHeader header;
    const Method* method = nullptr;  // null: unknown
    uint64_t charge = 0;
    TimePoint arrival;
    bool overdue = false;  // it waited for room until its deadline
  };
  Task<void> run(ConnectionPtr connection, Handling handling, RpcRequest request);
  // Whether the role that the other side has proved, if any, opens this method.
  static Result<void> admit(ServerConnection& connection, const Method& method);
  void answer(ServerConnection& connection, const Handling& handling, Result<RpcMessage> result);
  static TimePoint deadline_of(const FrameHeader& header, TimePoint arrival);

  World& world;
  RpcServerOptions options;
  RpcServerMetrics metrics;
  std::unordered_map<MethodId, Method> methods;
  std::function<void(RpcConnection&)> disconnected;
  std::vector<std::unique_ptr<Listener>> listeners;
  std::map<uint64_t, ConnectionPtr> connections;
  uint64_t next_connection = 1;
  bool stopping = false;
  std::optional<TaskGroup> tasks;  // gone before what its tasks use
};

Task<void> RpcServer::Impl::accept(Listener* listener) {
  while (!stopping) {
    Result<std::unique_ptr<Stream>> stream = co_await listener->accept();
    if (stopping) break;
    if (!stream) {
      log_warning("rpc.accept_failed", "address={} error={}", to_string(listener->address()),
                  quoted(stream.error().message()));
      Result<void> slept = co_await tasks->sleep_for(kAcceptPause);
      if (!slept) break;
      continue;
    }
    if (connections.size() >= options.connections_max) {
      metrics.refused.add();
      log_warning("rpc.too_many_connections", "peer={} connections={}", (*stream)->peer(), connections.size());
      continue;
    }
    uint64_t id = next_connection++;
    auto connection = std::make_shared<ServerConnection>(world, id, std::move(*stream));
    connections.emplace(id, connection);
    tasks->spawn(connection->write());
    tasks->spawn(serve(std::move(connection)));
  }
}

Task<void> RpcServer::Impl::serve(ConnectionPtr connection) {
  Result<void> greeted = co_await greet(connection);
  if (greeted) {
    metrics.connections.add(1);
    Error end = co_await read_requests(connection);
    if (end.code == ErrorCode::kBadMessage) {
      metrics.bad_frames.add();
      log_warning("rpc.bad_frame", "peer={} program={} error={}", connection->peer(),
                  quoted(connection->hello().program), quoted(end.context));
      connection->close_gently(end);
    } else {
      if (!connection->closing())
        log_debug("rpc.disconnected", "peer={} reason={}", connection->peer(), quoted(end.message()));
      if (!connection->closing()) connection->close();
    }
    metrics.connections.add(-1);
    if (disconnected) disconnected(*connection);
  }
  co_await connection->wait_for_writer();
  connections.erase(connection->id());
}

Task<Result<void>> RpcServer::Impl::greet(ConnectionPtr connection) {
  Result<Hello> theirs = co_await connection->receive_hello(world.clock().now() + options.hello_timeout);
  if (connection->closing() && theirs) co_return Error(ErrorCode::kCancelled);
  if (!theirs) {
    if (theirs.failed_with(ErrorCode::kBadMessage)) {
      metrics.bad_frames.add();
      log_warning("rpc.bad_frame", "peer={} error={}", connection->peer(), quoted(theirs.error().context));
      connection->close_gently(theirs.error());
    } else {
      connection->close();
    }
    co_return theirs.error();
  }
  Result<uint16_t> version = agree(options.hello, *theirs);
  if (!version) {
    metrics.refused.add();
    log_warning("rpc.refused", "peer={} error={}", connection->peer(), quoted(version.error().message()));
    connection->push(FrameHeader{.kind = FrameKind::kError}, encode_error(version.error()));
    connection->close_gently(version.error());
    co_return version.error();
  }
  connection->push(FrameHeader{.kind = FrameKind::kHello}, encode_hello(options.hello));
  connection->greeted(std::move(*theirs));
  co_return Result<void>();
}

Task<Error> RpcServer::Impl::read_requests(ConnectionPtr connection) {
  FrameReader& in = connection->in();
  for (;;) {
    if (in.turn_is_over()) co_await in.wait_for_turn();
    while (!in.has_header()) {
      Result<void> more = co_await in.receive_more();
      if (!more) co_return more.error();
    }
    Result<FrameHeader> header = in.take_header();
    if (!header) co_return header.error();
    if (header->kind != FrameKind::kRequest && header->kind != FrameKind::kGoodbye)
      co_return Error(ErrorCode::kBadMessage,
                      fmt::format("a frame of kind {} from a client", static_cast<int>(header->kind)));

    TimePoint arrival = world.clock().now();
    TimePoint deadline = deadline_of(*header, arrival);
    uint64_t charge = ServerConnection::charge_of(*header);
    bool waited = false;
    while (!connection->closing() && !connection->has_room_for(charge, options)) {
      waited = true;
      co_await connection->wait_for_room();
    }
    if (connection->closing()) co_return Error(ErrorCode::kCancelled);

    Result<std::string> message = std::string();
    if (in.has_message(*header)) {
      message = in.take_message(*header);
    } else {
      message = co_await in.receive_message(*header);
    }
    if (!message) co_return message.error();
    if (header->kind == FrameKind::kGoodbye) co_return Error(ErrorCode::kUnavailable, decode_error(*message).context);
    RpcRequest request{.method = header->method,
                       .trace_id = header->trace_id,
                       .deadline = deadline,
                       .message = std::move(*message),
                       .payload = {},
                       .connection = connection};
    if (header->payload_bytes != 0) {
      Result<Buffer> payload = co_await in.receive_payload(*header);
      if (!payload) co_return payload.error();
      request.payload = std::move(*payload);
    }
    if (connection->closing()) co_return Error(ErrorCode::kCancelled);

    // Nobody wants the answer any more: what would be done for it is not done.
    bool overdue = waited && deadline <= world.clock().now();
    auto method = methods.find(header->method);
    metrics.received_bytes.add(static_cast<double>(kFrameHeaderBytes + header->message_bytes + header->payload_bytes));
    connection->charge(charge);
    metrics.in_flight.add(1);
    Handling handling{.header = *header,
                      .method = method == methods.end() ? nullptr : &method->second,
                      .charge = charge,
                      .arrival = arrival,
                      .overdue = overdue};
    tasks->spawn(run(connection, handling, std::move(request)));
  }
}

Task<void> RpcServer::Impl::run(ConnectionPtr connection, Handling handling, RpcRequest request) {
  const Method* method = handling.method;
  Result<RpcMessage> result = Error(ErrorCode::kNotSupported, fmt::format("unknown method {}", handling.header.method));
  if (method && handling.overdue) {
    result = Error(ErrorCode::kTimeout, fmt::format("{} waited at the server beyond its deadline", method->name));
  } else if (method) {
    Result<void> admitted = admit(*connection, *method);
    if (admitted) {
      result = co_await method->handler(std::move(request));
    } else {
      result = admitted.error();
    }
  }
  connection->release(handling.charge);
  metrics.in_flight.add(-1);
  if (method) {
    method->metrics.requests.add();
    method->metrics.seconds.observe(seconds(world.clock().now() - handling.arrival));
    if (!result) method->metrics.errors.add();
  }
  answer(*connection, handling, std::move(result));
}

Result<void> RpcServer::Impl::admit(ServerConnection& connection, const Method& method) {
  const std::optional<PeerIdentity>& who = connection.identity();
  if (!who || may_call(method.callers, who->role)) return {};
  Error refusal(ErrorCode::kUnauthorized, fmt::format("{} needs {}", method.name, certificate_of(method.callers)));
  if (connection.first_refusal()) {
    log_warning("rpc.role_refused", "peer={} name={} program={} error={}", connection.peer(), quoted(who->name),
                quoted(connection.hello().program), quoted(refusal.context));
  }
  return refusal;
}

void RpcServer::Impl::answer(ServerConnection& connection, const Handling& handling, Result<RpcMessage> result) {
  if (!connection.open()) return;
  const FrameHeader& header = handling.header;
  if ((header.flags & kFlagNoAnswer) != 0) return;
  FrameHeader out{.kind = FrameKind::kAnswer,
                  .method = header.method,
                  .request_id = header.request_id,
                  .trace_id = header.trace_id};
  if (result) {
    size_t payload_bytes = payload_size(result->payload);
    if (result->message.size() > kMaxMessageBytes || payload_bytes > kMaxPayloadBytes) {
      result = Error(ErrorCode::kTooBig, fmt::format("the answer of {} has a message of {} and a payload of {} bytes",
                                                     handling.method->name, result->message.size(), payload_bytes));
      log_error("rpc.answer_too_big", "peer={} error={}", connection.peer(), quoted(result.error().context));
    }
  }
  if (!result) {
    out.kind = FrameKind::kError;
    std::string message = encode_error(result.error());
    metrics.sent_bytes.add(static_cast<double>(kFrameHeaderBytes + message.size()));
    connection.push(out, std::move(message));
    return;
  }
  metrics.sent_bytes.add(
      static_cast<double>(kFrameHeaderBytes + result->message.size() + payload_size(result->payload)));
  connection.push(out, std::move(result->message), std::move(result->payload));
}

TimePoint RpcServer::Impl::deadline_of(const FrameHeader& header, TimePoint arrival) {
  if (header.deadline_ms == kNoDeadlineMs) return kNever;
  return arrival + std::chrono::milliseconds(header.deadline_ms);
}

namespace {
Task<Result<RpcMessage>> answer_ping(RpcRequest) {
  co_return RpcMessage{};
}
}  // namespace

RpcServer::RpcServer(World& world, RpcServerOptions options)
    : impl_(std::make_unique<Impl>(world, std::move(options))) {
  handle(kPingMethod, "ping", answer_ping);
}

RpcServer::~RpcServer() = default;

void RpcServer::handle(MethodId method, std::string name, RpcHandler handler, Callers callers) {
  CHECK(impl_->listeners.empty());
  RpcServerMetrics::OfMethod metrics = impl_->metrics.of_method(name);
  bool added =
      impl_->methods.emplace(method, Impl::Method{std::move(name), std::move(handler), callers, metrics}).second;
  CHECK(added);
}

void RpcServer::on_disconnect(std::function<void(RpcConnection&)> callback) {
  impl_->disconnected = std::move(callback);
}

void RpcServer::set_cluster(ClusterId cluster) {
  impl_->options.hello.cluster = cluster;
}

Result<Address> RpcServer::listen(const Address& address) {
  CHECK(!impl_->stopping);
  Result<std::unique_ptr<Listener>> listener = impl_->world.transport().listen(address);
  if (!listener) return listener.error();
  Listener* added = impl_->listeners.emplace_back(std::move(*listener)).get();
  impl_->tasks->spawn(impl_->accept(added));
  return added->address();
}

Task<void> RpcServer::stop() {
  impl_->stopping = true;
  for (auto& listener : impl_->listeners)
    listener->close();
  for (auto& [id, connection] : impl_->connections)
    connection->close_gently(Error(ErrorCode::kUnavailable, "the server stops"));
  co_await impl_->tasks->stop();
}

}  // namespace cairn
