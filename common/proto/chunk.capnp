# To chunkservers: data from clients and from one another, orders from the master. Plain form: chunk_types.h. Only add: rules in
# types.capnp. File bytes are never in here; they are the frame's payload. A `capability` is signed by the master and says what its
# holder may do with the chunk; without a valid one nothing is done.
@0xeefc6c7f3aa0b48e;

using Cxx = import "/capnp/c++.capnp";
using Types = import "/common/proto/types.capnp";
$Cxx.namespace("cairn::wire");

enum WriteKind {
  unknown @0;      # never sent
  data @1;         # the payload at offset
  truncate @2;     # what lies at and after offset reads as zeros
  zero @3;         # [offset, offset + length) reads as zeros and takes no space
}

struct ChunkWriteRequest {
  capability @0 :Data;
  chunk @1 :UInt64;
  version @2 :UInt64;             # of the grant
  sequence @3 :UInt64;            # the writer's, of this version, without gaps from the grant's + 1
  kind @4 :WriteKind = data;
  offset @5 :UInt32;              # bytes from the chunk's start
  length @6 :UInt32;              # bytes; of data the payload's length
  checksums @7 :List(UInt32);     # CRC32C of each piece of the payload, cut at multiples of 4 KiB of the chunk
  sync @8 :Bool;                  # durable before it is acknowledged
  inode @9 :UInt64;               # the file, for the chunk's record
  index @10 :UInt32;              # of the chunk in the file
  fileSizeBytes @11 :UInt64;      # as the writer knows it, for the chunk's record
  chain @12 :List(Types.ReplicaAddress);  # the replicas after this one; empty: this is the last
}

struct ReplicaAck {
  server @0 :UInt64;
  incarnation @1 :UInt64;         # of the server's process; another one may have lost what was not synced; 0: it could not be asked
  sequence @2 :UInt64;            # every write up to it was taken
  syncedSequence @3 :UInt64;      # every write up to it is on disk
  error @4 :UInt16;               # ErrorCode of this replica's refusal; 0: done
  context @5 :Text;               # of the error, for the log
  allocatedBytes @6 :UInt32 = 0xffffffff;  # what the chunk takes there; 0xffffffff: not said
}

struct ChunkWriteReply {
  acks @0 :List(ReplicaAck);      # one a replica of the chain that could be asked, first to last
}

struct ChunkSyncRequest {
  struct Item {
    capability @0 :Data;
    chunk @1 :UInt64;
    version @2 :UInt64;
    sequence @3 :UInt64;          # everything up to it
    incarnation @4 :UInt64;       # that acknowledged the writes
  }
  items @0 :List(Item);
}

struct ChunkSyncReply {
  acks @0 :List(ReplicaAck);      # one an item, in their order
}

struct ChunkReadRequest {
  capability @0 :Data;
  chunk @1 :UInt64;
  version @2 :UInt64;             # the replica's must be equal
  offset @3 :UInt32;              # bytes from the chunk's start
  length @4 :UInt32;              # bytes
  sequence @5 :UInt64;            # the replica must have taken all writes up to it; 0: whatever it has
}

struct ChunkReadReply {
  offset @0 :UInt32;              # of the payload, a multiple of 4 KiB
  length @1 :UInt32;              # of the payload; shorter than asked: the rest is zeros
  checksums @2 :List(UInt32);     # CRC32C, one a block of 4 KiB
}

# ---------------------------------------------------------------- orders of the master

struct OrderHeader {
  term @0 :UInt64;                # the master's; below the highest that the server has seen: refused
  cluster @1 :UInt64;
}

struct RaiseVersionRequest {
  # Refuse lower versions from now on, and make durable what was taken so far.

  header @0 :OrderHeader;
  chunk @1 :UInt64;
  fromVersion @2 :UInt64;         # which the replica must have
  toVersion @3 :UInt64;
}

struct RaiseVersionReply {
  # The answer to every order about one chunk.

  status @0 :Types.ReplicaStatus;
  incarnation @1 :UInt64;         # of the server's process
}

struct CopyChunkRequest {
  # Make this replica equal to the source's, durable when it answers.

  header @0 :OrderHeader;
  chunk @1 :UInt64;
  version @2 :UInt64;
  source @3 :Types.ReplicaAddress;
  capability @4 :Data;            # to read at the source
  seal @5 :Bool;                  # then seal it
}

struct SealChunkRequest {
  header @0 :OrderHeader;
  chunk @1 :UInt64;
  version @2 :UInt64;
  sequence @3 :UInt64;            # that the replica must have taken; 0: any
}

struct DeleteChunksRequest {
  struct Item {
    chunk @0 :UInt64;
    version @1 :UInt64;           # it goes if the replica's is not above this
  }
  header @0 :OrderHeader;
  chunks @1 :List(Item);
}

struct CloneChunkRequest {
  # A copy by counted references under a new id, in the same store. The source is sealed.

  header @0 :OrderHeader;
  source @1 :UInt64;
  sourceVersion @2 :UInt64;
  target @3 :UInt64;
  targetVersion @4 :UInt64;
}

struct StatChunksRequest {
  header @0 :OrderHeader;
  chunks @1 :List(UInt64);
}

struct StatChunksReply {
  chunks @0 :List(Types.ReplicaStatus);  # those that are there
  incarnation @1 :UInt64;
}

struct ChunkMapRequest {
  # Which parts of the chunk hold data; asked by a server that copies it.

  capability @0 :Data;
  chunk @1 :UInt64;
  version @2 :UInt64;
}

struct ChunkMapReply {
  struct Range {
    offset @0 :UInt32;            # bytes from the chunk's start
    length @1 :UInt32;            # bytes
  }
  status @0 :Types.ReplicaStatus;
  data @1 :List(Range);           # in ascending order
}

# ---------------------------------------------------------------- when every master is lost: rescue to chunkserver

struct ListChunksRequest {
  cluster @0 :UInt64;             # 0: any; the answer tells
  after @1 :UInt64;               # chunks with higher ids
}

struct ListChunksReply {
  cluster @0 :UInt64;
  server @1 :UInt64;
  chunks @2 :List(Types.ReplicaStatus);  # ascending
  last @3 :Bool;
}

struct ReadKeptDumpRequest {
  # Of a chunk whose file is a kept dump (its inode says so); the answer is a ChunkReadReply.

  chunk @0 :UInt64;
  version @1 :UInt64;
  offset @2 :UInt32;
  length @3 :UInt32;
}
