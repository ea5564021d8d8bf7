// FileModel: what the random workload knows of one file: its durable bytes, what was written since, and what may be
// found after a crash.
//
// Bytes are named, not kept: each write has a number, and its bytes follow from (number, offset). Number 0 is zeros.
// Plain values; no threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace cairn {

std::byte model_byte(uint64_t write, uint64_t offset);

class FileContent {
 public:
  void put(uint64_t begin, uint64_t end, uint64_t write);
  void set_size(uint64_t size);
  uint64_t size() const { return size_; }
  uint64_t write_at(uint64_t offset) const;
  // The first offset whose byte differs from `data`, which was read at `offset`.
  std::optional<uint64_t> first_difference(uint64_t offset, std::span<const std::byte> data) const;
  const std::map<uint64_t, std::pair<uint64_t, uint64_t>>& extents() const { return extents_; }  // begin: end, write

 private:
  void split(uint64_t at);
  std::map<uint64_t, std::pair<uint64_t, uint64_t>> extents_;
  uint64_t size_ = 0;
};

class FileModel {
 public:
  // Writes and truncations are told before they are asked for, and again when they have succeeded.
  // after_loss: what is pending before it may all be gone.
  void begin_write(uint64_t begin, uint64_t end, uint64_t write, bool after_loss = false);
  void end_write();
  void begin_truncate(uint64_t size);
  void end_truncate();
  void synced();

  const FileContent& current() const { return current_; }
  bool clean() const { return pending_.empty(); }
  bool size_is_possible(uint64_t size) const;
  // Where bytes may be other than zero, with a margin: what is worth reading of a file of `size` bytes.
  std::vector<std::pair<uint64_t, uint64_t>> regions(uint64_t size) const;
  // After a crash: takes what was found for the truth. The offset of the first byte that cannot be, if there is one.
  void begin_adoption(uint64_t size);
  std::optional<uint64_t> adopt(uint64_t offset, std::span<const std::byte> data);
  void end_adoption();
  std::string describe(uint64_t offset) const;

 private:
  struct Pending {
    bool truncate = false;
    bool after_loss = false;
    uint64_t begin = 0;
    uint64_t end = 0;  // or the new size
    uint64_t write = 0;
  };
  FileContent durable_;
  FileContent current_;
  FileContent adopted_;
  std::vector<Pending> pending_;
};

}  // namespace cairn
