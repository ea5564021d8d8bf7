// Frames that are authenticated and not encrypted, after a TLS handshake that proved who is there: for bulk data where
// secrecy of the network does not matter (tls.data = "authenticated"). Internal to common/tls. Loop thread only.
//
// A frame is: length (4 bytes, little-endian, 1 to kFrameBytesMax), the bytes, a tag of 16 bytes. The tag is
// AES-128-GMAC (GCM without plain text, NIST SP 800-38D) over length and bytes. Its nonce is the frame's number in its
// direction, from 0, as 96 bits, exclusive-or'ed with the direction's salt (as TLS 1.3 does, RFC 8446, 5.3): a frame
// that is altered, left out, repeated or moved ends the connection. Keys and salts come from the handshake's exporter,
// one of each a direction. docs/formats.md has it too.
#pragma once

#include <memory>

#include "common/runtime/transport.h"
#include "common/tls/tls_session.h"

namespace cairn {

// `session` has finished its handshake; what it has received beyond that is the beginning of the frames.
Result<std::unique_ptr<Stream>> make_authenticated_stream(std::shared_ptr<Stream> plain, TlsSession& session,
                                                          TlsSession::Side side);

}  // namespace cairn
