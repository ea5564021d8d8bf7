// ChunkWriter: one chunk that this session has open for writing. It gives each write its sequence, sends it to all
// replicas, keeps it until every replica has it on disk, and sends it again when a replica failed
// (docs/consistency.md, "Versions" 1, 2 and 5).
//
// Loop thread only. The owner awaits stop() before it goes; whoever waits in a call then gets kCancelled and must hold
// it until then.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "common/base/buffer.h"
#include "common/proto/meta_types.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "fs/client/master_link.h"
#include "fs/client/server_pool.h"

namespace cairn {

class ChunkWriter {
 public:
  struct Owner {
    InodeId inode;
    uint32_t index = 0;
  };
  // `limit`: as in OpenChunkReply; the chunk is cut there before anything else is written.
  ChunkWriter(World& world, MasterLink& master, ServerPool& servers, Owner owner, ChunkGrant grant, uint64_t sequence,
              uint64_t length, uint32_t limit);

  // Takes one write; it is sent at once, after all that were taken before it. `sync`: the replicas make it (and all
  // before) durable before they answer. The permits (memory) are let go when the write is durable or given up.
  void submit(WriteKind kind, uint32_t offset, uint32_t length, Payload data, std::vector<Semaphore::Permit> permits,
              bool sync);
  // Waits while more than kWritesInFlightMax have not been accepted.
  Task<Result<void>> wait_for_room(TimePoint deadline);
  // Every write taken so far has been accepted by all replicas.
  Task<Result<void>> wait_accepted(TimePoint deadline);
  // Every write taken so far is on disk on all replicas.
  Task<Result<void>> sync(TimePoint deadline);

  // Capabilities run out in an hour: one that is old is made anew. For whoever uses grant().
  Task<void> renew_capability();
  // A replica refused a read as older than it is: the master has raised the version meanwhile (a replica came back).
  // Returns when the chain is known again, or could not be asked for.
  Task<void> refused_as_old(uint64_t version);

  ChunkId chunk() const { return grant_.chunk; }
  uint64_t version() const { return grant_.version; }
  const ChunkGrant& grant() const { return grant_; }
  // Once it is broken nothing more is accepted: what had not been made durable is lost. The error says why.
  const std::optional<Error>& broken() const { return broken_; }
  bool durable() const { return synced_ >= last_; }
  uint64_t last_sequence() const { return last_; }  // of what was submitted
  uint64_t unsynced_bytes() const { return retained_bytes_; }
  // End of the furthest byte in the chunk, and whether it has been cut to `limit`.
  uint32_t length() const { return length_; }
  bool trimmed() const { return trimmed_; }
  // What it takes on each replica, as last heard; as much as its length before.
  uint32_t allocated_bytes() const;

  Task<void> stop();

 private:
  struct Write {
    WriteKind kind = WriteKind::kData;
    uint32_t offset = 0;
    uint32_t length = 0;
    Payload data;
    std::vector<uint32_t> checksums;
    bool sync = false;
    bool accepted = false;
    std::vector<Semaphore::Permit> permits;
  };

  Task<void> send(uint64_t sequence);
  // The answers of all replicas that could be asked; the others are added to `failed`.
  Task<std::vector<ReplicaAck>> deliver(uint64_t sequence, const Write& write, std::vector<ServerId>& failed,
                                        std::string& reason);
  Task<void> ask_to_write(ReplicaAddress replica, ChunkWriteRequest request, Payload data,
                          Promise<ChunkWriteReply> done);
  ChunkWriteRequest request_for(uint64_t sequence, const Write& write) const;
  // What an answer means: true if all replicas have accepted.
  bool all_accepted(uint64_t version, const std::vector<ReplicaAck>& acks, std::vector<ServerId>& failed,
                    std::string& reason, std::vector<ReplicaAck>& behind) const;
  // Offers one replica, which has lost them by a restart, the writes after `from`.
  Task<Result<void>> catch_up(ServerId server, uint64_t from, uint64_t version);
  Task<void> repair(uint64_t version, std::vector<ServerId> failed, std::string reason);
  void accepted(uint64_t sequence);
  void note_synced(uint64_t sequence);
  void note_acks(const std::vector<ReplicaAck>& acks);
  void break_with(Error error);
  Task<Result<void>> wait_until(TimePoint deadline);

  World& world_;
  MasterLink& master_;
  ServerPool& servers_;
  Owner owner_;
  ChunkGrant grant_;
  uint64_t last_;    // sequence of the last write taken
  uint64_t synced_;  // up to it everything is on disk on all replicas
  uint32_t length_;
  bool trimmed_ = false;
  std::optional<uint32_t> allocated_;
  std::map<uint64_t, Write> retained_;
  uint64_t retained_bytes_ = 0;
  uint64_t unaccepted_ = 0;
  std::map<ServerId, uint64_t> incarnations_;
  std::map<ServerId, uint64_t> synced_by_;  // in this version
  TimePoint granted_at_{};
  bool repairing_ = false;
  std::optional<Error> broken_;
  Condition changed_;
  TaskGroup tasks_;
};

inline constexpr uint64_t kWritesInFlightMax = 16;  // of up to 1 MiB each, a chunk

// CRC32C of each piece of `data` cut at multiples of 4 KiB of the chunk, the first of which begins at `offset`.
std::vector<uint32_t> piece_checksums(uint32_t offset, const Payload& data);

}  // namespace cairn
