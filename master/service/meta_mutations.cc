// MetaService: mutations. What a leader must find out before a command is logged, and what follows from its reply.
#include <algorithm>
#include <functional>
#include <utility>

#include "common/base/log.h"
#include "master/service/meta_service.h"

namespace cairn {

namespace {
uint64_t stripe_of(InodeId parent, const std::string& name, size_t stripes) {
  return (std::hash<InodeId>()(parent) ^ std::hash<std::string_view>()(name)) % stripes;
}
}  // namespace

Task<MetaService::NameLocks> MetaService::lock_names(std::vector<std::pair<InodeId, std::string>> names) {
  std::vector<uint64_t> stripes;
  for (const auto& [parent, name] : names)
    stripes.push_back(stripe_of(parent, name, name_stripes_.size()));
  // In one order everywhere: no two operations wait for each other.
  std::ranges::sort(stripes);
  stripes.erase(std::ranges::unique(stripes).begin(), stripes.end());
  NameLocks locks;
  for (uint64_t stripe : stripes) {
    Semaphore::Permit permit = co_await name_stripes_[stripe]->lock();
    locks.push_back(std::move(permit));
  }
  co_return locks;
}

Task<Result<InodeId>> MetaService::hold_for_removal(InodeId parent, std::string name, std::vector<SessionId>& holders) {
  auto ask = [parent, name](Machine& machine, ReadMode mode) { return machine.lookup(parent, name, mode); };
  Result<EntryReply> entry = co_await core_.read(std::move(ask));
  if (!entry || !entry->attributes.inode) co_return InodeId{};  // the machine gives the right error
  InodeId inode = entry->attributes.inode;
  if (entry->attributes.type != FileType::kDirectory) {
    ++removing_[inode];
    holders = leases_.holders(inode);
    co_return inode;
  }
  co_return InodeId{};
}

void MetaService::removal_over(InodeId inode) {
  auto found = removing_.find(inode);
  if (found == removing_.end()) return;
  if (--found->second == 0) removing_.erase(found);
  removed_.notify_all();
}

Task<Result<void>> MetaService::prepare(MutateRequest& request, NameLocks& locks, InodeId& removing,
                                        TimePoint deadline) {
  if (auto* create = std::get_if<CreateOp>(&request.op)) {
    locks = co_await lock_names({{create->parent, create->name}});
  } else if (auto* link = std::get_if<LinkOp>(&request.op)) {
    locks = co_await lock_names({{link->new_parent, link->new_name}});
  } else if (auto* unlink = std::get_if<UnlinkOp>(&request.op)) {
    locks = co_await lock_names({{unlink->parent, unlink->name}});
    // Who holds what open is known when all sessions have said it to this leader.
    Result<void> reclaimed = co_await sessions_.wait_reclaimed(deadline);
    if (!reclaimed) co_return reclaimed;
    Result<InodeId> held = co_await hold_for_removal(unlink->parent, unlink->name, unlink->holders);
    if (!held) co_return held.error();
    removing = *held;
  } else if (auto* rename = std::get_if<RenameOp>(&request.op)) {
    locks = co_await lock_names({{rename->parent, rename->name}, {rename->new_parent, rename->new_name}});
    if (!rename->exchange && !rename->no_replace) {
      Result<void> reclaimed = co_await sessions_.wait_reclaimed(deadline);
      if (!reclaimed) co_return reclaimed;
      Result<InodeId> held = co_await hold_for_removal(rename->new_parent, rename->new_name, rename->holders);
      if (!held) co_return held.error();
      removing = *held;
    }
  } else if (auto* change = std::get_if<SetAttributesOp>(&request.op)) {
    if (change->size) {  // a cut is a write: whoever writes the file elsewhere flushes first
      Result<Lease> lease = co_await acquire_write_lease(request.session, change->inode, deadline);
      if (!lease) co_return lease.error();
      Result<void> recovered = co_await keeper_.wait_recovered(change->inode, deadline);
      if (!recovered) co_return recovered;
    }
  } else if (auto* grant = std::get_if<GrantChunksOp>(&request.op)) {
    co_await keeper_.settle();
    Result<void> placed = keeper_.place(*grant);
    if (!placed) co_return placed;
  }
  co_return Result<void>();
}

Task<Result<MutationReply>> MetaService::mutate(MutateRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  NameLocks locks;
  InodeId removing;
  Result<void> prepared = co_await prepare(request, locks, removing, rpc.deadline);
  if (!prepared) {
    if (removing) removal_over(removing);
    co_return prepared.error();
  }
  // What frees space must work on a full disk too.
  bool frees = std::holds_alternative<UnlinkOp>(request.op) || std::holds_alternative<RmdirOp>(request.op) ||
               std::holds_alternative<CommitOp>(request.op) || std::holds_alternative<ReleaseOrphansOp>(request.op);
  MutateRequest kept;
  kept.session = request.session;
  if (auto* create = std::get_if<CreateOp>(&request.op)) {
    CreateOp summary;
    summary.type = create->type;
    summary.open = create->open;
    kept.op = std::move(summary);
  } else if (std::holds_alternative<GrantChunksOp>(request.op)) {
    kept.op = GrantChunksOp{};
  } else {
    kept.op = CommitOp{};
  }
  Result<MutationReply> reply = co_await core_.propose_for<MutationReply>(std::move(request), frees);
  if (removing) removal_over(removing);
  if (!reply) co_return reply;
  finish(kept, *reply);
  co_return reply;
}

void MetaService::finish(const MutateRequest& request, MutationReply& reply) {
  if (reply.parent.inode) reply.parent_lease = share(request.session, reply.parent);
  if (reply.new_parent.inode && reply.new_parent.inode != reply.parent.inode) {
    Lease other = share(request.session, reply.new_parent);
    reply.parent_lease.duration_ms = std::min(reply.parent_lease.duration_ms, other.duration_ms);
  }
  if (const auto* create = std::get_if<CreateOp>(&request.op); create && create->open) {
    leases_.open(request.session, reply.attributes.inode);
    if (create->type == FileType::kRegular) {
      // Nobody else can know the file yet: its first writer needs no question.
      SharedLeases::Acquired acquired = leases_.acquire(request.session, reply.attributes.inode, sessions_.now_ms());
      if (acquired.lease) {
        reply.lease = *acquired.lease;
        return;
      }
    }
  }
  for (ChunkGrant& grant : reply.grants)
    keeper_.complete(grant, request.session);
  if (reply.attributes.inode) reply.lease = share(request.session, reply.attributes);
}

}  // namespace cairn
