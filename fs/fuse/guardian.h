// Guardian: the small parent process of a mount. When the mount's process dies without a clean end, the guardian ends
// the kernel's connection and takes the mount away, so that nothing hangs on it. It must be another process: a dead one
// whose notification is blocked stays a zombie with the device open, and the mount would hang for ever
// (docs/consistency.md).
//
// Then it has the masters end the dead mount's session, so that nobody waits for its leases until its time is over.
//
// It has one thread and no loop, waits in one place, and passes signals on. If it dies itself, the mount ends cleanly.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "common/base/ids.h"

namespace cairn {

// The mount's side of the pipe to its guardian.
class GuardianLink {
 public:
  explicit GuardianLink(int fd) : fd_(fd) {}
  GuardianLink(const GuardianLink&) = delete;
  GuardianLink& operator=(const GuardianLink&) = delete;

  // From now on the connection is to be ended if this process dies...
  void mounted(uint32_t device_minor);
  // The session with the masters, whenever it is another.
  void session(SessionId session);
  // ...until this: what happens now harms nobody.
  void ended_cleanly();

 private:
  int fd_;
};

// Ends the session of a mount that has died, in bounded time.
using EndSession = std::function<void(SessionId)>;

// Forks; runs `child` in the new process, whose exit status is its value. Gives the status for the guardian's own exit:
// the child's, or 1 if it died. Call it before any thread exists.
int run_guarded(const std::string& mountpoint, const EndSession& end_session,
                const std::function<int(GuardianLink&)>& child);

}  // namespace cairn
