// What an RpcClient does when servers are late, gone, other than expected or out of order, on each world.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/units.h"
#include "rpc_fixture.h"

namespace cairn {
namespace {

using testing::HasSubstr;

class RpcClientFault : public RpcTest {
 protected:
  // ---- a server of bare frames

  std::unique_ptr<Listener> listener;

  // The server of the fixture makes way for one that the test plays.
  Task<void> become_the_server() {
    co_await server->stop();
    server.reset();
    listener = std::move(*world.transport().listen(*parse_address(test_world->listen_address())));
    address = listener->address();
    start_client();
  }
  Task<BareStream> accept_bare() {
    Result<std::unique_ptr<Stream>> stream = co_await listener->accept();
    EXPECT_TRUE(stream);
    co_return BareStream(std::move(*stream));
  }
  Task<BareStream> accept_greeted() {
    BareStream bare = co_await accept_bare();
    Result<BareStream::Frame> hello = co_await bare.receive();
    EXPECT_TRUE(hello && hello->header.kind == FrameKind::kHello);
    Result<void> sent = co_await bare.send(hello_frame(server_options.hello));
    EXPECT_TRUE(sent);
    co_return bare;
  }
  static std::string answer_bytes(const BareStream::Frame& request, std::string_view message,
                                  std::string_view payload) {
    return frame_bytes(FrameHeader{.kind = FrameKind::kAnswer, .request_id = request.header.request_id}, message,
                       payload);
  }

  // A call that runs beside the test.
  Task<void> call_into(MethodId method, RpcMessage request, RpcClient::CallOptions options,
                       std::optional<Result<RpcMessage>>* out) {
    Result<RpcMessage> answer = co_await client->call(method, std::move(request), options);
    *out = std::move(answer);
    changed.notify_all();
  }
  Task<void> wait_for(std::optional<Result<RpcMessage>>* out) {
    while (!*out)
      co_await changed.wait();
  }
  Condition changed{world.executor()};
  std::optional<Result<RpcMessage>> first, second, third;

  // ---- deadlines

  Task<void> deadline_passes() {
    TimePoint begin = world.clock().now();
    Result<RpcMessage> answer = co_await client->call(kHold, text("slow"), {.deadline = in(30ms)});
    EXPECT_TRUE(answer.failed_with(ErrorCode::kTimeout));
    EXPECT_THAT(answer.error().context, HasSubstr("no answer from " + to_string(address)));
    EXPECT_GE(world.clock().now() - begin, 30ms);
    EXPECT_LT(world.clock().now() - begin, 5s);
    // The late answer is nobody's, and the connection is as good as before.
    service.release();
    answer = co_await call(kEcho, text("after"));
    EXPECT_TRUE(answer && answer->message == "after");
    EXPECT_EQ(metric("cairn_rpc_client_in_flight"), 0);
    answer = co_await client->call(kEcho, text("late already"), {.deadline = world.clock().now()});
    EXPECT_TRUE(answer.failed_with(ErrorCode::kTimeout));
  }

  Task<void> deadlines_in_any_order() {
    TaskGroup group(world.executor(), world.clock());
    group.spawn(call_into(kHold, text("1"), {.deadline = in(60s)}, &first));
    group.spawn(call_into(kHold, text("2"), {.deadline = in(20ms)}, &second));
    group.spawn(call_into(kHold, text("3"), {.deadline = in(40ms)}, &third));
    co_await wait_for(&second);
    EXPECT_TRUE(second->failed_with(ErrorCode::kTimeout));
    co_await wait_for(&third);
    EXPECT_TRUE(third->failed_with(ErrorCode::kTimeout));
    EXPECT_FALSE(first);
    service.release();
    co_await wait_for(&first);
    EXPECT_TRUE(first->has_value());
    co_await group.stop();
  }

