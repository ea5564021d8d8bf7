// MemoryContent: the bytes of one file of a MemoryDisk, as they are and as they are durably. Pure; guarded by its
// disk's lock.
//
// Pages of 4 KiB, shared between the two states until one changes. What was written since the last sync is kept as a
// list, so that a crash can keep any part of it.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "common/base/random.h"

namespace cairn {

class MemoryContent {
 public:
  static constexpr uint64_t kPageBytes = 4096;

  uint64_t size() const { return live_.size; }
  uint64_t allocated_bytes() const { return live_.pages.size() * kPageBytes; }
  // How many more bytes a write or a reservation of this range would allocate.
  uint64_t missing_bytes(uint64_t offset, uint64_t size) const;

  size_t read(uint64_t offset, std::span<std::byte> out) const;
  void write(uint64_t offset, std::vector<std::byte> data);
  void truncate(uint64_t size);
  void allocate(uint64_t offset, uint64_t size, bool keep_size);
  void punch_hole(uint64_t offset, uint64_t size);
  void sync();

  // The power goes: what was not synced is lost, or, with `keep`, a part of it that it draws: whole changes, and of
  // some writes single sectors of 512 or 4096 bytes.
  void crash(Random* keep);
  // The medium rots: the byte changes in both states. Past the end nothing happens.
  void flip_byte(uint64_t offset);

 private:
  using Page = std::array<std::byte, kPageBytes>;
  struct State {
    uint64_t size = 0;
    std::map<uint64_t, std::shared_ptr<Page>> pages;  // by index; absent: a hole
  };
  struct Change {
    enum class Kind { kWrite, kTruncate, kAllocate, kAllocateKeepSize, kPunchHole };
    Kind kind;
    uint64_t offset = 0;
    uint64_t size = 0;
    std::vector<std::byte> data;  // of a write
  };

  static Page& writable_page(State& state, uint64_t index);
  static void put(State& state, uint64_t offset, std::span<const std::byte> data);
  static void apply(State& state, const Change& change);
  static void apply_part(State& state, const Change& write, Random& keep);
  void change(Change change);

  State live_;
  State durable_;
  std::vector<Change> unsynced_;
};

}  // namespace cairn
