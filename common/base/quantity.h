// Sizes and durations as people write and read them: "64 MiB", "500 ms". Pure; any thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace cairn {

// A whole number and B, KiB, MiB, GiB or TiB, with or without a space; a bare number counts bytes. None if it is
// anything else or too large.
std::optional<uint64_t> parse_size(std::string_view text);
// A whole number and ns, us, ms, s, min, h or d. No bare numbers, except 0.
std::optional<std::chrono::nanoseconds> parse_duration(std::string_view text);

// With the largest unit that leaves a whole number: parse_size(format_size(n)) == n.
std::string format_size(uint64_t bytes);
std::string format_duration(std::chrono::nanoseconds duration);

}  // namespace cairn
