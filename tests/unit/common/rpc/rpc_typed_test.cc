#include "common/rpc/rpc_typed.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "rpc_fixture.h"

namespace cairn {
namespace {

using testing::HasSubstr;

class Names {
 public:
  Task<Result<EntryReply>> look_up(LookupRequest request, RpcRequest rpc) {
    seen_message_bytes = rpc.message.size();
    if (request.name == "missing") co_return Error(ErrorCode::kNotFound, request.name);
    EntryReply reply;
    reply.attributes.inode = InodeId(request.parent.value + request.name.size());
    reply.symlink_target = request.name;
    co_return reply;
  }
  Task<Result<Answer<ChunkReadReply>>> read([[maybe_unused]] ChunkReadRequest request, RpcRequest rpc) {
    EXPECT_TRUE(rpc.payload.empty());
    Answer<ChunkReadReply> answer;
    answer.payload.push_back(pattern(4096));
    co_return answer;
  }
  Task<Result<ChunkWriteReply>> write(ChunkWriteRequest request, RpcRequest rpc) {
    written = rpc.payload;
    ChunkWriteReply reply;
    reply.acks.push_back({.server = ServerId(1), .sequence = request.sequence});
    co_return reply;
  }
  size_t seen_message_bytes = 1;
  Buffer written;
};

class RpcTyped : public RpcTest {
 protected:
  Names names;

  Task<void> all() {
    RpcServer typed(world, server_options);
    add_handler<LookupRequest>(typed, &names, &Names::look_up);
    add_handler<ChunkReadRequest>(typed, &names, &Names::read);
    add_handler<ChunkWriteRequest>(typed, &names, &Names::write);
    address = *typed.listen(*parse_address(test_world->listen_address()));
    start_client();

    LookupRequest lookup{SessionId(1), InodeId(100), "four"};
    Result<Answer<EntryReply>> entry = co_await typed_call(*client, lookup, {.deadline = soon()});
    EXPECT_TRUE(entry) << entry.error().message();
    EXPECT_EQ(entry->reply.attributes.inode, InodeId(104));
    EXPECT_EQ(entry->reply.symlink_target, "four");
    EXPECT_TRUE(entry->payload.empty());
    EXPECT_EQ(names.seen_message_bytes, 0u);

    lookup.name = "missing";
    entry = co_await typed_call(*client, lookup, {.deadline = soon()});
    EXPECT_TRUE(entry.failed_with(ErrorCode::kNotFound));
    EXPECT_EQ(entry.error().context, "missing");  // the handler's words and no others

    ChunkReadRequest read;
    read.chunk = ChunkId(5);
    Result<Answer<ChunkReadReply>> data = co_await typed_call(*client, read, {.deadline = soon()});
    EXPECT_TRUE(data && is_pattern(flatten(data->payload).span()));
    EXPECT_EQ(payload_size(data->payload), 4096u);
    Buffer into = Buffer::zeros(4096);
    data = co_await typed_call(*client, read, {.deadline = soon(), .receive_into = into.mutable_span()});
    EXPECT_TRUE(data && data->in_place && is_pattern(into.span()));

    ChunkWriteRequest write;
    write.chunk = ChunkId(5);
    write.sequence = 77;
    Payload payload{pattern(100'000)};
    Result<Answer<ChunkWriteReply>> written =
        co_await typed_call(*client, write, {.deadline = soon()}, std::move(payload));
    EXPECT_TRUE(written && written->reply.acks.size() == 1 && written->reply.acks[0].sequence == 77);
    EXPECT_EQ(names.written.size(), 100'000u);
    EXPECT_TRUE(is_pattern(names.written.span()));

    // Bytes that are no such request.
    Result<RpcMessage> raw =
        co_await client->call(Method<LookupRequest>::kId, text("not a message"), {.deadline = soon()});
    EXPECT_TRUE(raw.failed_with(ErrorCode::kBadMessage));
    EXPECT_THAT(raw.error().context, HasSubstr("a request lookup"));
    // Another kind of server, whose answers are none.
    EXPECT_TRUE(client->connected());
    co_await client->stop();
    co_await typed.stop();
  }

  Task<Result<RpcMessage>> nonsense([[maybe_unused]] RpcRequest request) { co_return text("nonsense"); }
  Task<void> answer_is_nonsense() {
    RpcServer other(world, server_options);
    other.handle(Method<LookupRequest>::kId, "lookup",
                 [this](RpcRequest request) { return nonsense(std::move(request)); });
    address = *other.listen(*parse_address(test_world->listen_address()));
    start_client();
    LookupRequest lookup{SessionId(1), InodeId(100), "four"};
    Result<Answer<EntryReply>> entry = co_await typed_call(*client, lookup, {.deadline = soon()});
    EXPECT_TRUE(entry.failed_with(ErrorCode::kBadMessage));
    EXPECT_THAT(entry.error().context, HasSubstr("the answer to lookup"));
    co_await client->stop();
    co_await other.stop();
  }
};

TEST_P(RpcTyped, RequestsAndRepliesArePlainValues) {
  run(all());
}
TEST_P(RpcTyped, AnAnswerThatCannotBeReadIsABadMessage) {
  run(answer_is_nonsense());
}

CAIRN_RPC_WORLDS(RpcTyped);

}  // namespace
}  // namespace cairn
