// Processes by id and start time, so that an id that was used again is never taken for the old one. Any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <sys/types.h>

namespace cairn {

struct ProcessId {
  pid_t pid = 0;
  uint64_t start_time = 0;  // field 22 of /proc/PID/stat: clock ticks since boot

  bool operator==(const ProcessId&) const = default;
};

// The one with that id now; nothing if there is none. A zombie counts as none.
std::optional<ProcessId> find_process(pid_t pid);
bool is_alive(const ProcessId& process);
bool is_zombie(pid_t pid);

}  // namespace cairn
