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

std::string status_of(int thread) {
  std::ifstream file("/proc/" + std::to_string(thread) + "/status");
  return std::string((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
}

// The set after "NAME:\t"; empty if it is not there.
uint64_t bit_set(std::string_view status, std::string_view name) {
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
  uint64_t pending = bit_set(status, "SigPnd:") | bit_set(status, "ShdPnd:");
  if (pending & bit(SIGKILL)) return CallerState::kKilled;
  uint64_t asked = pending & ~bit_set(status, "SigBlk:") & ~bit_set(status, "SigIgn:") & kStopSignals;
  return asked != 0 ? CallerState::kAskedToStop : CallerState::kWaits;
}

CallerState caller_state(int thread) {
  if (thread <= 0) return CallerState::kAskedToStop;
  std::string status = status_of(thread);
  return status.empty() ? CallerState::kKilled : caller_state_of(status);
}

bool has_capability(int thread, int capability) {
  return thread > 0 && (bit_set(status_of(thread), "CapEff:") >> capability & 1) != 0;
}

}  // namespace cairn
