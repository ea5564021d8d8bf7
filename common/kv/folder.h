// What both stores do with folders on a Disk.
#pragma once

#include <string>

#include "common/base/result.h"
#include "common/runtime/disk.h"

namespace cairn {

// "a/b" of "a/b/c"; "." if there is none.
std::string parent_folder(const std::string& path);

// Makes the folder if it is not there; its name is durable when this returns.
Result<void> make_durable_folder(Disk& disk, const std::string& folder);

// The same for a folder that must be empty: kExists if it holds anything.
Result<void> make_fresh_folder(Disk& disk, const std::string& folder);

// A file `to` with the first `size` bytes of `from`, durable but for its name. kCorrupt if `from` is shorter.
Result<void> copy_prefix(Disk& disk, const std::string& from, const std::string& to, uint64_t size);

}  // namespace cairn
