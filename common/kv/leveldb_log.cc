#include "common/kv/leveldb_log.h"

#include <algorithm>
#include <vector>

#include "common/base/bytes.h"
#include "common/base/crc32c.h"
#include "common/base/log.h"
#include "common/base/units.h"

namespace cairn {
namespace {

constexpr uint64_t kBlockBytes = 32 * kKiB;
constexpr uint64_t kHeaderBytes = 7;
enum RecordType : uint8_t { kWhole = 1, kFirst = 2, kMiddle = 3, kLast = 4 };

struct Fragment {
  uint8_t type = 0;
  uint64_t end = 0;
};

// The valid fragment at `at`; type 0 if there is none.
Fragment fragment_at(std::string_view content, uint64_t at) {
  ByteReader header(content.substr(at));
  uint32_t masked = header.u32();
  uint16_t length = header.u16();
  uint8_t type = header.u8();
  uint64_t end = at + kHeaderBytes + length;
  uint64_t block_end = at / kBlockBytes * kBlockBytes + kBlockBytes;
  if (!header.ok() || type < kWhole || type > kLast || end > block_end || end > content.size()) return {};
  // LevelDB masks sums, so that the sum of a record that holds a record is not weak.
  uint32_t rotated = masked - 0xa282ead8u;
  uint32_t crc = (rotated >> 17) | (rotated << 15);
  if (crc32c(content.substr(at + 6, 1 + length)) != crc) return {};
  return {type, end};
}

bool only_zeros(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c == 0; });
}

Result<void> cut(Disk& disk, const std::string& path, const LogScan& scan, uint64_t size) {
  log_warning("kv.log_cut", "path={} records={} kept_bytes={} cut_bytes={}", quoted(path), scan.records, scan.end,
              size - scan.end);
  Result<std::unique_ptr<File>> file = disk.open(path, {});
  if (!file) return file.error();
  Result<void> done = (*file)->truncate(scan.end);
  if (!done) return done;
  return (*file)->sync();
}

Result<void> cut_manifest(Disk& disk, const std::string& folder) {
  Result<std::string> current = read_file(disk, folder + "/CURRENT");
  if (!current) return current.error();
  while (current->ends_with('\n'))
    current->pop_back();
  std::string path = folder + "/" + *current;
  Result<std::string> content = read_file(disk, path);
  if (content.failed_with(ErrorCode::kNotFound)) return Error(ErrorCode::kCorrupt, path + ": missing");
  if (!content) return content.error();
  LogScan scan = scan_leveldb_log(*content);
  if (scan.end == content->size()) return {};
  // Each record is synced before the next is written, so damage in front of a good one is not from a power cut.
  if (scan.records == 0 || has_record_after(*content, scan.end + 1)) {
    return Error(ErrorCode::kCorrupt, path + ": damaged at byte " + std::to_string(scan.end));
  }
  return cut(disk, path, scan, content->size());
}

}  // namespace

LogScan scan_leveldb_log(std::string_view content) {
  LogScan scan;
  uint64_t at = 0;
  bool inside = false;
  while (at < content.size()) {
    uint64_t left_in_block = kBlockBytes - at % kBlockBytes;
    if (left_in_block < kHeaderBytes) {
      at += left_in_block;
      continue;
    }
    Fragment fragment = fragment_at(content, at);
    bool starts = fragment.type == kWhole || fragment.type == kFirst;
    if (fragment.type == 0 || starts == inside) break;
    inside = fragment.type == kFirst || fragment.type == kMiddle;
    at = fragment.end;
    if (!inside) {
      scan.end = at;
      scan.records++;
    }
  }
  scan.damaged = scan.end < content.size() && !only_zeros(content.substr(scan.end));
  return scan;
}

bool has_record_after(std::string_view content, uint64_t from) {
  for (uint64_t at = from; at + kHeaderBytes <= content.size(); at++) {
    uint8_t type = fragment_at(content, at).type;
    if (type == kWhole || type == kLast) return true;
  }
  return false;
}

Result<void> cut_torn_tails(Disk& disk, const std::string& folder) {
  Result<std::vector<std::string>> names = disk.list(folder);
  if (!names) return names.error();
  std::vector<std::string> logs;
  bool tables = false;
  for (const std::string& name : *names) {
    if (name.ends_with(".log")) logs.push_back(name);
    tables |= name.ends_with(".ldb") || name.ends_with(".sst");
  }
  if (std::ranges::find(*names, "CURRENT") == names->end()) {
    // LevelDB would start an empty store over it. (It makes logs and tables only after CURRENT.)
    if (tables || !logs.empty()) return Error(ErrorCode::kCorrupt, folder + ": a store without its file CURRENT");
    return {};
  }
  Result<void> manifest = cut_manifest(disk, folder);
  if (!manifest) return manifest;

  // In the order of their numbers, which may have more digits than the six they are padded to.
  std::ranges::sort(logs, [](const std::string& a, const std::string& b) {
    return a.size() != b.size() ? a.size() < b.size() : a < b;
  });
  std::string damaged;
  for (const std::string& name : logs) {
    std::string path = folder + "/" + name;
    Result<std::string> content = read_file(disk, path);
    if (!content) return content.error();
    LogScan scan = scan_leveldb_log(*content);
    // A log is synced before anything is written to the next.
    if (!damaged.empty() && scan.records > 0) {
      return Error(ErrorCode::kCorrupt, damaged + ": damaged, and " + name + " follows");
    }
    if (!scan.damaged) continue;
    damaged = path;
    Result<void> done = cut(disk, path, scan, content->size());
    if (!done) return done;
  }
  return {};
}

}  // namespace cairn
