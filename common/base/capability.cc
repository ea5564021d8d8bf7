#include "common/base/capability.h"

#include <array>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "common/base/bytes.h"
#include "common/base/check.h"

namespace cairn {

namespace {

constexpr uint8_t kFormat = 1;
constexpr size_t kSignatureBytes = 16;  // HMAC-SHA256, its first half
constexpr size_t kSignedBytes = kCapabilityBytes - kSignatureBytes;
constexpr uint8_t kKnownRights = 7;

std::array<uint8_t, kSignatureBytes> signature_of(std::string_view bytes, std::string_view key) {
  std::array<uint8_t, EVP_MAX_MD_SIZE> digest;
  unsigned int digest_bytes = 0;
  const uint8_t* made =
      HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), reinterpret_cast<const uint8_t*>(bytes.data()),
           bytes.size(), digest.data(), &digest_bytes);
  CHECK(made != nullptr && digest_bytes >= kSignatureBytes);
  std::array<uint8_t, kSignatureBytes> out;
  std::copy_n(digest.begin(), kSignatureBytes, out.begin());
  return out;
}

Error refused(std::string reason) {
  return Error(ErrorCode::kUnauthorized, std::move(reason));
}

}  // namespace

std::string sign_capability(const Capability& capability, uint32_t key_id, std::string_view key) {
  CHECK(key.size() >= kCapabilityKeyBytes);
  ByteWriter out;
  out.u8(kFormat);
  out.u8(static_cast<uint8_t>(capability.rights));
  out.u32(key_id);
  out.u64(capability.chunk.value);
  out.u64(capability.version);
  out.u64(capability.session.value);
  out.u64(capability.expires_ms);
  CHECK(out.size() == kSignedBytes);
  auto signature = signature_of(out.str(), key);
  out.bytes({reinterpret_cast<const char*>(signature.data()), signature.size()});
  return out.take();
}

void CapabilityVerifier::set_keys(std::map<uint32_t, std::string> keys) {
  // A key that is too short to be one of ours would make guessing easy.
  std::erase_if(keys, [](const auto& key) { return key.second.size() < kCapabilityKeyBytes; });
  if (keys == keys_) return;
  keys_ = std::move(keys);
  remembered_.clear();
}

Result<Capability> CapabilityVerifier::check_signature(std::string_view bytes) const {
  if (bytes.empty()) return refused("no capability");
  if (bytes.size() != kCapabilityBytes) return refused("the capability has a wrong size");
  ByteReader in(bytes);
  uint8_t format = in.u8();
  if (format != kFormat) return refused("the capability has an unknown format");
  uint8_t rights = in.u8();
  uint32_t key_id = in.u32();
  Capability capability;
  capability.chunk = ChunkId(in.u64());
  capability.version = in.u64();
  capability.session = SessionId(in.u64());
  capability.expires_ms = in.u64();
  capability.rights = static_cast<CapabilityRights>(rights);
  auto key = keys_.find(key_id);
  if (key == keys_.end()) return refused("the capability's key " + std::to_string(key_id) + " is not known here");
  auto signature = signature_of(bytes.substr(0, kSignedBytes), key->second);
  // In constant time: how long it takes must not tell how many bytes were right.
  if (CRYPTO_memcmp(signature.data(), bytes.data() + kSignedBytes, kSignatureBytes) != 0) {
    return refused("the capability's signature is wrong");
  }
  if ((rights & ~kKnownRights) != 0) return refused("the capability has unknown rights");
  return capability;
}

Result<Capability> CapabilityVerifier::verify(std::string_view bytes, uint64_t log_time_ms) {
  auto known = remembered_.find(bytes);
  if (known == remembered_.end()) {
    Result<Capability> checked = check_signature(bytes);
    if (!checked) return checked;
    if (remembered_.size() >= kRememberedMax) remembered_.clear();  // rare; what is in use comes back at one HMAC each
    known = remembered_.emplace(std::string(bytes), *checked).first;
  }
  if (log_time_ms >= known->second.expires_ms) {
    Error error =
        refused("the capability ran out " + std::to_string(log_time_ms - known->second.expires_ms) + " ms ago");
    remembered_.erase(known);
    return error;
  }
  return known->second;
}

Result<Capability> CapabilityVerifier::verify(std::string_view bytes, uint64_t log_time_ms, ChunkId chunk,
                                              uint64_t version, CapabilityRights rights) {
  Result<Capability> capability = verify(bytes, log_time_ms);
  if (!capability) return capability;
  if (capability->chunk != chunk) return refused("the capability is for chunk " + to_string(capability->chunk));
  if (capability->version != version) {
    return refused("the capability is for version " + std::to_string(capability->version));
  }
  if (!includes(capability->rights, rights)) return refused("the capability does not allow this");
  return capability;
}

}  // namespace cairn
