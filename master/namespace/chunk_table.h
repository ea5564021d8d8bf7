// Chunk records and what is kept about them elsewhere: the indexes (by server, by session, of those that need attention), the counters, the
// garbage on servers, and the references from files. Every change of a chunk's record goes through here. Functions on a Transaction.
#pragma once

#include <cstdint>

#include "common/base/ids.h"
#include "master/namespace/records.h"
#include "master/namespace/transaction.h"

namespace cairn {

// A new chunk (`before` is null), or a changed one.
void write_chunk(Transaction& tx, ChunkId id, const ChunkRecord* before, const ChunkRecord& after);
// The record goes; what its servers hold is garbage (rule 10).
void remove_chunk(Transaction& tx, ChunkId id, const ChunkRecord& chunk);
// The record goes, and what its servers hold stays there: nobody knows whether it is garbage.
void forget_chunk(Transaction& tx, ChunkId id, const ChunkRecord& chunk);
// One of the file's references is gone; with the last one the chunk.
void unreference_chunk(Transaction& tx, ChunkId id);

// Erases the ref and what it refers to. `inode` is the living inode (its counts are changed, not written), or null if it is gone.
void drop_ref(Transaction& tx, InodeId id, InodeRecord* inode, uint32_t index, const ChunkRef& ref);

// The replica as a record: with the server's present number of boots, or 0 (unverified while the chunk is open) if it has started again since
// `incarnation`. The server must be registered.
ReplicaRecord make_replica(const ReplicaSpec& spec, const ServerRecord& server);

// Versions up to `version` of the chunk on that server may be deleted after the grace time.
void add_garbage(Transaction& tx, ServerId server, ChunkId chunk, uint64_t version);
void remove_garbage(Transaction& tx, ServerId server, ChunkId chunk);

// True if something is to be repaired, or finished, by what the record says.
bool needs_attention(const ChunkRecord& chunk);

}  // namespace cairn
