// ReplyTimes: what timeouts an answer to the kernel may carry, asked at the moment of the answer: none about what is
// being recalled, and none for names of a directory that others have changed a moment ago (then there is nothing to
// invalidate the next time). And until when the names of a directory that the kernel was given may be in use there: a
// recall of a name need not wait for longer.
//
// Pure but for the clock; loop thread only. Bounded memory.
#pragma once

#include <cstdint>
#include <deque>
#include <unordered_map>
#include <utility>

#include "common/base/ids.h"
#include "common/runtime/clock.h"

namespace cairn {

// Inodes to which something happened a moment ago.
class RecentInodes {
 public:
  RecentInodes(const Clock& clock, Duration for_how_long) : clock_(clock), for_how_long_(for_how_long) {}
  void add(InodeId inode);
  bool contains(InodeId inode) const;

 private:
  static constexpr size_t kInodesMax = 65'536;  // more in so short a time: the oldest are forgotten early

  const Clock& clock_;
  const Duration for_how_long_;
  std::unordered_map<InodeId, TimePoint> until_;
  std::deque<std::pair<TimePoint, InodeId>> order_;
};

class ReplyTimes {
 public:
  // Without an epoch the kernel can only be made to look names up again by waiting: not for long.
  static constexpr Duration kNameTimeWithoutEpoch = std::chrono::seconds(1);
  // A timeout begins when the caller takes the answer in, which may be after we gave it.
  static constexpr Duration kTakenWithin = std::chrono::milliseconds(200);

  // What others have changed is not cached by the kernel for `conflict_time`.
  ReplyTimes(const Clock& clock, Duration conflict_time);

  void set_epoch(bool there) { epoch_ = there; }
  bool has_epoch() const { return epoch_; }

  // For an answer that is given now; at most `allowed`.
  Duration of_name(InodeId directory, Duration allowed);
  Duration of_attributes(InodeId inode, Duration allowed) const;

  // While it lives, answers about the inode's attributes (the directory's names; everything) carry no timeout.
  class Recall {
   public:
    Recall(Recall&& other) noexcept
        : times_(std::exchange(other.times_, nullptr)), which_(other.which_), inode_(other.inode_) {}
    Recall& operator=(Recall&&) = delete;
    ~Recall();

   private:
    friend class ReplyTimes;
    using Which = std::unordered_map<InodeId, uint32_t> ReplyTimes::*;
    Recall(ReplyTimes* times, Which which, InodeId inode) : times_(times), which_(which), inode_(inode) {}
    ReplyTimes* times_;
    Which which_;  // null: everything
    InodeId inode_;
  };
  Recall recall_attributes(InodeId inode);
  Recall recall_names(InodeId directory);
  Recall recall_everything();

  // The kernel moves a name from one directory to another, and its timeout with it.
  void name_moves(InodeId from, InodeId to);

  // Until when a name that was given for the directory may be in use; in the past if none is.
  TimePoint names_until(InodeId directory) const;
  TimePoint all_names_until() const;
  // The kernel looks everything up again from now on.
  void names_forgotten();

  // The inode's content was recalled a moment ago: several mounts work on it.
  void content_contended(InodeId inode) { contended_.add(inode); }
  bool is_contended(InodeId inode) const { return contended_.contains(inode); }

 private:
  void may_be_used(InodeId directory, TimePoint until);

  // Beyond it they are known together.
  static constexpr size_t kDirectoriesMax = 16'384;

  const Clock& clock_;
  bool epoch_ = false;
  std::unordered_map<InodeId, uint32_t> attributes_recalled_;  // how many times
  std::unordered_map<InodeId, uint32_t> names_recalled_;
  uint32_t everything_recalled_ = 0;
  RecentInodes conflicts_;
  RecentInodes contended_;
  std::unordered_map<InodeId, TimePoint> names_until_;
  TimePoint others_until_{};
};

}  // namespace cairn
