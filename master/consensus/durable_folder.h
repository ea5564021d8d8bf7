// A folder whose name is durable. Blocking.
#pragma once

#include <string>

#include "common/runtime/disk.h"

namespace cairn {

// "/a/b" of "/a/b/c"; "." where there is none.
std::string parent_folder(const std::string& path);

// Makes `folder` in its parent, which is there, if it is not there already; its name survives a crash once this
// returns.
Result<void> make_durable_folder(Disk& disk, const std::string& folder);

}  // namespace cairn
