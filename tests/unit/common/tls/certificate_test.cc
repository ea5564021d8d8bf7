#include "common/tls/certificate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/tls/tls_settings.h"
#include "tests/unit/common/tls/test_certificates.h"

namespace cairn {
namespace {

constexpr int64_t kDayNs = 86400ll * 1'000'000'000ll;

TEST(Identity, IsReadAsItIsWritten) {
  for (PeerRole role : {PeerRole::kMaster, PeerRole::kChunkserver, PeerRole::kClient, PeerRole::kAdmin}) {
    PeerIdentity identity{.cluster = ClusterId(0xAB), .role = role, .name = "rack-1.host_2"};
    Result<PeerIdentity> read = parse_identity(to_string(identity));
    ASSERT_TRUE(read) << read.error().message();
    EXPECT_EQ(*read, identity);
  }
  EXPECT_EQ(to_string(PeerIdentity{.cluster = ClusterId(0xAB), .role = PeerRole::kMaster, .name = "one"}),
            "cairn://00000000000000ab/master/one");
}

TEST(Identity, AnythingElseIsRefused) {
  for (const char* text :
       {"", "cairn://", "http://00000000000000ab/master/one", "cairn://ab/master/one",
        "cairn://00000000000000ab/king/one", "cairn://00000000000000ab/master/", "cairn://00000000000000ab/master",
        "cairn://00000000000000ab/master/a/b", "cairn://00000000000000ab/master/a b",
        "cairn://0000000000000000/master/one", "cairn://00000000000000AB/master/one"}) {
    EXPECT_TRUE(parse_identity(text).failed_with(ErrorCode::kInvalid)) << text;
  }
}

TEST(Certificates, SayWhatTheyAre) {
  KeyPair authority = *make_authority(kTestCluster, kTestNow, 3650);
  auto ca = read_certificates(authority.certificate);
  ASSERT_TRUE(ca) << ca.error().message();
  EXPECT_EQ(ca->front().cluster, kTestCluster);
  EXPECT_FALSE(ca->front().identity);
  EXPECT_EQ(ca->front().not_after.ns, kTestNow.ns + 3650 * kDayNs);

  KeyPair issued = *issue_certificate(authority, PeerRole::kChunkserver, "one", kTestNow, 10);
  auto info = read_certificates(issued.certificate);
  ASSERT_TRUE(info) << info.error().message();
  EXPECT_EQ(*info->front().identity,
            (PeerIdentity{.cluster = kTestCluster, .role = PeerRole::kChunkserver, .name = "one"}));
  EXPECT_EQ(info->front().not_after.ns, kTestNow.ns + 10 * kDayNs);
  EXPECT_EQ(date_of(info->front().not_after), "2027-01-25 08:00 UTC");
}

TEST(Certificates, NoneOutlivesItsAuthority) {
  KeyPair authority = *make_authority(kTestCluster, kTestNow, 5);
  KeyPair issued = *issue_certificate(authority, PeerRole::kClient, "one", kTestNow, 3650);
  EXPECT_EQ(read_certificates(issued.certificate)->front().not_after.ns, kTestNow.ns + 5 * kDayNs);
  WallTime later{kTestNow.ns + 6 * kDayNs};
  EXPECT_TRUE(issue_certificate(authority, PeerRole::kClient, "one", later, 1).failed_with(ErrorCode::kInvalid));
}

TEST(Certificates, OnlyAnAuthorityWithItsOwnKeyIssues) {
  KeyPair authority = *make_authority(kTestCluster, kTestNow, 5);
  KeyPair other = *make_authority(kTestCluster, kTestNow, 5);
  KeyPair leaf = *issue_certificate(authority, PeerRole::kAdmin, "one", kTestNow, 5);
  EXPECT_TRUE(issue_certificate(leaf, PeerRole::kMaster, "two", kTestNow, 1).failed_with(ErrorCode::kInvalid));
  KeyPair mixed{.certificate = authority.certificate, .key = other.key};
  EXPECT_TRUE(issue_certificate(mixed, PeerRole::kMaster, "two", kTestNow, 1).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(issue_certificate(authority, PeerRole::kMaster, "../x", kTestNow, 1).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(read_certificates("rubbish").failed_with(ErrorCode::kInvalid));
}

// ---- Credentials

class CredentialsTest : public testing::Test {
 protected:
  TestCertificates certificates;

  std::string refusal(const TlsFiles& files, PeerRole role) {
    auto loaded = Credentials::load(files, role, kTestNow);
    EXPECT_FALSE(loaded);
    return loaded ? "" : loaded.error().message();
  }
};

TEST_F(CredentialsTest, FilesThatDoNotFitAreNamedWithTheReason) {
  TlsFiles good = certificates.issue(PeerRole::kMaster, "one");
  ASSERT_TRUE(Credentials::load(good, PeerRole::kMaster, kTestNow));
  EXPECT_THAT(refusal(good, PeerRole::kChunkserver), testing::HasSubstr("here a chunkserver's is wanted"));
  TlsFiles other = certificates.issue(PeerRole::kMaster, "two");
  TlsFiles mixed = good;
  mixed.key = other.key;
  EXPECT_THAT(refusal(mixed, PeerRole::kMaster), testing::HasSubstr("two.key: not the key of"));
  TlsFiles gone = good;
  gone.certificate = certificates.path("gone.crt");
  EXPECT_THAT(refusal(gone, PeerRole::kMaster), testing::HasSubstr("gone.crt"));
  TestCertificates foreign;
  TlsFiles signed_elsewhere = good;
  signed_elsewhere.ca = foreign.path("ca.crt");
  EXPECT_THAT(refusal(signed_elsewhere, PeerRole::kMaster), testing::HasSubstr("not issued by the authority"));
  TlsFiles old = certificates.issue(PeerRole::kMaster, "old", WallTime{kTestNow.ns - 20 * kDayNs}, 10);
  EXPECT_THAT(refusal(old, PeerRole::kMaster), testing::HasSubstr("expired on 2027-01-05"));
}

TEST_F(CredentialsTest, KeyThatEverybodyMayReadIsRefused) {
  TlsFiles files = certificates.issue(PeerRole::kMaster, "one");
  std::filesystem::permissions(files.key, std::filesystem::perms(0644));
  EXPECT_THAT(refusal(files, PeerRole::kMaster), testing::HasSubstr("everybody may read"));
}

TEST_F(CredentialsTest, AdminMayDoWhatAClientMay) {
  EXPECT_TRUE(Credentials::load(certificates.issue(PeerRole::kAdmin, "one"), PeerRole::kClient, kTestNow));
}

TEST_F(CredentialsTest, TheEndIsSaidThirtyDaysBeforeAndWhenItHasCome) {
  auto credentials = certificates.credentials(PeerRole::kClient, "one");
  auto in_days = [](int64_t days) { return WallTime{kTestNow.ns + days * kDayNs}; };
  EXPECT_EQ(credentials->warning(in_days(59)), "");
  EXPECT_THAT(credentials->warning(in_days(61)), testing::HasSubstr("one.crt expires on"));
  EXPECT_TRUE(credentials->still_valid(in_days(90)));
  EXPECT_THAT(credentials->warning(in_days(91)), testing::HasSubstr("one.crt expired on"));
  Result<void> ended = credentials->still_valid(in_days(91));
  ASSERT_TRUE(ended.failed_with(ErrorCode::kUnauthorized));
  EXPECT_THAT(ended.error().context, testing::HasSubstr("expired on " + date_of(credentials->expires())));
}

// A command takes what it finds: what it may change with that is up to the servers.
TEST_F(CredentialsTest, CommandsTakeTheAdministratorsFilesBeforeAClients) {
  EXPECT_FALSE(find_tls_files(certificates.folder(), PeerRole::kAdmin));
  certificates.issue(PeerRole::kClient, "client");
  std::optional<TlsFiles> found = find_tls_files(certificates.folder(), PeerRole::kAdmin);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->certificate, certificates.path("client.crt"));
  EXPECT_TRUE(Credentials::load(*found, PeerRole::kAdmin, kTestNow));
  certificates.issue(PeerRole::kAdmin, "admin");
  found = find_tls_files(certificates.folder(), PeerRole::kAdmin);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->certificate, certificates.path("admin.crt"));
  EXPECT_EQ(find_tls_files(certificates.folder(), PeerRole::kClient)->certificate, certificates.path("client.crt"));
}

TEST_F(CredentialsTest, ChangedFilesAreLoadedAndBrokenOnesAreNot) {
  auto credentials = certificates.credentials(PeerRole::kMaster, "one");
  auto first = credentials->current(kTestNow);
  EXPECT_EQ(credentials->current(kTestNow), first);
  certificates.issue(PeerRole::kMaster, "one", kTestNow, 300);
  EXPECT_EQ(credentials->current(kTestNow), first);  // it looks only once in a while
  WallTime later{kTestNow.ns + 3 * Credentials::kLookEvery.count()};
  EXPECT_NE(credentials->current(later), first);
  EXPECT_EQ(credentials->expires().ns, kTestNow.ns + 300 * kDayNs);

  certificates.put("one.crt", "rubbish");
  auto second = credentials->current(later);
  WallTime still_later{later.ns + 3 * Credentials::kLookEvery.count()};
  EXPECT_EQ(credentials->current(still_later), second);
  EXPECT_EQ(credentials->expires().ns, kTestNow.ns + 300 * kDayNs);
}

}  // namespace
}  // namespace cairn
