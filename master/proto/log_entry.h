// One entry of the masters' log: what the leader decided, and the commands of many callers. Written down in
// docs/formats.md, "Master's log". Values only; not thread-safe.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace cairn {

struct LogEntryFields {
  uint64_t log_time_ms = 0;  // never goes back from one entry to the next
  int64_t wall_ns = 0;       // the leader's clock, nanoseconds since 1970
  uint64_t seed = 0;
};

inline constexpr size_t kLogEntryHeaderBytes = 32;
inline constexpr size_t kLogEntryCommandOverheadBytes = 4;

// Joins commands into one entry.
class LogEntryBuilder {
 public:
  LogEntryBuilder() { clear(); }
  void add(std::string_view command);
  uint32_t count() const { return count_; }
  // Bytes of the entry as it stands.
  size_t size() const { return bytes_.size(); }
  // The entry's bytes; the builder is empty afterwards.
  std::string finish(const LogEntryFields& fields);

 private:
  void clear();
  std::string bytes_;
  uint32_t count_ = 0;
};

struct LogEntryView {
  LogEntryFields fields;
  std::vector<std::string_view> commands;  // into the bytes that were decoded
};

// kCorrupt if these are not an entry's bytes; kNotSupported if a newer version wrote them.
Result<LogEntryView> decode_log_entry(std::string_view bytes);
// Only the fields.
Result<LogEntryFields> decode_log_entry_fields(std::string_view bytes);

}  // namespace cairn
