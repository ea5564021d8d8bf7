#include "common/proto/chunk.capnp.h"
#include "common/proto/codec_wire.h"

namespace cairn {

static wire::WriteKind wire_of(WriteKind kind) {
  return static_cast<wire::WriteKind>(kind);
}

static void read(wire::WriteKind in, WriteKind& out) {
  if (in < wire::WriteKind::DATA || in > wire::WriteKind::ZERO) refuse("a kind of write is unknown");
  out = static_cast<WriteKind>(in);
}

static void write(wire::ChunkWriteRequest::Builder out, const ChunkWriteRequest& in) {
  out.setCapability(wire_of(in.capability));
  out.setChunk(wire_of(in.chunk));
  out.setVersion(in.version);
  out.setSequence(in.sequence);
  out.setKind(wire_of(in.kind));
  out.setOffset(in.offset);
  out.setLength(in.length);
  write(out.initChecksums(count(in.checksums)), in.checksums);
  out.setSync(in.sync);
  out.setInode(wire_of(in.inode));
  out.setIndex(in.index);
  out.setFileSizeBytes(in.file_size_bytes);
  write(out.initChain(count(in.chain)), in.chain);
}

static void read(wire::ChunkWriteRequest::Reader in, ChunkWriteRequest& out) {
  read(in.getCapability(), out.capability);
  read(in.getChunk(), out.chunk);
  read(in.getVersion(), out.version);
  read(in.getSequence(), out.sequence);
  read(in.getKind(), out.kind);
  read(in.getOffset(), out.offset);
  read(in.getLength(), out.length);
  read(in.getChecksums(), out.checksums);
  read(in.getSync(), out.sync);
  read(in.getInode(), out.inode);
  read(in.getIndex(), out.index);
  read(in.getFileSizeBytes(), out.file_size_bytes);
  read(in.getChain(), out.chain, kMaxReplicaItems);
}

static void write(wire::ReplicaAck::Builder out, const ReplicaAck& in) {
  out.setServer(wire_of(in.server));
  out.setIncarnation(in.incarnation);
  out.setSequence(in.sequence);
  out.setSyncedSequence(in.synced_sequence);
  out.setError(in.error);
  out.setContext(wire_of(in.context));
  out.setAllocatedBytes(in.allocated_bytes);
}

static void read(wire::ReplicaAck::Reader in, ReplicaAck& out) {
  read(in.getServer(), out.server);
  read(in.getIncarnation(), out.incarnation);
  read(in.getSequence(), out.sequence);
  read(in.getSyncedSequence(), out.synced_sequence);
  read(in.getError(), out.error);
  read(in.getContext(), out.context);
  read(in.getAllocatedBytes(), out.allocated_bytes);
}

static void write(wire::ChunkWriteReply::Builder out, const ChunkWriteReply& in) {
  write(out.initAcks(count(in.acks)), in.acks);
}

static void read(wire::ChunkWriteReply::Reader in, ChunkWriteReply& out) {
  read(in.getAcks(), out.acks, kMaxReplicaItems);
}

static void write(wire::ChunkSyncRequest::Item::Builder out, const ChunkSyncRequest::Item& in) {
  out.setCapability(wire_of(in.capability));
  out.setChunk(wire_of(in.chunk));
  out.setVersion(in.version);
  out.setSequence(in.sequence);
  out.setIncarnation(in.incarnation);
}

static void read(wire::ChunkSyncRequest::Item::Reader in, ChunkSyncRequest::Item& out) {
  read(in.getCapability(), out.capability);
  read(in.getChunk(), out.chunk);
  read(in.getVersion(), out.version);
  read(in.getSequence(), out.sequence);
  read(in.getIncarnation(), out.incarnation);
}

static void write(wire::ChunkSyncRequest::Builder out, const ChunkSyncRequest& in) {
  write(out.initItems(count(in.items)), in.items);
}

static void read(wire::ChunkSyncRequest::Reader in, ChunkSyncRequest& out) {
  read(in.getItems(), out.items);
}

static void write(wire::ChunkSyncReply::Builder out, const ChunkSyncReply& in) {
  write(out.initAcks(count(in.acks)), in.acks);
}

static void read(wire::ChunkSyncReply::Reader in, ChunkSyncReply& out) {
  read(in.getAcks(), out.acks);
}

static void write(wire::ChunkReadRequest::Builder out, const ChunkReadRequest& in) {
  out.setCapability(wire_of(in.capability));
  out.setChunk(wire_of(in.chunk));
  out.setVersion(in.version);
  out.setOffset(in.offset);
  out.setLength(in.length);
  out.setSequence(in.sequence);
}

static void read(wire::ChunkReadRequest::Reader in, ChunkReadRequest& out) {
  read(in.getCapability(), out.capability);
  read(in.getChunk(), out.chunk);
  read(in.getVersion(), out.version);
  read(in.getOffset(), out.offset);
  read(in.getLength(), out.length);
  read(in.getSequence(), out.sequence);
}

static void write(wire::ChunkReadReply::Builder out, const ChunkReadReply& in) {
  out.setOffset(in.offset);
  out.setLength(in.length);
  write(out.initChecksums(count(in.checksums)), in.checksums);
}

static void read(wire::ChunkReadReply::Reader in, ChunkReadReply& out) {
  read(in.getOffset(), out.offset);
  read(in.getLength(), out.length);
  read(in.getChecksums(), out.checksums);
}

static void write(wire::OrderHeader::Builder out, const OrderHeader& in) {
  out.setTerm(in.term);
  out.setCluster(wire_of(in.cluster));
}

static void read(wire::OrderHeader::Reader in, OrderHeader& out) {
  read(in.getTerm(), out.term);
  read(in.getCluster(), out.cluster);
}

static void write(wire::RaiseVersionRequest::Builder out, const RaiseVersionRequest& in) {
  write(out.initHeader(), in.header);
  out.setChunk(wire_of(in.chunk));
  out.setFromVersion(in.from_version);
  out.setToVersion(in.to_version);
}

static void read(wire::RaiseVersionRequest::Reader in, RaiseVersionRequest& out) {
  read(in.getHeader(), out.header);
  read(in.getChunk(), out.chunk);
  read(in.getFromVersion(), out.from_version);
  read(in.getToVersion(), out.to_version);
}

static void write(wire::RaiseVersionReply::Builder out, const RaiseVersionReply& in) {
  write(out.initStatus(), in.status);
  out.setIncarnation(in.incarnation);
}

static void read(wire::RaiseVersionReply::Reader in, RaiseVersionReply& out) {
  read(in.getStatus(), out.status);
  read(in.getIncarnation(), out.incarnation);
}

static void write(wire::CopyChunkRequest::Builder out, const CopyChunkRequest& in) {
  write(out.initHeader(), in.header);
  out.setChunk(wire_of(in.chunk));
  out.setVersion(in.version);
  write(out.initSource(), in.source);
  out.setCapability(wire_of(in.capability));
  out.setSeal(in.seal);
}

static void read(wire::CopyChunkRequest::Reader in, CopyChunkRequest& out) {
  read(in.getHeader(), out.header);
  read(in.getChunk(), out.chunk);
  read(in.getVersion(), out.version);
  read(in.getSource(), out.source);
  read(in.getCapability(), out.capability);
  read(in.getSeal(), out.seal);
}

static void write(wire::SealChunkRequest::Builder out, const SealChunkRequest& in) {
  write(out.initHeader(), in.header);
  out.setChunk(wire_of(in.chunk));
  out.setVersion(in.version);
  out.setSequence(in.sequence);
}

static void read(wire::SealChunkRequest::Reader in, SealChunkRequest& out) {
  read(in.getHeader(), out.header);
  read(in.getChunk(), out.chunk);
  read(in.getVersion(), out.version);
  read(in.getSequence(), out.sequence);
}

static void write(wire::DeleteChunksRequest::Item::Builder out, const std::pair<ChunkId, uint64_t>& in) {
  out.setChunk(wire_of(in.first));
  out.setVersion(in.second);
}

static void read(wire::DeleteChunksRequest::Item::Reader in, std::pair<ChunkId, uint64_t>& out) {
  read(in.getChunk(), out.first);
  read(in.getVersion(), out.second);
}

static void write(wire::DeleteChunksRequest::Builder out, const DeleteChunksRequest& in) {
  write(out.initHeader(), in.header);
  write(out.initChunks(count(in.chunks)), in.chunks);
}

static void read(wire::DeleteChunksRequest::Reader in, DeleteChunksRequest& out) {
  read(in.getHeader(), out.header);
  read(in.getChunks(), out.chunks);
}

static void write(wire::CloneChunkRequest::Builder out, const CloneChunkRequest& in) {
  write(out.initHeader(), in.header);
  out.setSource(wire_of(in.source));
  out.setSourceVersion(in.source_version);
  out.setTarget(wire_of(in.target));
  out.setTargetVersion(in.target_version);
}

static void read(wire::CloneChunkRequest::Reader in, CloneChunkRequest& out) {
  read(in.getHeader(), out.header);
  read(in.getSource(), out.source);
  read(in.getSourceVersion(), out.source_version);
  read(in.getTarget(), out.target);
  read(in.getTargetVersion(), out.target_version);
}

static void write(wire::StatChunksRequest::Builder out, const StatChunksRequest& in) {
  write(out.initHeader(), in.header);
  write(out.initChunks(count(in.chunks)), in.chunks);
}

static void read(wire::StatChunksRequest::Reader in, StatChunksRequest& out) {
  read(in.getHeader(), out.header);
  read(in.getChunks(), out.chunks);
}

static void write(wire::StatChunksReply::Builder out, const StatChunksReply& in) {
  write(out.initChunks(count(in.chunks)), in.chunks);
  out.setIncarnation(in.incarnation);
}

static void read(wire::StatChunksReply::Reader in, StatChunksReply& out) {
  read(in.getChunks(), out.chunks);
  read(in.getIncarnation(), out.incarnation);
}

static void write(wire::ChunkMapRequest::Builder out, const ChunkMapRequest& in) {
  out.setCapability(wire_of(in.capability));
  out.setChunk(wire_of(in.chunk));
  out.setVersion(in.version);
}

static void read(wire::ChunkMapRequest::Reader in, ChunkMapRequest& out) {
  read(in.getCapability(), out.capability);
  read(in.getChunk(), out.chunk);
  read(in.getVersion(), out.version);
}

static void write(wire::ChunkMapReply::Range::Builder out, const ChunkMapReply::Range& in) {
  out.setOffset(in.offset);
  out.setLength(in.length);
}

static void read(wire::ChunkMapReply::Range::Reader in, ChunkMapReply::Range& out) {
  read(in.getOffset(), out.offset);
  read(in.getLength(), out.length);
}

static void write(wire::ChunkMapReply::Builder out, const ChunkMapReply& in) {
  write(out.initStatus(), in.status);
  write(out.initData(count(in.data)), in.data);
}

static void read(wire::ChunkMapReply::Reader in, ChunkMapReply& out) {
  read(in.getStatus(), out.status);
  read(in.getData(), out.data);
}

static void write(wire::ListChunksRequest::Builder out, const ListChunksRequest& in) {
  out.setCluster(wire_of(in.cluster));
  out.setAfter(wire_of(in.after));
}

static void read(wire::ListChunksRequest::Reader in, ListChunksRequest& out) {
  read(in.getCluster(), out.cluster);
  read(in.getAfter(), out.after);
}

static void write(wire::ListChunksReply::Builder out, const ListChunksReply& in) {
  out.setCluster(wire_of(in.cluster));
  out.setServer(wire_of(in.server));
  write(out.initChunks(count(in.chunks)), in.chunks);
  out.setLast(in.last);
}

static void read(wire::ListChunksReply::Reader in, ListChunksReply& out) {
  read(in.getCluster(), out.cluster);
  read(in.getServer(), out.server);
  read(in.getChunks(), out.chunks);
  read(in.getLast(), out.last);
}

static void write(wire::ReadKeptDumpRequest::Builder out, const ReadKeptDumpRequest& in) {
  out.setChunk(wire_of(in.chunk));
  out.setVersion(in.version);
  out.setOffset(in.offset);
  out.setLength(in.length);
}

static void read(wire::ReadKeptDumpRequest::Reader in, ReadKeptDumpRequest& out) {
  read(in.getChunk(), out.chunk);
  read(in.getVersion(), out.version);
  read(in.getOffset(), out.offset);
  read(in.getLength(), out.length);
}

CAIRN_CHUNK_MESSAGES(CAIRN_DEFINE_CODEC)

}  // namespace cairn
