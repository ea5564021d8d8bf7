// Notifier: names, and everything at once.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/base/log.h"
#include "fs/fuse/notifier.h"
#include "fs/fuse/notifier_parts.h"

namespace cairn {

namespace {
constexpr size_t kForgetAtOnce = 8;  // inodes, when everything is forgotten
}  // namespace

void Notifier::probe() {
  state_.times.set_epoch(kernel_.advance_epoch() == 0);
}

void Notifier::advance() {
  epochs_.add();
  int answer = kernel_.advance_epoch();
  if (answer != 0 && answer != -ENODEV && answer != -ENOTCONN && answer != -EPERM) {
    log_warning("fuse.epoch_failed", "errno={}", -answer);
  }
}

Task<void> Notifier::forget_name(InodeId directory, std::string name) {
  UnderWay counted(*this);
  ReplyTimes::Recall names = state_.times.recall_names(directory);
  ReplyTimes::Recall attributes = state_.times.recall_attributes(directory);
  state_.directories.names_recalled(directory);
  state_.directories.attributes_recalled(directory);
  co_await drop_attributes(directory);
  co_await drop_name(directory, std::move(name));
}

// Every way ends by itself: the kernel lets go, or is told to ask again, or has no name any more that it would not ask
// about.
Task<void> Notifier::drop_name(InodeId directory, std::string name) {
  while (world_.clock().now() < state_.times.names_until(directory) && !tasks_.stop_requested()) {
    // Behind an own change inval_entry would wait, and everybody who looks into the directory behind it.
    bool blocked = state_.traffic.changing(directory) || stuck_names_.contains(directory) || many_left();
    if (!blocked) {
      bool forgotten = co_await try_name(directory, name);
      if (forgotten) co_return;
    } else if (state_.times.has_epoch()) {
      co_await drop_names_by_epoch(directory);
      co_return;
    } else {
      TimePoint end = std::min(state_.times.names_until(directory), world_.clock().now() + options_.patience);
      Result<void> slept = co_await tasks_.sleep_until(end);
      if (!slept) co_return;
    }
  }
}

Task<bool> Notifier::try_name(InodeId directory, std::string name) {
  InLane lane(name_lanes_, directory, world_.executor());
  Semaphore::Permit turn = co_await lane.turn().lock();
  lane.take(std::move(turn));
  if (state_.traffic.changing(directory) || stuck_names_.contains(directory)) co_return false;
  CallPtr call = send({.kind = Notification::Kind::kEntry, .inode = directory, .name = std::move(name)});
  TimePoint end = world_.clock().now() + options_.long_patience;
  for (;;) {
    bool back = co_await back_within(call, options_.patience);
    if (back) co_return true;
    TimePoint now = world_.clock().now();
    bool over = now >= end || now >= state_.times.names_until(directory);
    if (*call->begun && (over || state_.traffic.changing(directory))) break;
  }
  leave(call);
  stuck_names_[directory] = call;
  co_return false;
}

// An answer to READDIRPLUS that the kernel has not yet taken in would be taken for new: the epoch advances again when
// the handle's next request shows that it has, and for this recall after the time that the kernel needs at most to do
// that.
Task<void> Notifier::drop_names_by_epoch(InodeId directory) {
  advance();
  if (!state_.directories.plus_under_way(directory)) {
    if (!state_.directories.any_plus_under_way()) state_.times.names_forgotten();
    co_return;
  }
  state_.directories.wait_for_proof(directory);
  for (;;) {
    std::optional<TimePoint> given = state_.directories.plus_under_way(directory);
    if (!given || world_.clock().now() >= *given + ReplyTimes::kTakenWithin) break;
    Result<void> slept = co_await tasks_.sleep_for(options_.patience);
    if (!slept) co_return;
  }
  advance();
}

Task<void> Notifier::forget_everything() {
  UnderWay counted(*this);
  ReplyTimes::Recall recall = state_.times.recall_everything();
  state_.directories.everything_recalled();
  if (state_.times.has_epoch()) {
    advance();
    state_.directories.wait_for_proof({});
  }
  auto inodes = std::make_shared<std::vector<InodeId>>(state_.inodes.all());
  TaskGroup workers(world_.executor(), world_.clock());
  for (size_t i = 0; i < kForgetAtOnce; ++i)
    workers.spawn(drop_known(inodes));
  co_await workers.stop();
  if (state_.times.has_epoch() && state_.directories.any_plus_under_way()) {
    Result<void> slept = co_await tasks_.sleep_for(ReplyTimes::kTakenWithin);
    if (!slept) co_return;
    advance();
  }
  if (state_.times.has_epoch()) co_return;
  Result<void> slept = co_await tasks_.sleep_until(state_.times.all_names_until());
  if (!slept) co_return;
}

Task<void> Notifier::drop_known(std::shared_ptr<std::vector<InodeId>> inodes) {
  while (!inodes->empty() && !tasks_.stop_requested()) {
    InodeId inode = inodes->back();
    inodes->pop_back();
    state_.inodes.may_have_xattrs(inode);
    bool known = co_await drop_all_pages(inode);
    if (!known) co_await drop_attributes(inode);
  }
}

}  // namespace cairn
