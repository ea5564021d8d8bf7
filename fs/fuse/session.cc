#define FUSE_USE_VERSION 314

#include "fs/fuse/session.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <fstream>
#include <fuse_log.h>
#include <fuse_lowlevel.h>
#include <unistd.h>
#include <utility>

#include "common/base/log.h"
#include "fs/fuse/kernel_mount.h"

namespace cairn {

namespace {

// So many requests at a time, then the loop has other things to do: answers that came in from the servers.
constexpr int kRequestsPerTurn = 64;

std::string source_of(const ClientOptions& client) {
  std::string source = "cairn#";
  for (const Address& master : client.masters) {
    if (source.back() != '#') source += ',';
    std::string text = to_string(master);
    source += text.starts_with("tcp:") ? text.substr(4) : text;
  }
  return source;
}

// libfuse splits options at commas.
std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == ',' || c == '\\') out += '\\';
    out += c;
  }
  return out;
}

[[gnu::format(printf, 2, 0)]] void log_of_libfuse(fuse_log_level level, const char* format, va_list arguments) {
  char line[512];
  std::vsnprintf(line, sizeof line, format, arguments);
  std::string_view text = line;
  while (text.ends_with('\n'))
    text.remove_suffix(1);
  log_at(level <= FUSE_LOG_ERR ? LogLevel::kError : LogLevel::kInfo, "fuse.libfuse", "message={}", quoted(text));
}

// The unmount frees libfuse's copy of the mount point. It touches the mount itself only while its connection lives:
// when mount() fails half-way.
void end_session(fuse_session* session) {
  fuse_session_unmount(session);
  fuse_session_destroy(session);
}

}  // namespace

std::vector<std::string> FuseSession::arguments(const MountOptions& options) {
  std::string list = "subtype=cairn,default_permissions,max_read=" + std::to_string(kFuseMaxIoBytes) +
                     ",fsname=" + escaped(source_of(options.client));
  if (options.allow_other.value_or(::geteuid() == 0)) list += ",allow_other";
  if (options.client.read_only) list += ",ro";
  if (options.no_suid) list += ",nosuid";
  if (options.no_dev) list += ",nodev";
  if (options.no_exec) list += ",noexec";
  if (options.no_atime) list += ",noatime";
  // libfuse adds nosuid and nodev unless told otherwise.
  if (::geteuid() == 0 && !options.no_suid) list += ",suid";
  if (::geteuid() == 0 && !options.no_dev) list += ",dev";
  if (!options.extra_options.empty()) list += "," + options.extra_options;
  return {"cairn", "-o", list};
}

FuseSession::FuseSession(RealWorld& world, FileSystem& file_system, const MountOptions& options)
    : world_(world),
      options_(options),
      channel_(options.kernel),
      context_{.channel = &channel_, .ops = &ops_},
      session_(nullptr, end_session),
      state_(world.clock(), options.conflict_time),
      notifier_(world, channel_, state_, [this] { give_up(); }),
      ops_(world, file_system, channel_, notifier_, state_, options.max_background),
      agreed_(world.executor()),
      end_(world.executor()) {
  file_system.set_kernel_caches(&notifier_);
}

FuseSession::~FuseSession() = default;

Result<void> FuseSession::mount() {
  fuse_set_log_func(log_of_libfuse);
  std::vector<std::string> text = arguments(options_);
  std::vector<char*> pointers;
  for (std::string& argument : text)
    pointers.push_back(argument.data());
  fuse_args args = FUSE_ARGS_INIT(static_cast<int>(pointers.size()), pointers.data());
  session_.reset(fuse_session_new(&args, &FuseOps::callbacks(), sizeof(fuse_lowlevel_ops), &context_));
  fuse_opt_free_args(&args);
  if (!session_) return Error(ErrorCode::kInvalid, "libfuse does not take the options \"" + text.back() + "\"");
  if (fuse_session_mount(session_.get(), options_.mountpoint.c_str()) != 0) {
    return Error(ErrorCode::kIo, "mounting on " + options_.mountpoint + " failed");
  }
  std::vector<KernelMount> mounts = kernel_mounts();
  auto own = std::ranges::find(mounts.rbegin(), mounts.rend(), options_.mountpoint, &KernelMount::mountpoint);
  if (own == mounts.rend()) return Error(ErrorCode::kIo, options_.mountpoint + " was unmounted at once");
  device_minor_ = own->device_minor;
  Result<void> attached = channel_.attach(session_.get());
  if (!attached) return attached;
  watch();
  return {};
}

Task<Result<void>> FuseSession::initialised() {
  Result<void> agreed = co_await agreed_.future();
  if (agreed) set_read_ahead();
  co_return agreed;
}

void FuseSession::watch() {
  watch_ = world_.watch_readable(fuse_session_fd(session_.get()), [this] { receive_requests(); });
}

void FuseSession::receive_requests() {
  for (int i = 0; i < kRequestsPerTurn && !over_; ++i) {
    if (ops_.gate().full()) {
      watch_.reset();
      ops_.gate().when_open([this] {
        if (!over_) watch();
      });
      return;
    }
    Result<KernelChannel::Received> received = channel_.receive();
    if (!received) {
      log_error("fuse.receive_failed", "error={}", quoted(received.error().message()));
      end(SessionEnd::kFailed);
      return;
    }
    if (*received == KernelChannel::Received::kNothing) return;
    if (*received == KernelChannel::Received::kEnded) {
      end(gave_up_ ? SessionEnd::kFailed : SessionEnd::kUnmounted);
      return;
    }
    fuse_buf buffer{};
    buffer.mem = channel_.message();
    buffer.size = channel_.message_bytes();
    fuse_session_process_buf(session_.get(), &buffer);
    if (!agreed_.is_set() && channel_.initialised()) {
      notifier_.probe();
      agreed_.set({});
    }
  }
}

void FuseSession::end(SessionEnd why) {
  if (over_) return;
  over_ = true;
  watch_.reset();
  agreed_.set(Error(ErrorCode::kIo, "the kernel and libfuse did not agree"));
  end_.set(why);
}

// The kernel reads ahead 128 KiB by itself: too little for a network in between.
void FuseSession::set_read_ahead() {
  std::ofstream file("/sys/class/bdi/0:" + std::to_string(device_minor_) + "/read_ahead_kb");
  file << options_.read_ahead_kb << '\n';
  file.close();
  if (!file) log_info("fuse.read_ahead_unchanged", "reason={}", quoted("/sys/class/bdi may not be written"));
}

Task<SessionEnd> FuseSession::ended() {
  Result<SessionEnd> why = co_await end_.future();
  co_return why.value_or(SessionEnd::kFailed);
}

void FuseSession::detach() {
  detach_mount(device_minor_, options_.mountpoint);
}

void FuseSession::give_up() {
  gave_up_ = true;
  abort();
}

void FuseSession::abort() {
  abort_connection(device_minor_, options_.mountpoint);
}

Task<void> FuseSession::stop() {
  end(SessionEnd::kFailed);  // if it has not ended: nothing more is received
  co_await ops_.stop();
  co_await notifier_.stop();
}

}  // namespace cairn
