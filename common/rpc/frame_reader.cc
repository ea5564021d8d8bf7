#include "common/rpc/frame_reader.h"

#include <utility>

#include "common/runtime/future.h"
#include "common/runtime/scoped_timer.h"

namespace cairn {

namespace {
std::span<std::byte> bytes_of(std::string& text) {
  return std::as_writable_bytes(std::span(text));
}
}  // namespace

Result<FrameHeader> FrameReader::take_header() {
  Result<FrameHeader> header = buffer_.take_header();
  ++frames_this_turn_;
  if (header) bytes_this_turn_ += kFrameHeaderBytes + header->message_bytes + header->payload_bytes;
  return header;
}

Task<void> FrameReader::wait_for_turn() {
  frames_this_turn_ = 0;
  bytes_this_turn_ = 0;
  // Not just a post: the loop runs many of them before it looks at its descriptors again.
  Promise<void> turn(world_.executor());
  ScopedTimer timer(world_.clock(), world_.clock().now(), [&turn] { turn.set({}); });
  Result<void> come = co_await turn.future();
  (void)come;
}

Result<std::string> FrameReader::take_message(const FrameHeader& header) {
  std::string message(header.message_bytes, '\0');
  buffer_.take(bytes_of(message));
  Result<void> sound = check_message(header, message);
  if (!sound) return sound.error();
  return message;
}

Task<Result<void>> FrameReader::receive_more() {
  Result<size_t> count = co_await stream_.read_some(buffer_.space());
  if (!count) {
    if (buffer_.size() != 0 && count.failed_with(ErrorCode::kUnavailable))
      co_return count.error().in("the stream ended inside a frame");
    co_return count.error();
  }
  buffer_.filled(*count);
  received_bytes_ += *count;
  co_return Result<void>();
}

Task<Result<FrameHeader>> FrameReader::receive_header() {
  while (!has_header()) {
    Result<void> more = co_await receive_more();
    if (!more) co_return more.error();
  }
  co_return take_header();
}

Task<Result<std::string>> FrameReader::receive_message(FrameHeader header) {
  std::string message(header.message_bytes, '\0');
  std::span<std::byte> rest = bytes_of(message).subspan(buffer_.take(bytes_of(message)));
  if (!rest.empty()) {
    Result<void> read = co_await receive_all(rest);
    if (!read) co_return read.error();
  }
  Result<void> sound = check_message(header, message);
  if (!sound) co_return sound.error();
  co_return message;
}

Task<Result<Buffer>> FrameReader::receive_payload(FrameHeader header) {
  Buffer payload = Buffer::allocate(header.payload_bytes);
  std::span<std::byte> rest = payload.mutable_span();
  rest = rest.subspan(buffer_.take(rest));
  if (!rest.empty()) {
    Result<void> read = co_await receive_all(rest);
    if (!read) co_return read.error();
  }
  co_return payload;
}

Task<Result<void>> FrameReader::receive_all(std::span<std::byte> out) {
  while (!out.empty()) {
    Result<size_t> count = co_await stream_.read_some(out);
    if (!count) co_return count.error();
    received_bytes_ += *count;
    out = out.subspan(*count);
  }
  co_return Result<void>();
}

Task<Result<size_t>> FrameReader::receive_some(std::span<std::byte> out) {
  if (buffer_.size() != 0) co_return buffer_.take(out);
  Result<size_t> count = co_await stream_.read_some(out);
  if (count) received_bytes_ += *count;
  co_return count;
}

Task<Result<void>> FrameReader::skip(size_t bytes) {
  for (;;) {
    bytes -= buffer_.skip(bytes);
    if (bytes == 0) break;
    Result<void> more = co_await receive_more();
    if (!more) co_return more.error();
  }
  co_return Result<void>();
}

}  // namespace cairn