  Task<void> late_answer_is_not_received_in_place() {
    Buffer into = Buffer::zeros(kMiB);
    Result<RpcMessage> answer = co_await client->call(kHold, with_payload(pattern(kMiB)),
                                                      {.deadline = in(30ms), .receive_into = into.mutable_span()});
    EXPECT_TRUE(answer.failed_with(ErrorCode::kTimeout));
    service.release();
    answer = co_await call(kEcho, text("behind it"));
    EXPECT_TRUE(answer);
    EXPECT_EQ(std::ranges::count(into.span(), std::byte{0}), static_cast<ptrdiff_t>(kMiB));
  }

  // The deadline passes in the middle of a payload that goes to the caller's memory.
  Task<void> deadline_while_receiving(bool rest_comes) {
    co_await become_the_server();
    Buffer into = Buffer::zeros(kMiB);
    TaskGroup group(world.executor(), world.clock());
    group.spawn(call_into(kBlob, text("x"), {.deadline = in(50ms), .receive_into = into.mutable_span()}, &first));
    BareStream bare = co_await accept_greeted();
    Result<BareStream::Frame> request = co_await bare.receive();
    group.spawn(call_into(kEcho, text("another"), {.deadline = soon()}, &second));
    Result<BareStream::Frame> another = co_await bare.receive();
    EXPECT_TRUE(request && another);
    std::string bytes = answer_bytes(*request, "", std::string(kMiB, 'z'));
    Result<void> sent = co_await bare.send(bytes.substr(0, 200'000));
    EXPECT_TRUE(sent);
    TimePoint late = in(60ms);
    co_await group_sleep_until(late);
    EXPECT_FALSE(first);  // it may not return while its memory is written
    if (rest_comes) {
      sent = co_await bare.send(bytes.substr(200'000, 100));
      EXPECT_TRUE(sent);
      co_await wait_for(&first);
      EXPECT_TRUE(first->failed_with(ErrorCode::kTimeout));
      std::ranges::fill(into.mutable_span(), std::byte{0});
      sent = co_await bare.send(bytes.substr(200'100) + answer_bytes(*another, "here", ""));
      EXPECT_TRUE(sent);
      co_await wait_for(&second);
      EXPECT_TRUE(*second && (*second)->message == "here");
      EXPECT_TRUE(client->connected());
    } else {
      co_await wait_for(&first);
      EXPECT_TRUE(first->failed_with(ErrorCode::kTimeout));
      EXPECT_LT(world.clock().now(), late + RpcClient::kReceiveGrace + 2s);
      std::ranges::fill(into.mutable_span(), std::byte{0});
      co_await wait_for(&second);
      EXPECT_TRUE(second->failed_with(ErrorCode::kUnavailable));
      EXPECT_FALSE(client->connected());
    }
    EXPECT_EQ(std::ranges::count(into.span(), std::byte{0}), static_cast<ptrdiff_t>(kMiB));
    co_await group.stop();
  }
  Task<void> group_sleep_until(TimePoint when) {
    TaskGroup group(world.executor(), world.clock());
    Result<void> slept = co_await group.sleep_until(when);
    EXPECT_TRUE(slept);
  }

  // ---- servers that go

  Task<void> server_goes() {
    TaskGroup group(world.executor(), world.clock());
    size_t lost = 0;
    client->on_disconnect([&lost] { ++lost; });
    group.spawn(call_into(kHold, text("1"), {.deadline = in(60s)}, &first));
    group.spawn(call_into(kHold, text("2"), {.deadline = in(60s)}, &second));
    co_await service.wait_for_started(2);
    service.release();
    TimePoint begin = world.clock().now();
    service.hold_again();
    server.reset();  // as a crash: no goodbye
    co_await wait_for(&first);
    co_await wait_for(&second);
    EXPECT_TRUE(first->failed_with(ErrorCode::kUnavailable));
    EXPECT_THAT(first->error().context, HasSubstr("lost the connection to " + to_string(address)));
    EXPECT_TRUE(second->failed_with(ErrorCode::kUnavailable));
    EXPECT_LT(world.clock().now() - begin, 5s);
    EXPECT_FALSE(client->connected());
    co_await group.stop();
    EXPECT_EQ(lost, 1u);
    client->on_disconnect(nullptr);
  }

  Task<void> server_goes_in_the_middle_of_an_answer(size_t sent_bytes) {
    co_await become_the_server();
    Buffer into = Buffer::zeros(100'000);
    TaskGroup group(world.executor(), world.clock());
    group.spawn(call_into(kBlob, text("x"), {.deadline = soon()}, &first));
    group.spawn(call_into(kBlob, text("x"), {.deadline = soon(), .receive_into = into.mutable_span()}, &second));
    BareStream bare = co_await accept_greeted();
    Result<BareStream::Frame> one = co_await bare.receive();
    Result<BareStream::Frame> two = co_await bare.receive();
    std::string bytes = answer_bytes(sent_bytes % 2 == 0 ? *one : *two, "message", std::string(100'000, 'z'));
    Result<void> sent = co_await bare.send(bytes.substr(0, sent_bytes));
    EXPECT_TRUE(sent);
    bare.stream().close();
    co_await wait_for(&first);
    co_await wait_for(&second);
    EXPECT_TRUE(first->failed_with(ErrorCode::kUnavailable));
    EXPECT_TRUE(second->failed_with(ErrorCode::kUnavailable));
    co_await group.stop();
    co_await client->stop();
    listener.reset();
  }

  Task<void> comes_back() {
    Result<RpcMessage> answer = co_await call(kEcho, text("1"));
    EXPECT_TRUE(answer);
    for (int round = 0; round < 3; ++round) {
      co_await server->stop();
      server = std::make_unique<RpcServer>(world, server_options);
      service.add_to(*server);
      Result<Address> again = server->listen(address);
      EXPECT_TRUE(again) << again.error().message();
      // The first call may still go to the old connection; it then fails at once, and the next one dials.
      answer = co_await call(kEcho, text("2"));
      if (!answer) {
        EXPECT_EQ(answer.code(), ErrorCode::kUnavailable);
        answer = co_await call(kEcho, text("2"));
      }
      EXPECT_TRUE(answer) << answer.error().message();
    }
  }

  Task<void> nobody_there() {
    client_options.reconnect_pause_min = 200ms;
    client_options.reconnect_pause_max = 200ms;
    start_client();
    co_await server->stop();
    TimePoint begin = world.clock().now();
    for (int i = 0; i < 5; ++i) {
      Result<RpcMessage> answer = co_await call(kEcho, text("anybody?"));
      EXPECT_TRUE(answer.failed_with(ErrorCode::kUnavailable));
      EXPECT_THAT(answer.error().context, HasSubstr(to_string(address)));
    }
    EXPECT_EQ(metric("cairn_rpc_client_failed_connects_total"), 1);  // one dial, and no storm
    EXPECT_LT(world.clock().now() - begin, 200ms);
    co_await group_sleep_until(in(251ms));
    Result<RpcMessage> answer = co_await call(kEcho, text("anybody?"));
    EXPECT_TRUE(answer.failed_with(ErrorCode::kUnavailable));
    EXPECT_EQ(metric("cairn_rpc_client_failed_connects_total"), 2);
  }

  Task<void> no_hello_comes() {
    co_await become_the_server();
    client_options.connect_timeout = 50ms;
    start_client();
    TaskGroup group(world.executor(), world.clock());
    group.spawn(call_into(kEcho, text("x"), {.deadline = soon()}, &first));
    BareStream bare = co_await accept_bare();
    co_await wait_for(&first);
    EXPECT_TRUE(first->failed_with(ErrorCode::kUnavailable));
    EXPECT_THAT(first->error().context, HasSubstr("no hello came in time"));
    co_await group.stop();
    listener.reset();
  }

  Task<void> garbage_for_a_hello() {
    co_await become_the_server();
    TaskGroup group(world.executor(), world.clock());
    group.spawn(call_into(kEcho, text("x"), {.deadline = soon()}, &first));
    BareStream bare = co_await accept_bare();
    Result<void> sent = co_await bare.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nServer: nginx\r\n\r\n");
    EXPECT_TRUE(sent);
    co_await wait_for(&first);
    EXPECT_TRUE(first->failed_with(ErrorCode::kBadMessage));
    EXPECT_THAT(first->error().context, HasSubstr("connecting to " + to_string(address) + ": not a frame"));
    co_await group.stop();
    listener.reset();
  }

  Task<void> garbage_for_an_answer(std::string garbage, std::string reason) {
    co_await become_the_server();
    TaskGroup group(world.executor(), world.clock());
    group.spawn(call_into(kEcho, text("x"), {.deadline = soon()}, &first));
    BareStream bare = co_await accept_greeted();
    Result<BareStream::Frame> request = co_await bare.receive();
    EXPECT_TRUE(request);
    Result<void> sent = co_await bare.send(std::move(garbage));
    EXPECT_TRUE(sent);
    co_await wait_for(&first);
    EXPECT_TRUE(first->failed_with(ErrorCode::kUnavailable));
    EXPECT_THAT(first->error().context, HasSubstr(reason));
    co_await group.stop();
    listener.reset();
  }

  Task<void> answers_to_nobody() {
    co_await become_the_server();
    TaskGroup group(world.executor(), world.clock());
    group.spawn(call_into(kEcho, text("x"), {.deadline = soon()}, &first));
    BareStream bare = co_await accept_greeted();
    Result<BareStream::Frame> request = co_await bare.receive();
    BareStream::Frame stranger = *request;
    stranger.header.request_id += 1ull << 32;
    std::string bytes = answer_bytes(stranger, "not yours", std::string(300'000, 'p'));
    stranger.header.request_id = 12345;
    bytes += answer_bytes(stranger, "nor yours", "");
    bytes += answer_bytes(*request, "yours", "");
    bytes += answer_bytes(*request, "again", "");
    Result<void> sent = co_await bare.send(std::move(bytes));
    EXPECT_TRUE(sent);
    co_await wait_for(&first);
    EXPECT_TRUE(*first && (*first)->message == "yours");
    co_await group.stop();
    listener.reset();
  }

  // ---- keeping alive

  // The connection is there, its kernel takes what comes, and nobody reads.
  Task<void> server_that_has_stopped() {
    co_await become_the_server();
    TaskGroup group(world.executor(), world.clock());
    group.spawn(call_into(kHold, text("slow"), {.deadline = in(60s)}, &first));
    BareStream bare = co_await accept_greeted();
    TimePoint begin = world.clock().now();
    co_await wait_for(&first);
    EXPECT_TRUE(first->failed_with(ErrorCode::kUnavailable));
    EXPECT_THAT(first->error().context, HasSubstr("does not answer any more"));
    EXPECT_GE(world.clock().now() - begin, 2 * client_options.keep_alive);
    EXPECT_LT(world.clock().now() - begin, 20s);
    co_await group.stop();
    listener.reset();
  }

  // Nothing is wrong with it: it has as much as it takes, and works.
  Task<void> server_that_is_full() {
    TaskGroup group(world.executor(), world.clock());
    std::optional<Result<RpcMessage>> results[6];
    for (auto& result : results)
      group.spawn(call_into(kHold, with_payload(pattern(kMiB)), {.deadline = in(60s)}, &result));
    co_await service.wait_for_started(2);
    co_await group_sleep_until(in(6 * client_options.keep_alive));
    EXPECT_TRUE(client->connected());
    service.release();
    for (auto& result : results) {
      co_await wait_for(&result);
      EXPECT_TRUE(result->has_value()) << result->error().message();
    }
    co_await group.stop();
  }

  // A payload on a slow line: bytes come all the time, and no frame ends.
  Task<void> answer_that_trickles(bool in_place) {
    co_await become_the_server();
    Buffer into = Buffer::zeros(in_place ? kMiB : 1);
    TaskGroup group(world.executor(), world.clock());
    group.spawn(call_into(kBlob, text("x"), {.deadline = in(60s), .receive_into = into.mutable_span()}, &first));
    BareStream bare = co_await accept_greeted();
    Result<BareStream::Frame> request = co_await bare.receive();
    EXPECT_TRUE(request);
    std::string bytes = answer_bytes(*request, "", std::string(kMiB, 'z'));
    for (size_t at = 0; at < bytes.size(); at += 100'000) {
      Result<void> sent = co_await bare.send(bytes.substr(at, 100'000));
      EXPECT_TRUE(sent);
      co_await group_sleep_until(in(client_options.keep_alive / 2));
    }
    co_await wait_for(&first);
    EXPECT_TRUE(first->has_value()) << first->error().message();
    co_await group.stop();
    listener.reset();
  }

  // ---- hello

  Task<void> refused_with(ErrorCode code, std::string context) {
    Result<RpcMessage> answer = co_await call(kEcho, text("x"));
    EXPECT_TRUE(answer.failed_with(code));
    EXPECT_THAT(answer.error().context, HasSubstr(context));
    EXPECT_FALSE(client->connected());
  }

  Task<void> cluster_is_learnt() {
    Result<RpcMessage> answer = co_await call(kEcho, text("x"));
    EXPECT_TRUE(answer) << answer.error().message();
    server->set_cluster(ClusterId(8));
    client_options.reconnect_pause_min = 0ms;
    client_options.reconnect_pause_max = 0ms;
    start_client();
    co_await refused_with(
        ErrorCode::kWrongCluster,
        "test-server 1 belongs to cluster 0000000000000008, test-client 1 to cluster 0000000000000007");
    client->set_cluster(ClusterId(8));
    answer = co_await call(kEcho, text("x"));
    EXPECT_TRUE(answer) << answer.error().message();
  }

  Task<void> server_that_does_not_check() {
    co_await become_the_server();
    server_options.hello.cluster = ClusterId(9);
    TaskGroup group(world.executor(), world.clock());
    group.spawn(call_into(kEcho, text("x"), {.deadline = soon()}, &first));
    BareStream bare = co_await accept_greeted();
    co_await wait_for(&first);
    EXPECT_TRUE(first->failed_with(ErrorCode::kWrongCluster));
    co_await group.stop();
    listener.reset();
  }

  // ---- bounds, stops

  Task<void> memory_in_flight() {
    TaskGroup group(world.executor(), world.clock());
    std::optional<Result<RpcMessage>> results[6];
    for (auto& result : results)
      group.spawn(call_into(kHold, with_payload(pattern(500'000)), {.deadline = soon()}, &result));
    co_await service.wait_for_started(2);
    co_await round_trips(10);
    EXPECT_EQ(service.started, 2u);  // 1 MB is in flight; the rest waits
    // One that waits may run into its deadline, and gives up its place.
    Result<RpcMessage> answer = co_await client->call(kHold, with_payload(pattern(500'000)), {.deadline = in(20ms)});
    EXPECT_TRUE(answer.failed_with(ErrorCode::kTimeout));
    EXPECT_THAT(answer.error().context, HasSubstr("no memory free"));
    service.release();
    for (auto& result : results) {
      co_await wait_for(&result);
      EXPECT_TRUE(result->has_value());
    }
    EXPECT_EQ(service.started, 6u);
    co_await group.stop();
  }

  // Calls that time out before they are written keep their memory charged: a server that does not read cannot make the
  // client hold more.
  Task<void> server_that_does_not_read() {
    co_await become_the_server();
    client_options.memory_in_flight_bytes = 32 * kMiB;
    start_client();
    TaskGroup group(world.executor(), world.clock());
    std::optional<Result<RpcMessage>> results[40];
    for (auto& result : results)
      group.spawn(call_into(kEcho, with_payload(pattern(2 * kMiB)), {.deadline = in(300ms)}, &result));
    BareStream bare = co_await accept_greeted();
    size_t waited_for_memory = 0;
    for (auto& result : results) {
      co_await wait_for(&result);
      EXPECT_TRUE(result->failed_with(ErrorCode::kTimeout));
      if (result->error().context.starts_with("no memory")) ++waited_for_memory;
    }
    EXPECT_GE(waited_for_memory, 10u);  // what the sockets took makes room for some more
    // Nobody waits for an answer, and yet there is no room.
    Result<RpcMessage> answer = co_await client->call(kEcho, with_payload(pattern(4 * kMiB)), {.deadline = in(20ms)});
    EXPECT_TRUE(answer.failed_with(ErrorCode::kTimeout));
    EXPECT_THAT(answer.error().context, HasSubstr("no memory free"));
    // When it reads, the room comes back.
    group.spawn(call_into(kEcho, with_payload(pattern(4 * kMiB)), {.deadline = soon()}, &first));
    for (;;) {
      Result<BareStream::Frame> request = co_await bare.receive();
      EXPECT_TRUE(request);
      if (!request || request->header.payload_bytes != 4 * kMiB) continue;
      Result<void> sent = co_await bare.send(answer_bytes(*request, "at last", ""));
      EXPECT_TRUE(sent);
      break;
    }
    co_await wait_for(&first);
    EXPECT_TRUE(*first && (*first)->message == "at last");
    co_await group.stop();
    listener.reset();
  }

  Task<void> stop_in_flight() {
    TaskGroup group(world.executor(), world.clock());
    group.spawn(call_into(kHold, text("1"), {.deadline = in(60s)}, &first));
    co_await service.wait_for_started(1);
    co_await client->stop();
    co_await wait_for(&first);
    EXPECT_TRUE(first->failed_with(ErrorCode::kCancelled));
    Result<RpcMessage> answer = co_await call(kEcho, text("x"));
    EXPECT_TRUE(answer.failed_with(ErrorCode::kCancelled));
    co_await group.stop();
  }

  Task<void> stop_with_a_server_that_does_not_read() {
    co_await become_the_server();
    TaskGroup group(world.executor(), world.clock());
    std::optional<Result<RpcMessage>> results[12];
    for (auto& result : results)
      group.spawn(call_into(kEcho, with_payload(pattern(4 * kMiB)), {.deadline = in(60s)}, &result));
    BareStream bare = co_await accept_greeted();
    Result<BareStream::Frame> request = co_await bare.receive();
    EXPECT_TRUE(request);
    TimePoint begin = world.clock().now();
    co_await client->stop();
    EXPECT_LT(world.clock().now() - begin, 3s);
    for (auto& result : results) {
      co_await wait_for(&result);
      EXPECT_TRUE(result->failed_with(ErrorCode::kCancelled));
    }
    co_await group.stop();
    listener.reset();
  }

  Task<void> destroyed_in_flight() {
    TaskGroup group(world.executor(), world.clock());
    group.spawn(call_into(kHold, text("1"), {.deadline = in(60s)}, &first));
    co_await service.wait_for_started(1);
    client.reset();
    co_await wait_for(&first);
    EXPECT_TRUE(first->failed_with(ErrorCode::kCancelled));
    co_await group.stop();
  }

  // The task of a caller is destroyed: its call is withdrawn, others go on.
  Task<void> callers_vanish() {
    {
      TaskGroup vanishing(world.executor(), world.clock());
      vanishing.spawn(call_into(kHold, text("1"), {.deadline = in(60s)}, &first));
      vanishing.spawn(call_into(kHold, text("2"), {.deadline = in(60s)}, &second));
      co_await service.wait_for_started(2);
    }
    service.release();
    Result<RpcMessage> answer = co_await call(kEcho, text("x"));
    EXPECT_TRUE(answer);
    EXPECT_FALSE(first || second);
    EXPECT_EQ(metric("cairn_rpc_client_in_flight"), 0);
    EXPECT_TRUE(client->connected());
  }

  // The same while a payload is being received into its memory: only closing the connection makes that safe.
  Task<void> caller_vanishes_while_receiving() {
    co_await become_the_server();
    auto vanishing = std::make_unique<TaskGroup>(world.executor(), world.clock());
    TaskGroup group(world.executor(), world.clock());
    Buffer into = Buffer::zeros(kMiB);
    vanishing->spawn(call_into(kBlob, text("x"), {.deadline = soon(), .receive_into = into.mutable_span()}, &first));
    BareStream bare = co_await accept_greeted();
    Result<BareStream::Frame> request = co_await bare.receive();
    std::string bytes = answer_bytes(*request, "", std::string(kMiB, 'z'));
    Result<void> sent = co_await bare.send(bytes.substr(0, 300'000));
    EXPECT_TRUE(sent);
    while (into.span()[200'000] == std::byte{0})
      co_await group_sleep_until(in(1ms));
    vanishing.reset();
    EXPECT_FALSE(client->connected());
    std::ranges::fill(into.mutable_span(), std::byte{0});
    sent = co_await bare.send(bytes.substr(300'000, 1000));
    co_await group_sleep_until(in(1ms));
    EXPECT_EQ(std::ranges::count(into.span(), std::byte{0}), static_cast<ptrdiff_t>(kMiB));
    EXPECT_FALSE(first);
    co_await group.stop();
    listener.reset();
  }
};

TEST_P(RpcClientFault, ACallEndsAtItsDeadline) {
  run(deadline_passes());
}
TEST_P(RpcClientFault, DeadlinesPassInAnyOrder) {
  run(deadlines_in_any_order());
}
TEST_P(RpcClientFault, ALateAnswerIsNotReceivedInPlace) {
  run(late_answer_is_not_received_in_place());
}
TEST_P(RpcClientFault, ADeadlineWhileReceivingEndsTheCallWithTheNextBytes) {
  run(deadline_while_receiving(true));
}
TEST_P(RpcClientFault, ADeadlineWhileReceivingBreaksAConnectionThatIsStuck) {
  run(deadline_while_receiving(false));
}
TEST_P(RpcClientFault, CallsInFlightFailAtOnceWhenTheServerGoes) {
  run(server_goes());
}
TEST_P(RpcClientFault, AnAnswerCutOffInItsHeaderIsAFailure) {
  run(server_goes_in_the_middle_of_an_answer(30));
}
TEST_P(RpcClientFault, AnAnswerCutOffInItsMessageIsAFailure) {
  run(server_goes_in_the_middle_of_an_answer(56));
}
TEST_P(RpcClientFault, AnAnswerCutOffInItsPayloadIsAFailure) {
  run(server_goes_in_the_middle_of_an_answer(50'000));
}
TEST_P(RpcClientFault, AnAnswerCutOffInItsPayloadInPlaceIsAFailure) {
  run(server_goes_in_the_middle_of_an_answer(50'001));
}
TEST_P(RpcClientFault, ConnectsAgainWhenTheServerIsBack) {
  run(comes_back());
}
TEST_P(RpcClientFault, FailsAtOnceWhereNobodyIsAndDialsSeldom) {
  run(nobody_there());
}
TEST_P(RpcClientFault, AServerThatSaysNothingIsUnavailable) {
  run(no_hello_comes());
}
TEST_P(RpcClientFault, AServerOfAnotherKindIsNamed) {
  run(garbage_for_a_hello());
}
TEST_P(RpcClientFault, GarbageBreaksTheConnection) {
  run(garbage_for_an_answer(std::string(60, 'g'), "not a frame"));
}
TEST_P(RpcClientFault, ARequestFromAServerBreaksTheConnection) {
  run(garbage_for_an_answer(frame_bytes(FrameHeader{.kind = FrameKind::kRequest}, ""),
                            "a frame of kind 2 from a server"));
}
TEST_P(RpcClientFault, AHugeAnswerBreaksTheConnection) {
  std::array<char, kFrameHeaderBytes> bytes =
      encode_header(FrameHeader{.kind = FrameKind::kAnswer, .payload_bytes = 0xFFFFFFFF});
  run(garbage_for_an_answer(std::string(bytes.data(), bytes.size()), "a payload of 4294967295 bytes"));
}
TEST_P(RpcClientFault, AGoodbyeIsTheReason) {
  run(garbage_for_an_answer(frame_bytes(FrameHeader{.kind = FrameKind::kGoodbye},
                                        encode_error(Error(ErrorCode::kUnavailable, "going down for repair"))),
                            "going down for repair"));
}
TEST_P(RpcClientFault, AnswersToNobodyAreDropped) {
  run(answers_to_nobody());
}
TEST_P(RpcClientFault, AServerThatHasStoppedIsFound) {
  client_options.keep_alive = 50ms;
  run(server_that_has_stopped());
}
TEST_P(RpcClientFault, AServerThatTakesNoMoreRequestsIsAlive) {
  client_options.keep_alive = 250ms;
  server_options.requests_per_connection_max = 2;
  run(server_that_is_full());
}
TEST_P(RpcClientFault, AServerThatTakesNoMoreBytesIsAlive) {
  client_options.keep_alive = 250ms;
  server_options.memory_per_connection_bytes = 5 * kMiB / 2;
  run(server_that_is_full());
}
TEST_P(RpcClientFault, AServerIsAliveWhenTheClientMaySendNoMore) {
  client_options.keep_alive = 250ms;
  client_options.memory_in_flight_bytes = 5 * kMiB / 2;
  run(server_that_is_full());
}
TEST_P(RpcClientFault, AnAnswerThatTricklesIsASignOfLife) {
  client_options.keep_alive = 250ms;
  run(answer_that_trickles(false));
}
TEST_P(RpcClientFault, AnAnswerThatTricklesInPlaceIsASignOfLife) {
  client_options.keep_alive = 250ms;
  run(answer_that_trickles(true));
}
TEST_P(RpcClientFault, AnotherProtocolIsRefusedWithBothVersions) {
  client_options.hello.protocol_min = 2;
  client_options.hello.protocol_max = 3;
  run(refused_with(ErrorCode::kProtocol, "test-server 1 speaks protocol 1 to 1, test-client 1 speaks 2 to 3"));
}
TEST_P(RpcClientFault, AnotherClusterIsRefusedWithBothIds) {
  client_options.hello.cluster = ClusterId(0xBEEF);
  run(refused_with(ErrorCode::kWrongCluster,
                   "test-server 1 belongs to cluster 0000000000000007, test-client 1 to cluster 000000000000beef"));
}
TEST_P(RpcClientFault, AServerWithoutAClusterLearnsIt) {
  server_options.hello.cluster = ClusterId();
  run(cluster_is_learnt());
}
TEST_P(RpcClientFault, TheClientChecksTheClusterToo) {
  run(server_that_does_not_check());
}
TEST_P(RpcClientFault, WhatIsInFlightIsBounded) {
  client_options.memory_in_flight_bytes = 1'010'000;
  run(memory_in_flight());
}
TEST_P(RpcClientFault, WhatIsNotWrittenStaysCounted) {
  run(server_that_does_not_read());
}
TEST_P(RpcClientFault, StopEndsCallsInFlight) {
  run(stop_in_flight());
}
TEST_P(RpcClientFault, StopDoesNotWaitForAServerThatDoesNotRead) {
  run(stop_with_a_server_that_does_not_read());
}
TEST_P(RpcClientFault, TheEndOfTheClientEndsCallsInFlight) {
  run(destroyed_in_flight());
}
TEST_P(RpcClientFault, CallersMayVanish) {
  run(callers_vanish());
}
TEST_P(RpcClientFault, ACallerMayVanishWhileItsPayloadArrives) {
  run(caller_vanishes_while_receiving());
}

CAIRN_RPC_WORLDS(RpcClientFault);

}  // namespace
}  // namespace cairn
