// The seam for randomness. Logic draws from a Random that it was given; in the simulator it comes from the seed.
#pragma once

#include <cstdint>
#include <memory>

namespace cairn {

class Random {
 public:
  virtual ~Random() = default;
  virtual uint64_t next_u64() = 0;

  // Uniform in [0, bound); bound must not be 0.
  uint64_t below(uint64_t bound);
  // True with probability numerator / denominator.
  bool chance(uint64_t numerator, uint64_t denominator) { return below(denominator) < numerator; }
  // Never 0: for new ids.
  uint64_t next_id();
};

// xoshiro256**: the same seed gives the same numbers everywhere. Not thread-safe; not for keys.
std::unique_ptr<Random> make_seeded_random(uint64_t seed);
// getrandom(2): for ids and keys. Thread-safe.
std::unique_ptr<Random> make_system_random();

}  // namespace cairn
