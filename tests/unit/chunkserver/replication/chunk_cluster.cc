#include "tests/unit/chunkserver/replication/chunk_cluster.h"

#include <algorithm>
#include <gtest/gtest.h>

#include "common/base/crc32c.h"

namespace cairn {

namespace {

// The server, and the task that starts it.
struct Program {
  Program(World& world, ChunkServerSettings settings)
      : server(world, std::move(settings)), tasks(world.executor(), world.clock()) {
    tasks.spawn(run(this));
  }
  static Task<void> run(Program* self) { self->result = co_await self->server.start(); }
  static Task<void> stop(Program* self) {
    co_await self->server.stop();
    self->stopped = true;
  }
  ChunkServer server;
  std::optional<Result<void>> result;
  bool stopped = false;
  TaskGroup tasks;
};

}  // namespace

ChunkCluster::ChunkCluster(size_t servers, uint64_t seed) : sim_(seed), fatal_(servers) {
  master_ = &sim_.add_node("master");
  for (size_t i = 0; i < servers; ++i)
    nodes_.push_back(&sim_.add_node("c" + std::to_string(i)));
  client_ = &sim_.add_node("client");
  settings_.masters = {"master:9400"};
  settings_.folders = {"/data"};
  settings_.domain = "rack";
  settings_.program = "cairn-chunkserver";
  settings_.store.kv = KvKind::kMemory;
  client_->start();
  clients_.resize(servers);
  for (size_t i = 0; i < servers; ++i)
    connect(i);
}

void ChunkCluster::connect(size_t i) {
  RpcClientOptions options;
  options.hello = {.cluster = kTestCluster, .program = "client"};
  clients_[i] = std::make_unique<RpcClient>(*client_, *parse_address(address(i)), options);
}

ChunkCluster::~ChunkCluster() {
  clients_.clear();
  for (SimNode* node : nodes_) {
    if (node->running()) node->crash(Crash::kProcess);
  }
  if (master_->running()) master_->crash(Crash::kProcess);
  client_->crash(Crash::kProcess);
}

void ChunkCluster::start() {
  start_master();
  for (size_t i = 0; i < nodes_.size(); ++i)
    start_server(i);
  for (size_t i = 0; i < nodes_.size(); ++i)
    ASSERT_TRUE(wait_until_serving(i)) << i;
}

void ChunkCluster::start_master() {
  master_->start([this](World& world) { return std::make_shared<ScriptedMaster>(world, script_, "master:9400"); });
}

void ChunkCluster::start_server(size_t i) {
  ChunkServerSettings settings = settings_;
  settings.listen = address(i);
  settings.on_fatal = [this, i](const Error& error) { fatal_[i] = error; };
  nodes_[i]->start([settings](World& world) { return std::make_shared<Program>(world, settings); });
}

void ChunkCluster::restart_server(size_t i, Crash kind) {
  nodes_[i]->crash(kind);
  connect(i);  // a connection of before would have to find out first
  start_server(i);
  ASSERT_TRUE(wait_until_serving(i)) << i;
}

bool ChunkCluster::wait_until_serving(size_t i) {
  return sim_.run_until(
      [&] {
        Program* program = nodes_[i]->program<Program>();
        return program && program->result && program->result->has_value() && program->server.reported_to() > 0;
      },
      30s);
}

bool ChunkCluster::stop_server(size_t i, Duration limit) {
  Program* program = nodes_[i]->program<Program>();
  nodes_[i]->spawn(Program::stop(program));
  return sim_.run_until([&] { return program->stopped; }, limit);
}

ChunkServer& ChunkCluster::server(size_t i) {
  return nodes_[i]->program<Program>()->server;
}

std::string ChunkCluster::capability(ChunkId chunk, uint64_t version, CapabilityRights rights) const {
  Capability capability{chunk, version, SessionId(5), rights, script_.log_time_ms + 600'000};
  return sign_capability(capability, kTestKeyId, kTestKey);
}

ChunkWriteRequest ChunkCluster::write_request(uint64_t sequence, uint32_t offset, std::string_view data,
                                              uint64_t version, std::vector<size_t> chain, ChunkId chunk) {
  ChunkWriteRequest request;
  request.capability = capability(chunk, version);
  request.chunk = chunk;
  request.version = version;
  request.sequence = sequence;
  request.offset = offset;
  request.length = static_cast<uint32_t>(data.size());
  request.checksums = checksums_of(offset, data);
  request.inode = InodeId(12);
  request.index = 3;
  for (size_t server : chain)
    request.chain.push_back(replica(server));
  return request;
}

ChunkCluster::CallPtr<ChunkWriteRequest> ChunkCluster::begin_write(std::vector<size_t> chain, uint64_t sequence,
                                                                   uint32_t offset, std::string_view data,
                                                                   uint64_t version, ChunkId chunk) {
  std::vector<size_t> behind(chain.begin() + 1, chain.end());
  return begin(chain.front(), write_request(sequence, offset, data, version, behind, chunk), {Buffer::copy_of(data)});
}

std::vector<ReplicaAck> ChunkCluster::write(std::vector<size_t> chain, uint64_t sequence, uint32_t offset,
                                            std::string_view data, uint64_t version, ChunkId chunk) {
  auto answer = end(begin_write(std::move(chain), sequence, offset, data, version, chunk));
  if (answer) return answer->reply.acks;
  ReplicaAck failed;
  failed.error = static_cast<uint16_t>(answer.code());
  failed.context = answer.error().context;
  return {failed};
}

ReplicaAck ChunkCluster::sync(size_t server, uint64_t sequence, uint64_t incarnation, uint64_t version, ChunkId chunk) {
  ChunkSyncRequest request;
  request.items.push_back({capability(chunk, version), chunk, version, sequence, incarnation});
  auto answer = call(server, std::move(request));
  if (answer) return answer->reply.acks.at(0);
  ReplicaAck failed;
  failed.error = static_cast<uint16_t>(answer.code());
  failed.context = answer.error().context;
  return failed;
}

Result<std::string> ChunkCluster::read(size_t server, uint32_t offset, uint32_t length, uint64_t version,
                                       ChunkId chunk) {
  std::string out;
  while (length > 0) {
    uint32_t part = std::min<uint32_t>(length, kMiB);
    ChunkReadRequest request{capability(chunk, version, CapabilityRights::kRead), chunk, version, offset, part};
    auto answer = call(server, std::move(request));
    if (!answer) return answer.error();
    Buffer data = flatten(answer->payload);
    if (block_checksums(data.span()) != answer->reply.checksums) return Error(ErrorCode::kCorrupt);
    uint32_t skip = offset - answer->reply.offset;
    out += data.size() > skip ? data.view().substr(skip, part) : std::string_view();
    if (data.size() < skip + part) break;
    offset += part;
    length -= part;
  }
  return out;
}

std::string ChunkCluster::bytes(size_t server, uint32_t offset, uint32_t length, uint64_t version, ChunkId chunk) {
  Result<std::string> data = read(server, offset, length, version, chunk);
  return data ? *data : data.error().message();
}

Result<ReplicaStatus> ChunkCluster::status(size_t server, ChunkId chunk) {
  auto answer = call(server, StatChunksRequest{order(), {chunk}});
  if (!answer) return answer.error();
  if (answer->reply.chunks.empty()) return ErrorCode::kNotFound;
  return answer->reply.chunks.front();
}

Result<RaiseVersionReply> ChunkCluster::raise(size_t server, uint64_t from, uint64_t to, ChunkId chunk) {
  auto answer = call(server, RaiseVersionRequest{order(), chunk, from, to});
  if (!answer) return answer.error();
  return answer->reply;
}

CopyChunkRequest ChunkCluster::copy_order(size_t source, uint64_t version, bool seal, ChunkId chunk) {
  return {order(), chunk, version, replica(source), capability(chunk, version, CapabilityRights::kCopy), seal};
}

Result<RaiseVersionReply> ChunkCluster::copy(size_t target, size_t source, uint64_t version, bool seal, ChunkId chunk) {
  auto answer = call(target, copy_order(source, version, seal, chunk), {}, 60s);
  if (!answer) return answer.error();
  return answer->reply;
}

double ChunkCluster::metric(size_t server, const std::string& name) {
  return nodes_[server]->metrics().counter(name, "").value();
}

std::string pattern(size_t size, uint64_t seed) {
  auto random = make_seeded_random(seed);
  std::string out;
  out.reserve(size + 8);
  while (out.size() < size) {
    uint64_t number = random->next_u64();
    out.append(reinterpret_cast<const char*>(&number), sizeof number);
  }
  out.resize(size);
  return out;
}

std::vector<uint32_t> checksums_of(uint32_t offset, std::string_view data) {
  std::vector<uint32_t> sums;
  while (!data.empty()) {
    size_t piece = std::min<size_t>(data.size(), kBlockSizeBytes - offset % kBlockSizeBytes);
    sums.push_back(crc32c(data.substr(0, piece)));
    data.remove_prefix(piece);
    offset += static_cast<uint32_t>(piece);
  }
  return sums;
}

}  // namespace cairn
