#include "common/tls/tls_session.h"

#include <algorithm>
#include <cstring>
#include <fmt/format.h>

#include "common/base/check.h"

namespace cairn {

namespace {

// One recv fills it: four records at a time keep the cost of system calls small and the bytes in the cache.
constexpr size_t kInputBytes = 4 * (TlsSession::kRecordBytes + 256);
// AES-GCM may protect 2^24.5 full records with one key (RFC 8446, 5.5): 388 GiB. A new key long before that.
constexpr uint64_t kBytesPerKey = 64ull << 30;
constexpr unsigned char kRecordAlert = 21;
constexpr unsigned char kRecordHandshake = 22;

// What the other side's alert means for a person.
std::string_view meaning_of_alert(int alert) {
  switch (alert) {
    case SSL_AD_CERTIFICATE_REQUIRED:
      return "it wants a certificate, and this side has shown none";
    case SSL_AD_CERTIFICATE_EXPIRED:
      return "it says that this side's certificate has expired, or is not valid yet there";
    case SSL_AD_UNKNOWN_CA:
      return "it does not know the authority of this side's certificate: is that of the same cluster?";
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_DECRYPT_ERROR:
      return "it does not accept this side's certificate";
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
      return "this side's certificate is of a role that it does not accept here";
    case SSL_AD_PROTOCOL_VERSION:
      return "it does not speak TLS 1.3";
    case SSL_AD_NO_APPLICATION_PROTOCOL:
      return "it speaks TLS, but not as Cairn does";
    default:
      return "it refused the connection";
  }
}

}  // namespace

TlsSession::TlsSession(std::shared_ptr<const TlsContext> context, Side side, Wishes wishes, WallTime now,
                       std::string other)
    : context_(std::move(context)),
      side_(side),
      wishes_(wishes),
      now_(now),
      other_(std::move(other)),
      input_(kInputBytes),
      ssl_(SSL_new(context_->ssl.get())) {
  CHECK(ssl_);
  SSL* ssl = ssl_.get();
  BIO* bio = BIO_new(bio_method());
  CHECK(bio != nullptr);
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl, bio, bio);
  SSL_set_app_data(ssl, this);
  SSL_set_verify(ssl, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, on_verify);
  X509_VERIFY_PARAM_set_time(SSL_get0_param(ssl), static_cast<time_t>(now.ns / 1'000'000'000));
  if (side == Side::kAccept) {
    SSL_set_accept_state(ssl);
    SSL_CTX_set_alpn_select_cb(context_->ssl.get(), on_choose_protocol, nullptr);
    return;
  }
  SSL_set_connect_state(ssl);
  std::string offered;
  if (wishes.authenticated_only)
    offered += static_cast<char>(kProtocolAuthenticated.size()) + std::string(kProtocolAuthenticated);
  offered += static_cast<char>(kProtocolEncrypted.size()) + std::string(kProtocolEncrypted);
  SSL_set_alpn_protos(ssl, reinterpret_cast<const unsigned char*>(offered.data()),
                      static_cast<unsigned>(offered.size()));
}

// ---- bytes in and out

const BIO_METHOD* TlsSession::bio_method() {
  static const BIO_METHOD* const method = [] {
    BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "cairn");
    CHECK(made != nullptr);
    BIO_meth_set_read_ex(made, on_bio_read);
    BIO_meth_set_write_ex(made, on_bio_write);
    BIO_meth_set_ctrl(made, on_bio_control);
    return made;
  }();
  return method;
}

int TlsSession::on_bio_read(BIO* bio, char* out, size_t size, size_t* got) {
  auto* self = static_cast<TlsSession*>(BIO_get_data(bio));
  BIO_clear_retry_flags(bio);
  *got = std::min(size, self->input_end_ - self->input_begin_);
  if (*got == 0) {
    BIO_set_retry_read(bio);
    return 0;
  }
  std::memcpy(out, self->input_.data() + self->input_begin_, *got);
  self->input_begin_ += *got;
  return 1;
}

int TlsSession::on_bio_write(BIO* bio, const char* data, size_t size, size_t* written) {
  auto* self = static_cast<TlsSession*>(BIO_get_data(bio));
  const auto* bytes = reinterpret_cast<const std::byte*>(data);
  self->output_.insert(self->output_.end(), bytes, bytes + size);
  *written = size;
  return 1;
}

long TlsSession::on_bio_control(BIO*, int command, long, void*) {
  return command == BIO_CTRL_FLUSH ? 1 : 0;
}

std::span<std::byte> TlsSession::input_space() {
  if (input_begin_ == input_end_) {
    input_begin_ = input_end_ = 0;
  } else if (input_begin_ != 0) {
    std::memmove(input_.data(), input_.data() + input_begin_, input_end_ - input_begin_);
    input_end_ -= input_begin_;
    input_begin_ = 0;
  }
  return std::span(input_).subspan(input_end_);
}

void TlsSession::received(size_t count) {
  input_end_ += count;
}

// ---- the handshake

int TlsSession::on_choose_protocol(SSL* ssl, const unsigned char** out, unsigned char* out_size,
                                   const unsigned char* in, unsigned in_size, void*) {
  auto* self = static_cast<TlsSession*>(SSL_get_app_data(ssl));
  std::string_view wanted[] = {kProtocolAuthenticated, kProtocolEncrypted};
  for (std::string_view name : wanted) {
    if (name == kProtocolAuthenticated && !self->wishes_.authenticated_only) continue;
    for (unsigned at = 0; at < in_size; at += 1u + in[at]) {
      std::string_view offered(reinterpret_cast<const char*>(in) + at + 1, in[at]);
      if (offered != name) continue;
      *out = in + at + 1;
      *out_size = in[at];
      return SSL_TLSEXT_ERR_OK;
    }
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

int TlsSession::on_verify(int preverified, X509_STORE_CTX* store) {
  auto* ssl = static_cast<SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  return static_cast<TlsSession*>(SSL_get_app_data(ssl))->verify_peer(store, preverified) ? 1 : 0;
}

// Called for each certificate of the chain, the authority's first. What OpenSSL refuses stays refused; what it accepts
// must also be a part of this cluster.
bool TlsSession::verify_peer(X509_STORE_CTX* store, int preverified) {
  if (preverified != 1) {
    if (not_verified_.empty()) not_verified_ = why_not_verified(store);
    return false;
  }
  if (X509_STORE_CTX_get_error_depth(store) != 0) return true;
  Result<CertificateInfo> info = info_of(X509_STORE_CTX_get_current_cert(store));
  if (!info) {
    not_verified_ = info.error().context;
  } else if (!info->identity) {
    not_verified_ = "it shows the authority's own certificate";
  } else if (info->cluster != context_->identity.cluster) {
    not_verified_ = other_cluster(to_string(*info->identity), info->cluster);
  } else {
    identity_ = std::move(info->identity);
    return true;
  }
  X509_STORE_CTX_set_error(store, X509_V_ERR_CERT_REJECTED);
  return false;
}

std::string TlsSession::other_cluster(const std::string& name, ClusterId cluster) {
  failed_ = ErrorCode::kWrongCluster;
  return fmt::format("its certificate {} is of cluster {}, this is cluster {}", name, to_string(cluster),
                     to_string(context_->identity.cluster));
}

std::string TlsSession::why_not_verified(X509_STORE_CTX* store) {
  int error = X509_STORE_CTX_get_error(store);
  if (error == X509_V_ERR_CERT_HAS_EXPIRED && X509_STORE_CTX_get_error_depth(store) > 0) {
    Result<CertificateInfo> authority = info_of(X509_STORE_CTX_get_current_cert(store));
    return "the cluster's authority expired" + (authority ? " on " + date_of(authority->not_after) : std::string());
  }
  Result<CertificateInfo> info = info_of(X509_STORE_CTX_get0_cert(store));  // the other side's own
  if (!info) return fmt::format("its certificate is not one of Cairn's ({})", X509_verify_cert_error_string(error));
  std::string name = info->identity ? to_string(*info->identity) : "the authority of " + to_string(info->cluster);
  if (error == X509_V_ERR_CERT_HAS_EXPIRED)
    return fmt::format("its certificate {} expired on {}", name, date_of(info->not_after));
  if (error == X509_V_ERR_CERT_NOT_YET_VALID)
    return fmt::format("its certificate {} is valid from {} on: are the clocks right?", name,
                       date_of(info->not_before));
  if (error == X509_V_ERR_INVALID_PURPOSE) return fmt::format("its certificate {} is not one for a server", name);
  if (info->cluster != context_->identity.cluster) return other_cluster(name, info->cluster);
  bool unknown = error == X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY ||
                 error == X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE || error == X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN;
  if (unknown || X509_STORE_CTX_get_error_depth(store) > 0)
    return fmt::format("its certificate {} is not signed by the authority that is known here", name);
  return fmt::format("its certificate {} is not accepted: {}", name, X509_verify_cert_error_string(error));
}

std::optional<Error> TlsSession::not_tls() {
  if (first_byte_seen_ || pending().empty()) return std::nullopt;
  first_byte_seen_ = true;
  auto first = static_cast<unsigned char>(pending().front());
  if (first == kRecordHandshake || (side_ == Side::kDial && first == kRecordAlert)) return std::nullopt;
  if (side_ == Side::kDial)
    return refused("it speaks without TLS: it has no certificate, or tls.mode is \"off\" there");
  // An alert (handshake_failure) that is long enough to be taken for a whole frame header of a Cairn program without
  // TLS, which then says what is wrong (common/rpc/frame.cc).
  static constexpr unsigned char kAlert[] = {kRecordAlert, 3, 3, 0, 2, 2, SSL_AD_HANDSHAKE_FAILURE};
  for (int i = 0; i < 16; ++i) {
    for (unsigned char byte : kAlert)
      output_.push_back(static_cast<std::byte>(byte));
  }
  return refused("it speaks without TLS: it has no certificate, or tls.mode is \"off\" there");
}

Result<bool> TlsSession::handshake() {
  if (std::optional<Error> error = not_tls()) return *error;
  ERR_clear_error();
  int result = SSL_do_handshake(ssl_.get());
  if (result == 1) {
    CHECK(identity_);  // set by verify_peer(), without which there is no success
    const unsigned char* name = nullptr;
    unsigned size = 0;
    SSL_get0_alpn_selected(ssl_.get(), &name, &size);
    if (size == 0) return refused("it speaks TLS, but not as Cairn does");
    return true;
  }
  if (SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_READ) return false;
  return failure(result, "the TLS handshake failed");
}

bool TlsSession::authenticated_only() const {
  const unsigned char* name = nullptr;
  unsigned size = 0;
  SSL_get0_alpn_selected(ssl_.get(), &name, &size);
  return std::string_view(reinterpret_cast<const char*>(name), size) == kProtocolAuthenticated;
}

Error TlsSession::failure(int result, std::string_view doing) {
  int kind = SSL_get_error(ssl_.get(), result);
  if (kind == SSL_ERROR_ZERO_RETURN) return Error(ErrorCode::kUnavailable, "the other side closed the connection");
  if (!not_verified_.empty()) {
    ERR_clear_error();
    return refused(not_verified_);
  }
  int reason = ERR_GET_REASON(ERR_peek_error());
  if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
    ERR_clear_error();
    return refused("it has shown no certificate");
  }
  if (reason >= SSL_AD_REASON_OFFSET && reason < SSL_AD_REASON_OFFSET + 256) {
    std::string_view meaning = meaning_of_alert(reason - SSL_AD_REASON_OFFSET);
    return openssl_error(failed_, other_ + ": " + std::string(meaning));
  }
  return openssl_error(failed_, other_ + ": " + std::string(doing));
}

// ---- bytes

Result<size_t> TlsSession::read(std::span<std::byte> out) {
  ERR_clear_error();
  size_t got = 0;
  int result = SSL_read_ex(ssl_.get(), out.data(), out.size(), &got);
  if (result == 1) return got;
  if (SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_READ) return size_t{0};
  return failure(result, "what it sent is no TLS, or was altered on the way");
}

Result<void> TlsSession::write(std::span<const std::byte> bytes) {
  if (bytes.empty()) return {};
  if (sent_since_new_key_ >= kBytesPerKey) {
    SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED);
    sent_since_new_key_ = 0;
  }
  sent_since_new_key_ += bytes.size();
  ERR_clear_error();
  size_t written = 0;
  int result = SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &written);
  if (result != 1) return failure(result, "encrypting");
  CHECK(written == bytes.size());
  return {};
}

Result<std::vector<unsigned char>> TlsSession::export_key(std::string_view label, size_t bytes) {
  std::vector<unsigned char> out(bytes);
  if (SSL_export_keying_material(ssl_.get(), out.data(), bytes, label.data(), label.size(), nullptr, 0, 0) != 1)
    return openssl_error(ErrorCode::kIo, "deriving keys");
  return out;
}

}  // namespace cairn
