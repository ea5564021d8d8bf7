#include "fs/fuse/caller_state.h"

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>

namespace cairn {

namespace {

constexpr uint64_t bit(int signal) {
  return uint64_t{1} << (signal - 1);
}
constexpr uint64_t kStopSignals = bit(SIGINT) | bit(SIGTERM) | bit(SIGQUIT) | bit(SIGHUP);

// The set after "NAME:\t"; empty if it is not there.
uint64_t signal_set(std::string_view status, std::string_view name) {
  size_t at = status.find(name);
  if (at == std::string_view::npos) return 0;
  std::string_view digits = status.substr(at + name.size());
  digits.remove_prefix(std::min(digits.find_first_not_of(" \t"), digits.size()));
  uint64_t set = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), set, 16);
  return set;
}

}  // namespace

// A signal that kills becomes a SIGKILL for each thread of the process at once.
CallerState caller_state_of(std::string_view status) {
  uint64_t pending = signal_set(status, "SigPnd:") | signal_set(status, "ShdPnd:");
  if (pending & bit(SIGKILL)) return CallerState::kKilled;
  uint64_t asked = pending & ~signal_set(status, "SigBlk:") & ~signal_set(status, "SigIgn:") & kStopSignals;
  return asked != 0 ? CallerState::kAskedToStop : CallerState::kWaits;
}

CallerState caller_state(int thread) {
  if (thread <= 0) return CallerState::kAskedToStop;
  std::ifstream file("/proc/" + std::to_string(thread) + "/status");
  if (!file) return CallerState::kKilled;
  std::string status((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  return caller_state_of(status);
}

}  // namespace cairn
