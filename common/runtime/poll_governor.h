// PollGovernor decides whether a loop that has run out of work polls for a while before it sleeps. Polling saves the
// waking of a sleeping core (about 50 us) when work comes soon, and burns a core when it does not, or when somebody
// else wants that core. Pure: time arrives as an argument. Not thread-safe.
#pragma once

#include <cstdint>

#include "common/runtime/clock.h"

namespace cairn {

class PollGovernor {
 public:
  explicit PollGovernor(Duration poll) : poll_(poll) {}

  // How long to poll now; zero: sleep at once.
  Duration budget(TimePoint now) const;
  void found_work();
  void missed(TimePoint now);
  // The thread lost its core while it polled: all cores are busy.
  void preempted(TimePoint now);

 private:
  // One hit pays for two misses: a loop keeps polling while at least a third of its polls find work.
  static constexpr int kHit = 2;
  static constexpr int kScoreMax = 16;
  static constexpr int kScoreTrial = 2;  // after a pause: two misses end it again
  static constexpr Duration kPauseMin = std::chrono::milliseconds(1);
  static constexpr Duration kPauseMax = std::chrono::milliseconds(64);
  static constexpr Duration kPreemptedPauseMin = std::chrono::milliseconds(16);

  void pause(TimePoint now, Duration at_least);

  Duration poll_;
  int score_ = kScoreMax / 2;
  Duration pause_ = kPauseMin;
  TimePoint paused_until_{};
};

}  // namespace cairn
