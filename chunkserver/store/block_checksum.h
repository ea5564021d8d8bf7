// Checksums of blocks with zeros at their end: a chunk's last block is kept as a whole block (zeros after the chunk's
// end) with the checksum of all 4096 bytes, and travels cut at the chunk's end with the checksum of what is left.
// CRC32C is linear, so one becomes the other without looking at the data, and a wrong byte stays visible from the
// writer to the reader.
//
// Pure; thread-safe.
#pragma once

#include <cstdint>

namespace cairn {

// The checksum of `bytes + zeros` from that of `bytes`. `zeros` is below 2^16.
uint32_t checksum_with_zeros(uint32_t checksum, uint32_t zeros);
// The checksum of `bytes` from that of `bytes + zeros`.
uint32_t checksum_without_zeros(uint32_t checksum, uint32_t zeros);
// Of 4096 zeros.
uint32_t zero_block_checksum();

}  // namespace cairn
