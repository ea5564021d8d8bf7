// KvChunkStore: the ChunkStore of one data directory: records, extents and small data in a KvStore, large data in a
// ValueLog beside it.
//
// The folder: IDENTITY, kv/ (the KvStore), log/ (segments). How a write becomes durable (consistency.md, "Versions" 3):
// it lies in its chunk's overlay; long runs are written to the value log as they come. A commit of a chunk takes a
// snapshot of the overlay, waits for its writes to the log, syncs the segments, and puts one change into the queue of
// batches. Whoever is in the queue when a batch begins shares its one sync. Freed ranges are noted in the batch that
// frees them and punched after it.
//
// Everything here runs on the loop; the pools run only closures over what they own. Sources: store_open.cc,
// store_cache.cc, store_write.cc, store_commit.cc, store_read.cc, store_orders.cc, store_install.cc,
// store_background.cc.
#pragma once

#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chunkserver/store/batch_writer.h"
#include "chunkserver/store/chunk.h"
#include "chunkserver/store/chunk_store.h"
#include "chunkserver/store/key_layout.h"
#include "chunkserver/store/space_account.h"
#include "chunkserver/store/value_log.h"
#include "common/kv/kv_store.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"

namespace cairn {

inline constexpr uint32_t kSpillBlocks =
    1 * kMiB / kBlockSizeBytes;  // unplaced blocks of a chunk that start writing long runs early
inline constexpr uint64_t kChunkFlushBytes = 16 * kMiB;  // of one chunk: made durable without waiting for its age
inline constexpr size_t kBatchBytesMax = 8 * kMiB;       // one batch of the key-value store
inline constexpr Duration kFlushAge = 4s;                // leaves a second of kMaxUnsyncedAge for the disk
inline constexpr size_t kFlushesMax = 256;               // background commits at a time: they share batches
inline constexpr Duration kSpaceSampleAge = 1s;

class KvChunkStore final : public ChunkStore {
 public:
  static Task<Result<std::unique_ptr<ChunkStore>>> open_store(World& world, StoreOptions options,
                                                              StoreIdentity identity);
  ~KvChunkStore() override;

  Task<void> close() override;
  const StoreIdentity& identity() const override { return identity_; }
  Task<Result<void>> join_cluster(ClusterId cluster) override;
  bool failed() const override { return failure_.has_value(); }
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
  void on_bad_chunk(std::function<void(ChunkId, const Error&)> callback) override { bad_chunk_ = std::move(callback); }

 private:
  // What the table knows of one chunk id.
  struct Slot {
    ChunkPtr main;
    ChunkPtr incoming;       // being filled
    bool looked_up = false;  // main is what the key-value store has
    bool loading = false;
    size_t counted_bytes = 0;                           // in cache_bytes_
    std::optional<std::list<ChunkId>::iterator> place;  // in recent_
  };
  struct LoadedGroup {
    uint32_t group = 0;
    ExtentGroup extents;
  };
  struct LoadedChunk {
    StoredChunkRecord record;
    std::optional<ExtentGroup> first_group;
  };
  struct BatchJob {
    BatchJob(std::move_only_function<void(BatchWriter&)> build_in, Executor& executor)
        : build(std::move(build_in)), done(executor) {}
    std::move_only_function<void(BatchWriter&)> build;
    Promise<void> done;
  };
  // What a commit is to reach, besides making durable what has been taken.
  struct CommitGoal {
    uint64_t raise_to = 0;  // the version; 0: as it is
    bool seal = false;
    std::optional<uint64_t> seal_sequence;  // seal only at exactly this
  };
  // Where a read finds its blocks.
  struct ReadPart {
    enum class From : uint8_t { kZeros, kMemory, kInline, kLog } from = From::kZeros;
    uint32_t first_block = 0;
    uint32_t blocks = 0;
    BlockBytes bytes;  // kMemory: the first of blocks that follow one another in the same piece
    LogPlace place;    // kLog
    std::shared_ptr<SegmentFile> file;
    Buffer data;  // what was read
  };
  struct ReadPlan {
    std::vector<ReadPart> parts;
    std::vector<uint32_t> checksums;
    std::vector<std::pair<uint32_t, uint64_t>> generations;  // of groups with inline parts
    bool in_memory = true;
    uint32_t length_bytes = 0;  // of the chunk
  };
  KvChunkStore(World& world, StoreOptions options);

  // Runs `task` as one of the store's own, so that it ends properly when its caller goes away.
  template <class T>
  Task<Result<T>> owned(Task<Result<T>> task) {
    Promise<T> promise(executor_);
    Future<T> future = promise.future();
    tasks_.spawn(carry<T>(std::move(task), std::move(promise)));
    Result<T> result = co_await std::move(future);
    co_return result;
  }
  template <class T>
  static Task<void> carry(Task<Result<T>> task, Promise<T> promise) {
    Result<T> result = co_await std::move(task);
    promise.set(std::move(result));
  }

