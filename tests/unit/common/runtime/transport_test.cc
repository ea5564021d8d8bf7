// What every transport does, on the real one and on the simulated one.
#include "common/runtime/transport.h"

#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/bytes.h"
#include "common/runtime/task_group.h"
#include "test_worlds.h"

namespace cairn {
namespace {

using StreamPtr = std::unique_ptr<Stream>;

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

Task<Result<void>> send_text(Stream* stream, std::string text) {
  std::span<const std::byte> piece = bytes_of(text);
  Result<void> sent = co_await stream->write(std::span(&piece, 1));
  co_return sent;
}

Task<Result<std::string>> receive_text(Stream* stream, size_t size) {
  std::string text(size, '\0');
  Result<void> got = co_await stream->read_exact(std::as_writable_bytes(std::span(text)));
  if (!got) co_return got.error();
  co_return text;
}

struct Pair {
  StreamPtr client;
  StreamPtr server;
};

Task<void> accept_into(Listener* listener, StreamPtr* out) {
  Result<StreamPtr> accepted = co_await listener->accept();
  if (accepted) *out = std::move(*accepted);
}

class TransportTest : public testing::TestWithParam<std::unique_ptr<TestWorld> (*)()> {
 protected:
  std::unique_ptr<TestWorld> test_world = GetParam()();
  World& world = test_world->world();

  TimePoint soon() { return world.clock().now() + 5s; }
  std::unique_ptr<Listener> listen() {
    auto listener = world.transport().listen(*parse_address(test_world->listen_address()));
    EXPECT_TRUE(listener) << listener.error().message();
    return std::move(*listener);
  }
  // A connection and both its ends.
  Task<Pair> connect_pair() {
    std::unique_ptr<Listener> listener = listen();
    TaskGroup group(world.executor(), world.clock());
    Pair pair;
    group.spawn(accept_into(listener.get(), &pair.server));
    Result<StreamPtr> client = co_await world.transport().connect(listener->address(), soon());
    EXPECT_TRUE(client) << client.error().message();
    pair.client = std::move(*client);
    // The accept may take a turn more than the connect.
    while (!pair.server && group.size() > 0) {
      Result<void> turn = co_await group.sleep_for(1ms);
      (void)turn;
    }
    EXPECT_TRUE(pair.server);
    co_return pair;
  }

  Task<void> ping_pong() {
    Pair pair = co_await connect_pair();
    for (int i = 0; i < 100; ++i) {
      Result<void> sent = co_await send_text(pair.client.get(), "ping" + std::to_string(i % 10));
      EXPECT_TRUE(sent);
      Result<std::string> got = co_await receive_text(pair.server.get(), 5);
      EXPECT_EQ(*got, "ping" + std::to_string(i % 10));
      Result<void> answered = co_await send_text(pair.server.get(), "pong");
      EXPECT_TRUE(answered);
      Result<std::string> answer = co_await receive_text(pair.client.get(), 4);
      EXPECT_EQ(*answer, "pong");
    }
    EXPECT_FALSE(pair.client->peer().empty());
    EXPECT_FALSE(pair.server->peer().empty());
  }

  // Writes more than any socket buffer, from more pieces than one system call takes.
  static Task<void> write_pattern(Stream* stream, size_t pieces_count, size_t piece_size, bool* ok) {
    std::vector<std::string> texts;
    std::vector<std::span<const std::byte>> pieces;
    for (size_t i = 0; i < pieces_count; ++i) {
      texts.push_back(i % 7 == 3 ? "" : std::string(piece_size, static_cast<char>('a' + i % 26)));
    }
    for (const std::string& text : texts)
      pieces.push_back(bytes_of(text));
    Result<void> sent = co_await stream->write(pieces);
    *ok = sent.has_value();
  }

  Task<void> large_gather() {
    constexpr size_t kPieces = 3000;
    constexpr size_t kSize = 5001;
    Pair pair = co_await connect_pair();
    TaskGroup group(world.executor(), world.clock());
    bool sent = false;
    group.spawn(write_pattern(pair.client.get(), kPieces, kSize, &sent));
    bool right = true;
    for (size_t i = 0; i < kPieces; ++i) {
      if (i % 7 == 3) continue;
      Result<std::string> got = co_await receive_text(pair.server.get(), kSize);
      right = right && got && *got == std::string(kSize, static_cast<char>('a' + i % 26));
    }
    EXPECT_TRUE(right);
    EXPECT_TRUE(sent);
  }

