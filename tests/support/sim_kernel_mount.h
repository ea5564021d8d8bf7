// KernelMount: a mount's process with the real fs/fuse in it, served to a SimKernel. For SimClusterOptions::on_mount.
//
//   options.kernels = true;
//   options.on_mount = [&](size_t i, World& world, FileSystem& fs) {
//     return std::make_unique<KernelMount>(world, fs, *cluster.kernel_node(i).program<SimKernel>());
//   };
#pragma once

#include <memory>
#include <string>

#include "fs/fuse/fuse_server.h"
#include "tests/support/sim_cluster.h"
#include "tests/support/sim_kernel.h"

namespace cairn {

class KernelMount final : public MountUser {
 public:
  KernelMount(World& world, FileSystem& file_system, SimKernel& kernel);
  ~KernelMount() override;
  void abandon() override { server_.abandon(); }
  // The notifier has given the connection up: no mount may ever have to.
  bool gave_up() const { return gave_up_; }
  const std::string& failure() const { return failure_; }

 private:
  void serve();

  World& world_;
  FuseServer server_;
  bool gave_up_ = false;
  std::string failure_;
};

}  // namespace cairn
