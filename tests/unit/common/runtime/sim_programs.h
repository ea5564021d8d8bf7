// Programs to run on simulated nodes, and to crash there.
#pragma once

#include <gtest/gtest.h>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "common/runtime/sim_world.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"

namespace cairn {

using StreamPtr = std::unique_ptr<Stream>;

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

inline Task<Result<void>> send_text(Stream* stream, std::string text) {
  std::span<const std::byte> piece = bytes_of(text);
  Result<void> sent = co_await stream->write(std::span(&piece, 1));
  co_return sent;
}

// A small server: answers each byte with the next one, after writing it to its disk from its pool.
class EchoServer {
 public:
  EchoServer(World& world, bool sync)
      : world_(world),
        sync_(sync),
        pool_(world.make_pool("disk", 2)),
        one_writer_(world.executor()),
        tasks_(world.executor(), world.clock()) {
    auto listener = world.transport().listen(*parse_address("tcp:0.0.0.0:7"));
    EXPECT_TRUE(listener) << listener.error().message();
    listener_ = std::move(*listener);
    tasks_.spawn(serve());
    tasks_.spawn(tick());
  }
  int answered = 0;
  int ticks = 0;

 private:
  Task<void> serve() {
    while (true) {
      Result<StreamPtr> stream = co_await listener_->accept();
      if (!stream) co_return;
      tasks_.spawn(answer(std::move(*stream)));
    }
  }
  Task<void> answer(StreamPtr stream) {
    std::byte byte{};
    while (true) {
      Result<size_t> got = co_await stream->read_some(std::span(&byte, 1));
      if (!got) co_return;
      {
        Semaphore::Permit permit = co_await one_writer_.lock();
        Result<void> stored = co_await pool_->run([this, byte]() -> Result<void> { return store(byte); });
        if (!stored) co_return;
      }
      byte = std::byte(static_cast<unsigned char>(byte) + 1);
      std::span<const std::byte> piece(&byte, 1);
      Result<void> sent = co_await stream->write(std::span(&piece, 1));
      if (!sent) co_return;
      ++answered;
    }
  }
  Result<void> store(std::byte byte) {
    auto file = world_.disk().open("/log", {.create = true});
    if (!file) return file.error();
    uint64_t end = *(*file)->size();
    Result<void> done = (*file)->write(end, std::span(&byte, 1));
    if (done && sync_) done = (*file)->sync();
    if (done && sync_) done = world_.disk().sync_folder("/");
    return done;
  }
  Task<void> tick() {
    while (true) {
      Result<void> slept = co_await tasks_.sleep_for(10ms);
      if (!slept) co_return;
      ++ticks;
    }
  }

  World& world_;
  bool sync_;
  std::unique_ptr<BlockingPool> pool_;
  std::unique_ptr<Listener> listener_;
  Mutex one_writer_;
  TaskGroup tasks_;
};

inline SimNode::Factory echo_server(bool sync) {
  return [sync](World& world) { return std::make_shared<EchoServer>(world, sync); };
}

struct Calls {
  int done = 0;
  std::optional<Error> error;
};

// Calls the server again and again until it fails.
inline Task<void> call(World* world, std::string host, Calls* calls, int most = 1'000'000) {
  Result<StreamPtr> stream =
      co_await world->transport().connect(*parse_address("tcp:" + host + ":7"), world->clock().now() + 30s);
  if (!stream) {
    calls->error = stream.error();
    co_return;
  }
  for (int i = 0; i < most; ++i) {
    Result<void> sent = co_await send_text(stream->get(), "a");
    std::byte answer{};
    Result<void> got = co_await (*stream)->read_exact(std::span(&answer, 1));
    if (!sent || !got) {
      calls->error = got.error();
      co_return;
    }
    EXPECT_EQ(answer, std::byte{'b'});
    ++calls->done;
  }
}

class SimTest : public testing::Test {
 protected:
  Simulator simulator{42};
  SimNode& server = simulator.add_node("server");
  SimNode& client = simulator.add_node("client");
  Calls calls;

  void start(bool sync = true) {
    server.start(echo_server(sync));
    client.start();
    client.spawn(call(&client, "server", &calls));
  }
  bool reach(int count) {
    return simulator.run_until([this, count] { return calls.done >= count; }, 60s);
  }
  bool fails(Duration limit) {
    return simulator.run_until([this] { return calls.error.has_value(); }, limit);
  }
};

}  // namespace cairn
