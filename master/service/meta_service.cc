#include "master/service/meta_service.h"

#include <algorithm>
#include <functional>
#include <string_view>
#include <utility>

#include "common/base/log.h"
#include "common/base/units.h"

namespace cairn {

namespace {
constexpr size_t kNameStripes = 1024;  // operations on different names share one rarely
constexpr uint32_t kDirectoryEntriesMax = 2048;
constexpr uint32_t kLayoutChunksMax = 1024;
constexpr uint64_t kInodesFree = uint64_t{1} << 40;  // bounded by the disks of the masters only
}  // namespace

MetaService::MetaService(MasterCore& core, SharedLeases& leases, SessionDesk& sessions, ChunkKeeper& keeper)
    : core_(core),
      leases_(leases),
      sessions_(sessions),
      keeper_(keeper),
      removed_(core.world().executor()),
      lease_free_(core.world().executor()) {
  for (size_t i = 0; i < kNameStripes; ++i)
    name_stripes_.push_back(std::make_unique<Mutex>(core.world().executor()));
  sessions_.on_ended([this](SessionId) { lease_free_.notify_all(); });
  sessions_.on_stalled([this] { keeper_.excuse_silence(); });
}

void MetaService::add_handlers(RpcServer& server) {
  add_handler<OpenSessionRequest>(server, this, &MetaService::open_session);
  add_handler<RenewSessionRequest>(server, this, &MetaService::renew_session);
  add_handler<CloseSessionRequest>(server, this, &MetaService::close_session);
  add_handler<MutateRequest>(server, this, &MetaService::mutate);
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

Task<Result<RenewSessionReply>> MetaService::renew_session(RenewSessionRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  Result<RenewSessionReply> reply = co_await sessions_.renew(std::move(request));
  co_return reply;
}

Task<Result<EmptyReply>> MetaService::close_session(CloseSessionRequest request, RpcRequest) {
  Result<EmptyReply> reply = co_await sessions_.close(request);
  co_return reply;
}

Result<void> MetaService::ready(SessionId session) const {
  if (!core_.leading()) return core_.not_leader();
  return sessions_.check(session);
}

Lease MetaService::share(SessionId session, const Attributes& attributes) {
  return leases_.share(session, attributes.inode, sessions_.now_ms());
}

Task<Result<Attributes>> MetaService::attributes_of(InodeId inode) {
  auto ask = [inode](Machine& machine, ReadMode mode) { return machine.get_attributes(inode, mode); };
  Result<Attributes> attributes = co_await core_.read(ask);
  co_return attributes;
}

// ---------------------------------------------------------------- reads

Task<Result<EntryReply>> MetaService::lookup(LookupRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  if (request.name.size() > kMaxNameBytes) co_return Error(ErrorCode::kNameTooLong);
  auto ask = [parent = request.parent, name = request.name](Machine& machine, ReadMode mode) {
    return machine.lookup(parent, name, mode);
  };
  Result<EntryReply> reply = co_await core_.read(std::move(ask));
  if (!reply) co_return reply;
  // The lease of a name that is not there is the directory's.
  reply->parent_lease = share(request.session, reply->parent);
  reply->lease = reply->attributes.inode ? share(request.session, reply->attributes) : reply->parent_lease;
  co_return reply;
}

Task<Result<AttributesReply>> MetaService::get_attributes(GetAttributesRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  Result<Attributes> attributes = co_await attributes_of(request.inode);
  if (!attributes) co_return attributes.error();
  AttributesReply reply;
  reply.attributes = *attributes;
  reply.lease = share(request.session, *attributes);
  co_return reply;
}

Task<Result<RefreshReply>> MetaService::refresh(RefreshRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  RefreshReply reply;
  for (InodeId inode : request.inodes) {
    Result<Attributes> attributes = co_await attributes_of(inode);
    reply.attributes.push_back(attributes ? *attributes : Attributes{});
    if (attributes) reply.lease = share(request.session, *attributes);
  }
  co_return reply;
}

Task<Result<ReadDirectoryReply>> MetaService::read_directory(ReadDirectoryRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  uint32_t count = std::clamp<uint32_t>(request.count_max, 1, kDirectoryEntriesMax);
  auto ask = [request, count](Machine& machine, ReadMode mode) {
    return machine.read_directory(request.directory, request.cookie, count, request.plus, mode);
  };
  Result<ReadDirectoryReply> reply = co_await core_.read(std::move(ask));
  if (!reply) co_return reply;
  reply->lease = share(request.session, reply->directory);
  for (const DirectoryEntry& entry : reply->entries) {
    if (!entry.attributes) continue;
    Lease lease = share(request.session, *entry.attributes);
    // One lease for the whole page: the shortest.
    reply->lease.duration_ms = std::min(reply->lease.duration_ms, lease.duration_ms);
  }
  co_return reply;
}

Task<Result<ReadLinkReply>> MetaService::read_link(ReadLinkRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  auto ask = [inode = request.inode](Machine& machine, ReadMode mode) { return machine.read_link(inode, mode); };
  Result<std::string> target = co_await core_.read(ask);
  if (!target) co_return target.error();
  co_return ReadLinkReply{.target = std::move(*target)};
}

Task<Result<GetXattrReply>> MetaService::get_xattr(GetXattrRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  auto ask = [inode = request.inode, name = request.name](Machine& machine, ReadMode mode) {
    return machine.get_xattr(inode, name, mode);
  };
  Result<std::string> value = co_await core_.read(std::move(ask));
  if (!value) co_return value.error();
  co_return GetXattrReply{.value = std::move(*value)};
}

Task<Result<ListXattrReply>> MetaService::list_xattr(ListXattrRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  auto ask = [inode = request.inode](Machine& machine, ReadMode mode) { return machine.list_xattr(inode, mode); };
  Result<std::vector<std::string>> names = co_await core_.read(ask);
  if (!names) co_return names.error();
  co_return ListXattrReply{.names = std::move(*names)};
}

Task<Result<StatFsReply>> MetaService::stat_fs(StatFsRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
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

Task<Result<AttributesReply>> MetaService::open(OpenRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  // Whoever takes the last name away decides by the list of those who have the file open: not between its look and its
  // end.
  while (removing_.contains(request.inode)) {
    Result<void> waited = co_await removed_.wait_until(core_.world().clock(), rpc.deadline);
    if (!waited) co_return Error(ErrorCode::kTimeout, "inode " + to_string(request.inode) + " is being removed");
  }
  leases_.open(request.session, request.inode);
  Result<Attributes> attributes = co_await attributes_of(request.inode);
  if (!attributes) {
    leases_.close(request.session, request.inode);
    co_return attributes.error();
  }
  AttributesReply reply;
  reply.attributes = *attributes;
  reply.lease = share(request.session, *attributes);
  co_return reply;
}

Task<Result<EmptyReply>> MetaService::close(CloseRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  CloseInodes command{.session = request.session, .inodes = {}};
  // All at once: who opens one of them again while this waits has it open.
  for (InodeId inode : request.inodes)
    leases_.close(request.session, inode);
  for (InodeId inode : request.inodes) {
    auto ask = [inode](Machine& machine, ReadMode mode) { return machine.orphan_holders(inode, mode); };
    Result<std::vector<SessionId>> holders = co_await core_.read(ask);
    // The master that leads by now has to hear it.
    if (holders.failed_with(ErrorCode::kNotLeader) || holders.failed_with(ErrorCode::kUnavailable))
      co_return holders.error();
    if (holders && std::ranges::find(*holders, request.session) != holders->end()) command.inodes.push_back(inode);
  }
  if (!command.inodes.empty()) {
    Result<ReplyBody> released = co_await core_.propose(std::move(command), true);
    if (!released) co_return released.error();
  }
  co_return EmptyReply{};
}

// ---------------------------------------------------------------- writing

Task<Result<GetLayoutReply>> MetaService::get_layout(GetLayoutRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  uint32_t count = std::clamp<uint32_t>(request.count, 1, kLayoutChunksMax);
  auto ask = [inode = request.inode, first = request.first_index, count](Machine& machine, ReadMode mode) {
    return machine.layout(inode, first, count, mode);
  };
  Result<Attributes> attributes = co_await attributes_of(request.inode);
  if (!attributes) co_return attributes.error();
  Result<std::vector<FileChunk>> chunks = co_await core_.read(ask);
  if (!chunks) co_return chunks.error();
  GetLayoutReply reply;
  reply.attributes = *attributes;
  reply.lease = share(request.session, *attributes);
  for (FileChunk& chunk : *chunks) {
    Result<ChunkLocation> location = co_await keeper_.location(std::move(chunk), request.session);
    if (!location) co_return location.error();
    reply.chunks.push_back(std::move(*location));
  }
  co_return reply;
}

Task<Result<Lease>> MetaService::acquire_write_lease(SessionId session, InodeId inode, TimePoint deadline) {
  for (;;) {
    SharedLeases::Acquired acquired = leases_.acquire(session, inode, sessions_.now_ms());
    if (acquired.lease) co_return *acquired.lease;
    TimePoint again{std::chrono::milliseconds(acquired.try_again_ms)};
    Result<void> freed = co_await lease_free_.wait_until(core_.world().clock(), std::min(again, deadline));
    if (core_.world().clock().now() >= deadline) {
      leases_.forget_waiter(session, inode);
      co_return Error(ErrorCode::kTimeout,
                      "the write lease of inode " + to_string(inode) + " is held by another session");
    }
    Result<void> able = ready(session);
    if (!able) co_return able.error();
    if (!freed) continue;
  }
}

Task<Result<WriteLeaseReply>> MetaService::write_lease(WriteLeaseRequest request, RpcRequest rpc) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  WriteLeaseReply reply;
  if (request.renew) {
    std::optional<Lease> lease = leases_.renew(request.session, request.inode, sessions_.now_ms());
    if (!lease) co_return Error(ErrorCode::kWait, "another session waits for inode " + to_string(request.inode));
    reply.lease = *lease;
  } else {
    Result<Lease> lease = co_await acquire_write_lease(request.session, request.inode, rpc.deadline);
    if (!lease) co_return lease.error();
    reply.lease = *lease;
    // Nobody writes before what a dead writer left behind is the same on all replicas.
    Result<void> recovered = co_await keeper_.wait_recovered(request.inode, rpc.deadline);
    if (!recovered) co_return recovered.error();
  }
  Result<Attributes> attributes = co_await attributes_of(request.inode);
  if (!attributes) co_return attributes.error();
  reply.attributes = *attributes;
  co_return reply;
}

Task<Result<EmptyReply>> MetaService::release_write_lease(ReleaseWriteLeaseRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  if (leases_.release(request.session, request.inode, sessions_.now_ms())) lease_free_.notify_all();
  co_return EmptyReply{};
}

Task<Result<OpenChunkReply>> MetaService::open_chunk(OpenChunkRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  Result<OpenChunkReply> reply = co_await keeper_.open_for_writing(request.session, request.inode, request.index);
  co_return reply;
}

Task<Result<OpenChunkReply>> MetaService::replica_failed(ReplicaFailedRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  Result<OpenChunkReply> reply = co_await keeper_.replica_failed(std::move(request));
  co_return reply;
}

Task<Result<ChunkGrant>> MetaService::renew_grant(RenewGrantRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  Result<ChunkGrant> grant = co_await keeper_.renew_grant(request.session, request.chunk);
  co_return grant;
}

Task<Result<EmptyReply>> MetaService::report_bad_replica(ReportBadReplicaRequest request, RpcRequest) {
  Result<void> able = ready(request.session);
  if (!able) co_return able.error();
  keeper_.report_bad(std::move(request));
  co_return EmptyReply{};
}

}  // namespace cairn
