// Encoding of records and keys: little-endian fields for values, big-endian for keys (so that they sort as numbers),
// every read bounds-checked. Formats themselves are written down in docs/formats.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"

namespace cairn {

// Appends to a string. Not thread-safe.
class ByteWriter {
 public:
  ByteWriter() = default;
  explicit ByteWriter(size_t expected_bytes) { out_.reserve(expected_bytes); }

  void u8(uint8_t v);
  void u16(uint16_t v);
  void u32(uint32_t v);
  void u64(uint64_t v);
  void i64(int64_t v) { u64(static_cast<uint64_t>(v)); }
  void varint(uint64_t v);                 // LEB128
  void bytes(std::string_view v);          // as they are
  void string(std::string_view v);         // varint length, then the bytes
  void key_u32(uint32_t v);                // big-endian
  void key_u64(uint64_t v);                // big-endian

  const std::string& str() const { return out_; }
  std::string take() { return std::move(out_); }
  size_t size() const { return out_.size(); }

 private:
  std::string out_;
};

// Reads from a view that must outlive it. After the first failed read every further one fails too and gives zeros, so
// a decoder may read all fields and ask ok() once at the end.
class ByteReader {
 public:
  explicit ByteReader(std::string_view in) : in_(in) {}

  uint8_t u8();
  uint16_t u16();
  uint32_t u32();
  uint64_t u64();
  int64_t i64() { return static_cast<int64_t>(u64()); }
  uint64_t varint();
  std::string_view bytes(size_t count);
  std::string_view string();
  uint32_t key_u32();
  uint64_t key_u64();

  bool ok() const { return ok_; }
  bool at_end() const { return pos_ == in_.size(); }
  size_t remaining() const { return in_.size() - pos_; }
  // ok() and everything was read; else kCorrupt with `what` as the context.
  Result<void> finish(std::string_view what) const;

 private:
  bool take(size_t count);
  std::string_view in_;
  size_t pos_ = 0;
  bool ok_ = true;
};

}  // namespace cairn
