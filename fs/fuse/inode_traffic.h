// InodeTraffic: which requests of the kernel about an inode are under way. Whoever makes the kernel drop pages or names
// must know: the kernel holds the page of an unanswered READ, the page that an unanswered WRITE fills in part, and the
// directory of an unanswered change (docs/consistency.md, "What the kernel keeps").
//
// Pure; loop thread only. A direct READ goes past the pages and is not told here.
#pragma once

#include <cstdint>
#include <unordered_map>
#include <vector>

#include "common/base/ids.h"
#include "common/runtime/clock.h"

namespace cairn {

inline constexpr uint64_t kKernelPageBytes = 4096;
inline constexpr uint64_t kFileEnd = UINT64_MAX;

struct ByteRange {
  uint64_t begin = 0;
  uint64_t end = 0;  // not part of it

  bool overlaps(const ByteRange& other) const { return begin < other.end && other.begin < end; }
  bool operator==(const ByteRange&) const = default;
};

// What is left of `range` without the ranges in `taken`, in order.
std::vector<ByteRange> without(ByteRange range, std::vector<ByteRange> taken);

class InodeTraffic {
 public:
  uint64_t read_began(InodeId inode, ByteRange range);
  // A WRITE of the same pages was answered since it began: what was read may be older than that, and must not become
  // the kernel's page. Asked once: it begins anew.
  bool read_is_old(InodeId inode, uint64_t read);
  void read_answered(InodeId inode, uint64_t read);

  // `holds_parts`: the kernel may hold the pages that are written in part. (Not those of a direct WRITE, nor dirty
  // pages of a mapping: they are whole, though the file may end in the last.)
  uint64_t write_began(InodeId inode, ByteRange range, TimePoint now, bool holds_parts);
  // Pages of the WRITE that were read while it was under way, and may be older; asked until there are none, then it is
  // answered.
  std::vector<ByteRange> read_during(InodeId inode, uint64_t write);
  void write_answered(InodeId inode, uint64_t write);
  // Pages within `range` that a WRITE fills in part which began by then and has no answer.
  std::vector<ByteRange> partial_pages(InodeId inode, ByteRange range, TimePoint begun_by) const;

  // A change of the directory's names: CREATE, MKDIR, MKNOD, SYMLINK, LINK, UNLINK, RMDIR, RENAME.
  void change_began(InodeId directory);
  void change_answered(InodeId directory);
  bool changing(InodeId directory) const;

  // A pass over the inode's pages, one at a time. With `hold_reads` new READs are to wait until it is over.
  void begin_pass(InodeId inode, bool hold_reads);
  // Ranges that may hold what was there before the pass: of READs that were answered meanwhile, or still are under way.
  std::vector<ByteRange> end_pass(InodeId inode);
  // A READ that has just come must wait.
  bool holds(InodeId inode, ByteRange range) const;
  // The pass may be waiting for a READ of this range: it does not wait.
  void let_through(InodeId inode, ByteRange range);

  size_t size() const { return inodes_.size(); }

 private:
  // More are told as one that covers them all.
  static constexpr size_t kRangesMax = 64;

  struct Read {
    ByteRange range;
    bool old = false;
  };
  struct Write {
    ByteRange range;
    TimePoint began;
    bool holds_parts = false;
    std::vector<ByteRange> read;  // meanwhile
  };
  struct State {
    std::unordered_map<uint64_t, Read> reads;  // under way
    std::unordered_map<uint64_t, Write> writes;
    uint64_t changes = 0;
    bool pass = false;
    bool hold_reads = false;
    ByteRange through;
    std::vector<ByteRange> answered;

    bool idle() const { return reads.empty() && writes.empty() && changes == 0 && !pass; }
  };
  static void add(std::vector<ByteRange>& ranges, ByteRange range, size_t max = kRangesMax);
  void drop_if_idle(InodeId inode);

  std::unordered_map<InodeId, State> inodes_;
  uint64_t next_ = 1;
};

// A change of a directory's names without an answer yet: the kernel holds the directory.
class OwnChange {
 public:
  OwnChange(InodeTraffic& traffic, InodeId directory) : traffic_(traffic), directory_(directory) {
    traffic_.change_began(directory_);
  }
  OwnChange(const OwnChange&) = delete;
  OwnChange& operator=(const OwnChange&) = delete;
  ~OwnChange() { traffic_.change_answered(directory_); }

 private:
  InodeTraffic& traffic_;
  InodeId directory_;
};

}  // namespace cairn
