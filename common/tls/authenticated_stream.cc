#include "common/tls/authenticated_stream.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <openssl/crypto.h>
#include <utility>

#include "common/base/check.h"

namespace cairn {

namespace {

using Pieces = std::span<const std::span<const std::byte>>;
using Tag = std::array<std::byte, 16>;

constexpr size_t kLengthBytes = 4;
constexpr size_t kTagBytes = sizeof(Tag);
// Nothing of a frame is believed before its tag: so much is held back at most, and stays in the cache meanwhile.
constexpr size_t kFrameBytesMax = 64 * 1024;
constexpr size_t kInputBytes = 2 * (kLengthBytes + kFrameBytesMax + kTagBytes);
constexpr size_t kFramesPerWrite = 8;
constexpr size_t kKeyBytes = 16;
constexpr size_t kNonceBytes = 12;
constexpr std::string_view kDialledLabel = "EXPORTER-cairn authenticated dialled";
constexpr std::string_view kAcceptedLabel = "EXPORTER-cairn authenticated accepted";

// The tags of one direction, in order.
class Authenticator {
 public:
  static Result<Authenticator> make(TlsSession& session, std::string_view label) {
    Result<std::vector<unsigned char>> secret = session.export_key(label, kKeyBytes + kNonceBytes);
    if (!secret) return secret.error();
    Authenticator made;
    made.cipher_.reset(EVP_CIPHER_CTX_new());
    CHECK(made.cipher_);
    std::copy_n(secret->begin() + kKeyBytes, kNonceBytes, made.salt_.begin());
    int set = EVP_EncryptInit_ex(made.cipher_.get(), EVP_aes_128_gcm(), nullptr, secret->data(), nullptr);
    OPENSSL_cleanse(secret->data(), secret->size());
    if (set != 1) return openssl_error(ErrorCode::kIo, "AES-GMAC");
    return made;
  }

  void begin_frame() {
    std::array<unsigned char, kNonceBytes> nonce = salt_;
    for (size_t i = 0; i < sizeof(number_); ++i)
      nonce[kNonceBytes - 1 - i] ^= static_cast<unsigned char>(number_ >> (8 * i));
    ++number_;
    CHECK(number_ != 0);  // 2^64 frames
    CHECK(EVP_EncryptInit_ex(cipher_.get(), nullptr, nullptr, nullptr, nonce.data()) == 1);
  }
  void add(std::span<const std::byte> bytes) {
    int ignored = 0;
    if (bytes.empty()) return;
    CHECK(EVP_EncryptUpdate(cipher_.get(), nullptr, &ignored, reinterpret_cast<const unsigned char*>(bytes.data()),
                            static_cast<int>(bytes.size())) == 1);
  }
  Tag end_frame() {
    Tag tag;
    int ignored = 0;
    unsigned char none[1];
    CHECK(EVP_EncryptFinal_ex(cipher_.get(), none, &ignored) == 1);
    CHECK(EVP_CIPHER_CTX_ctrl(cipher_.get(), EVP_CTRL_AEAD_GET_TAG, kTagBytes, tag.data()) == 1);
    return tag;
  }

 private:
  CipherPtr cipher_;
  std::array<unsigned char, kNonceBytes> salt_{};
  uint64_t number_ = 0;
};

std::array<std::byte, kLengthBytes> encode_length(size_t length) {
  std::array<std::byte, kLengthBytes> out;
  for (size_t i = 0; i < kLengthBytes; ++i)
    out[i] = static_cast<std::byte>(length >> (8 * i));
  return out;
}

size_t decode_length(std::span<const std::byte> bytes) {
  size_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i)
    length |= static_cast<size_t>(bytes[i]) << (8 * i);
  return length;
}

// Shared by the stream and by its coroutines: a stream may be destroyed while they wait.
struct Framed {
  Framed(std::shared_ptr<Stream> plain_in, PeerIdentity identity_in, Authenticator out_in, Authenticator in_in)
      : plain(std::move(plain_in)),
        identity(std::move(identity_in)),
        out(std::move(out_in)),
        in(std::move(in_in)),
        input(kInputBytes) {}

  std::shared_ptr<Stream> plain;
  PeerIdentity identity;
  Authenticator out;
  Authenticator in;
  bool closed = false;

  // Received: first what is verified and not yet read, then what is not verified.
  std::vector<std::byte> input;
  size_t verified_begin = 0;
  size_t verified_end = 0;
  size_t begin = 0;  // of the first frame that is not verified
  size_t end = 0;

