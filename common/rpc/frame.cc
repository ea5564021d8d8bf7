#include "common/rpc/frame.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

#include "common/base/bytes.h"
#include "common/base/crc32c.h"
#include "common/base/units.h"

namespace cairn {

namespace {

template <class T>
void put(char*& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i)
    *out++ = static_cast<char>(static_cast<uint64_t>(value) >> (8 * i));
}

template <class T>
T get(const std::byte*& in) {
  uint64_t value = 0;
  for (size_t i = 0; i < sizeof(T); ++i)
    value |= static_cast<uint64_t>(*in++) << (8 * i);
  return static_cast<T>(value);
}

bool known(uint8_t kind) {
  return kind >= static_cast<uint8_t>(FrameKind::kHello) && kind <= static_cast<uint8_t>(FrameKind::kGoodbye);
}

// What the message of each kind may be at most.
uint32_t max_message_bytes(FrameKind kind) {
  switch (kind) {
    case FrameKind::kHello:
      return kMaxHelloBytes;
    case FrameKind::kError:
    case FrameKind::kGoodbye:
      return kMaxErrorContextBytes + 64;
    case FrameKind::kRequest:
    case FrameKind::kAnswer:
      return kMaxMessageBytes;
  }
  return 0;
}

uint32_t max_payload_bytes(FrameKind kind) {
  return kind == FrameKind::kRequest || kind == FrameKind::kAnswer ? kMaxPayloadBytes : 0;
}

}  // namespace

std::array<char, kFrameHeaderBytes> encode_header(const FrameHeader& header) {
  std::array<char, kFrameHeaderBytes> bytes;
  char* out = bytes.data();
  put<uint32_t>(out, kFrameMagic);
  put<uint8_t>(out, kFrameVersion);
  put<uint8_t>(out, static_cast<uint8_t>(header.kind));
  put<uint16_t>(out, header.method);
  put<uint64_t>(out, header.request_id);
  put<uint64_t>(out, header.trace_id);
  put<uint32_t>(out, header.deadline_ms);
  put<uint32_t>(out, header.message_bytes);
  put<uint32_t>(out, header.payload_bytes);
  put<uint32_t>(out, header.answer_bytes);
  put<uint32_t>(out, header.flags);
  put<uint32_t>(out, header.message_crc);
  put<uint32_t>(out, crc32c(std::string_view(bytes.data(), kFrameHeaderBytes - 4)));
  return bytes;
}

Result<FrameHeader> decode_header(std::span<const std::byte, kFrameHeaderBytes> bytes) {
  auto bad = [](std::string what) { return Error(ErrorCode::kBadMessage, std::move(what)); };
  const std::byte* in = bytes.data();
  uint32_t magic = get<uint32_t>(in);
  // One side has TLS and the other has not: a common mistake, which is named. (Record types of TLS 1.3, then its version.)
  uint32_t tls_record = magic & 0xFFFF;
  if (tls_record == 0x0316) return bad("the other side speaks TLS, and there is no certificate here");
  if (tls_record == 0x0315) {
    return Error(ErrorCode::kUnauthorized,
                 "it speaks TLS only, and there is no certificate here: make one with `cairn cluster issue` and put it "
                 "into /etc/cairn/tls");
  }
  // Before the checksum, so that whoever speaks something else altogether is named as that.
  if (magic != kFrameMagic) return bad(fmt::format("not a frame: starts with {:#010x}", magic));
  uint8_t version = get<uint8_t>(in);
  if (version != kFrameVersion) return bad(fmt::format("frame version {}; ours is {}", version, kFrameVersion));
  const std::byte* crc_at = bytes.data() + kFrameHeaderBytes - 4;
  uint32_t crc = get<uint32_t>(crc_at);
  if (crc != crc32c(bytes.first(kFrameHeaderBytes - 4))) return bad("the frame header's checksum does not match");

  FrameHeader header;
  uint8_t kind = get<uint8_t>(in);
  if (!known(kind)) return bad(fmt::format("unknown kind of frame {}", kind));
  header.kind = static_cast<FrameKind>(kind);
  header.method = get<uint16_t>(in);
  header.request_id = get<uint64_t>(in);
  header.trace_id = get<uint64_t>(in);
  header.deadline_ms = get<uint32_t>(in);
  header.message_bytes = get<uint32_t>(in);
  header.payload_bytes = get<uint32_t>(in);
  header.answer_bytes = get<uint32_t>(in);
  header.flags = get<uint32_t>(in);
  header.message_crc = get<uint32_t>(in);
  if (header.message_bytes > max_message_bytes(header.kind))
    return bad(fmt::format("a message of {} bytes in a frame of kind {}", header.message_bytes, kind));
  if (header.payload_bytes > max_payload_bytes(header.kind))
    return bad(fmt::format("a payload of {} bytes in a frame of kind {}", header.payload_bytes, kind));
  uint32_t known_flags = header.kind == FrameKind::kRequest ? kFlagNoAnswer : 0;
  if ((header.flags & ~known_flags) != 0) return bad(fmt::format("unknown flags {:#x}", header.flags));
  return header;
}

Result<void> check_message(const FrameHeader& header, std::string_view message) {
  if (crc32c(message) != header.message_crc)
    return Error(ErrorCode::kBadMessage, "the message's checksum does not match");
  return {};
}

std::string encode_hello(const Hello& hello) {
  ByteWriter out;
  out.u64(hello.cluster.value);
  out.u16(hello.protocol_min);
  out.u16(hello.protocol_max);
  out.string(std::string_view(hello.program).substr(0, kMaxProgramBytes));
  return out.take();
}

Result<Hello> decode_hello(std::string_view message) {
  ByteReader in(message);
  Hello hello;
  hello.cluster = ClusterId(in.u64());
  hello.protocol_min = in.u16();
  hello.protocol_max = in.u16();
  hello.program = in.string();
  // What a later version adds stands behind and is not read.
  if (!in.ok() || hello.program.size() > kMaxProgramBytes || hello.protocol_min > hello.protocol_max)
    return Error(ErrorCode::kBadMessage, "a hello that cannot be read");
  return hello;
}

std::string encode_error(const Error& error) {
  ByteWriter out;
  out.u16(static_cast<uint16_t>(error.code));
  out.string(std::string_view(error.context).substr(0, kMaxErrorContextBytes));
  return out.take();
}

Error decode_error(std::string_view message) {
  ByteReader in(message);
  uint16_t code = in.u16();
  std::string_view context = in.string();
  if (!in.ok()) return Error(ErrorCode::kBadMessage, "an error that cannot be read");
  return Error(error_code_from_wire(code), std::string(context));
}

Result<uint16_t> agree(const Hello& ours, const Hello& theirs) {
  if (ours.protocol_min > theirs.protocol_max || theirs.protocol_min > ours.protocol_max) {
    return Error(ErrorCode::kProtocol,
                 fmt::format("{} speaks protocol {} to {}, {} speaks {} to {}", ours.program, ours.protocol_min,
                             ours.protocol_max, theirs.program, theirs.protocol_min, theirs.protocol_max));
  }
  if (ours.cluster && theirs.cluster && ours.cluster != theirs.cluster) {
    return Error(ErrorCode::kWrongCluster,
                 fmt::format("{} belongs to cluster {}, {} to cluster {}", ours.program, to_string(ours.cluster),
                             theirs.program, to_string(theirs.cluster)));
  }
  return std::min(ours.protocol_max, theirs.protocol_max);
}

}  // namespace cairn
