// Owners of OpenSSL's objects, and its errors. Internal to common/tls.
#pragma once

#include <memory>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/tls/certificate.h"

namespace cairn {

template <auto Free>
struct OpensslFree {
  template <class T>
  void operator()(T* object) const {
    Free(object);
  }
};
using BioPtr = std::unique_ptr<BIO, OpensslFree<BIO_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, OpensslFree<EVP_PKEY_free>>;
using CertificatePtr = std::unique_ptr<X509, OpensslFree<X509_free>>;
using ContextPtr = std::unique_ptr<SSL_CTX, OpensslFree<SSL_CTX_free>>;
using SslPtr = std::unique_ptr<SSL, OpensslFree<SSL_free>>;
using CipherPtr = std::unique_ptr<EVP_CIPHER_CTX, OpensslFree<EVP_CIPHER_CTX_free>>;

// What OpenSSL has to say of the call that just failed; its queue is empty afterwards.
Error openssl_error(ErrorCode code, std::string_view doing);

Result<std::vector<CertificatePtr>> parse_certificates(std::string_view pem);
Result<KeyPtr> parse_key(std::string_view pem);
// The one URI among the alternative names that begins with "cairn://".
std::optional<std::string> cairn_uri(X509* certificate);
Result<CertificateInfo> info_of(X509* certificate);

}  // namespace cairn
