#include "common/tls/certificate.h"

#include <algorithm>
#include <ctime>
#include <fmt/format.h>
#include <openssl/pem.h>
#include <utility>

#include "common/base/check.h"
#include "common/tls/openssl.h"

namespace cairn {

namespace {

constexpr std::string_view kScheme = "cairn://";
constexpr int64_t kNsPerSecond = 1'000'000'000;
// Clocks of a cluster's machines may differ a little.
constexpr int64_t kEarlySeconds = 3600;
constexpr int64_t kDaySeconds = 86400;
constexpr int kSerialBits = 127;  // positive, and at most 20 bytes as RFC 5280 has it

bool is_name(std::string_view name) {
  auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '-' ||
           c == '_';
  };
  return !name.empty() && name.size() <= kPeerNameBytesMax && std::ranges::all_of(name, allowed);
}

Result<ClusterId> parse_cluster(std::string_view text) {
  uint64_t value = 0;
  for (char c : text) {
    bool digit = c >= '0' && c <= '9';
    bool letter = c >= 'a' && c <= 'f';
    if (!digit && !letter) return Error(ErrorCode::kInvalid);
    value = value * 16 + static_cast<uint64_t>(digit ? c - '0' : c - 'a' + 10);
  }
  if (text.size() != 16 || value == 0) return Error(ErrorCode::kInvalid);
  return ClusterId(value);
}

template <class Write>
Result<std::string> to_pem(Write write) {
  BioPtr out(BIO_new(BIO_s_mem()));
  CHECK(out);
  if (write(out.get()) != 1) return openssl_error(ErrorCode::kIo, "writing PEM");
  char* data = nullptr;
  long size = BIO_get_mem_data(out.get(), &data);
  return std::string(data, static_cast<size_t>(size));
}

Result<KeyPtr> make_key() {
  KeyPtr key(EVP_EC_gen("P-256"));
  if (!key) return openssl_error(ErrorCode::kIo, "making a key");
  return key;
}

Result<void> add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  if (extension == nullptr) return openssl_error(ErrorCode::kIo, "an extension of the certificate");
  int added = X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
  if (added != 1) return openssl_error(ErrorCode::kIo, "an extension of the certificate");
  return {};
}

struct Contents {
  std::string organizational_unit;
  std::string common_name;
  std::string uri;
  std::string basic_constraints;
  std::string key_usage;
  std::string extended_key_usage;  // empty: none
  int64_t not_before = 0;          // seconds since 1970
  int64_t not_after = 0;
};

void add_name(X509_NAME* name, const char* field, const std::string& text) {
  X509_NAME_add_entry_by_txt(name, field, MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(text.c_str()), -1, -1,
                             0);
}

Result<CertificatePtr> fill_in(const Contents& contents, EVP_PKEY* key, X509* issuer) {
  CertificatePtr made(X509_new());
  CHECK(made);
  X509* certificate = made.get();
  X509_set_version(certificate, X509_VERSION_3);
  BIGNUM* serial = BN_new();
  bool drawn = serial != nullptr && BN_rand(serial, kSerialBits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) == 1 &&
               BN_to_ASN1_INTEGER(serial, X509_get_serialNumber(certificate)) != nullptr;
  BN_free(serial);
  if (!drawn) return openssl_error(ErrorCode::kIo, "a serial number");
  ASN1_TIME_set(X509_getm_notBefore(certificate), static_cast<time_t>(contents.not_before));
  ASN1_TIME_set(X509_getm_notAfter(certificate), static_cast<time_t>(contents.not_after));
  X509_NAME* subject = X509_get_subject_name(certificate);
  add_name(subject, "O", "Cairn");
  add_name(subject, "OU", contents.organizational_unit);
  add_name(subject, "CN", contents.common_name);
  X509_set_issuer_name(certificate, issuer == nullptr ? subject : X509_get_subject_name(issuer));
  X509_set_pubkey(certificate, key);
  if (issuer == nullptr) issuer = certificate;
  std::pair<int, std::string> extensions[] = {{NID_basic_constraints, contents.basic_constraints},
                                              {NID_key_usage, contents.key_usage},
                                              {NID_ext_key_usage, contents.extended_key_usage},
                                              {NID_subject_alt_name, "URI:" + contents.uri},
                                              {NID_subject_key_identifier, "hash"},
                                              {NID_authority_key_identifier, "keyid"}};
  for (const auto& [nid, value] : extensions) {
    if (value.empty()) continue;
    Result<void> added = add_extension(certificate, issuer, nid, value);
    if (!added) return added.error();
  }
  return made;
}

