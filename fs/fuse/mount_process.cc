#include "fs/fuse/mount_process.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <sys/prctl.h>
#include <unistd.h>
#include <utility>

#include "common/base/log.h"

namespace cairn {

namespace {

// After SIGTERM, for those who have files open: then they get ENOTCONN.
constexpr Duration kDetachGrace = std::chrono::seconds(3);
constexpr size_t kUnsyncedLogged = 20;

Task<Result<std::unique_ptr<FileSystem>>> connect_file_system(World* world, MountOptions* options) {
  if (options->connect) {
    Result<std::unique_ptr<FileSystem>> made = co_await options->connect(*world, options->client);
    co_return made;
  }
  Result<std::unique_ptr<FileSystem>> connected = co_await FileSystem::connect(*world, options->client);
  co_return connected;
}

// How often the run file is made to say which masters there are now.
constexpr Duration kNoteMastersInterval = std::chrono::seconds(1);

std::string text_of(const std::vector<Address>& masters) {
  std::string text;
  for (const Address& master : masters) {
    if (!text.empty()) text += ',';
    text += to_string(master);
  }
  return text;
}

}  // namespace

Readiness::~Readiness() {
  if (fd_ >= 0) ::close(fd_);
}

void Readiness::tell(const std::string& text) {
  if (fd_ < 0) return;
  [[maybe_unused]] ssize_t written = ::write(fd_, text.data(), text.size());  // nobody may wait any more
  ::close(fd_);
  fd_ = -1;
}

void Readiness::ready() {
  tell("ready\n");
}

void Readiness::failed(const std::string& why) {
  if (fd_ < 0) std::fprintf(stderr, "cairn: %s\n", why.c_str());
  tell(why + "\n");
}

MountProcess::MountProcess(RealWorld& world, MountOptions options, std::shared_ptr<const Credentials> credentials,
                           GuardianLink& guardian, Readiness& readiness)
    : world_(world),
      options_(std::move(options)),
      credentials_(std::move(credentials)),
      guardian_(guardian),
      readiness_(readiness),
      record_(new_mount_record(options_.mountpoint, text_of(options_.client.masters))),
      pool_(world.make_pool("mount", 2)),
      control_(world, [this](std::string path) { return answer(std::move(path)); }),
      changed_(world.executor()),
      tasks_(world.executor(), world.clock()),
      signal_tasks_(world.executor(), world.clock()) {
  record_.log_file = options_.log_file;
  options_.client.mountpoint = options_.mountpoint;
}

MountProcess::~MountProcess() = default;

Task<int> MountProcess::run() {
  signal_tasks_.spawn(watch_signals());
  Result<void> started = co_await start();
  if (!started) {
    readiness_.failed(started.error().context.empty() ? started.error().message() : started.error().context);
    log_error("mount.failed", "mountpoint={} error={}", quoted(options_.mountpoint), quoted(started.error().message()));
    co_await detach();
  } else {
    readiness_.ready();
    log_info("mount.ready", "mountpoint={} masters={} device=0:{}", quoted(options_.mountpoint),
             text_of(options_.client.masters), session_->device_minor());
    co_await wait_for_end();
  }
  int status = co_await finish();
  co_return started ? status : 1;
}

Task<Result<void>> MountProcess::start() {
  // Memory that we need while the kernel writes our own mount's pages back must not wait for that writing.
  ::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);  // where we may; it only helps
  Result<std::unique_ptr<FileSystem>> connected = co_await connect_file_system(&world_, &options_);
  if (!connected) co_return connected.error();
  file_system_ = std::move(*connected);
  if (signals_ > 0) co_return Error(ErrorCode::kCancelled, "stopped by a signal");
  session_ = std::make_unique<FuseSession>(world_, *file_system_, options_);
  Result<void> mounted = session_->mount();
  if (!mounted) co_return mounted;
  guardian_.mounted(session_->device_minor());
  tell_session();
  tasks_.spawn(watch_session());
  Result<void> initialised = co_await session_->initialised();
  if (!initialised) co_return initialised;
  Result<void> recorded = write_mount_record(world_.disk(), record_);
  if (!recorded) co_return recorded.error().in("writing " + record_.path);
  recorded_ = true;
  tasks_.spawn(note_masters());
  Result<void> listening = control_.listen(record_.socket);
  co_return listening;
}

void MountProcess::tell_session() {
  if (file_system_->session() == session_told_) return;
  session_told_ = file_system_->session();
  guardian_.session(session_told_);
}

