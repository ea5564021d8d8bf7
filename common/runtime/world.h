// World: the seams of one process (or of one simulated process), handed down from main. It outlives everything built on it.
#pragma once

#include <memory>
#include <string>

#include "common/base/metrics.h"
#include "common/base/random.h"
#include "common/runtime/blocking_pool.h"
#include "common/runtime/clock.h"
#include "common/runtime/disk.h"
#include "common/runtime/executor.h"
#include "common/runtime/transport.h"

namespace cairn {

class World {
 public:
  virtual ~World() = default;
  virtual Executor& executor() = 0;
  virtual Clock& clock() = 0;
  virtual Random& random() = 0;
  virtual Disk& disk() = 0;
  virtual Transport& transport() = 0;
  // Without TLS, for what others than Cairn read (/metrics), whatever transport() does.
  virtual Transport& plain_transport() { return transport(); }
  virtual Metrics& metrics() = 0;
  virtual std::unique_ptr<BlockingPool> make_pool(std::string name, size_t threads) = 0;
  // A number that changes when the machine (not the process) restarts: /proc/sys/kernel/random/boot_id.
  virtual std::string boot_id() = 0;
};

}  // namespace cairn
