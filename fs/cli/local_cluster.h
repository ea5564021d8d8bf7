// LocalCluster: a whole cluster on this machine, in one folder: a master and chunkservers as real processes on
// loopback.
//
// The folder: local.conf (ports and number of servers, chosen once), config/*.toml, master/, chunks-N/, log/,
// run/*.pid. Blocking; for commands.
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
  // Loads, or makes one with free ports.
  static Result<LocalCluster> load_or_make(const std::string& folder, uint32_t chunkservers);

  struct Program {
    std::string name;    // "master", "chunkserver-1"
    std::string binary;  // "cairn-master"
    std::string address;
    std::string log_file;
    std::optional<ProcessId> process;  // running
  };
  const std::string& folder() const { return folder_; }
  std::string master_address() const;
  std::vector<Program> programs() const;

  using Say = std::function<void(const std::string&)>;
  // Starts what does not run, and waits until the cluster answers with all its chunkservers. kUnavailable names what
  // did not come, with its last lines.
  Result<void> up(const Say& say);
  // SIGTERM, then SIGKILL after 20 s.
  Result<void> down(const Say& say);

 private:
  Result<void> write_configs() const;
  Result<void> start(const Program& program) const;
  static Task<int> ask_status(RealWorld& world, std::vector<Address> masters, Result<StatusReply>& out);
  std::string pid_file(const std::string& name) const { return folder_ + "/run/" + name + ".pid"; }

  std::string folder_;
  uint32_t chunkservers_ = 3;
  uint16_t master_port_ = 0;
  std::vector<uint16_t> server_ports_;
};

// The program of that name beside this one, else in $PATH. kNotFound.
Result<std::string> find_program(const std::string& name);

}  // namespace cairn
