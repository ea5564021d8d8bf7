// MetaService: mutations. What a leader must find out before a command is logged, who has to forget what it changes
// (docs/decisions/007-recalls.md), and what follows from its reply.
#include <algorithm>
#include <functional>
#include <utility>

#include "common/base/log.h"
#include "master/service/meta_service.h"

namespace cairn {

namespace {

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};

Touched name_of(InodeId parent, const std::string& name) {
  return {.inode = parent, .kind = RecallKind::kName, .name = name};
}

Touched object_of(InodeId inode, RecallKind kind) {
  return {.inode = inode, .kind = kind, .name = {}};
}

// The names that an operation makes, takes away or moves.
std::vector<Touched> names_of(const MetaOp& op) {
  return std::visit(
      Overloaded{
          [](const CreateOp& create) -> std::vector<Touched> { return {name_of(create.parent, create.name)}; },
          [](const LinkOp& link) -> std::vector<Touched> { return {name_of(link.new_parent, link.new_name)}; },
          [](const UnlinkOp& unlink) -> std::vector<Touched> { return {name_of(unlink.parent, unlink.name)}; },
          [](const RmdirOp& rmdir) -> std::vector<Touched> { return {name_of(rmdir.parent, rmdir.name)}; },
          [](const RenameOp& rename) -> std::vector<Touched> {
            return {name_of(rename.parent, rename.name), name_of(rename.new_parent, rename.new_name)};
          },
          [](const auto&) -> std::vector<Touched> { return {}; },
      },
      op);
}

// What finish() needs to know of an operation, without its data.
MetaOp summary_of(const MetaOp& op) {
  if (const auto* create = std::get_if<CreateOp>(&op)) {
    CreateOp summary;
    summary.type = create->type;
    summary.open = create->open;
    return summary;
  }
  if (const auto* set = std::get_if<SetLockOp>(&op)) return *set;
  if (const auto* replace = std::get_if<ReplaceLocksOp>(&op))
    return ReplaceLocksOp{.inode = replace->inode, .locks = {}};
  if (const auto* release = std::get_if<ReleaseLocksOp>(&op))
    return ReleaseLocksOp{.inode = release->inode, .owners = {}};
  return ReleaseOrphansOp{};
}

// Of an operation on locks: whose.
InodeId locked_inode(const MetaOp& op) {
  if (const auto* set = std::get_if<SetLockOp>(&op)) return set->inode;
  if (const auto* replace = std::get_if<ReplaceLocksOp>(&op)) return replace->inode;
  if (const auto* release = std::get_if<ReleaseLocksOp>(&op)) return release->inode;
  return {};
}

// A commit after the last close of what was committed before: nobody sees a difference, and nobody has to forget
// anything.
bool only_seals(const CommitOp& commit) {
  bool changes = commit.size_at_least || commit.mtime || commit.clear_set_id;
  return !changes && std::ranges::all_of(commit.chunks, [](const CommitOp::Chunk& chunk) { return chunk.seal; });
}

// What frees space must work on a full disk too.
bool frees_space(const MetaOp& op) {
  return std::holds_alternative<UnlinkOp>(op) || std::holds_alternative<RmdirOp>(op) ||
         std::holds_alternative<CommitOp>(op) || std::holds_alternative<ReleaseOrphansOp>(op) || locked_inode(op);
}

}  // namespace

Task<Result<Attributes>> MetaService::entry_of(InodeId parent, std::string name) {
  auto ask = [parent, name](Machine& machine, ReadMode mode) { return machine.lookup(parent, name, mode); };
  Result<EntryReply> entry = co_await core_.read(std::move(ask));
  // None: the machine gives the right error when the command is applied. Of the log's own there is nothing to apply.
  if (entry.failed_with(ErrorCode::kNotLeader) || entry.failed_with(ErrorCode::kUnavailable)) co_return entry.error();
  co_return entry ? entry->attributes : Attributes{};
}

Task<Result<void>> MetaService::find_moved(const RenameOp& op, std::vector<Touched>& touched, InodeId& losing) {
  bool other_parent = op.parent != op.new_parent;
  bool exchange = op.exchange;
  bool replaces = !op.exchange && !op.no_replace;
  Result<Attributes> moved = co_await entry_of(op.parent, op.name);
  if (!moved) co_return moved.error();
  Result<Attributes> replaced = co_await entry_of(op.new_parent, op.new_name);
  if (!replaced) co_return replaced.error();
  // A directory that moves has another "..".
  auto kind = [](const Attributes& attributes, bool whole) {
    bool content = whole && attributes.type == FileType::kDirectory;
    return content ? RecallKind::kContent : RecallKind::kAttributes;
  };
  if (!moved->inode) co_return Result<void>();
  touched.push_back(object_of(moved->inode, kind(*moved, other_parent)));
  if (!replaced->inode || replaced->inode == moved->inode || (!exchange && !replaces)) co_return Result<void>();
  touched.push_back(object_of(replaced->inode, kind(*replaced, replaces || other_parent)));
  if (replaces && replaced->type != FileType::kDirectory) losing = replaced->inode;
  co_return Result<void>();
}

