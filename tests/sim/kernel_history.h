// KernelHistory: what may be seen of names, attributes and bytes. Each is a register: the changes that were
// acknowledged and those that are under way. What is read must be the value of one of them that had begun before the
// read ended, and that no other one had replaced: begun after it was acknowledged, and acknowledged itself before the
// read began.
// What somebody has seen of a change that is under way others need not see yet: a kernel shows a write before it has an
// answer, and a removed name until its caller has taken the answer in.
//
// A file's bytes are cells of 512: a write fills cells with its number. Plain values; no threads.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/runtime/clock.h"

namespace cairn {

inline constexpr uint64_t kCellBytes = 512;

// What the write number `write` puts into the cells from `offset` on; 0: zeros.
std::string cells_of(uint64_t write, uint64_t offset, uint64_t bytes);
// The number of the write that a cell is of; none if it is of no write, or of parts of several.
std::optional<uint64_t> write_of(std::string_view cell, uint64_t offset);

class Register {
 public:
  static constexpr uint64_t kUnknown = UINT64_MAX;  // something new, to be seen

  explicit Register(uint64_t value);

  using Change = uint64_t;
  // `on_the_way`: what it may be until the change is acknowledged.
  Change begin(uint64_t value, TimePoint now, std::vector<uint64_t> on_the_way = {});
  void acknowledge(Change change, TimePoint now);
  void acknowledge(Change change, TimePoint now, uint64_t value);
  // It has not happened and will not.
  void refuse(Change change);
  // It has happened or not, or will until then.
  void unsure(Change change, TimePoint until);

  // Whether a value that fits may be seen between these times. `fresh`: the value may be that of a change to kUnknown.
  bool may_be(TimePoint begin, TimePoint end, const std::function<bool(uint64_t)>& fits, bool fresh = false);
  bool may_be(TimePoint begin, TimePoint end, uint64_t value, bool fresh = false);
  // The only value that it can have now.
  std::optional<uint64_t> settled() const;
  // Reads that are still to be judged began after that.
  void forget_before(TimePoint horizon);
  std::string describe() const;

 private:
  struct One {
    uint64_t value = 0;
    TimePoint began{};
    TimePoint ended = kNever;  // acknowledged
    bool sure = false;         // else it may never happen
    std::vector<uint64_t> on_the_way;
  };
  bool replaced(const One& one, TimePoint before) const;
  std::map<Change, One> changes_;
  Change next_ = 1;
};

// What is known of a file.
struct FileHistory {
  explicit FileHistory(uint64_t inode_in) : inode(inode_in), size(0), mode(0644) {}
  Register& cell(uint64_t index);

  uint64_t inode;
  Register size;
  Register mode;
  std::map<uint64_t, Register> cells;
  bool lost = false;  // something that was not durable may be gone: its bytes and size say nothing any more
  // Those who change bytes within the file, and the one who changes its size.
  uint32_t writers = 0;
  bool sizing = false;
  bool mapped = false;                  // somebody has dirty pages
  std::map<size_t, TimePoint> written;  // by which mount, when last; gone once it is durable
};

}  // namespace cairn
