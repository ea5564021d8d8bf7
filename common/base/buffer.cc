#include "common/base/buffer.h"

#include <array>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

#include "common/base/check.h"
#include "common/base/units.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
// Recycled memory would hide a use after the end from them.
#define CAIRN_BUFFERS_ARE_RECYCLED 0
#endif
#endif
#ifndef CAIRN_BUFFERS_ARE_RECYCLED
#define CAIRN_BUFFERS_ARE_RECYCLED 1
#endif

namespace cairn {
namespace {

constexpr size_t kPageBytes = 4096;
// What lies idle in a process's free lists. Ten processes of a local cluster share one machine.
constexpr size_t kIdleBytesMax = 32 * kMiB;

// Free lists of 4 KiB to 4 MiB in four classes a doubling, so that at most a fifth of an allocation is unused. Touching
// fresh pages is dear on virtual machines (a fault each), and sizes recur: FUSE writes, blocks, payloads.
constexpr size_t kPagesMax = kMaxPayloadBytes / kPageBytes;

// Pages of the smallest class that holds `pages`: 1 2 3 4 5 6 7 8 10 12 14 16 20 24 ...
constexpr size_t class_pages(size_t pages) {
  if (pages <= 8) return pages;
  size_t step = std::bit_floor(pages - 1) / 4;
  return (pages + step - 1) / step * step;
}
// 0, 1, 2, ... for the sizes that class_pages() gives.
constexpr size_t class_index(size_t pages) {
  if (pages <= 8) return pages - 1;
  size_t doubling = std::bit_width(pages - 1) - 1;  // 3 for 9 to 16
  size_t base = size_t{1} << doubling;
  return 8 + (doubling - 3) * 4 + (pages - base) / (base / 4) - 1;
}
constexpr size_t kClasses = class_index(kPagesMax) + 1;

class FreeLists {
 public:
  // Never destroyed: buffers may outlive every static object.
  static FreeLists& instance() {
    static FreeLists* lists = new FreeLists;
    return *lists;
  }

  std::byte* allocate(size_t pages) {
    if (CAIRN_BUFFERS_ARE_RECYCLED && pages <= kPagesMax) {
      std::scoped_lock lock(mutex_);
      std::byte*& head = heads_[class_index(pages)];
      if (head) {
        std::byte* memory = head;
        std::memcpy(&head, memory, sizeof head);
        idle_bytes_ -= pages * kPageBytes;
        return memory;
      }
    }
    void* memory = std::aligned_alloc(kPageBytes, pages * kPageBytes);
    if (!memory) throw std::bad_alloc();
    return static_cast<std::byte*>(memory);
  }

  void release(std::byte* memory, size_t pages) {
    if (CAIRN_BUFFERS_ARE_RECYCLED && pages <= kPagesMax) {
      std::scoped_lock lock(mutex_);
      if (idle_bytes_ + pages * kPageBytes <= kIdleBytesMax) {
        std::byte*& head = heads_[class_index(pages)];
        std::memcpy(memory, &head, sizeof head);
        head = memory;
        idle_bytes_ += pages * kPageBytes;
        return;
      }
    }
    std::free(memory);
  }

 private:
  std::mutex mutex_;
  size_t idle_bytes_ = 0;
  std::array<std::byte*, kClasses> heads_{};  // each a list, linked through the first bytes of the free memory
};

}  // namespace

Buffer Buffer::allocate(size_t size_bytes) {
  Buffer buffer;
  if (size_bytes == 0) return buffer;
  size_t pages = (size_bytes + kPageBytes - 1) / kPageBytes;
  if (pages <= kPagesMax) pages = class_pages(pages);
  buffer.data_ = FreeLists::instance().allocate(pages);
  buffer.memory_ = std::shared_ptr<std::byte>(
      buffer.data_, [pages](std::byte* memory) { FreeLists::instance().release(memory, pages); });
  buffer.size_ = size_bytes;
  buffer.memory_bytes_ = pages * kPageBytes;
  return buffer;
}

Buffer Buffer::zeros(size_t size_bytes) {
  Buffer buffer = allocate(size_bytes);
  if (size_bytes > 0) std::memset(buffer.data_, 0, size_bytes);
  return buffer;
}

Buffer Buffer::copy_of(std::span<const std::byte> bytes) {
  Buffer buffer = allocate(bytes.size());
  if (!bytes.empty()) std::memcpy(buffer.data_, bytes.data(), bytes.size());
  return buffer;
}

Buffer Buffer::copy_of(std::string_view bytes) {
  return copy_of(std::as_bytes(std::span(bytes)));
}

Buffer Buffer::slice(size_t offset, size_t size) const {
  CHECK(offset <= size_ && size <= size_ - offset);
  if (size == 0) return {};
  Buffer part = *this;
  part.data_ += offset;
  part.size_ = size;
  return part;
}

size_t payload_size(const Payload& payload) {
  size_t total = 0;
  for (const Buffer& piece : payload)
    total += piece.size();
  return total;
}

Buffer flatten(const Payload& payload) {
  if (payload.size() == 1) return payload.front();
  Buffer whole = Buffer::allocate(payload_size(payload));
  std::byte* out = whole.mutable_span().data();
  for (const Buffer& piece : payload) {
    if (piece.empty()) continue;
    std::memcpy(out, piece.data(), piece.size());
    out += piece.size();
  }
  return whole;
}

}  // namespace cairn
