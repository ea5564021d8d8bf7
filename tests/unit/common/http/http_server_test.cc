#include "common/http/http_server.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/runtime/real_world.h"

namespace cairn {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

// One server and what its clients see, on the real loop.
class HttpServerTest : public testing::Test {
 public:
  explicit HttpServerTest(Duration request_time = 20s) : request_time_(request_time) {}

  void run(Task<void> body) { EXPECT_EQ(world_->run(run_body(std::move(body))), 0); }

  void add_pages() {
    server_.handle("/health", health_page([this]() -> Result<void> {
                     if (sick_) return Error(ErrorCode::kIo, "disk 1 failed");
                     return {};
                   }));
    server_.handle("/metrics", metrics_page(world_->metrics()));
    server_.handle("/echo", [](const HttpRequest& request) {
      return HttpResponse{.content_type = "application/json", .body = "[" + request.query + "]"};
    });
    server_.handle("/large", [](const HttpRequest&) { return HttpResponse{.body = std::string(3'000'000, 'x')}; });
  }

  Task<std::unique_ptr<Stream>> connect() {
    TimePoint soon = world_->clock().now() + 10s;
    Result<std::unique_ptr<Stream>> stream = co_await world_->transport().connect(server_.address(), soon);
    EXPECT_TRUE(stream.has_value());
    co_return std::move(*stream);
  }

  Task<bool> send(Stream* stream, std::string text) {
    std::span<const std::byte> piece = std::as_bytes(std::span(text));
    Result<void> sent = co_await stream->write(std::span(&piece, 1));
    co_return sent.has_value();
  }

  // Everything until the server closes the connection.
  Task<std::string> receive_all(Stream* stream) {
    std::string all;
    while (true) {
      std::vector<std::byte> part(65536);
      Result<size_t> got = co_await stream->read_some(part);
      if (!got) co_return all;
      all.append(reinterpret_cast<const char*>(part.data()), *got);
    }
  }

  // What the server answers to `text` before it closes.
  Task<std::string> exchange(std::string text) {
    std::unique_ptr<Stream> stream = co_await connect();
    bool sent = co_await send(stream.get(), std::move(text));
    (void)sent;  // a server that has heard enough may close before everything was sent
    std::string all = co_await receive_all(stream.get());
    co_return all;
  }

