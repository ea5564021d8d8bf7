// RealWorld: the seams over the operating system, with one Asio loop. main() makes one, builds its program on it and calls run().
//
// The loop polls for up to `poll` after it was last busy before it sleeps: waking a sleeping core costs about 50 us on a virtual machine
// (bench/results.md). Polling switches itself off while it does not pay.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "common/runtime/task.h"
#include "common/runtime/world.h"

namespace cairn {

struct LoopOptions {
  Duration poll = Duration::zero();  // zero: never poll
};

// Since the start, for benchmarks and metrics.
struct LoopCounters {
  uint64_t sleeps = 0;       // waits in epoll
  uint64_t wake_ups = 0;     // by posts of other threads
  uint64_t poll_hits = 0;    // polls that found work
  uint64_t poll_misses = 0;  // polls that ended in a sleep
};

class RealWorld : public World {
 public:
  static std::unique_ptr<RealWorld> make(LoopOptions options);

  // Runs `main` on the loop until it returns; its value is the exit status. Once only.
  virtual int run(Task<int> main) = 0;
  // Completes with the signal's number when SIGINT, SIGTERM or SIGHUP arrives; further ones for further calls.
  virtual Task<int> next_signal() = 0;
  virtual LoopCounters loop_counters() const = 0;
  // From now on transport() is this one, which may use plain_transport() (common/tls). Before anybody uses the network.
  virtual void use_transport(std::unique_ptr<Transport> transport) = 0;
  // Who may connect to Unix sockets besides root and this process's own user.
  virtual void allow_unix_users(std::vector<uint32_t> users) = 0;
  // Tells when `fd` (not owned) is readable, again and again, until the returned handle goes away; used for /dev/fuse. `ready` runs on the loop; it reads
  // until EAGAIN. It is not called while it runs.
  class Watch {
   public:
    virtual ~Watch() = default;
  };
  virtual std::unique_ptr<Watch> watch_readable(int fd, std::function<void()> ready) = 0;
};

}  // namespace cairn
