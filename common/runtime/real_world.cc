#include "common/runtime/real_world.h"

#include <deque>
#include <fstream>
#include <optional>
#include <signal.h>
#include <utility>

#include <boost/asio/signal_set.hpp>

#include "common/base/check.h"
#include "common/base/log.h"
#include "common/runtime/asio_loop.h"
#include "common/runtime/posix_disk.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "common/runtime/tcp_transport.h"
#include "common/runtime/thread_pool.h"

namespace cairn {

namespace {

using boost::asio::posix::stream_descriptor;

// Shared by the handle and by the pending wait, so that a handle that goes away inside `ready` frees nothing that runs.
class Watched : public std::enable_shared_from_this<Watched> {
 public:
  Watched(boost::asio::io_context& io, int fd, std::function<void()> ready)
      : descriptor_(io, fd), ready_(std::move(ready)) {}

  void arm() {
    descriptor_.async_wait(stream_descriptor::wait_read, [self = shared_from_this()](boost::system::error_code error) {
      if (self->gone_) return;
      if (error) {
        log_error("loop.watch_failed", "error={}", quoted(error.message()));
        return;
      }
      self->ready_();
      if (!self->gone_) self->arm();
    });
  }
  void let_go() {
    gone_ = true;
    boost::system::error_code ignored;
    descriptor_.cancel(ignored);
    descriptor_.release();  // the descriptor is its owner's to close
  }

 private:
  stream_descriptor descriptor_;
  std::function<void()> ready_;
  bool gone_ = false;
};

class WatchHandle final : public RealWorld::Watch {
 public:
  explicit WatchHandle(std::shared_ptr<Watched> watched) : watched_(std::move(watched)) {}
  ~WatchHandle() override { watched_->let_go(); }

 private:
  std::shared_ptr<Watched> watched_;
};

// SIGINT, SIGTERM and SIGHUP, from the first call of next() on; until then they do what they do by default.
class Signals {
 public:
  explicit Signals(AsioLoop& loop) : loop_(loop), arrived_(loop) {}

  Task<int> next() {
    if (!set_) {
      set_.emplace(loop_.io(), SIGINT, SIGTERM, SIGHUP);
      arm();
    }
    while (queue_.empty())
      co_await arrived_.wait();
    int signal = queue_.front();
    queue_.pop_front();
    co_return signal;
  }

 private:
  void arm() {
    set_->async_wait([this](boost::system::error_code error, int signal) {
      if (error) return;  // the world is being destroyed
      queue_.push_back(signal);
      arrived_.notify_all();
      arm();
    });
  }

  AsioLoop& loop_;
  std::optional<boost::asio::signal_set> set_;
  std::deque<int> queue_;
  Condition arrived_;
};

Task<void> run_main(Task<int> main, std::optional<int>* status) {
  int value = co_await std::move(main);
  *status = value;
}

class RealWorldImpl final : public RealWorld {
 public:
  explicit RealWorldImpl(LoopOptions options)
      : loop_(options),
        random_(make_system_random()),
        disk_(make_posix_disk()),
        plain_(make_tcp_transport(loop_, unix_users_)),
        signals_(loop_) {
    metrics_.on_collect([this] { show_loop(); });
  }

  Executor& executor() override { return loop_; }
  Clock& clock() override { return loop_; }
  Random& random() override { return *random_; }
  Disk& disk() override { return *disk_; }
  Transport& transport() override { return secured_ ? *secured_ : *plain_; }
  Transport& plain_transport() override { return *plain_; }
  void use_transport(std::unique_ptr<Transport> transport) override { secured_ = std::move(transport); }
  void allow_unix_users(std::vector<uint32_t> users) override { unix_users_->allowed = std::move(users); }
  Metrics& metrics() override { return metrics_; }
  std::unique_ptr<BlockingPool> make_pool(std::string name, size_t threads) override {
    return std::make_unique<ThreadPool>(loop_, name, threads);
  }
  std::string boot_id() override {
    std::ifstream file("/proc/sys/kernel/random/boot_id");
    std::string id;
    std::getline(file, id);
    return id;
  }

  int run(Task<int> main) override {
    CHECK(!ran_);
    ran_ = true;
    std::optional<int> status;
    TaskGroup root(loop_, loop_);
    root.spawn(run_main(std::move(main), &status));
    loop_.run([&status] { return status.has_value(); });
    return *status;
  }
  Task<int> next_signal() override { return signals_.next(); }
  LoopCounters loop_counters() const override { return loop_.counters(); }
  std::unique_ptr<Watch> watch_readable(int fd, std::function<void()> ready) override {
    auto watched = std::make_shared<Watched>(loop_.io(), fd, std::move(ready));
    watched->arm();
    return std::make_unique<WatchHandle>(std::move(watched));
  }

 private:
  // How the loop lives: each sleep and each wake-up costs a switch, and tens of microseconds on a virtual machine. Any
  // thread.
  void show_loop() {
    LoopCounters counters = loop_.counters();
    auto show = [this](const char* name, const char* help, uint64_t value) {
      metrics_.gauge(name, help).set(static_cast<double>(value));
    };
    show("cairn_runtime_loop_sleeps", "Waits of the loop since the start", counters.sleeps);
    show("cairn_runtime_loop_wake_ups", "Waits of the loop that another thread ended", counters.wake_ups);
    show("cairn_runtime_loop_poll_hits", "Polls before a wait that found work", counters.poll_hits);
    show("cairn_runtime_loop_poll_misses", "Polls before a wait that found none", counters.poll_misses);
  }

  AsioLoop loop_;
  Metrics metrics_;
  std::unique_ptr<Random> random_;
  std::unique_ptr<Disk> disk_;
  std::shared_ptr<UnixUsers> unix_users_ = std::make_shared<UnixUsers>();  // shared with the listeners
  std::unique_ptr<Transport> plain_;
  std::unique_ptr<Transport> secured_;  // over plain_
  Signals signals_;
  bool ran_ = false;
};

}  // namespace

std::unique_ptr<RealWorld> RealWorld::make(LoopOptions options) {
  return std::make_unique<RealWorldImpl>(options);
}

}  // namespace cairn
