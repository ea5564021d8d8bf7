// From a dump of the metadata (common/dump) to the folder of a new master, which leads a group of its own with it.
//
// Chunkservers may be ahead of the dump by any time: what that means for ids, versions, sessions and garbage is in
// master/namespace/ops/restore.cc. Blocking.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "common/base/ids.h"
#include "common/base/result.h"
#include "common/dump/dump_format.h"
#include "common/runtime/disk.h"
#include "master/namespace/machine.h"

namespace cairn {

struct ImportOptions {
  std::string dump;     // a file
  std::string folder;   // of the new master: absent, or empty
  std::string address;  // where it will be reached
  MasterId master;      // a fresh id
  int64_t wall_ns = 0;
  std::string boot_id;
  RestoreSource source = RestoreSource::kExport;
  bool memory_store = false;  // the simulator's
  // After BeginRestore, before anybody sees the state: further commands, each applied by `apply`.
  using Apply = std::function<Result<Reply>(Command command)>;
  std::function<Result<void>(const Machine& machine, const Apply& apply)> more;
};

struct ImportResult {
  DumpSummary dump;
  uint64_t inodes = 0, chunks = 0;
  uint64_t index = 0, term = 0;  // where the new log begins
};

// A file of the disk as the source of a dump. The file outlives it.
DumpSource dump_source(File& file);

// kNotEmpty unless the folder is absent, empty, or what an attempt that did not finish has left: a disk that is mounted,
// and another master's folder, must not be taken for a free one.
Result<void> check_free_folder(Disk& disk, const std::string& folder);

// kExists, kNotEmpty: the folder is not free. kCorrupt, kNotSupported: the dump; nothing was written then.
Result<ImportResult> import_dump(Disk& disk, const ImportOptions& options);

}  // namespace cairn
