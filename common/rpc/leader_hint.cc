#include "common/rpc/leader_hint.h"

#include <charconv>
#include <system_error>
#include <utility>

namespace cairn {

std::optional<LeaderHint> parse_leader_hint(const std::string& context) {
  size_t first = context.find(' ');
  size_t second = first == std::string::npos ? first : context.find(' ', first + 1);
  if (second == std::string::npos) return std::nullopt;
  Result<Address> address = parse_address(context.substr(first + 1, second - first - 1));
  if (!address) return std::nullopt;
  LeaderHint hint{.master = {}, .address = std::move(*address), .term = 0};
  const char* begin = context.data();
  auto id = std::from_chars(begin, begin + first, hint.master.value, 16);
  auto term = std::from_chars(begin + second + 1, begin + context.size(), hint.term);
  if (id.ec != std::errc() || term.ec != std::errc() || id.ptr != begin + first || term.ptr != begin + context.size() ||
      !hint.master)
    return std::nullopt;
  return hint;
}

}  // namespace cairn
