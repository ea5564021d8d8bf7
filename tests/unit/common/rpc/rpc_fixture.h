// What the tests of RPC share: a server with a few methods on each world (TCP, Unix sockets, simulated), clients of it,
// and bare streams for those who do not keep to the protocol.
#pragma once

#include <gtest/gtest.h>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/rpc/frame.h"
#include "common/rpc/rpc.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "tests/unit/common/runtime/test_worlds.h"

namespace cairn {

inline constexpr MethodId kEcho = 1;      // the message and the payload come back
inline constexpr MethodId kHold = 2;      // the answer waits for release()
inline constexpr MethodId kRefuse = 3;    // kNoSpace with the message as its context
inline constexpr MethodId kBlob = 4;      // a payload of as many bytes as the message says
inline constexpr MethodId kDeadline = 5;  // the milliseconds that the handler had left, and the trace id
inline constexpr MethodId kUnknown = 99;

// Bytes of which each tells its place, and whether bytes are the first ones of it. Up to 8 MiB.
Buffer pattern(size_t size);
bool is_pattern(std::span<const std::byte> bytes);

inline RpcMessage text(std::string message) {
  return RpcMessage{.message = std::move(message), .payload = {}};
}

inline RpcMessage with_payload(Buffer payload) {
  RpcMessage message;
  message.payload.push_back(std::move(payload));
  return message;
}

// The methods, and what the tests ask about their running.
class Service {
 public:
  explicit Service(World& world) : world_(world), changed_(world.executor()) {}

  void add_to(RpcServer& server) {
    server.handle(kEcho, "echo", [this](RpcRequest request) { return echo(std::move(request)); });
    server.handle(kHold, "hold", [this](RpcRequest request) { return hold(std::move(request)); });
    server.handle(kRefuse, "refuse", [this](RpcRequest request) { return refuse(std::move(request)); });
    server.handle(kBlob, "blob", [this](RpcRequest request) { return blob(std::move(request)); });
    server.handle(kDeadline, "deadline", [this](RpcRequest request) { return deadline(std::move(request)); });
  }

  void release() {
    released_ = true;
    changed_.notify_all();
  }
  void hold_again() { released_ = false; }
  size_t started = 0;
  size_t finished = 0;
  size_t holding = 0;
  // Waits until so many handlers of kHold and kBlob have started.
  Task<void> wait_for_started(size_t count) {
    while (started < count)
      co_await changed_.wait();
  }
  Task<void> wait_for_finished(size_t count) {
    while (finished < count)
      co_await changed_.wait();
  }

 private:
  Task<Result<RpcMessage>> echo(RpcRequest request) {
    RpcMessage answer{.message = std::move(request.message), .payload = {}};
    if (!request.payload.empty()) answer.payload.push_back(std::move(request.payload));
    co_return answer;
  }
  Task<Result<RpcMessage>> hold(RpcRequest request) {
    begin();
    ++holding;
    while (!released_)
      co_await changed_.wait();
    --holding;
    end();
    Result<RpcMessage> answer = co_await echo(std::move(request));
    co_return answer;
  }
  Task<Result<RpcMessage>> refuse(RpcRequest request) {
    co_return Error(ErrorCode::kNoSpace, std::move(request.message));
  }
  Task<Result<RpcMessage>> blob(RpcRequest request) {
    begin();
    RpcMessage answer = with_payload(pattern(std::stoul(request.message)));
    answer.message = "blob";
    end();
    co_return answer;
  }
  Task<Result<RpcMessage>> deadline(RpcRequest request) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(request.deadline - world_.clock().now());
    if (request.deadline == kNever) left = std::chrono::milliseconds(-1);
    co_return text(std::to_string(left.count()) + " " + std::to_string(request.trace_id));
  }
  void begin() {
    ++started;
    changed_.notify_all();
  }
  void end() {
    ++finished;
    changed_.notify_all();
  }

  World& world_;
  Condition changed_;
  bool released_ = false;
};

// A peer that speaks bytes.
class BareStream {
 public:
  explicit BareStream(std::unique_ptr<Stream> stream) : stream_(std::move(stream)) {}

  Task<Result<void>> send(std::string bytes) {
    std::span<const std::byte> piece = std::as_bytes(std::span(bytes));
    Result<void> sent = co_await stream_->write(std::span(&piece, 1));
    co_return sent;
  }
  Task<Result<void>> send_frame(FrameHeader header, std::string message, std::string payload = {});
  // The next frame's header and message; its payload is dropped.
  struct Frame {
    FrameHeader header;
    std::string message;
  };
  Task<Result<Frame>> receive();
  // Reads until the other side closes; gives what came.
  Task<std::string> receive_all();
  Stream& stream() { return *stream_; }

 private:
  std::unique_ptr<Stream> stream_;
};

// The bytes of a frame.
std::string frame_bytes(FrameHeader header, std::string_view message, std::string_view payload = {});
std::string hello_frame(Hello hello);

using WorldMaker = std::unique_ptr<TestWorld> (*)();

class RpcTest : public testing::TestWithParam<WorldMaker> {
 protected:
  std::unique_ptr<TestWorld> test_world = GetParam()();
  World& world = test_world->world();
  RpcServerOptions server_options{.hello = {.cluster = ClusterId(7), .program = "test-server 1"}};
  RpcClientOptions client_options{.hello = {.cluster = ClusterId(7), .program = "test-client 1"}};
  Service service{world};
  std::unique_ptr<RpcServer> server;
  std::unique_ptr<RpcClient> client;
  Address address;

  TimePoint in(Duration duration) { return world.clock().now() + duration; }
  TimePoint soon() { return in(10s); }

  void start_server();
  void start_client() { client = std::make_unique<RpcClient>(world, address, client_options); }
  // Both; then `body`; then both are stopped.
  void run(Task<void> body);
  Task<void> whole(Task<void> body);
  Task<void> stop_all();

  Task<Result<RpcMessage>> call(MethodId method, RpcMessage request);
  Task<BareStream> connect_bare();
  // The same, and the hellos are exchanged.
  Task<BareStream> connect_greeted();
  // Round trips of another client: whatever the server had to do before, it has done after them.
  Task<void> round_trips(size_t count);
  double metric(std::string_view name);
};

// One instance for each world.
#define CAIRN_RPC_WORLDS(suite)                                                     \
  INSTANTIATE_TEST_SUITE_P(Tcp, suite, testing::Values(make_real_test_world));      \
  INSTANTIATE_TEST_SUITE_P(Unix, suite, testing::Values(make_unix_test_world));     \
  INSTANTIATE_TEST_SUITE_P(Simulated, suite, testing::Values(make_sim_test_world)); \
  static_assert(true)

}  // namespace cairn
