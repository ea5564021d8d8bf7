#include "fs/fuse/run_mount.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "common/runtime/posix_disk.h"
#include "fs/client/end_session.h"
#include "fs/fuse/guardian.h"
#include "fs/fuse/kernel_mount.h"
#include "fs/fuse/mount_process.h"
#include "fs/fuse/mount_registry.h"

namespace cairn {

namespace {

Result<void> check_device() {
  if (::access("/dev/fuse", R_OK | W_OK) == 0) return {};
  if (errno == ENOENT) {
    return Error(ErrorCode::kNotFound,
                 "/dev/fuse is missing: load the kernel's module (modprobe fuse), or give the container the device");
  }
  return Error(ErrorCode::kPermission, "/dev/fuse may not be opened by this user");
}

// A mount of ours that is there already: an error if it lives; if its process is dead it is cleared away.
Result<void> check_existing(const std::string& mountpoint) {
  std::vector<KernelMount> mounts = kernel_mounts();
  auto own = std::ranges::find(mounts.rbegin(), mounts.rend(), mountpoint, &KernelMount::mountpoint);
  if (own == mounts.rend()) return {};
  struct stat ignored{};
  // A connection that has ended answers at once; one that lives is asked nothing.
  std::unique_ptr<Disk> disk = make_posix_disk();
  Result<MountRecord> record = find_mount(*disk, mountpoint);
  if (record || ::stat(mountpoint.c_str(), &ignored) == 0 || errno != ENOTCONN) {
    std::string by = record ? " (process " + std::to_string(record->process.pid) + ")" : "";
    return Error(ErrorCode::kBusy, mountpoint + " is already a Cairn mount of " + masters_of_source(own->source) + by);
  }
  detach_mount(own->device_minor, mountpoint);
  return {};
}

// Makes the mountpoint absolute, and says what is wrong with it.
Result<void> prepare(MountOptions& options) {
  if (options.mountpoint.empty()) return Error(ErrorCode::kInvalid, "no mountpoint is given");
  Result<void> device = check_device();
  if (!device) return device;
  std::error_code failed;
  std::filesystem::path absolute = std::filesystem::absolute(options.mountpoint, failed).lexically_normal();
  if (!absolute.has_filename()) absolute = absolute.parent_path();
  Result<void> existing = check_existing(absolute.string());
  if (!existing) return existing;
  std::filesystem::path real = std::filesystem::canonical(absolute, failed);
  if (failed) {
    return Error(from_errno(failed.value()), "mountpoint " + absolute.string() + ": " + std::strerror(failed.value()));
  }
  if (!std::filesystem::is_directory(real, failed)) {
    return Error(ErrorCode::kNotDirectory, "mountpoint " + real.string() + " is not a directory");
  }
  options.mountpoint = real.string();
  return real == absolute ? Result<void>() : check_existing(options.mountpoint);
}

int serve(MountOptions options, GuardianLink& guardian, Readiness& readiness) {
  std::unique_ptr<RealWorld> world = RealWorld::make({.poll = options.poll});
  Result<std::shared_ptr<Credentials>> secured = use_tls(*world, options.tls, PeerRole::kClient, options.tls_folders);
  if (!secured) {
    readiness.failed(secured.error().message());
    return 1;
  }
  MountProcess process(*world, std::move(options), std::move(*secured), guardian, readiness);
  return world->run(process.run());
}

// The guardian's last act for a mount that died. Bounded: who waits for its exit status waits for this too.
constexpr Duration kEndSessionWait = std::chrono::seconds(5);

Task<int> end_session_of(World* world, const MountOptions* options, SessionId session) {
  Result<void> ended = co_await end_session(*world, options->client.masters, session, kEndSessionWait);
  if (ended) {
    log_info("mount.session_ended", "session={}", session);
  } else {
    log_warning("mount.session_not_ended", "session={} error={}", session, cairn::quoted(ended.error().message()));
  }
  co_return 0;
}

void end_dead_session(const MountOptions& options, SessionId session) {
  if (options.connect) return;  // not a cluster's
  std::unique_ptr<RealWorld> world = RealWorld::make({});
  Result<std::shared_ptr<Credentials>> secured = use_tls(*world, options.tls, PeerRole::kClient, options.tls_folders);
  if (!secured) {
    log_warning("mount.session_not_ended", "session={} error={}", session, cairn::quoted(secured.error().message()));
    return;
  }
  world->run(end_session_of(world.get(), &options, session));
}

// Waits for what Readiness says.
int wait_until_ready(int fd) {
  std::string said;
  char part[512];
  for (;;) {
    ssize_t got = ::read(fd, part, sizeof part);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    said.append(part, static_cast<size_t>(got));
    if (said == "ready\n") return 0;
  }
  if (said.empty()) said = "the mount's process died before it was ready\n";
  std::fprintf(stderr, "cairn: %s", said.c_str());
  return 1;
}

void leave_terminal(const std::string& log_file) {
  ::setsid();
  [[maybe_unused]] int changed = ::chdir("/");  // no directory is kept busy
  int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  int log = ::open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  ::dup2(null, STDIN_FILENO);
  ::dup2(null, STDOUT_FILENO);
  ::dup2(log >= 0 ? log : null, STDERR_FILENO);  // what a crash says
  if (null > STDERR_FILENO) ::close(null);
  if (log > STDERR_FILENO) ::close(log);
}

int run_in_background(MountOptions options) {
  if (options.log_file.empty()) options.log_file = new_mount_record(options.mountpoint, {}).log_file;
  std::error_code failed;
  options.log_file = std::filesystem::absolute(options.log_file, failed).string();
  std::filesystem::create_directories(std::filesystem::path(options.log_file).parent_path(), failed);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    std::perror("cairn: pipe");
    return 1;
  }
  pid_t pid = ::fork();
  if (pid < 0) {
    std::perror("cairn: fork");
    return 1;
  }
  if (pid > 0) {
    ::close(ends[1]);
    int status = wait_until_ready(ends[0]);
    ::close(ends[0]);
    return status;
  }
  ::close(ends[0]);
  leave_terminal(options.log_file);
  start_logging("cairn-mount", options.log_level, options.log_file);
  std::string mountpoint = options.mountpoint;
  EndSession end = [&options](SessionId session) { end_dead_session(options, session); };
  int status = run_guarded(mountpoint, end, [&options, &ends](GuardianLink& guardian) {
    Readiness readiness(ends[1]);
    return serve(std::move(options), guardian, readiness);
  });
  ::_exit(status);
}

}  // namespace

int run_mount(MountOptions options) {
  Result<void> prepared = prepare(options);
  if (!prepared) {
    std::fprintf(stderr, "cairn: %s\n", prepared.error().context.c_str());
    return 1;
  }
  if (!options.foreground) return run_in_background(std::move(options));
  start_logging("cairn-mount", options.log_level, options.log_file);
  std::string mountpoint = options.mountpoint;
  EndSession end = [&options](SessionId session) { end_dead_session(options, session); };
  return run_guarded(mountpoint, end, [&options](GuardianLink& guardian) {
    Readiness readiness(-1);
    return serve(std::move(options), guardian, readiness);
  });
}

}  // namespace cairn
