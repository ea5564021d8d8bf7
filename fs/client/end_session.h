// end_session: ends the session of a client whose process has died, for whoever saw it die: nobody waits any longer for
// the dead one's leases, and what it held open goes. No session of its own is needed.
#pragma once

#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/runtime/world.h"

namespace cairn {

// The masters as the client was told; the others are learned. kUnavailable if none leads within `limit`; then the
// session ends by itself, when its time is over.
Task<Result<void>> end_session(World& world, std::vector<Address> masters, SessionId session, Duration limit);

}  // namespace cairn
