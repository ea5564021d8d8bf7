#include "common/proto/codec_wire.h"
#include "common/proto/meta.capnp.h"

namespace cairn {

static void write(wire::LookupRequest::Builder out, const LookupRequest& in) {
  out.setSession(wire_of(in.session));
  out.setParent(wire_of(in.parent));
  out.setName(wire_of(in.name));
}

static void read(wire::LookupRequest::Reader in, LookupRequest& out) {
  read(in.getSession(), out.session);
  read(in.getParent(), out.parent);
  read(in.getName(), out.name);
}

static void write(wire::EntryReply::Builder out, const EntryReply& in) {
  if (in.attributes != Attributes()) write(out.initAttributes(), in.attributes);
  if (in.parent != Attributes()) write(out.initParent(), in.parent);
  write(out.initLease(), in.lease);
  out.setSymlinkTarget(wire_of(in.symlink_target));
  if (in.parent_lease != Lease()) write(out.initParentLease(), in.parent_lease);
}

static void read(wire::EntryReply::Reader in, EntryReply& out) {
  read(in.getAttributes(), out.attributes);
  read(in.getParent(), out.parent);
  read(in.getLease(), out.lease);
  read(in.getSymlinkTarget(), out.symlink_target);
  read(in.getParentLease(), out.parent_lease);
}

static void write(wire::GetAttributesRequest::Builder out, const GetAttributesRequest& in) {
  out.setSession(wire_of(in.session));
  out.setInode(wire_of(in.inode));
}

static void read(wire::GetAttributesRequest::Reader in, GetAttributesRequest& out) {
  read(in.getSession(), out.session);
  read(in.getInode(), out.inode);
}

static void write(wire::OpenRequest::Builder out, const OpenRequest& in) {
  out.setSession(wire_of(in.session));
  out.setInode(wire_of(in.inode));
  out.setWrite(in.write);
}

static void read(wire::OpenRequest::Reader in, OpenRequest& out) {
  read(in.getSession(), out.session);
  read(in.getInode(), out.inode);
  read(in.getWrite(), out.write);
}

static void write(wire::AttributesReply::Builder out, const AttributesReply& in) {
  write(out.initAttributes(), in.attributes);
  write(out.initLease(), in.lease);
}

static void read(wire::AttributesReply::Reader in, AttributesReply& out) {
  read(in.getAttributes(), out.attributes);
  read(in.getLease(), out.lease);
}

static void write(wire::RefreshRequest::Builder out, const RefreshRequest& in) {
  out.setSession(wire_of(in.session));
  write(out.initInodes(count(in.inodes)), in.inodes);
}

static void read(wire::RefreshRequest::Reader in, RefreshRequest& out) {
  read(in.getSession(), out.session);
  read(in.getInodes(), out.inodes);
}

static void write(wire::RefreshReply::Builder out, const RefreshReply& in) {
  write(out.initAttributes(count(in.attributes)), in.attributes);
  write(out.initLease(), in.lease);
}

static void read(wire::RefreshReply::Reader in, RefreshReply& out) {
  read(in.getAttributes(), out.attributes);
  read(in.getLease(), out.lease);
}

static void write(wire::CloseRequest::Builder out, const CloseRequest& in) {
  out.setSession(wire_of(in.session));
  write(out.initInodes(count(in.inodes)), in.inodes);
}

static void read(wire::CloseRequest::Reader in, CloseRequest& out) {
  read(in.getSession(), out.session);
  read(in.getInodes(), out.inodes);
}

static void write(wire::ReadDirectoryRequest::Builder out, const ReadDirectoryRequest& in) {
  out.setSession(wire_of(in.session));
  out.setDirectory(wire_of(in.directory));
  out.setCookie(in.cookie);
  out.setCountMax(in.count_max);
  out.setPlus(in.plus);
}

static void read(wire::ReadDirectoryRequest::Reader in, ReadDirectoryRequest& out) {
  read(in.getSession(), out.session);
  read(in.getDirectory(), out.directory);
  read(in.getCookie(), out.cookie);
  read(in.getCountMax(), out.count_max);
  read(in.getPlus(), out.plus);
}

static void write(wire::DirectoryEntry::Builder out, const DirectoryEntry& in) {
  out.setName(wire_of(in.name));
  out.setInode(wire_of(in.inode));
  out.setType(wire_of(in.type));
  out.setCookie(in.cookie);
  if (in.attributes) write(out.initAttributes(), *in.attributes);
  out.setLeased(in.leased);
}

static void read(wire::DirectoryEntry::Reader in, DirectoryEntry& out) {
  read(in.getName(), out.name);
  read(in.getInode(), out.inode);
  read(in.getType(), out.type);
  read(in.getCookie(), out.cookie);
  if (in.hasAttributes()) read(in.getAttributes(), out.attributes.emplace());
  read(in.getLeased(), out.leased);
}

static void write(wire::ReadDirectoryReply::Builder out, const ReadDirectoryReply& in) {
  write(out.initEntries(count(in.entries)), in.entries);
  out.setEnd(in.end);
  out.setParent(wire_of(in.parent));
  write(out.initDirectory(), in.directory);
  write(out.initLease(), in.lease);
}

static void read(wire::ReadDirectoryReply::Reader in, ReadDirectoryReply& out) {
  read(in.getEntries(), out.entries);
  read(in.getEnd(), out.end);
  read(in.getParent(), out.parent);
  read(in.getDirectory(), out.directory);
  read(in.getLease(), out.lease);
}

static void write(wire::ReadLinkRequest::Builder out, const ReadLinkRequest& in) {
  out.setSession(wire_of(in.session));
  out.setInode(wire_of(in.inode));
}

static void read(wire::ReadLinkRequest::Reader in, ReadLinkRequest& out) {
  read(in.getSession(), out.session);
  read(in.getInode(), out.inode);
}

static void write(wire::ReadLinkReply::Builder out, const ReadLinkReply& in) {
  out.setTarget(wire_of(in.target));
}

static void read(wire::ReadLinkReply::Reader in, ReadLinkReply& out) {
  read(in.getTarget(), out.target);
}

static void write(wire::GetXattrRequest::Builder out, const GetXattrRequest& in) {
  out.setSession(wire_of(in.session));
  out.setInode(wire_of(in.inode));
  out.setName(wire_of(in.name));
}

static void read(wire::GetXattrRequest::Reader in, GetXattrRequest& out) {
  read(in.getSession(), out.session);
  read(in.getInode(), out.inode);
  read(in.getName(), out.name);
}

static void write(wire::GetXattrReply::Builder out, const GetXattrReply& in) {
  out.setValue(wire_of(in.value));
}

static void read(wire::GetXattrReply::Reader in, GetXattrReply& out) {
  read(in.getValue(), out.value);
}

static void write(wire::ListXattrRequest::Builder out, const ListXattrRequest& in) {
  out.setSession(wire_of(in.session));
  out.setInode(wire_of(in.inode));
}

static void read(wire::ListXattrRequest::Reader in, ListXattrRequest& out) {
  read(in.getSession(), out.session);
  read(in.getInode(), out.inode);
}

static void write(wire::ListXattrReply::Builder out, const ListXattrReply& in) {
  write(out.initNames(count(in.names)), in.names);
}

static void read(wire::ListXattrReply::Reader in, ListXattrReply& out) {
  read(in.getNames(), out.names);
}

static void write(wire::StatFsRequest::Builder out, const StatFsRequest& in) {
  out.setSession(wire_of(in.session));
  out.setInode(wire_of(in.inode));
}

static void read(wire::StatFsRequest::Reader in, StatFsRequest& out) {
  read(in.getSession(), out.session);
  read(in.getInode(), out.inode);
}

static void write(wire::StatFsReply::Builder out, const StatFsReply& in) {
  out.setTotalBytes(in.total_bytes);
  out.setFreeBytes(in.free_bytes);
  out.setInodes(in.inodes);
  out.setInodesFree(in.inodes_free);
}

static void read(wire::StatFsReply::Reader in, StatFsReply& out) {
  read(in.getTotalBytes(), out.total_bytes);
  read(in.getFreeBytes(), out.free_bytes);
  read(in.getInodes(), out.inodes);
  read(in.getInodesFree(), out.inodes_free);
}

static void write(wire::ChunkLocation::Builder out, const ChunkLocation& in) {
  out.setIndex(in.index);
  out.setChunk(wire_of(in.chunk));
  out.setVersion(in.version);
  out.setOpen(in.open);
  out.setLimit(in.limit);
  write(out.initReplicas(count(in.replicas)), in.replicas);
  out.setCapability(wire_of(in.capability));
}

static void read(wire::ChunkLocation::Reader in, ChunkLocation& out) {
  read(in.getIndex(), out.index);
  read(in.getChunk(), out.chunk);
  read(in.getVersion(), out.version);
  read(in.getOpen(), out.open);
  read(in.getLimit(), out.limit);
  read(in.getReplicas(), out.replicas, kMaxReplicaItems);
  read(in.getCapability(), out.capability);
}

static void write(wire::GetLayoutRequest::Builder out, const GetLayoutRequest& in) {
  out.setSession(wire_of(in.session));
  out.setInode(wire_of(in.inode));
  out.setFirstIndex(in.first_index);
  out.setCount(in.count);
}

static void read(wire::GetLayoutRequest::Reader in, GetLayoutRequest& out) {
  read(in.getSession(), out.session);
  read(in.getInode(), out.inode);
  read(in.getFirstIndex(), out.first_index);
  read(in.getCount(), out.count);
}

static void write(wire::GetLayoutReply::Builder out, const GetLayoutReply& in) {
  write(out.initChunks(count(in.chunks)), in.chunks);
  write(out.initAttributes(), in.attributes);
  write(out.initLease(), in.lease);
}

static void read(wire::GetLayoutReply::Reader in, GetLayoutReply& out) {
  read(in.getChunks(), out.chunks);
  read(in.getAttributes(), out.attributes);
  read(in.getLease(), out.lease);
}

static void write(wire::WriteLeaseRequest::Builder out, const WriteLeaseRequest& in) {
  out.setSession(wire_of(in.session));
  out.setInode(wire_of(in.inode));
  out.setRenew(in.renew);
}

static void read(wire::WriteLeaseRequest::Reader in, WriteLeaseRequest& out) {
  read(in.getSession(), out.session);
  read(in.getInode(), out.inode);
  read(in.getRenew(), out.renew);
}

static void write(wire::WriteLeaseReply::Builder out, const WriteLeaseReply& in) {
  write(out.initAttributes(), in.attributes);
  write(out.initLease(), in.lease);
  out.setNotLockedElsewhere(!in.locked_elsewhere);
}

static void read(wire::WriteLeaseReply::Reader in, WriteLeaseReply& out) {
  read(in.getAttributes(), out.attributes);
  read(in.getLease(), out.lease);
  out.locked_elsewhere = !in.getNotLockedElsewhere();
}

static void write(wire::ReleaseWriteLeaseRequest::Builder out, const ReleaseWriteLeaseRequest& in) {
  out.setSession(wire_of(in.session));
  out.setInode(wire_of(in.inode));
  out.setKeepShared(in.keep_shared);
}

static void read(wire::ReleaseWriteLeaseRequest::Reader in, ReleaseWriteLeaseRequest& out) {
  read(in.getSession(), out.session);
  read(in.getInode(), out.inode);
  read(in.getKeepShared(), out.keep_shared);
}

static void write(wire::OpenChunkRequest::Builder out, const OpenChunkRequest& in) {
  out.setSession(wire_of(in.session));
  out.setInode(wire_of(in.inode));
  out.setIndex(in.index);
}

static void read(wire::OpenChunkRequest::Reader in, OpenChunkRequest& out) {
  read(in.getSession(), out.session);
  read(in.getInode(), out.inode);
  read(in.getIndex(), out.index);
}

static void write(wire::OpenChunkReply::Builder out, const OpenChunkReply& in) {
  write(out.initGrant(), in.grant);
  out.setLimit(in.limit);
  out.setLength(in.length);
  out.setSequence(in.sequence);
}

static void read(wire::OpenChunkReply::Reader in, OpenChunkReply& out) {
  read(in.getGrant(), out.grant);
  read(in.getLimit(), out.limit);
  read(in.getLength(), out.length);
  read(in.getSequence(), out.sequence);
}

static void write(wire::ReplicaFailedRequest::Builder out, const ReplicaFailedRequest& in) {
  out.setSession(wire_of(in.session));
  out.setChunk(wire_of(in.chunk));
  out.setVersion(in.version);
  write(out.initFailed(count(in.failed)), in.failed);
  out.setReason(wire_of(in.reason));
}

static void read(wire::ReplicaFailedRequest::Reader in, ReplicaFailedRequest& out) {
  read(in.getSession(), out.session);
  read(in.getChunk(), out.chunk);
  read(in.getVersion(), out.version);
  read(in.getFailed(), out.failed, kMaxReplicaItems);
  read(in.getReason(), out.reason);
}

static void write(wire::RenewGrantRequest::Builder out, const RenewGrantRequest& in) {
  out.setSession(wire_of(in.session));
  out.setChunk(wire_of(in.chunk));
}

static void read(wire::RenewGrantRequest::Reader in, RenewGrantRequest& out) {
  read(in.getSession(), out.session);
  read(in.getChunk(), out.chunk);
}

static void write(wire::ReportBadReplicaRequest::Builder out, const ReportBadReplicaRequest& in) {
  out.setSession(wire_of(in.session));
  out.setChunk(wire_of(in.chunk));
  out.setVersion(in.version);
  out.setServer(wire_of(in.server));
  out.setError(in.error);
}

static void read(wire::ReportBadReplicaRequest::Reader in, ReportBadReplicaRequest& out) {
  read(in.getSession(), out.session);
  read(in.getChunk(), out.chunk);
  read(in.getVersion(), out.version);
  read(in.getServer(), out.server);
  read(in.getError(), out.error);
}

static void write(wire::EmptyReply::Builder, const EmptyReply&) {}

static void read(wire::EmptyReply::Reader, EmptyReply&) {}

CAIRN_META_MESSAGES(CAIRN_DEFINE_CODEC)

}  // namespace cairn
