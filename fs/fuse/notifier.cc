#include "fs/fuse/notifier.h"

#include <algorithm>
#include <cerrno>
#include <deque>
#include <utility>

#include "common/base/log.h"
#include "fs/fuse/notifier_parts.h"

namespace cairn {

namespace {

constexpr Duration kWatchPeriod = std::chrono::seconds(2);
// The kernel answers "unknown" for an inode whose first reply it has not yet taken in: asked again, until the timeout
// of that reply has run out by itself.
constexpr Duration kRetryPauseMin = std::chrono::milliseconds(2);
constexpr Duration kRetryPauseMax = std::chrono::milliseconds(100);
// From this pass on new READs wait, so that there is a last one.
constexpr int kHoldingPass = 3;
constexpr ByteRange kAllPages{0, kFileEnd};

Notification pages_of(InodeId inode, ByteRange range) {
  return {.kind = Notification::Kind::kPages,
          .inode = inode,
          .offset = range.begin,
          .size = range.end == kFileEnd ? 0 : range.end - range.begin};
}

}  // namespace

Notifier::Notifier(World& world, KernelNotifications& kernel, KernelState& state, std::function<void()> give_up,
                   NotifierOptions options)
    : world_(world),
      kernel_(kernel),
      state_(state),
      give_up_(std::move(give_up)),
      options_(options),
      sent_(world.metrics().counter("cairn_fuse_notifications_total", "what the kernel was told to forget")),
      waiting_(world.metrics().gauge("cairn_fuse_notifications_waiting", "recalls that the kernel has not let go yet")),
      left_alone_(world.metrics().counter("cairn_fuse_notifications_left_total",
                                          "notifications behind an own request, which the recall did not wait for")),
      epochs_(world.metrics().counter("cairn_fuse_epochs_total", "how often all names had to be looked up again")),
      idle_(world.executor()),
      reads_(world.executor()),
      tasks_(world.executor(), world.clock()) {
  tasks_.spawn(watch());
}

Notifier::~Notifier() = default;

// ---------------------------------------------------------------- one notification

Notifier::CallPtr Notifier::send(Notification what) {
  auto call = std::make_shared<Call>(world_.executor());
  call->inode = what.inode;
  call->id = next_++;
  if (tasks_.stop_requested()) {
    call->answer = -ENODEV;
    return call;
  }
  call->since = world_.clock().now();
  running_.emplace(call->id, call);
  sent_.add();
  tasks_.spawn(run(call, std::move(what)));
  return call;
}

Task<void> Notifier::run(CallPtr call, Notification what) {
  int answer = co_await kernel_.notify(std::move(what), call->begun);
  running_.erase(call->id);
  if (call->left) --left_;
  call->answer = answer;
  auto stuck = stuck_names_.find(call->inode);
  if (stuck != stuck_names_.end() && stuck->second == call) stuck_names_.erase(stuck);
  call->returned.notify_all();
}

Task<bool> Notifier::back_within(CallPtr call, Duration patience) {
  // What waits for a thread does not wait for a request.
  for (bool begun = false; !begun && !call->answer;) {
    begun = *call->begun;
    Result<void> notified = co_await call->returned.wait_until(world_.clock(), world_.clock().now() + patience);
    if (notified) break;
  }
  co_return call->answer.has_value();
}

Task<int> Notifier::back(CallPtr call) {
  while (!call->answer)
    co_await call->returned.wait();
  co_return *call->answer;
}

void Notifier::leave(const CallPtr& call) {
  call->left = true;
  ++left_;
  left_alone_.add();
}

// ---------------------------------------------------------------- pages

Task<void> Notifier::read_may_begin(InodeId inode, ByteRange range) {
  while (state_.traffic.holds(inode, range))
    co_await reads_.wait();
}

Task<void> Notifier::forget_pages(InodeId inode) {
  UnderWay counted(*this);
  ReplyTimes::Recall recall = state_.times.recall_attributes(inode);
  state_.times.content_contended(inode);
  state_.directories.attributes_recalled(inode);
  state_.inodes.may_have_xattrs(inode);
  bool known = co_await drop_all_pages(inode);
  if (known) state_.inodes.attributes_forgotten(inode);
  if (!known) co_await drop_attributes(inode);
}

Task<void> Notifier::drop_pages(InodeId inode) {
  UnderWay counted(*this);
  co_await drop_all_pages(inode);
}

Task<void> Notifier::drop_range(InodeId inode, ByteRange range) {
  if (!state_.inodes.may_have_pages(inode)) co_return;
  UnderWay counted(*this);
  CallPtr call = send(pages_of(inode, range));
  bool returned = co_await back_within(call, options_.long_patience);
  if (!returned) leave(call);
}

Task<bool> Notifier::drop_all_pages(InodeId inode) {
  if (state_.inodes.lookups(inode) == 0 || !state_.inodes.may_have_pages(inode)) co_return false;
  InLane lane(page_lanes_, inode, world_.executor());
  Semaphore::Permit turn = co_await lane.turn().lock();
  lane.take(std::move(turn));
  bool known = true;
  std::vector<ByteRange> ranges = {kAllPages};
  for (int pass = 1; !ranges.empty() && !tasks_.stop_requested(); ++pass) {
    state_.traffic.begin_pass(inode, pass >= kHoldingPass);
    // A READ that lasts, of pages that the kernel does not hold for it.
    if (pass > kHoldingPass) {
      Result<void> slept = co_await tasks_.sleep_for(kRetryPauseMin);
      if (!slept) ranges.clear();
    }
    known = co_await pass_over(inode, std::move(ranges));
    ranges = state_.traffic.end_pass(inode);
    // The cursor may have been past a page when an older answer filled it. Twice everything may have moved meanwhile.
    if (!ranges.empty() && pass + 1 < kHoldingPass) ranges = {kAllPages};
  }
  reads_.notify_all();
  co_return known;
}

Task<bool> Notifier::pass_over(InodeId inode, std::vector<ByteRange> ranges) {
  bool known = true;
  std::deque<ByteRange> left;
  // A page that a WRITE fills in part by itself: the kernel may hold it until the answer.
  auto plan = [&left](ByteRange range, const std::vector<ByteRange>& pages) {
    for (const ByteRange& part : without(range, pages))
      left.push_back(part);
    left.insert(left.end(), pages.begin(), pages.end());
  };
  for (const ByteRange& range : ranges)
    plan(range, state_.traffic.partial_pages(inode, range, world_.clock().now()));
  while (!left.empty()) {
    ByteRange range = left.front();
    left.pop_front();
    bool one_page = range.end - range.begin == kKernelPageBytes;
    if (one_page && many_left()) {
      tasks_.spawn(drop_when_answered(inode, range));
      continue;
    }
    CallPtr call = send(pages_of(inode, range));
    for (;;) {
      bool back = co_await back_within(call, options_.patience);
      if (back) break;
      // Perhaps behind a READ that this very pass holds back.
      state_.traffic.let_through(inode, range);
      reads_.notify_all();
      std::vector<ByteRange> pages =
          state_.traffic.partial_pages(inode, range, world_.clock().now() - options_.patience);
      if (pages.empty()) continue;  // behind a READ: it will be answered
      // Behind an own WRITE, which may wait for another mount. The page itself is not up to date then, so nobody reads
      // it; it is dropped when the WRITE has its answer.
      leave(call);
      if (!one_page) plan(range, pages);
      break;
    }
    if (call->answer) known = *call->answer != -ENOENT;
  }
  co_return known;
}

// Without a thread that waits for it.
Task<void> Notifier::drop_when_answered(InodeId inode, ByteRange page) {
  while (!state_.traffic.partial_pages(inode, page, kNever).empty()) {
    Result<void> slept = co_await tasks_.sleep_for(options_.patience);
    if (!slept) co_return;
  }
  co_await back(send(pages_of(inode, page)));
}

// ---------------------------------------------------------------- attributes

Task<void> Notifier::forget_attributes(InodeId inode) {
  UnderWay counted(*this);
  ReplyTimes::Recall recall = state_.times.recall_attributes(inode);
  state_.directories.attributes_recalled(inode);
  state_.inodes.may_have_xattrs(inode);
  co_await drop_attributes(inode);
}

Task<void> Notifier::drop_attributes(InodeId inode) {
  for (Duration pause = kRetryPauseMin;; pause = std::min(pause * 2, kRetryPauseMax)) {
    // Gone, or used up.
    if (world_.clock().now() >= state_.inodes.attributes_until(inode)) co_return;
    CallPtr call = send({.kind = Notification::Kind::kAttributes, .inode = inode});
    int answer = co_await back(call);
    if (answer != -ENOENT) {
      state_.inodes.attributes_forgotten(inode);
      co_return;
    }
    Result<void> slept = co_await tasks_.sleep_for(pause);
    if (!slept) co_return;
  }
}

// ---------------------------------------------------------------- all of them

Task<void> Notifier::watch() {
  for (;;) {
    Result<void> slept = co_await tasks_.sleep_for(std::min(kWatchPeriod, options_.log_after));
    if (!slept) co_return;
    TimePoint now = world_.clock().now();
    for (auto& [id, call] : running_) {
      Duration blocked = now - call->since;
      if (blocked >= options_.log_after && !call->logged) {
        call->logged = true;
        log_warning("fuse.notification_blocked", "inode={} seconds={}", call->inode,
                    std::chrono::duration_cast<std::chrono::seconds>(blocked).count());
      }
      if (blocked < options_.give_up_after || gave_up_) continue;
      gave_up_ = true;
      log_error("fuse.notification_stuck", "inode={} action=abort", call->inode);
      give_up_();
    }
  }
}

Task<void> Notifier::stop() {
  co_await tasks_.stop();
  while (under_way_ > 0)
    co_await idle_.wait();
}

}  // namespace cairn
