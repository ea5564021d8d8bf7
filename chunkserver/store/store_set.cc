#include "chunkserver/store/store_set.h"

#include <algorithm>
#include <fmt/format.h>

#include "common/base/check.h"
#include "common/base/log.h"

namespace cairn {
namespace {

constexpr size_t kLostPageChunks = 1000;

bool is_the_disks(ErrorCode code) {
  return code == ErrorCode::kIo || code == ErrorCode::kCorrupt;
}

}  // namespace

StoreSet::StoreSet(World& world) : world_(world), placed_(world.executor()), tasks_(world.executor(), world.clock()) {}

Task<Result<std::unique_ptr<ChunkStore>>> StoreSet::open_set(World& world, std::vector<StoreOptions> options,
                                                             StoreIdentity identity) {
  if (options.empty()) co_return Error(ErrorCode::kInvalid, "no data directory is named");
  std::unique_ptr<StoreSet> set(new StoreSet(world));
  Error last(ErrorCode::kIo);
  for (StoreOptions& one : options) {
    std::string folder = one.folder;
    Result<std::unique_ptr<ChunkStore>> opened = co_await ChunkStore::open(world, std::move(one), identity);
    if (!opened && !is_the_disks(opened.code())) co_return opened.error();
    if (!opened) {
      log_error("store_set.unusable", "folder={} error={}", folder, quoted(opened.error().message()));
      last = opened.error();
      ++set->unusable_;
      continue;
    }
    const StoreIdentity& found = (*opened)->identity();
    identity.cluster = found.cluster;
    identity.server = found.server;
    for (const auto& member : set->members_) {
      if (member->store->identity().store_id != found.store_id) continue;
      co_return Error(ErrorCode::kInvalid,
                      fmt::format("{} is a copy of {}: they have the same store id", folder, member->folder));
    }
    set->members_.push_back(std::make_unique<Member>(Member{folder, std::move(*opened)}));
  }
  if (set->members_.empty()) co_return last;
  set->identity_ = set->members_.front()->store->identity();
  set->identity_.cluster = identity.cluster;
  set->identity_.server = identity.server;
  std::unique_ptr<ChunkStore> out = std::move(set);
  co_return out;
}

Task<void> StoreSet::close() {
  placed_.notify_all();
  for (const auto& member : members_)
    co_await member->store->close();
  co_await tasks_.stop();
}

const StoreIdentity& StoreSet::identity() const {
  return identity_;
}

Task<Result<void>> StoreSet::join_cluster(ClusterId cluster) {
  for (const auto& member : members_) {
    if (member->out) continue;
    Result<void> joined = co_await member->store->join_cluster(cluster);
    look_after(member.get());
    if (!joined) co_return joined;
  }
  identity_.cluster = cluster;
  co_return Result<void>{};
}

bool StoreSet::failed() const {
  return std::all_of(members_.begin(), members_.end(), [](const auto& member) { return member->store->failed(); });
}

std::vector<std::string> StoreSet::folders() const {
  std::vector<std::string> folders;
  for (const auto& member : members_) {
    if (!member->out) folders.push_back(member->folder);
  }
  return folders;
}

// ---- where a chunk is

void StoreSet::remember(ChunkId chunk, Member* member) {
  forget(chunk);
  places_[chunk] = {member, order_.insert(order_.end(), chunk)};
  if (places_.size() > kPlacesRememberedMax) forget(order_.front());
}

void StoreSet::forget(ChunkId chunk) {
  auto found = places_.find(chunk);
  if (found == places_.end()) return;
  order_.erase(found->second.order);
  places_.erase(found);
}

Task<Result<StoreSet::Member*>> StoreSet::locate(ChunkId chunk) {
  auto known = places_.find(chunk);
  if (known != places_.end() && !known->second.member->out) co_return known->second.member;
  Member* best = nullptr;
  uint64_t best_version = 0;
  for (const auto& member : members_) {
    if (member->out) continue;
    Result<ReplicaStatus> status = co_await member->store->status(chunk);
    look_after(member.get());
    if (!status && !status.failed_with(ErrorCode::kNotFound) && !member->out) co_return status.error();
    // Twice only if a directory came back that had been away: the newer one counts.
    if (status && (!best || status->version > best_version)) {
      best = member.get();
      best_version = status->version;
    }
  }
  if (best) remember(chunk, best);
  co_return best;
}

// By the luck of the draw, so that a nearly full disk still gets its share and an empty new one not everything.
StoreSet::Member* StoreSet::draw_by_space() {
  uint64_t total = 0;
  Member* emptiest = nullptr;
  uint64_t most = 0;
  for (const auto& member : members_) {
    if (member->out) continue;
    uint64_t free = member->store->space().free_bytes / kMiB;
    total += free;
    if (!emptiest || free > most) {
      emptiest = member.get();
      most = free;
    }
  }
  if (total == 0) return emptiest;
  uint64_t draw = world_.random().below(total);
  for (const auto& member : members_) {
    if (member->out) continue;
    uint64_t free = member->store->space().free_bytes / kMiB;
    if (draw < free) return member.get();
    draw -= free;
  }
  return emptiest;
}

Task<Result<StoreSet::Member*>> StoreSet::locate_or_place(ChunkId chunk) {
  Result<Member*> found = co_await locate(chunk);
  if (!found || *found) co_return found;
  // Somebody may have placed it while the others were asked.
  auto known = places_.find(chunk);
  if (known != places_.end() && !known->second.member->out) co_return known->second.member;
  Member* chosen = draw_by_space();
  if (!chosen) co_return Error(ErrorCode::kIo, "no data directory is left");
  remember(chunk, chosen);
  placed_.notify_all();
  co_return chosen;
}

void StoreSet::look_after(Member* member) {
  if (member->out || !member->store->failed()) return;
  member->out = true;
  log_error("store_set.taken_out", "folder={}", member->folder);
  tasks_.spawn(report_lost(member));
}

// As far as the failed directory can still say what it held. What it cannot, the next full report to the masters shows
// as missing.
Task<void> StoreSet::report_lost(Member* member) {
  Error error(ErrorCode::kIo, member->folder + " has failed");
  for (auto it = places_.begin(); it != places_.end();) {
    ChunkId chunk = it->first;
    bool its = it->second.member == member;
    ++it;
    if (!its) continue;
    forget(chunk);
    if (bad_chunk_) bad_chunk_(chunk, error);
  }
  ChunkId after;
  while (!tasks_.stop_requested()) {
    Result<ChunkPage> page = co_await member->store->list(after, kLostPageChunks);
    if (!page || page->chunks.empty()) break;
    for (const ReplicaStatus& status : page->chunks) {
      if (bad_chunk_) bad_chunk_(status.chunk, error);
    }
    if (page->last) break;
    after = page->chunks.back().chunk;
  }
}

// ---- one chunk's calls go to its member

namespace {
Error not_here(ChunkId chunk) {
  return Error(ErrorCode::kNotFound, "chunk " + to_string(chunk));
}
}  // namespace

Task<Result<ReplicaStatus>> StoreSet::create(ChunkId chunk, uint64_t version, uint64_t sequence, OwnerHint owner) {
  Result<Member*> member = co_await locate_or_place(chunk);
  if (!member) co_return member.error();
  Result<ReplicaStatus> made = co_await (*member)->store->create(chunk, version, sequence, owner);
  look_after(*member);
  if (made.failed_with(ErrorCode::kNoSpace)) forget(chunk);  // another try may draw another directory
  co_return made;
}

Task<Result<WriteResult>> StoreSet::write(ChunkWrite write, TimePoint deadline) {
  ChunkId chunk = write.chunk;
  Member* member = nullptr;
  while (!member) {
    if (write.sequence == 1) {
      Result<Member*> placed = co_await locate_or_place(chunk);
      if (!placed) co_return placed.error();
      member = *placed;
      continue;
    }
    Result<Member*> found = co_await locate(chunk);
    if (!found) co_return found.error();
    member = *found;
    if (member) break;
    Result<void> waited = co_await placed_.wait_until(world_.clock(), deadline);
    if (!waited) co_return not_here(chunk);
  }
  bool first = write.sequence == 1;
  Result<WriteResult> done = co_await member->store->write(std::move(write), deadline);
  look_after(member);
  if (first && done.failed_with(ErrorCode::kNoSpace)) forget(chunk);
  co_return done;
}

Task<void> StoreSet::sync_some(Member* member, std::vector<SyncItem> items,
                               Promise<std::vector<Result<WriteResult>>> done) {
  std::vector<Result<WriteResult>> results = co_await member->store->sync(std::move(items));
  look_after(member);
  done.set(std::move(results));
}

Task<std::vector<Result<WriteResult>>> StoreSet::sync(std::vector<SyncItem> items) {
  std::vector<Result<WriteResult>> results(items.size(), Result<WriteResult>(Error(ErrorCode::kNotFound)));
  std::map<size_t, std::vector<size_t>> by_member;  // number of the member, items
  for (size_t i = 0; i < items.size(); ++i) {
    Result<Member*> found = co_await locate(items[i].chunk);
    if (!found) {
      results[i] = found.error();
    } else if (!*found) {
      results[i] = not_here(items[i].chunk);
    } else {
      size_t number = 0;
      while (members_[number].get() != *found)
        ++number;
      by_member[number].push_back(i);
    }
  }
  std::vector<std::pair<std::vector<size_t>, Future<std::vector<Result<WriteResult>>>>> parts;
  for (const auto& [number, indexes] : by_member) {
    std::vector<SyncItem> some;
    for (size_t i : indexes)
      some.push_back(items[i]);
    Promise<std::vector<Result<WriteResult>>> promise(world_.executor());
    parts.emplace_back(indexes, promise.future());
    tasks_.spawn(sync_some(members_[number].get(), std::move(some), std::move(promise)));
  }
  for (auto& [indexes, future] : parts) {
    Result<std::vector<Result<WriteResult>>> done = co_await std::move(future);
    for (size_t i = 0; i < indexes.size(); ++i) {
      if (done) {
        results[indexes[i]] = std::move((*done)[i]);
      } else {
        results[indexes[i]] = done.error();
      }
    }
  }
  co_return results;
}

Task<Result<ReadResult>> StoreSet::read(ChunkId chunk, uint64_t version, uint32_t offset, uint32_t length) {
  Result<Member*> member = co_await locate(chunk);
  if (!member) co_return member.error();
  if (!*member) co_return not_here(chunk);
  Result<ReadResult> got = co_await (*member)->store->read(chunk, version, offset, length);
  look_after(*member);
  co_return got;
}

Task<Result<ChunkMap>> StoreSet::map(ChunkId chunk, uint64_t version) {
  Result<Member*> member = co_await locate(chunk);
  if (!member) co_return member.error();
  if (!*member) co_return not_here(chunk);
  Result<ChunkMap> got = co_await (*member)->store->map(chunk, version);
  look_after(*member);
  co_return got;
}

Task<Result<ReplicaStatus>> StoreSet::status(ChunkId chunk) {
  Result<Member*> member = co_await locate(chunk);
  if (!member) co_return member.error();
  if (!*member) co_return not_here(chunk);
  Result<ReplicaStatus> got = co_await (*member)->store->status(chunk);
  look_after(*member);
  co_return got;
}

Task<Result<void>> StoreSet::verify(ChunkId chunk, uint64_t version, uint32_t offset, uint32_t length) {
  Result<Member*> member = co_await locate(chunk);
  if (!member) co_return member.error();
  if (!*member) co_return not_here(chunk);
  Result<void> done = co_await (*member)->store->verify(chunk, version, offset, length);
  look_after(*member);
  co_return done;
}

Task<Result<ReplicaStatus>> StoreSet::raise(ChunkId chunk, uint64_t from_version, uint64_t to_version) {
  Result<Member*> member = co_await locate(chunk);
  if (!member) co_return member.error();
  if (!*member) co_return not_here(chunk);
  Result<ReplicaStatus> done = co_await (*member)->store->raise(chunk, from_version, to_version);
  look_after(*member);
  co_return done;
}

Task<Result<ReplicaStatus>> StoreSet::seal(ChunkId chunk, uint64_t version, uint64_t sequence) {
  Result<Member*> member = co_await locate(chunk);
  if (!member) co_return member.error();
  if (!*member) co_return not_here(chunk);
  Result<ReplicaStatus> done = co_await (*member)->store->seal(chunk, version, sequence);
  look_after(*member);
  co_return done;
}

// From every directory: one that had been away may hold an old copy.
Task<Result<void>> StoreSet::remove(ChunkId chunk, uint64_t up_to_version) {
  for (const auto& member : members_) {
    if (member->out) continue;
    Result<void> done = co_await member->store->remove(chunk, up_to_version);
    look_after(member.get());
    if (!done && !member->out) co_return done;
  }
  forget(chunk);
  co_return Result<void>{};
}

Task<Result<ReplicaStatus>> StoreSet::clone(ChunkId source, uint64_t source_version, ChunkId target,
                                            uint64_t target_version, OwnerHint owner) {
  Result<Member*> member = co_await locate(source);
  if (!member) co_return member.error();
  if (!*member) co_return not_here(source);
  Result<Member*> there = co_await locate(target);
  if (!there) co_return there.error();
  if (*there && *there != *member) co_return Error(ErrorCode::kExists, "chunk " + to_string(target));
  Result<ReplicaStatus> done = co_await (*member)->store->clone(source, source_version, target, target_version, owner);
  look_after(*member);
  if (done) remember(target, *member);
  co_return done;
}

Task<Result<void>> StoreSet::begin_install(ChunkId chunk, uint64_t version, uint64_t sequence, OwnerHint owner) {
  Result<Member*> member = co_await locate_or_place(chunk);
  if (!member) co_return member.error();
  Result<void> done = co_await (*member)->store->begin_install(chunk, version, sequence, owner);
  look_after(*member);
  if (!done) forget(chunk);
  co_return done;
}

Task<Result<void>> StoreSet::fill(ChunkId chunk, uint64_t version, uint32_t offset, Payload data,
                                  std::vector<uint32_t> checksums) {
  Result<Member*> member = co_await locate(chunk);
  if (!member) co_return member.error();
  if (!*member) co_return not_here(chunk);
  Result<void> done = co_await (*member)->store->fill(chunk, version, offset, std::move(data), std::move(checksums));
  look_after(*member);
  co_return done;
}

Task<Result<ReplicaStatus>> StoreSet::finish_install(ChunkId chunk, uint64_t version, uint32_t length_bytes,
                                                     bool seal) {
  Result<Member*> member = co_await locate(chunk);
  if (!member) co_return member.error();
  if (!*member) co_return not_here(chunk);
  Result<ReplicaStatus> done = co_await (*member)->store->finish_install(chunk, version, length_bytes, seal);
  look_after(*member);
  co_return done;
}

Task<Result<void>> StoreSet::abandon_install(ChunkId chunk, uint64_t version) {
  Result<Member*> member = co_await locate(chunk);
  if (!member) co_return member.error();
  if (!*member) co_return Result<void>{};
  Result<void> done = co_await (*member)->store->abandon_install(chunk, version);
  look_after(*member);
  co_return done;
}

// ---- all of them

Task<Result<ChunkPage>> StoreSet::list(ChunkId after, size_t limit) {
  std::map<ChunkId, ReplicaStatus> merged;
  ChunkId complete_up_to(UINT64_MAX);
  for (const auto& member : members_) {
    if (member->out) continue;
    Result<ChunkPage> page = co_await member->store->list(after, limit);
    look_after(member.get());
    if (!page && member->out) continue;
    if (!page) co_return page;
    for (const ReplicaStatus& status : page->chunks) {
      auto [it, added] = merged.try_emplace(status.chunk, status);
      if (!added && status.version > it->second.version) it->second = status;
    }
    if (!page->last && !page->chunks.empty()) complete_up_to = std::min(complete_up_to, page->chunks.back().chunk);
  }
  ChunkPage out;
  out.last = true;
  for (const auto& [chunk, status] : merged) {
    if (chunk > complete_up_to || out.chunks.size() == limit) {
      out.last = false;
      break;
    }
    out.chunks.push_back(status);
  }
  if (complete_up_to != ChunkId(UINT64_MAX)) out.last = false;
  co_return out;
}

StoreSpace StoreSet::space() {
  StoreSpace sum;
  sum.stores = 0;
  sum.stores_failed = unusable_;
  for (const auto& member : members_) {
    if (member->store->failed()) {
      ++sum.stores_failed;
      continue;
    }
    StoreSpace one = member->store->space();
    sum.total_bytes += one.total_bytes;
    sum.free_bytes += one.free_bytes;
    sum.chunks += one.chunks;
    ++sum.stores;
  }
  return sum;
}

void StoreSet::on_bad_chunk(std::function<void(ChunkId, const Error&)> callback) {
  bad_chunk_ = std::move(callback);
  for (const auto& member : members_) {
    member->store->on_bad_chunk([this](ChunkId chunk, const Error& error) {
      if (bad_chunk_) bad_chunk_(chunk, error);
    });
  }
}

}  // namespace cairn