Result<KeyPair> sign(X509* certificate, EVP_PKEY* key, EVP_PKEY* signer) {
  if (X509_sign(certificate, signer, EVP_sha256()) == 0) return openssl_error(ErrorCode::kIo, "signing");
  Result<std::string> certificate_pem = to_pem([&](BIO* out) { return PEM_write_bio_X509(out, certificate); });
  if (!certificate_pem) return certificate_pem.error();
  Result<std::string> key_pem =
      to_pem([&](BIO* out) { return PEM_write_bio_PKCS8PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr); });
  if (!key_pem) return key_pem.error();
  return KeyPair{.certificate = std::move(*certificate_pem), .key = std::move(*key_pem)};
}

WallTime wall_of(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return {};
  return {static_cast<int64_t>(::timegm(&parts)) * kNsPerSecond};
}

}  // namespace

std::string_view to_string(PeerRole role) {
  switch (role) {
    case PeerRole::kMaster:
      return "master";
    case PeerRole::kChunkserver:
      return "chunkserver";
    case PeerRole::kClient:
      return "client";
    case PeerRole::kAdmin:
      return "admin";
  }
  return "unknown";
}

Result<PeerRole> parse_role(std::string_view text) {
  for (PeerRole role : {PeerRole::kMaster, PeerRole::kChunkserver, PeerRole::kClient, PeerRole::kAdmin}) {
    if (text == to_string(role)) return role;
  }
  return Error(ErrorCode::kInvalid, fmt::format("'{}' is no role", text));
}

std::string to_string(const PeerIdentity& identity) {
  return fmt::format("{}{}/{}/{}", kScheme, to_string(identity.cluster), to_string(identity.role), identity.name);
}

Result<PeerIdentity> parse_identity(std::string_view uri) {
  Error bad(ErrorCode::kInvalid, fmt::format("'{}' is not cairn://CLUSTER/ROLE/NAME", uri.substr(0, 200)));
  if (!uri.starts_with(kScheme)) return bad;
  std::string_view rest = uri.substr(kScheme.size());
  size_t role_at = rest.find('/');
  size_t name_at = role_at == std::string_view::npos ? role_at : rest.find('/', role_at + 1);
  if (name_at == std::string_view::npos) return bad;
  Result<ClusterId> cluster = parse_cluster(rest.substr(0, role_at));
  Result<PeerRole> role = parse_role(rest.substr(role_at + 1, name_at - role_at - 1));
  std::string_view name = rest.substr(name_at + 1);
  if (!cluster || !role || !is_name(name)) return bad;
  return PeerIdentity{.cluster = *cluster, .role = *role, .name = std::string(name)};
}

Result<KeyPair> make_authority(ClusterId cluster, WallTime now, uint32_t days) {
  Result<KeyPtr> key = make_key();
  if (!key) return key.error();
  Contents contents;
  contents.organizational_unit = "authority";
  contents.common_name = "Cairn cluster " + to_string(cluster);
  contents.uri = std::string(kScheme) + to_string(cluster);
  contents.basic_constraints = "critical,CA:TRUE,pathlen:0";
  contents.key_usage = "critical,keyCertSign,cRLSign";
  contents.not_before = now.ns / kNsPerSecond - kEarlySeconds;
  contents.not_after = now.ns / kNsPerSecond + days * kDaySeconds;
  Result<CertificatePtr> certificate = fill_in(contents, key->get(), nullptr);
  if (!certificate) return certificate.error();
  return sign(certificate->get(), key->get(), key->get());
}

Result<KeyPair> issue_certificate(const KeyPair& authority, PeerRole role, const std::string& name, WallTime now,
                                  uint32_t days) {
  if (!is_name(name)) {
    return Error(ErrorCode::kInvalid,
                 fmt::format("'{}' is no name: 1 to {} letters, digits, '.', '-', '_'", name, kPeerNameBytesMax));
  }
  Result<std::vector<CertificatePtr>> issuers = parse_certificates(authority.certificate);
  if (!issuers) return issuers.error();
  X509* issuer = issuers->front().get();
  Result<CertificateInfo> issuer_info = info_of(issuer);
  if (!issuer_info) return issuer_info.error();
  Result<KeyPtr> signer = parse_key(authority.key);
  if (!signer) return signer.error();
  if (issuer_info->identity || X509_check_private_key(issuer, signer->get()) != 1)
    return Error(ErrorCode::kInvalid, "that is not the certificate and the key of an authority");
  int64_t now_seconds = now.ns / kNsPerSecond;
  int64_t end_seconds = issuer_info->not_after.ns / kNsPerSecond;
  if (end_seconds <= now_seconds)
    return Error(ErrorCode::kInvalid, "the authority expired on " + date_of(issuer_info->not_after));

  Result<KeyPtr> key = make_key();
  if (!key) return key.error();
  bool server = role == PeerRole::kMaster || role == PeerRole::kChunkserver;
  Contents contents;
  contents.organizational_unit = to_string(role);
  contents.common_name = name;
  contents.uri = to_string(PeerIdentity{.cluster = issuer_info->cluster, .role = role, .name = name});
  contents.basic_constraints = "critical,CA:FALSE";
  contents.key_usage = "critical,digitalSignature";
  contents.extended_key_usage = server ? "serverAuth,clientAuth" : "clientAuth";
  contents.not_before = now_seconds - kEarlySeconds;
  contents.not_after = std::min(now_seconds + days * kDaySeconds, end_seconds);
  Result<CertificatePtr> certificate = fill_in(contents, key->get(), issuer);
  if (!certificate) return certificate.error();
  return sign(certificate->get(), key->get(), signer->get());
}

