#include "common/base/bytes.h"

#include <bit>
#include <cstring>

namespace cairn {
namespace {

template <class T>
constexpr T little(T v) {
  return std::endian::native == std::endian::little ? v : std::byteswap(v);
}
template <class T>
constexpr T big(T v) {
  return std::endian::native == std::endian::big ? v : std::byteswap(v);
}

template <class T>
void append(std::string& out, T v) {
  char raw[sizeof v];
  std::memcpy(raw, &v, sizeof v);
  out.append(raw, sizeof v);
}

template <class T>
T load(std::string_view in) {
  T v;
  std::memcpy(&v, in.data(), sizeof v);
  return v;
}

}  // namespace

void ByteWriter::u8(uint8_t v) {
  append(out_, v);
}
void ByteWriter::u16(uint16_t v) {
  append(out_, little(v));
}
void ByteWriter::u32(uint32_t v) {
  append(out_, little(v));
}
void ByteWriter::u64(uint64_t v) {
  append(out_, little(v));
}
void ByteWriter::key_u32(uint32_t v) {
  append(out_, big(v));
}
void ByteWriter::key_u64(uint64_t v) {
  append(out_, big(v));
}
void ByteWriter::bytes(std::string_view v) {
  out_.append(v);
}

void ByteWriter::varint(uint64_t v) {
  while (v >= 0x80) {
    out_.push_back(static_cast<char>(v | 0x80));
    v >>= 7;
  }
  out_.push_back(static_cast<char>(v));
}

void ByteWriter::string(std::string_view v) {
  varint(v.size());
  bytes(v);
}

bool ByteReader::take(size_t count) {
  if (!ok_ || remaining() < count) {
    ok_ = false;
    return false;
  }
  pos_ += count;
  return true;
}

uint8_t ByteReader::u8() {
  return take(1) ? load<uint8_t>(in_.substr(pos_ - 1)) : 0;
}
uint16_t ByteReader::u16() {
  return take(2) ? little(load<uint16_t>(in_.substr(pos_ - 2))) : 0;
}
uint32_t ByteReader::u32() {
  return take(4) ? little(load<uint32_t>(in_.substr(pos_ - 4))) : 0;
}
uint64_t ByteReader::u64() {
  return take(8) ? little(load<uint64_t>(in_.substr(pos_ - 8))) : 0;
}
uint32_t ByteReader::key_u32() {
  return take(4) ? big(load<uint32_t>(in_.substr(pos_ - 4))) : 0;
}
uint64_t ByteReader::key_u64() {
  return take(8) ? big(load<uint64_t>(in_.substr(pos_ - 8))) : 0;
}

uint64_t ByteReader::varint() {
  uint64_t v = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    uint8_t byte = u8();
    if (!ok_) return 0;
    // The tenth byte has room for one bit, and one number has one encoding: no padding with zeros.
    if ((shift == 63 && byte > 1) || (shift > 0 && byte == 0)) {
      ok_ = false;
      return 0;
    }
    v |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) return v;
  }
  ok_ = false;
  return 0;
}

std::string_view ByteReader::bytes(size_t count) {
  return take(count) ? in_.substr(pos_ - count, count) : std::string_view();
}

std::string_view ByteReader::string() {
  uint64_t size = varint();
  return bytes(size);
}

Result<void> ByteReader::finish(std::string_view what) const {
  if (ok_ && at_end()) return {};
  return Error(ErrorCode::kCorrupt, std::string(what) + (ok_ ? ": bytes left over" : ": cut short or malformed"));
}

}  // namespace cairn
