// MountProcess: the mount's own process: the file system's client, the session with the kernel, the run file and the
// control socket, from the connection to the masters to the last flush.
//
// Loop thread only.
#pragma once

#include <memory>
#include <string>

#include "common/runtime/real_world.h"
#include "common/runtime/task_group.h"
#include "common/tls/credentials.h"
#include "fs/client/file_system.h"
#include "fs/fuse/control_socket.h"
#include "fs/fuse/guardian.h"
#include "fs/fuse/mount_registry.h"
#include "fs/fuse/run_mount.h"
#include "fs/fuse/session.h"

namespace cairn {

// Tells the one who called run_mount() how it went: over a pipe, if that one waits in another process.
class Readiness {
 public:
  explicit Readiness(int fd) : fd_(fd) {}  // -1: nobody waits
  Readiness(const Readiness&) = delete;
  Readiness& operator=(const Readiness&) = delete;
  ~Readiness();

  void ready();
  void failed(const std::string& why);

 private:
  void tell(const std::string& text);
  int fd_;
};

class MountProcess {
 public:
  // `options.mountpoint` is absolute and checked.
  // `credentials`: null without TLS.
  MountProcess(RealWorld& world, MountOptions options, std::shared_ptr<const Credentials> credentials,
               GuardianLink& guardian, Readiness& readiness);
  ~MountProcess();

  // The whole life of the mount; gives the exit status.
  Task<int> run();

 private:
  Task<Result<void>> start();
  Task<void> wait_for_end();
  Task<void> note_masters();
  void tell_session();
  Task<void> watch_signals();
  Task<void> watch_session();
  Task<void> detach();
  Task<void> detach_on(BlockingPool* pool, FuseSession* session);
  Task<int> finish();
  void log_unsynced();
  Task<HttpResponse> answer(std::string path);

  RealWorld& world_;
  MountOptions options_;
  std::shared_ptr<const Credentials> credentials_;  // shared with the transport
  GuardianLink& guardian_;
  Readiness& readiness_;
  MountRecord record_;
  bool recorded_ = false;
  SessionId session_told_;              // to the guardian
  std::unique_ptr<BlockingPool> pool_;  // for what asks the kernel about our own mount
  std::unique_ptr<FileSystem> file_system_;
  std::unique_ptr<FuseSession> session_;
  ControlSocket control_;
  int signals_ = 0;
  bool over_ = false;
  SessionEnd end_ = SessionEnd::kFailed;
  Condition changed_;
  TaskGroup tasks_;
  // Waits for signals for ever: destroyed, not stopped.
  TaskGroup signal_tasks_;
};

}  // namespace cairn
