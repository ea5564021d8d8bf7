// The inside of ChunkKeeper, in several files: chunk_keeper.cc (what clients, servers and people ask), raise.cc (one
// chunk's version raised, recovered, sealed), repair_loops.cc (what runs by itself), idle_chunks.cc (sealing what
// nobody writes any more), reports.cc (what servers say they hold).
//
// Loop thread only.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "common/base/capability.h"
#include "common/proto/methods.h"
#include "common/rpc/rpc_typed.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "master/placement/choose.h"
#include "master/placement/repair_plan.h"
#include "master/service/chunk_keeper.h"
#include "master/service/server_table.h"

namespace cairn {

struct ChunkKeeper::Impl {
  Impl(MasterCore& core_in, UnheldFiles& unheld_in, ChunkKeeperOptions options_in);

  // ---- small things
  TimePoint now() const { return core.world().clock().now(); }
  TimePoint order_deadline() const { return now() + std::chrono::milliseconds(options.order_deadline_ms); }
  OrderHeader header() const { return {.term = core.term(), .cluster = core.cluster()}; }
  std::string sign(ChunkId chunk, uint64_t version, SessionId session, CapabilityRights rights) const;
  ReplicaAddress address_of(ServerId server) const;
  Task<Result<ChunkRecord>> record(ChunkId chunk);
  bool current(uint64_t of_leadership) const { return of_leadership == leadership && !tasks.stop_requested(); }

  // ---- orders: each to one server, with a deadline; a server that cannot be reached counts as silent from then on
  template <class Request>
  Task<Result<typename Method<Request>::Reply>> order(ServerId server, Request request, TimePoint deadline);
  template <class Request>
  Task<Result<typename Method<Request>::Reply>> order(ServerId server, Request request) {
    return order(server, std::move(request), order_deadline());
  }

  // ---- one chunk at a time
  Task<Semaphore::Permit> lock(ChunkId chunk);
  void drop_unused_locks();

  // ---- raise.cc
  struct Round;  // orders that are out to several servers at once, and their answers
  struct Answer {
    ServerId server;
    uint64_t incarnation = 0;
    ReplicaStatus status;
    bool found = true;  // false: it has nothing of the chunk (nothing was ever written)
    bool verified = true;
  };
  struct Raised {
    uint64_t version = 0;
    uint64_t sequence = 0;  // every replica has everything up to it
    uint32_t length = 0;
    std::vector<ServerId> replicas;
  };
  // With a session: for it to write on. Without: recovered and sealed. The caller holds the chunk's lock.
  Task<Result<Raised>> raise(ChunkId chunk, SessionId session, std::vector<ServerId> without, bool full,
                             std::vector<ServerId> joiners);
  Task<std::vector<Answer>> order_raise(ChunkId chunk, uint64_t from, uint64_t to, std::vector<ServerId> servers);
  Task<void> order_raise_one(ChunkId chunk, uint64_t from, uint64_t to, ServerId server, std::shared_ptr<Round> round);
  // Makes each of `targets` equal to the source at that version; those that managed are in the answer.
  Task<void> doubt_source(ChunkId chunk, ServerId source);
  Task<std::vector<Answer>> order_copies(ChunkId chunk, uint64_t version, ServerId source,
                                         std::vector<ServerId> targets, bool seal);
  Task<void> order_copy_one(ChunkId chunk, uint64_t version, ServerId source, ServerId target, bool seal,
                            std::shared_ptr<Round> round);
  Task<Result<Raised>> finish_for_writer(ChunkId chunk, uint64_t version, ChunkRecord record,
                                         std::vector<Answer> answers, std::vector<ServerId> joiners);
  static bool same_bytes(const Answer& a, const Answer& b);
  // `full`: a writer that lives gave up for want of room.
  Task<Result<Raised>> finish_recovery(ChunkId chunk, uint64_t version, ChunkRecord record, std::vector<Answer> answers,
                                       bool full);
  Task<Result<void>> recover(ChunkId chunk);
  // The writer lives and gives up what it has not made durable. The caller holds the chunk's lock.
  Task<Result<void>> settle_given_up(ChunkId chunk);
  Task<Result<OpenChunkReply>> open_reply(ChunkId chunk, SessionId session, Raised raised);

