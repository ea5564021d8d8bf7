// FrameReader: the receiving side of a connection. What one recv brought is taken apart without waiting; of large
// messages and payloads the rest is received straight to where it belongs.
//
// Loop thread only. The Stream must outlive it. One task at a time may wait here.
#pragma once

#include <span>
#include <string>

#include "common/base/buffer.h"
#include "common/rpc/frame.h"
#include "common/rpc/frame_buffer.h"
#include "common/runtime/task.h"
#include "common/runtime/transport.h"
#include "common/runtime/world.h"

namespace cairn {

class FrameReader {
 public:
  FrameReader(World& world, Stream& stream) : world_(world), stream_(stream) {}

  // A frame is taken in this order: header, message, payload.
  bool has_header() const { return buffer_.has_header(); }
  Result<FrameHeader> take_header();
  bool has_message(const FrameHeader& header) const { return buffer_.size() >= header.message_bytes; }
  Result<std::string> take_message(const FrameHeader& header);

  // Receives something; what came is then asked for again. kUnavailable at the end of the stream; inside a frame its
  // context says so.
  Task<Result<void>> receive_more();
  Task<Result<FrameHeader>> receive_header();
  Task<Result<std::string>> receive_message(FrameHeader header);
  Task<Result<Buffer>> receive_payload(FrameHeader header);
  // A part of the payload, at least one byte, into memory that must stay until this returns (or the stream is closed).
  Task<Result<size_t>> receive_some(std::span<std::byte> out);
  Task<Result<void>> skip(size_t bytes);

  // A stream that always has more to read never waits: its reader lets the others of the loop (writers, other
  // connections, timers) have their turn after so much.
  static constexpr uint32_t kFramesPerTurn = 64;
  static constexpr uint64_t kBytesPerTurn = 1024 * 1024;
  bool turn_is_over() const { return frames_this_turn_ >= kFramesPerTurn || bytes_this_turn_ >= kBytesPerTurn; }
  Task<void> wait_for_turn();
  // Grows with every piece that arrives, also in the middle of a frame: the other side's sign of life.
  uint64_t received_bytes() const { return received_bytes_; }

 private:
  Task<Result<void>> receive_all(std::span<std::byte> out);

  World& world_;
  Stream& stream_;
  FrameBuffer buffer_;
  uint32_t frames_this_turn_ = 0;
  uint64_t bytes_this_turn_ = 0;
  uint64_t received_bytes_ = 0;
};

}  // namespace cairn
