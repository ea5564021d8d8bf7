#include "chunkserver/store/segment_file.h"

#include <cstring>
#include <utility>

namespace cairn {
namespace {

constexpr size_t kGatherMax = 64;  // pieces of one write; more are copied together

bool aligned(const void* memory) {
  return reinterpret_cast<uintptr_t>(memory) % kBlockSizeBytes == 0;
}

// Blocks that lie behind one another in memory become one span.
std::vector<std::span<const std::byte>> spans_of(const std::vector<BlockBytes>& blocks) {
  std::vector<std::span<const std::byte>> spans;
  for (const BlockBytes& block : blocks) {
    std::span<const std::byte> bytes = block.span();
    if (!spans.empty() && spans.back().data() + spans.back().size() == bytes.data()) {
      spans.back() = {spans.back().data(), spans.back().size() + bytes.size()};
    } else {
      spans.push_back(bytes);
    }
  }
  return spans;
}

}  // namespace

Result<File*> SegmentFile::writer() {
  std::scoped_lock lock(mutex_);
  if (!no_direct_ && !direct_) {
    Result<std::unique_ptr<File>> opened = disk_.open(path_, {.direct = true});
    if (opened) {
      direct_ = std::move(*opened);
    } else if (opened.failed_with(ErrorCode::kInvalid) || opened.failed_with(ErrorCode::kNotSupported)) {
      no_direct_ = true;
    } else {
      return opened.error();
    }
  }
  if (direct_) return direct_.get();
  if (!buffered_) {
    Result<std::unique_ptr<File>> opened = disk_.open(path_, {});
    if (!opened) return opened.error();
    buffered_ = std::move(*opened);
  }
  return buffered_.get();
}

Result<File*> SegmentFile::reader() {
  std::scoped_lock lock(mutex_);
  if (!buffered_) {
    Result<std::unique_ptr<File>> opened = disk_.open(path_, {});
    if (!opened) return opened.error();
    buffered_ = std::move(*opened);
  }
  return buffered_.get();
}

Result<void> SegmentFile::create() {
  Result<std::unique_ptr<File>> opened = disk_.open(path_, {.create = true, .truncate = true});
  if (!opened) return opened.error();
  std::scoped_lock lock(mutex_);
  buffered_ = std::move(*opened);
  return {};
}

Result<void> SegmentFile::write(uint32_t block, const std::vector<BlockBytes>& blocks) {
  Result<File*> file = writer();
  if (!file) return file.error();
  uint64_t offset = block * kBlockSizeBytes;
  std::vector<std::span<const std::byte>> spans = spans_of(blocks);
  bool as_they_are = spans.size() <= kGatherMax;
  for (const auto& span : spans)
    as_they_are = as_they_are && aligned(span.data());
  if (as_they_are) return (*file)->write_gather(offset, spans);
  Buffer together = Buffer::allocate(blocks.size() * kBlockSizeBytes);
  std::byte* out = together.mutable_span().data();
  for (const auto& span : spans) {
    std::memcpy(out, span.data(), span.size());
    out += span.size();
  }
  return (*file)->write(offset, together.span());
}

Result<void> SegmentFile::read(uint32_t block, std::span<std::byte> out) {
  Result<File*> file = reader();
  if (!file) return file.error();
  Result<size_t> got = (*file)->read(block * kBlockSizeBytes, out);
  if (!got) return got.error();
  if (*got != out.size()) return Error(ErrorCode::kIo, path_ + " is shorter than its extents say");
  return {};
}

Result<void> SegmentFile::read_direct(uint32_t block, std::span<std::byte> out) {
  Result<File*> file = writer();
  if (!file) return file.error();
  Result<size_t> got = (*file)->read(block * kBlockSizeBytes, out);
  if (!got) return got.error();
  if (*got != out.size()) return Error(ErrorCode::kIo, path_ + " is shorter than its extents say");
  return {};
}

bool SegmentFile::try_read(uint32_t block, std::span<std::byte> out) {
  File* file = nullptr;
  {
    std::scoped_lock lock(mutex_);
    file = buffered_.get();
  }
  if (!file) return false;
  Result<size_t> got = file->read_cached(block * kBlockSizeBytes, out);
  return got && *got == out.size();
}

Result<void> SegmentFile::sync() {
  Result<File*> file = writer();
  if (!file) return file.error();
  return (*file)->sync();
}

Result<void> SegmentFile::reserve(uint32_t from_block, uint32_t to_block) {
  Result<File*> file = reader();
  if (!file) return file.error();
  Result<void> done =
      (*file)->allocate(from_block * kBlockSizeBytes, (to_block - from_block) * kBlockSizeBytes, /*keep_size=*/false);
  if (done.failed_with(ErrorCode::kNotSupported)) return {};
  return done;
}

Result<void> SegmentFile::punch(uint32_t block, uint32_t blocks) {
  Result<File*> file = reader();
  if (!file) return file.error();
  Result<void> done = (*file)->punch_hole(block * kBlockSizeBytes, blocks * kBlockSizeBytes);
  if (done.failed_with(ErrorCode::kNotSupported)) return {};  // the cleaner gives the space back in time
  return done;
}

Result<void> SegmentFile::truncate(uint32_t blocks) {
  Result<File*> file = reader();
  if (!file) return file.error();
  return (*file)->truncate(blocks * kBlockSizeBytes);
}

Result<uint64_t> SegmentFile::size_bytes() {
  Result<File*> file = reader();
  if (!file) return file.error();
  return (*file)->size();
}

}  // namespace cairn
