#include "chunkserver/replication/open_chunks.h"

#include <algorithm>
#include <utility>

namespace cairn {

OpenChunks::OpenChunks(World& world, ChunkStore& store) : world_(world), store_(store) {}
OpenChunks::~OpenChunks() = default;

Task<Result<OpenChunks::EntryPtr>> OpenChunks::find(ChunkId chunk) {
  for (;;) {
    auto found = entries_.find(chunk);
    if (found != entries_.end()) co_return found->second;
    if (stopping_) co_return Error(ErrorCode::kCancelled, "the chunkserver stops");
    uint64_t forgotten = forgotten_;
    Result<ReplicaStatus> status = co_await store_.status(chunk);
    if (!status && status.code() != ErrorCode::kNotFound) co_return status.error();
    if (forgotten != forgotten_ || entries_.contains(chunk)) continue;
    make_room();
    auto entry = std::make_shared<Entry>(world_.executor());
    if (status) {
      entry->view = view_of(*status);
    } else if (auto fence = fences_.find(chunk); fence != fences_.end()) {
      entry->view.version = fence->second;
    }
    entries_.emplace(chunk, entry);
    co_return entry;
  }
}

Task<Result<void>> OpenChunks::wait_changed(EntryPtr entry, TimePoint deadline) {
  if (stopping_) co_return Error(ErrorCode::kCancelled, "the chunkserver stops");
  if (entry->forgotten) co_return Result<void>();
  Result<void> waited = co_await entry->changed.wait_until(world_.clock(), deadline);
  if (stopping_) co_return Error(ErrorCode::kCancelled, "the chunkserver stops");
  co_return waited;
}

void OpenChunks::handed(Entry& entry, uint64_t version, uint64_t sequence) {
  ReplicaView& view = entry.view;
  if (!view.present) {
    view = ReplicaView{};
    view.present = true;
    view.version = version;
  }
  if (sequence <= view.handed) return;
  view.handed = sequence;
  entry.changed.notify_all();
}

void OpenChunks::taken(Entry& entry, uint64_t sequence, uint64_t synced) {
  ReplicaView& view = entry.view;
  view.taken = std::max(view.taken, sequence);
  view.handed = std::max(view.handed, view.taken);
  view.synced = std::max(view.synced, std::min(synced, view.taken));
  entry.changed.notify_all();
}

void OpenChunks::synced(ChunkId chunk, uint64_t version, uint64_t sequence, uint64_t synced) {
  auto found = entries_.find(chunk);
  if (found != entries_.end() && found->second->view.version == version) taken(*found->second, sequence, synced);
}

void OpenChunks::forget(ChunkId chunk) {
  ++forgotten_;
  auto found = entries_.find(chunk);
  if (found != entries_.end() && !found->second->copying) drop(found);
}

void OpenChunks::drop(std::map<ChunkId, EntryPtr>::iterator place) {
  EntryPtr entry = std::move(place->second);
  entries_.erase(place);
  entry->forgotten = true;
  entry->changed.notify_all();
}

void OpenChunks::fence(ChunkId chunk, uint64_t version) {
  if (fences_.size() >= kFencesMax) fences_.erase(fences_.begin());  // ids ascend: the oldest chunk
  uint64_t& lowest = fences_[chunk];
  lowest = std::max(lowest, version);
  forget(chunk);
}

void OpenChunks::copy_began(ChunkId chunk, uint64_t version, uint64_t sequence) {
  forget(chunk);
  auto entry = std::make_shared<Entry>(world_.executor());
  entry->copying = true;
  entry->view.present = true;
  entry->view.version = version;
  entry->view.taken = sequence;
  entry->view.handed = sequence;
  entries_.emplace(chunk, std::move(entry));
}

void OpenChunks::copy_ended(ChunkId chunk) {
  ++forgotten_;
  auto found = entries_.find(chunk);
  if (found != entries_.end()) drop(found);
}

void OpenChunks::make_room() {
  if (entries_.size() < kViewsMax) return;
  for (auto it = entries_.begin(); it != entries_.end();) {
    auto next = std::next(it);
    if (it->second.use_count() == 1 && !it->second->copying) drop(it);
    it = next;
  }
}

void OpenChunks::stop() {
  stopping_ = true;
  for (auto& [chunk, entry] : entries_)
    entry->changed.notify_all();
}

}  // namespace cairn
