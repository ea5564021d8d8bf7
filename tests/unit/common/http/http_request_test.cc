#include "common/http/http_request.h"

#include <gtest/gtest.h>

#include "common/base/random.h"

namespace cairn {
namespace {

int refusal(std::string_view head) {
  auto parsed = parse_http_head(head);
  auto* refused = std::get_if<HttpRefusal>(&parsed);
  return refused ? refused->status : 0;
}
HttpRequest request(std::string_view head) {
  auto parsed = parse_http_head(head);
  auto* good = std::get_if<HttpRequest>(&parsed);
  EXPECT_NE(good, nullptr) << head;
  return good ? *good : HttpRequest();
}

TEST(HttpRequest, HasMethodPathAndQuery) {
  HttpRequest got = request("GET /a%20b/c?x=1&y=%20 HTTP/1.1\r\nHost: h\r\n\r\n");
  EXPECT_EQ(got.method, "GET");
  EXPECT_EQ(got.path, "/a b/c");
  EXPECT_EQ(got.query, "x=1&y=%20");
}

TEST(HttpRequest, ConnectionsStayOpenAsTheVersionAndTheFieldSay) {
  EXPECT_TRUE(request("GET / HTTP/1.1\r\n\r\n").keep_alive);
  EXPECT_FALSE(request("GET / HTTP/1.0\r\n\r\n").keep_alive);
  EXPECT_FALSE(request("GET / HTTP/1.1\r\nconnection: Close\r\n\r\n").keep_alive);
  EXPECT_FALSE(request("GET / HTTP/1.1\r\nConnection: te, close\r\n\r\n").keep_alive);
}

TEST(HttpRequest, BodiesAreRefused) {
  EXPECT_EQ(refusal("GET / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"), 413);
  EXPECT_EQ(refusal("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), 413);
  EXPECT_EQ(refusal("GET / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"), 0);
}

TEST(HttpRequest, GarbageIsRefused) {
  for (auto* head : {"\r\n\r\n", "GET\r\n\r\n", "GET /\r\n\r\n", "GET  HTTP/1.1\r\n\r\n", "G T / HTTP/1.1\r\n\r\n",
                     "GET http://x/ HTTP/1.1\r\n\r\n", "GET /a b HTTP/1.1\r\n\r\n", "GET /%zz HTTP/1.1\r\n\r\n",
                     "GET /%4 HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\r\nno colon\r\n\r\n",
                     "GET / HTTP/1.1\r\n continued: x\r\n\r\n", "GET / HTTP/1.1\r\n: x\r\n\r\n", "GET / FTP\r\n\r\n"}) {
    EXPECT_EQ(refusal(head), 400) << head;
  }
  EXPECT_EQ(refusal("GET / HTTP/2.0\r\n\r\n"), 505);
}

TEST(HttpRequest, RandomHeadsAreTakenOrRefused) {
  auto random = make_seeded_random(13);
  const std::string good = "GET /metrics?a=%20b HTTP/1.1\r\nHost: localhost:1\r\nConnection: close\r\n\r\n";
  int taken = 0;
  for (int round = 0; round < 20000; round++) {
    std::string head = good;
    for (uint64_t edits = random->below(4); edits > 0; edits--) {
      size_t at = random->below(head.size());
      if (random->chance(1, 2)) {
        head[at] = static_cast<char>(random->next_u64());
      } else {
        head.erase(at, 1 + random->below(8));
      }
    }
    auto parsed = parse_http_head(head);
    if (auto* got = std::get_if<HttpRequest>(&parsed)) {
      taken++;
      EXPECT_TRUE(got->path.starts_with('/'));
      EXPECT_LE(got->path.size() + got->query.size(), head.size());
    }
  }
  EXPECT_GT(taken, 5000);
  EXPECT_LT(taken, 19000);
}

}  // namespace
}  // namespace cairn
