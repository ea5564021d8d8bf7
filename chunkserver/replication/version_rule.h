// The rules by which a replica answers writers (consistency.md "Versions" 2 and 5): which writes it takes, and what it
// can show of them after a restart.
//
// Pure functions. The store has the last word on what they let through; what they refuse is never given to it.
#pragma once

#include <cstdint>

#include "common/base/error.h"
#include "common/base/ids.h"
#include "common/proto/chunk_types.h"

namespace cairn {

// What a replica knows of one of its chunks.
struct ReplicaView {
  bool present = false;
  uint64_t version = 0;  // of a chunk that is not here: the lowest one that may begin
  bool sealed = false;
  uint64_t synced = 0;  // every write up to it is on disk
  uint64_t taken = 0;   // every write up to it is done
  uint64_t handed =
      0;  // every write up to it has been given to the store, in order; those above `taken` are on their way

  bool operator==(const ReplicaView&) const = default;
};
// A store that has restarted says sequence 0: what is on disk is then what it has taken.
ReplicaView view_of(const ReplicaStatus& status);

enum class WriteVerdict : uint8_t {
  kTake,        // give it to the store
  kDone,        // it has been taken: a repeated one
  kWait,        // those before it are missing; they may be on their way
  kOldVersion,  // the replica is newer, or sealed: the writer has been cut off
  kNewVersion,  // the replica is older: it must be raised or made equal first
};
// A chunk that is not here begins with sequence 1; what comes later waits for it.
WriteVerdict judge_write(const ReplicaView& view, uint64_t version, uint64_t sequence);

enum class SyncVerdict : uint8_t {
  kSync,           // the store makes it durable
  kWait,           // the write is on its way to the store
  kMissingWrites,  // the replica has not taken it, or has lost it by a restart
  kOldVersion,
  kNewVersion,
};
// An fsync names the sequence it needs and the incarnation that acknowledged it. In another incarnation only what was
// on disk, and what has been taken again, counts: that is what the view holds, so the rule is one for both.
SyncVerdict judge_sync(const ReplicaView& view, uint64_t version, uint64_t sequence);

// What a refused writer is told; kMissingWrites for kWait: nobody waits any longer.
Error refusal(WriteVerdict verdict, const ReplicaView& view, uint64_t version, uint64_t sequence);
Error refusal(SyncVerdict verdict, const ReplicaView& view, uint64_t version, uint64_t sequence);

// A chunk that is not here lacks every write: kNotFound becomes kMissingWrites, and `sequence` says from where on to
// send again.
ReplicaAck acknowledge(ServerId server, uint64_t incarnation, const ReplicaView& view);
ReplicaAck acknowledge(ServerId server, uint64_t incarnation, const ReplicaView& view, const Error& error);

}  // namespace cairn
