#include "master/service/meta_service.h"

#include <algorithm>
#include <functional>
#include <string_view>
#include <utility>

#include "common/base/log.h"
#include "common/base/units.h"

namespace cairn {

namespace {
constexpr uint32_t kDirectoryEntriesMax = 2048;
constexpr uint64_t kInodesFree = uint64_t{1} << 40;  // bounded by the disks of the masters only
}  // namespace

MetaService::MetaService(MasterCore& core, SessionDesk::Kept kept, SessionDesk& sessions, ChunkKeeper& keeper)
    : core_(core),
      leases_(kept.leases),
      open_files_(kept.open_files),
      unheld_(kept.unheld),
      recalls_(kept.recalls),
      locks_(kept.locks),
      sessions_(sessions),
      keeper_(keeper),
      names_(core.world().executor()),
      inodes_(core.world().executor()),
      removed_(core.world().executor()) {
  sessions_.on_stalled([this] { keeper_.excuse_silence(); });
}

void MetaService::add_handlers(RpcServer& server) {
  add_handler<OpenSessionRequest>(server, this, &MetaService::open_session);
  add_handler<RenewSessionRequest>(server, this, &MetaService::renew_session);
  add_handler<CloseSessionRequest>(server, this, &MetaService::close_session);
  add_handler<TakeRecallsRequest>(server, this, &MetaService::take_recalls);
  add_handler<AnswerRecallsRequest>(server, this, &MetaService::answer_recalls);
  add_handler<ReturnLeasesRequest>(server, this, &MetaService::return_leases);
  add_handler<MutateRequest>(server, this, &MetaService::mutate);
  add_handler<TestLockRequest>(server, this, &MetaService::test_lock);
  add_handler<WaitLockRequest>(server, this, &MetaService::wait_lock);
  add_handler<CancelWaitRequest>(server, this, &MetaService::cancel_wait);
  add_handler<LookupRequest>(server, this, &MetaService::lookup);
  add_handler<GetAttributesRequest>(server, this, &MetaService::get_attributes);
  add_handler<OpenRequest>(server, this, &MetaService::open);
  add_handler<CloseRequest>(server, this, &MetaService::close);
  add_handler<RefreshRequest>(server, this, &MetaService::refresh);
  add_handler<ReadDirectoryRequest>(server, this, &MetaService::read_directory);
  add_handler<ReadLinkRequest>(server, this, &MetaService::read_link);
  add_handler<GetXattrRequest>(server, this, &MetaService::get_xattr);
  add_handler<ListXattrRequest>(server, this, &MetaService::list_xattr);
  add_handler<StatFsRequest>(server, this, &MetaService::stat_fs);
  add_handler<GetLayoutRequest>(server, this, &MetaService::get_layout);
  add_handler<WriteLeaseRequest>(server, this, &MetaService::write_lease);
  add_handler<ReleaseWriteLeaseRequest>(server, this, &MetaService::release_write_lease);
  add_handler<OpenChunkRequest>(server, this, &MetaService::open_chunk);
  add_handler<ReplicaFailedRequest>(server, this, &MetaService::replica_failed);
  add_handler<RenewGrantRequest>(server, this, &MetaService::renew_grant);
  add_handler<ReportBadReplicaRequest>(server, this, &MetaService::report_bad_replica);
}

// ---------------------------------------------------------------- sessions

Task<Result<OpenSessionReply>> MetaService::open_session(OpenSessionRequest request, RpcRequest) {
  Result<OpenSessionReply> reply = co_await sessions_.open(std::move(request));
  co_return reply;
}

Task<Result<RenewSessionReply>> MetaService::renew_session(RenewSessionRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  Result<RenewSessionReply> reply = co_await sessions_.renew(std::move(request));
  co_return reply;
}

Task<Result<EmptyReply>> MetaService::close_session(CloseSessionRequest request, RpcRequest rpc) {
  Result<void> in_order = sessions_.arrived(request.session, rpc.connection->id());
  if (!in_order) co_return in_order.error();
  Result<EmptyReply> reply = co_await sessions_.close(request);
  co_return reply;
}

Result<void> MetaService::ready(SessionId session, const RpcRequest& rpc) {
  Result<void> in_order = sessions_.arrived(session, rpc.connection->id());
  return in_order ? ready(session) : in_order;
}

Result<void> MetaService::ready(SessionId session) const {
  if (!core_.leading()) return core_.not_leader();
  return sessions_.check(session);
}

Task<Result<TakeRecallsReply>> MetaService::take_recalls(TakeRecallsRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  Result<TakeRecallsReply> reply = co_await recalls_.take(request, rpc.deadline);
  co_return reply;
}

Task<Result<EmptyReply>> MetaService::answer_recalls(AnswerRecallsRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  co_return recalls_.answer(request);
}

Task<Result<LeaseNumberReply>> MetaService::return_leases(ReturnLeasesRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  co_return recalls_.give_back(request);
}

Lease MetaService::share(SessionId session, const Attributes& attributes, LeaseTable::Mark mark, bool may_hold) {
  // Who has a file exclusively is known when all sessions have said so to this leader.
  bool known = attributes.type == FileType::kDirectory || sessions_.all_reclaimed();
  return leases_.share(session, attributes.inode, mark, may_hold && known);
}

Task<Result<Attributes>> MetaService::attributes_of(InodeId inode) {
  auto ask = [inode](Machine& machine, ReadMode mode) { return machine.get_attributes(inode, mode); };
  Result<Attributes> attributes = co_await core_.read(ask);
  co_return attributes;
}

Task<Result<MetaService::Seen>> MetaService::written_attributes(SessionId session, InodeId inode, TimePoint deadline) {
  for (;;) {
    // Asked before the holder is looked for: one who tells of its lease later is not asked, and may have written.
    bool all_known = sessions_.all_reclaimed();
    Result<void> written = co_await recalls_.wait_written(inode, session, deadline);
    if (!written) co_return written.error();
    LeaseTable::Mark mark = leases_.mark();
    Result<Attributes> attributes = co_await attributes_of(inode);
    if (!attributes) co_return attributes.error();
    if (attributes->type == FileType::kDirectory || all_known) co_return Seen{.attributes = *attributes, .mark = mark};
    // Somebody may hold it exclusively who has not said so yet.
    Result<void> reclaimed = co_await sessions_.wait_reclaimed(deadline);
    if (!reclaimed) co_return reclaimed.error();
  }
}

// ---------------------------------------------------------------- reads

Task<Result<EntryReply>> MetaService::lookup(LookupRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  if (request.name.size() > kMaxNameBytes) co_return Error(ErrorCode::kNameTooLong);
  auto ask = [parent = request.parent, name = request.name](Machine& machine, ReadMode mode) {
    return machine.lookup(parent, name, mode);
  };
  LeaseTable::Mark mark = leases_.mark();
  Result<EntryReply> reply = co_await core_.read(std::move(ask));
  if (!reply) co_return reply;
  bool may_hold = sessions_.may_hold(request.session);
  // The lease of a name that is not there is the directory's.
  reply->parent_lease = share(request.session, reply->parent, mark, may_hold);
  reply->lease = reply->parent_lease;
  if (reply->attributes.inode) reply->lease = share(request.session, reply->attributes, mark, may_hold);
  co_return reply;
}

Task<Result<AttributesReply>> MetaService::get_attributes(GetAttributesRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  Result<Seen> seen = co_await written_attributes(request.session, request.inode, rpc.deadline);
  if (!seen) co_return seen.error();
  AttributesReply reply;
  reply.attributes = seen->attributes;
  reply.lease = share(request.session, seen->attributes, seen->mark, sessions_.may_hold(request.session));
  co_return reply;
}

Task<Result<RefreshReply>> MetaService::refresh(RefreshRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  RefreshReply reply;
  std::optional<Lease> shortest;
  for (InodeId inode : request.inodes) {
    Result<Seen> seen = co_await written_attributes(request.session, inode, rpc.deadline);
    if (!seen && seen.code() != ErrorCode::kNotFound && seen.code() != ErrorCode::kStale) co_return seen.error();
    reply.attributes.push_back(seen ? seen->attributes : Attributes{});
    if (!seen) continue;
    Lease lease = share(request.session, seen->attributes, seen->mark, sessions_.may_hold(request.session));
    if (!shortest || lease.duration_ms <= shortest->duration_ms) shortest = lease;
  }
  if (shortest) reply.lease = *shortest;
  co_return reply;
}

Task<Result<ReadDirectoryReply>> MetaService::read_directory(ReadDirectoryRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  uint32_t count = std::clamp<uint32_t>(request.count_max, 1, kDirectoryEntriesMax);
  auto ask = [request, count](Machine& machine, ReadMode mode) {
    return machine.read_directory(request.directory, request.cookie, count, request.plus, mode);
  };
  LeaseTable::Mark mark = leases_.mark();
  Result<ReadDirectoryReply> reply = co_await core_.read(std::move(ask));
  if (!reply) co_return reply;
  bool may_hold = sessions_.may_hold(request.session);
  for (DirectoryEntry& entry : reply->entries) {
    if (entry.attributes) entry.leased = share(request.session, *entry.attributes, mark, may_hold).duration_ms != 0;
  }
  // Last: its number is not lower than any of theirs.
  reply->lease = share(request.session, reply->directory, mark, may_hold);
  co_return reply;
}

Task<Result<ReadLinkReply>> MetaService::read_link(ReadLinkRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  auto ask = [inode = request.inode](Machine& machine, ReadMode mode) { return machine.read_link(inode, mode); };
  Result<std::string> target = co_await core_.read(ask);
  if (!target) co_return target.error();
  co_return ReadLinkReply{.target = std::move(*target)};
}

Task<Result<GetXattrReply>> MetaService::get_xattr(GetXattrRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  auto ask = [inode = request.inode, name = request.name](Machine& machine, ReadMode mode) {
    return machine.get_xattr(inode, name, mode);
  };
  Result<std::string> value = co_await core_.read(std::move(ask));
  if (!value) co_return value.error();
  co_return GetXattrReply{.value = std::move(*value)};
}

Task<Result<ListXattrReply>> MetaService::list_xattr(ListXattrRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  auto ask = [inode = request.inode](Machine& machine, ReadMode mode) { return machine.list_xattr(inode, mode); };
  Result<std::vector<std::string>> names = co_await core_.read(ask);
  if (!names) co_return names.error();
  co_return ListXattrReply{.names = std::move(*names)};
}

Task<Result<StatFsReply>> MetaService::stat_fs(StatFsRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  Result<Attributes> attributes = co_await attributes_of(request.inode);
  if (!attributes) co_return attributes.error();
  StatFsReply reply;
  std::tie(reply.total_bytes, reply.free_bytes) = keeper_.space(attributes->goal);
  reply.inodes = core_.machine().counters().inodes;
  reply.inodes_free = kInodesFree;
  co_return reply;
}

// ---------------------------------------------------------------- open files

Task<Result<void>> MetaService::wait_removed(InodeId inode, TimePoint deadline) {
  while (removing_.contains(inode)) {
    Result<void> waited = co_await removed_.wait_until(core_.world().clock(), deadline);
    if (!waited) co_return Error(ErrorCode::kTimeout, "inode " + to_string(inode) + " is being removed");
  }
  co_return Result<void>();
}

Task<Result<AttributesReply>> MetaService::open(OpenRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  // Whoever takes the last name away decides by the list of those who have the file open: not between its look and its
  // end.
  Result<void> removed = co_await wait_removed(request.inode, rpc.deadline);
  if (!removed) co_return removed.error();
  open_files_.open(request.session, request.inode);
  // Otherwise it could find itself among those who have it open just before it is taken off.
  Result<void> closed = co_await wait_closed(request.session, request.inode, rpc.deadline);
  if (!closed) co_return closed.error();
  Result<Seen> seen = co_await written_attributes(request.session, request.inode, rpc.deadline);
  // The one who asked counts it as open until it says otherwise: it may have asked again meanwhile, and that one is the
  // same entry of the list.
  if (!seen) co_return seen.error();
  if (seen->attributes.nlink == 0) {
    // Its last name went while this was on its way: it lives as long as those have it open who had it then.
    auto ask = [inode = request.inode](Machine& machine, ReadMode mode) { return machine.orphan_holders(inode, mode); };
    Result<std::vector<SessionId>> holders = co_await core_.read(ask);
    if (!holders) co_return holders.error();
    if (std::ranges::find(*holders, request.session) == holders->end())
      co_return Error(ErrorCode::kStale, "inode " + to_string(request.inode) + " has been removed");
  }
  AttributesReply reply;
  reply.attributes = seen->attributes;
  reply.lease = share(request.session, seen->attributes, seen->mark, sessions_.may_hold(request.session));
  co_return reply;
}

Task<Result<void>> MetaService::wait_closed(SessionId session, InodeId inode, TimePoint deadline) {
  while (closing_.contains({session, inode})) {
    Result<void> waited = co_await removed_.wait_until(core_.world().clock(), deadline);
    if (!waited) co_return Error(ErrorCode::kTimeout, "inode " + to_string(inode) + " is being closed");
  }
  co_return Result<void>();
}

Task<Result<EmptyReply>> MetaService::close(CloseRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  // What the session has open is known when it has said so to this leader.
  Result<void> reclaimed = co_await sessions_.wait_reclaimed(rpc.deadline);
  if (!reclaimed) co_return reclaimed.error();
  able = ready(request.session, rpc);
  if (!able) co_return able.error();
  // All at once: who opens one of them again while this waits has it open.
  for (InodeId inode : request.inodes)
    open_files_.close(request.session, inode);
  CloseInodes command{.session = request.session, .inodes = {}};
  for (InodeId inode : request.inodes) {
    // Whoever takes its last name away has looked already who has it open.
    Result<void> removed = co_await wait_removed(inode, rpc.deadline);
    if (!removed) co_return removed.error();
    auto ask = [inode](Machine& machine, ReadMode mode) { return machine.orphan_holders(inode, mode); };
    Result<std::vector<SessionId>> holders = co_await core_.read(ask);
    // The master that leads by now has to hear it.
    if (holders.failed_with(ErrorCode::kNotLeader) || holders.failed_with(ErrorCode::kUnavailable))
      co_return holders.error();
    if (holders && std::ranges::find(*holders, request.session) != holders->end()) command.inodes.push_back(inode);
  }
  Result<void> released = co_await release_orphans(std::move(command));
  if (!released) co_return released.error();
  co_return EmptyReply{};
}

// Those that have not been opened again meanwhile.
Task<Result<void>> MetaService::release_orphans(CloseInodes command) {
  SessionId session = command.session;
  std::erase_if(command.inodes, [&](InodeId inode) { return open_files_.has(session, inode); });
  if (command.inodes.empty()) co_return Result<void>();
  std::vector<InodeId> inodes = command.inodes;
  for (InodeId inode : inodes)
    closing_.emplace(session, inode);
  Result<ReplyBody> released = co_await core_.propose(std::move(command), true);
  for (InodeId inode : inodes)
    closing_.erase(closing_.find({session, inode}));
  removed_.notify_all();
  if (!released) co_return released.error();
  co_return Result<void>();
}

// ---------------------------------------------------------------- writing

Task<Result<GetLayoutReply>> MetaService::get_layout(GetLayoutRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  uint32_t count = std::max<uint32_t>(request.count, 1);
  auto ask = [inode = request.inode, first = request.first_index, count](Machine& machine, ReadMode mode) {
    return machine.layout(inode, first, count, mode, kLayoutChunksMax);
  };
  Result<Seen> seen = co_await written_attributes(request.session, request.inode, rpc.deadline);
  if (!seen) co_return seen.error();
  Result<std::vector<FileChunk>> chunks = co_await core_.read(ask);
  if (!chunks) co_return chunks.error();
  GetLayoutReply reply;
  reply.attributes = seen->attributes;
  for (FileChunk& chunk : *chunks) {
    Result<ChunkLocation> location = co_await keeper_.location(std::move(chunk), request.session);
    if (!location) co_return location.error();
    reply.chunks.push_back(std::move(*location));
  }
  reply.lease = share(request.session, seen->attributes, seen->mark, sessions_.may_hold(request.session));
  co_return reply;
}

Task<Result<Lease>> MetaService::acquire_write_lease(SessionId session, InodeId inode, TimePoint deadline) {
  if (Lease held = leases_.exclusive_of(session, inode); held.duration_ms != 0) co_return held;
  // It has been asked to give it back: then it is asking for the one after that.
  Result<void> answered = co_await recalls_.wait_own(session, inode, deadline);
  if (!answered) co_return answered.error();
  Prepared prepared;
  Result<void> locked = co_await lock_inodes({inode}, prepared, deadline);
  if (!locked) co_return locked.error();
  Result<void> able = ready(session);
  if (!able) co_return able.error();
  // Another request of this session may have come first.
  if (Lease held = leases_.exclusive_of(session, inode); held.duration_ms != 0) co_return held;
  prepared.change = recalls_.begin(session, {{.inode = inode, .kind = RecallKind::kWriter, .name = {}}});
  Result<void> asked = co_await recalls_.ask_all(prepared.change.id(), deadline);
  if (!asked) co_return asked.error();
  // What the holder before has changed as such is applied, too.
  do {
    Result<void> alone = co_await recalls_.wait_alone(prepared.change.id(), inode, deadline);
    if (!alone) co_return alone.error();
    answered = co_await recalls_.wait_own(session, inode, deadline);
    if (!answered) co_return answered.error();
  } while (!leases_.alone(prepared.change.id(), inode));
  able = ready(session);
  if (!able) co_return able.error();
  Lease lease = leases_.make_exclusive(prepared.change.id(), session, inode);
  if (lease.duration_ms == 0) co_return Error(ErrorCode::kOverload, "this session holds too many files for writing");
  unheld_.taken(inode);
  co_return lease;
}

Task<Result<WriteLeaseReply>> MetaService::write_lease(WriteLeaseRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  // It does not ask for more than it has: that is the lease, or, while it is asked to give back all it has, its turn.
  // (Whether that was an exclusive lease it may not know: the recall can overtake the grant.)
  bool holds = leases_.writer(request.inode) == request.session;
  bool turn = request.renew && (!holds || leases_.asked_for_all(request.session, request.inode));
  Result<Lease> lease = Lease{};
  if (turn) {
    Result<void> its_turn = co_await recalls_.wait_turn(request.session, request.inode, rpc.deadline);
    if (!its_turn) co_return its_turn.error();
    unheld_.taken(request.inode);
  } else {
    lease = co_await acquire_write_lease(request.session, request.inode, rpc.deadline);
  }
  if (!lease) co_return lease.error();
  WriteLeaseReply reply;
  reply.lease = *lease;
  // Nobody writes before what a dead writer left behind is the same on all replicas.
  Result<void> recovered = co_await keeper_.wait_recovered(request.inode, rpc.deadline);
  if (!recovered) co_return recovered.error();
  Result<Attributes> attributes = co_await attributes_of(request.inode);
  if (!attributes) {
    if (leases_.lower(request.session, request.inode, false)) recalls_.lowered();
    co_return attributes.error();
  }
  reply.attributes = *attributes;
  // Said at the moment of the answer: whoever comes later finds this lease, and recalls it.
  reply.locked_elsewhere = locks_.locked_elsewhere(request.inode, request.session);
  co_return reply;
}

Task<Result<LeaseNumberReply>> MetaService::release_write_lease(ReleaseWriteLeaseRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  if (leases_.lower(request.session, request.inode, request.keep_shared)) recalls_.lowered();
  co_return recalls_.number();
}

Task<Result<OpenChunkReply>> MetaService::open_chunk(OpenChunkRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  Result<OpenChunkReply> reply = co_await keeper_.open_for_writing(request.session, request.inode, request.index);
  co_return reply;
}

Task<Result<OpenChunkReply>> MetaService::replica_failed(ReplicaFailedRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  Result<OpenChunkReply> reply = co_await keeper_.replica_failed(std::move(request));
  co_return reply;
}

Task<Result<ChunkGrant>> MetaService::renew_grant(RenewGrantRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  Result<ChunkGrant> grant = co_await keeper_.renew_grant(request.session, request.chunk);
  co_return grant;
}

Task<Result<EmptyReply>> MetaService::report_bad_replica(ReportBadReplicaRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session, rpc);
  if (!able) co_return able.error();
  keeper_.report_bad(std::move(request));
  co_return EmptyReply{};
}

}  // namespace cairn
