// Logging: one line an event, "time level event key=value ...". Thread-safe. Behind it spdlog.
//
//   log_info("chunk.sealed", "chunk={} version={}", chunk, version);
//
// An event's name is stable (people grep for it). Values with spaces are to be written {:?}-like with quoted(). An error is
// logged once, where it is handled.
#pragma once

#include <fmt/core.h>

#include <string>
#include <string_view>

namespace cairn {

enum class LogLevel { kDebug, kInfo, kWarning, kError, kOff };

// Where lines go: standard error, or a file (appended; reopened by reopen_log(), for log rotation). `program` is put on each line.
void start_logging(std::string_view program, LogLevel level, std::string_view file = {});
void reopen_log();
void set_log_level(LogLevel level);
bool log_enabled(LogLevel level);
void write_log(LogLevel level, std::string_view event, std::string_view fields);
// "text" with quotes and escapes, for values that may hold spaces.
std::string quoted(std::string_view text);

template <class... Args>
void log_at(LogLevel level, std::string_view event, fmt::format_string<Args...> fields, Args&&... args) {
  if (log_enabled(level)) write_log(level, event, fmt::format(fields, std::forward<Args>(args)...));
}
template <class... Args>
void log_debug(std::string_view event, fmt::format_string<Args...> fields, Args&&... args) {
  log_at(LogLevel::kDebug, event, fields, std::forward<Args>(args)...);
}
template <class... Args>
void log_info(std::string_view event, fmt::format_string<Args...> fields, Args&&... args) {
  log_at(LogLevel::kInfo, event, fields, std::forward<Args>(args)...);
}
template <class... Args>
void log_warning(std::string_view event, fmt::format_string<Args...> fields, Args&&... args) {
  log_at(LogLevel::kWarning, event, fields, std::forward<Args>(args)...);
}
template <class... Args>
void log_error(std::string_view event, fmt::format_string<Args...> fields, Args&&... args) {
  log_at(LogLevel::kError, event, fields, std::forward<Args>(args)...);
}

}  // namespace cairn
