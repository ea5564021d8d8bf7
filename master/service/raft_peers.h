// RaftPeers: carries what the logs of the masters say to one another (master/consensus/peers.h) over RPC, beside
// everything else that a master serves: messages go one way without an answer, questions have one.
//
// Loop thread only. stop() is awaited before it goes, and nothing is sent after it.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "common/rpc/rpc.h"
#include "common/runtime/task_group.h"
#include "master/consensus/engine.h"
#include "master/consensus/peers.h"

namespace cairn {

// Methods between masters: their bytes are master/consensus/raft_message.h's.
inline constexpr MethodId kRaftMessageMethod = 270;
inline constexpr MethodId kRaftQuestionMethod = 271;
inline constexpr MethodId kJoinGroupMethod = 272;

class RaftPeers final : public Peers {
 public:
  RaftPeers(World& world, Hello hello);
  ~RaftPeers() override;

  void send(MasterId to, const std::string& address, std::string message) override;
  Task<Result<std::string>> ask(MasterId to, std::string address, std::string question, TimePoint deadline) override;
  Task<void> stop();

  // The other side of both. `log` may give null while there is none.
  static void add_handlers(RpcServer& server, std::function<ReplicatedLog*()> log);

 private:
  struct Link {
    std::unique_ptr<RpcClient> client;
    TimePoint used;
  };
  Link* link(const std::string& address);
  Task<void> keep_in_touch(std::string address);

  World& world_;
  Hello hello_;
  bool stopping_ = false;
  std::map<std::string, Link> links_;
  TaskGroup tasks_;
};

// What a leader says to the master that waits at an address to be added, and its answer: who it is.
struct JoinRequest {
  ClusterId cluster;
};
struct JoinAnswer {
  ClusterId cluster;
  MasterId master;
  std::string address;  // where it says that others reach it
};
std::string encode_join_request(const JoinRequest& request);
Result<JoinRequest> decode_join_request(std::string_view bytes);
std::string encode_join_answer(const JoinAnswer& answer);
Result<JoinAnswer> decode_join_answer(std::string_view bytes);

}  // namespace cairn