Task<Result<void>> MetaService::find_touched(SessionId session, const MetaOp& op, std::vector<Touched>& touched,
                                             InodeId& losing) {
  if (const auto* link = std::get_if<LinkOp>(&op)) {
    touched.push_back(object_of(link->inode, RecallKind::kAttributes));
  } else if (const auto* unlink = std::get_if<UnlinkOp>(&op)) {
    Result<Attributes> entry = co_await entry_of(unlink->parent, unlink->name);
    if (!entry) co_return entry.error();
    if (entry->inode && entry->type != FileType::kDirectory) {
      touched.push_back(object_of(entry->inode, RecallKind::kAttributes));
      losing = entry->inode;
    }
  } else if (const auto* rmdir = std::get_if<RmdirOp>(&op)) {
    Result<Attributes> entry = co_await entry_of(rmdir->parent, rmdir->name);
    if (!entry) co_return entry.error();
    // One that is not empty stays: nobody has to forget it.
    if (entry->inode && entry->type == FileType::kDirectory && entry->size == 0)
      touched.push_back(object_of(entry->inode, RecallKind::kContent));
  } else if (const auto* rename = std::get_if<RenameOp>(&op)) {
    Result<void> found = co_await find_moved(*rename, touched, losing);
    if (!found) co_return found;
  } else if (const auto* change = std::get_if<SetAttributesOp>(&op)) {
    // A cut is a write: whoever writes the file elsewhere flushes first.
    touched.push_back(object_of(change->inode, change->size ? RecallKind::kWriter : RecallKind::kAttributes));
  } else if (const auto* set = std::get_if<SetXattrOp>(&op)) {
    touched.push_back(object_of(set->inode, RecallKind::kAttributes));
  } else if (const auto* remove = std::get_if<RemoveXattrOp>(&op)) {
    touched.push_back(object_of(remove->inode, RecallKind::kAttributes));
  } else if (const auto* goal = std::get_if<SetGoalOp>(&op)) {
    touched.push_back(object_of(goal->inode, RecallKind::kAttributes));
  } else if (const auto* commit = std::get_if<CommitOp>(&op)) {
    // Nobody else has anything while the one who commits holds it.
    bool alone = leases_.writer(commit->inode) == session;
    if (!alone && !only_seals(*commit)) touched.push_back(object_of(commit->inode, RecallKind::kContent));
  }
  co_return Result<void>();
}

// A session that holds an inode exclusively decides about it alone: whoever waits for that lease waits for such a
// change, too (RecallDesk::wait_alone()), and has the lock meanwhile. So does whoever waits for the answer of a session
// that commits first what it still has (pages that a process has written through a mapping).
bool MetaService::goes_first(SessionId session, const MetaOp& op, InodeId inode) const {
  if (leases_.writer(inode) == session) return true;
  return std::holds_alternative<CommitOp>(op) && leases_.recalled(session, inode);
}

Task<Result<void>> MetaService::lock_inodes(std::vector<InodeId> inodes, Prepared& prepared, TimePoint deadline) {
  // Who holds what is known when all sessions have said it to this leader.
  Result<void> reclaimed = co_await sessions_.wait_reclaimed(deadline);
  if (!reclaimed) co_return reclaimed;
  auto locked = co_await inodes_.lock(std::move(inodes), core_.world().clock(), deadline);
  if (!locked) co_return locked.error();
  prepared.inodes = std::move(*locked);
  co_return Result<void>();
}

void MetaService::hold_for_removal(InodeId inode, MetaOp& op) {
  ++removing_[inode];
  std::vector<SessionId> holders = open_files_.holders(inode);
  if (auto* unlink = std::get_if<UnlinkOp>(&op)) unlink->holders = std::move(holders);
  if (auto* rename = std::get_if<RenameOp>(&op)) rename->holders = std::move(holders);
}

void MetaService::removal_over(InodeId inode) {
  auto found = removing_.find(inode);
  if (found == removing_.end()) return;
  if (--found->second == 0) removing_.erase(found);
  removed_.notify_all();
}

// Whoever may come into somebody's way. What takes locks away, or hands over those of who holds the inode exclusively,
// waits for nobody: answers to recalls wait for it.
bool MetaService::sets_locks(SessionId session, const MetaOp& op) const {
  if (const auto* set = std::get_if<SetLockOp>(&op)) return set->lock.mode != LockMode::kUnlock;
  const auto* replace = std::get_if<ReplaceLocksOp>(&op);
  return replace && !replace->locks.empty() && leases_.writer(replace->inode) != session;
}