  Task<void> read_some_gives_what_is_there() {
    Pair pair = co_await connect_pair();
    Result<void> sent = co_await send_text(pair.client.get(), "abc");
    EXPECT_TRUE(sent);
    std::string buffer(100, '\0');
    Result<size_t> got = co_await pair.server->read_some(std::as_writable_bytes(std::span(buffer)));
    EXPECT_EQ(buffer.substr(0, *got), "abc");
  }

  Task<void> end_of_stream() {
    Pair pair = co_await connect_pair();
    Result<void> sent = co_await send_text(pair.client.get(), "last");
    EXPECT_TRUE(sent);
    pair.client.reset();
    Result<std::string> last = co_await receive_text(pair.server.get(), 4);
    EXPECT_EQ(*last, "last");
    Result<std::string> none = co_await receive_text(pair.server.get(), 1);
    EXPECT_TRUE(none.failed_with(ErrorCode::kUnavailable));
  }

  static Task<void> close_soon(TaskGroup* group, Stream* stream) {
    Result<void> slept = co_await group->sleep_for(5ms);
    (void)slept;
    stream->close();
  }

  Task<void> close_ends_a_read() {
    Pair pair = co_await connect_pair();
    TaskGroup group(world.executor(), world.clock());
    group.spawn(close_soon(&group, pair.server.get()));
    Result<std::string> got = co_await receive_text(pair.server.get(), 1);
    EXPECT_TRUE(got.failed_with(ErrorCode::kCancelled) || got.failed_with(ErrorCode::kUnavailable));
    Result<std::string> other = co_await receive_text(pair.client.get(), 1);
    EXPECT_TRUE(other.failed_with(ErrorCode::kUnavailable));
    Result<void> sent = co_await send_text(pair.server.get(), "x");
    EXPECT_FALSE(sent);
  }

