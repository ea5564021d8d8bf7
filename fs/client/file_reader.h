// FileReader: reads the data of one inode: where its chunks are (kept while the inode's lease is held),
// which replica to ask, the checks of what it answers, and the next replica when one fails.
//
// Loop thread only; must outlive its reads (the mount ends them first).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>

#include "common/base/buffer.h"
#include "common/runtime/future.h"
#include "fs/client/file_writer.h"

namespace cairn {

class FileReader {
 public:
  FileReader(World& world, MasterLink& master, ServerPool& servers, LeaseKeeper& leases, InodeId inode);

  // [offset, offset + size), which lies within the file. `writer`: of the same inode, if this mount writes it.
  Task<Result<Payload>> read(uint64_t offset, uint32_t size, FileWriter* writer);
  // Where data (or a hole) begins in [offset, end), as the replicas have it; `end` if there is none.
  Task<Result<uint64_t>> seek(uint64_t offset, uint64_t end, bool data, FileWriter* writer);
  // Chunks have moved or changed: what is known of them is asked for again.
  void forget_layout() { layout_leased_ = false; }

 private:
  struct Place {  // of one chunk, for one read
    ChunkId chunk;
    uint64_t version = 0;
    uint32_t limit = UINT32_MAX;
    uint64_t sequence = 0;  // of this mount's own writes
    std::vector<ReplicaAddress> replicas;
    std::string capability;
  };
  Task<Result<Payload>> read_piece(uint32_t index, uint32_t offset, uint32_t size, FileWriter* writer);
  Task<Result<Place>> find(uint32_t index, FileWriter* writer);
  // The first part from `index` on that has a chunk; `last` + 1 if none up to that has one.
  Task<Result<uint64_t>> next_chunk(uint64_t index, uint64_t last, FileWriter* writer);
  // The parts of the chunk that hold data, in order.
  using Map = std::vector<ChunkMapReply::Range>;
  Task<Result<Map>> map_of(uint32_t index, FileWriter* writer);
  Task<Result<void>> map_of_replica(ReplicaAddress replica, Place place, Map* out);
  Task<Result<void>> load_layout(uint32_t index);
  std::vector<ReplicaAddress> order_of(const Place& place) const;
  // Asks one replica after the other, with a fresh layout where that helps. Nobody is asked, and that is no error, if
  // there is no chunk, or nothing of it from `offset` on.
  using AskReplica = std::function<Task<Result<void>>(ReplicaAddress, Place)>;
  Task<Result<void>> ask_replicas(uint32_t index, uint32_t offset, FileWriter* writer, AskReplica ask);
  Task<Result<void>> read_replica(ReplicaAddress replica, Place place, uint32_t offset, uint32_t size, Payload* out);
  Task<void> report_bad(ChunkId chunk, uint64_t version, ServerId server, ErrorCode error);

  World& world_;
  MasterLink& master_;
  ServerPool& servers_;
  LeaseKeeper& leases_;
  InodeId inode_;
  std::map<uint32_t, ChunkLocation> layout_;  // of [layout_first_, layout_first_ + kLayoutChunks)
  uint32_t layout_first_ = 0;
  bool layout_leased_ = false;
};

}  // namespace cairn
