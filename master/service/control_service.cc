#include "master/service/control_service.h"

#include <algorithm>
#include <utility>

namespace cairn {

namespace {
constexpr uint32_t kInfoChunksMax = 4096;
}  // namespace

ControlService::ControlService(MasterCore& core, ChunkKeeper& keeper, SessionDesk::Kept kept, SessionDesk& sessions,
                               std::string program)
    : core_(core),
      keeper_(keeper),
      leases_(kept.leases),
      open_files_(kept.open_files),
      recalls_(kept.recalls),
      locks_(kept.locks),
      sessions_(sessions),
      program_(std::move(program)) {}

void ControlService::add_handlers(RpcServer& server) {
  add_handler<RegisterServerRequest>(server, this, &ControlService::register_server);
  add_handler<HeartbeatRequest>(server, this, &ControlService::heartbeat);
  add_handler<ChunkReportRequest>(server, this, &ControlService::chunk_report);
  add_handler<StatusRequest>(server, this, &ControlService::status);
  add_handler<InfoRequest>(server, this, &ControlService::info);
  add_handler<RemoveServerRequest>(server, this, &ControlService::remove_server);
  add_handler<RestoreStatusRequest>(server, this, &ControlService::restore_status);
  add_handler<AcceptRestoreRequest>(server, this, &ControlService::accept_restore);
  add_handler<ListLocksRequest>(server, this, &ControlService::list_locks);
  add_handler<BreakLocksRequest>(server, this, &ControlService::break_locks);
  add_handler<WhyRequest>(server, this, &ControlService::why);
}

Result<void> ControlService::leading() const {
  if (core_.leading()) return {};
  return core_.not_leader();
}

Task<Result<RegisterServerReply>> ControlService::register_server(RegisterServerRequest request, RpcRequest) {
  Result<void> able = leading();
  if (!able) co_return able.error();
  Result<RegisterServerReply> reply = co_await keeper_.register_server(std::move(request));
  co_return reply;
}

Task<Result<HeartbeatReply>> ControlService::heartbeat(HeartbeatRequest request, RpcRequest) {
  Result<void> able = leading();
  if (!able) co_return able.error();
  Result<HeartbeatReply> reply = co_await keeper_.heartbeat(std::move(request));
  co_return reply;
}

Task<Result<EmptyReply>> ControlService::chunk_report(ChunkReportRequest request, RpcRequest) {
  Result<void> able = leading();
  if (!able) co_return able.error();
  Result<EmptyReply> reply = co_await keeper_.chunk_report(std::move(request));
  co_return reply;
}

Task<Result<RemoveServerReply>> ControlService::remove_server(RemoveServerRequest request, RpcRequest) {
  Result<void> able = leading();
  if (!able) co_return able.error();
  Result<RemoveServerReply> reply = co_await keeper_.remove_server(request);
  co_return reply;
}

Task<Result<RestoreStatusReply>> ControlService::restore_status(RestoreStatusRequest request, RpcRequest) {
  Result<void> able = leading();
  if (!able) co_return able.error();
  Result<RestoreStatusReply> reply = co_await keeper_.restore_status(request);
  co_return reply;
}

Task<Result<EmptyReply>> ControlService::accept_restore(AcceptRestoreRequest, RpcRequest) {
  Result<void> able = leading();
  if (!able) co_return able.error();
  Result<EmptyReply> reply = co_await keeper_.accept_restore();
  co_return reply;
}

Task<Result<StatusReply>> ControlService::status(StatusRequest, RpcRequest) {
  Result<void> able = leading();
  if (!able) co_return able.error();
  Machine& machine = core_.machine();
  CounterRecord counters = machine.counters();
  StatusReply reply;
  reply.cluster = core_.cluster();
  reply.program = program_;
  reply.term = core_.term();
  reply.log_time_ms = core_.log_time_ms();
  reply.inodes = counters.inodes;
  reply.applied_index = machine.applied_index();
  reply.default_goal = machine.cluster().default_goal;
  reply.health = keeper_.health();
  reply.servers = keeper_.servers();
  for (const SessionEntry& entry : machine.sessions()) {
    if (entry.session.ended) continue;
    SessionStatus session;
    session.session = entry.id;
    session.host = entry.session.host;
    session.mountpoint = entry.session.mountpoint;
    session.program = entry.session.program;
    session.idle_ms = reply.log_time_ms - std::min(reply.log_time_ms, entry.session.renewed_ms);
    session.open_files = open_files_.count(entry.id);
    session.shared_leases = leases_.shared_of(entry.id);
    session.exclusive_leases = leases_.exclusive_of(entry.id);
    session.unanswered_recalls = leases_.pending_of(entry.id);
    reply.sessions.push_back(std::move(session));
  }
  reply.warnings = keeper_.warnings();
  LogStatus log = core_.log().status();
  if (log.disk_low)
    reply.warnings.push_back("the disk of the master's log is nearly full: only what frees space is accepted");
  co_return reply;
}

Task<Result<InfoReply>> ControlService::info(InfoRequest request, RpcRequest) {
  Result<void> able = leading();
  if (!able) co_return able.error();
  auto ask_attributes = [inode = request.inode](Machine& machine, ReadMode mode) { return machine.inode(inode, mode); };
  Result<InodeRecord> record = co_await core_.read(ask_attributes);
  if (!record) co_return record.error();
  uint32_t count = std::clamp<uint32_t>(request.count, 1, kInfoChunksMax);
  auto ask = [inode = request.inode, first = request.first_index, count](Machine& machine, ReadMode mode) {
    return machine.layout(inode, first, count, mode);
  };
  Result<std::vector<FileChunk>> chunks = co_await core_.read(ask);
  if (!chunks) co_return chunks.error();
  InfoReply reply;
  reply.attributes = record->attributes;
  reply.chunks_total = record->chunk_count;
  for (FileChunk& chunk : *chunks) {
    ChunkInfo info;
    info.index = chunk.index;
    info.chunk = chunk.id;
    info.version = chunk.chunk.version;
    info.state = chunk.chunk.state;
    info.length = chunk.chunk.length;
    Result<std::vector<ReplicaInfo>> replicas = co_await keeper_.replicas(chunk.id, std::move(chunk.chunk));
    if (!replicas) co_return replicas.error();
    info.replicas = std::move(*replicas);
    reply.chunks.push_back(std::move(info));
  }
  co_return reply;
}

}  // namespace cairn
