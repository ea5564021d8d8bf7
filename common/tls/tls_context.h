// TlsContext: OpenSSL's context for one version of the credentials. Internal to common/tls.
#pragma once

#include "common/tls/openssl.h"

namespace cairn {

struct TlsContext {
  ContextPtr ssl;
  PeerIdentity identity;
  WallTime not_after;
};

// The names under which both ends agree on what follows the handshake (ALPN): records of TLS, or frames that are only
// authenticated.
inline constexpr std::string_view kProtocolEncrypted = "cairn/1";
inline constexpr std::string_view kProtocolAuthenticated = "cairn-authenticated/1";

}  // namespace cairn