  Task<std::string> get(std::string path) {
    std::string all = co_await exchange("GET " + path + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    co_return all;
  }

  const Duration request_time_;
  std::unique_ptr<RealWorld> world_ = RealWorld::make({});
  HttpServer server_{world_->executor(), world_->clock(), world_->transport(), {.request_time = request_time_}};
  bool sick_ = false;

 private:
  Task<int> run_body(Task<void> body) {
    add_pages();
    Result<Address> address = parse_address("127.0.0.1:0");
    Result<void> listening = server_.listen(*address);
    EXPECT_TRUE(listening.has_value());
    co_await std::move(body);
    co_await server_.stop();
    co_return 0;
  }
};

TEST_F(HttpServerTest, ServesMetricsAndHealth) {
  auto body = [](HttpServerTest* t) -> Task<void> {
    t->world_->metrics().counter("cairn_test_total", "T.").add(5);
    std::string metrics = co_await t->get("/metrics");
    EXPECT_THAT(metrics, StartsWith("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"));
    EXPECT_THAT(metrics, HasSubstr("\ncairn_test_total 5\n"));
    std::string health = co_await t->get("/health");
    EXPECT_THAT(health, StartsWith("HTTP/1.1 200 OK\r\n"));
    EXPECT_THAT(health, EndsWith("\r\n\r\nok\n"));
    t->sick_ = true;
    std::string sick = co_await t->get("/health");
    EXPECT_THAT(sick, StartsWith("HTTP/1.1 503 Service Unavailable\r\n"));
    EXPECT_THAT(sick, EndsWith("\r\n\r\nio: disk 1 failed\n"));
  };
  run(body(this));
}

TEST_F(HttpServerTest, RefusesWhatItDoesNotHaveAndDoesNotDo) {
  auto body = [](HttpServerTest* t) -> Task<void> {
    std::string missing = co_await t->get("/nothing");
    EXPECT_THAT(missing, StartsWith("HTTP/1.1 404 Not Found\r\n"));
    std::string post = co_await t->exchange("POST /health HTTP/1.1\r\nConnection: close\r\n\r\n");
    EXPECT_THAT(post, StartsWith("HTTP/1.1 405 Method Not Allowed\r\n"));
    EXPECT_THAT(post, HasSubstr("\r\nAllow: GET\r\n"));
    std::string garbage = co_await t->exchange("\x16\x03\x01 garbage\r\n\r\n");
    EXPECT_THAT(garbage, StartsWith("HTTP/1.1 400 Bad Request\r\n"));
    std::string with_body = co_await t->exchange("GET /echo HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    EXPECT_THAT(with_body, StartsWith("HTTP/1.1 413 "));
  };
  run(body(this));
}

TEST_F(HttpServerTest, AHeadWithoutEndIsRefusedAt8KiB) {
  auto body = [](HttpServerTest* t) -> Task<void> {
    std::string answer = co_await t->exchange("GET / HTTP/1.1\r\nX: " + std::string(kHttpHeadBytesMax, 'x'));
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 431 "));
  };
  run(body(this));
}

TEST_F(HttpServerTest, ServesSeveralRequestsOfOneConnectionAlsoSentAtOnce) {
  auto body = [](HttpServerTest* t) -> Task<void> {
    std::string all = co_await t->exchange(
        "GET /echo?1 HTTP/1.1\r\n\r\nGET /echo?2 HTTP/1.1\r\n\r\nGET /echo?3 HTTP/1.0\r\n\r\nGET /echo?4 "
        "HTTP/1.1\r\n\r\n");
    EXPECT_THAT(all, HasSubstr("Connection: keep-alive\r\n\r\n[1]HTTP/1.1 200"));
    EXPECT_THAT(all, HasSubstr("[2]HTTP/1.1 200"));
    EXPECT_THAT(all, EndsWith("Connection: close\r\n\r\n[3]"));
  };
  run(body(this));
}

TEST_F(HttpServerTest, LargeAnswersArriveWhole) {
  auto body = [](HttpServerTest* t) -> Task<void> {
    std::string all = co_await t->get("/large");
    EXPECT_THAT(all.substr(0, 300), HasSubstr("Content-Length: 3000000\r\n"));
    EXPECT_EQ(all.size() - all.find("\r\n\r\n") - 4, 3'000'000u);
  };
  run(body(this));
}

class ImpatientHttpServerTest : public HttpServerTest {
 public:
  ImpatientHttpServerTest() : HttpServerTest(300ms) {}
};

// The deadline closes what neither ends its request nor takes its answer.
TEST_F(ImpatientHttpServerTest, SlowClientsAreCutOff) {
  auto body = [](HttpServerTest* t) -> Task<void> {
    std::unique_ptr<Stream> silent = co_await t->connect();
    std::unique_ptr<Stream> slow = co_await t->connect();
    bool sent = co_await t->send(slow.get(), "GET /health HT");
    EXPECT_TRUE(sent);
    std::unique_ptr<Stream> deaf = co_await t->connect();
    sent = co_await t->send(deaf.get(),
                            "GET /large HTTP/1.1\r\n\r\nGET /large HTTP/1.1\r\n\r\nGET /large HTTP/1.1\r\n\r\n");
    EXPECT_TRUE(sent);
    std::string nothing = co_await t->receive_all(silent.get());
    EXPECT_EQ(nothing, "");
    nothing = co_await t->receive_all(slow.get());
    EXPECT_EQ(nothing, "");
    std::string others = co_await t->get("/health");
    EXPECT_THAT(others, StartsWith("HTTP/1.1 200 OK\r\n"));
  };
  run(body(this));
}

TEST_F(HttpServerTest, ConnectionsAreBounded) {
  auto body = [](HttpServerTest* t) -> Task<void> {
    std::vector<std::unique_ptr<Stream>> open;
    for (size_t i = 0; i < kHttpConnectionsMax; i++) {
      std::unique_ptr<Stream> stream = co_await t->connect();
      open.push_back(std::move(stream));
    }
    std::string refused = co_await t->get("/health");
    EXPECT_EQ(refused, "");
    EXPECT_EQ(t->server_.connections(), kHttpConnectionsMax);
    // Whoever closes makes room: the server hears of it, at the latest by its deadline.
    open.clear();
    std::string answer;
    while (answer.empty())
      answer = co_await t->get("/health");
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  };
  run(body(this));
}

TEST_F(HttpServerTest, StopClosesConnectionsThatWait) {
  auto body = [](HttpServerTest* t) -> Task<void> {
    std::unique_ptr<Stream> waiting = co_await t->connect();
    std::string answer = co_await t->get("/health");  // so the first one has been accepted too
    EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
    co_await t->server_.stop();
    EXPECT_EQ(t->server_.connections(), 0u);
    std::string nothing = co_await t->receive_all(waiting.get());
    EXPECT_EQ(nothing, "");
  };
  run(body(this));
}

}  // namespace
}  // namespace cairn
