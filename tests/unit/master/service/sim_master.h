// One master on the simulated world, and clients that speak to it as the tests say: what no mount does (answering
// recalls wrongly, late, twice or never) is done by hand.
//
//   SimMaster cluster(1, {.session_time = std::chrono::seconds(2)});
//   SimClient anna(cluster, "anna");
//   auto made = anna.begin(MutateRequest{...});      // on its way
//   EXPECT_FALSE(cluster.done(made, 500ms));
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/check.h"
#include "common/rpc/rpc_typed.h"
#include "common/runtime/sim_world.h"
#include "master/service/master_server.h"

namespace cairn::testing {

using std::chrono::milliseconds;
using std::chrono::seconds;

class SimMaster {
 public:
  SimMaster(uint64_t seed, MasterSettings settings)
      : simulator_(seed), settings_(std::move(settings)), node_(simulator_.add_node("master")) {
    settings_.folder = "/master";
    settings_.listen = "master:9400";
    settings_.make_cluster = true;
    settings_.state.memory_store = true;
    start();
  }
  ~SimMaster() {
    for (SimNode* client : clients_)
      client->crash(Crash::kProcess);
    node_.crash(Crash::kProcess);
  }

  void start() {
    node_.start([settings = settings_](World& world) { return std::make_shared<Program>(world, settings); });
    CHECK(simulator_.run_until([&] { return server() && server()->log().leading(); }, seconds(30)));
    simulator_.run_for(milliseconds(100));
  }
  void restart() {
    node_.crash(Crash::kProcess);
    start();
  }
  // SIGTERM.
  void stop(bool& stopped) { node_.spawn(stop_server(server(), &stopped)); }
  Simulator& simulator() { return simulator_; }
  SimNode& node() { return node_; }
  Address address() const { return {.kind = Address::Kind::kTcp, .host_or_path = "master", .port = 9400}; }
  MasterServer* server() {
    Program* program = node_.running() ? node_.program<Program>() : nullptr;
    return program ? program->server.get() : nullptr;
  }
  SimNode& add_client(const std::string& name) {
    clients_.push_back(&simulator_.add_node(name));
    return *clients_.back();
  }

  template <class T>
  bool done(const std::shared_ptr<std::optional<T>>& answer, Duration limit) {
    return simulator_.run_until([&] { return answer->has_value(); }, limit);
  }

 private:
  struct Program {
    Program(World& world, MasterSettings settings) : tasks(world.executor(), world.clock()) {
      tasks.spawn(run(*this, world, std::move(settings)));
    }
    static Task<void> run(Program& self, World& world, MasterSettings settings) {
      Result<std::unique_ptr<MasterServer>> started = co_await MasterServer::start(world, std::move(settings));
      CHECK(started);
      self.server = std::move(*started);
    }
    std::unique_ptr<MasterServer> server;
    TaskGroup tasks;
  };

  static Task<void> stop_server(MasterServer* server, bool* stopped) {
    co_await server->stop();
    *stopped = true;
  }

  Simulator simulator_;
  MasterSettings settings_;
  SimNode& node_;
  std::vector<SimNode*> clients_;
};

class SimClient {
 public:
  template <class Request>
  using Reply = Result<typename Method<Request>::Reply>;
  template <class Request>
  using Waiting = std::shared_ptr<std::optional<Reply<Request>>>;

  // With a session, and a mountpoint if it has one.
  SimClient(SimMaster& master, const std::string& name, std::string mountpoint = "/mnt")
      : master_(master), node_(master.add_client(name)) {
    node_.start([address = master.address()](World& world) { return std::make_shared<Program>(world, address); });
    master_.simulator().run_for(Duration::zero());
    auto opened = ask(OpenSessionRequest{.host = name, .mountpoint = std::move(mountpoint), .program = "test"});
    CHECK(opened);
    session_ = opened->session;
    term_ = opened->term;
  }

  SessionId session() const { return session_; }
  uint64_t term() const { return term_; }
  uint64_t last_sequence() const { return sequence_; }
  void set_term(uint64_t term) { term_ = term; }

  template <class Request>
  Waiting<Request> begin(Request request, Duration deadline = seconds(60)) {
    if constexpr (requires { request.session; }) request.session = session_;
    if constexpr (std::is_same_v<Request, MutateRequest>) {
      request.sequence = ++sequence_;
      request.first_unacknowledged = 1;
    }
    auto answer = std::make_shared<std::optional<Reply<Request>>>();
    node_.spawn(call(node_.program<Program>(), std::move(request), node_.clock().now() + deadline, answer));
    return answer;
  }
  template <class Request>
  Reply<Request> ask(Request request, Duration deadline = seconds(60)) {
    Waiting<Request> answer = begin(std::move(request), deadline);
    CHECK(master_.done(answer, deadline + seconds(5)));
    return std::move(**answer);
  }

  // From here on it speaks over another connection.
  void reconnect() {
    Program& program = *node_.program<Program>();
    program.before = std::exchange(program.client,
                                   std::make_unique<RpcClient>(*program.world, master_.address(), RpcClientOptions{}));
  }
  // What the network has held up: it comes over the connection before.
  template <class Request>
  Reply<Request> ask_late(Request request) {
    Program& program = *node_.program<Program>();
    std::swap(program.client, program.before);
    Reply<Request> reply = ask(std::move(request));
    std::swap(program.client, program.before);
    return reply;
  }

  Waiting<MutateRequest> begin_mutation(MetaOp op) { return begin(MutateRequest{.op = std::move(op)}); }
  // The last one once more, as a client does that got no answer.
  Waiting<MutateRequest> begin_again(MetaOp op, Duration deadline) {
    --sequence_;
    return begin(MutateRequest{.op = std::move(op)}, deadline);
  }
  Reply<MutateRequest> mutate(MetaOp op) { return ask(MutateRequest{.op = std::move(op)}); }
  // A file that it holds exclusively from its beginning.
  InodeId make(const std::string& name) {
    auto made = mutate(CreateOp{.parent = kRootInode, .name = name, .mode = 0644, .open = true});
    CHECK(made);
    return made->attributes.inode;
  }
  Reply<LookupRequest> lookup(const std::string& name) {
    return ask(LookupRequest{.parent = kRootInode, .name = name});
  }
  // From here on it has a lease on the root's names.
  void hold_root() {
    auto entry = lookup("not there");
    CHECK(entry && entry->parent_lease.duration_ms != 0);
  }
  // What it has been asked and has not answered. Empty: nothing, now.
  std::vector<Recall> recalls() {
    auto reply = ask(TakeRecallsRequest{.at_once = true});
    CHECK(reply);
    return reply->recalls;
  }
  void answer(uint64_t sequence, bool returned = false) {
    CHECK(ask(AnswerRecallsRequest{.term = term_, .answers = {{sequence, returned}}}));
  }

 private:
  struct Program {
    Program(World& world_in, const Address& address)
        : world(&world_in), client(std::make_unique<RpcClient>(world_in, address, RpcClientOptions{})) {}
    World* world;
    std::unique_ptr<RpcClient> client, before;
  };
  template <class Request>
  static Task<void> call(Program* program, Request request, TimePoint deadline, Waiting<Request> answer) {
    RpcClient::CallOptions options{.deadline = deadline};
    auto reply = co_await typed_call(*program->client, std::move(request), options);
    if (reply) {
      answer->emplace(std::move(reply->reply));
    } else {
      answer->emplace(reply.error());
    }
  }

  SimMaster& master_;
  SimNode& node_;
  SessionId session_;
  uint64_t term_ = 0;
  uint64_t sequence_ = 0;
};

}  // namespace cairn::testing
