// RandomWorkload: one seed's run of a whole cluster in the simulated world, with one, three or five masters: random
// file operations on one or two mounts, random faults, and a model that everything read is compared with.
//
//   RunResult result = run_seed(7, {});
//   if (!result.failure.empty()) ...
//
// One thread. The same seed and options give the same trace, event by event.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "common/runtime/clock.h"

namespace cairn {

// Kinds of faults, as bits.
enum Fault : uint32_t {
  kKillServer = 1 << 0,   // SIGKILL of a chunkserver, restart
  kKillMaster = 1 << 1,   // likewise a master
  kKillMount = 1 << 2,    // a mount's process ends with what it had not synced; a new one comes
  kPowerServer = 1 << 3,  // power cut of one chunkserver's machine
  kPowerMaster = 1 << 4,  // of a master's
  kPowerAll = 1 << 5,     // of everything at once
  kPartition = 1 << 6,    // two nodes cannot reach one another for some seconds
  kReset = 1 << 7,        // all connections between two nodes break
  kPause = 1 << 8,        // SIGSTOP, some seconds later SIGCONT
  kFull = 1 << 9,         // a chunkserver's disk is full for some seconds: operations may fail with ENOSPC
  kRot = 1 << 10,         // a byte flips on a chunkserver's disk, in a run always the same one's
  // Several faults at once and for longer: operations may fail with EIO, what was synced may not be lost.
  kRough = 1 << 11,
  // Only with several masters:
  kTransfer = 1 << 12,    // leadership is handed over
  kMembers = 1 << 13,     // a master is removed, with its disk lost or at work, and another one is added
  kIsolate = 1 << 14,     // a master cannot reach the other masters, or nobody, or is not reached by them
  kWall = 1 << 15,        // a wall clock jumps
  kKillMost = 1 << 16,    // most masters, or all, end at once, by SIGKILL or a power cut
  kStopMaster = 1 << 17,  // SIGTERM of a master, restart
};
inline constexpr uint32_t kKindsOfFaults = 11;  // all but kRough and those of several masters
inline constexpr uint32_t kKindsOfGroup = 6;
inline constexpr uint32_t kAllFaults = (1u << 18) - 1;
uint32_t default_faults();
// "kill-server,pause"; none if a name is not known.
bool parse_faults(std::string_view text, uint32_t& faults);
std::string fault_names(uint32_t faults);

// How many masters the cluster of this seed has.
size_t masters_of(uint64_t seed);

struct WorkloadOptions {
  size_t masters = 0;        // 0: masters_of(seed)
  uint32_t operations = 60;  // of each worker; two workers a mount
  uint32_t faults = default_faults();
  std::function<void(std::string_view)> story;  // a line for each operation and fault
  bool events = false;                          // and for each event of the simulator
};

struct RunResult {
  std::string failure;  // empty: all is well
  uint64_t trace_hash = 0;
  uint64_t operations = 0;
  uint64_t faults = 0;
  uint64_t events = 0;
  uint64_t errors = 0;   // operations that failed where they may
  uint64_t changes = 0;  // of who is a master
  size_t masters = 0;
  Duration simulated{};
  Duration longest{};  // operation
};

RunResult run_seed(uint64_t seed, const WorkloadOptions& options);

// Instead: applications on two or three mounts with kernels (kernel_run.h), on a few names and files. Of the faults
// those that have to do with a mount and its master are made.
RunResult run_kernel_seed(uint64_t seed, const WorkloadOptions& options);

}  // namespace cairn
