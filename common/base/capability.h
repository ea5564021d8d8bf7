// Capabilities: what a master's signature allows a holder to do with one chunk (consistency.md "Versions" 12). The
// master signs, a chunkserver verifies; clients carry the bytes and cannot make them. Format: docs/formats.md, "Capabilities".
//
// A capability is good for exactly the version that it names: raising the version of a chunk makes every older one
// worthless, and the master signs new ones. It runs out in log time.
//
// Pure but for CapabilityVerifier's cache. sign_capability() is thread-safe; a verifier is for one thread.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "common/base/ids.h"
#include "common/base/result.h"

namespace cairn {

// A set of bits.
enum class CapabilityRights : uint8_t {
  kNone = 0,
  kRead = 1,
  kWrite = 2,
  kCopy = 4,  // a chunkserver's: the chunk's map, and reading while it is open
};
constexpr CapabilityRights operator|(CapabilityRights a, CapabilityRights b) {
  return static_cast<CapabilityRights>(static_cast<uint8_t>(a) | static_cast<uint8_t>(b));
}
constexpr bool includes(CapabilityRights all, CapabilityRights some) {
  return (static_cast<uint8_t>(all) & static_cast<uint8_t>(some)) == static_cast<uint8_t>(some);
}

struct Capability {
  ChunkId chunk;
  uint64_t version = 0;
  SessionId session;  // whose it is; zero: a server's, not a session's
  CapabilityRights rights = CapabilityRights::kNone;
  uint64_t expires_ms = 0;  // log time; not good from then on

  bool operator==(const Capability&) const = default;
};

inline constexpr size_t kCapabilityKeyBytes = 32;  // of keys that are made; a shorter one is refused
inline constexpr size_t kCapabilityBytes = 54;

// `key` has kCapabilityKeyBytes; its id travels in the capability.
std::string sign_capability(const Capability& capability, uint32_t key_id, std::string_view key);

// Verifies, with a bounded memory of what it has verified, so that a stream of requests costs one HMAC.
class CapabilityVerifier {
 public:
  static constexpr size_t kRememberedMax = 8192;  // of about 150 bytes each

  // Those that are good now, by id: the current one and the one before. Forgets what other keys have signed.
  void set_keys(std::map<uint32_t, std::string> keys);
  bool has_keys() const { return !keys_.empty(); }

  // kUnauthorized, with the reason: nothing there, not in the format, an unknown key, a wrong signature, run out.
  Result<Capability> verify(std::string_view bytes, uint64_t log_time_ms);
  // And it is for this chunk, at this version, with these rights.
  Result<Capability> verify(std::string_view bytes, uint64_t log_time_ms, ChunkId chunk, uint64_t version,
                            CapabilityRights rights);

  size_t remembered() const { return remembered_.size(); }

 private:
  Result<Capability> check_signature(std::string_view bytes) const;

  struct BytesHash {
    using is_transparent = void;
    size_t operator()(std::string_view bytes) const { return std::hash<std::string_view>()(bytes); }
  };
  std::map<uint32_t, std::string> keys_;
  std::unordered_map<std::string, Capability, BytesHash, std::equal_to<>> remembered_;  // by all bytes, signature too
};

}  // namespace cairn
