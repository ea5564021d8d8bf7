#include "common/tls/credentials.h"

#include <fmt/format.h>
#include <fstream>
#include <sstream>
#include <sys/stat.h>
#include <utility>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/tls/tls_context.h"

namespace cairn {

namespace {

// 128 bits first: as strong as the certificates' P-256, and the fastest where the processor has AES.
constexpr const char* kCipherSuites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

Error unfit(const std::string& path, std::string_view why) {
  return Error(ErrorCode::kUnauthorized, path + ": " + std::string(why));
}

Result<void> check_key_file(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return errno_error(path);
  if ((status.st_mode & S_IRWXO) != 0) return unfit(path, "a private key that everybody may read; chmod 600 it");
  return {};
}

Result<ContextPtr> make_context() {
  ContextPtr made(SSL_CTX_new(TLS_method()));
  if (!made) return openssl_error(ErrorCode::kIo, "OpenSSL");
  SSL_CTX* ssl = made.get();
  SSL_CTX_set_min_proto_version(ssl, TLS1_3_VERSION);
  // Every connection is a whole handshake: connections live long, and nothing is kept of those that ended.
  SSL_CTX_set_num_tickets(ssl, 0);
  SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
  // The other side has the authority's certificate.
  SSL_CTX_set_mode(ssl, SSL_MODE_NO_AUTO_CHAIN);
  SSL_CTX_set_options(ssl, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_NO_RENEGOTIATION);
  if (SSL_CTX_set_ciphersuites(ssl, kCipherSuites) != 1 || SSL_CTX_set1_groups_list(ssl, "X25519:P-256") != 1)
    return openssl_error(ErrorCode::kIo, "OpenSSL's cipher suites");
  return made;
}

}  // namespace

Result<std::string> read_pem_file(const std::string& path) {
  errno = 0;
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  if (!in) return errno == 0 ? Error(ErrorCode::kIo, path + " is empty") : errno_error(path);
  return text.str();
}

Result<std::shared_ptr<Credentials>> Credentials::load(TlsFiles files, PeerRole role, WallTime now) {
  std::shared_ptr<Credentials> made(new Credentials(std::move(files), role));
  made->loaded_ = made->stamp();
  Result<std::shared_ptr<const TlsContext>> context = made->read(now);
  if (!context) return context.error();
  made->context_ = std::move(*context);
  made->looked_ = now;
  made->warn_if_soon(now);
  return made;
}

const PeerIdentity& Credentials::identity() const {
  return context_->identity;
}
WallTime Credentials::expires() const {
  return context_->not_after;
}

Result<void> Credentials::still_valid(WallTime now) const {
  if (now <= context_->not_after) return {};
  return unfit(files_.certificate, "it expired on " + date_of(context_->not_after));
}

std::string Credentials::warning(WallTime now) const {
  if (context_->not_after.ns - now.ns > kWarnBefore.count()) return {};
  return fmt::format("the certificate in {} {} on {}: issue a new one (cairn cluster issue)", files_.certificate,
                     now <= context_->not_after ? "expires" : "expired", date_of(context_->not_after));
}

Result<std::shared_ptr<const TlsContext>> Credentials::read(WallTime now) const {
  Result<std::string> ca_pem = read_pem_file(files_.ca);
  if (!ca_pem) return ca_pem.error();
  Result<std::string> certificate_pem = read_pem_file(files_.certificate);
  if (!certificate_pem) return certificate_pem.error();
  Result<void> private_enough = check_key_file(files_.key);
  if (!private_enough) return private_enough.error();
  Result<std::string> key_pem = read_pem_file(files_.key);
  if (!key_pem) return key_pem.error();

  Result<std::vector<CertificatePtr>> authorities = parse_certificates(*ca_pem);
  if (!authorities) return unfit(files_.ca, authorities.error().context);
  Result<std::vector<CertificatePtr>> own = parse_certificates(*certificate_pem);
  if (!own) return unfit(files_.certificate, own.error().context);
  Result<KeyPtr> key = parse_key(*key_pem);
  if (!key) return unfit(files_.key, key.error().context);
  Result<CertificateInfo> info = info_of(own->front().get());
  if (!info) return unfit(files_.certificate, info.error().context);
  if (!info->identity) return unfit(files_.certificate, "this is an authority's certificate, not a program's");
  auto is_client = [](PeerRole role) { return role == PeerRole::kClient || role == PeerRole::kAdmin; };
  bool fits = info->identity->role == role_ || (is_client(role_) && is_client(info->identity->role));
  if (!fits) {
    return unfit(files_.certificate, "a certificate for a " + std::string(to_string(info->identity->role)) +
                                         "; here a " + std::string(to_string(role_)) + "'s is wanted");
  }
  if (info->not_after < now) return unfit(files_.certificate, "it expired on " + date_of(info->not_after));
  if (X509_check_private_key(own->front().get(), key->get()) != 1)
    return unfit(files_.key, "not the key of " + files_.certificate);

  Result<ContextPtr> ssl = make_context();
  if (!ssl) return ssl.error();
  bool issued_here = false;
  for (const CertificatePtr& authority : *authorities) {
    X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl->get()), authority.get());
    KeyPtr issuer(X509_get_pubkey(authority.get()));
    issued_here = issued_here || X509_verify(own->front().get(), issuer.get()) == 1;
  }
  ERR_clear_error();
  if (!issued_here) return unfit(files_.certificate, "not issued by the authority in " + files_.ca);
  if (SSL_CTX_use_certificate(ssl->get(), own->front().get()) != 1 ||
      SSL_CTX_use_PrivateKey(ssl->get(), key->get()) != 1)
    return openssl_error(ErrorCode::kUnauthorized, files_.certificate);
  auto made = std::make_shared<TlsContext>();
  made->ssl = std::move(*ssl);
  made->identity = *info->identity;
  made->not_after = info->not_after;
  return std::shared_ptr<const TlsContext>(std::move(made));
}

