#include "common/base/capability.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

const std::string kKey(kCapabilityKeyBytes, 'k');
const std::string kNextKey(kCapabilityKeyBytes, 'n');
constexpr CapabilityRights kReadWrite = CapabilityRights::kRead | CapabilityRights::kWrite;

Capability example() {
  Capability capability;
  capability.chunk = ChunkId(0x1122334455667788);
  capability.version = 3;
  capability.session = SessionId(42);
  capability.rights = kReadWrite;
  capability.expires_ms = 10'000;
  return capability;
}

CapabilityVerifier verifier_with(std::map<uint32_t, std::string> keys) {
  CapabilityVerifier verifier;
  verifier.set_keys(std::move(keys));
  return verifier;
}

TEST(Capability, SignedOneIsReadBackAsItWas) {
  CapabilityVerifier verifier = verifier_with({{7, kKey}});
  std::string bytes = sign_capability(example(), 7, kKey);
  EXPECT_EQ(bytes.size(), kCapabilityBytes);
  Result<Capability> read = verifier.verify(bytes, 9'999);
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_EQ(*read, example());
}

// The wire form is stable: masters and chunkservers of different ages read one another's.
TEST(Capability, FormatIsTheDocumentedOne) {
  std::string bytes = sign_capability(example(), 7, kKey);
  std::string fields("\x01\x03\x07\x00\x00\x00\x88\x77\x66\x55\x44\x33\x22\x11\x03\x00\x00\x00\x00\x00\x00\x00", 22);
  fields += std::string("\x2a\x00\x00\x00\x00\x00\x00\x00\x10\x27\x00\x00\x00\x00\x00\x00", 16);
  EXPECT_EQ(bytes.substr(0, 38), fields);
}

TEST(Capability, AnyChangedBitIsRefused) {
  CapabilityVerifier verifier = verifier_with({{7, kKey}});
  std::string good = sign_capability(example(), 7, kKey);
  for (size_t i = 0; i < good.size(); ++i) {
    for (int bit = 0; bit < 8; ++bit) {
      std::string changed = good;
      changed[i] = static_cast<char>(changed[i] ^ (1 << bit));
      EXPECT_TRUE(verifier.verify(changed, 0).failed_with(ErrorCode::kUnauthorized)) << i << "." << bit;
    }
  }
  EXPECT_TRUE(verifier.verify(good, 0));
}

TEST(Capability, OtherSizesAreRefused) {
  CapabilityVerifier verifier = verifier_with({{7, kKey}});
  std::string good = sign_capability(example(), 7, kKey);
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_TRUE(verifier.verify(good.substr(0, size), 0).failed_with(ErrorCode::kUnauthorized)) << size;
  }
  EXPECT_TRUE(verifier.verify(good + "x", 0).failed_with(ErrorCode::kUnauthorized));
}

TEST(Capability, RunsOutInLogTimeAlsoWhenItIsRemembered) {
  CapabilityVerifier verifier = verifier_with({{7, kKey}});
  std::string bytes = sign_capability(example(), 7, kKey);
  EXPECT_TRUE(verifier.verify(bytes, 9'999));
  EXPECT_EQ(verifier.remembered(), 1u);
  EXPECT_TRUE(verifier.verify(bytes, 10'000).failed_with(ErrorCode::kUnauthorized));
  EXPECT_EQ(verifier.remembered(), 0u);
}

TEST(Capability, KeyOfAnotherClusterIsRefused) {
  CapabilityVerifier verifier = verifier_with({{7, kNextKey}});
  EXPECT_TRUE(verifier.verify(sign_capability(example(), 7, kKey), 0).failed_with(ErrorCode::kUnauthorized));
}

TEST(Capability, KeyBeforeTheCurrentOneIsGoodUntilItGoes) {
  CapabilityVerifier verifier = verifier_with({{7, kKey}});
  std::string old = sign_capability(example(), 7, kKey);
  verifier.set_keys({{7, kKey}, {8, kNextKey}});
  EXPECT_TRUE(verifier.verify(old, 0));
  EXPECT_TRUE(verifier.verify(sign_capability(example(), 8, kNextKey), 0));
  verifier.set_keys({{8, kNextKey}});
  EXPECT_TRUE(verifier.verify(old, 0).failed_with(ErrorCode::kUnauthorized));
}

TEST(Capability, IsForItsChunkVersionAndRightsOnly) {
  CapabilityVerifier verifier = verifier_with({{7, kKey}});
  Capability c = example();
  std::string bytes = sign_capability(c, 7, kKey);
  EXPECT_TRUE(verifier.verify(bytes, 0, c.chunk, c.version, CapabilityRights::kRead));
  EXPECT_TRUE(verifier.verify(bytes, 0, c.chunk, c.version, kReadWrite));
  auto refused = [&](ChunkId chunk, uint64_t version, CapabilityRights rights) {
    return verifier.verify(bytes, 0, chunk, version, rights).failed_with(ErrorCode::kUnauthorized);
  };
  EXPECT_TRUE(refused(ChunkId(1), c.version, CapabilityRights::kRead));
  EXPECT_TRUE(refused(c.chunk, c.version - 1, CapabilityRights::kRead));
  EXPECT_TRUE(refused(c.chunk, c.version + 1, CapabilityRights::kRead));
  EXPECT_TRUE(refused(c.chunk, c.version, CapabilityRights::kCopy));
  EXPECT_TRUE(refused(c.chunk, c.version, CapabilityRights::kCopy | CapabilityRights::kRead));
}

TEST(Capability, ShortKeysAreNotTaken) {
  CapabilityVerifier verifier = verifier_with({{7, ""}, {8, std::string(kCapabilityKeyBytes - 1, 'x')}});
  EXPECT_FALSE(verifier.has_keys());
}

TEST(Capability, WhatIsRememberedIsBounded) {
  CapabilityVerifier verifier = verifier_with({{7, kKey}});
  Capability c = example();
  for (uint64_t i = 1; i <= CapabilityVerifier::kRememberedMax + 10; ++i) {
    c.chunk = ChunkId(i);
    ASSERT_TRUE(verifier.verify(sign_capability(c, 7, kKey), 0));
    ASSERT_LE(verifier.remembered(), CapabilityVerifier::kRememberedMax);
  }
}

}  // namespace
}  // namespace cairn
