// FileWriter: everything that this mount writes to one inode. Under the inode's exclusive lease it gathers small
// writes, cuts them into chunks, and makes them durable and visible: data on all replicas first, then size, time and
// chunks at the master by one commit.
//
// Loop thread only. The owner awaits stop() before it goes.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "fs/client/chunk_writer.h"
#include "fs/client/grant_pool.h"
#include "fs/client/lease_keeper.h"

namespace cairn {

// What was written and not synced is made durable so long after it.
inline constexpr Duration kWriteBackDelay = std::chrono::milliseconds(300);

inline uint32_t chunk_index(uint64_t offset) {
  return static_cast<uint32_t>(offset / kChunkSizeBytes);
}

// What a FileWriter needs of the mount around it.
struct WriterShared {
  World& world;
  MasterLink& master;
  ServerPool& servers;
  GrantPool& grants;
  LeaseKeeper& leases;
  Semaphore& memory;  // bytes not yet durable
  Duration request_timeout;
  // Attributes that a commit or a lease brought: the mount knows them now. `ours`: the content moved by our own writes
  // only.
  std::function<void(const Attributes&, const Lease&, bool ours)> learned;
  // A write error: what was written to the inode, and is perhaps in the kernel's pages, may be lost.
  std::function<void(InodeId)> gave_up;
};

class FileWriter {
 public:
  FileWriter(WriterShared& shared, Attributes attributes);
  ~FileWriter();

  // The lease is recalled because somebody else writes. If it came only just now, and writes follow one another, it is
  // kept for a few more of them: else two busy writers would spend their time on handing it over.
  Task<void> finish_batch();
  // The lease is recalled, and goes when this is done: what was written is durable and committed, or, if that could not
  // be, given up with an error for the handles. Writes that come wait for the next lease. `forget`: somebody else
  // writes.
  Task<void> give_up_lease(bool forget);
  // As before a write, for what else is decided under it.
  Task<Result<void>> take_lease() { return ensure_lease(deadline()); }
  // Nothing has been written for a while: others may read, and the master may seal what is open.
  bool may_lower() const;
  void lower_lease();
  Task<Result<void>> write(uint64_t offset, Buffer data);
  // What a process has stored in a mapping. While the lease is being taken away it is written without asking for one:
  // it is from before whatever the lease is needed for.
  Task<Result<void>> write_pages(uint64_t offset, Buffer data);
  // What was written so is seen everywhere.
  Task<Result<void>> show_pages();
  bool writing_pages() const { return writing_pages_ > 0; }
  // At the end of the file, as O_APPEND wants it. Gives the offset.
  Task<Result<uint64_t>> append(Buffer data);
  // [offset, offset + length), as far as the file goes, reads as zeros and takes no space. After an error a part of it
  // does.
  Task<Result<void>> zero(uint64_t offset, uint64_t length);
  Task<Result<void>> make_longer(uint64_t size);
  // Everything gathered has been accepted by all replicas.
  Task<Result<void>> flush();
  // Everything is durable, and the master knows it. data_only: times may be left for later.
  Task<Result<void>> sync(bool data_only);
  // No handle writes any more: begins to make everything durable, and seals.
  void last_close();

  // Size and times with what is not yet committed.
  void overlay(Attributes& attributes) const;
  // The master changed size or chunks on this mount's behalf (truncate): what is known of chunks is asked for again.
  // Everything must be clean.
  void truncated(const Attributes& attributes);
  // Perhaps, or not: no answer has come. The next write asks.
  void size_in_doubt() { size_in_doubt_ = true; }
  // The application sets the time itself: no commit with an older one may be on its way meanwhile (hold the permit),
  // and none later brings the time of a write before (set_time_aside()), but the one that was set: without any the
  // masters would not know that the content is another one.
  Task<Semaphore::Permit> pause_commits() { return sync_mutex_.lock(); }
  std::optional<FileTime> set_time_aside() { return std::exchange(mtime_, std::nullopt); }
  void time_is(FileTime time) {
    if (!mtime_) mtime_ = time;
  }

