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
  Task<Result<void>> load_layout(uint32_t index);
  std::vector<ReplicaAddress> order_of(const Place& place) const;
  Task<Result<Payload>> read_replica(ReplicaAddress replica, Place place, uint32_t offset, uint32_t size);
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
