// What /proc says of a thread that waits for this mount. The signals that wait for it: whether it is being killed (the
// kernel tells a filesystem that a signal came, and not which). And its capabilities. Stateless.
#pragma once

#include <string_view>

namespace cairn {

enum class CallerState {
  kWaits,        // nothing, or signals that it handles and goes on after (timers, children, ...)
  kAskedToStop,  // SIGINT, SIGTERM, SIGQUIT or SIGHUP, which it handles, or which leave a core
  kKilled,       // it ends as soon as it has an answer; it will never see it. Or it has ended
};

// capabilities(7): whether it has this one now. False if that cannot be known.
bool has_capability(int thread, int capability);

// 0: unknown, as one that was asked to stop.
CallerState caller_state(int thread);
// From /proc/THREAD/status.
CallerState caller_state_of(std::string_view status);

}  // namespace cairn