  bool dirty() const { return dirty_ || !gathered_.empty(); }
  uint64_t unsynced_bytes() const;
  InodeId inode() const { return inode_; }
  // A chunk that this mount has open, for reading what it wrote; null if there is none.
  std::shared_ptr<ChunkWriter> chunk(uint32_t index);
  // The first part from `index` on whose chunk is open here.
  std::optional<uint32_t> next_chunk(uint32_t index) const {
    auto found = chunks_.lower_bound(index);
    return found == chunks_.end() ? std::nullopt : std::optional(found->first);
  }
  // Bytes at [offset, offset + size) have been gathered and not yet sent.
  bool gathered_overlaps(uint64_t offset, uint64_t size) const;

  // Write errors: each handle is told once. The number moves with each new error.
  uint64_t error_count() const { return error_count_; }
  const Error& last_error() const { return last_error_; }
  // A replica says that this chunk has been opened by somebody else since: it is not ours any more. True if it was
  // dropped.
  bool superseded(uint32_t index);
  // The content is somebody else's work since: what was open here is not asked any more. A replica that missed the
  // raise of its version would answer with what it has.
  void moved_elsewhere(const Attributes& attributes);
  // The session ended: what was not durable is lost.
  void lose(Error error);
  // The file is gone, and nobody has it open: what is left to write is for nobody.
  void discard();

  uint32_t writers = 0;  // handles open for writing
  bool idle() const {
    return writers == 0 && !shared_.leases.exclusive(inode_) && !dirty() && !syncing_ && !write_back_planned_ &&
           writing_ == 0;
  }
  Task<void> stop();

 private:
  Task<Result<void>> write_locked(uint64_t offset, Buffer data, Semaphore::Permit room, TimePoint until);
  // Writes go one after another. kIo at `until`.
  Task<Result<Semaphore::Permit>> take_turn(TimePoint until);
  // `beside_recall`: also while a recall is being worked on that is nobody's question any more.
  Task<Result<void>> ensure_lease(TimePoint until, bool beside_recall = false);
  Task<Result<void>> write_pages_until(uint64_t offset, Buffer data, TimePoint until);
  Task<void> ask_for_lease(TimePoint until);
  bool has_turn() const {
    bool turn = shared_.leases.exclusive(inode_) || turn_ == shared_.leases.newest_recall(inode_);
    return turn && shared_.leases.going(inode_);
  }
  Task<Result<void>> ask_for_turn(TimePoint until);
  // What is being worked on was asked by a master that does not lead any more, or has been answered.
  bool recall_is_over() const { return shared_.leases.going(inode_) && over_ == shared_.leases.newest_recall(inode_); }
  bool may_write() const {
    return shared_.leases.exclusive(inode_) && (batching_ || !shared_.leases.recalling(inode_));
  }
  class Writing {
   public:
    explicit Writing(FileWriter& writer) : writer_(writer) { ++writer_.writing_; }
    ~Writing() { --writer_.writing_; }
    Writing(const Writing&) = delete;
    Writing& operator=(const Writing&) = delete;

