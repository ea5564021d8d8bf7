// ControlSocket: where a mount's process answers questions of the command line and of monitoring: HTTP over a Unix
// socket, one request a connection (`curl --unix-socket`). Handlers may take their time: a sync waits for the cluster.
//
// Loop thread only. stop() must have been awaited before it goes away.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "common/http/http_server.h"
#include "common/runtime/task_group.h"
#include "common/runtime/world.h"

namespace cairn {

class ControlSocket {
 public:
  using Handler = std::function<Task<HttpResponse>(std::string path)>;

  ControlSocket(World& world, Handler handler);
  ~ControlSocket();
  Result<void> listen(const std::string& path);
  Task<void> stop();

 private:
  static constexpr size_t kConnectionsMax = 32;

  Task<void> accept_connections();
  Task<void> serve(std::unique_ptr<Stream> stream);

  World& world_;
  Handler handler_;
  size_t connections_ = 0;
  std::unique_ptr<Listener> listener_;
  TaskGroup tasks_;
};

}  // namespace cairn
