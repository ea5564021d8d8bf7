#include "common/rpc/server_connection.h"

#include <fmt/format.h>
#include <utility>

#include "common/base/check.h"
#include "common/runtime/scoped_timer.h"

namespace cairn {

namespace {
// What a request costs besides its bytes: frames of coroutines, its entry in the task group.
constexpr uint64_t kRequestOverheadBytes = 1024;

std::optional<PeerIdentity> identity_of(const Stream& stream) {
  if (stream.identity() == nullptr) return std::nullopt;
  return *stream.identity();
}
}  // namespace

ServerConnection::ServerConnection(World& world, uint64_t id, std::unique_ptr<Stream> stream)
    : world_(world),
      id_(id),
      peer_(stream->peer()),
      identity_(identity_of(*stream)),
      stream_(std::move(stream)),
      in_(world, *stream_),
      out_(world.executor(), *stream_),
      room_(world.executor()),
      writer_ended_(world.executor()) {
  out_.on_written([this] { room_.notify_all(); });
}

ServerConnection::~ServerConnection() {
  CHECK(linger_timer_ == 0);
}

Task<Result<Hello>> ServerConnection::receive_hello(TimePoint deadline) {
  bool late = false;
  ScopedTimer timer(world_.clock(), deadline, [this, &late] {
    late = true;
    close();
  });
  Result<FrameHeader> header = co_await in_.receive_header();
  if (late) co_return Error(ErrorCode::kTimeout, "no hello came");
  if (!header) co_return header.error();
  if (header->kind != FrameKind::kHello) co_return Error(ErrorCode::kBadMessage, "the first frame is not a hello");
  Result<std::string> message = co_await in_.receive_message(*header);
  if (late) co_return Error(ErrorCode::kTimeout, "no hello came");
  if (!message) co_return message.error();
  co_return decode_hello(*message);
}

uint64_t ServerConnection::charge_of(const FrameHeader& header) {
  return kRequestOverheadBytes + header.message_bytes + header.payload_bytes + header.answer_bytes;
}

bool ServerConnection::has_room_for(uint64_t charge, const RpcServerOptions& options) const {
  // Answers that wait to be written count too: who does not read them is not read either.
  uint64_t used = charged_bytes_ + out_.queued_bytes();
  if (requests_ >= options.requests_per_connection_max) return false;
  return used == 0 || used + charge <= options.memory_per_connection_bytes;
}

Task<void> ServerConnection::wait_for_room() {
  TimePoint soon = world_.clock().now() + kSignOfLife;
  Result<void> changed = co_await room_.wait_until(world_.clock(), soon);
  // Meanwhile pings are not read either. An answer to nobody says that this side is alive; who does not read gets no
  // more of them.
  if (!changed && open_ && out_.queued_bytes() == 0) out_.push(FrameHeader{.kind = FrameKind::kAnswer}, std::string());
}

void ServerConnection::charge(uint64_t bytes) {
  charged_bytes_ += bytes;
  ++requests_;
}

void ServerConnection::release(uint64_t bytes) {
  CHECK(requests_ > 0 && charged_bytes_ >= bytes);
  charged_bytes_ -= bytes;
  --requests_;
  room_.notify_all();
}

void ServerConnection::push(FrameHeader header, std::string message, Payload payload) {
  out_.push(header, std::move(message), std::move(payload));
}

Task<void> ServerConnection::write() {
  Result<void> written = co_await out_.run();
  (void)written;  // whatever the end was, the reader meets it too
  close();
  if (linger_timer_ != 0) world_.clock().cancel(std::exchange(linger_timer_, 0));
  writing_ = false;
  writer_ended_.notify_all();
}

void ServerConnection::greeted(Hello hello) {
  hello_ = std::move(hello);
  open_ = true;
}

void ServerConnection::close_gently(const Error& why) {
  if (closing_) return;
  closing_ = true;
  open_ = false;
  out_.push(FrameHeader{.kind = FrameKind::kGoodbye}, encode_error(why));
  out_.finish();
  if (writing_) {
    linger_timer_ = world_.clock().call_at(world_.clock().now() + kLinger, [this] {
      linger_timer_ = 0;
      close();
    });
  }
  room_.notify_all();
}

void ServerConnection::close() {
  closing_ = true;
  open_ = false;
  out_.close();
  if (stream_) stream_->close();
  room_.notify_all();
}

Task<void> ServerConnection::wait_for_writer() {
  while (writing_)
    co_await writer_ended_.wait();
  stream_.reset();
}

void ServerConnection::drop_stream() {
  if (linger_timer_ != 0) world_.clock().cancel(std::exchange(linger_timer_, 0));
  open_ = false;
  stream_.reset();
}

}  // namespace cairn
