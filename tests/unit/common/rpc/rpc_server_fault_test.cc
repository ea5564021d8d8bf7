// What an RpcServer does with those who do not keep to the protocol, and with clients that go away, on each world.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/units.h"
#include "common/rpc/frame_reader.h"
#include "rpc_fixture.h"

namespace cairn {
namespace {

using testing::HasSubstr;

FrameHeader request(MethodId method, uint64_t id) {
  return FrameHeader{.kind = FrameKind::kRequest, .method = method, .request_id = id, .deadline_ms = 10'000};
}

class RpcServerFault : public RpcTest {
 protected:
  // The server closes that connection, counts it, and serves others as before.
  Task<void> is_closed_on(BareStream bare, std::string bytes, std::string reason) {
    Result<void> sent = co_await bare.send(std::move(bytes));
    EXPECT_TRUE(sent);
    std::string answer = co_await bare.receive_all();
    EXPECT_THAT(answer, HasSubstr(reason));
    EXPECT_EQ(metric("cairn_rpc_server_bad_frames_total"), 1);
    co_await round_trips(1);
    EXPECT_EQ(service.started, 0u);
  }
  Task<void> before_hello(std::string bytes, std::string reason) {
    BareStream bare = co_await connect_bare();
    co_await is_closed_on(std::move(bare), std::move(bytes), std::move(reason));
  }
  Task<void> after_hello(std::string bytes, std::string reason) {
    BareStream bare = co_await connect_greeted();
    co_await is_closed_on(std::move(bare), std::move(bytes), std::move(reason));
  }

  Task<void> silent_until_closed(std::string bytes) {
    BareStream bare = co_await connect_bare();
    if (!bytes.empty()) {
      Result<void> sent = co_await bare.send(std::move(bytes));
      EXPECT_TRUE(sent);
    }
    std::string answer = co_await bare.receive_all();
    EXPECT_EQ(answer, "");
    co_await round_trips(1);
  }

  Task<void> cut_off_everywhere() {
    server->on_disconnect([this](RpcConnection& connection) { gone_ += connection.hello().program == "cut off"; });
    std::string whole = frame_bytes(request(kBlob, 1), std::string(200, '7'), std::string(100'000, 'p'));
    size_t cuts = 0;
    for (size_t size : {1ul, 51ul, 52ul, 100ul, 252ul, 10'000ul, 90'000ul, whole.size() - 1}) {
      client_options.hello.program = "cut off";
      BareStream bare = co_await connect_greeted();
      client_options.hello.program = "test-client 1";
      Result<void> sent = co_await bare.send(whole.substr(0, size));
      EXPECT_TRUE(sent);
      bare.stream().close();
      ++cuts;
      while (gone_ < cuts)
        co_await round_trips(1);
    }
    EXPECT_EQ(metric("cairn_rpc_server_bad_frames_total"), 0);
  }

  Task<void> gone_client_and_running_handler() {
    server->on_disconnect([this](RpcConnection& connection) {
      if (connection.hello().program == "leaver") ++gone_;
      EXPECT_FALSE(connection.open());
    });
    {
      client_options.hello.program = "leaver";
      BareStream bare = co_await connect_greeted();
      client_options.hello.program = "test-client 1";
      Result<void> sent = co_await bare.send_frame(request(kHold, 1), "work");
      EXPECT_TRUE(sent);
      co_await service.wait_for_started(1);
    }
    while (gone_ == 0)
      co_await round_trips(1);
    EXPECT_EQ(service.finished, 0u);
    service.release();
    co_await service.wait_for_finished(1);
    co_await round_trips(1);
  }

  Task<void> stop_server() {
    co_await server->stop();
    stopped_ = true;
  }
  Task<void> stop_with_running_handler() {
    BareStream bare = co_await connect_greeted();
    Result<void> sent = co_await bare.send_frame(request(kHold, 1), "work");
    EXPECT_TRUE(sent);
    co_await service.wait_for_started(1);
    TaskGroup group(world.executor(), world.clock());
    group.spawn(stop_server());
    // It says why, and closes, though the handler still runs.
    Result<BareStream::Frame> frame = co_await bare.receive();
    EXPECT_TRUE(frame && frame->header.kind == FrameKind::kGoodbye);
    EXPECT_EQ(decode_error(frame->message).context, "the server stops");
    std::string rest = co_await bare.receive_all();
    EXPECT_EQ(rest, "");
    EXPECT_FALSE(stopped_);
    EXPECT_EQ(service.finished, 0u);
    service.release();
    co_await group.stop();
    EXPECT_TRUE(stopped_);
    EXPECT_EQ(service.finished, 1u);
    Result<std::unique_ptr<Stream>> again = co_await world.transport().connect(address, soon());
    EXPECT_TRUE(again.failed_with(ErrorCode::kUnavailable));
  }

  Task<void> slow_reader(uint32_t hint) {
    constexpr size_t kRequests = 400;
    BareStream bare = co_await connect_greeted();
    std::string all;
    for (size_t i = 0; i < kRequests; ++i) {
      FrameHeader header = request(kBlob, i + 1);
      header.answer_bytes = hint;
      all += frame_bytes(header, std::to_string(kMiB));
    }
    Result<void> sent = co_await bare.send(std::move(all));
    EXPECT_TRUE(sent);
    co_await round_trips(100);
    // What the server holds, and what the operating system holds for the sockets (up to 6 MiB at each end).
    EXPECT_LE(service.started, server_options.memory_per_connection_bytes / kMiB + 20);
    for (size_t i = 0; i < kRequests; ++i) {
      Result<BareStream::Frame> frame = co_await bare.receive();
      EXPECT_TRUE(frame && frame->header.request_id == i + 1 && frame->header.payload_bytes == kMiB);
      if (!frame) co_return;
    }
    EXPECT_EQ(service.started, kRequests);
  }

  // A connection that always has more to read does not keep the loop for itself.
  Task<void> flood() {
    constexpr uint64_t kRequests = 900;
    BareStream bare = co_await connect_greeted();
    std::string all;
    for (uint64_t id = 1; id <= kRequests; ++id)
      all += frame_bytes(request(kBlob, id), "1");
    Result<void> sent = co_await bare.send(std::move(all));
    EXPECT_TRUE(sent);
    co_await service.wait_for_started(1);
    EXPECT_LE(service.started, 2 * FrameReader::kFramesPerTurn);
    for (uint64_t id = 1; id <= kRequests; ++id) {
      Result<BareStream::Frame> frame = co_await bare.receive();
      EXPECT_TRUE(frame && frame->header.request_id == id);
      if (!frame) co_return;
    }
  }

  Task<void> too_many_requests() {
    BareStream bare = co_await connect_greeted();
    for (uint64_t id = 1; id <= 10; ++id) {
      Result<void> sent = co_await bare.send_frame(request(kHold, id), "x");
      EXPECT_TRUE(sent);
    }
    co_await round_trips(20);
    EXPECT_EQ(service.started, 4u);
    service.release();
    for (uint64_t id = 1; id <= 10; ++id) {
      Result<BareStream::Frame> frame = co_await bare.receive();
      EXPECT_TRUE(frame && frame->header.kind == FrameKind::kAnswer);
    }
    EXPECT_EQ(service.started, 10u);
  }

  Task<void> held_requests_bytes() {
    BareStream bare = co_await connect_greeted();
    std::string all;
    for (uint64_t id = 1; id <= 8; ++id)
      all += frame_bytes(request(kHold, id), "x", std::string(kMiB, 'p'));
    TaskGroup group(world.executor(), world.clock());
    group.spawn(send_to(&bare, std::move(all)));
    co_await service.wait_for_started(3);
    co_await round_trips(50);
    EXPECT_EQ(service.started, 3u);  // 3 * 1 MiB and a little; a fourth would be over 4 MiB
    service.release();
    for (uint64_t id = 1; id <= 8; ++id) {
      Result<BareStream::Frame> frame = co_await bare.receive();
      EXPECT_TRUE(frame && frame->header.payload_bytes == kMiB);
    }
    co_await group.stop();
  }
  Task<void> send_to(BareStream* bare, std::string bytes) {
    Result<void> sent = co_await bare->send(std::move(bytes));
    EXPECT_TRUE(sent);
  }

  // A request that could not be started before its deadline is not started after it.
  Task<void> waited_too_long() {
    BareStream bare = co_await connect_greeted();
    for (uint64_t id = 1; id <= 4; ++id) {
      Result<void> sent = co_await bare.send_frame(request(kHold, id), "x");
      EXPECT_TRUE(sent);
    }
    FrameHeader impatient = request(kBlob, 5);
    impatient.deadline_ms = 1;
    Result<void> sent = co_await bare.send_frame(impatient, "10");
    EXPECT_TRUE(sent);
    co_await service.wait_for_started(4);
    co_await round_trips(3);
    TimePoint past = in(2ms);
    while (world.clock().now() < past)
      co_await round_trips(1);
    service.release();
    for (uint64_t id = 1; id <= 5; ++id) {
      Result<BareStream::Frame> frame = co_await bare.receive();
      EXPECT_TRUE(frame);
      if (!frame || frame->header.request_id != 5) continue;
      EXPECT_EQ(frame->header.kind, FrameKind::kError);
      EXPECT_EQ(decode_error(frame->message).code, ErrorCode::kTimeout);
    }
    EXPECT_EQ(service.started, 4u);
  }

  Task<void> too_many_connections() {
    BareStream first = co_await connect_greeted();
    BareStream second = co_await connect_greeted();
    BareStream third = co_await connect_bare();
    std::string answer = co_await third.receive_all();
    EXPECT_EQ(answer, "");
    EXPECT_EQ(metric("cairn_rpc_server_refused_total"), 1);
    Result<void> sent = co_await first.send_frame(request(kEcho, 1), "still here");
    EXPECT_TRUE(sent);
    Result<BareStream::Frame> frame = co_await first.receive();
    EXPECT_TRUE(frame && frame->message == "still here");
  }

  size_t gone_ = 0;
  bool stopped_ = false;
};

std::string bad_header(FrameHeader header) {
  std::array<char, kFrameHeaderBytes> bytes = encode_header(header);
  return std::string(bytes.data(), bytes.size());
}

TEST_P(RpcServerFault, GarbageClosesTheConnection) {
  run(before_hello("GET /metrics HTTP/1.1\r\nHost: localhost:9000\r\nUser-Agent: x\r\n\r\n", "not a frame"));
}
TEST_P(RpcServerFault, GarbageAfterTheHelloClosesTheConnection) {
  run(after_hello(std::string(100, 'x'), "not a frame"));
}
TEST_P(RpcServerFault, ARequestBeforeTheHelloIsRefused) {
  run(before_hello(frame_bytes(request(kBlob, 1), "5"), "the first frame is not a hello"));
}
TEST_P(RpcServerFault, ASecondHelloIsRefused) {
  run(after_hello(hello_frame(Hello{}), "a frame of kind 1 from a client"));
}
TEST_P(RpcServerFault, AHugeMessageLengthIsRefused) {
  FrameHeader header = request(kBlob, 1);
  header.message_bytes = 0xFFFFFFF0;
  run(after_hello(bad_header(header), "a message of 4294967280 bytes"));
}
TEST_P(RpcServerFault, AHugePayloadLengthIsRefused) {
  FrameHeader header = request(kBlob, 1);
  header.payload_bytes = kMaxPayloadBytes + 1;
  run(after_hello(bad_header(header), "a payload of 4194305 bytes"));
}
TEST_P(RpcServerFault, AHugeHelloIsRefused) {
  run(before_hello(bad_header(FrameHeader{.kind = FrameKind::kHello, .message_bytes = kMaxHelloBytes + 1}),
                   "a message of 513 bytes"));
}
TEST_P(RpcServerFault, ADamagedHeaderIsRefused) {
  std::string bytes = frame_bytes(request(kBlob, 1), "5");
  bytes[10] ^= 1;
  run(after_hello(bytes, "the frame header's checksum does not match"));
}
TEST_P(RpcServerFault, ADamagedMessageIsRefused) {
  std::string bytes = frame_bytes(request(kBlob, 1), "5");
  bytes.back() ^= 1;
  run(after_hello(bytes, "the message's checksum does not match"));
}
TEST_P(RpcServerFault, WhoSaysNothingIsClosed) {
  server_options.hello_timeout = 20ms;
  run(silent_until_closed(""));
}
TEST_P(RpcServerFault, WhoSaysHalfAHelloIsClosed) {
  server_options.hello_timeout = 20ms;
  run(silent_until_closed(hello_frame(Hello{.program = "half"}).substr(0, 60)));
}

TEST_P(RpcServerFault, ATruncatedFrameRunsNothing) {
  run(cut_off_everywhere());
  EXPECT_EQ(service.started, 0u);
}
TEST_P(RpcServerFault, AHandlerGoesOnWhenItsClientHasGone) {
  run(gone_client_and_running_handler());
  EXPECT_EQ(service.finished, 1u);
}
TEST_P(RpcServerFault, StopSaysGoodbyeAndWaitsForHandlers) {
  run(stop_with_running_handler());
}
TEST_P(RpcServerFault, WhoDoesNotReadIsNotReadEither) {
  server_options.memory_per_connection_bytes = 8 * kMiB;
  run(slow_reader(0));
}
TEST_P(RpcServerFault, WhoSaysHowMuchComesAndDoesNotReadIsNotReadEither) {
  server_options.memory_per_connection_bytes = 8 * kMiB;
  run(slow_reader(kMiB));
}
TEST_P(RpcServerFault, AFloodLeavesOthersTheirTurn) {
  run(flood());
}
TEST_P(RpcServerFault, NoMoreRequestsRunThanAllowed) {
  server_options.requests_per_connection_max = 4;
  run(too_many_requests());
}
TEST_P(RpcServerFault, RequestsThatWaitAreBoundedInMemory) {
  server_options.memory_per_connection_bytes = 4 * kMiB;
  run(held_requests_bytes());
}
TEST_P(RpcServerFault, ARequestThatWaitedBeyondItsDeadlineIsNotRun) {
  server_options.requests_per_connection_max = 4;
  run(waited_too_long());
}
TEST_P(RpcServerFault, NoMoreConnectionsThanAllowed) {
  server_options.connections_max = 2;
  run(too_many_connections());
}

CAIRN_RPC_WORLDS(RpcServerFault);

}  // namespace
}  // namespace cairn
