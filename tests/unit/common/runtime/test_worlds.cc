#include "test_worlds.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "common/runtime/real_world.h"
#include "common/runtime/sim_world.h"
#include "common/tls/tls_transport.h"
#include "tests/unit/common/tls/test_certificates.h"

namespace cairn {

namespace {

Task<int> as_main(Task<void> body) {
  co_await std::move(body);
  co_return 0;
}

class RealTestWorld : public TestWorld {
 public:
  World& world() override { return *world_; }
  void run(Task<void> body) override { world_->run(as_main(std::move(body))); }
  std::string listen_address() override { return "tcp:127.0.0.1:0"; }

 protected:
  RealWorld& real_world() { return *world_; }

 private:
  std::unique_ptr<RealWorld> world_ = RealWorld::make({});
};

class UnixTestWorld final : public RealTestWorld {
 public:
  UnixTestWorld() {
    std::string name = testing::TempDir() + "cairn-socket-XXXXXX";
    folder_ = ::mkdtemp(name.data());
  }
  ~UnixTestWorld() override { std::filesystem::remove_all(folder_); }
  std::string listen_address() override { return "unix:" + folder_ + "/" + std::to_string(next_++); }

 private:
  std::string folder_;
  int next_ = 0;
};

class TlsTestWorld final : public RealTestWorld {
 public:
  explicit TlsTestWorld(bool authenticated_only) {
    RealWorld& real = real_world();
    real.use_transport(make_tls_transport(real.executor(), real.clock(), real.plain_transport(),
                                          certificates_.credentials(PeerRole::kChunkserver, "one"),
                                          {.authenticated_data = authenticated_only}));
  }

 private:
  TestCertificates certificates_{real_world().clock().wall()};
};

Task<void> and_say_so(Task<void> body, bool* done) {
  co_await std::move(body);
  *done = true;
}

class SimTestWorld final : public TestWorld {
 public:
  SimTestWorld() { node_.start(); }
  World& world() override { return node_; }
  void run(Task<void> body) override {
    bool done = false;
    node_.spawn(and_say_so(std::move(body), &done));
    EXPECT_TRUE(simulator_.run_until([&done] { return done; }, 600s));
  }
  std::string listen_address() override { return "tcp:node:0"; }

 private:
  Simulator simulator_{1};
  SimNode& node_ = simulator_.add_node("node");
};

}  // namespace

std::unique_ptr<TestWorld> make_sim_test_world() {
  return std::make_unique<SimTestWorld>();
}

std::unique_ptr<TestWorld> make_tls_test_world() {
  return std::make_unique<TlsTestWorld>(false);
}

std::unique_ptr<TestWorld> make_authenticated_test_world() {
  return std::make_unique<TlsTestWorld>(true);
}

std::unique_ptr<TestWorld> make_unix_test_world() {
  return std::make_unique<UnixTestWorld>();
}

std::unique_ptr<TestWorld> make_real_test_world() {
  return std::make_unique<RealTestWorld>();
}

}  // namespace cairn
