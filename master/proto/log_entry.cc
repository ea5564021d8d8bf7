#include "master/proto/log_entry.h"

#include <utility>

#include "common/base/bytes.h"
#include "common/base/check.h"

namespace cairn {

namespace {
constexpr uint16_t kVersion = 1;
constexpr size_t kFirstBytes = 4096;  // room for a few commands before the first growth

Result<LogEntryFields> decode_fields(ByteReader& in, uint32_t& count) {
  uint16_t version = in.u16();
  in.u16();  // 0, for later
  count = in.u32();
  LogEntryFields fields;
  fields.log_time_ms = in.u64();
  fields.wall_ns = in.i64();
  fields.seed = in.u64();
  if (!in.ok()) return Error(ErrorCode::kCorrupt, "log entry is too short");
  if (version != kVersion) {
    return Error(ErrorCode::kNotSupported,
                 "log entry of version " + std::to_string(version) + ": written by a newer cairn-master");
  }
  return fields;
}
}  // namespace

void LogEntryBuilder::clear() {
  bytes_ = std::string();
  bytes_.reserve(kFirstBytes);
  bytes_.resize(kLogEntryHeaderBytes);
  count_ = 0;
}

void LogEntryBuilder::add(std::string_view command) {
  CHECK(command.size() <= UINT32_MAX);
  auto size = static_cast<uint32_t>(command.size());
  for (int shift = 0; shift < 32; shift += 8)
    bytes_.push_back(static_cast<char>(size >> shift));
  bytes_.append(command);
  ++count_;
}

std::string LogEntryBuilder::finish(const LogEntryFields& fields) {
  ByteWriter header;
  header.u16(kVersion);
  header.u16(0);
  header.u32(count_);
  header.u64(fields.log_time_ms);
  header.i64(fields.wall_ns);
  header.u64(fields.seed);
  CHECK(header.size() == kLogEntryHeaderBytes);
  bytes_.replace(0, kLogEntryHeaderBytes, header.str());
  std::string out = std::move(bytes_);
  clear();
  return out;
}

Result<LogEntryView> decode_log_entry(std::string_view bytes) {
  ByteReader in(bytes);
  uint32_t count = 0;
  Result<LogEntryFields> fields = decode_fields(in, count);
  if (!fields) return fields.error();
  LogEntryView view;
  view.fields = *fields;
  // A count that the bytes cannot hold must not decide how much is allocated.
  if (count > in.remaining() / kLogEntryCommandOverheadBytes)
    return Error(ErrorCode::kCorrupt, "log entry: too many commands");
  view.commands.reserve(count);
  for (uint32_t i = 0; i < count; ++i) {
    uint32_t size = in.u32();
    view.commands.push_back(in.bytes(size));
  }
  Result<void> finished = in.finish("log entry");
  if (!finished) return finished.error();
  return view;
}

Result<LogEntryFields> decode_log_entry_fields(std::string_view bytes) {
  ByteReader in(bytes);
  uint32_t count = 0;
  return decode_fields(in, count);
}

}  // namespace cairn
