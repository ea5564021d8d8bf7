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

namespace cairn {

class FrameReader {
 public:
  explicit FrameReader(Stream& stream) : stream_(stream) {}

  // A frame is taken in this order: header, message, payload.
  bool has_header() const { return buffer_.has_header(); }
  Result<FrameHeader> take_header() { return buffer_.take_header(); }
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

 private:
  Stream& stream_;
  FrameBuffer buffer_;
};

}  // namespace cairn