  // ---- repair_loops.cc
  Task<void> run_repair(uint64_t of_leadership);
  Task<void> run_recovery(uint64_t of_leadership);
  Task<void> run_garbage(uint64_t of_leadership);
  Task<void> run_keys(uint64_t of_leadership);
  struct RepairList {
    std::map<ChunkId, ChunkRecord> chunks;
    std::map<std::optional<ServerId>, ChunkId> next;  // where to go on, by list
  };
  Task<Result<void>> list_to_repair(std::optional<ServerId> dead, RepairList& list);
  Task<bool> repair_round(uint64_t of_leadership);
  Task<void> run_step(RepairStep step);
  Task<Result<void>> copy_step(RepairStep step);
  Task<Result<void>> drop_step(RepairStep step);
  Task<Result<void>> join_step(RepairStep step);
  Task<void> recover_one(ChunkId chunk);
  Task<void> finish_pending(ChunkId chunk);

  // ---- idle_chunks.cc
  Task<void> run_sealing(uint64_t of_leadership);
  Task<void> seal_idle_of(SessionId session, uint64_t of_leadership);
  bool idle(const ChunkEntry& entry);
  Task<void> seal_idle(ChunkEntry entry);

  // ---- remove_server.cc
  bool only_copy(const ChunkRecord& chunk, ServerId server) const;

  // ---- kept_dumps.cc
  Task<void> run_dumps(uint64_t of_leadership);
  Task<Result<uint64_t>> keep_dump(uint64_t of_leadership);
  struct DumpChunk;  // the one that is being written
  Task<Result<void>> write_dump_piece(std::shared_ptr<DumpChunk> chunk, Buffer data, bool last);
  Task<Result<std::shared_ptr<DumpChunk>>> next_dump_chunk(InodeId inode, uint32_t index);

  // ---- restored.cc
  bool unsettled() const;
  // Until the chunks of a restored state may be used, for a moment; then kOverload.
  Task<Result<void>> wait_settled();
  Task<void> run_settle(uint64_t of_leadership);
  std::vector<ServerId> not_reported() const;
  void add_restore_warnings(std::vector<std::string>& warnings) const;
  Task<bool> adopt(ServerId server, uint64_t incarnation, std::vector<AdoptReplicas::Item> items);
  // What a server holds and no file has; of chunks that a file has, on how many servers too many.
  struct Unknown {
    std::vector<ReplicaStatus> chunks;  // ascending, at most kUnknownKeptMax
    uint64_t more = 0;                  // that were not kept
    uint64_t stale = 0;
  };
  struct UnknownTotals {
    uint64_t chunks = 0, bytes = 0, stale = 0;
  };
  UnknownTotals unknown_totals() const;
  void note_unknown(ServerId server, Unknown found);

  // ---- reports.cc
  struct Differences;
  static Result<Differences> compare(const Machine& machine, ServerId server, ChunkId next_chunk,
                                     const std::vector<ReplicaStatus>& report,
                                     const std::optional<RestoreRecord>& restore);
  Task<void> reconcile(ServerId server, uint64_t incarnation, std::vector<ReplicaStatus> report, uint64_t next_chunk);
  Task<void> mark(ServerId server, ReplicaState state, std::vector<MarkReplicas::Item> chunks);

  MasterCore& core;
  UnheldFiles& unheld;
  ChunkKeeperOptions options;
  ServerTable servers;
  TimePoint led_since{};
  uint64_t leadership = 0;  // moves with each change: loops of an earlier one end
  std::map<ChunkId, std::unique_ptr<Mutex>> locks;
  Condition work;  // something may be to repair or to recover
  Condition recovered;
  Condition repaired;                   // a step, or the end of a raise, is over
  std::map<ServerId, Unknown> unknown;  // by the last reports, while a restore is not accepted
  mutable std::optional<UnknownTotals> totals;
  std::map<std::optional<ServerId>, ChunkId> repair_after;  // how far the lists of what is to be repaired are looked at
  std::set<ChunkId> running;                                // steps and recoveries under way
  std::map<ChunkId, TimePoint> retry;                       // not to be tried again before
  TaskGroup tasks;
};

template <class Request>
Task<Result<typename Method<Request>::Reply>> ChunkKeeper::Impl::order(ServerId id, Request request,
                                                                       TimePoint deadline) {
  // An order carries the term of this leadership, never that of the one after it.
  if (!core.leading()) co_return Error(ErrorCode::kNotLeader);
  LiveServer* server = servers.find(id);
  if (!server || !server->client)
    co_return Error(ErrorCode::kUnavailable, "chunkserver " + to_string(id) + " is not known");
  request.header = header();
  RpcClient::CallOptions call{.deadline = deadline};
  auto answer = co_await typed_call(*server->client, std::move(request), call);
  if (!answer) {
    if (answer.error().code == ErrorCode::kUnavailable) servers.suspect(id);
    co_return answer.error();
  }
  co_return std::move(answer->reply);
}

}  // namespace cairn
