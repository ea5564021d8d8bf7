// The dump: all records of a cluster's metadata at one moment, as one file (docs/formats.md, "Metadata dump"). Leaders
// write it page by page, `cairn metadata export` keeps it, `cairn metadata import` and `cairn rescue` read it.
//
// Each checksum covers everything before it in the file, so that nothing can be cut off, left out, altered or joined
// from two dumps without being noticed. Values only; not thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/base/units.h"

namespace cairn {

inline constexpr uint64_t kDumpPageBytes = 1 * kMiB;      // of records, before compression: a page is full from here on
inline constexpr uint64_t kDumpPageMaxBytes = 16 * kMiB;  // a reader's bound

struct DumpHeader {
  ClusterId cluster;
  uint64_t applied_index = 0;  // the last entry of the log that is in it
  uint64_t applied_term = 0;
  uint64_t log_time_ms = 0;
  int64_t wall_ns = 0;  // when it was made, nanoseconds since 1970; for people
  std::string program;  // that made it
  bool operator==(const DumpHeader&) const = default;
};

// Makes the file's bytes, in order: header(), then add() and page() as often as needed, then end().
class DumpWriter {
 public:
  std::string header(const DumpHeader& header);
  // Keys ascend over the whole dump.
  void add(std::string_view key, std::string_view value);
  bool page_full() const { return raw_.size() >= kDumpPageBytes; }
  bool page_empty() const { return raw_.empty(); }
  // What was added since the last one. kTooBig: a record that no reader would take.
  Result<std::string> page();
  std::string end();

 private:
  std::string sealed(std::string bytes);

  std::string raw_;
  uint32_t page_records_ = 0;
  uint32_t pages_ = 0;
  uint64_t records_ = 0, raw_bytes_ = 0;
  uint32_t crc_ = 0;  // of everything so far, checksums left out
};

struct DumpSummary {
  DumpHeader header;
  uint64_t pages = 0, records = 0, raw_bytes = 0, file_bytes = 0;
  std::map<char, uint64_t> records_of_kind;  // by the first byte of the key (docs/formats.md, "Metadata records")
};

// Up to `bytes` bytes at `offset`; fewer only at the end.
using DumpSource = std::function<Result<std::string>(uint64_t offset, size_t bytes)>;
using DumpVisit = std::function<Result<void>(std::string_view key, std::string_view value)>;

// Reads all of it and checks each byte. kCorrupt: cut short, altered, or no dump; kNotSupported: a newer version wrote
// it. `visit` may have seen records of a dump that turns out to be damaged behind them; an error of it ends the reading.
Result<DumpSummary> read_dump(const DumpSource& source, const DumpVisit& visit);
// Only the header.
Result<DumpHeader> read_dump_header(const DumpSource& source);

}  // namespace cairn
