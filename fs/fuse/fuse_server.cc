#define FUSE_USE_VERSION 314

#include "fs/fuse/fuse_server.h"

#include <cstdarg>
#include <cstdio>
#include <fuse_log.h>
#include <fuse_lowlevel.h>
#include <utility>

#include "common/base/log.h"
#include "fs/fuse/fuse_ops.h"

namespace cairn {

namespace {

// So many requests at a time, then the loop has other things to do: answers that came in from the servers.
constexpr int kRequestsPerTurn = 64;

[[gnu::format(printf, 2, 0)]] void log_of_libfuse(fuse_log_level level, const char* format, va_list arguments) {
  char line[512];
  std::vsnprintf(line, sizeof line, format, arguments);
  std::string_view text = line;
  while (text.ends_with('\n'))
    text.remove_suffix(1);
  log_at(level <= FUSE_LOG_ERR ? LogLevel::kError : LogLevel::kInfo, "fuse.libfuse", "message={}", quoted(text));
}

// The unmount frees libfuse's copy of the mount point. It touches the mount itself only while its connection lives:
// when mounting fails half-way.
void end_session(fuse_session* session) {
  fuse_session_unmount(session);
  fuse_session_destroy(session);
}

}  // namespace

FuseServer::FuseServer(World& world, FileSystem& file_system, const Options& options, std::function<void()> give_up)
    : channel_(options.features),
      session_(nullptr, end_session),
      state_(world.clock(), options.conflict_time),
      notifier_(world, channel_, state_, std::move(give_up)) {
  ops_ = std::make_unique<FuseOps>(world, file_system, channel_, notifier_, state_, options.max_background);
  context_ = {.channel = &channel_, .ops = ops_.get()};
  file_system.set_kernel_caches(&notifier_);
}

FuseServer::~FuseServer() = default;

Result<void> FuseServer::open(const std::vector<std::string>& arguments) {
  fuse_set_log_func(log_of_libfuse);
  std::vector<std::string> text = arguments;
  std::vector<char*> pointers;
  for (std::string& argument : text)
    pointers.push_back(argument.data());
  fuse_args args = FUSE_ARGS_INIT(static_cast<int>(pointers.size()), pointers.data());
  session_.reset(fuse_session_new(&args, &FuseOps::callbacks(), sizeof(fuse_lowlevel_ops), &context_));
  fuse_opt_free_args(&args);
  if (!session_) return Error(ErrorCode::kInvalid, "libfuse does not take the options \"" + text.back() + "\"");
  return {};
}

Result<void> FuseServer::attach(KernelDevice& device, int fd) {
  return channel_.attach(session_.get(), fd, device);
}

Result<FuseServer::Served> FuseServer::serve() {
  for (int i = 0; i < kRequestsPerTurn; ++i) {
    if (ops_->gate().full()) return Served::kFull;
    Result<KernelChannel::Received> received = channel_.receive();
    if (!received) return received.error();
    if (*received == KernelChannel::Received::kNothing) return Served::kAll;
    if (*received == KernelChannel::Received::kEnded) return Served::kEnded;
    fuse_buf buffer{};
    buffer.mem = channel_.message();
    buffer.size = channel_.message_bytes();
    fuse_session_process_buf(session_.get(), &buffer);
    if (!agreed_ && channel_.initialised()) {
      notifier_.probe();
      agreed_ = true;
    }
  }
  return Served::kSome;
}

void FuseServer::when_open(std::function<void()> callback) {
  ops_->gate().when_open(std::move(callback));
}

void FuseServer::collect() {
  ops_->collect();
}

void FuseServer::abandon() {
  ops_.reset();
}

Task<void> FuseServer::stop() {
  co_await ops_->stop();
  co_await notifier_.stop();
}

}  // namespace cairn
