#include "common/rpc/frame_writer.h"

#include <algorithm>
#include <utility>

#include "common/base/crc32c.h"

namespace cairn {

namespace {
// Copying so little costs less than one more piece of a gathered write, and a message is rarely larger.
constexpr size_t kStagedMessageMaxBytes = 4 * 1024;
// Of one write: below IOV_MAX (1024), and small enough that written_bytes() moves on while much is queued.
constexpr size_t kPiecesPerWriteMax = 512;
constexpr size_t kBytesPerWriteMax = 4 * 1024 * 1024;
// A batch's memory beyond this is given back after it.
constexpr size_t kStagedKeptBytes = 256 * 1024;
}  // namespace

void FrameWriter::Batch::add_staged(std::string_view bytes) {
  bool extends = !pieces.empty() && pieces.back().payload.empty() && pieces.back().message.empty();
  if (!extends) pieces.push_back(Piece{.staged_begin = staged.size()});
  pieces.back().size += bytes.size();
  staged += bytes;
}

void FrameWriter::Batch::clear() {
  pieces.clear();
  staged.clear();
  if (staged.capacity() > kStagedKeptBytes) staged.shrink_to_fit();
}

struct FrameWriter::Sleep {
  explicit Sleep(std::shared_ptr<Sleeper> sleeper_in) : sleeper(std::move(sleeper_in)) {}
  Sleep(const Sleep&) = delete;
  Sleep& operator=(const Sleep&) = delete;
  ~Sleep() { sleeper->waiter = {}; }  // a frame that is destroyed is not woken
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> handle) noexcept { sleeper->waiter = handle; }
  void await_resume() const noexcept {}
  std::shared_ptr<Sleeper> sleeper;
};

FrameWriter::FrameWriter(Executor& executor, Stream& stream)
    : executor_(executor), stream_(stream), sleeper_(std::make_shared<Sleeper>()) {}

void FrameWriter::push(FrameHeader header, std::string message, Payload payload) {
  if (closed_ || finishing_) return;
  header.message_bytes = static_cast<uint32_t>(message.size());
  header.payload_bytes = static_cast<uint32_t>(payload_size(payload));
  header.message_crc = crc32c(message);
  std::array<char, kFrameHeaderBytes> encoded = encode_header(header);
  gathering_.add_staged({encoded.data(), encoded.size()});
  if (message.size() <= kStagedMessageMaxBytes) {
    gathering_.add_staged(message);
  } else {
    size_t size = message.size();
    gathering_.pieces.push_back(Piece{.size = size, .message = std::move(message)});
  }
  for (Buffer& part : payload) {
    if (part.empty()) continue;
    size_t size = part.size();
    gathering_.pieces.push_back(Piece{.size = size, .payload = std::move(part)});
  }
  pushed_bytes_ += kFrameHeaderBytes + header.message_bytes + header.payload_bytes;
  wake();
}

void FrameWriter::wake() {
  // While a write is under way nobody sleeps: run() looks again after it.
  if (woken_ || !sleeper_->waiter) return;
  woken_ = true;
  executor_.post([sleeper = sleeper_] {
    if (sleeper->waiter) std::exchange(sleeper->waiter, {}).resume();
  });
}

Task<Result<void>> FrameWriter::run() {
  for (;;) {
    if (closed_) co_return Error(ErrorCode::kCancelled);
    if (gathering_.pieces.empty()) {
      if (finishing_) co_return Result<void>();
      Sleep sleep(sleeper_);
      co_await sleep;
      woken_ = false;
      continue;
    }
    std::swap(gathering_, writing_);
    Result<void> written = co_await write_batch();
    if (!written) {
      close();
      co_return written;
    }
    writing_.clear();
  }
}

Task<Result<void>> FrameWriter::write_batch() {
  size_t next = 0;
  while (next < writing_.pieces.size()) {
    spans_.clear();
    size_t first = next;
    size_t bytes = 0;
    while (next < writing_.pieces.size() && spans_.size() < kPiecesPerWriteMax && bytes < kBytesPerWriteMax) {
      const Piece& piece = writing_.pieces[next++];
      const void* data = writing_.staged.data() + piece.staged_begin;
      if (!piece.payload.empty()) data = piece.payload.data();
      if (!piece.message.empty()) data = piece.message.data();
      spans_.emplace_back(static_cast<const std::byte*>(data), piece.size);
      bytes += piece.size;
    }
    Result<void> written = co_await stream_.write(spans_);
    if (!written) co_return written;
    for (size_t i = first; i < next; ++i) {
      writing_.pieces[i].payload = Buffer();
      writing_.pieces[i].message = std::string();
    }
    written_bytes_ += bytes;
    if (on_written_) on_written_();
    if (closed_) co_return Error(ErrorCode::kCancelled);
  }
  co_return Result<void>();
}

void FrameWriter::finish() {
  finishing_ = true;
  wake();
}

void FrameWriter::close() {
  closed_ = true;
  // What is being written stays until the stream lets go of it.
  gathering_.clear();
  wake();
}

}  // namespace cairn
