# Command line and status page to master. Plain form: control_types.h, "administration". Only add: rules in types.capnp.
@0x8bc52b6c460b17f0;

using Cxx = import "/capnp/c++.capnp";
using Types = import "/common/proto/types.capnp";
using Meta = import "/common/proto/meta.capnp";
using Control = import "/common/proto/control.capnp";
$Cxx.namespace("cairn::wire");

struct StatusRequest {
}

struct ServerStatus {
  server @0 :UInt64;
  address @1 :Text;
  domain @2 :Text;                # failure domain; empty: none said
  program @3 :Text;               # with its version
  alive @4 :Bool;
  silentMs @5 :UInt64;            # since its last heartbeat
  space @6 :Control.SpaceReport;  # of its last heartbeat
}

struct SessionStatus {
  session @0 :UInt64;
  host @1 :Text;
  mountpoint @2 :Text;            # empty: no mount
  program @3 :Text;
  idleMs @4 :UInt64;              # since its last request
  openFiles @5 :UInt64;
  sharedLeases @6 :UInt64;
  exclusiveLeases @7 :UInt64;
  unansweredRecalls @8 :UInt64;   # what it has been asked for and has not answered
}

struct ChunkHealth {
  # Numbers of chunks; a chunk may count in several.

  total @0 :UInt64;
  healthy @1 :UInt64;             # as many replicas as its goal, all in order
  underGoal @2 :UInt64;
  atRisk @3 :UInt64;              # one replica is left
  lost @4 :UInt64;                # none is left
  open @5 :UInt64;                # being written
  unverified @6 :UInt64;          # some replica has to be checked after a restart
  overGoal @7 :UInt64;
  garbage @8 :UInt64;             # no file refers to it; to be deleted
}

struct StatusReply {
  cluster @0 :UInt64;
  program @1 :Text;               # the master's, with its version
  term @2 :UInt64;
  logTimeMs @3 :UInt64;
  inodes @4 :UInt64;
  appliedIndex @5 :UInt64;        # of the log
  defaultGoal @6 :UInt8;
  health @7 :ChunkHealth;
  servers @8 :List(ServerStatus);
  sessions @9 :List(SessionStatus);
  warnings @10 :List(Text);       # whole sentences, for people
}

struct InfoRequest {
  inode @0 :UInt64;
  firstIndex @1 :UInt32;          # chunks from here on
  count @2 :UInt32 = 1024;        # indexes at most
}

struct ReplicaInfo {
  server @0 :UInt64;
  address @1 :Text;               # empty: not known at present
  alive @2 :Bool;
  state @3 :Text;                 # "ok", "missing", "unverified", "bad", ...
}

struct ChunkInfo {
  index @0 :UInt32;               # in the file
  chunk @1 :UInt64;
  version @2 :UInt64;
  state @3 :Types.ChunkState = sealed;
  length @4 :UInt32;              # end of the furthest byte, from the chunk's start
  replicas @5 :List(ReplicaInfo);
}

struct InfoReply {
  attributes @0 :Types.Attributes;
  chunks @1 :List(ChunkInfo);
  chunksTotal @2 :UInt64;         # of the whole file
}

struct RemoveServerRequest {
  server @0 :UInt64;
  force @1 :Bool;                 # give up what has no copy elsewhere
}

struct RemoveServerReply {
  chunks @0 :UInt64;              # had a replica there
  lost @1 :UInt64;                # of them had none elsewhere
  lostInodes @2 :List(UInt64);    # whose chunks those were; the first few
}

enum MasterRole {
  unknown @0;      # never sent
  voter @1;        # its vote counts, in elections and for what is committed
  standby @2;      # has the log, but no vote
  spare @3;        # is only known; catches up before it becomes more
}

struct MasterMember {
  # One master of the group, as the one that answers knows it.

  master @0 :UInt64;
  address @1 :Text;
  role @2 :MasterRole = voter;
  matchIndex @3 :UInt64;          # of the log: known to be equal and on its disk up to here; only the leader knows, else 0
  silentMs @4 :UInt64;            # since the leader last heard of it; 0: of itself, or who answers does not lead
}

struct MasterStatusRequest {
}

struct MasterStatusReply {
  # Every master answers, whether it leads or not.

