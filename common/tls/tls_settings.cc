#include "common/tls/tls_settings.h"

#include <charconv>
#include <filesystem>
#include <pwd.h>
#include <unistd.h>
#include <utility>

#include "common/base/log.h"
#include "common/tls/certificate.h"
#include "common/tls/tls_transport.h"

namespace cairn {

namespace {

Result<uint32_t> user_of(const std::string& text) {
  uint32_t number = 0;
  auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failed == std::errc() && end == text.data() + text.size()) return number;
  const passwd* entry = ::getpwnam(text.c_str());
  if (entry == nullptr) return Error(ErrorCode::kInvalid, "tls.unix_users: there is no user '" + text + "'");
  return static_cast<uint32_t>(entry->pw_uid);
}

std::optional<TlsFiles> find_files_of(const std::string& folder, PeerRole role) {
  std::string base = folder + "/" + std::string(to_string(role));
  std::error_code ignored;
  if (folder.empty() || !std::filesystem::exists(base + ".crt", ignored)) return std::nullopt;
  return TlsFiles{.ca = folder + "/ca.crt", .certificate = base + ".crt", .key = base + ".key"};
}

Result<std::optional<TlsFiles>> choose_files(const TlsSettings& settings, PeerRole role,
                                             const std::vector<std::string>& folders) {
  std::optional<TlsFiles> chosen;
  if (settings.mode == "off") return chosen;
  bool some = !settings.ca.empty() || !settings.certificate.empty() || !settings.key.empty();
  bool all = !settings.ca.empty() && !settings.certificate.empty() && !settings.key.empty();
  if (some && !all)
    return Error(ErrorCode::kInvalid, "tls.ca, tls.certificate and tls.key belong together: set all three");
  if (all) {
    chosen = TlsFiles{.ca = settings.ca, .certificate = settings.certificate, .key = settings.key};
    return chosen;
  }
  std::string looked_in;
  for (const std::string& folder : folders) {
    if (!chosen) chosen = find_tls_files(folder, role);
    looked_in += folder + ", ";
  }
  if (!chosen) chosen = find_tls_files(kSystemTlsFolder, role);
  if (chosen || settings.mode != "on") return chosen;
  PeerRole wanted = role == PeerRole::kAdmin ? PeerRole::kClient : role;
  return Error(ErrorCode::kNotFound, "tls.mode is \"on\", and there is no " + std::string(to_string(wanted)) +
                                         ".crt in " + looked_in + kSystemTlsFolder +
                                         ": make one with `cairn cluster issue`");
}

}  // namespace

void add_tls_keys(ConfigScheme& scheme, TlsSettings* settings) {
  scheme.section("tls",
                 "Encryption, and proof of who is there, between the parts. `cairn cluster init` makes certificates.");
  scheme.text("tls.mode", &settings->mode, {.one_of = {"auto", "on", "off"}},
              "auto: on if there are certificates, else only for addresses of this machine. off: everything in clear.");
  scheme.text("tls.ca", &settings->ca, {},
              "Certificate of the cluster's authority; empty: ca.crt in tls/ beside the data, or in /etc/cairn/tls.");
  scheme.text("tls.certificate", &settings->certificate, {}, "Certificate of this server; empty: as tls.ca.");
  scheme.text("tls.key", &settings->key, {}, "Its private key; empty: as tls.ca.");
  scheme.text("tls.data", &settings->data, {.one_of = {"encrypted", "authenticated"}},
              "authenticated: file data is protected against changes and not hidden, if the other side says so, too.");
  scheme.list("tls.unix_users", &settings->unix_users, {},
              "Users (names or numbers) who may use Unix sockets besides root and this server's own.");
}

std::optional<TlsFiles> find_tls_files(const std::string& folder, PeerRole role) {
  if (role == PeerRole::kAdmin) {
    // Who may not read the administrator's key looks as a client.
    std::optional<TlsFiles> admin = find_files_of(folder, PeerRole::kAdmin);
    return admin && ::access(admin->key.c_str(), R_OK) == 0 ? admin : find_files_of(folder, PeerRole::kClient);
  }
  return find_files_of(folder, role);
}

std::string tls_folder_beside(const std::string& data_folder) {
  std::filesystem::path path = std::filesystem::path(data_folder).lexically_normal();
  if (!path.has_filename()) path = path.parent_path();
  return (path.parent_path() / "tls").string();
}

Result<std::shared_ptr<Credentials>> use_tls(RealWorld& world, const TlsSettings& settings, PeerRole role,
                                             const std::vector<std::string>& folders) {
  std::vector<uint32_t> users;
  for (const std::string& text : settings.unix_users) {
    Result<uint32_t> user = user_of(text);
    if (!user) return user.error();
    users.push_back(*user);
  }
  world.allow_unix_users(std::move(users));
  Result<std::optional<TlsFiles>> files = choose_files(settings, role, folders);
  if (!files) return files.error();
  std::shared_ptr<Credentials> credentials;
  if (*files) {
    Result<std::shared_ptr<Credentials>> loaded = Credentials::load(std::move(**files), role, world.clock().wall());
    if (!loaded) return loaded.error();
    credentials = std::move(*loaded);
    log_info("tls.on", "identity={} certificate={} expires={} data={}", to_string(credentials->identity()),
             cairn::quoted(credentials->files().certificate), cairn::quoted(date_of(credentials->expires())),
             settings.data);
  }
  TlsOptions options;
  options.clear_anywhere = settings.mode == "off";
  options.authenticated_data = settings.data == "authenticated";
  world.use_transport(
      make_tls_transport(world.executor(), world.clock(), world.plain_transport(), credentials, options));
  return credentials;
}

}  // namespace cairn