  // store_open.cc
  struct Recovered;
  static Result<Recovered> recover(Disk& disk, const StoreOptions& options, StoreIdentity identity, std::string boot_id,
                                   uint64_t new_store_id);
  static Result<std::unique_ptr<KvStore>> open_kv(Disk& disk, const StoreOptions& options);
  void adopt(Recovered recovered);
  Task<void> flush_all();
  Task<void> flush_idle(ChunkPtr chunk, Promise<void> promise);

  // store_cache.cc
  Result<void> usable() const;
  void fail(const Error& error);
  // kIo and the like end the store; the others are the caller's.
  void fail_if_disk(const Error& error);
  void report_bad(ChunkId chunk, const Error& error);
  Task<Result<ChunkPtr>> find(ChunkId id);
  Task<Result<ChunkPtr>> find_version(ChunkId id, uint64_t version);
  Result<void> check_version(const Chunk& chunk, uint64_t version) const;
  ChunkPtr make_chunk(ChunkId id, uint64_t version, uint64_t sequence, OwnerHint owner);
  void touched(ChunkId id);
  void shrink_cache();
  void forget_slot(ChunkId id);
  // The store's sums follow the chunk's overlay.
  void account(Chunk& chunk);
  ReplicaStatus status_of(const Chunk& chunk) const;
  Task<Result<void>> load_groups(ChunkPtr chunk, std::vector<uint32_t> groups);
  static Result<std::vector<LoadedGroup>> read_groups(const KvStore& kv, BodyId body, std::vector<uint32_t> groups);
  static Result<std::optional<LoadedChunk>> read_chunk(const KvStore& kv, ChunkId id);

  // store_write.cc
  static Result<void> check_write(const ChunkWrite& write);
  Task<Result<ChunkPtr>> find_for_write(ChunkId id, uint64_t version, uint64_t sequence, OwnerHint owner,
                                        TimePoint deadline);
  Task<Result<void>> wait_turn(ChunkPtr chunk, uint64_t version, uint64_t sequence, TimePoint deadline);
  Task<Result<void>> take_data(ChunkPtr chunk, ChunkWrite write);
  Task<Result<void>> take_zeros(ChunkPtr chunk, uint32_t offset, uint32_t end);
  Task<Result<void>> wait_for_memory(TimePoint deadline);
  Task<Result<void>> take_space(uint64_t bytes);
  Task<Result<void>> sample_space();
  // The block with `bytes` of it (data at first_byte, or zeros if data is empty) put over what is there.
  Task<Result<PiecePtr>> merged_block(ChunkPtr chunk, uint32_t block, uint32_t first_byte, uint32_t bytes, Buffer data,
                                      uint32_t data_checksum);
  Task<Result<BlockBytes>> load_block(ChunkPtr chunk, uint32_t block);
  Task<Result<std::vector<LogPlace>>> allocate_run(uint32_t blocks);
  void put_run(const ChunkPtr& chunk, uint32_t first_block, const Buffer& data, const std::vector<uint32_t>& checksums,
               const std::vector<LogPlace>& places);
  void start_log_write(const ChunkPtr& chunk, LogPlace place, std::vector<BlockBytes> blocks);
  Task<void> run_log_write(ChunkPtr chunk, LogPlace place, std::vector<BlockBytes> blocks);
  void mark_dirty(const ChunkPtr& chunk);
  bool wants_log(uint32_t blocks) const { return blocks > options_.inline_limit_bytes / kBlockSizeBytes; }

  // store_commit.cc
  Task<Result<void>> commit_chunk(ChunkPtr chunk, CommitGoal goal);
  Task<Result<void>> commit_now(ChunkPtr chunk, CommitGoal goal);
  // With the commit mutex held. `change` adds what else belongs into the batch.
  Task<Result<void>> commit_locked(ChunkPtr chunk, CommitGoal goal,
                                   std::move_only_function<void(BatchWriter&, StoredChunkRecord)> change);
  Task<Result<void>> prepare_commit(ChunkPtr chunk, const std::vector<ExtentMap::Pending>* pending,
                                    uint64_t log_writes_before);
  Task<Result<void>> place_runs(ChunkPtr chunk);
  Task<Result<void>> load_shared(std::vector<LogPlace> places);
  Task<Result<void>> commit(std::move_only_function<void(BatchWriter&)> build);
  Task<void> run_batches();
  Task<Result<void>> write_batch(std::shared_ptr<BatchWriter> writer);
  void finish_batch(BatchWriter& writer);
  Task<Result<WriteResult>> sync_one(SyncItem item);
  Task<void> sync_into(SyncItem item, Promise<WriteResult> done);

