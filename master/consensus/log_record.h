// The bytes of the write-ahead log: a segment's header and its records (docs/formats.md, "Master's log"). Pure; not
// thread-safe.
//
// Each record's checksum starts from its segment's generation, so that what a recycled segment held before never passes
// for a record, and each record names the checksum of the one before it, so that what was cut off from the tail never
// joins what is written after. Each record also names where its group (what one sync made durable) began: if a record
// is damaged and a record of a later group is intact, then the damaged one had been durable. That tells damage from a
// torn tail.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/base/ids.h"
#include "common/base/result.h"

namespace cairn {

inline constexpr size_t kSegmentHeaderBytes = 4096;  // one page, so that records never share one with it
inline constexpr size_t kRecordHeaderBytes = 40;
inline constexpr size_t kRecordAlignment = 8;
inline constexpr uint32_t kMaxRecordPayloadBytes = 1 << 20;  // a bound for the reader; entries are at most 256 KiB

enum class RecordType : uint8_t {
  kEntry = 1,        // an entry; if its index is not above the last one, those from its index on are gone
  kTermAndVote = 2,  // term, and in `index` whom this master voted for in it (0: nobody)
  kReset = 3,        // the log is empty and goes on after (index, term): a checkpoint from elsewhere stands before it
};

struct Record {
  RecordType type = RecordType::kEntry;
  uint8_t entry_type = 0;  // of kEntry: libraft's
  uint64_t index = 0;
  uint64_t term = 0;
  std::string_view payload;
};

struct SegmentHeader {
  uint64_t generation = 0;  // one more with each segment that is taken into use
  ClusterId cluster;
  MasterId master;
  // Where the segment before ends, and the checksum of its last record (its chain seed if it has none).
  uint64_t previous_end = 0;
  uint32_t previous_crc = 0;
};

std::string encode_segment_header(const SegmentHeader& header);
// kCorrupt, kNotSupported (a newer version).
Result<SegmentHeader> decode_segment_header(std::string_view bytes);

// What the first record of a segment names as the checksum before it, and every checksum starts from.
uint32_t chain_seed(uint64_t generation);

// Bytes that a record takes, with padding.
size_t record_size(size_t payload_bytes);

// Appends the record to `out`; returns its checksum, which the next record names.
uint32_t append_record(std::string& out, const Record& record, uint64_t generation, uint32_t previous_crc,
                       uint64_t group_start);

struct ReadRecord {
  Record record;  // payload: into the bytes that were read
  uint32_t crc = 0;
  uint32_t previous_crc = 0;
  uint64_t group_start = 0;
  size_t size = 0;  // with padding
};
// The record of this generation that begins at `bytes`, if an intact one does. The caller checks previous_crc.
std::optional<ReadRecord> read_record(std::string_view bytes, uint64_t generation);

}  // namespace cairn
