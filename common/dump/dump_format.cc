#include "common/dump/dump_format.h"

#include <utility>

#include <zstd.h>

#include "common/base/bytes.h"
#include "common/base/crc32c.h"

namespace cairn {
namespace {

constexpr uint64_t kMagic = 0x31504D55444E5243;  // "CRNDUMP1" in the file
constexpr uint32_t kVersion = 1;
constexpr uint32_t kPageTag = 0x45474150;  // "PAGE"
constexpr uint32_t kEndTag = 0x444E4544;   // "DEND"
constexpr size_t kCrcBytes = 4;
constexpr size_t kHeadBytes = 16;  // magic, version, length of the fields
constexpr size_t kPageHeadBytes = 20;
constexpr size_t kEndBytes = 24;
constexpr uint32_t kHeaderFieldsMax = 4096;
constexpr int kCompressionLevel = 1;  // the leader has other things to do

Error damaged(uint64_t offset, std::string_view what) {
  return Error(ErrorCode::kCorrupt, "the dump is damaged at byte " + std::to_string(offset) + ": " + std::string(what));
}

Result<std::string> compress(std::string_view raw) {
  std::string out(ZSTD_compressBound(raw.size()), '\0');
  size_t size = ZSTD_compress(out.data(), out.size(), raw.data(), raw.size(), kCompressionLevel);
  if (ZSTD_isError(size) != 0) return Error(ErrorCode::kNoMemory, "compressing a page of the dump");
  out.resize(size);
  return out;
}

class Reader {
 public:
  Reader(const DumpSource& source, const DumpVisit& visit) : source_(source), visit_(visit) {}

  Result<DumpHeader> header();
  Result<DumpSummary> all();

 private:
  Result<std::string> take(size_t bytes);
  Result<void> check();
  Result<void> page(std::string_view rest_of_head);
  Result<void> end(std::string_view rest_of_head);
  Result<void> records(std::string_view raw, uint32_t count);