Task<Result<void>> MetaService::prepare(MutateRequest& request, Prepared& prepared, InodeId& losing,
                                        TimePoint deadline) {
  if (auto* grant = std::get_if<GrantChunksOp>(&request.op)) {
    co_await keeper_.settle();
    Result<void> placed = keeper_.place(*grant);
    co_return placed;
  }
  if (InodeId inode = locked_inode(request.op)) {
    Result<void> alone;
    if (sets_locks(request.session, request.op))
      alone = co_await prepare_lock(request.session, inode, prepared, deadline);
    co_return alone;
  }
  std::vector<Touched> touched = names_of(request.op);
  std::vector<Name> names;
  for (const Touched& object : touched)
    names.emplace_back(object.inode, object.name);
  auto locked = co_await names_.lock(std::move(names), core_.world().clock(), deadline);
  if (!locked) co_return locked.error();
  prepared.names = std::move(*locked);
  Result<void> found = co_await find_touched(request.session, request.op, touched, losing);
  if (!found) co_return found;
  if (touched.empty()) co_return Result<void>();
  std::vector<InodeId> inodes;
  for (const Touched& object : touched) {
    if (object.kind != RecallKind::kName && !goes_first(request.session, request.op, object.inode))
      inodes.push_back(object.inode);
  }
  Result<void> objects = co_await lock_inodes(std::move(inodes), prepared, deadline);
  if (!objects) co_return objects;
  Result<void> able = ready(request.session);
  if (!able) co_return able;
  prepared.change = recalls_.begin(request.session, std::move(touched));
  // Pages that were stored in a mapping before: whoever else has something is asked already, or asks, and they could
  // wait for each other. Who stored them does not know them to be seen before it has had the lease.
  const auto* commit = std::get_if<CommitOp>(&request.op);
  if (commit && leases_.asked_for_all(request.session, commit->inode)) co_return ready(request.session);
  Result<void> asked = co_await recalls_.ask_all(prepared.change.id(), deadline);
  if (!asked) co_return asked;
  const auto* change = std::get_if<SetAttributesOp>(&request.op);
  if (change && change->size) {
    Result<void> recovered = co_await keeper_.wait_recovered(change->inode, deadline);
    if (!recovered) co_return recovered;
  }
  co_return ready(request.session);
}

Task<Result<MutationReply>> MetaService::mutate(MutateRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  Prepared prepared;
  InodeId losing;
  uint64_t term = leases_.term();
  Result<void> ready_now = co_await prepare(request, prepared, losing, rpc.deadline);
  if (!ready_now) co_return ready_now.error();
  if (leases_.term() != term) co_return core_.not_leader();  // leading again: nobody was asked in this term
  if (losing) hold_for_removal(losing, request.op);
  MutateRequest kept;
  kept.session = request.session;
  kept.op = summary_of(request.op);
  bool frees = frees_space(request.op);
  Result<MutationReply> reply = co_await core_.propose_for<MutationReply>(std::move(request), frees);
  if (losing) removal_over(losing);
  if (reply) finish(kept, prepared.change.id(), *reply);
  co_return reply;
}

void MetaService::finish(const MutateRequest& request, ChangeId change, MutationReply& reply) {
  for (ChunkGrant& grant : reply.grants)
    keeper_.complete(grant, request.session);
  const auto* create = std::get_if<CreateOp>(&request.op);
  if (create && create->open) open_files_.open(request.session, reply.attributes.inode);
  if (InodeId inode = locked_inode(request.op)) return finish_lock(request.session, inode, reply);
  // What it says is as of when it was done; others may have changed it since, and their changes are over.
  if (reply.repeated) return;
  bool may_hold = sessions_.may_hold(request.session);
  if (reply.parent.inode) reply.parent_lease = leases_.share_changed(change, reply.parent.inode, may_hold);
  if (reply.new_parent.inode && reply.new_parent.inode != reply.parent.inode) {
    Lease other = leases_.share_changed(change, reply.new_parent.inode, may_hold);
    if (other.duration_ms == 0 || !reply.parent.inode) reply.parent_lease = other;
  }
  if (!reply.attributes.inode) return;
  if (create && create->open && create->type == FileType::kRegular) {
    // Its first writer needs no question. None at all if somebody has seen it already: the caller takes what comes here
    // for an exclusive one.
    if (!sessions_.check(request.session)) return;
    reply.lease = leases_.make_exclusive_new(request.session, reply.attributes.inode);
    if (reply.lease.duration_ms != 0) unheld_.taken(reply.attributes.inode);
    reply.locked_elsewhere = locks_.locked_elsewhere(reply.attributes.inode, request.session);
    return;
  }
  reply.lease = leases_.share_changed(change, reply.attributes.inode, may_hold);
}

}  // namespace cairn
