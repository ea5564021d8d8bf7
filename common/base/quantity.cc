#include "common/base/quantity.h"

#include <charconv>
#include <fmt/format.h>
#include <limits>
#include <span>

#include "common/base/units.h"

namespace cairn {
namespace {

struct Unit {
  std::string_view name;
  uint64_t factor;
};

// Largest first.
constexpr Unit kSizeUnits[] = {{"TiB", 1024 * kGiB}, {"GiB", kGiB}, {"MiB", kMiB}, {"KiB", kKiB}, {"B", 1}};
constexpr Unit kDurationUnits[] = {{"d", 86'400'000'000'000},
                                   {"h", 3'600'000'000'000},
                                   {"min", 60'000'000'000},
                                   {"s", 1'000'000'000},
                                   {"ms", 1'000'000},
                                   {"us", 1'000},
                                   {"ns", 1}};

struct Parsed {
  uint64_t number;
  std::string_view unit;
};

std::optional<Parsed> split(std::string_view text) {
  uint64_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return std::nullopt;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  bool space = text.starts_with(' ');
  while (text.starts_with(' '))
    text.remove_prefix(1);
  if (space && text.empty()) return std::nullopt;
  return Parsed{number, text};
}

std::optional<uint64_t> scale(const Parsed& parsed, std::span<const Unit> units, uint64_t max) {
  for (const Unit& unit : units) {
    if (unit.name != parsed.unit) continue;
    if (parsed.number > max / unit.factor) return std::nullopt;
    return parsed.number * unit.factor;
  }
  return std::nullopt;
}

std::string format_with(uint64_t number, std::span<const Unit> units) {
  for (const Unit& unit : units) {
    if (number != 0 && number % unit.factor == 0) return fmt::format("{} {}", number / unit.factor, unit.name);
  }
  return "0";
}

}  // namespace

std::optional<uint64_t> parse_size(std::string_view text) {
  std::optional<Parsed> parsed = split(text);
  if (!parsed) return std::nullopt;
  if (parsed->unit.empty()) return parsed->number;
  return scale(*parsed, kSizeUnits, std::numeric_limits<uint64_t>::max());
}

std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text) {
  std::optional<Parsed> parsed = split(text);
  if (!parsed) return std::nullopt;
  if (parsed->unit.empty() && parsed->number == 0) return std::chrono::nanoseconds(0);
  std::optional<uint64_t> ns = scale(*parsed, kDurationUnits, std::numeric_limits<int64_t>::max());
  if (!ns) return std::nullopt;
  return std::chrono::nanoseconds(static_cast<int64_t>(*ns));
}

std::string format_size(uint64_t bytes) {
  return format_with(bytes, kSizeUnits);
}

std::string format_duration(std::chrono::nanoseconds duration) {
  int64_t ns = duration.count();
  if (ns < 0) return "-" + format_with(0 - static_cast<uint64_t>(ns), kDurationUnits);
  return format_with(static_cast<uint64_t>(ns), kDurationUnits);
}

}  // namespace cairn
