#include "fs/fuse/guardian.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <optional>
#include <string>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/check.h"
#include "common/base/log.h"
#include "fs/fuse/kernel_mount.h"
#include "fs/fuse/process_id.h"

namespace cairn {

namespace {

constexpr char kMounted = 'M';  // followed by four bytes: the device's minor number
constexpr char kSession = 'S';  // followed by its number, eight bytes
constexpr char kEndedCleanly = 'C';

// A zombie whose other threads still wait in the kernel sends no SIGCHLD: so the guardian also looks, this often.
constexpr timespec kLookPeriod{.tv_sec = 1, .tv_nsec = 0};

class Guardian {
 public:
  Guardian(pid_t child, int pipe, const std::string& mountpoint, const EndSession& end_session)
      : child_(child), pipe_(pipe), mountpoint_(mountpoint), end_session_(end_session) {}

  int watch(const sigset_t& signals) {
    for (;;) {
      int signal = ::sigtimedwait(&signals, nullptr, &kLookPeriod);
      if (signal == SIGTERM || signal == SIGINT || signal == SIGHUP) ::kill(child_, signal);
      if (signal == SIGHUP) reopen_log();  // of standard error: nothing
      hear();
      int status = 0;
      if (::waitpid(child_, &status, WNOHANG) == child_) {
        hear();
        if (!clean_) clear_away(status);
        // Only now nothing of it can be sent any more. Programs are free already.
        if (!clean_ && session_) end_session_(session_);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
      }
      // Dead, and held in the kernel by the mount that it served: that must go first.
      if (!cleared_ && is_zombie(child_)) clear_away(std::nullopt);
    }
  }

 private:
  void hear() {
    char kind = 0;
    while (::read(pipe_, &kind, 1) == 1) {
      if (kind == kEndedCleanly) clean_ = true;
      // Each is written in one piece of less than PIPE_BUF: it is there.
      uint64_t session = 0;
      if (kind == kSession && ::read(pipe_, &session, sizeof session) == sizeof session) session_ = SessionId(session);
      if (kind != kMounted) continue;
      uint32_t minor = 0;
      if (::read(pipe_, &minor, sizeof minor) == sizeof minor) device_minor_ = minor;
    }
  }

  void clear_away(std::optional<int> status) {
    if (cleared_ || !device_minor_) return;
    cleared_ = true;
    std::string how = "held in the kernel";
    if (status && WIFSIGNALED(*status)) how = "signal " + std::to_string(WTERMSIG(*status));
    if (status && WIFEXITED(*status)) how = "exit status " + std::to_string(WEXITSTATUS(*status));
    log_error("mount.died", "mountpoint={} pid={} how={} action=abort", quoted(mountpoint_), child_, quoted(how));
    abort_connection(*device_minor_, mountpoint_);
    detach_mount(*device_minor_, mountpoint_);
  }

  const pid_t child_;
  const int pipe_;
  const std::string& mountpoint_;
  const EndSession& end_session_;
  std::optional<uint32_t> device_minor_;
  SessionId session_;
  bool clean_ = false;
  bool cleared_ = false;
};

[[noreturn]] void run_child(int fd, pid_t guardian, const sigset_t& signals_before,
                            const std::function<int(GuardianLink&)>& child) {
  ::sigprocmask(SIG_SETMASK, &signals_before, nullptr);
  // Signals of the terminal come through the guardian, once.
  ::setpgid(0, 0);
  // Without a guardian the mount must not go on: nobody would clear it away.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != guardian) ::_exit(1);
  GuardianLink link(fd);
  int status = child(link);
  std::exit(status);
}

}  // namespace

void GuardianLink::mounted(uint32_t device_minor) {
  char message[1 + sizeof device_minor] = {kMounted};
  __builtin_memcpy(message + 1, &device_minor, sizeof device_minor);
  // If it cannot be written the guardian is gone, and its death's signal ends us.
  [[maybe_unused]] ssize_t written = ::write(fd_, message, sizeof message);
}

void GuardianLink::session(SessionId session) {
  char message[1 + sizeof session.value] = {kSession};
  __builtin_memcpy(message + 1, &session.value, sizeof session.value);
  [[maybe_unused]] ssize_t written = ::write(fd_, message, sizeof message);
}

void GuardianLink::ended_cleanly() {
  [[maybe_unused]] ssize_t written = ::write(fd_, &kEndedCleanly, 1);
}

int run_guarded(const std::string& mountpoint, const EndSession& end_session,
                const std::function<int(GuardianLink&)>& child) {
  sigset_t signals, before;
  ::sigemptyset(&signals);
  for (int signal : {SIGCHLD, SIGTERM, SIGINT, SIGHUP})
    ::sigaddset(&signals, signal);
  ::sigprocmask(SIG_BLOCK, &signals, &before);
  ::signal(SIGPIPE, SIG_IGN);

  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    log_error("guardian.pipe_failed", "errno={}", errno);
    return 1;
  }
  pid_t guardian = ::getpid();
  pid_t pid = ::fork();
  if (pid < 0) {
    log_error("guardian.fork_failed", "errno={}", errno);
    return 1;
  }
  if (pid == 0) {
    ::close(ends[0]);
    run_child(ends[1], guardian, before, child);
  }
  ::close(ends[1]);
  ::fcntl(ends[0], F_SETFL, O_NONBLOCK);
  int status = Guardian(pid, ends[0], mountpoint, end_session).watch(signals);
  ::close(ends[0]);
  ::sigprocmask(SIG_SETMASK, &before, nullptr);
  return status;
}

}  // namespace cairn
