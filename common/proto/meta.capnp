# Client and master: the namespace, layouts, grants and sessions. Plain form: meta_types.h. Only add: rules in types.capnp.
# A `session` is always the sender's, given by OpenSessionReply; 0 is refused.
@0xae4aab83edf65826;

using Cxx = import "/capnp/c++.capnp";
using Types = import "/common/proto/types.capnp";
$Cxx.namespace("cairn::wire");

# ---------------------------------------------------------------- mutations: kept in the masters' log, applied exactly once

struct MetaOp {
  # One change of the namespace. The log keeps it as it is here, so what is below is a format on disk too.

  union {
    unset @0 :Void;               # never sent: an empty message is no operation
    create @1 :CreateOp;
    link @2 :LinkOp;
    unlink @3 :UnlinkOp;
    rmdir @4 :RmdirOp;
    rename @5 :RenameOp;
    setAttributes @6 :SetAttributesOp;
    setXattr @7 :SetXattrOp;
    removeXattr @8 :RemoveXattrOp;
    commit @9 :CommitOp;
    setGoal @10 :SetGoalOp;
    releaseOrphans @11 :ReleaseOrphansOp;
    grantChunks @12 :GrantChunksOp;
    returnChunks @13 :ReturnChunksOp;
    setLock @14 :SetLockOp;
    replaceLocks @15 :ReplaceLocksOp;
    releaseLocks @16 :ReleaseLocksOp;
  }
}

struct CreateOp {
  # create, mkdir, mknod and symlink.

  parent @0 :UInt64;              # a directory's inode
  name @1 :Data;                  # the master checks length, NUL and '/'
  type @2 :Types.FileType = regular;
  mode @3 :UInt32;                # 07777, after the umask
  uid @4 :UInt32;
  gid @5 :UInt32;                 # a set-gid parent overrides it
  rdev @6 :UInt32;                # devices only
  symlinkTarget @7 :Data;         # symlinks only; empty for others
  open @8 :Bool;                  # the session holds it open from now on
}

struct LinkOp {
  inode @0 :UInt64;               # the file that gets another name
  newParent @1 :UInt64;
  newName @2 :Data;
}

struct UnlinkOp {
  parent @0 :UInt64;
  name @1 :Data;
  holders @2 :List(UInt64);       # sessions that have it open; filled in by the leader, a client sends none
}

struct RmdirOp {
  parent @0 :UInt64;
  name @1 :Data;
}

struct RenameOp {
  parent @0 :UInt64;
  name @1 :Data;
  newParent @2 :UInt64;
  newName @3 :Data;
  noReplace @4 :Bool;             # RENAME_NOREPLACE
  exchange @5 :Bool;              # RENAME_EXCHANGE
  holders @6 :List(UInt64);       # as in UnlinkOp, of a file that is replaced
}

struct SetAttributesOp {
  # A field counts when its flag is set; zero is a value like any other.

  inode @0 :UInt64;
  hasMode @1 :Bool;
  hasUid @2 :Bool;
  hasGid @3 :Bool;
  hasSize @4 :Bool;
  hasAtime @5 :Bool;
  hasMtime @6 :Bool;
  mode @7 :UInt32;                # 07777
  uid @8 :UInt32;
  gid @9 :UInt32;
  size @10 :UInt64;               # bytes; truncates or extends, and moves mtime
  atime @11 :Int64;
  mtime @12 :Int64;
  atimeNow @13 :Bool;             # atime becomes MutateRequest.now
  mtimeNow @14 :Bool;
  clearSetId @15 :Bool;           # somebody without CAP_FSETID wrote or truncated
}

struct SetXattrOp {
  inode @0 :UInt64;
  name @1 :Data;                  # with its prefix, "user.x"
  value @2 :Data;                 # may be empty
  createOnly @3 :Bool;            # XATTR_CREATE
  replaceOnly @4 :Bool;           # XATTR_REPLACE
}

struct RemoveXattrOp {
  inode @0 :UInt64;
  name @1 :Data;
}

struct CommitOp {
  # Makes written data part of the file; sent when it is durable on its replicas.

