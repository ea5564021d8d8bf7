// LocalCluster: a whole cluster on this machine, in one folder: masters and chunkservers as real processes on loopback.
//
// The folder: local.conf (ports, each chosen once), config/*.toml, tls/ (its certificates, which the servers find beside
// their data), master/, master-2/ and so on, chunks-N/, log/, run/*.pid. Blocking; for commands.
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
  // Loads, or makes one with free ports and one master.
  static Result<LocalCluster> load_or_make(const std::string& folder, uint32_t chunkservers);
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
  // Of all masters: "127.0.0.1:9400,127.0.0.1:9402".
  std::string masters() const;
  size_t master_count() const { return master_ports_.size(); }
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
  std::string master_address(size_t i) const { return "127.0.0.1:" + std::to_string(master_ports_[i]); }
  static std::string master_name(size_t i) { return i == 0 ? "master" : "master-" + std::to_string(i + 1); }
  Result<void> start(const Program& program) const;
  Result<void> wait_for_servers(const Say& say) const;
  Result<void> add_masters(const Say& say) const;
  std::string pid_file(const std::string& name) const { return folder_ + "/run/" + name + ".pid"; }

  std::string folder_;
  uint32_t chunkservers_ = 3;
  std::vector<uint16_t> master_ports_;
  std::vector<uint16_t> server_ports_;
};

// The program of that name beside this one, else in $PATH. kNotFound.
Result<std::string> find_program(const std::string& name);

}  // namespace cairn
