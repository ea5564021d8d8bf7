// The seam for time. Three kinds of time never mix (docs/consistency.md, "Time"):
//  - TimePoint: CLOCK_BOOTTIME (counts while the machine sleeps); for deadlines, leases, heartbeats. Means nothing on another machine.
//  - WallTime: nanoseconds since 1970; for file times and nothing else.
//  - log time: carried in log entries; see master/.
// Logic never asks std::chrono for a clock; it gets a Clock.
#pragma once

#include <chrono>
#include <compare>
#include <cstdint>
#include <functional>

namespace cairn {

using Duration = std::chrono::nanoseconds;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using std::chrono_literals::operator""us;

struct BootTimeTag {  // only a tag: there is no now()
  using duration = Duration;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<BootTimeTag, Duration>;
  static constexpr bool is_steady = true;
};
using TimePoint = BootTimeTag::time_point;
inline constexpr TimePoint kNever = TimePoint::max();

struct WallTime {
  int64_t ns = 0;
  auto operator<=>(const WallTime&) const = default;
};

class Clock {
 public:
  using TimerId = uint64_t;  // never 0
  virtual ~Clock() = default;

  virtual TimePoint now() const = 0;   // thread-safe
  virtual WallTime wall() const = 0;   // thread-safe

  // Runs `fire` on the loop at `when` or soon after (at once, but not inside this call, if it has passed). On the loop's thread only.
  virtual TimerId call_at(TimePoint when, std::move_only_function<void()> fire) = 0;
  // After this `fire` will not run (and is destroyed). A timer that has fired or an unknown id is ignored.
  virtual void cancel(TimerId timer) = 0;
};

}  // namespace cairn