  struct Chunk {
    index @0 :UInt32;             # in the file
    chunk @1 :UInt64;
    version @2 :UInt64;           # that was written
    allocatedBytes @3 :UInt32;    # what the chunk holds now
    trimmed @4 :Bool;             # the writer has cut the chunk to the limit of its record, which is lifted
    length @5 :UInt32;            # end of the furthest byte, from the chunk's start; 0: empty
    seal @6 :Bool;                # everything is on disk on every replica of this version, and nothing more is written under it
  }
  inode @0 :UInt64;
  hasSizeAtLeast @1 :Bool;
  sizeAtLeast @2 :UInt64;         # bytes; end of the furthest write; counts with its flag; a commit never shrinks a file
  hasMtime @3 :Bool;
  mtime @4 :Int64;                # of the last write; counts with its flag
  clearSetId @5 :Bool;            # as in SetAttributesOp
  chunks @6 :List(Chunk);
}

struct SetGoalOp {
  inode @0 :UInt64;
  goal @1 :UInt8;                 # 1 to kMaxGoal; 0: keep
  minCopies @2 :UInt8;            # 0: keep
}

struct ReleaseOrphansOp {
  inodes @0 :List(UInt64);        # unlinked files whose last handle of this session is closed
}

struct GrantChunksOp {
  # New chunks for files to come.

  goal @0 :UInt8;                 # replicas of each; 0: the cluster's default
  minCopies @1 :UInt8;            # 0: the cluster's default
  placements @2 :List(List(UInt64));  # servers, one list for each chunk wanted; a client's are empty, the leader fills them in
  avoid @3 :List(UInt64);         # servers that do not answer this client: only where too few others are; never in the log
}

struct ReturnChunksOp {
  chunks @0 :List(UInt64);        # granted to this session and not used
}

enum LockKind {
  unset @0;
  posix @1;                       # fcntl: byte ranges
  flock @2;                       # whole files
}

enum LockMode {
  unset @0;
  unlock @1;
  shared @2;
  exclusive @3;
}

struct FileLock {
  session @0 :UInt64;             # whose it is; what a client sends is its own
  owner @1 :UInt64;               # as the session's kernel names it
  kind @2 :LockKind = posix;
  mode @3 :LockMode = shared;
  start @4 :UInt64;
  end @5 :UInt64 = 0x7fffffffffffffff;  # the last byte; 2^63 - 1: to the end of the file
  pid @6 :UInt32;                 # on the session's machine
}

struct SetLockOp {
  inode @0 :UInt64;
  lock @1 :FileLock;
}

struct ReplaceLocksOp {
  inode @0 :UInt64;
  locks @1 :List(FileLock);       # all of this session
}

struct ReleaseLocksOp {
  inode @0 :UInt64;
  owners @1 :List(UInt64);
}

struct MutateRequest {
  session @0 :UInt64;
  sequence @1 :UInt64;            # the session's, from 1; a retry repeats it
  firstUnacknowledged @2 :UInt64; # the session has the replies below it
  now @3 :Int64;                  # the client's estimate of the master's wall clock; file times are made of it
  op @4 :MetaOp;
}

struct MutationReply {
  # Also kept in the session table until the client has it. A part with inode 0 is absent.

  attributes @0 :Types.Attributes;  # of what was created, changed or unlinked, as it is now
  parent @1 :Types.Attributes;      # of the directory it happened in; of a rename the old one
  newParent @2 :Types.Attributes;   # of rename and link
  replaced @3 :Types.Attributes;    # of rename: what was replaced or exchanged
  grants @4 :List(Types.ChunkGrant);      # of GrantChunksOp
  lease @5 :Types.Lease;            # on attributes, and after a create on the name
  parentLease @6 :Types.Lease;      # on parent, and on newParent
  conflict @7 :FileLock;            # of SetLockOp: what is in the way; null: nothing
  notLockedElsewhere @8 :Bool;      # ops on locks: no other session has a lock on the inode, or waits for one
  notLeasedElsewhere @9 :Bool;      # likewise: no other session has a lease on it
}

# ---------------------------------------------------------------- reads

struct LookupRequest {
  session @0 :UInt64;
  parent @1 :UInt64;
  name @2 :Data;
}

struct EntryReply {
  attributes @0 :Types.Attributes;  # inode 0: no such name, which the lease covers too
  parent @1 :Types.Attributes;
  lease @2 :Types.Lease;            # on the name and the attributes
  symlinkTarget @3 :Data;           # of symlinks; else empty
  parentLease @4 :Types.Lease;      # on parent
}

struct GetAttributesRequest {
  session @0 :UInt64;
  inode @1 :UInt64;
}

struct OpenRequest {
  # The session holds the inode open until it says otherwise or ends.