  static Task<void> write_until_error(Stream* stream, std::optional<Error>* error) {
    while (true) {
      Result<void> sent = co_await send_text(stream, std::string(100'000, 'x'));
      if (sent) continue;
      error->emplace(sent.error());
      co_return;
    }
  }

  Task<void> close_ends_a_blocked_write() {
    Pair pair = co_await connect_pair();
    TaskGroup group(world.executor(), world.clock());
    std::optional<Error> error;
    group.spawn(write_until_error(pair.client.get(), &error));
    Result<void> slept = co_await group.sleep_for(5ms);
    (void)slept;
    EXPECT_FALSE(error);  // nobody reads: it waits
    pair.client->close();
    co_await group.stop();
    EXPECT_TRUE(error && (error->code == ErrorCode::kCancelled || error->code == ErrorCode::kUnavailable));
  }

  Task<void> writing_to_a_closed_peer_fails() {
    Pair pair = co_await connect_pair();
    pair.server.reset();
    std::optional<Error> error;
    co_await write_until_error(pair.client.get(), &error);
    EXPECT_EQ(error->code, ErrorCode::kUnavailable);
  }

  static Task<void> read_one(Stream* stream, bool* resumed) {
    Result<std::string> got = co_await receive_text(stream, 1);
    *resumed = true;
  }

  Task<void> destroyed_reader_leaves_the_stream_usable() {
    Pair pair = co_await connect_pair();
    bool resumed = false;
    {
      TaskGroup group(world.executor(), world.clock());
      group.spawn(read_one(pair.server.get(), &resumed));
      EXPECT_EQ(group.size(), 1u);
    }
    Result<void> sent = co_await send_text(pair.client.get(), "y");
    EXPECT_TRUE(sent);
    Result<std::string> got = co_await receive_text(pair.server.get(), 1);
    EXPECT_EQ(*got, "y");
    EXPECT_FALSE(resumed);
  }

  Task<void> stream_destroyed_under_its_reader() {
    Pair pair = co_await connect_pair();
    TaskGroup group(world.executor(), world.clock());
    bool resumed = false;
    group.spawn(read_one(pair.server.get(), &resumed));
    pair.server.reset();
    co_await group.stop();
    EXPECT_TRUE(resumed);
  }

  Task<void> nobody_listens() {
    std::unique_ptr<Listener> listener = listen();
    Address address = listener->address();
    listener.reset();
    Result<StreamPtr> stream = co_await world.transport().connect(address, soon());
    EXPECT_TRUE(stream.failed_with(ErrorCode::kUnavailable));
    EXPECT_NE(stream.error().context.find(to_string(address)), std::string::npos) << stream.error().message();
  }

  Task<void> address_in_use() {
    std::unique_ptr<Listener> listener = listen();
    auto second = world.transport().listen(listener->address());
    EXPECT_TRUE(second.failed_with(ErrorCode::kBusy));
    if (!second) {
      EXPECT_NE(second.error().context.find(to_string(listener->address())), std::string::npos);
    }
    listener.reset();
    auto third = world.transport().listen(*parse_address(test_world->listen_address()));
    EXPECT_TRUE(third);
    co_return;
  }

  static Task<void> accept_fails(Listener* listener, bool* failed) {
    Result<StreamPtr> accepted = co_await listener->accept();
    *failed = !accepted;
  }

  Task<void> closing_a_listener_ends_its_accept() {
    std::unique_ptr<Listener> listener = listen();
    TaskGroup group(world.executor(), world.clock());
    bool failed = false;
    group.spawn(accept_fails(listener.get(), &failed));
    listener->close();
    co_await group.stop();
    EXPECT_TRUE(failed);
  }

  Task<void> past_deadline() {
    std::unique_ptr<Listener> listener = listen();
    Result<StreamPtr> stream = co_await world.transport().connect(listener->address(), world.clock().now() - 1ms);
    EXPECT_TRUE(stream.failed_with(ErrorCode::kTimeout));
  }
};

TEST_P(TransportTest, CarriesBytesBothWays) {
  test_world->run(ping_pong());
}
TEST_P(TransportTest, WriteOfManyPiecesArrivesWholeAndInOrder) {
  test_world->run(large_gather());
}
TEST_P(TransportTest, ReadSomeGivesWhatIsThere) {
  test_world->run(read_some_gives_what_is_there());
}
TEST_P(TransportTest, ReaderGetsEverythingBeforeTheEnd) {
  test_world->run(end_of_stream());
}
TEST_P(TransportTest, CloseEndsAReadOnBothSides) {
  test_world->run(close_ends_a_read());
}
TEST_P(TransportTest, CloseEndsAWriteThatWaits) {
  test_world->run(close_ends_a_blocked_write());
}
TEST_P(TransportTest, WritingToAClosedPeerFails) {
  test_world->run(writing_to_a_closed_peer_fails());
}
TEST_P(TransportTest, DestroyedReaderLeavesTheStreamUsable) {
  test_world->run(destroyed_reader_leaves_the_stream_usable());
}
TEST_P(TransportTest, StreamMayBeDestroyedUnderItsReader) {
  test_world->run(stream_destroyed_under_its_reader());
}
TEST_P(TransportTest, ConnectSaysWhereNobodyListens) {
  test_world->run(nobody_listens());
}
TEST_P(TransportTest, AddressInUseIsBusy) {
  test_world->run(address_in_use());
}
TEST_P(TransportTest, ClosingAListenerEndsItsAccept) {
  test_world->run(closing_a_listener_ends_its_accept());
}
TEST_P(TransportTest, ConnectAfterItsDeadlineTimesOut) {
  test_world->run(past_deadline());
}

INSTANTIATE_TEST_SUITE_P(Tcp, TransportTest, testing::Values(&make_real_test_world));
INSTANTIATE_TEST_SUITE_P(Unix, TransportTest, testing::Values(&make_unix_test_world));
INSTANTIATE_TEST_SUITE_P(Tls, TransportTest, testing::Values(&make_tls_test_world));
INSTANTIATE_TEST_SUITE_P(Authenticated, TransportTest, testing::Values(&make_authenticated_test_world));
INSTANTIATE_TEST_SUITE_P(Simulated, TransportTest, testing::Values(&make_sim_test_world));

}  // namespace
}  // namespace cairn
