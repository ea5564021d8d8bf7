#include "chunkserver/store/block_checksum.h"

#include <array>

#include "common/base/check.h"
#include "common/base/units.h"

namespace cairn {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;  // Castagnoli, reflected
constexpr uint32_t kPowers = 16;

// A linear map of 32 bits: what each bit becomes.
using Map = std::array<uint32_t, 32>;

constexpr uint32_t apply(const Map& map, uint32_t value) {
  uint32_t out = 0;
  for (uint32_t bit = 0; value != 0; ++bit, value >>= 1) {
    if (value & 1) out ^= map[bit];
  }
  return out;
}

constexpr Map twice(const Map& map) {
  Map out{};
  for (uint32_t bit = 0; bit < 32; ++bit)
    out[bit] = apply(map, map[bit]);
  return out;
}

constexpr uint32_t step_zero_byte(uint32_t remainder) {
  for (int bit = 0; bit < 8; ++bit)
    remainder = (remainder >> 1) ^ ((remainder & 1) ? kPolynomial : 0);
  return remainder;
}

// Backwards, a bit at a time: the polynomial's top bit is set, so the top bit tells whether it was added.
constexpr uint32_t unstep_zero_byte(uint32_t remainder) {
  for (int bit = 0; bit < 8; ++bit) {
    bool added = (remainder >> 31) & 1;
    remainder = ((added ? remainder ^ kPolynomial : remainder) << 1) | (added ? 1 : 0);
  }
  return remainder;
}

// maps[k] appends (or takes away) 2^k bytes of zeros.
constexpr std::array<Map, kPowers> powers(uint32_t (*one_byte)(uint32_t)) {
  std::array<Map, kPowers> maps{};
  for (uint32_t bit = 0; bit < 32; ++bit)
    maps[0][bit] = one_byte(uint32_t{1} << bit);
  for (uint32_t k = 1; k < kPowers; ++k)
    maps[k] = twice(maps[k - 1]);
  return maps;
}

constexpr std::array<Map, kPowers> kAppend = powers(step_zero_byte);
constexpr std::array<Map, kPowers> kTakeAway = powers(unstep_zero_byte);

uint32_t shift(const std::array<Map, kPowers>& maps, uint32_t checksum, uint32_t zeros) {
  CHECK(zeros < (1u << kPowers));
  uint32_t remainder = ~checksum;
  for (uint32_t k = 0; zeros != 0; ++k, zeros >>= 1) {
    if (zeros & 1) remainder = apply(maps[k], remainder);
  }
  return ~remainder;
}

}  // namespace

uint32_t checksum_with_zeros(uint32_t checksum, uint32_t zeros) {
  return shift(kAppend, checksum, zeros);
}
uint32_t checksum_without_zeros(uint32_t checksum, uint32_t zeros) {
  return shift(kTakeAway, checksum, zeros);
}

uint32_t zero_block_checksum() {
  static const uint32_t kChecksum = checksum_with_zeros(0, kBlockSizeBytes);  // 0 is the checksum of nothing
  return kChecksum;
}

}  // namespace cairn
