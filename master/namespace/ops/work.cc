// What removals, large truncates and ended sessions left to do, in steps whose size a tick bounds.
#include <algorithm>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "master/namespace/chunk_table.h"
#include "master/namespace/ops/ops.h"
#include "master/namespace/tree.h"

namespace cairn {
namespace {

// What an item costs at least: its scans, though they find nothing.
constexpr uint32_t kItemCost = 8;

// What a step has done: `used` of its budget; if it is not finished, `work` says where to go on.
struct Step {
  uint32_t used = 0;
  bool finished = false;
};

std::vector<std::string> keys_from(const Transaction& tx, const std::string& prefix, const std::string& from,
                                   uint32_t max) {
  std::vector<std::string> found;
  if (max == 0) return found;
  tx.scan(prefix, from, [&](std::string_view key, std::string_view) {
    found.emplace_back(key);
    return found.size() < max;
  });
  return found;
}

// Up to `budget` of the inode's refs from work.next on, which moves behind them. Finished if there are no more.
template <class Body>
Step for_refs(Transaction& tx, WorkRecord& work, uint32_t budget, Body body) {
  Step step;
  if (work.next > UINT32_MAX) return {.finished = true};
  const std::string from = keys::ref(work.inode, static_cast<uint32_t>(work.next));
  for (const std::string& key : keys_from(tx, keys::prefix(keys::Kind::kRef, work.inode.value), from, budget)) {
    const uint32_t index = keys::ref_index(key);
    if (std::optional<ChunkRef> ref = tx.ref(work.inode, index)) body(index, *ref);
    work.next = uint64_t{index} + 1;
    ++step.used;
  }
  step.finished = step.used < budget;
  return step;
}

Step erase_all(Transaction& tx, const std::string& prefix, uint32_t budget) {
  Step step;
  for (std::string& key : keys_from(tx, prefix, prefix, budget)) {
    tx.erase(std::move(key));
    ++step.used;
  }
  step.finished = step.used < budget;
  return step;
}

Step remove_inode_step(Transaction& tx, WorkRecord& work, uint32_t budget) {
  Step refs = for_refs(tx, work, budget,
                       [&](uint32_t index, const ChunkRef& ref) { drop_ref(tx, work.inode, nullptr, index, ref); });
  if (!refs.finished) return refs;
  Step xattrs = erase_all(tx, keys::prefix(keys::Kind::kXattr, work.inode.value), budget - refs.used);
  return {refs.used + xattrs.used, xattrs.finished};
}

Step cut_step(Transaction& tx, WorkRecord& work, uint32_t budget) {
  std::optional<InodeRecord> inode = tx.inode(work.inode);
  if (!inode) return {.finished = true};  // its removal takes all refs
  Step step = for_refs(tx, work, budget, [&](uint32_t index, const ChunkRef& ref) {
    if (ref.epoch < work.cut.epoch) drop_ref(tx, work.inode, &*inode, index, ref);
  });
  if (step.finished) std::erase(inode->cuts, work.cut);
  tx.put_inode(*inode);
  return step;
}

Step set_goal_step(Transaction& tx, WorkRecord& work, uint32_t budget) {
  std::optional<InodeRecord> inode = tx.inode(work.inode);
  if (!inode) return {.finished = true};
  return for_refs(tx, work, budget, [&](uint32_t, const ChunkRef& ref) {
    std::optional<ChunkRecord> before = tx.chunk(ref.chunk);
    if (!before || before->owner != work.inode) return;
    ChunkRecord after = *before;
    after.goal = inode->attributes.goal;
    write_chunk(tx, ref.chunk, &*before, after);
  });
}

// A chunk that a file has got after the export from which this state comes is still a grant in it: the record goes, the
// bytes are kept with all that only servers know.
void drop_grant(Transaction& tx, ChunkId id, const ChunkRecord& chunk) {
  std::optional<ClusterRecord> cluster = tx.cluster();
  if (cluster && cluster->restore && chunk.session < cluster->restore->session) {
    forget_chunk(tx, id, chunk);
  } else {
    remove_chunk(tx, id, chunk);
  }
}

// Grants that no file has are garbage; chunks of files stay open, for recovery (rule 7).
Step drop_grants(Transaction& tx, WorkRecord& work, uint32_t budget) {
  Step step;
  const std::string prefix = keys::prefix(keys::Kind::kOpenChunk, work.session.value);
  for (const std::string& key : keys_from(tx, prefix, keys::open_chunk(work.session, ChunkId{work.next}), budget)) {
    const ChunkId id{keys::second_id(key)};
    std::optional<ChunkRecord> chunk = tx.chunk(id);
    if (chunk && chunk->refs == 0) drop_grant(tx, id, *chunk);
    work.next = id.value + 1;
    ++step.used;
  }
  step.finished = step.used < budget;
  return step;
}

// They are nobody's since the session has ended; what is left is their records.
Step release_locks_step(Transaction& tx, SessionId session, uint32_t budget) {
  const std::string prefix = keys::prefix(keys::Kind::kSessionLocks, session.value);
  const std::vector<std::string> held = keys_from(tx, prefix, prefix, budget);
  for (const std::string& key : held) {
    const InodeId inode{keys::second_id(key)};
    InodeLocks locks = tx.locks(inode);
    locks.release_session(session);
    tx.put_locks(inode, locks);
  }
  return {static_cast<uint32_t>(held.size()), held.size() < budget};
}

Step end_session_step(Transaction& tx, WorkRecord& work, uint32_t budget) {
  Step step = erase_all(tx, keys::prefix(keys::Kind::kReply, work.session.value), budget);
  if (!step.finished) return step;
  const std::string orphans = keys::prefix(keys::Kind::kSessionOrphan, work.session.value);
  const Step locks = release_locks_step(tx, work.session, budget - step.used);
  step.used += locks.used;
  if (!locks.finished) return {step.used, false};
  const uint32_t left = budget - step.used;
  std::vector<std::string> held = keys_from(tx, orphans, orphans, left);
  for (const std::string& key : held)
    release_orphan(tx, work.session, InodeId{keys::second_id(key)});
  step.used += static_cast<uint32_t>(held.size());
  if (held.size() == left) return {step.used, false};
  const Step grants = drop_grants(tx, work, budget - step.used);
  step.used += grants.used;
  step.finished = grants.finished;
  if (!step.finished) return step;
  if (std::optional<SessionRecord> session = tx.session(work.session)) {
    session->cleaned = true;
    tx.put_session(work.session, std::move(*session));
  }
  return step;
}

// Its replicas leave their records; last goes the garbage that waits for it, to which those add nothing.
Step forget_server_step(Transaction& tx, WorkRecord& work, uint32_t budget) {
  if (tx.server(work.server)) return {.finished = true};  // it is back, and reports what it has
  Step step;
  const std::string held = keys::prefix(keys::Kind::kServerChunk, work.server.value);
  for (const std::string& key : keys_from(tx, held, held, budget)) {
    const ChunkId id{keys::second_id(key)};
    const std::optional<ChunkRecord> before = tx.chunk(id);
    CHECK(before);  // the index is written with the record
    ChunkRecord after = *before;
    std::erase_if(after.replicas, [&](const ReplicaRecord& replica) { return replica.server == work.server; });
    write_chunk(tx, id, &*before, after);
    ++step.used;
  }
  if (step.used == budget) return step;
  const std::string garbage = keys::prefix(keys::Kind::kGarbage, work.server.value);
  const uint32_t left = budget - step.used;
  const std::vector<std::string> queued = keys_from(tx, garbage, garbage, left);
  for (const std::string& key : queued)
    remove_garbage(tx, work.server, ChunkId{keys::second_id(key)});
  step.used += static_cast<uint32_t>(queued.size());
  step.finished = queued.size() < left;
  return step;
}

Step do_step(Transaction& tx, WorkRecord& work, uint32_t budget) {
  switch (work.kind) {
    case WorkRecord::Kind::kRemoveInode:
      return remove_inode_step(tx, work, budget);
    case WorkRecord::Kind::kCut:
      return cut_step(tx, work, budget);
    case WorkRecord::Kind::kSetGoal:
      return set_goal_step(tx, work, budget);
    case WorkRecord::Kind::kEndSession:
      return end_session_step(tx, work, budget);
    case WorkRecord::Kind::kForgetServer:
      return forget_server_step(tx, work, budget);
  }
  return {.finished = true};
}

}  // namespace

void do_work(Transaction& tx, uint32_t budget) {
  const std::string all = keys::prefix(keys::Kind::kWork);
  while (budget > 0 && tx.counters().work > 0 && !tx.failed()) {
    std::vector<std::string> first = keys_from(tx, all, all, 1);
    if (first.empty()) return;
    std::optional<std::string> bytes = tx.raw(first.front());
    WorkRecord work;
    if (!bytes || !decode(*bytes, work)) return;
    const Step step = do_step(tx, work, budget);
    budget -= std::min(budget, std::max(step.used, kItemCost));
    if (step.finished) {
      tx.erase(std::move(first.front()));
      --tx.counters().work;
    } else {
      tx.put(std::move(first.front()), encode(work));
    }
  }
}

}  // namespace cairn
