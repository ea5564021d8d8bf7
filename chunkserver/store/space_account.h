// SpaceAccount: how much a writer may still bring. The disk is asked now and then; in between every byte taken is
// counted, so that a write which could not be stored later is refused when it comes.
//
// Pure. Owned by the store, on the loop.
#pragma once

#include <algorithm>
#include <cstdint>

#include "common/runtime/disk.h"

namespace cairn {

class SpaceAccount {
 public:
  explicit SpaceAccount(uint64_t reserve_bytes) : reserve_bytes_(reserve_bytes) {}

  // The disk is about to be asked: what is in memory only (and so takes no space there yet), and what the value log has
  // taken ahead.
  void begin_sample(uint64_t memory_only_bytes, uint64_t reserved_ahead_bytes) {
    memory_only_bytes_ = memory_only_bytes;
    reserved_ahead_bytes_ = reserved_ahead_bytes;
    charged_before_ = charged_;
  }
  void end_sample(DiskSpace space) {
    total_bytes_ = space.total_bytes;
    uint64_t plus = space.free_bytes + reserved_ahead_bytes_;
    uint64_t minus = reserve_bytes_ + memory_only_bytes_;
    sampled_bytes_ = plus > minus ? plus - minus : 0;
    // What came while the disk was asked may or may not be in its answer: counted.
    charged_ -= charged_before_;
    charged_before_ = 0;
  }
  bool try_charge(uint64_t bytes) {
    if (bytes > free_bytes()) return false;
    charged_ += bytes;
    return true;
  }
  uint64_t free_bytes() const { return sampled_bytes_ > charged_ ? sampled_bytes_ - charged_ : 0; }
  uint64_t total_bytes() const { return total_bytes_; }
  uint64_t charged_bytes() const { return charged_; }

 private:
  const uint64_t reserve_bytes_;
  uint64_t total_bytes_ = 0;
  uint64_t sampled_bytes_ = 0;
  uint64_t charged_ = 0;
  uint64_t charged_before_ = 0;
  uint64_t memory_only_bytes_ = 0;
  uint64_t reserved_ahead_bytes_ = 0;
};

}  // namespace cairn
