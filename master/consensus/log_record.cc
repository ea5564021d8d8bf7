#include "master/consensus/log_record.h"

#include "common/base/bytes.h"
#include "common/base/check.h"
#include "common/base/crc32c.h"

namespace cairn {

namespace {
constexpr uint64_t kMagic = 0x31474F4C4D4E5243;  // "CRNMLOG1" in the file
constexpr uint32_t kVersion = 1;
constexpr size_t kSegmentHeaderFields = 8 + 4 + 4 + 8 + 8 + 8 + 8 + 4;  // up to the checksum
constexpr size_t kCrcBytes = 4;

bool known(uint8_t type) {
  return type >= 1 && type <= 3;
}
}  // namespace

std::string encode_segment_header(const SegmentHeader& header) {
  ByteWriter out;
  out.u64(kMagic);
  out.u32(kVersion);
  out.u32(0);  // for later
  out.u64(header.generation);
  out.u64(header.cluster.value);
  out.u64(header.master.value);
  out.u64(header.previous_end);
  out.u32(header.previous_crc);
  CHECK(out.size() == kSegmentHeaderFields);
  out.u32(crc32c(out.str()));
  std::string bytes = out.take();
  bytes.resize(kSegmentHeaderBytes);
  return bytes;
}

Result<SegmentHeader> decode_segment_header(std::string_view bytes) {
  ByteReader in(bytes);
  uint64_t magic = in.u64();
  uint32_t version = in.u32();
  in.u32();
  SegmentHeader header;
  header.generation = in.u64();
  header.cluster = ClusterId(in.u64());
  header.master = MasterId(in.u64());
  header.previous_end = in.u64();
  header.previous_crc = in.u32();
  uint32_t crc = in.u32();
  if (!in.ok() || magic != kMagic) return Error(ErrorCode::kCorrupt, "not a segment of a master's log");
  if (crc != crc32c(bytes.substr(0, kSegmentHeaderFields)))
    return Error(ErrorCode::kCorrupt, "the segment's header is damaged");
  if (version != kVersion) return Error(ErrorCode::kNotSupported, "log of version " + std::to_string(version));
  return header;
}

uint32_t chain_seed(uint64_t generation) {
  ByteWriter out;
  out.u64(generation);
  return crc32c(out.str());
}

size_t record_size(size_t payload_bytes) {
  return (kRecordHeaderBytes + payload_bytes + kRecordAlignment - 1) / kRecordAlignment * kRecordAlignment;
}

uint32_t append_record(std::string& out, const Record& record, uint64_t generation, uint32_t previous_crc,
                       uint64_t group_start) {
  CHECK(record.payload.size() <= kMaxRecordPayloadBytes);
  ByteWriter header;
  header.u32(previous_crc);
  header.u32(static_cast<uint32_t>(record.payload.size()));
  header.u8(static_cast<uint8_t>(record.type));
  header.u8(record.entry_type);
  header.u16(0);
  header.u64(group_start);
  header.u64(record.index);
  header.u64(record.term);
  CHECK(header.size() == kRecordHeaderBytes - kCrcBytes);
  uint32_t crc = crc32c(record.payload, crc32c(header.str(), chain_seed(generation)));
  ByteWriter first;
  first.u32(crc);
  size_t begin = out.size();
  out.append(first.str());
  out.append(header.str());
  out.append(record.payload);
  out.resize(begin + record_size(record.payload.size()));
  return crc;
}

std::optional<ReadRecord> read_record(std::string_view bytes, uint64_t generation) {
  if (bytes.size() < kRecordHeaderBytes) return std::nullopt;
  ByteReader in(bytes);
  ReadRecord read;
  read.crc = in.u32();
  read.previous_crc = in.u32();
  uint32_t length = in.u32();
  uint8_t type = in.u8();
  read.record.entry_type = in.u8();
  uint16_t zero = in.u16();
  read.group_start = in.u64();
  read.record.index = in.u64();
  read.record.term = in.u64();
  if (!known(type) || zero != 0 || length > kMaxRecordPayloadBytes) return std::nullopt;
  read.size = record_size(length);
  if (read.size > bytes.size()) return std::nullopt;
  std::string_view summed = bytes.substr(kCrcBytes, kRecordHeaderBytes - kCrcBytes + length);
  if (read.crc != crc32c(summed, chain_seed(generation))) return std::nullopt;
  read.record.type = static_cast<RecordType>(type);
  read.record.payload = bytes.substr(kRecordHeaderBytes, length);
  return read;
}

}  // namespace cairn
