// FrameWriter: the sending side of a connection. What is pushed while a write is under way, and what is pushed in one
// turn of the loop, goes out in one write. Payloads are not copied.
//
// Loop thread only. The Stream must outlive it. run() is one task, which lives no longer than this.
#pragma once

#include <coroutine>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/base/buffer.h"
#include "common/rpc/frame.h"
#include "common/runtime/executor.h"
#include "common/runtime/task.h"
#include "common/runtime/transport.h"

namespace cairn {

class FrameWriter {
 public:
  FrameWriter(Executor& executor, Stream& stream);
  FrameWriter(const FrameWriter&) = delete;
  FrameWriter& operator=(const FrameWriter&) = delete;

  // Fills in the header's lengths and checksum. Dropped after close() or finish().
  void push(FrameHeader header, std::string message, Payload payload = {});

  // Writes until close(), until everything pushed before finish() is written, or until the stream fails (which is the
  // error).
  Task<Result<void>> run();
  void finish();
  void close();

  // Bytes pushed and bytes handed to the operating system since the beginning: a frame is out when written_bytes() has
  // reached what pushed_bytes() was after its push. The difference is the memory that waits here.
  uint64_t pushed_bytes() const { return pushed_bytes_; }
  uint64_t written_bytes() const { return written_bytes_; }
  uint64_t queued_bytes() const { return pushed_bytes_ - written_bytes_; }
  // Called after each write.
  void on_written(std::function<void()> callback) { on_written_ = std::move(callback); }

 private:
  struct Piece {
    size_t staged_begin = 0;  // in Batch::staged, if neither of the others
    size_t size = 0;
    Buffer payload;
    std::string message;
  };
  struct Batch {
    std::string staged;  // headers and small messages, one after the other
    std::vector<Piece> pieces;
    void add_staged(std::string_view bytes);
    void clear();
  };
  // The one who waits for something to write. Shared with the posted function that wakes it, which may come after the
  // writer's end.
  struct Sleeper {
    std::coroutine_handle<> waiter;
  };
  struct Sleep;
  void wake();
  Task<Result<void>> write_batch();

  Executor& executor_;
  Stream& stream_;
  Batch gathering_;
  Batch writing_;
  std::vector<std::span<const std::byte>> spans_;  // of the write that is under way
  uint64_t pushed_bytes_ = 0;
  uint64_t written_bytes_ = 0;
  std::function<void()> on_written_;
  std::shared_ptr<Sleeper> sleeper_;
  bool woken_ = false;  // a wake-up is posted
  bool finishing_ = false;
  bool closed_ = false;
};

}  // namespace cairn
