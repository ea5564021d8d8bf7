// The worlds that a suite runs on: one body of tests, the real thing and the simulated one.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "common/runtime/task.h"
#include "common/runtime/world.h"

namespace cairn {

class TestWorld {
 public:
  virtual ~TestWorld() = default;
  virtual World& world() = 0;
  // Runs the task until it returns.
  virtual void run(Task<void> body) = 0;
  // An address to listen on that no other test uses.
  virtual std::string listen_address() = 0;
};

std::unique_ptr<TestWorld> make_real_test_world();  // TCP
std::unique_ptr<TestWorld> make_unix_test_world();  // the same with Unix sockets
std::unique_ptr<TestWorld> make_tls_test_world();   // TCP with TLS, both ends chunkservers
std::unique_ptr<TestWorld> make_authenticated_test_world();  // the same with what is sent authenticated only
std::unique_ptr<TestWorld> make_sim_test_world();   // one simulated node, which talks to itself

}  // namespace cairn
