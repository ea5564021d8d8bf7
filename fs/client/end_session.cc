#include "fs/client/end_session.h"

#include <utility>

#include "common/proto/methods.h"
#include "fs/client/leader_finder.h"

namespace cairn {

Task<Result<void>> end_session(World& world, std::vector<Address> masters, SessionId session, Duration limit) {
  LeaderFinder finder(world, masters, "cairn-guardian");
  finder.start();
  TimePoint deadline = world.clock().now() + limit;
  Result<void> ended = Error(ErrorCode::kUnavailable);
  for (;;) {
    Result<EmptyReply> closed = co_await finder.ask_once(CloseSessionRequest{.session = session}, deadline);
    ended = closed ? Result<void>() : Result<void>(closed.error());
    if (closed || !is_masters_trouble(closed.error().code) || world.clock().now() >= deadline) break;
  }
  co_await finder.stop();
  co_return ended;
}

}  // namespace cairn
