// Sizes that many parts share, with their unit in the name.
#pragma once

#include <cstdint>

namespace cairn {

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;

inline constexpr uint64_t kChunkSizeBytes = 64 * kMiB;        // a file's chunk i holds [i * 64 MiB, (i + 1) * 64 MiB)
inline constexpr uint64_t kBlockSizeBytes = 4 * kKiB;         // one checksum a block
inline constexpr uint64_t kExtentGroupBytes = 256 * kKiB;     // extents and checksums are keyed by group
inline constexpr uint64_t kMaxPayloadBytes = 4 * kMiB;        // one RPC's raw bytes
inline constexpr uint64_t kMaxMessageBytes = 1 * kMiB;        // one RPC's Cap'n Proto message
inline constexpr uint64_t kMaxFileSizeBytes = UINT32_MAX * kChunkSizeBytes;  // 256 PiB: a chunk's index has 32 bits, also that at the end
inline constexpr uint32_t kMaxNameBytes = 255;                // NAME_MAX
inline constexpr uint32_t kMaxSymlinkBytes = 4095;            // PATH_MAX - 1
inline constexpr uint32_t kMaxLinks = 65000;                  // as ext4
inline constexpr uint32_t kMaxXattrValueBytes = 64 * kKiB;    // XATTR_SIZE_MAX

}  // namespace cairn
