// StoreSet: several data directories (a store a disk) as one ChunkStore. A new chunk goes to a directory drawn by free
// space; it stays there. A directory whose disk fails is taken out by itself: its chunks are reported as bad, one by
// one, and are no longer here, so that they can be made again in another directory.
//
// Threads and lifetime as ChunkStore. Errors of one directory that are the configuration's (another cluster, in use, a
// newer format) refuse the whole set when it is opened; a disk that cannot be read is left out and counted in
// space().stores_failed.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "chunkserver/store/chunk_store.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"

namespace cairn {

inline constexpr size_t kPlacesRememberedMax = 100'000;

class StoreSet final : public ChunkStore {
 public:
  // One options a directory. Identities must agree; new directories take the others'.
  static Task<Result<std::unique_ptr<ChunkStore>>> open_set(World& world, std::vector<StoreOptions> options,
                                                            StoreIdentity identity);

  Task<void> close() override;
  const StoreIdentity& identity() const override;
  Task<Result<void>> join_cluster(ClusterId cluster) override;
  bool failed() const override;
  Task<Result<ReplicaStatus>> create(ChunkId chunk, uint64_t version, uint64_t sequence, OwnerHint owner) override;
  Task<Result<WriteResult>> write(ChunkWrite write, TimePoint deadline) override;
  Task<std::vector<Result<WriteResult>>> sync(std::vector<SyncItem> items) override;
  Task<Result<ReadResult>> read(ChunkId chunk, uint64_t version, uint32_t offset, uint32_t length) override;
  Task<Result<ChunkMap>> map(ChunkId chunk, uint64_t version) override;
  Task<Result<ReplicaStatus>> status(ChunkId chunk) override;
  Task<Result<ChunkPage>> list(ChunkId after, size_t limit) override;
  Task<Result<void>> verify(ChunkId chunk, uint64_t version, uint32_t offset, uint32_t length) override;
  Task<Result<ReplicaStatus>> raise(ChunkId chunk, uint64_t from_version, uint64_t to_version) override;
  Task<Result<ReplicaStatus>> seal(ChunkId chunk, uint64_t version, uint64_t sequence) override;
  Task<Result<void>> remove(ChunkId chunk, uint64_t up_to_version) override;
  Task<Result<ReplicaStatus>> clone(ChunkId source, uint64_t source_version, ChunkId target, uint64_t target_version,
                                    OwnerHint owner) override;
  Task<Result<void>> begin_install(ChunkId chunk, uint64_t version, uint64_t sequence, OwnerHint owner) override;
  Task<Result<void>> fill(ChunkId chunk, uint64_t version, uint32_t offset, Payload data,
                          std::vector<uint32_t> checksums) override;
  Task<Result<ReplicaStatus>> finish_install(ChunkId chunk, uint64_t version, uint32_t length_bytes,
                                             bool seal) override;
  Task<Result<void>> abandon_install(ChunkId chunk, uint64_t version) override;
  StoreSpace space() override;
  void on_bad_chunk(std::function<void(ChunkId, const Error&)> callback) override;

  // The directories in use, in the order they were named.
  std::vector<std::string> folders() const;

 private:
  struct Member {
    std::string folder;
    std::unique_ptr<ChunkStore> store;
    bool out = false;
  };
  struct Place {
    Member* member = nullptr;
    std::list<ChunkId>::iterator order;
  };

  StoreSet(World& world);
  // The member that has the chunk; null if none.
  Task<Result<Member*>> locate(ChunkId chunk);
  // As locate(), for a chunk that is to be made if it is nowhere.
  Task<Result<Member*>> locate_or_place(ChunkId chunk);
  Member* draw_by_space();
  void remember(ChunkId chunk, Member* member);
  void forget(ChunkId chunk);
  // After each call: a member that has failed is taken out.
  void look_after(Member* member);
  Task<void> report_lost(Member* member);
  Task<void> sync_some(Member* member, std::vector<SyncItem> items, Promise<std::vector<Result<WriteResult>>> done);

  World& world_;
  StoreIdentity identity_;
  std::vector<std::unique_ptr<Member>> members_;
  uint32_t unusable_ = 0;  // could not be opened
  std::function<void(ChunkId, const Error&)> bad_chunk_;
  std::map<ChunkId, Place> places_;  // of chunks that were asked for lately
  std::list<ChunkId> order_;         // of places_, oldest first
  Condition placed_;
  TaskGroup tasks_;
};

}  // namespace cairn
