// What people see: sizes, aligned tables, colours only on a terminal (and not with NO_COLOR).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/error.h"

namespace cairn {

// "1.5 GiB": three digits at most.
std::string human_bytes(uint64_t bytes);
std::string human_duration_ms(uint64_t ms);

enum class Colour { kPlain, kGood, kWarning, kBad, kFaint };
std::string coloured(std::string_view text, Colour colour);
// For standard output; off when it is no terminal, or NO_COLOR is set.
bool colours_on();

// Columns as wide as their widest cell; numbers (cells that begin with a digit) to the right. Colours are not counted.
class Table {
 public:
  explicit Table(std::vector<std::string> head) : rows_{std::move(head)} {}
  void row(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  std::string str() const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// "cairn: what: why" on standard error; gives kExitFailed.
int complain(std::string_view what, const Error& error);
int complain(std::string_view what);

}  // namespace cairn
