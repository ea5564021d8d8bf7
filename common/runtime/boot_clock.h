// The operating system's clocks. Thread-safe. Only the real loop reads them; everybody else has a Clock.
#pragma once

#include "common/runtime/clock.h"

namespace cairn {

TimePoint boot_time_now();  // CLOCK_BOOTTIME
WallTime wall_time_now();   // CLOCK_REALTIME

}  // namespace cairn