   private:
    FileWriter& writer_;
  };
  // `make`: a chunk for what has none yet; without it null then.
  Task<Result<std::shared_ptr<ChunkWriter>>> writer_for(uint32_t index, TimePoint until, bool make = true);
  Task<Result<uint64_t>> zero_next(uint64_t at, uint64_t end, TimePoint until);
  void changed_range();
  Task<Result<void>> send_gathered(bool sync, TimePoint until);
  void gather(uint64_t offset, Buffer piece, Semaphore::Permit permit);
  bool gathers(uint64_t offset, uint64_t size) const;
  enum class SyncKind { kData, kAll, kBackground };
  // All of it within one request's time, whatever it waits for.
  Task<Result<void>> sync_as(SyncKind kind);
  Task<Result<void>> sync_chunks(TimePoint until);
  Task<bool> ask_versions(std::map<uint32_t, uint64_t> refused, uint64_t errors);
  // What a sync has to make durable: what was there when it began. Later writes may be on no disk when it commits.
  struct Written {
    uint64_t size = 0;
    std::optional<FileTime> mtime;
    std::map<uint32_t, uint32_t> lengths;  // of the chunks, by index
  };
  Written written_so_far() const;
  Task<Result<void>> commit(Written written, bool seal, TimePoint until);
  bool must_commit(SyncKind kind) const;
  Task<void> write_back(Duration delay);
  void plan_write_back(Duration delay);
  Task<void> finish();
  void take_attributes(const Attributes& attributes, const Lease& lease);
  std::optional<Error> broken_chunk() const;
  void failed(Error error);
  void retire(uint32_t index);
  // Without a lease for kWriterKeepsChunksMs: the master may seal the chunks that are committed, so they are asked for
  // again. Before each use of chunks_, and before the lease is taken anew.
  void let_go_of_idle();
  void retire_clean();
  // The chunks that are durable and committed. True if there were any.
  bool retire_settled();
  Task<void> check_chunks();
  Task<Result<void>> ask_size(TimePoint until);
  void drop_broken();
  void drop_gathered();
  Task<void> stop_retired();
  TimePoint deadline() const { return shared_.world.clock().now() + shared_.request_timeout; }

  WriterShared& shared_;
  InodeId inode_;
  Attributes base_;    // as the master knows it
  uint64_t size_ = 0;  // with what is not committed
  bool size_in_doubt_ = false;
  std::optional<FileTime> mtime_;  // of writes not committed
  bool dirty_ = false;             // something was sent, or its commit is missing
  uint64_t generation_ = 0;        // moves with each write
  TimePoint lease_seen_{};         // when we held the exclusive lease, the last time that anybody looked
  TimePoint written_{};            // the last write
  TimePoint granted_{};            // when the exclusive lease came
  bool batching_ = false;          // it is being recalled, and not yet given up

  // One run of bytes within one chunk, not yet sent.
  Payload gathered_;
  uint64_t gathered_offset_ = 0;
  uint64_t gathered_bytes_ = 0;
  Buffer staging_;  // where small pieces are put together; the last buffer of gathered_ is a slice of it
  size_t staging_used_ = 0;
  std::vector<Semaphore::Permit> gathered_permits_;

  struct OpenChunk {
    std::shared_ptr<ChunkWriter> writer;  // shared with the tasks that wait for it
    uint64_t committed_version = 0;       // as the master has it in the file; 0: not yet
    uint32_t committed_length = 0;
    uint32_t committed_allocated = UINT32_MAX;  // nor what it takes
    bool committed_trim = false;
  };
  std::map<uint32_t, OpenChunk> chunks_;
  std::vector<std::shared_ptr<ChunkWriter>> retired_;  // broken, sealed or cut off; stopped by stop_retired()

  Mutex lease_mutex_;  // who asks for the lease, or lowers it
  Mutex write_mutex_;
  Mutex sync_mutex_;
  bool syncing_ = false;
  bool write_back_planned_ = false;
  uint32_t writing_ = 0;  // writes under way
  uint32_t writing_pages_ = 0;
  bool asking_ = false;            // for the lease, on behalf of pages
  uint64_t turn_ = 0;              // the recall under which pages may be written
  uint64_t over_ = 0;              // the recall that the master does not wait for
  std::optional<Error> no_lease_;  // that was the answer
  bool without_lease_ = false;     // pages were written: others may still have what was there before
  uint64_t losses_ = 0;            // how often lose() was called
  bool stopping_retired_ = false;
  uint64_t error_count_ = 0;
  Error last_error_{ErrorCode::kIo};
  TaskGroup tasks_;
};

}  // namespace cairn
