#include "common/proto/admin.capnp.h"
#include "common/proto/codec_wire.h"
#include "common/proto/control.capnp.h"

namespace cairn {

static void write(wire::SpaceReport::Builder out, const SpaceReport& in) {
  out.setTotalBytes(in.total_bytes);
  out.setFreeBytes(in.free_bytes);
  out.setChunks(in.chunks);
  out.setStores(in.stores);
  out.setStoresFailed(in.stores_failed);
}

static void read(wire::SpaceReport::Reader in, SpaceReport& out) {
  read(in.getTotalBytes(), out.total_bytes);
  read(in.getFreeBytes(), out.free_bytes);
  read(in.getChunks(), out.chunks);
  read(in.getStores(), out.stores);
  read(in.getStoresFailed(), out.stores_failed);
}

static void write(wire::CapabilityKey::Builder out, const CapabilityKey& in) {
  out.setId(in.id);
  out.setKey(wire_of(in.key));
}

static void read(wire::CapabilityKey::Reader in, CapabilityKey& out) {
  read(in.getId(), out.id);
  read(in.getKey(), out.key);
}

static void write(wire::RegisterServerRequest::Builder out, const RegisterServerRequest& in) {
  out.setServer(wire_of(in.server));
  out.setCluster(wire_of(in.cluster));
  out.setAddress(wire_of(in.address));
  out.setDomain(wire_of(in.domain));
  out.setProgram(wire_of(in.program));
  out.setIncarnation(in.incarnation);
  out.setBootId(wire_of(in.boot_id));
  write(out.initSpace(), in.space);
}

static void read(wire::RegisterServerRequest::Reader in, RegisterServerRequest& out) {
  read(in.getServer(), out.server);
  read(in.getCluster(), out.cluster);
  read(in.getAddress(), out.address);
  read(in.getDomain(), out.domain);
  read(in.getProgram(), out.program);
  read(in.getIncarnation(), out.incarnation);
  read(in.getBootId(), out.boot_id);
  read(in.getSpace(), out.space);
}

static void write(wire::RegisterServerReply::Builder out, const RegisterServerReply& in) {
  out.setCluster(wire_of(in.cluster));
  out.setTerm(in.term);
  out.setLogTimeMs(in.log_time_ms);
  write(out.initKeys(count(in.keys)), in.keys);
  out.setHeartbeatMs(in.heartbeat_ms);
}

static void read(wire::RegisterServerReply::Reader in, RegisterServerReply& out) {
  read(in.getCluster(), out.cluster);
  read(in.getTerm(), out.term);
  read(in.getLogTimeMs(), out.log_time_ms);
  read(in.getKeys(), out.keys);
  read(in.getHeartbeatMs(), out.heartbeat_ms);
}

static void write(wire::HeartbeatRequest::Builder out, const HeartbeatRequest& in) {
  out.setServer(wire_of(in.server));
  out.setIncarnation(in.incarnation);
  write(out.initSpace(), in.space);
  write(out.initBadChunks(count(in.bad_chunks)), in.bad_chunks);
}

static void read(wire::HeartbeatRequest::Reader in, HeartbeatRequest& out) {
  read(in.getServer(), out.server);
  read(in.getIncarnation(), out.incarnation);
  read(in.getSpace(), out.space);
  read(in.getBadChunks(), out.bad_chunks);
}

static void write(wire::HeartbeatReply::Builder out, const HeartbeatReply& in) {
  out.setTerm(in.term);
  out.setLogTimeMs(in.log_time_ms);
  write(out.initKeys(count(in.keys)), in.keys);
  out.setRegisterAgain(in.register_again);
}

static void read(wire::HeartbeatReply::Reader in, HeartbeatReply& out) {
  read(in.getTerm(), out.term);
  read(in.getLogTimeMs(), out.log_time_ms);
  read(in.getKeys(), out.keys);
  read(in.getRegisterAgain(), out.register_again);
}

static void write(wire::ChunkReportRequest::Builder out, const ChunkReportRequest& in) {
  out.setServer(wire_of(in.server));
  out.setIncarnation(in.incarnation);
  out.setFirst(in.first);
  out.setLast(in.last);
  write(out.initChunks(count(in.chunks)), in.chunks);
}

static void read(wire::ChunkReportRequest::Reader in, ChunkReportRequest& out) {
  read(in.getServer(), out.server);
  read(in.getIncarnation(), out.incarnation);
  read(in.getFirst(), out.first);
  read(in.getLast(), out.last);
  read(in.getChunks(), out.chunks);
}

static void write(wire::StatusRequest::Builder, const StatusRequest&) {}

static void read(wire::StatusRequest::Reader, StatusRequest&) {}

static void write(wire::ServerStatus::Builder out, const ServerStatus& in) {
  out.setServer(wire_of(in.server));
  out.setAddress(wire_of(in.address));
  out.setDomain(wire_of(in.domain));
  out.setProgram(wire_of(in.program));
  out.setAlive(in.alive);
  out.setSilentMs(in.silent_ms);
  write(out.initSpace(), in.space);
}

static void read(wire::ServerStatus::Reader in, ServerStatus& out) {
  read(in.getServer(), out.server);
  read(in.getAddress(), out.address);
  read(in.getDomain(), out.domain);
  read(in.getProgram(), out.program);
  read(in.getAlive(), out.alive);
  read(in.getSilentMs(), out.silent_ms);
  read(in.getSpace(), out.space);
}

static void write(wire::SessionStatus::Builder out, const SessionStatus& in) {
  out.setSession(wire_of(in.session));
  out.setHost(wire_of(in.host));
  out.setMountpoint(wire_of(in.mountpoint));
  out.setProgram(wire_of(in.program));
  out.setIdleMs(in.idle_ms);
  out.setOpenFiles(in.open_files);
  out.setSharedLeases(in.shared_leases);
  out.setExclusiveLeases(in.exclusive_leases);
  out.setUnansweredRecalls(in.unanswered_recalls);
}

static void read(wire::SessionStatus::Reader in, SessionStatus& out) {
  read(in.getSession(), out.session);
  read(in.getHost(), out.host);
  read(in.getMountpoint(), out.mountpoint);
  read(in.getProgram(), out.program);
  read(in.getIdleMs(), out.idle_ms);
  read(in.getOpenFiles(), out.open_files);
  read(in.getSharedLeases(), out.shared_leases);
  read(in.getExclusiveLeases(), out.exclusive_leases);
  read(in.getUnansweredRecalls(), out.unanswered_recalls);
}

static void write(wire::ChunkHealth::Builder out, const ChunkHealth& in) {
  out.setTotal(in.total);
  out.setHealthy(in.healthy);
  out.setUnderGoal(in.under_goal);
  out.setAtRisk(in.at_risk);
  out.setLost(in.lost);
  out.setOpen(in.open);
  out.setUnverified(in.unverified);
  out.setOverGoal(in.over_goal);
  out.setGarbage(in.garbage);
}

static void read(wire::ChunkHealth::Reader in, ChunkHealth& out) {
  read(in.getTotal(), out.total);
  read(in.getHealthy(), out.healthy);
  read(in.getUnderGoal(), out.under_goal);
  read(in.getAtRisk(), out.at_risk);
  read(in.getLost(), out.lost);
  read(in.getOpen(), out.open);
  read(in.getUnverified(), out.unverified);
  read(in.getOverGoal(), out.over_goal);
  read(in.getGarbage(), out.garbage);
}

static void write(wire::StatusReply::Builder out, const StatusReply& in) {
  out.setCluster(wire_of(in.cluster));
  out.setProgram(wire_of(in.program));
  out.setTerm(in.term);
  out.setLogTimeMs(in.log_time_ms);
  out.setInodes(in.inodes);
  out.setAppliedIndex(in.applied_index);
  out.setDefaultGoal(in.default_goal);
  write(out.initHealth(), in.health);
  write(out.initServers(count(in.servers)), in.servers);
  write(out.initSessions(count(in.sessions)), in.sessions);
  write(out.initWarnings(count(in.warnings)), in.warnings);
}

static void read(wire::StatusReply::Reader in, StatusReply& out) {
  read(in.getCluster(), out.cluster);
  read(in.getProgram(), out.program);
  read(in.getTerm(), out.term);
  read(in.getLogTimeMs(), out.log_time_ms);
  read(in.getInodes(), out.inodes);
  read(in.getAppliedIndex(), out.applied_index);
  read(in.getDefaultGoal(), out.default_goal);
  read(in.getHealth(), out.health);
  read(in.getServers(), out.servers);
  read(in.getSessions(), out.sessions);
  read(in.getWarnings(), out.warnings);
}

static void write(wire::RemoveServerRequest::Builder out, const RemoveServerRequest& in) {
  out.setServer(wire_of(in.server));
  out.setForce(in.force);
}

static void read(wire::RemoveServerRequest::Reader in, RemoveServerRequest& out) {
  read(in.getServer(), out.server);
  read(in.getForce(), out.force);
}

static void write(wire::RemoveServerReply::Builder out, const RemoveServerReply& in) {
  out.setChunks(in.chunks);
  out.setLost(in.lost);
  write(out.initLostInodes(count(in.lost_inodes)), in.lost_inodes);
}

static void read(wire::RemoveServerReply::Reader in, RemoveServerReply& out) {
  read(in.getChunks(), out.chunks);
  read(in.getLost(), out.lost);
  read(in.getLostInodes(), out.lost_inodes);
}

static void write(wire::InfoRequest::Builder out, const InfoRequest& in) {
  out.setInode(wire_of(in.inode));
  out.setFirstIndex(in.first_index);
  out.setCount(in.count);
}

static void read(wire::InfoRequest::Reader in, InfoRequest& out) {
  read(in.getInode(), out.inode);
  read(in.getFirstIndex(), out.first_index);
  read(in.getCount(), out.count);
}

static void write(wire::ReplicaInfo::Builder out, const ReplicaInfo& in) {
  out.setServer(wire_of(in.server));
  out.setAddress(wire_of(in.address));
  out.setAlive(in.alive);
  out.setState(wire_of(in.state));
}

static void read(wire::ReplicaInfo::Reader in, ReplicaInfo& out) {
  read(in.getServer(), out.server);
  read(in.getAddress(), out.address);
  read(in.getAlive(), out.alive);
  read(in.getState(), out.state);
}

static void write(wire::ChunkInfo::Builder out, const ChunkInfo& in) {
  out.setIndex(in.index);
  out.setChunk(wire_of(in.chunk));
  out.setVersion(in.version);
  out.setState(wire_of(in.state));
  out.setLength(in.length);
  write(out.initReplicas(count(in.replicas)), in.replicas);
}

static void read(wire::ChunkInfo::Reader in, ChunkInfo& out) {
  read(in.getIndex(), out.index);
  read(in.getChunk(), out.chunk);
  read(in.getVersion(), out.version);
  read(in.getState(), out.state);
  read(in.getLength(), out.length);
  read(in.getReplicas(), out.replicas, kMaxReplicaItems);
}

static void write(wire::InfoReply::Builder out, const InfoReply& in) {
  write(out.initAttributes(), in.attributes);
  write(out.initChunks(count(in.chunks)), in.chunks);
  out.setChunksTotal(in.chunks_total);
}

static void read(wire::InfoReply::Reader in, InfoReply& out) {
  read(in.getAttributes(), out.attributes);
  read(in.getChunks(), out.chunks);
  read(in.getChunksTotal(), out.chunks_total);
}

static void read(wire::MasterRole in, MasterRole& out) {
  if (in < wire::MasterRole::VOTER || in > wire::MasterRole::SPARE) refuse("a master's role is unknown");
  out = static_cast<MasterRole>(in);
}

static void write(wire::MasterMember::Builder out, const MasterMember& in) {
  out.setMaster(wire_of(in.master));
  out.setAddress(wire_of(in.address));
  out.setRole(static_cast<wire::MasterRole>(in.role));
  out.setMatchIndex(in.match_index);
  out.setSilentMs(in.silent_ms);
}

static void read(wire::MasterMember::Reader in, MasterMember& out) {
  read(in.getMaster(), out.master);
  read(in.getAddress(), out.address);
  read(in.getRole(), out.role);
  read(in.getMatchIndex(), out.match_index);
  read(in.getSilentMs(), out.silent_ms);
}

static void write(wire::MasterStatusRequest::Builder, const MasterStatusRequest&) {}

static void read(wire::MasterStatusRequest::Reader, MasterStatusRequest&) {}

static void write(wire::MasterStatusReply::Builder out, const MasterStatusReply& in) {
  out.setCluster(wire_of(in.cluster));
  out.setMaster(wire_of(in.master));
  out.setAddress(wire_of(in.address));
  out.setProgram(wire_of(in.program));
  out.setLeading(in.leading);
  out.setJoining(in.joining);
  out.setTerm(in.term);
  out.setLeader(wire_of(in.leader));
  out.setLeaderAddress(wire_of(in.leader_address));
  out.setLast(in.last);
  out.setCommitted(in.committed);
  out.setApplied(in.applied);
  out.setFirst(in.first);
  out.setCheckpoint(in.checkpoint);
  out.setLogBytes(in.log_bytes);
  out.setDiskLow(in.disk_low);
  write(out.initMembers(count(in.members)), in.members);
}

static void read(wire::MasterStatusReply::Reader in, MasterStatusReply& out) {
  read(in.getCluster(), out.cluster);
  read(in.getMaster(), out.master);
  read(in.getAddress(), out.address);
  read(in.getProgram(), out.program);
  read(in.getLeading(), out.leading);
  read(in.getJoining(), out.joining);
  read(in.getTerm(), out.term);
  read(in.getLeader(), out.leader);
  read(in.getLeaderAddress(), out.leader_address);
  read(in.getLast(), out.last);
  read(in.getCommitted(), out.committed);
  read(in.getApplied(), out.applied);
  read(in.getFirst(), out.first);
  read(in.getCheckpoint(), out.checkpoint);
  read(in.getLogBytes(), out.log_bytes);
  read(in.getDiskLow(), out.disk_low);
  read(in.getMembers(), out.members, kMaxReplicaItems);
}

static void write(wire::AddMasterRequest::Builder out, const AddMasterRequest& in) {
  out.setAddress(wire_of(in.address));
}

static void read(wire::AddMasterRequest::Reader in, AddMasterRequest& out) {
  read(in.getAddress(), out.address);
}

static void write(wire::AddMasterReply::Builder out, const AddMasterReply& in) {
  out.setMaster(wire_of(in.master));
}

static void read(wire::AddMasterReply::Reader in, AddMasterReply& out) {
  read(in.getMaster(), out.master);
}

static void write(wire::RemoveMasterRequest::Builder out, const RemoveMasterRequest& in) {
  out.setMaster(wire_of(in.master));
}

static void read(wire::RemoveMasterRequest::Reader in, RemoveMasterRequest& out) {
  read(in.getMaster(), out.master);
}

static void write(wire::TransferLeadershipRequest::Builder out, const TransferLeadershipRequest& in) {
  out.setTo(wire_of(in.to));
}

static void read(wire::TransferLeadershipRequest::Reader in, TransferLeadershipRequest& out) {
  read(in.getTo(), out.to);
}

static void write(wire::TransferLeadershipReply::Builder out, const TransferLeadershipReply& in) {
  out.setLeader(wire_of(in.leader));
}

static void read(wire::TransferLeadershipReply::Reader in, TransferLeadershipReply& out) {
  read(in.getLeader(), out.leader);
}

static void write(wire::ExportRequest::Builder out, const ExportRequest& in) {
  out.setExport(in.export_id);
  out.setPart(in.part);
}

static void read(wire::ExportRequest::Reader in, ExportRequest& out) {
  read(in.getExport(), out.export_id);
  read(in.getPart(), out.part);
}

static void write(wire::ExportReply::Builder out, const ExportReply& in) {
  out.setExport(in.export_id);
  out.setLast(in.last);
}

static void read(wire::ExportReply::Reader in, ExportReply& out) {
  read(in.getExport(), out.export_id);
  read(in.getLast(), out.last);
}

static void write(wire::UnknownChunk::Builder out, const UnknownChunk& in) {
  out.setChunk(wire_of(in.chunk));
  out.setInode(wire_of(in.inode));
  out.setIndex(in.index);
  out.setLength(in.length);
  out.setVersion(in.version);
  out.setReplicas(in.replicas);
}

static void read(wire::UnknownChunk::Reader in, UnknownChunk& out) {
  read(in.getChunk(), out.chunk);
  read(in.getInode(), out.inode);
  read(in.getIndex(), out.index);
  read(in.getLength(), out.length);
  read(in.getVersion(), out.version);
  read(in.getReplicas(), out.replicas);
}

static void write(wire::RestoreStatusRequest::Builder out, const RestoreStatusRequest& in) {
  out.setAfter(wire_of(in.after));
  out.setCount(in.count);
}

static void read(wire::RestoreStatusRequest::Reader in, RestoreStatusRequest& out) {
  read(in.getAfter(), out.after);
  read(in.getCount(), out.count);
}

static void write(wire::RestoreStatusReply::Builder out, const RestoreStatusReply& in) {
  out.setRestored(in.restored);
  out.setFromChunkservers(in.from_chunkservers);
  out.setTakenNs(in.taken_ns);
  out.setSettled(in.settled);
  write(out.initWaitingFor(count(in.waiting_for)), in.waiting_for);
  out.setUnknownChunks(in.unknown_chunks);
  out.setUnknownBytes(in.unknown_bytes);
  out.setStaleReplicas(in.stale_replicas);
  out.setLostChunks(in.lost_chunks);
  write(out.initChunks(count(in.chunks)), in.chunks);
  write(out.initLost(count(in.lost)), in.lost);
}

static void read(wire::RestoreStatusReply::Reader in, RestoreStatusReply& out) {
  read(in.getRestored(), out.restored);
  read(in.getFromChunkservers(), out.from_chunkservers);
  read(in.getTakenNs(), out.taken_ns);
  read(in.getSettled(), out.settled);
  read(in.getWaitingFor(), out.waiting_for);
  read(in.getUnknownChunks(), out.unknown_chunks);
  read(in.getUnknownBytes(), out.unknown_bytes);
  read(in.getStaleReplicas(), out.stale_replicas);
  read(in.getLostChunks(), out.lost_chunks);
  read(in.getChunks(), out.chunks);
  read(in.getLost(), out.lost);
}

static void write(wire::AcceptRestoreRequest::Builder, const AcceptRestoreRequest&) {}

static void read(wire::AcceptRestoreRequest::Reader, AcceptRestoreRequest&) {}

CAIRN_CONTROL_MESSAGES(CAIRN_DEFINE_CODEC)
CAIRN_ADMIN_MESSAGES(CAIRN_DEFINE_CODEC)

}  // namespace cairn
