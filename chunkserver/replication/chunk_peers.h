// ChunkPeers: connections to the other chunkservers, for forwarding writes and for copying. One an address, kept while
// it is used.
//
// Loop thread only. Whoever has a client from here may keep it over an await; stop() fails what is under way.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "common/base/result.h"
#include "common/rpc/rpc.h"
#include "common/runtime/task_group.h"
#include "common/runtime/world.h"

namespace cairn {

class ChunkPeers {
 public:
  static constexpr size_t kConnectionsMax = 256;  // beyond it those that nobody uses are closed

  ChunkPeers(World& world, Hello hello);

  using Client = std::shared_ptr<RpcClient>;  // shared with the calls that are under way
  // kInvalid if the address cannot be read; kCancelled after stop().
  Result<Client> client(const std::string& address);
  // For connections to come.
  void set_cluster(ClusterId cluster);
  Task<void> stop();

 private:
  void close_unused();
  static Task<void> close(Client client);

  World& world_;
  Hello hello_;
  bool stopping_ = false;
  std::map<std::string, Client> clients_;
  TaskGroup tasks_;
};

}  // namespace cairn
