#include "common/base/random.h"

#include <array>
#include <bit>
#include <cerrno>
#include <sys/random.h>

#include "common/base/check.h"

namespace cairn {
namespace {

// Blackman and Vigna, https://prng.di.unimi.it/xoshiro256starstar.c; the state is filled by splitmix64, as they advise.
class SeededRandom : public Random {
 public:
  explicit SeededRandom(uint64_t seed) {
    for (uint64_t& word : state_) {
      seed += 0x9e3779b97f4a7c15ull;
      uint64_t z = seed;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
      z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
      word = z ^ (z >> 31);
    }
  }

  uint64_t next_u64() override {
    uint64_t result = std::rotl(state_[1] * 5, 7) * 9;
    uint64_t t = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= t;
    state_[3] = std::rotl(state_[3], 45);
    return result;
  }

 private:
  std::array<uint64_t, 4> state_;
};

class SystemRandom : public Random {
 public:
  uint64_t next_u64() override {
    uint64_t value = 0;
    ssize_t got = 0;
    // At most 256 bytes at once are never cut short; EINTR can only come before the kernel's pool is ready at boot.
    do {
      got = getrandom(&value, sizeof value, 0);
    } while (got < 0 && errno == EINTR);
    CHECK(got == sizeof value);
    return value;
  }
};

}  // namespace

uint64_t Random::below(uint64_t bound) {
  CHECK(bound != 0);
  // Numbers above the largest multiple of `bound` would make the small ones more likely: draw again.
  uint64_t unfair = (0 - bound) % bound;  // 2^64 mod bound
  uint64_t value = next_u64();
  while (value < unfair)
    value = next_u64();
  return value % bound;
}

uint64_t Random::next_id() {
  uint64_t id = next_u64();
  while (id == 0)
    id = next_u64();
  return id;
}

std::unique_ptr<Random> make_seeded_random(uint64_t seed) {
  return std::make_unique<SeededRandom>(seed);
}
std::unique_ptr<Random> make_system_random() {
  return std::make_unique<SystemRandom>();
}

}  // namespace cairn
