// Credentials: this program's certificate, its key and its cluster's authority, from three files, and again when the
// files have changed: a new certificate needs no restart. Connections that exist keep what they were made with.
//
// Loop thread only (or before there is a loop).
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/runtime/clock.h"
#include "common/runtime/peer_identity.h"

namespace cairn {

struct TlsFiles {
  std::string ca;  // certificates of the authority; several while it is replaced
  std::string certificate;
  std::string key;
};

// A certificate or a key as it is on disk. An empty file is an error.
Result<std::string> read_pem_file(const std::string& path);

// What one version of the files gives. Shared by the connections that it began; OpenSSL's context is inside.
struct TlsContext;

class Credentials {
 public:
  // kNotFound and the like name the file; kUnauthorized: what is in them does not fit together, is of another role, has
  // expired, or the key can be read by everybody.
  static Result<std::shared_ptr<Credentials>> load(TlsFiles files, PeerRole role, WallTime now);

  const PeerIdentity& identity() const;
  WallTime expires() const;
  // kUnauthorized, with the file and the date, when it has run out: no new connection is made with it.
  Result<void> still_valid(WallTime now) const;
  // For people, from kWarnBefore its end on; else empty.
  std::string warning(WallTime now) const;
  const TlsFiles& files() const { return files_; }

  // The newest that could be loaded. Looks at the files once in a while (kLookEvery), and says in the log when the
  // certificate runs out soon. What cannot be loaded is said there, too, and changes nothing.
  std::shared_ptr<const TlsContext> current(WallTime now);
  // Now, whatever the time of the last look (SIGHUP).
  void reload(WallTime now);

  static constexpr Duration kLookEvery = std::chrono::seconds(2);
  static constexpr Duration kWarnBefore = std::chrono::hours(24 * 30);
  static constexpr Duration kWarnEvery = std::chrono::hours(24);

 private:
  // Of each file: when it was changed and which it is.
  using Stamp = std::array<std::array<int64_t, 3>, 3>;
  Credentials(TlsFiles files, PeerRole role) : files_(std::move(files)), role_(role) {}
  Result<std::shared_ptr<const TlsContext>> read(WallTime now) const;
  Stamp stamp() const;
  void warn_if_soon(WallTime now);

  TlsFiles files_;
  PeerRole role_;
  std::shared_ptr<const TlsContext> context_;
  Stamp loaded_{};
  WallTime looked_;
  WallTime warned_;
  bool warned_expired_ = false;
};

}  // namespace cairn
