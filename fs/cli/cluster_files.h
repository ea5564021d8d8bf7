// The folder of a cluster's authority, and folders of certificates: what `cairn cluster` and `cairn local up` make.
//
// DIR/ca.crt and DIR/ca.key are the authority; DIR/issued/ROLE-NAME/ has ca.crt, ROLE.crt and ROLE.key, as a machine
// wants them in /etc/cairn/tls. Keys can be read by their owner only. Blocking; for commands.
#pragma once

#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/runtime/transport.h"
#include "common/tls/certificate.h"

namespace cairn {

inline constexpr uint32_t kAuthorityDays = 20 * 365;
inline constexpr uint32_t kCertificateDays = 2 * 365;

// A new authority in `folder`. `cluster` zero: a new id is drawn. kExists unless `force`: what the old one has issued is
// worth nothing then.
Result<ClusterId> make_authority_folder(const std::string& folder, ClusterId cluster, bool force);
// Issues into `out` (empty: DIR/issued/ROLE-NAME). Gives the folder.
Result<std::string> issue_into_folder(const std::string& authority, PeerRole role, const std::string& name,
                                      uint32_t days, std::string out, bool force);

struct CertificateFile {
  std::string path;
  CertificateInfo info;
};
// All certificates in a folder and below it, or those of one file.
Result<std::vector<CertificateFile>> find_certificates(const std::string& path);

// ---- local clusters

// Makes the certificates of a cluster on this machine: an authority, and one for each role.
Result<void> make_local_certificates(const std::string& folder);
// Commands and mounts that name `master` find their certificate in `folder` from now on (until the machine restarts).
void remember_certificates(const std::string& master, const std::string& folder);
// Where commands and mounts look for theirs: $CAIRN_TLS_DIR, what is remembered of one of the masters, ~/.config/cairn/tls.
std::vector<std::string> client_tls_folders(const std::vector<Address>& masters);

}  // namespace cairn
