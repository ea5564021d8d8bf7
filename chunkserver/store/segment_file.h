// SegmentFile: one file of the value log, opened when it is first needed: for direct writing (O_DIRECT, or buffered on
// a disk that cannot do it) and for reading through the page cache. Thread-safe. The Disk must outlive it.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "chunkserver/store/extent_map.h"
#include "common/base/result.h"
#include "common/runtime/disk.h"

namespace cairn {

class SegmentFile {
 public:
  SegmentFile(Disk& disk, std::string path) : disk_(disk), path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  // An empty file for writing; what may be there goes.
  Result<void> create();
  // Whole blocks, one after the other, from `block` on.
  Result<void> write(uint32_t block, const std::vector<BlockBytes>& blocks);
  // Exactly out.size() bytes from the start of `block`; kIo if the file ends before.
  Result<void> read(uint32_t block, std::span<std::byte> out);
  // The same past the page cache where the disk can do that; `out` is page-aligned.
  Result<void> read_direct(uint32_t block, std::span<std::byte> out);
  // The same without waiting: false if it would have to. Loop.
  bool try_read(uint32_t block, std::span<std::byte> out);
  Result<void> sync();
  // Reserves disk space up to `blocks`. Fine where the disk cannot.
  Result<void> reserve(uint32_t from_block, uint32_t to_block);
  Result<void> punch(uint32_t block, uint32_t blocks);
  Result<void> truncate(uint32_t blocks);
  Result<uint64_t> size_bytes();

 private:
  Result<File*> writer();
  Result<File*> reader();

  Disk& disk_;
  const std::string path_;
  std::mutex mutex_;  // of the two pointers; the files stay as long as this
  std::unique_ptr<File> direct_;
  std::unique_ptr<File> buffered_;
  bool no_direct_ = false;
};

}  // namespace cairn
