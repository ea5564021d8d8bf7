// What only the real network has: names, Unix sockets' paths, options.
#include <filesystem>
#include <gtest/gtest.h>
#include <memory>
#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/runtime/real_world.h"
#include "common/runtime/task_group.h"

namespace cairn {
namespace {

using StreamPtr = std::unique_ptr<Stream>;

class RealTransport : public testing::Test {
 protected:
  RealTransport() {
    std::string name = testing::TempDir() + "cairn-transport-XXXXXX";
    folder = ::mkdtemp(name.data());
  }
  ~RealTransport() override { std::filesystem::remove_all(folder); }

  Address unix_address() { return Address{Address::Kind::kUnix, folder + "/socket", 0}; }

  // Connects to what listens; gives the code, or zero.
  Task<int> connect_code(Address address, Duration within) {
    Result<StreamPtr> stream = co_await world->transport().connect(std::move(address), world->clock().now() + within);
    co_return stream ? 0 : static_cast<int>(stream.code());
  }

  std::unique_ptr<RealWorld> world = RealWorld::make({});
  std::string folder;
};

// Leaves a socket behind as a killed process does.
void leave_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.copy(address.sun_path, sizeof(address.sun_path) - 1);
  int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
  EXPECT_EQ(::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_EQ(::listen(fd, 1), 0);
  ::close(fd);
}

TEST_F(RealTransport, StaleUnixSocketIsReplacedOneThatAnswersIsNot) {
  leave_socket(unix_address().host_or_path);
  auto first = world->transport().listen(unix_address());
  ASSERT_TRUE(first) << first.error().message();
  EXPECT_TRUE(world->transport().listen(unix_address()).failed_with(ErrorCode::kBusy));
}

TEST_F(RealTransport, FileInThePlaceOfAUnixSocketIsNotTouched) {
  std::string path = unix_address().host_or_path;
  auto file = world->disk().open(path, {.create = true});
  ASSERT_TRUE(file);
  EXPECT_TRUE(world->transport().listen(unix_address()).failed_with(ErrorCode::kBusy));
  EXPECT_TRUE(std::filesystem::is_regular_file(path));
}

TEST_F(RealTransport, ListenerRemovesItsUnixSocket) {
  auto listener = world->transport().listen(unix_address());
  ASSERT_TRUE(listener);
  EXPECT_TRUE(std::filesystem::exists(unix_address().host_or_path));
  listener->reset();
  EXPECT_FALSE(std::filesystem::exists(unix_address().host_or_path));
}

TEST_F(RealTransport, LongUnixPathIsRefusedByName) {
  Address address{Address::Kind::kUnix, "/" + std::string(200, 'x'), 0};
  EXPECT_TRUE(world->transport().listen(address).failed_with(ErrorCode::kInvalid));
  EXPECT_EQ(world->run(connect_code(address, 5s)), static_cast<int>(ErrorCode::kInvalid));
}

TEST_F(RealTransport, NamesAreLookedUp) {
  auto listener = world->transport().listen(*parse_address("localhost:0"));
  ASSERT_TRUE(listener) << listener.error().message();
  Address address = (*listener)->address();
  EXPECT_EQ(address.host_or_path, "localhost");
  EXPECT_NE(address.port, 0);
  EXPECT_EQ(world->run(connect_code(address, 5s)), 0);
}

TEST_F(RealTransport, NameThatDoesNotExistIsUnavailableOrTimesOut) {
  int code = world->run(connect_code(*parse_address("no-such-host.invalid:7000"), 500ms));
  EXPECT_TRUE(code == static_cast<int>(ErrorCode::kUnavailable) || code == static_cast<int>(ErrorCode::kTimeout));
}

TEST_F(RealTransport, ConnectThatNobodyAnswersEndsAtItsDeadline) {
  // A listener whose queue is full drops what comes further: nobody accepts, nobody refuses.
  int listener = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(listener, 0), 0);
  ASSERT_EQ(::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size), 0);
  std::vector<int> fillers;
  for (int i = 0; i < 4; ++i) {
    fillers.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
    ::connect(fillers.back(), reinterpret_cast<sockaddr*>(&address), size);
  }
  Address to{Address::Kind::kTcp, "127.0.0.1", ntohs(address.sin_port)};
  TimePoint before = world->clock().now();
  EXPECT_EQ(world->run(connect_code(to, 50ms)), static_cast<int>(ErrorCode::kTimeout));
  EXPECT_LT(world->clock().now() - before, 2s);
  for (int fd : fillers)
    ::close(fd);
  ::close(listener);
}

}  // namespace
}  // namespace cairn
