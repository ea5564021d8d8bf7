#include "fs/fuse/reply_times.h"

#include <algorithm>

#include "common/base/check.h"

namespace cairn {

void RecentInodes::add(InodeId inode) {
  TimePoint now = clock_.now();
  while (!order_.empty() && (order_.front().first <= now || order_.size() >= kInodesMax)) {
    auto [until, oldest] = order_.front();
    order_.pop_front();
    auto found = until_.find(oldest);
    if (found != until_.end() && found->second == until) until_.erase(found);
  }
  TimePoint until = now + for_how_long_;
  until_[inode] = until;
  order_.emplace_back(until, inode);
}

bool RecentInodes::contains(InodeId inode) const {
  auto found = until_.find(inode);
  return found != until_.end() && clock_.now() < found->second;
}

ReplyTimes::ReplyTimes(const Clock& clock, Duration conflict_time)
    : clock_(clock), conflicts_(clock, conflict_time), contended_(clock, conflict_time) {}

ReplyTimes::Recall::~Recall() {
  if (!times_) return;
  if (!which_) {
    --times_->everything_recalled_;
    return;
  }
  auto& recalled = times_->*which_;
  auto found = recalled.find(inode_);
  CHECK(found != recalled.end());
  if (--found->second == 0) recalled.erase(found);
}

ReplyTimes::Recall ReplyTimes::recall_attributes(InodeId inode) {
  ++attributes_recalled_[inode];
  return {this, &ReplyTimes::attributes_recalled_, inode};
}

ReplyTimes::Recall ReplyTimes::recall_names(InodeId directory) {
  ++names_recalled_[directory];
  conflicts_.add(directory);
  return {this, &ReplyTimes::names_recalled_, directory};
}

ReplyTimes::Recall ReplyTimes::recall_everything() {
  ++everything_recalled_;
  return {this, nullptr, InodeId()};
}

Duration ReplyTimes::of_name(InodeId directory, Duration allowed) {
  if (allowed <= Duration::zero() || everything_recalled_ > 0 || names_recalled_.contains(directory) ||
      conflicts_.contains(directory)) {
    return Duration::zero();
  }
  if (!epoch_) allowed = std::min(allowed, kNameTimeWithoutEpoch);
  may_be_used(directory, clock_.now() + allowed + kTakenWithin);
  return allowed;
}

void ReplyTimes::may_be_used(InodeId directory, TimePoint until) {
  TimePoint now = clock_.now();
  if (names_until_.size() >= kDirectoriesMax && !names_until_.contains(directory)) {
    std::erase_if(names_until_, [now](const auto& item) { return item.second <= now; });
    if (names_until_.size() > kDirectoriesMax / 2) {
      for (const auto& [other, one] : names_until_)
        others_until_ = std::max(others_until_, one);
      names_until_.clear();
    }
  }
  TimePoint& known = names_until_[directory];
  known = std::max(known, until);
}

void ReplyTimes::name_moves(InodeId from, InodeId to) {
  TimePoint until = names_until(from);
  if (clock_.now() < until) may_be_used(to, until);
}

Duration ReplyTimes::of_attributes(InodeId inode, Duration allowed) const {
  bool recalled = everything_recalled_ > 0 || attributes_recalled_.contains(inode);
  return recalled ? Duration::zero() : std::max(allowed, Duration::zero());
}

TimePoint ReplyTimes::names_until(InodeId directory) const {
  auto found = names_until_.find(directory);
  return found == names_until_.end() ? others_until_ : std::max(others_until_, found->second);
}

TimePoint ReplyTimes::all_names_until() const {
  TimePoint until = others_until_;
  for (const auto& [directory, one] : names_until_)
    until = std::max(until, one);
  return until;
}

void ReplyTimes::names_forgotten() {
  names_until_.clear();
  others_until_ = {};
}

}  // namespace cairn
