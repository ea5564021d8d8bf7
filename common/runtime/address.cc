#include <algorithm>
#include <charconv>
#include <string>

#include "common/runtime/transport.h"

namespace cairn {

namespace {

Error bad_address(std::string_view text, std::string_view why) {
  return Error(ErrorCode::kInvalid, "address '" + std::string(text) + "': " + std::string(why));
}

Result<Address> parse_tcp(std::string_view text, std::string_view whole) {
  size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return bad_address(whole, "expected HOST:PORT");
  std::string_view host = text.substr(0, colon);
  std::string_view port_text = text.substr(colon + 1);
  if (host.starts_with('[') && host.ends_with(']') && host.size() > 2) {
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return bad_address(whole, "an IPv6 address stands in brackets: [::1]:7000");
  }
  if (host.empty()) return bad_address(whole, "the host is missing (0.0.0.0 or [::] means every interface)");
  if (host.find_first_of("[]/ ") != std::string_view::npos)
    return bad_address(whole, "the host is not a name or address");
  uint16_t port = 0;
  auto [end, error] = std::from_chars(port_text.data(), port_text.data() + port_text.size(), port);
  if (port_text.empty() || error != std::errc() || end != port_text.data() + port_text.size()) {
    return bad_address(whole, "the port is a number from 0 to 65535");
  }
  return Address{Address::Kind::kTcp, std::string(host), port};
}

}  // namespace

Result<Address> parse_address(std::string_view text) {
  if (text.starts_with("tcp:")) return parse_tcp(text.substr(4), text);
  if (!text.starts_with("unix:")) return parse_tcp(text, text);
  std::string_view path = text.substr(5);
  if (!path.starts_with('/')) return bad_address(text, "a Unix socket is unix:/PATH");
  if (path.find('\0') != std::string_view::npos) return bad_address(text, "the path holds a zero byte");
  return Address{Address::Kind::kUnix, std::string(path), 0};
}

std::string to_string(const Address& address) {
  if (address.kind == Address::Kind::kUnix) return "unix:" + address.host_or_path;
  bool bracket = address.host_or_path.find(':') != std::string::npos;
  std::string host = bracket ? "[" + address.host_or_path + "]" : address.host_or_path;
  return "tcp:" + host + ":" + std::to_string(address.port);
}

}  // namespace cairn
