#include "common/http/http_request.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace cairn {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool same_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

// RFC 9110, 5.6.2: what methods and names of fields are made of.
bool is_token(std::string_view text) {
  constexpr std::string_view kOthers = "!#$%&'*+-.^_`|~";
  return !text.empty() && std::ranges::all_of(text, [&](char c) {
    return (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9') || kOthers.find(c) != kOthers.npos;
  });
}

bool is_visible(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c > 0x20 && c < 0x7f; });
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t'))
    text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t'))
    text.remove_suffix(1);
  return text;
}

std::string_view take_line(std::string_view& text) {
  size_t end = text.find("\r\n");
  std::string_view line = text.substr(0, end);
  text.remove_prefix(end == text.npos ? text.size() : end + 2);
  return line;
}

std::optional<std::string> percent_decoded(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    char c = text.front();
    text.remove_prefix(1);
    if (c == '%') {
      uint8_t value = 0;
      if (text.size() < 2) return std::nullopt;
      auto [end, error] = std::from_chars(text.data(), text.data() + 2, value, 16);
      if (error != std::errc() || end != text.data() + 2) return std::nullopt;
      text.remove_prefix(2);
      c = static_cast<char>(value);
    }
    out += c;
  }
  return out;
}

// "a, B ,c" has "b".
bool list_has(std::string_view list, std::string_view word) {
  while (!list.empty()) {
    size_t comma = std::min(list.find(','), list.size());
    if (same_ignoring_case(trimmed(list.substr(0, comma)), word)) return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

}  // namespace

std::variant<HttpRequest, HttpRefusal> parse_http_head(std::string_view head) {
  constexpr HttpRefusal kBad{400};
  std::string_view line = take_line(head);
  size_t first = line.find(' ');
  size_t last = line.rfind(' ');
  if (first == line.npos || first == last) return kBad;
  HttpRequest request;
  request.method = line.substr(0, first);
  std::string_view target = line.substr(first + 1, last - first - 1);
  std::string_view version = line.substr(last + 1);
  if (!is_token(request.method) || !target.starts_with('/') || !is_visible(target)) return kBad;
  if (version != "HTTP/1.1" && version != "HTTP/1.0") return HttpRefusal{version.starts_with("HTTP/") ? 505 : 400};
  request.keep_alive = version == "HTTP/1.1";

  size_t question = std::min(target.find('?'), target.size());
  std::optional<std::string> path = percent_decoded(target.substr(0, question));
  if (!path) return kBad;
  request.path = std::move(*path);
  request.query = target.substr(std::min(question + 1, target.size()));

  while (true) {
    line = take_line(head);
    if (line.empty()) break;
    size_t colon = line.find(':');
    if (colon == line.npos || !is_token(line.substr(0, colon))) return kBad;
    std::string_view name = line.substr(0, colon);
    std::string_view value = trimmed(line.substr(colon + 1));
    if (same_ignoring_case(name, "connection")) {
      if (list_has(value, "close")) request.keep_alive = false;
    } else if (same_ignoring_case(name, "transfer-encoding") ||
               (same_ignoring_case(name, "content-length") && value != "0")) {
      // A body would be taken for the next request.
      return HttpRefusal{413};
    }
  }
  return request;
}

std::string_view http_reason(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 413:
      return "Content Too Large";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 503:
      return "Service Unavailable";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Unknown";
  }
}

}  // namespace cairn
