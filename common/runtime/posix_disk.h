// The real disk: Disk over system calls. Thread-safe; a File's operations too, for ranges that do not overlap.
#pragma once

#include <memory>

#include "common/runtime/disk.h"

namespace cairn {

std::unique_ptr<Disk> make_posix_disk();

}  // namespace cairn
