// TlsTransport: the network of a Cairn program: TLS 1.3 with both sides' certificates over TCP where this program has a
// certificate. Unix sockets go as they are: the kernel tells who connects (common/runtime/tcp_transport). Without a
// certificate TCP goes in clear on this machine only, unless that was asked for by name.
//
// Loop thread only. The loop's parts and the plain transport outlive it and everything made by it.
#pragma once

#include <memory>

#include "common/runtime/executor.h"
#include "common/runtime/transport.h"
#include "common/tls/credentials.h"

namespace cairn {

struct TlsOptions {
  // Without a certificate: also to and from other machines in clear (tls.mode = "off").
  bool clear_anywhere = false;
  // Connections to and from chunkservers may carry their bytes authenticated and not encrypted, if the other side says
  // so, too.
  bool authenticated_data = false;
  // From the accepted connection to the end of its handshake.
  Duration handshake_time = std::chrono::seconds(5);
  // Handshakes under way at the same time on one listener; beyond it the oldest is given up.
  size_t handshakes_max = 256;
};

// `credentials` null: this program has none.
std::unique_ptr<Transport> make_tls_transport(Executor& executor, Clock& clock, Transport& plain,
                                              std::shared_ptr<Credentials> credentials, TlsOptions options);

// "localhost", 127.0.0.0/8, ::1, and Unix sockets: nobody else can listen in.
bool stays_on_this_machine(const Address& address);

}  // namespace cairn
