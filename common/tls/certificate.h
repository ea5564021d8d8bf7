// The certificates of a cluster: making its authority, issuing to its parts, reading them. Texts in, texts out (PEM);
// files are the caller's. Pure but for the randomness of new keys. OpenSSL is behind it.
//
// A part is known by one URI among the certificate's alternative names, "cairn://CLUSTER/ROLE/NAME"; the authority by
// "cairn://CLUSTER". CLUSTER is the cluster's id, 16 hexadecimal digits. Keys are ECDSA P-256: a handshake signs once
// and verifies twice, which is about 0.2 ms. Servers' certificates may be used by both ends, those of clients by the
// dialling end only (extended key usage). docs/formats.md has the fields.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/clock.h"
#include "common/runtime/peer_identity.h"

namespace cairn {

inline constexpr size_t kPeerNameBytesMax = 64;

// "master", "chunkserver", "client", "admin"
std::string_view to_string(PeerRole role);
Result<PeerRole> parse_role(std::string_view text);
// "cairn://00000000000000ab/master/one"
std::string to_string(const PeerIdentity& identity);
// kInvalid for anything else.
Result<PeerIdentity> parse_identity(std::string_view uri);

struct KeyPair {
  std::string certificate;  // PEM
  std::string key;          // PEM, not encrypted
};

// A new authority. `days` from now on.
Result<KeyPair> make_authority(ClusterId cluster, WallTime now, uint32_t days);
// A new key, and a certificate for it. kInvalid: the name is not one (letters, digits, ".-_"), or the authority is
// none; a certificate never outlives its authority.
Result<KeyPair> issue_certificate(const KeyPair& authority, PeerRole role, const std::string& name, WallTime now,
                                  uint32_t days);

struct CertificateInfo {
  ClusterId cluster;
  std::optional<PeerIdentity> identity;  // none: an authority
  WallTime not_before;
  WallTime not_after;
  std::string serial;  // hexadecimal
};
// All of a PEM text, at least one. kInvalid: not certificates, or not Cairn's.
Result<std::vector<CertificateInfo>> read_certificates(std::string_view pem);

// "2027-03-01 12:00 UTC"
std::string date_of(WallTime time);

}  // namespace cairn