  cluster @0 :UInt64;
  master @1 :UInt64;              # who answers
  address @2 :Text;
  program @3 :Text;               # with its version
  leading @4 :Bool;
  joining @5 :Bool;               # its folder belongs to no group yet: it waits for add_master
  term @6 :UInt64;
  leader @7 :UInt64;              # 0: not known
  leaderAddress @8 :Text;         # empty: not known
  last @9 :UInt64;                # log indices: the newest on its disk,
  committed @10 :UInt64;
  applied @11 :UInt64;
  first @12 :UInt64;              # the oldest in its log
  checkpoint @13 :UInt64;         # the newest durable one
  logBytes @14 :UInt64;           # on its disk, with what is kept for reuse
  diskLow @15 :Bool;              # below the reserve
  members @16 :List(MasterMember);
}

struct AddMasterRequest {
  address @0 :Text;               # where the new master listens; it was started with --join
}

struct AddMasterReply {
  master @0 :UInt64;
}

struct RemoveMasterRequest {
  master @0 :UInt64;
}

struct TransferLeadershipRequest {
  to @0 :UInt64;                  # 0: to any that is up to date
}

struct TransferLeadershipReply {
  leader @0 :UInt64;              # who leads now
}

# ---------------------------------------------------------------- the metadata as a file, and back

struct ExportRequest {
  export @0 :UInt64;              # 0: a new one begins
  part @1 :UInt64;                # the first is 0; the last one may be asked for again
}

struct ExportReply {
  # The payload is the next part of the file.

  export @0 :UInt64;
  last @1 :Bool;                  # nothing follows; the leader has let go of it
}

struct UnknownChunk {
  # Held by servers, and part of no file.

  chunk @0 :UInt64;
  inode @1 :UInt64;               # of the file it was written for
  index @2 :UInt32;               # in that file
  length @3 :UInt32;              # end of the furthest byte
  version @4 :UInt64;             # the highest
  replicas @5 :UInt32;            # servers that hold it
}

struct RestoreStatusRequest {
  after @0 :UInt64;               # chunks with higher ids
  count @1 :UInt32 = 1024;        # at most
}

struct RestoreStatusReply {
  restored @0 :Bool;              # the state comes from an export, and has not been accepted
  fromChunkservers @1 :Bool;      # it was put together from what chunkservers kept
  takenNs @2 :Int64;              # wall clock when the export was made
  settled @3 :Bool;               # every server has been heard: chunks may be used
  waitingFor @4 :List(Text);      # addresses of servers that have not said what they hold
  unknownChunks @5 :UInt64;
  unknownBytes @6 :UInt64;        # of one copy of each
  staleReplicas @7 :UInt64;       # of chunks that are part of a file, on servers that the record does not name
  lostChunks @8 :UInt64;          # part of a file, and no server has it
  chunks @9 :List(UnknownChunk);  # ascending
  lost @10 :List(UnknownChunk);   # the first few
}

struct AcceptRestoreRequest {
}

# ---------------------------------------------------------------- who holds what up

struct SessionName {
  session @0 :UInt64;
  host @1 :Text;
  mountpoint @2 :Text;
}

struct LockInfo {
  inode @0 :UInt64;
  lock @1 :Meta.FileLock;
  waits @2 :Bool;                 # for it; else it is held
}

struct ListLocksRequest {
  inode @0 :UInt64;               # 0: of all, as far as the master knows them
}

struct ListLocksReply {
  locks @0 :List(LockInfo);
  sessions @1 :List(SessionName); # that occur in them
  more @2 :Bool;                  # there are too many to list
}

struct BreakLocksRequest {
  inode @0 :UInt64;
}

struct BreakLocksReply {
  locks @0 :List(LockInfo);       # that were taken away
  sessions @1 :List(SessionName);
}

struct LeaseInfo {
  session @0 :UInt64;
  exclusive @1 :Bool;
  recalled @2 :Bool;              # asked about it, and has not answered
  recalledMs @3 :UInt64;          # for so long
}

struct ChangeInfo {
  session @0 :UInt64;
  kind @1 :Meta.RecallKind = attributes;  # what others have to forget
  name @2 :Data;                  # of kind name
  unanswered @3 :UInt64;          # recalls that it waits for
}

struct WhyRequest {
  inode @0 :UInt64;
}

struct WhyReply {
  attributes @0 :Types.Attributes;
  leases @1 :List(LeaseInfo);
  changes @2 :List(ChangeInfo);   # under way
  locks @3 :List(LockInfo);
  locksAreLocal @4 :Bool;         # who holds the inode exclusively may have more
  open @5 :List(UInt64);          # sessions that have it open
  writing @6 :List(UInt64);       # chunks of it that are open for writing; the first few
  sessions @7 :List(SessionName); # that occur above
}