Result<std::vector<CertificateInfo>> read_certificates(std::string_view pem) {
  Result<std::vector<CertificatePtr>> certificates = parse_certificates(pem);
  if (!certificates) return certificates.error();
  std::vector<CertificateInfo> out;
  for (const CertificatePtr& certificate : *certificates) {
    Result<CertificateInfo> info = info_of(certificate.get());
    if (!info) return info.error();
    out.push_back(std::move(*info));
  }
  return out;
}

std::string date_of(WallTime time) {
  time_t seconds = static_cast<time_t>(time.ns / kNsPerSecond);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02} UTC", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday,
                     parts.tm_hour, parts.tm_min);
}

Error openssl_error(ErrorCode code, std::string_view doing) {
  std::string reason;
  while (unsigned long number = ERR_get_error()) {
    const char* text = ERR_reason_error_string(number);
    if (text != nullptr) reason += (reason.empty() ? "" : ", ") + std::string(text);
  }
  return Error(code, std::string(doing) + ": " + (reason.empty() ? "OpenSSL does not say why" : reason));
}

Result<std::vector<CertificatePtr>> parse_certificates(std::string_view pem) {
  BioPtr in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  CHECK(in);
  std::vector<CertificatePtr> out;
  while (X509* certificate = PEM_read_bio_X509(in.get(), nullptr, nullptr, nullptr))
    out.emplace_back(certificate);
  ERR_clear_error();  // "no start line" is how the end looks
  if (out.empty()) return Error(ErrorCode::kInvalid, "there is no certificate in it");
  return out;
}

Result<KeyPtr> parse_key(std::string_view pem) {
  BioPtr in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  CHECK(in);
  // Never asks a terminal for a pass phrase.
  auto no_phrase = [](char*, int, int, void*) { return -1; };
  KeyPtr key(PEM_read_bio_PrivateKey(in.get(), nullptr, no_phrase, nullptr));
  if (!key) return openssl_error(ErrorCode::kInvalid, "the private key");
  return key;
}

std::optional<std::string> cairn_uri(X509* certificate) {
  auto* names = static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr));
  std::optional<std::string> found;
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names, i);
    if (name->type != GEN_URI) continue;
    const ASN1_IA5STRING* uri = name->d.uniformResourceIdentifier;
    std::string text(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                     static_cast<size_t>(ASN1_STRING_length(uri)));
    if (!text.starts_with(kScheme)) continue;
    if (found) {  // two would let one pass for the other
      found.reset();
      break;
    }
    found = std::move(text);
  }
  GENERAL_NAMES_free(names);
  return found;
}

Result<CertificateInfo> info_of(X509* certificate) {
  std::optional<std::string> uri = cairn_uri(certificate);
  if (!uri) return Error(ErrorCode::kInvalid, "the certificate is not one of Cairn's: it has no name cairn://...");
  CertificateInfo info;
  info.not_before = wall_of(X509_get0_notBefore(certificate));
  info.not_after = wall_of(X509_get0_notAfter(certificate));
  BIGNUM* serial = ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr);
  char* digits = serial == nullptr ? nullptr : BN_bn2hex(serial);
  if (digits != nullptr) info.serial = digits;
  OPENSSL_free(digits);
  BN_free(serial);
  if (X509_check_ca(certificate) == 1) {
    Result<ClusterId> cluster = parse_cluster(std::string_view(*uri).substr(kScheme.size()));
    if (!cluster) return Error(ErrorCode::kInvalid, "'" + *uri + "' is not cairn://CLUSTER");
    info.cluster = *cluster;
    return info;
  }
  Result<PeerIdentity> identity = parse_identity(*uri);
  if (!identity) return identity.error();
  info.cluster = identity->cluster;
  info.identity = std::move(*identity);
  return info;
}

}  // namespace cairn
