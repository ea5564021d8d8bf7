#include "common/runtime/boot_clock.h"

#include <time.h>

namespace cairn {

namespace {
Duration read_clock(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
}
}  // namespace

TimePoint boot_time_now() {
  return TimePoint(read_clock(CLOCK_BOOTTIME));
}

WallTime wall_time_now() {
  return WallTime{read_clock(CLOCK_REALTIME).count()};
}

}  // namespace cairn