// Masters come and go while it is mounted; commands that find the cluster by this mount must reach those of today.
Task<void> MountProcess::note_masters() {
  for (;;) {
    Result<void> slept = co_await tasks_.sleep_for(kNoteMastersInterval);
    if (!slept) co_return;
    tell_session();
    std::string masters = text_of(file_system_->masters());
    if (masters.empty() || masters == record_.masters) continue;
    record_.masters = std::move(masters);
    Result<void> written = co_await pool_->run(
        [&disk = world_.disk(), record = record_]() -> Result<void> { return write_mount_record(disk, record); });
    if (!written) log_warning("mount.run_file", "path={} error={}", record_.path, quoted(written.error().message()));
  }
}

Task<void> MountProcess::watch_signals() {
  for (;;) {
    int signal = co_await world_.next_signal();
    if (signal == SIGHUP && !options_.foreground) {  // as daemons do; a foreground mount ends with its terminal
      reopen_log();
      continue;
    }
    ++signals_;
    log_info("mount.signal", "signal={} count={}", signal, signals_);
    changed_.notify_all();
    if (signals_ < 2) continue;
    // The second one means now. The guardian clears away what the kernel still has of us.
    log_unsynced();
    std::_Exit(1);
  }
}

Task<void> MountProcess::watch_session() {
  end_ = co_await session_->ended();
  over_ = true;
  changed_.notify_all();
}

Task<void> MountProcess::wait_for_end() {
  while (!over_ && signals_ == 0)
    co_await changed_.wait();
  if (over_) co_return;
  co_await detach();
}

// Out of the namespace; then the kernel ends the session when the last file is closed, or we do.
Task<void> MountProcess::detach() {
  if (!session_ || over_) co_return;
  // The kernel may write dirty pages back meanwhile, to us: not on the loop.
  FuseSession* session = session_.get();
  tasks_.spawn(detach_on(pool_.get(), session));
  TimePoint end = world_.clock().now() + kDetachGrace;
  while (!over_ && world_.clock().now() < end) {
    Result<void> changed = co_await changed_.wait_until(world_.clock(), end);
    if (!changed) break;
  }
  if (!over_) log_info("mount.still_used", "mountpoint={} action=abort", quoted(options_.mountpoint));
  end_ = SessionEnd::kUnmounted;
}

Task<void> MountProcess::detach_on(BlockingPool* pool, FuseSession* session) {
  Result<int> detached = co_await pool->run([session]() -> Result<int> {
    session->detach();
    return 0;
  });
  if (!detached) log_debug("mount.detach", "error={}", quoted(detached.error().message()));
}

Task<int> MountProcess::finish() {
  bool clean = end_ == SessionEnd::kUnmounted;
  if (session_) {
    if (!over_ || !clean) session_->abort();
    co_await session_->stop();
  }
  Result<void> closed;
  if (file_system_) {
    size_t unsynced = file_system_->unsynced().size();
    if (unsynced > 0) log_info("mount.flushing", "files={}", unsynced);
    closed = co_await file_system_->close(world_.clock().now() + options_.flush_timeout);
    if (!closed) {
      log_error("mount.not_flushed", "error={}", quoted(closed.error().message()));
      log_unsynced();
    }
  }
  co_await control_.stop();
  co_await tasks_.stop();
  if (session_) session_->detach();  // if the session failed by itself it is still there
  if (recorded_) remove_mount_record(world_.disk(), record_);
  guardian_.ended_cleanly();
  log_info("mount.ended", "mountpoint={} clean={}", quoted(options_.mountpoint), clean && closed.has_value());
  co_return clean&& closed ? 0 : 1;
}

void MountProcess::log_unsynced() {
  if (!file_system_) return;
  std::vector<FileSystem::Unsynced> lost = file_system_->unsynced();
  for (size_t i = 0; i < lost.size() && i < kUnsyncedLogged; ++i)
    log_error("mount.not_written", "inode={} bytes={}", lost[i].inode, lost[i].bytes);
  if (lost.size() > kUnsyncedLogged) log_error("mount.not_written", "further_files={}", lost.size() - kUnsyncedLogged);
}

Task<HttpResponse> MountProcess::answer(std::string path) {
  HttpResponse response;
  if (path == "/metrics") {
    response.content_type = "text/plain; version=0.0.4; charset=utf-8";
    if (session_) session_->collect();
    response.body = world_.metrics().render();
  } else if (path == "/health") {
    // Without a valid one the mount answers EIO from its next connection on.
    Result<void> valid = credentials_ ? credentials_->still_valid(world_.clock().wall()) : Result<void>();
    if (!valid) response.status = 503;
    response.body = valid ? "ok\n" : valid.error().message() + "\n";
  } else if (path == "/sync") {
    Result<void> synced = co_await file_system_->sync_all(world_.clock().now() + options_.flush_timeout);
    if (!synced) response.status = 500;
    response.body = synced ? "ok\n" : synced.error().message() + "\n";
  } else {
    response.status = 404;
    response.body = "/metrics, /health or /sync\n";
  }
  co_return response;
}

}  // namespace cairn
