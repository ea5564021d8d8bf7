#define FUSE_USE_VERSION 314

#include "fs/fuse/session.h"

#include <algorithm>
#include <fstream>
#include <fuse_lowlevel.h>
#include <unistd.h>
#include <utility>

#include "common/base/log.h"
#include "fs/fuse/kernel_mount.h"

namespace cairn {

namespace {

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
      server_(world, file_system,
              {.features = options.kernel,
               .conflict_time = options.conflict_time,
               .max_background = options.max_background},
              [this] { give_up(); }),
      agreed_(world.executor()),
      end_(world.executor()) {}

FuseSession::~FuseSession() = default;

Result<void> FuseSession::mount() {
  Result<void> opened = server_.open(arguments(options_));
  if (!opened) return opened;
  if (fuse_session_mount(server_.session(), options_.mountpoint.c_str()) != 0) {
    return Error(ErrorCode::kIo, "mounting on " + options_.mountpoint + " failed");
  }
  std::vector<KernelMount> mounts = kernel_mounts();
  auto own = std::ranges::find(mounts.rbegin(), mounts.rend(), options_.mountpoint, &KernelMount::mountpoint);
  if (own == mounts.rend()) return Error(ErrorCode::kIo, options_.mountpoint + " was unmounted at once");
  device_minor_ = own->device_minor;
  int fd = fuse_session_fd(server_.session());
  device_ = std::make_unique<DeviceFile>(world_, fd);
  Result<void> attached = device_->prepare();
  if (attached) attached = server_.attach(*device_, fd);
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
  watch_ = world_.watch_readable(fuse_session_fd(server_.session()), [this] { receive_requests(); });
}

void FuseSession::receive_requests() {
  if (over_) return;
  Result<FuseServer::Served> served = server_.serve();
  if (!served) {
    log_error("fuse.receive_failed", "error={}", quoted(served.error().message()));
    end(SessionEnd::kFailed);
    return;
  }
  if (server_.agreed() && !agreed_.is_set()) agreed_.set({});
  if (*served == FuseServer::Served::kEnded) {
    end(gave_up_ ? SessionEnd::kFailed : SessionEnd::kUnmounted);
  } else if (*served == FuseServer::Served::kFull) {
    watch_.reset();
    server_.when_open([this] {
      if (!over_) watch();
    });
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
  co_await server_.stop();
}

}  // namespace cairn
