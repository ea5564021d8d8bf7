// Frames: what RPC sends over a Stream. A fixed header, the message, the payload (docs/formats.md, "Frames").
//
// Pure functions over bytes: nothing is allocated before every length has been checked against its bound. Thread-safe.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/rpc/rpc.h"

namespace cairn {

inline constexpr uint32_t kFrameMagic = 0x314E5243;  // "CRN1"
inline constexpr uint8_t kFrameVersion = 1;
inline constexpr size_t kFrameHeaderBytes = 52;
inline constexpr uint32_t kMaxHelloBytes = 512;          // before it is known who speaks, nobody is given more memory
inline constexpr uint32_t kMaxProgramBytes = 128;        // of Hello.program; longer ones are cut
inline constexpr uint32_t kMaxErrorContextBytes = 1024;  // of an error frame; longer ones are cut
inline constexpr uint32_t kNoDeadlineMs = UINT32_MAX;    // 49 days or more are left

enum class FrameKind : uint8_t {
  kHello = 1,    // both ways, first; the message is a Hello
  kRequest = 2,  // client to server
  kAnswer = 3,   // server to client: the request went well
  kError = 4,    // server to client: it did not, or (request id 0) the hello is refused; the message is an Error
  kGoodbye = 5,  // both ways, last; the message is an Error that says why
};

// Of a request: nobody waits for its answer, and none is sent.
inline constexpr uint32_t kFlagNoAnswer = 1;

struct FrameHeader {
  FrameKind kind = FrameKind::kHello;
  MethodId method = 0;
  uint64_t request_id = 0;
  uint64_t trace_id = 0;
  uint32_t deadline_ms = 0;  // request: what is left of it
  uint32_t message_bytes = 0;
  uint32_t payload_bytes = 0;
  uint32_t answer_bytes =
      0;               // request: how large the answer's payload may get, 0 for not known; the server sets memory aside
  uint32_t flags = 0;  // below: a frame with others is refused
  uint32_t message_crc = 0;  // CRC32C of the message

  bool operator==(const FrameHeader&) const = default;
};

// The header in wire form, with its checksum.
std::array<char, kFrameHeaderBytes> encode_header(const FrameHeader& header);
// kBadMessage for a bad magic, version, checksum, kind, length or flag. The context says which.
Result<FrameHeader> decode_header(std::span<const std::byte, kFrameHeaderBytes> bytes);
// kBadMessage if the message is not what the header's checksum says.
Result<void> check_message(const FrameHeader& header, std::string_view message);

std::string encode_hello(const Hello& hello);
Result<Hello> decode_hello(std::string_view message);

std::string encode_error(const Error& error);
// What an error or goodbye frame says. A message that cannot be read is an error of its own, kBadMessage.
Error decode_error(std::string_view message);

// The version that both sides speak, from two hellos; kProtocol or kWrongCluster, with both sides' values, if they
// cannot talk.
Result<uint16_t> agree(const Hello& ours, const Hello& theirs);

}  // namespace cairn
