#include "fs/cli/output.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fmt/core.h>
#include <unistd.h>

#include "fs/cli/exit_status.h"

namespace cairn {

namespace {

size_t visible_width(std::string_view text) {
  size_t width = 0;
  bool escape = false;
  for (char c : text) {
    if (c == '\033') escape = true;
    if (!escape && (static_cast<unsigned char>(c) & 0xc0) != 0x80) ++width;  // continuation bytes of UTF-8 take no room
    if (escape && c == 'm') escape = false;
  }
  return width;
}

bool is_number(std::string_view text) {
  return !text.empty() && text.front() >= '0' && text.front() <= '9' &&
         text.find_first_of(":.-/") == std::string_view::npos;
}

}  // namespace

std::string human_bytes(uint64_t bytes) {
  static constexpr std::array<const char*, 7> kUnits = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0) return fmt::format("{} B", bytes);
  return value < 10 ? fmt::format("{:.1f} {}", value, kUnits[unit]) : fmt::format("{:.0f} {}", value, kUnits[unit]);
}

std::string human_duration_ms(uint64_t ms) {
  if (ms < 1000) return fmt::format("{} ms", ms);
  if (ms < 120'000) return fmt::format("{:.1f} s", static_cast<double>(ms) / 1000);
  if (ms < 7'200'000) return fmt::format("{} min", ms / 60'000);
  return fmt::format("{} h", ms / 3'600'000);
}

bool colours_on() {
  static const bool on = ::isatty(STDOUT_FILENO) == 1 && std::getenv("NO_COLOR") == nullptr;
  return on;
}

std::string coloured(std::string_view text, Colour colour) {
  if (!colours_on() || colour == Colour::kPlain) return std::string(text);
  const char* code = colour == Colour::kGood      ? "32"
                     : colour == Colour::kWarning ? "33"
                     : colour == Colour::kBad     ? "31"
                                                  : "2";
  return fmt::format("\033[{}m{}\033[0m", code, text);
}

std::string Table::str() const {
  std::vector<size_t> widths;
  for (const auto& row : rows_) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], visible_width(row[i]));
  }
  std::string out;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      std::string pad(widths[i] - visible_width(row[i]), ' ');
      if (i > 0) line += "  ";
      line += is_number(row[i]) ? pad + row[i] : row[i] + pad;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

int complain(std::string_view what) {
  std::fprintf(stderr, "cairn: %.*s\n", static_cast<int>(what.size()), what.data());
  return kExitFailed;
}

int complain(std::string_view what, const Error& error) {
  return complain(fmt::format("{}: {}", what, error.context.empty() ? error.message() : error.context));
}

}  // namespace cairn
