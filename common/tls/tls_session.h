// TlsSession: TLS 1.3 with both sides' certificates, without I/O: bytes of the other side are put in, bytes for it come
// out. Internal to common/tls. Loop thread only.
//
//   received bytes -> input_space(), received() -> handshake(), read()
//   write()        -> output(), which the owner sends and empties
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/tls/tls_context.h"

namespace cairn {

class TlsSession {
 public:
  enum class Side { kDial, kAccept };
  // What is to follow the handshake. Frames that are only authenticated need the wish of both sides.
  struct Wishes {
    bool authenticated_only = false;
  };

  // `now` is for certificates' dates. `other` names the other side in errors.
  TlsSession(std::shared_ptr<const TlsContext> context, Side side, Wishes wishes, WallTime now, std::string other);
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // Where received bytes go; never empty as long as what was received before has been worked off.
  std::span<std::byte> input_space();
  void received(size_t count);
  // What has been received and not worked off.
  std::span<const std::byte> pending() const {
    return std::span(input_).subspan(input_begin_, input_end_ - input_begin_);
  }

  // True when it is finished and the other side is who identity() says; false: more has to be received. kUnauthorized
  // (kWrongCluster: a certificate of another cluster) with the reason, also if it is the other side that refuses. There
  // may be output in each case.
  Result<bool> handshake();
  const PeerIdentity& identity() const { return *identity_; }
  bool authenticated_only() const;

  // Both sides have accepted one another: what fails from now on is a broken connection (kUnavailable), not a refusal.
  void established() { failed_ = ErrorCode::kUnavailable; }

  // Bytes of the other side; 0: more has to be received. kUnavailable at the end.
  Result<size_t> read(std::span<std::byte> out);
  Result<void> write(std::span<const std::byte> bytes);
  std::vector<std::byte>& output() { return output_; }

  // Keys for what follows, the same on both sides (RFC 8446, 7.5).
  Result<std::vector<unsigned char>> export_key(std::string_view label, size_t bytes);

  static constexpr size_t kRecordBytes = 16 * 1024;  // the most that a record carries

 private:
  static int on_bio_read(BIO* bio, char* out, size_t size, size_t* got);
  static int on_bio_write(BIO* bio, const char* data, size_t size, size_t* written);
  static long on_bio_control(BIO* bio, int command, long number, void* pointer);
  static const BIO_METHOD* bio_method();
  static int on_verify(int preverified, X509_STORE_CTX* store);
  static int on_choose_protocol(SSL* ssl, const unsigned char** out, unsigned char* out_size, const unsigned char* in,
                                unsigned in_size, void* self);
  bool verify_peer(X509_STORE_CTX* store, int preverified);
  std::string why_not_verified(X509_STORE_CTX* store);
  std::string other_cluster(const std::string& name, ClusterId cluster);
  // Plain text where TLS was expected, seen by its first byte.
  std::optional<Error> not_tls();
  // Of the failed call.
  Error failure(int result, std::string_view doing);
  Error refused(std::string why) const { return Error(failed_, other_ + ": " + std::move(why)); }

  std::shared_ptr<const TlsContext> context_;
  Side side_;
  Wishes wishes_;
  WallTime now_;
  std::string other_;
  std::vector<std::byte> input_;
  size_t input_begin_ = 0;
  size_t input_end_ = 0;
  std::vector<std::byte> output_;
  std::optional<PeerIdentity> identity_;
  std::string not_verified_;  // why
  ErrorCode failed_ = ErrorCode::kUnauthorized;
  bool first_byte_seen_ = false;
  uint64_t sent_since_new_key_ = 0;
  SslPtr ssl_;  // last: it uses the others
};

}  // namespace cairn
