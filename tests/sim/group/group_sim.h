// A simulated group of masters (three or five) under random faults, from a seed: crashes with and without loss of what
// was not synced, pauses, partitions, lost, doubled and overtaken messages, clocks that run wrong, checkpoints, changes
// of the group. At the end everything is mended, and the history is checked.
#pragma once

#include <cstdint>
#include <string>

#include "common/runtime/clock.h"

namespace cairn {

struct GroupOptions {
  size_t masters = 3;
  uint32_t faults = 25;
  bool story = false;  // print each fault
};

struct GroupResult {
  std::string failure;  // empty: all is well
  uint64_t commands = 0;
  uint64_t reads = 0;
  uint64_t changes = 0;  // of the group
  Duration simulated{};
  uint64_t events = 0;
  uint64_t trace_hash = 0;
};

GroupResult run_group_seed(uint64_t seed, const GroupOptions& options);

}  // namespace cairn