Credentials::Stamp Credentials::stamp() const {
  Stamp out{};
  size_t i = 0;
  for (const std::string* path : {&files_.ca, &files_.certificate, &files_.key}) {
    struct stat status{};
    if (::stat(path->c_str(), &status) == 0)
      out[i] = {status.st_mtim.tv_sec, status.st_mtim.tv_nsec, static_cast<int64_t>(status.st_ino)};
    ++i;
  }
  return out;
}

std::shared_ptr<const TlsContext> Credentials::current(WallTime now) {
  if (now.ns < looked_.ns || now.ns - looked_.ns >= kLookEvery.count()) {
    looked_ = now;
    if (stamp() != loaded_) reload(now);
    warn_if_soon(now);
  }
  return context_;
}

void Credentials::reload(WallTime now) {
  loaded_ = stamp();
  Result<std::shared_ptr<const TlsContext>> context = read(now);
  if (!context) {
    log_error("tls.not_reloaded", "error={}", quoted(context.error().message()));
    return;
  }
  context_ = std::move(*context);
  warned_ = {};
  log_info("tls.loaded", "certificate={} identity={} expires={}", quoted(files_.certificate),
           to_string(context_->identity), quoted(date_of(context_->not_after)));
  warn_if_soon(now);
}

void Credentials::warn_if_soon(WallTime now) {
  if (context_->not_after.ns - now.ns > kWarnBefore.count()) return;
  bool expired = !still_valid(now);
  if (warned_.ns != 0 && expired == warned_expired_ && now.ns - warned_.ns < kWarnEvery.count()) return;
  warned_ = now;
  warned_expired_ = expired;
  constexpr const char* kFields =
      "certificate={} expires={} do=\"issue a new one (cairn cluster issue) and put it there\"";
  if (expired) {
    log_error("tls.expired", kFields, quoted(files_.certificate), quoted(date_of(context_->not_after)));
  } else {
    log_warning("tls.expires_soon", kFields, quoted(files_.certificate), quoted(date_of(context_->not_after)));
  }
}

}  // namespace cairn
