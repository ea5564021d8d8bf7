#include "chunkserver/store/scrubber.h"

#include <algorithm>

#include "common/base/log.h"

namespace cairn {
namespace {

constexpr uint32_t kScrubReadBytes = 1 * kMiB;
constexpr size_t kPageChunks = 256;

}  // namespace

Scrubber::Scrubber(World& world, ChunkStore& store, ScrubberOptions options,
                   std::function<void(ChunkId, const Error&)> bad)
    : store_(store), options_(options), bad_(std::move(bad)), tasks_(world.executor(), world.clock()) {}

void Scrubber::start() {
  if (options_.bytes_per_second > 0) tasks_.spawn(run());
}

Task<void> Scrubber::stop() {
  return tasks_.stop();
}

Task<void> Scrubber::run() {
  while (true) {
    bool on = co_await scrub_all();
    if (!on) co_return;
    ++progress_.rounds;
    Result<void> slept = co_await tasks_.sleep_for(options_.pause);
    if (!slept) co_return;
  }
}

Task<bool> Scrubber::scrub_all() {
  ChunkId after;
  while (true) {
    Result<ChunkPage> page = co_await store_.list(after, kPageChunks);
    if (!page) {
      if (page.failed_with(ErrorCode::kCancelled)) co_return false;
      log_warning("scrub.list", "error={}", quoted(page.error().message()));
      co_return true;
    }
    for (const ReplicaStatus& status : page->chunks) {
      if (!status.complete) continue;  // it is being filled
      bool on = co_await scrub_chunk(status);
      if (!on) co_return false;
    }
    if (page->last || page->chunks.empty()) co_return true;
    after = page->chunks.back().chunk;
    if (tasks_.stop_requested()) co_return false;
  }
}

Task<bool> Scrubber::scrub_chunk(ReplicaStatus status) {
  for (uint32_t at = 0; at < status.length; at += kScrubReadBytes) {
    uint32_t part = std::min(kScrubReadBytes, status.length - at);
    Result<void> verified = co_await store_.verify(status.chunk, status.version, at, part);
    if (verified.failed_with(ErrorCode::kCorrupt) || verified.failed_with(ErrorCode::kIo)) {
      ++progress_.bad;
      if (bad_) bad_(status.chunk, verified.error());
      break;
    }
    if (!verified) break;  // removed or opened since it was listed
    progress_.bytes += part;
    Result<void> paced =
        co_await tasks_.sleep_for(Duration(uint64_t{part} * 1'000'000'000 / options_.bytes_per_second));
    if (!paced) co_return false;
  }
  ++progress_.chunks;
  co_return !tasks_.stop_requested();
}

}  // namespace cairn
