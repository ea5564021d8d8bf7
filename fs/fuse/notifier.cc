#include "fs/fuse/notifier.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/base/log.h"

namespace cairn {

namespace {
constexpr Duration kWatchPeriod = std::chrono::seconds(2);
// The kernel answers "unknown" for an inode whose first reply it has not yet taken in: asked again, until the reply's
// attributes have run out by themselves.
constexpr Duration kRetryPauseMin = std::chrono::milliseconds(2);
constexpr Duration kRetryTime = std::chrono::seconds(1);
}  // namespace

Notifier::Notifier(World& world, KernelNotifications& kernel, const InodeTable& inodes, std::function<void()> give_up,
                   NotifierOptions options)
    : world_(world),
      kernel_(kernel),
      inodes_(inodes),
      give_up_(std::move(give_up)),
      options_(options),
      pool_(world.make_pool("fuse-notify", options.threads)),
      sent_(world.metrics().counter("cairn_fuse_notifications_total", "what the kernel was told to forget")),
      waiting_(
          world.metrics().gauge("cairn_fuse_notifications_waiting", "notifications that the kernel has not let go")),
      idle_(world.executor()),
      tasks_(world.executor(), world.clock()) {
  tasks_.spawn(watch());
}

Notifier::~Notifier() = default;

Task<Result<int>> Notifier::run_on_pool(std::move_only_function<int()> call) {
  Result<int> answer = co_await pool_->run([call = std::move(call)]() mutable -> Result<int> { return call(); });
  co_return answer;
}

Task<int> Notifier::notify(InodeId inode, std::move_only_function<int()> call) {
  std::unique_ptr<Lane>& slot = lanes_[inode];
  if (!slot) slot = std::make_unique<Lane>(world_.executor());
  Lane* lane = slot.get();
  ++lane->users;
  ++under_way_;
  waiting_.set(static_cast<double>(under_way_));
  int answer = 0;
  {
    Semaphore::Permit turn = co_await lane->turn.lock();
    uint64_t id = next_++;
    running_.emplace(id, Running{.inode = inode, .since = world_.clock().now()});
    sent_.add();
    Result<int> told = co_await run_on_pool(std::move(call));
    running_.erase(id);
    if (told) answer = *told;
  }
  if (--lane->users == 0) lanes_.erase(inode);
  --under_way_;
  waiting_.set(static_cast<double>(under_way_));
  if (under_way_ == 0) idle_.notify_all();
  co_return answer;
}

Task<void> Notifier::forget_pages(InodeId inode) {
  if (inodes_.lookups(inode) == 0) co_return;
  // ENOENT: the kernel has no such inode, so no pages of it.
  int answer = co_await notify(inode, [this, inode] { return kernel_.invalidate_pages(inode, 0, 0); });
  if (answer != 0 && answer != -ENOENT && answer != -ENODEV) {
    log_warning("fuse.forget_pages_failed", "inode={} errno={}", inode, -answer);
  }
}

Task<void> Notifier::forget_attributes(InodeId inode) {
  TimePoint give_up = world_.clock().now() + kRetryTime;
  for (Duration pause = kRetryPauseMin;; pause *= 2) {
    if (inodes_.lookups(inode) == 0) co_return;
    int answer = co_await notify(inode, [this, inode] { return kernel_.invalidate_attributes(inode); });
    if (answer != -ENOENT || world_.clock().now() >= give_up) co_return;
    Result<void> slept = co_await tasks_.sleep_for(pause);
    if (!slept) co_return;
  }
}

Task<void> Notifier::forget_entry(InodeId parent, std::string name) {
  if (inodes_.lookups(parent) == 0) co_return;
  co_await notify(parent, [this, parent, name = std::move(name)] {
    int answer = kernel_.invalidate_entry(parent, name);
    // A name that the kernel does not hold leaves the cached listing as it is.
    if (answer == -ENOENT) kernel_.invalidate_pages(parent, 0, 0);
    return answer;
  });
}

Task<void> Notifier::watch() {
  for (;;) {
    Result<void> slept = co_await tasks_.sleep_for(std::min(kWatchPeriod, options_.log_after));
    if (!slept) co_return;
    TimePoint now = world_.clock().now();
    for (auto& [id, running] : running_) {
      Duration blocked = now - running.since;
      if (blocked >= options_.log_after && !running.logged) {
        running.logged = true;
        log_warning("fuse.notification_blocked", "inode={} seconds={}", running.inode,
                    std::chrono::duration_cast<std::chrono::seconds>(blocked).count());
      }
      if (blocked < options_.give_up_after || gave_up_) continue;
      gave_up_ = true;
      log_error("fuse.notification_stuck", "inode={} action=abort", running.inode);
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
