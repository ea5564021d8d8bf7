// FrameBuffer: bytes that have been received and not yet used. One recv brings many small frames; of a large payload it
// takes only the beginning, the rest is received straight to where it belongs.
//
// No I/O here: the owner reads into space() and says how much came with filled(). Not thread-safe.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "common/rpc/frame.h"

namespace cairn {

class FrameBuffer {
 public:
  static constexpr size_t kCapacityBytes = 64 * 1024;
  // After a large payload another one is likely, and what the buffer takes of it would be copied: read no more than
  // header and message.
  static constexpr size_t kShortReadBytes = 4 * 1024;
  static constexpr uint32_t kLargePayloadBytes = 16 * 1024;

  FrameBuffer() : bytes_(std::make_unique_for_overwrite<std::byte[]>(kCapacityBytes)) {}

  size_t size() const { return end_ - begin_; }
  bool has_header() const { return size() >= kFrameHeaderBytes; }

  // Where to receive the next bytes; never empty unless the buffer is full, which cannot be while has_header() is
  // false.
  std::span<std::byte> space() {
    if (begin_ == end_) {
      begin_ = end_ = 0;
    } else if (kCapacityBytes - end_ < kShortReadBytes) {
      std::memmove(bytes_.get(), bytes_.get() + begin_, size());
      end_ -= begin_;
      begin_ = 0;
    }
    size_t wanted = short_reads_ ? kShortReadBytes : kCapacityBytes;
    return {bytes_.get() + end_, std::min(wanted, kCapacityBytes - end_)};
  }
  void filled(size_t count) { end_ += count; }

  // Only if has_header().
  Result<FrameHeader> take_header() {
    std::span<const std::byte, kFrameHeaderBytes> header(bytes_.get() + begin_, kFrameHeaderBytes);
    begin_ += kFrameHeaderBytes;
    Result<FrameHeader> decoded = decode_header(header);
    if (decoded) short_reads_ = decoded->payload_bytes >= kLargePayloadBytes;
    return decoded;
  }
  // Copies what is here into `out`, at most out.size() bytes; gives their number.
  size_t take(std::span<std::byte> out) {
    size_t count = std::min(out.size(), size());
    if (count != 0) std::memcpy(out.data(), bytes_.get() + begin_, count);
    begin_ += count;
    return count;
  }
  size_t skip(size_t count) {
    count = std::min(count, size());
    begin_ += count;
    return count;
  }

 private:
  std::unique_ptr<std::byte[]> bytes_;
  size_t begin_ = 0;
  size_t end_ = 0;
  bool short_reads_ = false;
};

}  // namespace cairn
