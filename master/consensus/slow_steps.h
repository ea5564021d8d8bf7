// SlowSteps: a line in the log when a step that everybody waits for (a group of the log made durable, an entry applied)
// took long: what to look at when clients saw a pause. Not each one gets a line.
//
// For one thread. Clock outlives it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string_view>

#include "common/base/log.h"
#include "common/runtime/clock.h"

namespace cairn {

class SlowSteps {
 public:
  SlowSteps(Clock& clock, std::string_view step) : clock_(clock), step_(step) {}

  TimePoint begin() const { return clock_.now(); }
  // `size`: of the step, in its own measure: bytes, commands.
  void end(TimePoint begun, uint64_t size) {
    const TimePoint now = clock_.now();
    if (now - begun < kSlow) return;
    ++unreported_;
    longest_ = std::max(longest_, now - begun);
    if (reported_ != TimePoint{} && now - reported_ < kReportInterval) return;
    log_warning("master.slow", "step={} ms={} size={} longest_ms={} slow_steps={}", step_, (now - begun) / 1ms, size,
                longest_ / 1ms, unreported_);
    reported_ = now;
    unreported_ = 0;
    longest_ = {};
  }

 private:
  static constexpr Duration kSlow = std::chrono::milliseconds(50);
  static constexpr Duration kReportInterval = std::chrono::seconds(10);

  Clock& clock_;
  const std::string_view step_;
  uint64_t unreported_ = 0;  // since the last line
  Duration longest_{};       // of those
  TimePoint reported_{};
};

}  // namespace cairn