  // True if there is something to read now. kUnavailable: the frame is not what the other side sent.
  Result<bool> next_frame();
  std::span<std::byte> input_space();
};
using FramedPtr = std::shared_ptr<Framed>;

Result<bool> Framed::next_frame() {
  if (verified_begin != verified_end) return true;
  if (end - begin < kLengthBytes) return false;
  std::span<const std::byte> bytes = std::span(input).subspan(begin, end - begin);
  size_t length = decode_length(bytes);
  if (length == 0 || length > kFrameBytesMax)
    return Error(ErrorCode::kUnavailable, plain->peer() + ": what it sent was altered on the way");
  if (bytes.size() < kLengthBytes + length + kTagBytes) return false;
  in.begin_frame();
  in.add(bytes.first(kLengthBytes + length));
  Tag tag = in.end_frame();
  if (CRYPTO_memcmp(tag.data(), bytes.data() + kLengthBytes + length, kTagBytes) != 0)
    return Error(ErrorCode::kUnavailable, plain->peer() + ": what it sent was altered on the way");
  verified_begin = begin + kLengthBytes;
  verified_end = verified_begin + length;
  begin = verified_end + kTagBytes;
  return true;
}

std::span<std::byte> Framed::input_space() {
  if (begin != 0) {
    std::memmove(input.data(), input.data() + begin, end - begin);
    end -= begin;
    begin = verified_begin = verified_end = 0;
  }
  return std::span(input).subspan(end);
}

Error closed_here() {
  return Error(ErrorCode::kCancelled, "the connection was closed on this side");
}

Task<Result<size_t>> read_at_least(FramedPtr framed, std::span<std::byte> out, size_t least) {
  size_t got = 0;
  while (got < least) {
    if (framed->closed) co_return closed_here();
    Result<bool> there = framed->next_frame();
    if (!there) co_return there.error();
    if (*there) {
      size_t count = std::min(out.size() - got, framed->verified_end - framed->verified_begin);
      std::memcpy(out.data() + got, framed->input.data() + framed->verified_begin, count);
      framed->verified_begin += count;
      got += count;
      continue;
    }
    Result<size_t> received = co_await framed->plain->read_some(framed->input_space());
    if (!received) co_return received.error();
    framed->end += *received;
  }
  co_return got;
}

Task<Result<void>> read_all(FramedPtr framed, std::span<std::byte> out) {
  Result<size_t> got = co_await read_at_least(std::move(framed), out, out.size());
  if (!got) co_return got.error();
  co_return Result<void>();
}

// Walks over pieces, giving out their bytes without copying them.
class PieceCursor {
 public:
  explicit PieceCursor(Pieces pieces) : pieces_(pieces) {
    for (std::span<const std::byte> piece : pieces)
      left_ += piece.size();
  }
  size_t left() const { return left_; }
  // At least one byte, at most `most`; left() is not zero.
  std::span<const std::byte> take(size_t most) {
    while (offset_ == pieces_[piece_].size()) {
      ++piece_;
      offset_ = 0;
    }
    std::span<const std::byte> out = pieces_[piece_].subspan(offset_);
    out = out.first(std::min(out.size(), most));
    offset_ += out.size();
    left_ -= out.size();
    return out;
  }

 private:
  Pieces pieces_;
  size_t piece_ = 0;
  size_t offset_ = 0;
  size_t left_ = 0;
};

Task<Result<void>> write_all(FramedPtr framed, Pieces pieces) {
  PieceCursor cursor(pieces);
  std::array<std::array<std::byte, kLengthBytes>, kFramesPerWrite> lengths;
  std::array<Tag, kFramesPerWrite> tags;
  std::vector<std::span<const std::byte>> out;
  while (cursor.left() != 0) {
    if (framed->closed) co_return closed_here();
    out.clear();
    for (size_t i = 0; i < kFramesPerWrite && cursor.left() != 0; ++i) {
      size_t length = std::min(cursor.left(), kFrameBytesMax);
      lengths[i] = encode_length(length);
      framed->out.begin_frame();
      framed->out.add(lengths[i]);
      out.emplace_back(lengths[i]);
      while (length != 0) {
        std::span<const std::byte> part = cursor.take(length);
        framed->out.add(part);
        out.push_back(part);
        length -= part.size();
      }
      tags[i] = framed->out.end_frame();
      out.emplace_back(tags[i]);
    }
    Result<void> sent = co_await framed->plain->write(out);
    if (!sent) co_return sent;
  }
  co_return Result<void>();
}

class AuthenticatedStream final : public Stream {
 public:
  explicit AuthenticatedStream(FramedPtr framed) : framed_(std::move(framed)) {}
  ~AuthenticatedStream() override { close(); }

  Task<Result<size_t>> read_some(std::span<std::byte> out) override { return read_at_least(framed_, out, 1); }
  Task<Result<void>> read_exact(std::span<std::byte> out) override { return read_all(framed_, out); }
  Task<Result<void>> write(Pieces pieces) override { return write_all(framed_, pieces); }
  void close() override {
    framed_->closed = true;
    framed_->plain->close();
  }
  std::string peer() const override { return framed_->plain->peer(); }
  const PeerIdentity* identity() const override { return &framed_->identity; }

 private:
  FramedPtr framed_;
};

}  // namespace

Result<std::unique_ptr<Stream>> make_authenticated_stream(std::shared_ptr<Stream> plain, TlsSession& session,
                                                          TlsSession::Side side) {
  bool dialled = side == TlsSession::Side::kDial;
  Result<Authenticator> out = Authenticator::make(session, dialled ? kDialledLabel : kAcceptedLabel);
  if (!out) return out.error();
  Result<Authenticator> in = Authenticator::make(session, dialled ? kAcceptedLabel : kDialledLabel);
  if (!in) return in.error();
  auto framed = std::make_shared<Framed>(std::move(plain), session.identity(), std::move(*out), std::move(*in));
  std::span<const std::byte> early = session.pending();
  std::ranges::copy(early, framed->input.begin());
  framed->end = early.size();
  return std::make_unique<AuthenticatedStream>(std::move(framed));
}

}  // namespace cairn
