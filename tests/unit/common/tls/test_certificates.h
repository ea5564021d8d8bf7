// A folder with the certificates of a cluster (or of several), for tests.
#pragma once

#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <string>

#include "common/tls/certificate.h"
#include "common/tls/credentials.h"

namespace cairn {

inline constexpr ClusterId kTestCluster{0xA1};
inline constexpr WallTime kTestNow{1'800'000'000ll * 1'000'000'000ll};  // January 2027

class TestCertificates {
 public:
  explicit TestCertificates(WallTime now = kTestNow, ClusterId cluster = kTestCluster)
      : now_(now), authority_(*make_authority(cluster, now, 3650)) {
    std::string name = testing::TempDir() + "cairn-tls-XXXXXX";
    folder_ = ::mkdtemp(name.data());
    put("ca.crt", authority_.certificate);
  }
  ~TestCertificates() { std::filesystem::remove_all(folder_); }
  TestCertificates(const TestCertificates&) = delete;
  TestCertificates& operator=(const TestCertificates&) = delete;

  // `issued` and `days` are for certificates that are not valid now.
  TlsFiles issue(PeerRole role, const std::string& name, WallTime issued, uint32_t days) const {
    KeyPair pair = *issue_certificate(authority_, role, name, issued, days);
    put(name + ".crt", pair.certificate);
    put(name + ".key", pair.key);
    std::filesystem::permissions(path(name + ".key"), std::filesystem::perms::owner_read);
    return {.ca = path("ca.crt"), .certificate = path(name + ".crt"), .key = path(name + ".key")};
  }
  TlsFiles issue(PeerRole role, const std::string& name) const { return issue(role, name, now_, 90); }
  std::shared_ptr<Credentials> credentials(PeerRole role, const std::string& name) const {
    auto loaded = Credentials::load(issue(role, name), role, now_);
    EXPECT_TRUE(loaded) << loaded.error().message();
    return *loaded;
  }

  void put(const std::string& name, const std::string& text) const {
    std::filesystem::remove(path(name));
    std::ofstream(path(name)) << text;
  }
  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  const std::string& folder() const { return folder_; }
  const KeyPair& authority() const { return authority_; }

 private:
  WallTime now_;
  KeyPair authority_;
  std::string folder_;
};

}  // namespace cairn
