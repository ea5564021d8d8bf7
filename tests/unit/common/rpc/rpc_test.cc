// What RPC does when all is well, on each world.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <set>

#include "common/base/units.h"
#include "rpc_fixture.h"

namespace cairn {
namespace {

using testing::HasSubstr;

class Rpc : public RpcTest {
 protected:
  Task<void> echo_many(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      std::string message = "message " + std::to_string(i);
      Result<RpcMessage> answer = co_await call(kEcho, text(message));
      if (!answer) {
        ADD_FAILURE() << answer.error().message();
        co_return;
      }
      EXPECT_EQ(answer->message, message);
      EXPECT_TRUE(answer->payload.empty());
      ++echoed_;
    }
  }

  Task<void> payloads_of_all_sizes() {
    for (size_t size : {0ul, 1ul, 51ul, 4095ul, 4096ul, 4097ul, 65'535ul, 65'536ul, 200'000ul, 1ul << 20, 4ul << 20}) {
      RpcMessage request = text("size " + std::to_string(size));
      // In three pieces, one of them empty.
      Buffer whole = pattern(size);
      request.payload = {whole.slice(0, size / 3), Buffer(), whole.slice(size / 3, size - size / 3)};
      Result<RpcMessage> answer = co_await call(kEcho, std::move(request));
      EXPECT_TRUE(answer) << answer.error().message();
      if (!answer) co_return;
      EXPECT_EQ(answer->message, "size " + std::to_string(size));
      EXPECT_EQ(payload_size(answer->payload), size);
      EXPECT_TRUE(is_pattern(flatten(answer->payload).span())) << size;
      EXPECT_FALSE(answer->in_place);
    }
  }

  Task<void> messages_of_all_sizes() {
    for (size_t size : {0ul, 1ul, 4095ul, 4096ul, 4097ul, 65'536ul, 300'000ul, 1ul << 20}) {
      std::string message(size, static_cast<char>('a' + size % 23));
      RpcMessage request = text(message);
      request.payload.push_back(pattern(5000));
      Result<RpcMessage> answer = co_await call(kEcho, std::move(request));
      EXPECT_TRUE(answer) << answer.error().message();
      if (!answer) co_return;
      EXPECT_TRUE(answer->message == message) << size;
      EXPECT_TRUE(is_pattern(flatten(answer->payload).span()));
    }
  }

  Task<void> in_place() {
    for (size_t size : {1ul, 4096ul, 100'000ul, 4ul << 20}) {
      Buffer into = Buffer::zeros(size + 1);
      RpcClient::CallOptions options{.deadline = soon(), .receive_into = into.mutable_span().first(size)};
      Result<RpcMessage> answer = co_await client->call(kBlob, text(std::to_string(size)), options);
      EXPECT_TRUE(answer) << answer.error().message();
      if (!answer) co_return;
      EXPECT_TRUE(answer->in_place);
      EXPECT_TRUE(answer->payload.empty());
      EXPECT_TRUE(is_pattern(into.span().first(size)));
      EXPECT_EQ(into.span()[size], std::byte{0});
    }
  }

  Task<void> in_place_of_another_size() {
    Buffer into = Buffer::zeros(4096);
    RpcClient::CallOptions options{.deadline = soon(), .receive_into = into.mutable_span()};
    Result<RpcMessage> answer = co_await client->call(kBlob, text("1000"), options);
    EXPECT_TRUE(answer);
    EXPECT_FALSE(answer->in_place);
    EXPECT_EQ(payload_size(answer->payload), 1000u);
    EXPECT_TRUE(is_pattern(flatten(answer->payload).span()));
    EXPECT_EQ(into.span()[0], std::byte{0});
    EXPECT_EQ(into.span()[999], std::byte{0});
  }

  Task<void> one_of_many(size_t number) {
    size_t size = (number * 7919) % 60'000;
    RpcMessage request = text(std::to_string(number));
    request.payload.push_back(pattern(size));
    Result<RpcMessage> answer = co_await call(kEcho, std::move(request));
    EXPECT_TRUE(answer) << answer.error().message();
    if (!answer) co_return;
    EXPECT_EQ(answer->message, std::to_string(number));
    EXPECT_EQ(payload_size(answer->payload), size);
    EXPECT_TRUE(is_pattern(flatten(answer->payload).span()));
    ++echoed_;
  }
  Task<void> many_at_once() {
    TaskGroup group(world.executor(), world.clock());
    for (size_t i = 0; i < 2000; ++i)
      group.spawn(one_of_many(i));
    co_await group.stop();
    EXPECT_EQ(echoed_, 2000u);
  }

  Task<void> held_call(size_t number) {
    Result<RpcMessage> answer = co_await call(kHold, text(std::to_string(number)));
    EXPECT_TRUE(answer) << answer.error().message();
    order_.push_back(number);
  }
  Task<void> slow_ones_do_not_hold_up_others() {
    TaskGroup group(world.executor(), world.clock());
    group.spawn(held_call(1));
    co_await service.wait_for_started(1);
    co_await echo_many(10);
    EXPECT_TRUE(order_.empty());
    service.release();
    co_await group.stop();
    EXPECT_EQ(order_.size(), 1u);
  }

  Task<void> errors_travel() {
    Result<RpcMessage> answer = co_await call(kRefuse, text("disk 3 is full"));
    EXPECT_TRUE(answer.failed_with(ErrorCode::kNoSpace));
    EXPECT_EQ(answer.error().context, "disk 3 is full");
    answer = co_await call(kUnknown, text(""));
    EXPECT_TRUE(answer.failed_with(ErrorCode::kNotSupported));
    EXPECT_EQ(answer.error().context, "unknown method 99");
    EXPECT_TRUE(client->connected());
  }

  Task<void> deadlines_and_traces_travel() {
    Result<RpcMessage> answer = co_await client->call(kDeadline, text(""), {.deadline = in(5s), .trace_id = 4711});
    EXPECT_TRUE(answer);
    int left = 0;
    unsigned long long trace = 0;
    EXPECT_EQ(std::sscanf(answer->message.c_str(), "%d %llu", &left, &trace), 2);
    EXPECT_GT(left, 2000);
    EXPECT_LE(left, 5001);
    EXPECT_EQ(trace, 4711u);
    answer = co_await client->call(kDeadline, text(""), {.deadline = kNever});
    EXPECT_EQ(std::sscanf(answer->message.c_str(), "%d %llu", &left, &trace), 2);
    EXPECT_EQ(left, -1);
    EXPECT_NE(trace, 0u);
  }

  Task<void> too_large() {
    Result<RpcMessage> answer = co_await call(kEcho, text(std::string(kMaxMessageBytes + 1, 'x')));
    EXPECT_TRUE(answer.failed_with(ErrorCode::kTooBig));
    answer = co_await call(kEcho, with_payload(pattern(kMaxPayloadBytes + 1)));
    EXPECT_TRUE(answer.failed_with(ErrorCode::kTooBig));
    answer = co_await call(kBlob, text(std::to_string(kMaxPayloadBytes + 1)));
    EXPECT_TRUE(answer.failed_with(ErrorCode::kTooBig));
    EXPECT_THAT(answer.error().context, HasSubstr("the answer of blob"));
    answer = co_await call(kBlob, text(std::to_string(kMaxPayloadBytes)));
    EXPECT_TRUE(answer);
  }

  Task<void> both_know_each_other() {
    EXPECT_EQ(client->server_hello(), nullptr);
    co_await echo_many(1);
    EXPECT_NE(client->server_hello(), nullptr);
    EXPECT_EQ(client->server_hello()->program, "test-server 1");
    EXPECT_EQ(client->server_hello()->cluster, ClusterId(7));
  }

  Task<void> counted() {
    co_await echo_many(3);
    co_await errors_travel();
    std::string metrics = world.metrics().render();
    EXPECT_THAT(metrics, HasSubstr("cairn_rpc_server_requests_total{method=\"echo\"} 3"));
    EXPECT_THAT(metrics, HasSubstr("cairn_rpc_server_errors_total{method=\"refuse\"} 1"));
    EXPECT_THAT(metrics, HasSubstr("cairn_rpc_server_connections 1"));
    EXPECT_THAT(metrics, HasSubstr("cairn_rpc_server_in_flight 0"));
    EXPECT_THAT(metrics, HasSubstr("cairn_rpc_client_calls_total 5"));
    EXPECT_THAT(metrics, HasSubstr("cairn_rpc_client_errors_total{code=\"no_space\"} 1"));
    EXPECT_THAT(metrics, HasSubstr("cairn_rpc_client_in_flight 0"));
    EXPECT_THAT(metrics, HasSubstr("cairn_rpc_server_request_seconds_count{method=\"echo\"} 3"));
  }

  size_t echoed_ = 0;
  std::vector<size_t> order_;
};

TEST_P(Rpc, AnswersComeBack) {
  run(echo_many(200));
  EXPECT_EQ(echoed_, 200u);
}
TEST_P(Rpc, PayloadsOfAllSizesAreTheSameByteForByte) {
  run(payloads_of_all_sizes());
}
TEST_P(Rpc, MessagesOfAllSizesAreTheSameByteForByte) {
  run(messages_of_all_sizes());
}
TEST_P(Rpc, APayloadOfTheExactSizeIsReceivedInPlace) {
  run(in_place());
}
TEST_P(Rpc, APayloadOfAnotherSizeIsNotReceivedInPlace) {
  run(in_place_of_another_size());
}
TEST_P(Rpc, ManyCallsAtOnceGetTheirOwnAnswers) {
  run(many_at_once());
}
TEST_P(Rpc, ASlowRequestDoesNotHoldUpOthers) {
  run(slow_ones_do_not_hold_up_others());
}
TEST_P(Rpc, ErrorsTravelWithCodeAndContext) {
  run(errors_travel());
}
TEST_P(Rpc, DeadlineAndTraceIdReachTheHandler) {
  run(deadlines_and_traces_travel());
}
TEST_P(Rpc, WhatIsTooLargeIsAnError) {
  run(too_large());
}
TEST_P(Rpc, TheClientKnowsWhoAnswers) {
  run(both_know_each_other());
}
TEST_P(Rpc, IsCounted) {
  run(counted());
}

CAIRN_RPC_WORLDS(Rpc);

}  // namespace
}  // namespace cairn
