// ChunkKeeper: the life of chunks, as the leader drives it: which servers are there, placing, opening for writing
// (raising versions), what to do when a replica or a writer is gone or a machine has lost power, repair to the goal,
// deleting what is no longer wanted.
//
// The rules are in docs/consistency.md, "Versions"; the records, and what a command may do to them, are the machine's.
// The keeper decides, orders chunkservers about, and logs what they answered. Loop thread only. Everything it knows
// beyond the records (who is alive, how much room there is, what a server reported) it learns anew when it begins to
// lead.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "common/proto/control_types.h"
#include "common/proto/meta_types.h"
#include "common/runtime/task_group.h"
#include "common/runtime/world.h"
#include "master/leases/unheld_files.h"
#include "master/service/core.h"

namespace cairn {

struct ChunkKeeperOptions {
  uint32_t heartbeat_ms = 1000;
  uint32_t server_dead_ms = 3000;       // silent for so long: new chunks go elsewhere, readers are sent to others first
  uint32_t repair_delay_ms = 15'000;    // silent for so long: its chunks are copied elsewhere
  uint32_t order_deadline_ms = 10'000;  // for one order to a chunkserver
  uint32_t repairs_at_once = 8;
  uint32_t repair_list = 1024;  // chunks that one look for work considers
  uint32_t capability_life_ms = 3'600'000;  // log time
  uint32_t dump_interval_ms = 0;            // between dumps of the metadata that are kept on chunkservers; 0: none are
  uint32_t restore_settle_ms = 10'000;  // after a restore, servers that its records do not know have so long to come
};

class ChunkKeeper {
 public:
  // `unheld` (outlives it): since when nobody has been writing which file.
  ChunkKeeper(MasterCore& core, UnheldFiles& unheld, ChunkKeeperOptions options);
  ~ChunkKeeper();
  // With each change of leadership; the loops (repair, recovery, deleting, sealing of idle chunks, keys) run while
  // leading.
  void start_leading();
  void stop_leading();
  // This process did not run for a while, and could hear no chunkserver.
  void excuse_silence();
  Task<void> stop();

  // ---- for clients (MetaService has checked the session)
  // After this master has begun to lead, the chunkservers that the records know have a moment to come before anything
  // is decided without them.
  Task<void> settle();
  // Chooses servers for `op.placements.size()` chunks (goal and min_copies filled in when 0). kNoSpace when no server
  // has room, kTooFewReplicas when fewer than min_copies are alive.
  Result<void> place(GrantChunksOp& op);
  // Addresses and capability, for what the machine granted or opened to this session.
  void complete(ChunkGrant& grant, SessionId session);
  // The chunk at (inode, index), for this session to write. kNotFound if there is none.
  Task<Result<OpenChunkReply>> open_for_writing(SessionId session, InodeId inode, uint32_t index);
  // Rule 5: the writer met failing replicas (none named: it was refused as old and asks how things stand). kStale if
  // the chunk is no longer this session's.
  Task<Result<OpenChunkReply>> replica_failed(ReplicaFailedRequest request);
  Task<Result<ChunkGrant>> renew_grant(SessionId session, ChunkId chunk);
  void report_bad(ReportBadReplicaRequest request);
  // For readers: live and verified replicas first; waits (bounded) for a chunk that is being recovered.
  Task<Result<ChunkLocation>> location(FileChunk chunk, SessionId session);
  // True once no chunk of the inode waits for the recovery of a dead writer (rule 7): before that nobody else gets the
  // write lease.
  Task<Result<void>> wait_recovered(InodeId inode, TimePoint deadline);

  // ---- for chunkservers
  Task<Result<RegisterServerReply>> register_server(RegisterServerRequest request);
  Task<Result<HeartbeatReply>> heartbeat(HeartbeatRequest request);
  Task<Result<EmptyReply>> chunk_report(ChunkReportRequest request);

  // ---- after a restore from an export
  Task<Result<RestoreStatusReply>> restore_status(RestoreStatusRequest request);
  Task<Result<EmptyReply>> accept_restore();

  // ---- for people
  Task<Result<RemoveServerReply>> remove_server(RemoveServerRequest request);
  std::vector<ServerStatus> servers() const;
  ChunkHealth health() const;
  std::vector<std::string> warnings() const;
  // What can be stored at that goal (total, free), honestly: the least room of the servers that `goal` copies need.
  std::pair<uint64_t, uint64_t> space(uint8_t goal) const;
  Task<Result<std::vector<ReplicaInfo>>> replicas(ChunkId id, ChunkRecord chunk);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace cairn
