#include "common/rpc/frame_writer.h"

#include <deque>
#include <functional>
#include <gtest/gtest.h>

#include "common/runtime/future.h"
#include "common/runtime/task_group.h"
#include "rpc_fixture.h"

namespace cairn {
namespace {

class QueueExecutor final : public Executor {
 public:
  void post(std::move_only_function<void()> fn) override { queue_.push_back(std::move(fn)); }
  bool on_loop() const override { return true; }
  void drain() {
    while (!queue_.empty()) {
      auto fn = std::move(queue_.front());
      queue_.pop_front();
      fn();
    }
  }

 private:
  std::deque<std::move_only_function<void()>> queue_;
};

class NoClock final : public Clock {
 public:
  TimePoint now() const override { return {}; }
  WallTime wall() const override { return {}; }
  TimerId call_at(TimePoint, std::move_only_function<void()>) override { return 1; }
  void cancel(TimerId) override {}
};

// Keeps what each write was given; a write ends when the test says so.
class RecordingStream final : public Stream {
 public:
  explicit RecordingStream(Executor& executor) : executor_(executor) {}
  Task<Result<size_t>> read_some(std::span<std::byte>) override { co_return Error(ErrorCode::kUnavailable); }
  Task<Result<void>> read_exact(std::span<std::byte>) override { co_return Error(ErrorCode::kUnavailable); }
  Task<Result<void>> write(std::span<const std::span<const std::byte>> pieces) override {
    std::string all;
    for (std::span<const std::byte> piece : pieces) {
      all.append(reinterpret_cast<const char*>(piece.data()), piece.size());
      last_pieces.push_back(piece);
    }
    writes.push_back(std::move(all));
    done.emplace_back(executor_);
    Result<void> result = co_await done.back().future();
    co_return result;
  }
  void close() override {}
  std::string peer() const override { return "test"; }

  std::vector<std::string> writes;
  std::vector<std::span<const std::byte>> last_pieces;
  std::deque<Promise<void>> done;

 private:
  Executor& executor_;
};

Task<void> run_writer(FrameWriter* writer, std::optional<Result<void>>* result) {
  Result<void> end = co_await writer->run();
  *result = end;
}

class FrameWriterTest : public testing::Test {
 protected:
  QueueExecutor executor;
  NoClock clock;
  RecordingStream stream{executor};
  FrameWriter writer{executor, stream};
  std::optional<Result<void>> result;
  TaskGroup tasks{executor, clock};

  void start() { tasks.spawn(run_writer(&writer, &result)); }
  void push(uint64_t id, std::string message, Payload payload = {}) {
    writer.push(header(id), std::move(message), std::move(payload));
  }
  static FrameHeader header(uint64_t id) { return FrameHeader{.kind = FrameKind::kRequest, .request_id = id}; }
  void write_ends(Result<void> with = {}) {
    stream.done.back().set(std::move(with));
    executor.drain();
  }
};

TEST_F(FrameWriterTest, FramesOfOneTurnGoOutInOneWrite) {
  start();
  push(1, "one");
  push(2, "two");
  push(3, "three");
  EXPECT_TRUE(stream.writes.empty());
  executor.drain();
  ASSERT_EQ(stream.writes.size(), 1u);
  EXPECT_EQ(stream.writes[0],
            frame_bytes(header(1), "one") + frame_bytes(header(2), "two") + frame_bytes(header(3), "three"));
}

TEST_F(FrameWriterTest, FramesOfAWriteUnderWayGoOutTogetherAfterIt) {
  start();
  push(1, "one");
  executor.drain();
  push(2, "two");
  executor.drain();
  push(3, "three");
  executor.drain();
  ASSERT_EQ(stream.writes.size(), 1u);
  write_ends();
  ASSERT_EQ(stream.writes.size(), 2u);
  EXPECT_EQ(stream.writes[1], frame_bytes(header(2), "two") + frame_bytes(header(3), "three"));
}

TEST_F(FrameWriterTest, PayloadsAndLargeMessagesAreNotCopied) {
  start();
  Buffer payload = pattern(10'000);
  const std::byte* data = payload.data();
  std::string large(100'000, 'L');
  const void* large_data = large.data();
  push(1, std::move(large), {payload});
  executor.drain();
  ASSERT_EQ(stream.last_pieces.size(), 3u);
  EXPECT_EQ(static_cast<const void*>(stream.last_pieces[1].data()), large_data);
  EXPECT_EQ(stream.last_pieces[2].data(), data);
}

TEST_F(FrameWriterTest, CountsWhatIsQueuedAndWritten) {
  start();
  push(1, "one", {pattern(1000)});
  uint64_t bytes = kFrameHeaderBytes + 3 + 1000;
  EXPECT_EQ(writer.queued_bytes(), bytes);
  executor.drain();
  EXPECT_EQ(writer.queued_bytes(), bytes);
  write_ends();
  EXPECT_EQ(writer.queued_bytes(), 0u);
  EXPECT_EQ(writer.written_bytes(), bytes);
}

TEST_F(FrameWriterTest, MuchIsWrittenInBoundedWrites) {
  start();
  Buffer part = pattern(1 << 20);
  for (uint64_t i = 0; i < 20; ++i)
    push(i, "", {part});
  executor.drain();
  size_t bytes = 0;
  while (stream.writes.size() < 100 && writer.queued_bytes() != 0) {
    EXPECT_LE(stream.writes.back().size(), 6u << 20);
    bytes += stream.writes.back().size();
    write_ends();
  }
  EXPECT_EQ(bytes, 20 * (kFrameHeaderBytes + (1 << 20)));
  EXPECT_GE(stream.writes.size(), 4u);
}

TEST_F(FrameWriterTest, FinishWritesWhatIsThereAndEnds) {
  start();
  push(1, "one");
  writer.finish();
  push(2, "too late");
  executor.drain();
  ASSERT_EQ(stream.writes.size(), 1u);
  EXPECT_EQ(stream.writes[0], frame_bytes(header(1), "one"));
  EXPECT_FALSE(result.has_value());
  write_ends();
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(result->has_value());
}

TEST_F(FrameWriterTest, FinishOfAnIdleWriterEndsAtOnce) {
  start();
  writer.finish();
  executor.drain();
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(result->has_value());
}

TEST_F(FrameWriterTest, CloseEndsAnIdleWriter) {
  start();
  writer.close();
  executor.drain();
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(result->failed_with(ErrorCode::kCancelled));
}

TEST_F(FrameWriterTest, AFailedWriteIsTheEnd) {
  start();
  push(1, "one");
  executor.drain();
  push(2, "two");
  write_ends(Error(ErrorCode::kUnavailable, "broken pipe"));
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(result->failed_with(ErrorCode::kUnavailable));
  EXPECT_EQ(stream.writes.size(), 1u);
}

}  // namespace
}  // namespace cairn