  session @0 :UInt64;
  inode @1 :UInt64;
  write @2 :Bool;
}

struct AttributesReply {
  attributes @0 :Types.Attributes;
  lease @1 :Types.Lease;
}

struct RefreshRequest {
  session @0 :UInt64;
  inodes @1 :List(UInt64);        # whose pages the client's kernel holds
}

struct RefreshReply {
  attributes @0 :List(Types.Attributes);  # in the order asked; inode 0: gone
  lease @1 :Types.Lease;          # on all of them
}

struct CloseRequest {
  session @0 :UInt64;
  inodes @1 :List(UInt64);        # the last handle of the session on each is closed
}

struct ReadDirectoryRequest {
  session @0 :UInt64;
  directory @1 :UInt64;
  cookie @2 :UInt64;              # entries after this one; 0: from the start
  countMax @3 :UInt32;            # entries wanted at most; 0: the master's own limit
  plus @4 :Bool;                  # with attributes
}

struct DirectoryEntry {
  name @0 :Data;
  inode @1 :UInt64;
  type @2 :Types.FileType = regular;
  cookie @3 :UInt64;              # the entry's for as long as it exists; above 2 (1 and 2 are "." and "..")
  attributes @4 :Types.Attributes;  # null: not asked for, or gone meanwhile
  leased @5 :Bool;                # a shared lease on the inode comes along, of the number of the page's lease
}

struct ReadDirectoryReply {
  entries @0 :List(DirectoryEntry);
  end @1 :Bool;                   # there are no entries after these
  parent @2 :UInt64;              # ".."
  directory @3 :Types.Attributes;
  lease @4 :Types.Lease;          # on the directory
}

struct ReadLinkRequest {
  session @0 :UInt64;
  inode @1 :UInt64;
}

struct ReadLinkReply {
  target @0 :Data;
}

struct GetXattrRequest {
  session @0 :UInt64;
  inode @1 :UInt64;
  name @2 :Data;
}

struct GetXattrReply {
  value @0 :Data;                 # may be empty
}

struct ListXattrRequest {
  session @0 :UInt64;
  inode @1 :UInt64;
}

struct ListXattrReply {
  names @0 :List(Data);
}

struct StatFsRequest {
  session @0 :UInt64;
  inode @1 :UInt64;               # whose goal counts
}

struct StatFsReply {
  totalBytes @0 :UInt64;          # at the goal of that inode: what a user can store
  freeBytes @1 :UInt64;
  inodes @2 :UInt64;
  inodesFree @3 :UInt64;
}

struct ChunkLocation {
  # Where one chunk of a file is.

  index @0 :UInt32;               # in the file
  chunk @1 :UInt64;
  version @2 :UInt64;             # reads carry it
  open @3 :Bool;                  # some session may be writing it
  limit @4 :UInt32 = 0xffffffff;  # bytes at and above it read as zeros, whatever the chunk holds
  replicas @5 :List(Types.ReplicaAddress);
  capability @6 :Data;            # signed by the master, for reading
}

struct GetLayoutRequest {
  session @0 :UInt64;
  inode @1 :UInt64;
  firstIndex @2 :UInt32;
  count @3 :UInt32 = 1;           # indexes asked for, from firstIndex
}

struct GetLayoutReply {
  chunks @0 :List(ChunkLocation); # indexes without data are left out
  attributes @1 :Types.Attributes;
  lease @2 :Types.Lease;
}

# ---------------------------------------------------------------- writing

struct WriteLeaseRequest {
  session @0 :UInt64;
  inode @1 :UInt64;
  renew @2 :Bool;
}

struct WriteLeaseReply {
  attributes @0 :Types.Attributes;
  lease @1 :Types.Lease;
  notLockedElsewhere @2 :Bool;    # no other session has a lock on the inode, or waits for one
}

struct ReleaseWriteLeaseRequest {
  session @0 :UInt64;
  inode @1 :UInt64;
  keepShared @2 :Bool;            # it is lowered: others may read, and so does this session
}

struct LeaseNumberReply {
  term @0 :UInt64;
  sequence @1 :UInt64;            # grants up to it are over for what was given back
}

struct OpenChunkRequest {
  # To write a chunk that the file already has.

  session @0 :UInt64;
  inode @1 :UInt64;
  index @2 :UInt32;               # in the file
}

