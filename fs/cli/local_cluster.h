// LocalCluster: a whole cluster on this machine, in one folder: masters and chunkservers as real processes, on Unix
// sockets (the kernel tells who is there, and nothing needs to be encrypted) or on loopback.
//
// The folder: local.conf (addresses, each chosen once), config/*.toml, tls/ (its certificates, which the servers find
// beside their data), master/, master-2/ and so on, chunks-N/, log/, run/*.pid and *.sock. Blocking; for commands.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "common/base/result.h"
#include "common/proto/control_types.h"
#include "common/runtime/real_world.h"
#include "fs/fuse/process_id.h"

namespace cairn {

// /var/lib/cairn/local for root, else ~/.local/share/cairn.
std::string default_local_folder();

class LocalCluster {
 public:
  // kNotFound if no local cluster was ever made there; kNotSupported if another version of Cairn made it.
  static Result<LocalCluster> load(const std::string& folder);
  // Loads, or makes one with one master. `tcp`: new ones listen on free ports of loopback, not on Unix sockets; so they
  // do where the folder's path is too long for the kernel, or has signs that an address cannot have.
  static Result<LocalCluster> load_or_make(const std::string& folder, uint32_t chunkservers, bool tcp);
  // Places for so many masters, if there are fewer; up() starts and adds them.
  Result<void> grow_masters(uint32_t masters);

  struct Program {
    std::string name;    // "master", "master-2", "chunkserver-1"
    std::string binary;  // "cairn-master"
    std::string address;
    std::string log_file;
    std::optional<ProcessId> process;  // running
  };
  const std::string& folder() const { return folder_; }
  // Of all masters, as --master takes them.
  std::string masters() const;
  size_t master_count() const { return masters_.size(); }
  bool on_tcp() const;
  // A mount with that source (kernel_mount.h) is of this cluster, also if it was told only some of its masters.
  bool is_source(const std::string& source) const;
  std::vector<Program> programs() const;

  using Say = std::function<void(const std::string&)>;
  // Starts what does not run, waits until the cluster answers with all its chunkservers, and takes masters into the
  // group that are not yet in it. kUnavailable names what did not come, with its last lines.
  Result<void> up(const Say& say);
  // SIGTERM, then SIGKILL after 20 s.
  Result<void> down(const Say& say);

 private:
  Result<void> write_configs() const;
  Result<void> write_master_config(size_t i) const;
  Result<void> write_conf() const;
  Result<std::string> new_address(const std::string& name, bool tcp) const;
  static std::string master_name(size_t i) { return i == 0 ? "master" : "master-" + std::to_string(i + 1); }
  Result<void> start(const Program& program) const;
  Result<void> wait_for_servers(const Say& say) const;
  Result<void> add_masters(const Say& say) const;
  std::string pid_file(const std::string& name) const { return folder_ + "/run/" + name + ".pid"; }

  std::string folder_;
  std::vector<std::string> masters_;  // addresses
  std::vector<std::string> servers_;
};

// The program of that name beside this one, else in $PATH. kNotFound.
Result<std::string> find_program(const std::string& name);

}  // namespace cairn
