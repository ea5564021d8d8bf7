// The head of an HTTP/1.1 request, taken apart. Pure; any thread. Reference: RFC 9112.
//
// Only what a monitoring page needs: no bodies, no continuation lines, no forms of the target but "/path?query".
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

namespace cairn {

struct HttpRequest {
  std::string method;
  std::string path;   // decoded, starts with '/'
  std::string query;  // what follows '?', as it came
  bool keep_alive = false;
};

// Why a request is not served: the status to answer before the connection is closed.
struct HttpRefusal {
  int status;
};

// `head` ends with the empty line.
std::variant<HttpRequest, HttpRefusal> parse_http_head(std::string_view head);

// "Not Found" for 404.
std::string_view http_reason(int status);

}  // namespace cairn
