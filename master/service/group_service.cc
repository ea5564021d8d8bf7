#include "master/service/group_service.h"

#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/proto/codec.h"
#include "master/consensus/master_folder.h"
#include "master/service/raft_peers.h"

namespace cairn {

namespace {
constexpr Duration kInviteTimeout = std::chrono::seconds(5);
constexpr Duration kInviteAgain = std::chrono::milliseconds(200);
constexpr Duration kChangeMax = std::chrono::minutes(10);

MasterRole role_of(GroupRole role) {
  switch (role) {
    case GroupRole::kVoter:
      return MasterRole::kVoter;
    case GroupRole::kStandby:
      return MasterRole::kStandby;
    case GroupRole::kSpare:
      break;
  }
  return MasterRole::kSpare;
}

Task<Result<RpcMessage>> waiting_status(std::string address, std::string program) {
  MasterStatusReply reply;
  reply.address = std::move(address);
  reply.program = std::move(program);
  reply.joining = true;
  co_return RpcMessage{.message = encode(reply), .payload = {}};
}

Task<Result<RpcMessage>> refuse_waiting() {
  co_return Error(ErrorCode::kNotLeader, "this master waits to be added to a group");
}

template <class... Requests>
void refuse(RpcServer& server) {
  (server.handle(
       Method<Requests>::kId, std::string(Method<Requests>::kName), [](RpcRequest) { return refuse_waiting(); },
       Method<Requests>::kCallers),
   ...);
}
}  // namespace

GroupService::GroupService(MasterCore& core, ClusterId cluster, std::string address, std::string program)
    : core_(core),
      cluster_(cluster),
      address_(std::move(address)),
      program_(std::move(program)),
      tasks_(core.world().executor(), core.world().clock()) {}

void GroupService::add_handlers(RpcServer& server) {
  add_handler<MasterStatusRequest>(server, this, &GroupService::master_status);
  add_handler<AddMasterRequest>(server, this, &GroupService::add_master);
  add_handler<RemoveMasterRequest>(server, this, &GroupService::remove_master);
  add_handler<TransferLeadershipRequest>(server, this, &GroupService::transfer_leadership);
  server.handle(
      kJoinGroupMethod, "join_group", [this](RpcRequest request) { return join_group(std::move(request)); },
      Callers::kMasters);
}

Task<void> GroupService::stop() {
  co_await tasks_.stop();
}

TimePoint GroupService::bounded(TimePoint deadline) const {
  return std::min(deadline, core_.world().clock().now() + kChangeMax);
}

Task<Result<MasterStatusReply>> GroupService::master_status(MasterStatusRequest, RpcRequest) {
  LogStatus log = core_.log().status();
  MasterStatusReply reply;
  reply.cluster = cluster_;
  reply.master = log.master;
  reply.address = address_;
  reply.program = program_;
  reply.leading = core_.leading();
  reply.joining = !log.member;
  reply.term = log.term;
  reply.leader = log.leader;
  reply.leader_address = log.leader_address;
  reply.last = log.last;
  reply.committed = log.committed;
  reply.applied = log.applied;
  reply.first = log.first;
  reply.checkpoint = log.checkpoint;
  reply.log_bytes = log.log_bytes;
  reply.disk_low = log.disk_low;
  for (const GroupMember& member : core_.log().members()) {
    reply.members.push_back({.master = member.master,
                             .address = member.address,
                             .role = role_of(member.role),
                             .match_index = member.match,
                             .silent_ms = log.leading ? member.silent_ms : 0});
  }
  co_return reply;
}

Task<Result<MasterId>> GroupService::invite(std::string address, std::string& advertised, TimePoint deadline) {
  Result<Address> parsed = parse_address(address);
  if (!parsed) co_return parsed.error();
  RpcClientOptions options;
  options.hello.program = program_;  // of no cluster: who waits belongs to none
  RpcClient client(core_.world(), *parsed, options);
  deadline = std::min(deadline, core_.world().clock().now() + kInviteTimeout);
  Result<RpcMessage> answered = ErrorCode::kUnavailable;
  do {
    RpcMessage request{.message = encode_join_request({.cluster = cluster_}), .payload = {}};
    answered = co_await client.call(kJoinGroupMethod, std::move(request), {.deadline = deadline});
    if (!answered.failed_with(ErrorCode::kUnavailable)) break;
    // It may be opening its folder for the group, or be starting.
    Result<void> slept = co_await tasks_.sleep_for(kInviteAgain);
    if (!slept) break;
  } while (core_.world().clock().now() < deadline);
  co_await client.stop();
  // Not the error's own code: who asks would take it for the leader's trouble, and ask for hours.
  if (answered.failed_with(ErrorCode::kUnavailable) || answered.failed_with(ErrorCode::kTimeout))
    co_return Error(ErrorCode::kNotFound, "no master answers at " + address + ": " + answered.error().message());
  if (!answered) co_return answered.error().in("asking the master at " + address + " to join");
  Result<JoinAnswer> answer = decode_join_answer(answered->message);
  if (!answer) co_return answer.error();
  if (answer->cluster != cluster_)
    co_return Error(ErrorCode::kWrongCluster, "the master at " + address + " belongs to cluster " +
                                                  to_string(answer->cluster) + ", this is " + to_string(cluster_));
  advertised = answer->address;
  co_return answer->master;
}

// Others reach this master where the group says it is: a master that was alone may have moved since.
Result<void> GroupService::check_own_address() const {
  std::vector<GroupMember> members = core_.log().members();
  auto self = std::ranges::find(members, core_.log().status().master, &GroupMember::master);
  if (self == members.end()) return {};
  Result<Address> known = parse_address(self->address);
  Result<Address> used = parse_address(address_);
  if (known && used && *known == *used) return {};
  return Error(ErrorCode::kInvalid, "the group knows this master at " + self->address + ", and it is now at " +
                                        address_ + ", where others would not find it: set its master.advertise to " +
                                        "the old address, or move it with cairn metadata export and import");
}

Task<Result<AddMasterReply>> GroupService::add_master(AddMasterRequest request, RpcRequest rpc) {
  if (!core_.leading()) co_return core_.not_leader();
  Result<void> reachable = check_own_address();
  if (!reachable) co_return reachable.error();
  TimePoint deadline = bounded(rpc.deadline);
  std::string advertised;
  Result<MasterId> master = co_await invite(request.address, advertised, deadline);
  if (!master) co_return master.error();
  log_info("master.adding", "master={} address={}", *master, advertised);
  Result<void> added = co_await core_.log().add_member(*master, advertised, deadline);
  if (!added) co_return added.error();
  log_info("master.added", "master={} address={}", *master, advertised);
  co_return AddMasterReply{.master = *master};
}

// Of a master that belongs to the cluster already: adding it again goes on where it stopped.
Task<Result<RpcMessage>> GroupService::join_group(RpcRequest request) {
  Result<JoinRequest> wanted = decode_join_request(request.message);
  if (!wanted) co_return wanted.error();
  LogStatus log = core_.log().status();
  RpcMessage answer;
  answer.message = encode_join_answer({.cluster = cluster_, .master = log.master, .address = address_});
  co_return answer;
}

Task<Result<EmptyReply>> GroupService::remove_master(RemoveMasterRequest request, RpcRequest rpc) {
  if (!core_.leading()) co_return core_.not_leader();
  Result<void> removed = co_await core_.log().remove_member(request.master, bounded(rpc.deadline));
  if (!removed) co_return removed.error();
  co_return EmptyReply{};
}

Task<Result<TransferLeadershipReply>> GroupService::transfer_leadership(TransferLeadershipRequest request,
                                                                        RpcRequest rpc) {
  if (!core_.leading()) co_return core_.not_leader();
  TimePoint deadline = bounded(rpc.deadline);
  Result<void> handed = co_await core_.log().transfer_leadership(request.to, deadline);
  if (!handed) co_return handed.error();
  // Who has taken over is heard a moment later.
  while (!core_.log().status().leader && core_.world().clock().now() < deadline) {
    Result<void> slept = co_await tasks_.sleep_for(std::chrono::milliseconds(20));
    if (!slept) break;
  }
  co_return TransferLeadershipReply{.leader = core_.log().status().leader};
}

void add_waiting_handlers(RpcServer& server, std::function<std::string()> address, std::string program) {
  server.handle(Method<MasterStatusRequest>::kId, std::string(Method<MasterStatusRequest>::kName),
                [address = std::move(address), program = std::move(program)](RpcRequest) {
                  return waiting_status(address(), program);
                });
  // Who has this one's address among others looks for the leader there.
  refuse<OpenSessionRequest, RenewSessionRequest, CloseSessionRequest, MutateRequest, LookupRequest,
         GetAttributesRequest, OpenRequest, CloseRequest, ReadDirectoryRequest, ReadLinkRequest, GetXattrRequest,
         ListXattrRequest, StatFsRequest, GetLayoutRequest, WriteLeaseRequest, ReleaseWriteLeaseRequest,
         OpenChunkRequest, ReplicaFailedRequest, RenewGrantRequest, ReportBadReplicaRequest, RefreshRequest,
         RegisterServerRequest, HeartbeatRequest, ChunkReportRequest, StatusRequest, InfoRequest, RemoveServerRequest,
         AddMasterRequest, RemoveMasterRequest, TransferLeadershipRequest, ExportRequest, RestoreStatusRequest,
         AcceptRestoreRequest>(server);
}

}  // namespace cairn
