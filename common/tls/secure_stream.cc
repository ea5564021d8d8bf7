#include "common/tls/secure_stream.h"

#include <array>
#include <utility>

#include "common/runtime/scoped_timer.h"
#include "common/tls/authenticated_stream.h"

namespace cairn {

namespace {

using Pieces = std::span<const std::span<const std::byte>>;

// What the accepting side says when the other one's certificate is accepted: in TLS 1.3 the handshake of the one who
// dials ends before that is known.
constexpr std::byte kAccepted{1};
// So much is encrypted before it is sent: few system calls, and still in the cache when the kernel copies it.
constexpr size_t kSendBytes = 256 * 1024;

// Shared by the stream and by its coroutines: a stream may be destroyed while they wait.
struct Secured {
  Secured(std::shared_ptr<Stream> plain_in, std::shared_ptr<const TlsContext> context, TlsSession::Side side,
          TlsSession::Wishes wishes, WallTime now)
      : plain(std::move(plain_in)), session(std::move(context), side, wishes, now, plain->peer()) {}
  std::shared_ptr<Stream> plain;
  TlsSession session;
  std::vector<std::byte> sending;  // the session's output while it is being sent
  std::vector<std::byte> record;   // small pieces on their way into one record
  bool closed = false;
};
using SecuredPtr = std::shared_ptr<Secured>;

Error closed_here() {
  return Error(ErrorCode::kCancelled, "the connection was closed on this side");
}

Task<Result<void>> send_output(SecuredPtr secured) {
  std::vector<std::byte>& output = secured->session.output();
  if (output.empty()) co_return Result<void>();
  secured->sending.clear();
  std::swap(secured->sending, output);
  std::span<const std::byte> piece = secured->sending;
  Result<void> sent = co_await secured->plain->write(std::span(&piece, 1));
  co_return sent;
}

Task<Result<void>> receive_input(SecuredPtr secured) {
  Result<size_t> got = co_await secured->plain->read_some(secured->session.input_space());
  if (!got) co_return got.error();
  secured->session.received(*got);
  co_return Result<void>();
}

Task<Result<size_t>> read_at_least(SecuredPtr secured, std::span<std::byte> out, size_t least) {
  size_t got = 0;
  while (got < least) {
    if (secured->closed) co_return closed_here();
    Result<size_t> some = secured->session.read(out.subspan(got));
    if (!some) co_return some.error();
    got += *some;
    if (*some != 0) continue;
    Result<void> more = co_await receive_input(secured);
    if (!more) co_return more.error();
  }
  co_return got;
}

Task<Result<void>> read_all(SecuredPtr secured, std::span<std::byte> out) {
  Result<size_t> got = co_await read_at_least(std::move(secured), out, out.size());
  if (!got) co_return got.error();
  co_return Result<void>();
}

// Whole records: what is large goes in as it lies there, small pieces are put together first.
Task<Result<void>> write_all(SecuredPtr secured, Pieces pieces) {
  TlsSession& session = secured->session;
  std::vector<std::byte>& record = secured->record;
  record.clear();
  for (size_t i = 0; i < pieces.size(); ++i) {
    std::span<const std::byte> rest = pieces[i];
    while (!rest.empty()) {
      if (secured->closed) co_return closed_here();
      std::span<const std::byte> part;
      if (record.empty() && rest.size() >= TlsSession::kRecordBytes) {
        part = rest.first(std::min(rest.size() / TlsSession::kRecordBytes * TlsSession::kRecordBytes, kSendBytes));
        rest = rest.subspan(part.size());
      } else {
        size_t count = std::min(rest.size(), TlsSession::kRecordBytes - record.size());
        record.insert(record.end(), rest.begin(), rest.begin() + static_cast<ptrdiff_t>(count));
        rest = rest.subspan(count);
        if (record.size() < TlsSession::kRecordBytes) continue;
        part = record;
      }
      Result<void> encrypted = session.write(part);
      if (!encrypted) co_return encrypted;
      if (part.data() == record.data()) record.clear();
      if (session.output().size() < kSendBytes) continue;
      Result<void> sent = co_await send_output(secured);
      if (!sent) co_return sent;
    }
  }
  Result<void> encrypted = session.write(record);
  if (!encrypted) co_return encrypted;
  Result<void> sent = co_await send_output(secured);
  co_return sent;
}

class SecureStream final : public Stream {
 public:
  explicit SecureStream(SecuredPtr secured) : secured_(std::move(secured)) {}
  ~SecureStream() override { close(); }

  Task<Result<size_t>> read_some(std::span<std::byte> out) override { return read_at_least(secured_, out, 1); }
  Task<Result<void>> read_exact(std::span<std::byte> out) override { return read_all(secured_, out); }
  Task<Result<void>> write(Pieces pieces) override { return write_all(secured_, pieces); }
  void close() override {
    secured_->closed = true;
    secured_->plain->close();
  }
  std::string peer() const override { return secured_->plain->peer(); }
  const PeerIdentity* identity() const override { return &secured_->session.identity(); }

 private:
  SecuredPtr secured_;
};

Task<Result<void>> shake_hands(SecuredPtr secured) {
  for (;;) {
    Result<bool> finished = secured->session.handshake();
    // Also when it failed: an alert that says why.
    Result<void> sent = co_await send_output(secured);
    if (!finished) co_return finished.error();
    if (!sent) co_return sent;
    if (*finished) co_return Result<void>();
    Result<void> more = co_await receive_input(secured);
    if (!more) co_return more;
  }
}

Task<Result<void>> agree(SecuredPtr secured, TlsSession::Side side) {
  Result<void> shaken = co_await shake_hands(secured);
  if (!shaken) co_return shaken;
  if (side == TlsSession::Side::kAccept) {
    Result<void> said = secured->session.write(std::span(&kAccepted, 1));
    if (!said) co_return said;
    said = co_await send_output(secured);
    co_return said;
  }
  std::array<std::byte, 1> answer{};
  Result<void> heard = co_await read_all(secured, answer);
  if (!heard) co_return heard;
  if (answer[0] != kAccepted) co_return Error(ErrorCode::kProtocol, "an unknown answer after the TLS handshake");
  co_return Result<void>();
}

}  // namespace

Task<Result<std::unique_ptr<Stream>>> secure(Clock* clock, std::shared_ptr<Stream> plain,
                                             std::shared_ptr<const TlsContext> context, TlsSession::Side side,
                                             TlsSession::Wishes wishes, TimePoint deadline) {
  bool late = false;
  ScopedTimer timer(*clock, deadline, [&late, &plain] {
    late = true;
    plain->close();
  });
  auto secured = std::make_shared<Secured>(plain, std::move(context), side, wishes, clock->wall());
  Result<void> agreed = co_await agree(secured, side);
  if (late) co_return Error(ErrorCode::kTimeout, plain->peer() + ": the TLS handshake was not finished in time");
  if (!agreed && agreed.failed_with(ErrorCode::kUnavailable))
    co_return Error(ErrorCode::kUnavailable, plain->peer() + " ended the TLS handshake: " + agreed.error().context);
  if (!agreed) co_return agreed.error();
  secured->session.established();
  if (!secured->session.authenticated_only()) co_return std::make_unique<SecureStream>(std::move(secured));
  Result<std::unique_ptr<Stream>> framed = make_authenticated_stream(std::move(plain), secured->session, side);
  co_return framed;
}

}  // namespace cairn
