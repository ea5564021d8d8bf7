# Values that several schemas share. docs/formats.md, "Messages", has the rules of all schemas; in short:
#
# - Only add: a new field or enumerant takes the next free number and goes to the end. A number is never used again, a type never
#   changes, a name may. What is no longer used is renamed to obsoleteX and stays.
# - A field's default is what its C++ value starts with, so a message of an older sender reads as if it had said nothing.
# - A zero id is "none". Ids of inodes, chunks, sessions and servers are the machine's or, for servers and clusters, random.
# - Data is bytes of any kind (names, targets, attributes, capabilities); Text is UTF-8 for people and addresses.
# - Strings hold at most kMaxStringBytes, lists kMaxListItems or kMaxReplicaItems (codec.h). Unknown enumerants are refused.
# - Times are nanoseconds since 1970 by the master's wall clock, before it negative; durations are milliseconds; sizes are bytes.
@0xc0f65fd4f874ec83;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("cairn::wire");

enum FileType {
  unknown @0;      # never sent
  regular @1;
  directory @2;
  symlink @3;
  fifo @4;
  socket @5;
  charDevice @6;
  blockDevice @7;
}

enum ChunkState {
  unknown @0;      # never sent
  open @1;         # a session may be writing it; its replicas may differ
  sealed @2;       # equal and on disk on every replica that the record names
}

struct Attributes {
  # An inode as it is in the master's namespace.

  inode @0 :UInt64;               # 0: there is no such file, nothing else is meant
  type @1 :FileType = regular;
  mode @2 :UInt32;                # permission bits with set-id and sticky, 07777
  uid @3 :UInt32;
  gid @4 :UInt32;
  nlink @5 :UInt32;               # of a directory 2 + subdirectories; 0: an orphan, unlinked and still open
  rdev @6 :UInt32;                # of devices, the kernel's 32-bit encoding; 0: no device
  size @7 :UInt64;                # bytes; of a directory its entries, of a symlink its target's length
  allocatedBytes @8 :UInt64;      # what its chunks hold of data (one copy), as last committed
  atime @9 :Int64;
  mtime @10 :Int64;
  ctime @11 :Int64;
  btime @12 :Int64;
  change @13 :UInt64;             # moves with every change of the inode, of a directory also with its entries
  dataChange @14 :UInt64;         # moves when data or size change
  goal @15 :UInt8;                # replicas wanted, 1 to kMaxGoal; 0 only without an inode
  minCopies @16 :UInt8;           # replicas without which fsync does not succeed
}

struct Lease {
  # How long what came with it may be used without asking again.

  durationMs @0 :UInt32;          # from the sending of the request; 0: for this answer only
  term @1 :UInt64;                # of the master that gave it; 0: no lease
  sequence @2 :UInt64;            # of the object; moves with each grant and recall
}

struct ReplicaAddress {
  server @0 :UInt64;              # the chunkserver's id
  address @1 :Text;               # where it listens, as in common/runtime/transport.h; empty: not known at present
}

struct ReplicaStatus {
  # What a chunkserver says of one chunk it holds.

  chunk @0 :UInt64;
  version @1 :UInt64;             # of this replica; the master's record decides which are current
  state @2 :ChunkState = open;
  verified @3 :Bool = true;       # false: not sealed, and the machine has restarted since it was written
  complete @4 :Bool = true;       # false: still being filled by a copy
  sequence @5 :UInt64;            # every write up to it was taken; 0: none, or not known after a restart
  syncedSequence @6 :UInt64;      # every write up to it is on disk; 0: none
  length @7 :UInt32;              # end of the furthest byte, from the chunk's start; 0: empty
  allocatedBytes @8 :UInt32;      # space its data takes
  inode @9 :UInt64;               # the file it was last written for: a hint; 0: not known
  index @10 :UInt32;              # of the chunk in that file
}

struct ChunkGrant {
  # A chunk that a session may write.

  chunk @0 :UInt64;
  version @1 :UInt64;             # writes carry it
  replicas @2 :List(ReplicaAddress);  # the chain, in order
  minCopies @3 :UInt8;            # acknowledgements without which fsync does not succeed
  capability @4 :Data;            # signed by the master, for reading and writing; opaque to the client
}
