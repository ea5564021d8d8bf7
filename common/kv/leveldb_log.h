// The tail of LevelDB's logs and manifests after a machine has lost power. LevelDB's own reader leaves out damaged
// records and goes on behind them (the middle is lost), or refuses the whole store; we cut at the first damage, so that
// what is left is a prefix.
//
// The format: blocks of 32 KiB, in them records of {u32 masked CRC32C of type and data, u16 length, u8 type, data}; the
// types 1 whole, 2 first, 3 middle, 4 last; fewer than 7 bytes at the end of a block are zeros. (LevelDB,
// doc/log_format.md.)
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/base/result.h"
#include "common/runtime/disk.h"

namespace cairn {

struct LogScan {
  uint64_t end = 0;      // of the last whole record before any damage
  uint64_t records = 0;  // up to there
  bool damaged = false;  // something other than zeros follows
};
LogScan scan_leveldb_log(std::string_view content);

// Is there a whole, valid record anywhere at or after `from`?
bool has_record_after(std::string_view content, uint64_t from);

// Before LevelDB opens the folder: cuts the tails that were being written when the machine stopped. kCorrupt if what is
// damaged must have been on disk: a record of the manifest that others follow, a log that a later one follows, a store
// without CURRENT.
Result<void> cut_torn_tails(Disk& disk, const std::string& folder);

}  // namespace cairn
