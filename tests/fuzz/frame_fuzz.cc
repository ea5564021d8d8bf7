// The decoder of frames, over bytes as a connection brings them: any number of frames, whole or not.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "common/base/check.h"
#include "common/base/units.h"
#include "common/rpc/frame_buffer.h"

namespace cairn {
namespace {

// What is accepted is in bounds, and said again gives the same.
void check_small_messages(std::string_view message) {
  Result<Hello> hello = decode_hello(message);
  if (hello) {
    CHECK(hello->program.size() <= kMaxProgramBytes);
    Result<Hello> again = decode_hello(encode_hello(*hello));
    CHECK(again && again->program == hello->program && again->cluster == hello->cluster);
  } else {
    CHECK(hello.code() == ErrorCode::kBadMessage);
  }
  Error error = decode_error(message);
  CHECK(encode_error(error).size() <= kMaxErrorContextBytes + 64);
}

void run(std::string_view bytes) {
  check_small_messages(bytes);
  FrameBuffer buffer;
  for (;;) {
    std::span<std::byte> space = buffer.space();
    size_t count = std::min(space.size(), bytes.size());
    if (count != 0) std::memcpy(space.data(), bytes.data(), count);
    buffer.filled(count);
    bytes.remove_prefix(count);
    if (!buffer.has_header()) {
      if (bytes.empty()) return;
      continue;
    }
    Result<FrameHeader> header = buffer.take_header();
    if (!header) {
      CHECK(header.code() == ErrorCode::kBadMessage);
      return;
    }
    CHECK(header->message_bytes <= kMaxMessageBytes && header->payload_bytes <= kMaxPayloadBytes);
    std::string message(std::min<size_t>(header->message_bytes, buffer.size()), '\0');
    buffer.take(std::as_writable_bytes(std::span(message)));
    Result<void> sound = check_message(*header, message);
    if (sound) check_small_messages(message);
    buffer.skip(header->payload_bytes);
  }
}

}  // namespace
}  // namespace cairn

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Fuzzers do not find checksums: what looks like a header gets its own.
  std::string bytes(reinterpret_cast<const char*>(data), size);
  if (size > cairn::kFrameHeaderBytes && (data[size - 1] & 1) != 0) {
    cairn::FrameHeader header;
    std::memcpy(&header.message_bytes, data + 24, sizeof(header.message_bytes));
    std::memcpy(&header.payload_bytes, data + 28, sizeof(header.payload_bytes));
    header.kind = static_cast<cairn::FrameKind>(data[5]);
    auto encoded = cairn::encode_header(header);
    std::memcpy(bytes.data(), encoded.data(), encoded.size());
  }
  cairn::run(bytes);
  return 0;
}
