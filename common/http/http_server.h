// HttpServer: small pages for people and for monitoring (/metrics, /health, JSON) over the Transport seam. GET only, no
// bodies; requests, connections and times are bounded, so that slow clients and garbage cost little.
//
//   HttpServer server(world.executor(), world.clock(), world.transport());
//   server.handle("/metrics", metrics_page(world.metrics()));
//   Result<void> listening = server.listen(*parse_address("127.0.0.1:9301"));
//   ...
//   co_await server.stop();
//
// Loop thread only; handlers run on the loop and must be quick. stop() must have been awaited before it goes away.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "common/base/metrics.h"
#include "common/base/result.h"
#include "common/http/http_request.h"
#include "common/runtime/task_group.h"
#include "common/runtime/transport.h"

namespace cairn {

inline constexpr size_t kHttpHeadBytesMax = 8 * 1024;  // as most servers
inline constexpr size_t kHttpConnectionsMax = 64;      // scrapers and a few browsers; each holds 8 KiB

struct HttpResponse {
  int status = 200;
  std::string content_type = "text/plain; charset=utf-8";
  std::string body;
};
using HttpHandler = std::function<HttpResponse(const HttpRequest&)>;

struct HttpServerOptions {
  // From one answer (or the connection) to the end of the next answer; then the connection is closed.
  Duration request_time = 10s;
};

class HttpServer {
 public:
  HttpServer(Executor& executor, Clock& clock, Transport& transport, HttpServerOptions options = {});
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // The handler of exactly this path; the last one given counts.
  void handle(std::string path, HttpHandler handler);
  // Starts serving; once. kBusy if the address is in use.
  Result<void> listen(const Address& address);
  // Where it listens, with the port that was chosen.
  Address address() const;
  Task<void> stop();
  size_t connections() const { return streams_.size(); }

 private:
  Task<void> accept_connections();
  Task<void> serve(std::unique_ptr<Stream> stream);
  // Serves one request; true if the connection may be used again. `input` keeps what came after it.
  Task<bool> serve_one(Stream* stream, std::string* input);
  HttpResponse answer(const HttpRequest& request) const;

  Transport& transport_;
  const HttpServerOptions options_;
  std::map<std::string, HttpHandler> handlers_;
  std::unique_ptr<Listener> listener_;
  std::set<Stream*> streams_;  // open connections, in no order that matters; owned by their serve()
  TaskGroup tasks_;
};

// The handler for /metrics.
HttpHandler metrics_page(Metrics& metrics);
// The handler for /health: 200 "ok", or 503 with what is wrong.
HttpHandler health_page(std::function<Result<void>()> check);

}  // namespace cairn
