#include "fs/fuse/control_socket.h"

#include <array>
#include <charconv>
#include <utility>

#include "common/base/log.h"
#include "common/base/units.h"
#include "common/runtime/scoped_timer.h"
#include "fs/fuse/mount_registry.h"

namespace cairn {

namespace {

constexpr std::string_view kHeadEnd = "\r\n\r\n";
constexpr Duration kRequestTime = std::chrono::seconds(10);  // to send the request
constexpr size_t kAnswerBytesMax = 16 * kMiB;                // metrics of a busy mount are about 100 KiB

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

Task<Result<void>> send(Stream* stream, std::string text) {
  std::array<std::span<const std::byte>, 1> pieces = {bytes_of(text)};
  Result<void> sent = co_await stream->write(pieces);
  co_return sent;
}

Task<Result<std::string>> read_head(Stream* stream, Clock* clock) {
  ScopedTimer deadline(*clock, clock->now() + kRequestTime, [stream] { stream->close(); });
  std::string head;
  while (head.find(kHeadEnd) == head.npos) {
    if (head.size() >= kHttpHeadBytesMax) co_return Error(ErrorCode::kTooBig, "head of a request");
    std::array<std::byte, 1024> part;
    Result<size_t> got = co_await stream->read_some(part);
    if (!got) co_return got.error();
    head.append(reinterpret_cast<const char*>(part.data()), *got);
  }
  head.resize(head.find(kHeadEnd) + kHeadEnd.size());
  co_return head;
}

}  // namespace

ControlSocket::ControlSocket(World& world, Handler handler)
    : world_(world), handler_(std::move(handler)), tasks_(world.executor(), world.clock()) {}

ControlSocket::~ControlSocket() = default;

Result<void> ControlSocket::listen(const std::string& path) {
  Result<std::unique_ptr<Listener>> listener =
      world_.transport().listen({.kind = Address::Kind::kUnix, .host_or_path = path});
  if (!listener) return listener.error();
  listener_ = std::move(*listener);
  tasks_.on_stop([this] { listener_->close(); });
  tasks_.spawn(accept_connections());
  return {};
}

Task<void> ControlSocket::stop() {
  co_await tasks_.stop();
}

Task<void> ControlSocket::accept_connections() {
  while (!tasks_.stop_requested()) {
    Result<std::unique_ptr<Stream>> stream = co_await listener_->accept();
    if (tasks_.stop_requested()) co_return;
    if (!stream) {
      log_warning("control.accept_failed", "error={}", quoted(stream.error().message()));
      Result<void> waited = co_await tasks_.sleep_for(std::chrono::milliseconds(100));
      if (!waited) co_return;
      continue;
    }
    if (connections_ < kConnectionsMax) tasks_.spawn(serve(std::move(*stream)));
  }
}

Task<void> ControlSocket::serve(std::unique_ptr<Stream> stream) {
  struct Counted {
    size_t& count;
    explicit Counted(size_t& count_in) : count(count_in) { ++count; }
    ~Counted() { --count; }
  };
  Counted counted(connections_);
  Result<std::string> head = co_await read_head(stream.get(), &world_.clock());
  if (!head) co_return;
  auto parsed = parse_http_head(*head);
  HttpResponse response;
  if (auto* request = std::get_if<HttpRequest>(&parsed)) {
    response = co_await handler_(request->path);
  } else {
    response.status = std::get<HttpRefusal>(parsed).status;
  }
  std::string answer = "HTTP/1.1 " + std::to_string(response.status) + " " + std::string(http_reason(response.status)) +
                       "\r\nContent-Type: " + response.content_type +
                       "\r\nContent-Length: " + std::to_string(response.body.size()) + "\r\nConnection: close\r\n\r\n" +
                       response.body;
  Result<void> sent = co_await send(stream.get(), std::move(answer));
  if (!sent) log_debug("control.answer_unsent", "error={}", quoted(sent.error().message()));
}

Task<Result<ControlAnswer>> ask_mount(World& world, std::string socket, std::string path, TimePoint deadline) {
  Address address{.kind = Address::Kind::kUnix, .host_or_path = std::move(socket)};
  Result<std::unique_ptr<Stream>> connected = co_await world.transport().connect(address, deadline);
  if (!connected) co_return connected.error();
  Stream* stream = connected->get();
  ScopedTimer timer(world.clock(), deadline, [stream] { stream->close(); });
  Result<void> sent =
      co_await send(stream, "GET " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
  if (!sent) co_return sent.error();
  std::string text;
  for (;;) {  // to the end of the stream
    std::array<std::byte, 16 * kKiB> part;
    Result<size_t> got = co_await stream->read_some(part);
    if (!got) break;
    text.append(reinterpret_cast<const char*>(part.data()), *got);
    if (text.size() > kAnswerBytesMax) co_return Error(ErrorCode::kTooBig, "answer of " + to_string(address));
  }
  size_t end = text.find(kHeadEnd);
  ControlAnswer answer;
  bool whole = end != text.npos && text.starts_with("HTTP/1.1 ") && text.size() > 12 &&
               std::from_chars(&text[9], &text[12], answer.status).ec == std::errc();
  if (!whole) {
    bool late = world.clock().now() >= deadline;
    co_return Error(late ? ErrorCode::kTimeout : ErrorCode::kUnavailable, to_string(address));
  }
  answer.body = text.substr(end + kHeadEnd.size());
  co_return answer;
}

}  // namespace cairn
