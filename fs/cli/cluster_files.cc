#include "fs/cli/cluster_files.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "common/base/random.h"
#include "common/runtime/boot_clock.h"
#include "common/runtime/real_world.h"
#include "common/tls/credentials.h"
#include "fs/cli/masters.h"
#include "fs/fuse/mount_registry.h"

namespace cairn {

namespace {

namespace stdfs = std::filesystem;

Result<void> make_folder(const std::string& folder) {
  std::error_code failed;
  stdfs::create_directories(folder, failed);
  if (failed) return Error(from_errno(failed.value()), "making " + folder + ": " + failed.message());
  return {};
}

// Never over a file that is there; with `force` in its place at once, so that no reader sees a half.
Result<void> write_file(const std::string& path, const std::string& text, bool force) {
  std::string target = force ? path + ".new" : path;
  if (force) ::unlink(target.c_str());
  int fd = ::open(target.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0 && errno == EEXIST) return Error(ErrorCode::kExists, path + " is there already; --force replaces it");
  if (fd < 0) return errno_error("making " + path);
  size_t written = 0;
  while (written < text.size()) {
    ssize_t count = ::write(fd, text.data() + written, text.size() - written);
    if (count <= 0) break;
    written += static_cast<size_t>(count);
  }
  Result<void> result;
  if (written != text.size() || ::fsync(fd) != 0) result = errno_error("writing " + path);
  ::close(fd);
  if (result && force && ::rename(target.c_str(), path.c_str()) != 0) result = errno_error("replacing " + path);
  if (!result) ::unlink(target.c_str());
  return result;
}

std::string remembered_folder() {
  return mount_run_folder() + "/clusters";
}

}  // namespace

Result<ClusterId> make_authority_folder(const std::string& folder, ClusterId cluster, bool force) {
  if (!cluster) cluster = ClusterId(make_system_random()->next_id());
  Result<KeyPair> authority = make_authority(cluster, wall_time_now(), kAuthorityDays);
  if (!authority) return authority.error();
  Result<void> made = make_folder(folder);
  for (const char* name : {"/ca.key", "/ca.crt"}) {
    if (made && !force && stdfs::exists(folder + name))
      return Error(ErrorCode::kExists, folder + name +
                                           " is there already: this is a cluster's authority. --force makes "
                                           "a new one, and every certificate of the old one worthless");
  }
  if (made) made = write_file(folder + "/ca.key", authority->key, force);
  if (made) made = write_file(folder + "/ca.crt", authority->certificate, force);
  if (!made) return made.error();
  return cluster;
}

Result<std::string> issue_into_folder(const std::string& authority, PeerRole role, const std::string& name,
                                      uint32_t days, std::string out, bool force) {
  Result<std::string> certificate = read_pem_file(authority + "/ca.crt");
  if (!certificate) return certificate.error().in("the authority (made with `cairn cluster init`)");
  Result<std::string> key = read_pem_file(authority + "/ca.key");
  if (!key) return key.error().in("the authority's key");
  KeyPair issuer{.certificate = *certificate, .key = std::move(*key)};
  Result<KeyPair> issued = issue_certificate(issuer, role, name, wall_time_now(), days);
  if (!issued) return issued.error();
  std::string role_name(to_string(role));
  if (out.empty()) out = authority + "/issued/" + role_name + "-" + name;
  Result<void> written = make_folder(out);
  for (const char* end : {".key", ".crt"}) {
    if (written && !force && stdfs::exists(out + "/" + role_name + end))
      return Error(ErrorCode::kExists, out + "/" + role_name + end + " is there already; --force replaces it");
  }
  // The key first: whoever looks for the certificate finds both.
  if (written) written = write_file(out + "/" + role_name + ".key", issued->key, force);
  if (written) written = write_file(out + "/" + role_name + ".crt", issued->certificate, force);
  std::error_code ignored;
  bool in_place = stdfs::equivalent(out, authority, ignored);
  if (written && !in_place) written = write_file(out + "/ca.crt", *certificate, true);
  if (!written) return written.error();
  return out;
}

Result<std::vector<CertificateFile>> find_certificates(const std::string& path) {
  std::vector<std::string> files;
  std::error_code failed;
  if (stdfs::is_directory(path, failed)) {
    for (const auto& entry : stdfs::recursive_directory_iterator(path, failed)) {
      if (entry.path().extension() == ".crt") files.push_back(entry.path().string());
    }
    if (failed) return Error(from_errno(failed.value()), path + ": " + failed.message());
  } else {
    files.push_back(path);
  }
  std::ranges::sort(files);
  std::vector<CertificateFile> out;
  for (const std::string& file : files) {
    Result<std::string> text = read_pem_file(file);
    if (!text) return text.error();
    Result<std::vector<CertificateInfo>> infos = read_certificates(*text);
    if (!infos) return infos.error().in(file);
    for (CertificateInfo& info : *infos)
      out.push_back({.path = file, .info = std::move(info)});
  }
  if (out.empty()) return Error(ErrorCode::kNotFound, path + ": no certificate (*.crt) is here");
  return out;
}

Result<void> make_local_certificates(const std::string& folder) {
  // A whole authority is there already: of a making that was interrupted later, or of a cluster that runs.
  bool made = stdfs::exists(folder + "/ca.crt") && stdfs::exists(folder + "/ca.key");
  if (!made) {
    Result<ClusterId> authority = make_authority_folder(folder, {}, true);
    if (!authority) return authority.error();
  }
  // As long as the cluster: nobody is to notice that there are certificates.
  for (PeerRole role : {PeerRole::kMaster, PeerRole::kChunkserver, PeerRole::kClient, PeerRole::kAdmin}) {
    if (made && stdfs::exists(folder + "/" + std::string(to_string(role)) + ".crt")) continue;
    Result<std::string> issued = issue_into_folder(folder, role, "local", kAuthorityDays, folder, true);
    if (!issued) return issued.error();
  }
  return {};
}

void remember_certificates(const std::string& master, const std::string& folder) {
  std::error_code ignored;
  std::string link = remembered_folder() + "/" + master;
  stdfs::create_directories(remembered_folder(), ignored);
  stdfs::remove(link, ignored);
  stdfs::create_symlink(stdfs::absolute(folder), link, ignored);
}

std::vector<std::string> client_tls_folders(const std::vector<Address>& masters) {
  std::vector<std::string> out;
  const char* given = std::getenv("CAIRN_TLS_DIR");
  if (given != nullptr && given[0] != '\0') out.emplace_back(given);
  for (const Address& master : masters) {
    std::error_code failed;
    stdfs::path target = stdfs::read_symlink(remembered_folder() + "/" + to_text({master}), failed);
    if (!failed) out.push_back(target.string());
  }
  const char* home = std::getenv("HOME");
  if (home != nullptr && home[0] != '\0') out.push_back(std::string(home) + "/.config/cairn/tls");
  return out;
}

}  // namespace cairn
