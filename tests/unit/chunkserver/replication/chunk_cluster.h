// ChunkCluster: whole chunkservers in the simulated world, a master that only says what a test tells it to say, and a
// client's node to call them from.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "chunkserver/server.h"
#include "common/base/capability.h"
#include "common/rpc/rpc_typed.h"
#include "common/runtime/sim_world.h"
#include "tests/unit/chunkserver/replication/scripted_master.h"

namespace cairn {

inline constexpr ChunkId kChunk{0x77};
inline constexpr CapabilityRights kReadWrite = CapabilityRights::kRead | CapabilityRights::kWrite;

class ChunkCluster {
 public:
  explicit ChunkCluster(size_t servers, uint64_t seed = 1);
  ~ChunkCluster();

  // All nodes, and waits until each server serves.
  void start();
  void start_master();
  void start_server(size_t i);
  void restart_server(size_t i, Crash kind);
  // Runs until the server has an answer of the master.
  bool wait_until_serving(size_t i);
  // SIGTERM: true if the server has stopped within the time.
  bool stop_server(size_t i, Duration limit);

  Simulator& sim() { return sim_; }
  SimNode& node(size_t i) { return *nodes_[i]; }
  SimNode& master_node() { return *master_; }
  SimNode& client_node() { return *client_; }
  MasterScript& master() { return script_; }
  ChunkServer& server(size_t i);
  ServerId id(size_t i) { return server(i).server(); }
  ReplicaAddress replica(size_t i) { return {id(i), address(i)}; }
  static std::string address(size_t i) { return "tcp:c" + std::to_string(i) + ":9410"; }
  ChunkServerSettings& settings() { return settings_; }
  const std::optional<Error>& fatal(size_t i) { return fatal_[i]; }

  // ---- calls from the client's node
  template <class Request>
  using AnswerOf = Result<Answer<typename Method<Request>::Reply>>;
  template <class Request>
  struct Call {
    std::optional<AnswerOf<Request>> answer;
    TimePoint ended{};  // by the simulator's time
  };
  template <class Request>
  using CallPtr = std::shared_ptr<Call<Request>>;  // shared with the task that makes the call

  template <class Request>
  CallPtr<Request> begin(size_t server, Request request, Payload payload = {}, Duration timeout = 10s) {
    auto call = std::make_shared<Call<Request>>();
    RpcClient::CallOptions options{.deadline = client_->clock().now() + timeout};
    client_->spawn(keep<Request>(this, call, *clients_[server], std::move(request), options, std::move(payload)));
    return call;
  }
  template <class Request>
  AnswerOf<Request> end(const CallPtr<Request>& call) {
    if (!sim_.run_until([&] { return call->answer.has_value(); }, 120s)) return Error(ErrorCode::kTimeout, "no end");
    return *call->answer;
  }
  template <class Request>
  AnswerOf<Request> call(size_t server, Request request, Payload payload = {}, Duration timeout = 10s) {
    return end(begin(server, std::move(request), std::move(payload), timeout));
  }

  // ---- what clients and masters say
  std::string capability(ChunkId chunk, uint64_t version, CapabilityRights rights = kReadWrite) const;
  OrderHeader order() const { return {.term = script_.term, .cluster = script_.cluster}; }
  ChunkWriteRequest write_request(uint64_t sequence, uint32_t offset, std::string_view data, uint64_t version = 1,
                                  std::vector<size_t> chain = {}, ChunkId chunk = kChunk);
  // The acknowledgements; one with only an error if the call failed.
  std::vector<ReplicaAck> write(std::vector<size_t> chain, uint64_t sequence, uint32_t offset, std::string_view data,
                                uint64_t version = 1, ChunkId chunk = kChunk);
  CallPtr<ChunkWriteRequest> begin_write(std::vector<size_t> chain, uint64_t sequence, uint32_t offset,
                                         std::string_view data, uint64_t version = 1, ChunkId chunk = kChunk);
  ReplicaAck sync(size_t server, uint64_t sequence, uint64_t incarnation, uint64_t version = 1, ChunkId chunk = kChunk);
  // The chunk's bytes from `offset`, verified.
  Result<std::string> read(size_t server, uint32_t offset, uint32_t length, uint64_t version = 1,
                           ChunkId chunk = kChunk);
  // The same for a comparison: the error's message if it failed.
  std::string bytes(size_t server, uint32_t offset, uint32_t length, uint64_t version = 1, ChunkId chunk = kChunk);
  Result<ReplicaStatus> status(size_t server, ChunkId chunk = kChunk);
  Result<RaiseVersionReply> raise(size_t server, uint64_t from, uint64_t to, ChunkId chunk = kChunk);
  CopyChunkRequest copy_order(size_t source, uint64_t version, bool seal = false, ChunkId chunk = kChunk);
  Result<RaiseVersionReply> copy(size_t target, size_t source, uint64_t version, bool seal = false,
                                 ChunkId chunk = kChunk);
  double metric(size_t server, const std::string& name);

 private:
  void connect(size_t i);
  template <class Request>
  static Task<void> keep(ChunkCluster* self, CallPtr<Request> call, RpcClient& client, Request request,
                         RpcClient::CallOptions options, Payload payload) {
    AnswerOf<Request> answer = co_await typed_call(client, std::move(request), options, std::move(payload));
    call->answer.emplace(std::move(answer));
    call->ended = self->sim_.now();
  }

  Simulator sim_;
  MasterScript script_;
  ChunkServerSettings settings_;
  SimNode* master_ = nullptr;
  SimNode* client_ = nullptr;
  std::vector<SimNode*> nodes_;
  std::vector<std::optional<Error>> fatal_;
  std::vector<std::unique_ptr<RpcClient>> clients_;
};

// Bytes that differ from place to place.
std::string pattern(size_t size, uint64_t seed);
std::vector<uint32_t> checksums_of(uint32_t offset, std::string_view data);
inline ErrorCode error_of(const ReplicaAck& ack) {
  return static_cast<ErrorCode>(ack.error);
}

}  // namespace cairn
