# Chunkserver to master: registration, heartbeats, reports. Plain form: control_types.h. Only add: rules in types.capnp.
@0x8ef88fb6d3aaa154;

using Cxx = import "/capnp/c++.capnp";
using Types = import "/common/proto/types.capnp";
$Cxx.namespace("cairn::wire");

struct SpaceReport {
  totalBytes @0 :UInt64;
  freeBytes @1 :UInt64;           # what may still be written, the reserve taken off
  chunks @2 :UInt64;
  stores @3 :UInt32;              # data directories in use
  storesFailed @4 :UInt32;        # taken out of use
}

struct CapabilityKey {
  id @0 :UInt32;                  # capabilities name their key by it
  key @1 :Data;                   # secret
}

struct RegisterServerRequest {
  server @0 :UInt64;
  cluster @1 :UInt64;             # 0: the server is new and belongs to none; the answer tells
  address @2 :Text;               # where others reach it
  domain @3 :Text;                # failure domain; empty: none said
  program @4 :Text;               # with its version
  incarnation @5 :UInt64;         # new with each start of the process
  bootId @6 :Text;                # the machine's; another one than before: unsynced data may be lost
  space @7 :SpaceReport;
}

struct RegisterServerReply {
  cluster @0 :UInt64;
  term @1 :UInt64;                # of the master that answers
  logTimeMs @2 :UInt64;           # the masters' log time, by which capabilities run out
  keys @3 :List(CapabilityKey);   # valid ones, the newest last
  heartbeatMs @4 :UInt32;         # a heartbeat is expected that often
}

struct HeartbeatRequest {
  server @0 :UInt64;
  incarnation @1 :UInt64;
  space @2 :SpaceReport;
  badChunks @3 :List(UInt64);     # a checksum failed or their store is gone, since the last heartbeat
}

struct HeartbeatReply {
  term @0 :UInt64;
  logTimeMs @1 :UInt64;
  keys @2 :List(CapabilityKey);
  registerAgain @3 :Bool;         # the master does not know this incarnation
}

struct ChunkReportRequest {
  # A page of everything that the server holds, after registering.

  server @0 :UInt64;
  incarnation @1 :UInt64;
  first @2 :Bool;
  last @3 :Bool;                  # the master reconciles when it has it
  chunks @4 :List(Types.ReplicaStatus);
}
