// CRC32C (Castagnoli), by ISA-L. The checksum of frames, records and blocks of data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace cairn {

uint32_t crc32c(std::span<const std::byte> bytes, uint32_t seed = 0);
uint32_t crc32c(std::string_view bytes, uint32_t seed = 0);

// One checksum for each 4 KiB block of `bytes`; the last block may be shorter and is summed as it is.
std::vector<uint32_t> block_checksums(std::span<const std::byte> bytes);

}  // namespace cairn
