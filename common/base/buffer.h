// Buffer: a counted reference to a slice of page-aligned memory. File data travels in Buffers, so that the bytes
// received from a socket go to the disk and to the next replica without a copy.
//
// Copies share the memory. Writing through mutable_span() is for the one who has just made the buffer and not yet
// shared it. Counting is thread-safe; the bytes are not guarded.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace cairn {

class Buffer {
 public:
  Buffer() = default;
  // New memory, not initialised, aligned to 4096 bytes and allocated in whole pages.
  static Buffer allocate(size_t size_bytes);
  static Buffer zeros(size_t size_bytes);
  static Buffer copy_of(std::span<const std::byte> bytes);
  static Buffer copy_of(std::string_view bytes);

  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  const std::byte* data() const { return data_; }
  std::span<const std::byte> span() const { return {data_, size_}; }
  std::span<std::byte> mutable_span() { return {data_, size_}; }
  std::string_view view() const { return {reinterpret_cast<const char*>(data_), size_}; }

  // [offset, offset + size) of this buffer, sharing its memory. Must lie within it.
  Buffer slice(size_t offset, size_t size) const;
  // Bytes of memory kept alive by this reference (what a bound on memory should count).
  size_t memory_bytes() const { return memory_bytes_; }

 private:
  std::shared_ptr<std::byte> memory_;
  std::byte* data_ = nullptr;
  size_t size_ = 0;
  size_t memory_bytes_ = 0;
};

// A message's raw bytes, in order; sent by scatter-gather.
using Payload = std::vector<Buffer>;
size_t payload_size(const Payload& payload);
// One buffer with all bytes; no copy if there is just one.
Buffer flatten(const Payload& payload);

}  // namespace cairn
