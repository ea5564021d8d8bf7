// The handshake over a connection that exists, and the stream that comes of it. Internal to common/tls. Loop thread
// only.
#pragma once

#include <memory>

#include "common/runtime/transport.h"
#include "common/tls/tls_session.h"

namespace cairn {

// Both sides show their certificates; the one who accepted says that it is content, so that whoever dialled knows the
// outcome. kUnauthorized with the name of the other side and the reason; kTimeout at the deadline; kUnavailable if the
// connection broke. The clock must outlive the task.
Task<Result<std::unique_ptr<Stream>>> secure(Clock* clock, std::shared_ptr<Stream> plain,
                                             std::shared_ptr<const TlsContext> context, TlsSession::Side side,
                                             TlsSession::Wishes wishes, TimePoint deadline);

}  // namespace cairn
