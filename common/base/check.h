// CHECK(condition): our own bug stops the process, in release builds too. Never for what the world does
// (input, disk, network): that is a Result.
#pragma once

namespace cairn {

[[noreturn]] void check_failed(const char* condition, const char* file, int line);

}  // namespace cairn

#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) [[unlikely]] ::cairn::check_failed(#condition, __FILE__, __LINE__); \
  } while (false)
