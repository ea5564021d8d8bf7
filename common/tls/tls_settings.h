// What a program is told about TLS ([tls] in its configuration), where its certificate is found if it is not told, and
// putting both to use. Reads files; for the start of a program.
//
// A folder of certificates has ca.crt, and ROLE.crt and ROLE.key for each role that runs with it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/config.h"
#include "common/base/result.h"
#include "common/runtime/real_world.h"
#include "common/tls/credentials.h"

namespace cairn {

struct TlsSettings {
  std::string mode = "auto";  // "auto": on if there are certificates; "on"; "off"
  std::string ca, certificate, key;
  std::string data = "encrypted";  // or "authenticated": what goes to and from chunkservers, if both sides say so
  std::vector<std::string> unix_users;
};

inline constexpr const char* kSystemTlsFolder = "/etc/cairn/tls";

// Declares tls.* in a server's configuration.
void add_tls_keys(ConfigScheme& scheme, TlsSettings* settings);

// The role's files in a folder; nothing if its certificate is not there. For kAdmin a client's do when there are none
// of an administrator that can be read: what a command may change then is up to the servers.
std::optional<TlsFiles> find_tls_files(const std::string& folder, PeerRole role);

// Makes world.transport() what the settings say. Certificates that are not named are looked for in `folders`, then in
// /etc/cairn/tls. Gives what is used; null: no TLS. kInvalid for settings that contradict each other, kNotFound,
// kAccess and kUnauthorized (credentials.h) name the file.
Result<std::shared_ptr<Credentials>> use_tls(RealWorld& world, const TlsSettings& settings, PeerRole role,
                                             const std::vector<std::string>& folders);

// The folder "tls" beside a data folder.
std::string tls_folder_beside(const std::string& data_folder);

}  // namespace cairn
