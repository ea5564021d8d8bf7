#include "common/base/crc32c.h"

#include <algorithm>

#include <isa-l/crc.h>

#include "common/base/units.h"

namespace cairn {

uint32_t crc32c(std::span<const std::byte> bytes, uint32_t seed) {
  // ISA-L leaves out the inversions before and after that the standard CRC32C has. Its length is an int.
  constexpr size_t kPieceBytes = kGiB;
  uint32_t crc = ~seed;
  while (!bytes.empty()) {
    std::span<const std::byte> piece = bytes.first(std::min(bytes.size(), kPieceBytes));
    // It only reads, though its parameter is not const.
    auto* data = const_cast<unsigned char*>(reinterpret_cast<const unsigned char*>(piece.data()));
    crc = crc32_iscsi(data, static_cast<int>(piece.size()), crc);
    bytes = bytes.subspan(piece.size());
  }
  return ~crc;
}

uint32_t crc32c(std::string_view bytes, uint32_t seed) {
  return crc32c(std::as_bytes(std::span(bytes)), seed);
}

std::vector<uint32_t> block_checksums(std::span<const std::byte> bytes) {
  std::vector<uint32_t> sums;
  sums.reserve((bytes.size() + kBlockSizeBytes - 1) / kBlockSizeBytes);
  while (!bytes.empty()) {
    std::span<const std::byte> block = bytes.first(std::min<size_t>(bytes.size(), kBlockSizeBytes));
    sums.push_back(crc32c(block));
    bytes = bytes.subspan(block.size());
  }
  return sums;
}

}  // namespace cairn
