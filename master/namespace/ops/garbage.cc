// What servers hold and no record wants (rule 10).
#include <algorithm>

#include "master/namespace/chunk_table.h"
#include "master/namespace/ops/ops.h"

namespace cairn {

static bool names(const ChunkRecord& chunk, ServerId server) {
  if (chunk.replica_on(server) != nullptr) return true;
  if (!chunk.pending) return false;
  const std::vector<ServerId>& joiners = chunk.pending->joiners;
  return std::find(joiners.begin(), joiners.end(), server) != joiners.end();
}

Reply apply_command(Transaction& tx, const AddGarbage& add) {
  if (!tx.server(add.server)) return Error(ErrorCode::kNotFound, "server " + to_string(add.server));
  // It may be of a file that was made after the export that this state comes from.
  if (std::optional<ClusterRecord> cluster = tx.cluster(); cluster && cluster->restore) return ErrorCode::kConflict;
  for (const AddGarbage::Item& item : add.chunks) {
    if (item.chunk.value == 0 || item.chunk.value >= tx.counters().next_chunk) continue;
    std::optional<ChunkRecord> chunk = tx.chunk(item.chunk);
    if (chunk && names(*chunk, add.server)) continue;
    add_garbage(tx, add.server, item.chunk, item.version);
  }
  return ReplyBody{EmptyReply{}};
}

Reply apply_command(Transaction& tx, const RemoveGarbage& remove) {
  for (ChunkId chunk : remove.chunks)
    remove_garbage(tx, remove.server, chunk);
  return ReplyBody{EmptyReply{}};
}

}  // namespace cairn
