// What a certificate's role opens, and that without certificates nothing is closed. Both ends of the worlds with TLS
// are chunkservers.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc_fixture.h"

namespace cairn {
namespace {

using testing::HasSubstr;

constexpr MethodId kOpenToAll = 21;
constexpr MethodId kForClients = 22;
constexpr MethodId kForAdmins = 23;
constexpr MethodId kForChunkservers = 24;
constexpr MethodId kForMasters = 25;

class RpcRoles : public RpcTest {
 protected:
  // A server with a method for each kind of callers, in place of the fixture's.
  void run_with_roles(Task<void> body) {
    server = std::make_unique<RpcServer>(world, server_options);
    auto add = [this](MethodId method, Callers callers) {
      server->handle(method, "method", [this](RpcRequest) { return answer(); }, callers);
    };
    add(kOpenToAll, Callers::kAnybody);
    add(kForClients, Callers::kClients);
    add(kForAdmins, Callers::kAdmins);
    add(kForChunkservers, Callers::kChunkservers);
    add(kForMasters, Callers::kMasters);
    Result<Address> listening = server->listen(*parse_address(test_world->listen_address()));
    ASSERT_TRUE(listening) << listening.error().message();
    address = *listening;
    start_client();
    test_world->run(whole(std::move(body)));
  }

  Task<void> expect_open(std::vector<MethodId> methods) {
    for (MethodId method : methods) {
      size_t before = handled_;
      Result<RpcMessage> answered = co_await call(method, with_payload(pattern(5000)));
      EXPECT_TRUE(answered) << method << ": " << answered.error().message();
      EXPECT_EQ(handled_, before + 1) << method;
    }
  }
  Task<void> expect_closed(std::vector<MethodId> methods) {
    for (MethodId method : methods) {
      size_t before = handled_;
      Result<RpcMessage> answered = co_await call(method, with_payload(pattern(5000)));
      EXPECT_TRUE(answered.failed_with(ErrorCode::kUnauthorized)) << method;
      if (!answered) EXPECT_THAT(answered.error().context, HasSubstr("method needs"));
      client->post(method, text("without an answer"));
      co_await expect_open({kOpenToAll});
      EXPECT_EQ(handled_, before + 1) << method << ": only the open one has run";
    }
  }
  Task<void> as_a_chunkserver() {
    co_await expect_open({kOpenToAll, kForChunkservers});
    co_await expect_closed({kForClients, kForAdmins, kForMasters});
    co_await expect_open({kForChunkservers});
  }

 private:
  Task<Result<RpcMessage>> answer() {
    ++handled_;
    co_return text("done");
  }

  size_t handled_ = 0;
};

class RolesByCertificate : public RpcRoles {};
TEST_P(RolesByCertificate, OpenTheirMethodsAndNoOthers) {
  run_with_roles(as_a_chunkserver());
}
INSTANTIATE_TEST_SUITE_P(Tls, RolesByCertificate, testing::Values(make_tls_test_world));
INSTANTIATE_TEST_SUITE_P(Authenticated, RolesByCertificate, testing::Values(make_authenticated_test_world));

class WithoutCertificates : public RpcRoles {};
TEST_P(WithoutCertificates, EveryMethodIsOpen) {
  run_with_roles(expect_open({kOpenToAll, kForClients, kForAdmins, kForChunkservers, kForMasters}));
}
CAIRN_RPC_WORLDS(WithoutCertificates);

}  // namespace
}  // namespace cairn