  const DumpSource& source_;
  const DumpVisit& visit_;
  uint64_t offset_ = 0;
  uint32_t crc_ = 0;
  std::string last_key_;
  DumpSummary summary_;
};

// The next bytes, which count for the checksum.
Result<std::string> Reader::take(size_t bytes) {
  Result<std::string> got = source_(offset_, bytes);
  if (!got) return got;
  if (got->size() < bytes) return damaged(offset_ + got->size(), "it ends there");
  offset_ += bytes;
  crc_ = crc32c(*got, crc_);
  return got;
}

Result<void> Reader::check() {
  const uint32_t expected = crc_;
  Result<std::string> stored = source_(offset_, kCrcBytes);
  if (!stored) return stored.error();
  if (stored->size() < kCrcBytes) return damaged(offset_ + stored->size(), "it ends there");
  ByteReader in(*stored);
  if (in.u32() != expected) return damaged(offset_, "the checksum does not match what is before it");
  offset_ += kCrcBytes;
  return {};
}

Result<DumpHeader> Reader::header() {
  Result<std::string> head = source_(0, kHeadBytes);
  if (!head) return head.error();
  ByteReader in(*head);
  const uint64_t magic = in.u64();
  const uint32_t version = in.u32();
  const uint32_t length = in.u32();
  if (!in.ok() || magic != kMagic) return Error(ErrorCode::kCorrupt, "this is no metadata dump");
  if (version != kVersion) {
    return Error(ErrorCode::kNotSupported,
                 "the dump has version " + std::to_string(version) + "; this program knows version 1");
  }
  if (length > kHeaderFieldsMax) return damaged(12, "an impossible length");
  head = take(kHeadBytes);
  if (!head) return head.error();
  Result<std::string> fields = take(length);
  if (!fields) return fields.error();
  if (Result<void> checked = check(); !checked) return checked.error();
  ByteReader reader(*fields);
  DumpHeader header;
  header.cluster = ClusterId{reader.u64()};
  header.applied_index = reader.u64();
  header.applied_term = reader.u64();
  header.log_time_ms = reader.u64();
  header.wall_ns = reader.i64();
  header.program = std::string(reader.string());
  if (Result<void> finished = reader.finish("the dump's header"); !finished) return finished.error();
  return header;
}

Result<void> Reader::records(std::string_view raw, uint32_t count) {
  ByteReader in(raw);
  for (uint32_t i = 0; i < count; ++i) {
    std::string_view key = in.string();
    std::string_view value = in.string();
    if (!in.ok() || key.empty()) return damaged(offset_, "a record that is none");
    if (key <= last_key_) return damaged(offset_, "records out of order");
    last_key_ = key;
    ++summary_.records_of_kind[key.front()];
    if (Result<void> seen = visit_(key, value); !seen) return seen;
  }
  return in.finish("a page of the dump");
}

Result<void> Reader::page(std::string_view rest_of_head) {
  ByteReader in(rest_of_head);
  const uint32_t number = in.u32();
  const uint32_t count = in.u32();
  const uint32_t raw_bytes = in.u32();
  const uint32_t stored_bytes = in.u32();
  if (number != summary_.pages) return damaged(offset_, "a page out of order");
  if (raw_bytes > kDumpPageMaxBytes || stored_bytes > raw_bytes || count > raw_bytes)
    return damaged(offset_, "an impossible length");
  Result<std::string> stored = take(stored_bytes);
  if (!stored) return stored.error();
  if (Result<void> checked = check(); !checked) return checked;
  std::string raw;
  if (stored_bytes == raw_bytes) {
    raw = std::move(*stored);
  } else {
    raw.resize(raw_bytes);
    size_t size = ZSTD_decompress(raw.data(), raw.size(), stored->data(), stored->size());
    if (ZSTD_isError(size) != 0 || size != raw_bytes) return damaged(offset_, "a page that cannot be decompressed");
  }
  ++summary_.pages;
  summary_.records += count;
  summary_.raw_bytes += raw_bytes;
  return records(raw, count);
}

Result<void> Reader::end(std::string_view rest_of_head) {
  ByteReader in(rest_of_head);
  const uint32_t pages = in.u32();
  const uint64_t records = in.u64();
  Result<std::string> rest = take(kEndBytes - kPageHeadBytes);
  if (!rest) return rest.error();
  std::string last = std::string(rest_of_head.substr(12)) + *rest;
  ByteReader tail(last);
  const uint64_t raw_bytes = tail.u64();
  if (Result<void> checked = check(); !checked) return checked;
  if (pages != summary_.pages || records != summary_.records || raw_bytes != summary_.raw_bytes)
    return damaged(offset_, "its counts do not match");
  Result<std::string> more = source_(offset_, 1);
  if (!more) return more.error();
  if (!more->empty()) return damaged(offset_, "something follows its end");
  summary_.file_bytes = offset_;
  return {};
}

Result<DumpSummary> Reader::all() {
  Result<DumpHeader> first = header();
  if (!first) return first.error();
  summary_.header = std::move(*first);
  while (summary_.file_bytes == 0) {
    Result<std::string> head = take(kPageHeadBytes);
    if (!head) return head.error();
    ByteReader in(*head);
    const uint32_t tag = in.u32();
    std::string_view rest = std::string_view(*head).substr(4);
    if (tag != kPageTag && tag != kEndTag) return damaged(offset_ - kPageHeadBytes, "neither a page nor its end");
    Result<void> done = tag == kPageTag ? page(rest) : end(rest);
    if (!done) return done.error();
  }
  return std::move(summary_);
}

}  // namespace

std::string DumpWriter::sealed(std::string bytes) {
  crc_ = crc32c(bytes, crc_);
  ByteWriter crc;
  crc.u32(crc_);
  return bytes + crc.str();
}

std::string DumpWriter::header(const DumpHeader& header) {
  ByteWriter fields;
  fields.u64(header.cluster.value);
  fields.u64(header.applied_index);
  fields.u64(header.applied_term);
  fields.u64(header.log_time_ms);
  fields.i64(header.wall_ns);
  fields.string(header.program);
  ByteWriter out;
  out.u64(kMagic);
  out.u32(kVersion);
  out.u32(static_cast<uint32_t>(fields.size()));
  out.bytes(fields.str());
  return sealed(out.take());
}

void DumpWriter::add(std::string_view key, std::string_view value) {
  ByteWriter out(key.size() + value.size() + 8);
  out.string(key);
  out.string(value);
  raw_ += out.str();
  ++page_records_;
}

Result<std::string> DumpWriter::page() {
  if (raw_.size() > kDumpPageMaxBytes) return Error(ErrorCode::kTooBig, "a record of the metadata");
  Result<std::string> compressed = compress(raw_);
  if (!compressed) return compressed;
  const std::string& stored = compressed->size() < raw_.size() ? *compressed : raw_;
  ByteWriter out(kPageHeadBytes + stored.size() + kCrcBytes);
  out.u32(kPageTag);
  out.u32(pages_++);
  out.u32(page_records_);
  out.u32(static_cast<uint32_t>(raw_.size()));
  out.u32(static_cast<uint32_t>(stored.size()));
  out.bytes(stored);
  records_ += page_records_;
  raw_bytes_ += raw_.size();
  raw_.clear();
  page_records_ = 0;
  return sealed(out.take());
}

std::string DumpWriter::end() {
  ByteWriter out;
  out.u32(kEndTag);
  out.u32(pages_);
  out.u64(records_);
  out.u64(raw_bytes_);
  return sealed(out.take());
}

Result<DumpSummary> read_dump(const DumpSource& source, const DumpVisit& visit) {
  return Reader(source, visit).all();
}

Result<DumpHeader> read_dump_header(const DumpSource& source) {
  const DumpVisit nothing = [](std::string_view, std::string_view) -> Result<void> { return {}; };
  return Reader(source, nothing).header();
}

}  // namespace cairn