struct OpenChunkReply {
  grant @0 :Types.ChunkGrant;
  limit @1 :UInt32 = 0xffffffff;  # as in ChunkLocation
  length @2 :UInt64;              # end of the furthest byte, from the chunk's start
  sequence @3 :UInt64;            # of the last write that all replicas have; the next is one more; 0: none
}

struct ReplicaFailedRequest {
  session @0 :UInt64;
  chunk @1 :UInt64;
  version @2 :UInt64;             # at which they failed
  failed @3 :List(UInt64);        # servers
  reason @4 :Text;                # for the log
}

struct RenewGrantRequest {
  session @0 :UInt64;
  chunk @1 :UInt64;               # open for or granted to this session
}

struct ReportBadReplicaRequest {
  session @0 :UInt64;
  chunk @1 :UInt64;
  version @2 :UInt64;
  server @3 :UInt64;              # that answered wrongly
  error @4 :UInt16;               # ErrorCode; 0: none was given
}

# ---------------------------------------------------------------- waiting for locks

struct TestLockRequest {
  session @0 :UInt64;
  inode @1 :UInt64;
  lock @2 :FileLock;
}

struct TestLockReply {
  conflict @0 :FileLock;          # null: nothing is in the way
}

struct WaitLockRequest {
  # Waits at the master until the lock may be free.

  session @0 :UInt64;
  inode @1 :UInt64;
  lock @2 :FileLock;
  wait @3 :UInt64;                # the session's own number for it
  place @4 :UInt64;               # in the queue, from the answer before; 0: none yet
}

struct WaitLockReply {
  place @0 :UInt64;
}

struct CancelWaitRequest {
  session @0 :UInt64;
  wait @1 :UInt64;
}

# ---------------------------------------------------------------- sessions

struct OpenSessionRequest {
  host @0 :Text;
  mountpoint @1 :Text;            # empty: a command, no mount
  program @2 :Text;               # with its version
}

struct OpenSessionReply {
  session @0 :UInt64;
  term @1 :UInt64;                # of the master that answers
  durationMs @2 :UInt32;          # the session lives that long from the sending of the request
  now @3 :Int64;                  # the master's wall clock
  cluster @4 :UInt64;
}

enum RecallKind {
  # Meanings: meta_types.h.

  unset @0;
  name @1;
  attributes @2;
  content @3;
  reader @4;
  writer @5;
  giveBack @6;
  locksBroken @7;
}

struct Recall {
  sequence @0 :UInt64;            # grants up to it, of the same term, are over for what it names
  kind @1 :RecallKind;
  inode @2 :UInt64;
  name @3 :Data;                  # of kind name
  count @4 :UInt32;               # of kind giveBack
}

struct TakeRecallsRequest {
  # Waits at the master until there is one.

  session @0 :UInt64;
  term @1 :UInt64;                # of the last recall that was received,
  after @2 :UInt64;               # and its sequence; of another term: all are wanted
  atOnce @3 :Bool;                # does not wait: answered also when there is none
}

struct TakeRecallsReply {
  term @0 :UInt64;
  recalls @1 :List(Recall);       # may be empty: ask again
}

struct RecallAnswer {
  sequence @0 :UInt64;
  returned @1 :Bool;              # the lease would have stayed, but is not wanted any more
}

struct AnswerRecallsRequest {
  session @0 :UInt64;
  term @1 :UInt64;
  answers @2 :List(RecallAnswer);
}

struct ReturnLeasesRequest {
  session @0 :UInt64;
  term @1 :UInt64;
  inodes @2 :List(UInt64);        # shared leases that this session does without
  lowered @3 :List(UInt64);       # exclusive ones that it keeps as shared ones
}

struct HeldLease {
  inode @0 :UInt64;
  exclusive @1 :Bool;
}

struct RenewSessionRequest {
  session @0 :UInt64;
  knownTerm @1 :UInt64;           # of the last answer
  openInodes @2 :List(UInt64);    # all of them when the term has changed; else empty
  more @3 :Bool;                  # they go on in the next request
  leases @4 :List(HeldLease);     # as openInodes
  unanswered @5 :List(UInt64);    # sequences of mutations that have no answer: files that they have created and opened are open
}

struct RenewSessionReply {
  term @0 :UInt64;
  durationMs @1 :UInt32;          # as in OpenSessionReply
  now @2 :Int64;
  reclaim @3 :Bool;               # ask again, with openInodes
}

struct CloseSessionRequest {
  session @0 :UInt64;
}

struct EmptyReply {
  # Done; there is nothing to say.
}
