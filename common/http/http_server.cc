#include "common/http/http_server.h"

#include <array>
#include <fmt/format.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/runtime/scoped_timer.h"

namespace cairn {
namespace {

constexpr std::string_view kHeadEnd = "\r\n\r\n";

HttpResponse plain(int status) {
  return {.status = status, .body = fmt::format("{} {}\n", status, http_reason(status))};
}

std::string head_of(const HttpResponse& response, bool keep_alive) {
  return fmt::format(
      "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n"
      "X-Content-Type-Options: nosniff\r\n{}Connection: {}\r\n\r\n",
      response.status, http_reason(response.status), response.content_type, response.body.size(),
      response.status == 405 ? "Allow: GET\r\n" : "", keep_alive ? "keep-alive" : "close");
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

HttpServer::HttpServer(Executor& executor, Clock& clock, Transport& transport, HttpServerOptions options)
    : transport_(transport), options_(options), tasks_(executor, clock) {}

HttpServer::~HttpServer() = default;

void HttpServer::handle(std::string path, HttpHandler handler) {
  CHECK(handler);
  handlers_[std::move(path)] = std::move(handler);
}

Result<void> HttpServer::listen(const Address& address) {
  CHECK(!listener_);
  Result<std::unique_ptr<Listener>> listener = transport_.listen(address);
  if (!listener) return listener.error();
  listener_ = std::move(*listener);
  tasks_.on_stop([this] {
    listener_->close();
    for (Stream* stream : streams_)
      stream->close();
  });
  tasks_.spawn(accept_connections());
  return {};
}

Address HttpServer::address() const {
  CHECK(listener_);
  return listener_->address();
}

Task<void> HttpServer::stop() {
  co_await tasks_.stop();
}

Task<void> HttpServer::accept_connections() {
  while (!tasks_.stop_requested()) {
    Result<std::unique_ptr<Stream>> stream = co_await listener_->accept();
    if (tasks_.stop_requested()) co_return;
    if (!stream) {
      // Out of descriptors, most likely: others may give some back.
      log_warning("http.accept_failed", "error={}", quoted(stream.error().message()));
      Result<void> waited = co_await tasks_.sleep_for(100ms);
      if (!waited) co_return;
      continue;
    }
    if (streams_.size() >= kHttpConnectionsMax) continue;  // its destructor closes it
    tasks_.spawn(serve(std::move(*stream)));
  }
}

Task<void> HttpServer::serve(std::unique_ptr<Stream> stream) {
  // Also when the frame is destroyed in the middle.
  struct Registered {
    std::set<Stream*>& streams;
    Stream* stream;
    Registered(std::set<Stream*>& streams_in, Stream* stream_in) : streams(streams_in), stream(stream_in) {
      streams.insert(stream);
    }
    ~Registered() { streams.erase(stream); }
  };
  Registered registered(streams_, stream.get());
  std::string input;
  bool again = true;
  while (again && !tasks_.stop_requested()) {
    again = co_await serve_one(stream.get(), &input);
  }
}

Task<bool> HttpServer::serve_one(Stream* stream, std::string* input) {
  ScopedTimer deadline(tasks_.clock(), tasks_.clock().now() + options_.request_time, [stream] { stream->close(); });
  HttpResponse response;
  bool keep_alive = false;
  size_t end = input->find(kHeadEnd);
  while (end == std::string::npos && input->size() < kHttpHeadBytesMax) {
    std::array<std::byte, 2048> part;
    Result<size_t> got = co_await stream->read_some(part);
    if (!got) co_return false;
    size_t searched = input->size() < kHeadEnd.size() ? 0 : input->size() - kHeadEnd.size();
    input->append(reinterpret_cast<const char*>(part.data()), *got);
    end = input->find(kHeadEnd, searched);
  }
  if (end == std::string::npos || end > kHttpHeadBytesMax) {
    response = plain(431);
  } else {
    auto parsed = parse_http_head(std::string_view(*input).substr(0, end + kHeadEnd.size()));
    input->erase(0, end + kHeadEnd.size());
    if (auto* request = std::get_if<HttpRequest>(&parsed)) {
      response = answer(*request);
      keep_alive = request->keep_alive;
    } else {
      response = plain(std::get<HttpRefusal>(parsed).status);
    }
  }
  std::string head = head_of(response, keep_alive);
  std::array<std::span<const std::byte>, 2> pieces = {bytes_of(head), bytes_of(response.body)};
  Result<void> sent = co_await stream->write(pieces);
  co_return sent.has_value() && keep_alive;
}

HttpResponse HttpServer::answer(const HttpRequest& request) const {
  auto handler = handlers_.find(request.path);
  if (handler == handlers_.end()) return plain(404);
  if (request.method != "GET") return plain(405);
  return handler->second(request);
}

HttpHandler metrics_page(Metrics& metrics) {
  return [&metrics](const HttpRequest&) {
    return HttpResponse{.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = metrics.render()};
  };
}

HttpHandler health_page(std::function<Result<void>()> check) {
  return [check = std::move(check)](const HttpRequest&) {
    Result<void> healthy = check();
    if (healthy) return HttpResponse{.body = "ok\n"};
    return HttpResponse{.status = 503, .body = healthy.error().message() + "\n"};
  };
}

}  // namespace cairn
