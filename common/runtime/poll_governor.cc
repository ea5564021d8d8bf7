#include "common/runtime/poll_governor.h"

#include <algorithm>

namespace cairn {

Duration PollGovernor::budget(TimePoint now) const {
  return now < paused_until_ ? Duration::zero() : poll_;
}

void PollGovernor::found_work() {
  score_ = std::min(score_ + kHit, kScoreMax);
  pause_ = kPauseMin;
}

void PollGovernor::missed(TimePoint now) {
  if (--score_ <= 0) pause(now, pause_);
}

void PollGovernor::preempted(TimePoint now) {
  pause(now, std::max(pause_, kPreemptedPauseMin));
}

void PollGovernor::pause(TimePoint now, Duration at_least) {
  paused_until_ = now + at_least;
  pause_ = std::min(at_least * 2, kPauseMax);
  score_ = kScoreTrial;
}

}  // namespace cairn