  // store_read.cc
  Result<ReadPlan> plan_read(const ChunkPtr& chunk, uint32_t first_block, uint32_t blocks);
  Task<Result<ReadPlan>> read_blocks(ChunkPtr chunk, uint32_t first_block, uint32_t blocks);
  static Result<ReadPlan> run_read(const KvStore& kv, BodyId body, ReadPlan plan, bool past_cache);
  bool read_without_waiting(ReadPlan& plan);
  static Payload payload_of(const ReadPlan& plan);
  void remember_inline(Chunk& chunk, const ReadPlan& plan);

  // store_orders.cc
  Task<Result<void>> remove_now(ChunkId id, uint64_t up_to_version);
  Task<Result<ReplicaStatus>> clone_now(ChunkId source, uint64_t source_version, ChunkId target,
                                        uint64_t target_version, OwnerHint owner);
  void forget_removed(const ChunkPtr& chunk);
  struct ClonePlan;
  static Result<ClonePlan> read_for_clone(const KvStore& kv, BodyId source);

  // store_install.cc
  Result<ChunkPtr> find_incoming(ChunkId id, uint64_t version);
  Task<Result<ReplicaStatus>> finish_now(ChunkId id, uint64_t version, uint32_t length_bytes, bool seal);
  Task<Result<void>> fill_now(ChunkPtr chunk, uint32_t offset, Payload data, std::vector<uint32_t> checksums);
  Task<void> wait_idle(ChunkPtr chunk);
  Task<Result<void>> fill_run(ChunkPtr chunk, uint32_t first_block, Buffer data, std::vector<uint32_t> checksums);
  void patch_instead(Chunk& chunk, uint32_t block, uint32_t first_byte, uint32_t bytes, const Buffer& data);
  Task<Result<void>> settle_install(ChunkPtr chunk, uint32_t length_bytes);
  Task<Result<void>> drop_incoming(ChunkId id);

  // store_background.cc
  void kick_flusher();
  Task<void> run_flusher();
  Task<void> flush_one(ChunkPtr chunk);
  void start_flush(const ChunkPtr& chunk);
  void doom(BodyId body);
  Task<void> run_purger();
  struct Doomed;
  static Result<std::vector<Doomed>> read_doomed(const KvStore& kv, std::vector<BodyId> bodies);
  Task<Result<void>> purge(std::vector<BodyId> bodies);
  void kick_reclaimer();
  Task<void> run_reclaimer();
  Task<Result<void>> reclaim_round(bool all);
  Task<Result<bool>> clean_one_segment();
  struct SegmentUser {
    ChunkId chunk;
    BodyId body;
    uint32_t group = 0;
  };
  static Result<std::vector<SegmentUser>> read_users(const KvStore& kv, uint32_t segment);
  Task<Result<uint64_t>> clean_group(SegmentUser user, uint32_t segment);
  Task<void> spill(ChunkPtr chunk);

  World& world_;
  Executor& executor_;
  Clock& clock_;
  const StoreOptions options_;
  StoreIdentity identity_;
  std::unique_ptr<FolderLock> lock_;
  std::unique_ptr<KvStore> kv_;
  std::optional<Error> failure_;
  bool closing_ = false;
  std::function<void(ChunkId, const Error&)> bad_chunk_;

  StoreRecord store_record_;
  bool store_record_changed_ = false;

  std::map<ChunkId, Slot> chunks_;
  std::list<ChunkId> recent_;  // of chunks_, recently used last
  size_t cache_bytes_ = 0;
  Condition loaded_;  // a slot has been looked up, or a chunk has been made

  SpaceAccount space_;
  bool sampling_ = false;
  TimePoint sampled_at_{};
  Condition sampled_;

  uint64_t unsynced_bytes_ = 0;
  uint64_t memory_only_bytes_ = 0;
  Condition memory_freed_;
  std::list<std::pair<TimePoint, ChunkPtr>> dirty_;  // by age; an entry counts if its chunk's dirty_since is the same
  bool flusher_running_ = false;
  Condition flusher_kick_;
  size_t flushes_ = 0;
  Condition flushed_;

  std::deque<std::unique_ptr<BatchJob>> jobs_;
  bool batching_ = false;
  std::vector<LogRange> punched_;  // their records are to be erased
  std::vector<uint32_t> removed_segments_;

  std::vector<BodyId> doomed_;
  bool purging_ = false;
  bool reclaiming_ = false;
  TimePoint clean_again_at_{};

  // The pools finish what they run before what it uses goes away; tasks end before the pools.
  std::unique_ptr<BlockingPool> log_pool_;
  std::unique_ptr<ValueLog> log_;
  std::unique_ptr<BlockingPool> commit_pool_;
  std::unique_ptr<BlockingPool> read_pool_;
  // Two groups: io_ has only the ends of the line (batches, writes to the log), so that close() can first wait for all
  // that may start such a task, and then for these.
  TaskGroup io_;
  TaskGroup tasks_;
};

}  // namespace cairn
