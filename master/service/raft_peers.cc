#include "master/service/raft_peers.h"

#include <utility>

#include "common/base/bytes.h"
#include "common/base/log.h"

namespace cairn {

namespace {
// A message that is on its way for longer than an election takes is worth nothing.
constexpr Duration kConnectTimeout = std::chrono::milliseconds(500);
constexpr Duration kPingInterval = std::chrono::milliseconds(250);
constexpr Duration kIdle = std::chrono::seconds(10);  // a link that nobody used for so long is not kept alive
constexpr uint64_t kQueuedMaxBytes = 16ull << 20;     // to one master; more is dropped
constexpr uint8_t kJoinVersion = 1;
}  // namespace

RaftPeers::RaftPeers(World& world, Hello hello)
    : world_(world), hello_(std::move(hello)), tasks_(world.executor(), world.clock()) {}

RaftPeers::~RaftPeers() = default;

RaftPeers::Link* RaftPeers::link(const std::string& address) {
  auto found = links_.find(address);
  if (found == links_.end()) {
    Result<Address> parsed = parse_address(address);
    if (!parsed) {
      log_error("master.peer_address", "address={} error={}", quoted(address), quoted(parsed.error().message()));
      return nullptr;
    }
    RpcClientOptions options;
    options.hello = hello_;
    options.connect_timeout = kConnectTimeout;
    options.memory_in_flight_bytes = kQueuedMaxBytes;
    options.reconnect_pause_max = std::chrono::milliseconds(200);
    options.keep_alive = kPingInterval;
    Link made{.client = std::make_unique<RpcClient>(world_, *parsed, options), .used = {}};
    found = links_.emplace(address, std::move(made)).first;
    tasks_.spawn(keep_in_touch(address));
  }
  found->second.used = world_.clock().now();
  return &found->second;
}

// Messages have no answer, so only this tells that the other side, or the way to it, is gone: the connection is given
// up then, rather than left to TCP, which would take minutes and deliver what is long out of date.
Task<void> RaftPeers::keep_in_touch(std::string address) {
  for (;;) {
    Result<void> slept = co_await tasks_.sleep_for(kPingInterval);
    if (!slept || stopping_) co_return;
    Link& link = links_.at(address);
    if (!link.client->connected() || world_.clock().now() - link.used > kIdle) continue;
    RpcClient::CallOptions options{.deadline = world_.clock().now() + 4 * kPingInterval};
    [[maybe_unused]] Result<RpcMessage> pong = co_await link.client->call(kPingMethod, RpcMessage(), options);
  }
}

void RaftPeers::send(MasterId, const std::string& address, std::string message) {
  if (stopping_) return;
  Link* to = link(address);
  if (to != nullptr) to->client->post(kRaftMessageMethod, RpcMessage{.message = std::move(message), .payload = {}});
}

Task<Result<std::string>> RaftPeers::ask(MasterId, std::string address, std::string question, TimePoint deadline) {
  if (stopping_) co_return ErrorCode::kCancelled;
  Link* to = link(address);
  if (to == nullptr) co_return Error(ErrorCode::kInvalid, "the address " + address);
  RpcClient::CallOptions options{.deadline = deadline};
  Result<RpcMessage> answer = co_await to->client->call(
      kRaftQuestionMethod, RpcMessage{.message = std::move(question), .payload = {}}, options);
  if (!answer) co_return answer.error();
  co_return std::string(flatten(answer->payload).view());
}

Task<void> RaftPeers::stop() {
  stopping_ = true;
  for (auto& [address, link] : links_)
    co_await link.client->stop();
  co_await tasks_.stop();
}

namespace {
Task<Result<RpcMessage>> take_message(ReplicatedLog* log, RpcRequest request) {
  if (log != nullptr) log->receive(request.message);
  co_return RpcMessage();
}

Task<Result<RpcMessage>> answer_question(ReplicatedLog* log, RpcRequest request) {
  if (log == nullptr) co_return Error(ErrorCode::kUnavailable, "this master is being opened");
  Result<std::string> answer = co_await log->serve(std::move(request.message));
  if (!answer) co_return answer.error();
  RpcMessage message;
  message.payload.push_back(Buffer::copy_of(*answer));
  co_return message;
}
}  // namespace

void RaftPeers::add_handlers(RpcServer& server, std::function<ReplicatedLog*()> log) {
  server.handle(
      kRaftMessageMethod, "raft_message", [log](RpcRequest request) { return take_message(log(), std::move(request)); },
      Callers::kMasters);
  server.handle(
      kRaftQuestionMethod, "raft_question",
      [log](RpcRequest request) { return answer_question(log(), std::move(request)); }, Callers::kMasters);
}

// ---------------------------------------------------------------- joining

std::string encode_join_request(const JoinRequest& request) {
  ByteWriter out;
  out.u8(kJoinVersion);
  out.u64(request.cluster.value);
  return out.take();
}

Result<JoinRequest> decode_join_request(std::string_view bytes) {
  ByteReader in(bytes);
  uint8_t version = in.u8();
  JoinRequest request{.cluster = ClusterId(in.u64())};
  if (!in.ok() || version != kJoinVersion || !request.cluster)
    return Error(ErrorCode::kBadMessage, "a request to join a group of masters");
  return request;
}

std::string encode_join_answer(const JoinAnswer& answer) {
  ByteWriter out;
  out.u8(kJoinVersion);
  out.u64(answer.cluster.value);
  out.u64(answer.master.value);
  out.string(answer.address);
  return out.take();
}

Result<JoinAnswer> decode_join_answer(std::string_view bytes) {
  ByteReader in(bytes);
  uint8_t version = in.u8();
  JoinAnswer answer{.cluster = ClusterId(in.u64()), .master = MasterId(in.u64()), .address = std::string(in.string())};
  if (!in.ok() || version != kJoinVersion || !answer.master)
    return Error(ErrorCode::kBadMessage, "the answer of a master that is to join");
  return answer;
}

}  // namespace cairn
