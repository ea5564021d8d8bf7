#include "fs/fuse/process_id.h"

#include <fstream>
#include <sstream>
#include <string>

namespace cairn {

namespace {

struct ProcessStat {
  char state = 0;
  uint64_t start_time = 0;
};

std::optional<ProcessStat> read_stat(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  // "pid (name) state ...": a name may have anything in it, also ") ".
  size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(name_end + 1));
  ProcessStat stat;
  fields >> stat.state;  // field 3
  std::string skipped;
  for (int field = 4; field < 22; ++field)
    fields >> skipped;
  fields >> stat.start_time;
  if (!fields) return std::nullopt;
  return stat;
}

}  // namespace

std::optional<ProcessId> find_process(pid_t pid) {
  std::optional<ProcessStat> stat = read_stat(pid);
  if (!stat || stat->state == 'Z' || stat->state == 'X') return std::nullopt;
  return ProcessId{.pid = pid, .start_time = stat->start_time};
}

bool is_alive(const ProcessId& process) {
  return process.pid > 0 && find_process(process.pid) == process;
}

bool is_zombie(pid_t pid) {
  std::optional<ProcessStat> stat = read_stat(pid);
  return stat && stat->state == 'Z';
}

}  // namespace cairn
