#include "fs/cli/masters.h"

#include <cstdlib>
#include <filesystem>

#include "fs/cli/cluster_files.h"
#include "fs/cli/local_cluster.h"
#include "fs/cli/mount_tools.h"
#include "fs/fuse/kernel_mount.h"

namespace cairn {

Result<std::vector<Address>> parse_masters(const std::string& text) {
  std::vector<Address> out;
  for (size_t begin = 0; begin <= text.size();) {
    size_t end = std::min(text.find(',', begin), text.size());
    Result<Address> address = parse_address(text.substr(begin, end - begin));
    if (!address)
      return Error(ErrorCode::kInvalid, "'" + text.substr(begin, end - begin) + "' is no address: HOST:PORT is wanted");
    out.push_back(std::move(*address));
    begin = end + 1;
  }
  return out;
}

std::string to_text(const std::vector<Address>& masters) {
  std::string out;
  for (const Address& master : masters) {
    std::string text = to_string(master);
    if (text.starts_with("tcp:")) text.erase(0, 4);
    out += (out.empty() ? "" : ",") + text;
  }
  return out;
}

namespace {
// What the mount's process knows by now, if it says so; else what it was mounted with.
std::string masters_of_mount(const KernelMount& mount) {
  Result<MountRecord> record = find_mount(*make_command_disk(), mount.mountpoint);
  return record && !record->masters.empty() ? record->masters : masters_of_source(mount.source);
}
}  // namespace

Result<OnMount> mount_of(const std::string& path) {
  std::error_code failed;
  std::filesystem::path absolute = std::filesystem::weakly_canonical(path, failed);
  if (failed) absolute = std::filesystem::absolute(path, failed);
  OnMount best;
  for (const KernelMount& mount : kernel_mounts()) {
    std::string prefix = mount.mountpoint == "/" ? "/" : mount.mountpoint + "/";
    bool on = absolute.string() == mount.mountpoint || absolute.string().starts_with(prefix);
    if (on && mount.mountpoint.size() >= best.mountpoint.size()) {
      best = {.mountpoint = mount.mountpoint, .masters = masters_of_mount(mount)};
    }
  }
  if (best.mountpoint.empty()) return Error(ErrorCode::kNotFound, path + " is not on a Cairn mount");
  return best;
}

Result<std::vector<Address>> find_masters(const std::string& given, const std::string& path) {
  if (!given.empty()) return parse_masters(given);
  const char* environment = std::getenv("CAIRN_MASTERS");
  if (environment != nullptr && environment[0] != '\0') return parse_masters(environment);
  if (!path.empty()) {
    Result<OnMount> mount = mount_of(path);
    if (mount) return parse_masters(mount->masters);
    return mount.error();
  }
  std::vector<KernelMount> mounts = kernel_mounts();
  if (!mounts.empty()) return parse_masters(masters_of_mount(mounts.front()));
  Result<LocalCluster> local = LocalCluster::load(default_local_folder());
  if (local) return parse_masters(local->masters());
  return Error(ErrorCode::kNotFound, "no cluster is named: use --master HOST:PORT or set CAIRN_MASTERS");
}

TlsSettings client_tls_settings() {
  TlsSettings settings;
  const char* mode = std::getenv("CAIRN_TLS");
  if (mode != nullptr && mode[0] != '\0') settings.mode = mode;
  return settings;
}

Result<std::shared_ptr<Credentials>> use_client_tls(RealWorld& world, const std::vector<Address>& masters) {
  std::shared_ptr<Credentials> used;
  if (&world.transport() != &world.plain_transport()) return used;
  TlsSettings settings = client_tls_settings();
  if (settings.mode != "auto" && settings.mode != "on" && settings.mode != "off")
    return Error(ErrorCode::kInvalid, "CAIRN_TLS is '" + settings.mode + "'; it may be auto, on or off");
  return use_tls(world, settings, PeerRole::kAdmin, client_tls_folders(masters));
}

int run_on_loop(std::function<Task<int>(RealWorld&)> body) {
  std::unique_ptr<RealWorld> world = RealWorld::make({});
  RealWorld& real = *world;
  return real.run(body(real));
}

}  // namespace cairn
