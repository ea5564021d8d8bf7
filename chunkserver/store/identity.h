// The file IDENTITY of a data directory: which cluster, server and store it is, and in which format (docs/formats.md).
// Blocking.
#pragma once

#include <optional>
#include <string>

#include "chunkserver/store/chunk_store.h"
#include "common/runtime/disk.h"

namespace cairn {

inline constexpr uint32_t kStoreFormat = 1;

// Nothing if the folder has none (or is not there). kCorrupt; kNotSupported for a newer format.
Result<std::optional<StoreIdentity>> read_identity(Disk& disk, const std::string& folder);
// Atomic and durable.
Result<void> write_identity(Disk& disk, const std::string& folder, const StoreIdentity& identity);
// What the folder says, checked against what is expected (zero: anything) and completed by it. kWrongCluster names
// both.
Result<StoreIdentity> reconcile_identity(const std::string& folder, const StoreIdentity& found,
                                         const StoreIdentity& expected);

}  // namespace cairn
