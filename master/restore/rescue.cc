#include "master/restore/rescue.h"

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "common/base/crc32c.h"
#include "common/kv/folder.h"
#include "common/proto/methods.h"
#include "common/rpc/retry.h"
#include "common/rpc/rpc_typed.h"

namespace cairn {
namespace {

constexpr Duration kCallDeadline = std::chrono::seconds(20);
constexpr Duration kMastersGone = std::chrono::seconds(30);  // chunkservers wait a while before they believe it
constexpr Duration kBusyPause = std::chrono::seconds(1);
constexpr uint32_t kReadBytes = 1 * kMiB;

struct Server {
  std::unique_ptr<RpcClient> client;
  ServerId id;
  ClusterId cluster;
  std::vector<ReplicaStatus> chunks;
};
struct Holder {
  Server* server = nullptr;
  ReplicaStatus status;
};
using DumpParts = std::map<uint32_t, std::vector<Holder>>;  // by index

// One call, again while the server has heard a master a moment ago.
template <class Request>
Task<Result<Answer<typename Method<Request>::Reply>>> ask(World& world, TaskGroup& tasks, RpcClient& client,
                                                          Request request) {
  const TimePoint until = world.clock().now() + kMastersGone;
  for (;;) {
    auto answer = co_await typed_call(client, request, {.deadline = world.clock().now() + kCallDeadline});
    const bool again = !answer && (answer.failed_with(ErrorCode::kBusy) || worth_retrying(answer.code()));
    if (!again || world.clock().now() >= until) co_return answer;
    Result<void> slept = co_await tasks.sleep_for(kBusyPause);
    if (!slept) co_return slept.error();
  }
}

Task<Result<void>> list_all(World& world, TaskGroup& tasks, Server& server) {
  ListChunksRequest request;
  for (bool last = false; !last;) {
    auto page = co_await ask(world, tasks, *server.client, request);
    if (!page) co_return page.error().in("chunkserver " + to_string(server.client->address()));
    server.id = page->reply.server;
    server.cluster = page->reply.cluster;
    last = page->reply.last;
    for (ReplicaStatus& status : page->reply.chunks)
      server.chunks.push_back(status);
    if (!server.chunks.empty()) request.after = server.chunks.back().chunk;
  }
  co_return Result<void>();
}

Task<Result<std::string>> read_replica(World& world, TaskGroup& tasks, const Holder& holder) {
  std::string bytes;
  while (bytes.size() < holder.status.length) {
    ReadKeptDumpRequest request;
    request.chunk = holder.status.chunk;
    request.version = holder.status.version;
    request.offset = static_cast<uint32_t>(bytes.size());
    request.length = std::min(kReadBytes, holder.status.length - request.offset);
    auto part = co_await ask(world, tasks, *holder.server->client, request);
    if (!part) co_return part.error();
    Buffer data = flatten(part->payload);
    if (data.size() < request.length || block_checksums(data.span()) != part->reply.checksums)
      co_return Error(ErrorCode::kCorrupt, "chunk " + to_string(request.chunk));
    bytes += data.view().substr(0, request.length);
  }
  co_return bytes;
}

// The dump as one file; kCorrupt if no replica of some part can be read, or the whole is not whole.
Task<Result<void>> fetch(World& world, TaskGroup& tasks, BlockingPool& pool, const DumpParts& parts, std::string path) {
  Disk& disk = world.disk();
  Result<void> cleared = co_await pool.run([&disk, path] { return disk.remove_tree(path); });
  if (!cleared) co_return cleared;
  uint32_t next = 0;
  uint64_t size = 0;
  for (const auto& [index, holders] : parts) {
    if (index != next++) co_return Error(ErrorCode::kCorrupt, "a part of the dump is nowhere");
    Result<std::string> bytes = Error(ErrorCode::kCorrupt, "no replica of a part of the dump can be read");
    for (const Holder& holder : holders) {
      bytes = co_await read_replica(world, tasks, holder);
      if (bytes) break;
    }
    if (!bytes) co_return Error(ErrorCode::kCorrupt, bytes.error().message());
    Result<void> kept = co_await pool.run([&disk, path, size, data = std::move(*bytes)]() -> Result<void> {
      Result<std::unique_ptr<File>> file = disk.open(path, OpenFlags{.create = true});
      if (!file) return file.error();
      return (*file)->write(size, std::as_bytes(std::span(data)));
    });
    if (!kept) co_return kept;
    for (const Holder& holder : holders)
      size = std::max(size, index * kChunkSizeBytes + holder.status.length);
  }
  Result<void> whole = co_await pool.run([&disk, path]() -> Result<void> {
    Result<std::unique_ptr<File>> file = disk.open(path, OpenFlags{.read_only = true});
    if (!file) return file.error();
    Result<DumpSummary> read =
        read_dump(dump_source(**file), [](std::string_view, std::string_view) -> Result<void> { return {}; });
    if (!read) return read.error();
    return {};
  });
  co_return whole;
}

// The newest dump comes first. Of each part the longest replica is asked first: a shorter one may not have been finished.
std::map<InodeId, DumpParts, std::greater<>> kept_dumps(std::vector<std::unique_ptr<Server>>& servers) {
  std::map<InodeId, DumpParts, std::greater<>> found;
  for (std::unique_ptr<Server>& server : servers) {
    for (const ReplicaStatus& status : server->chunks) {
      if (is_kept_dump(status.inode)) found[status.inode][status.index].push_back({server.get(), status});
    }
  }
  for (auto& [inode, parts] : found) {
    for (auto& [index, holders] : parts) {
      std::ranges::sort(holders, std::greater<>(), [](const Holder& holder) {
        return std::pair(holder.status.complete, holder.status.length);
      });
    }
  }
  return found;
}

// What is a copy of some file's chunk, each once, oldest first.
std::vector<FoundChunk> files_chunks(const std::vector<std::unique_ptr<Server>>& servers) {
  std::map<ChunkId, std::pair<uint64_t, FoundChunk>> newest;  // by version
  for (const std::unique_ptr<Server>& server : servers) {
    for (const ReplicaStatus& status : server->chunks) {
      if (is_kept_dump(status.inode) || !status.inode || !status.complete) continue;
      auto& [version, chunk] = newest[status.chunk];
      if (status.version < version) continue;
      version = status.version;
      chunk = {.chunk = status.chunk,
               .inode = status.inode,
               .index = status.index,
               .length = std::max(status.length, chunk.length),
               .allocated_bytes = status.allocated_bytes};
    }
  }
  std::vector<FoundChunk> out;
  for (auto& [id, chunk] : newest)
    out.push_back(chunk.second);
  return out;
}

Result<void> attach(const Machine& machine, const ImportOptions::Apply& apply, const std::vector<FoundChunk>& found,
                    RescueResult& result) {
  for (const FoundChunk& chunk : found) {
    Result<ChunkRecord> known = machine.chunk(chunk.chunk, ReadMode::kMayBlock);
    if (known && known->refs > 0) continue;
    const bool named = machine.inode(chunk.inode, ReadMode::kMayBlock).has_value();
    Result<Reply> reply = apply(AttachFound{.inode = chunk.inode,
                                            .index = chunk.index,
                                            .chunk = chunk.chunk,
                                            .length = chunk.length,
                                            .allocated_bytes = chunk.allocated_bytes});
    if (!reply) return reply.error();
    if (!*reply) {
      ++result.removed_before;
      continue;
    }
    const bool in_lost_and_found =
        !named || std::ranges::any_of(result.unnamed, [&](const FoundChunk& c) { return c.inode == chunk.inode; });
    (in_lost_and_found ? result.unnamed : result.attached).push_back(chunk);
  }
  return {};
}

class Rescue {
 public:
  Rescue(World& world, RescueOptions options)
      : world_(world),
        options_(std::move(options)),
        pool_(world.make_pool("rescue", 1)),
        tasks_(world.executor(), world.clock()) {}

  Task<Result<RescueResult>> run() {
    Result<RescueResult> result = co_await all();
    for (std::unique_ptr<Server>& server : servers_)
      co_await server->client->stop();
    co_await tasks_.stop();
    co_return result;
  }

 private:
  Task<Result<RescueResult>> all();
  Task<Result<void>> hear();
  Task<Result<void>> find_dump();

  World& world_;
  RescueOptions options_;
  std::unique_ptr<BlockingPool> pool_;
  TaskGroup tasks_;
  std::vector<std::unique_ptr<Server>> servers_;
  RescueResult result_;
};

Task<Result<void>> Rescue::hear() {
  for (const Address& address : options_.servers) {
    auto server = std::make_unique<Server>();
    RpcClientOptions rpc;
    rpc.hello.program = "cairn rescue";
    server->client = std::make_unique<RpcClient>(world_, address, rpc);
    servers_.push_back(std::move(server));
    Result<void> listed = co_await list_all(world_, tasks_, *servers_.back());
    if (!listed) co_return listed;
    if (servers_.back()->cluster != servers_.front()->cluster)
      co_return Error(ErrorCode::kWrongCluster, to_string(address) + " belongs to another cluster than the first");
    result_.chunks += servers_.back()->chunks.size();
  }
  result_.servers = servers_.size();
  co_return Result<void>();
}

Task<Result<void>> Rescue::find_dump() {
  const std::string path = options_.folder + "/rescued-dump";
  Result<void> made = co_await pool_->run(
      [&disk = world_.disk(), folder = options_.folder] { return make_durable_folder(disk, folder); });
  if (!made) co_return made;
  std::map<InodeId, DumpParts, std::greater<>> found = kept_dumps(servers_);
  for (const auto& [inode, parts] : found) {
    Result<void> fetched = co_await fetch(world_, tasks_, *pool_, parts, path);
    if (fetched) {
      result_.dump_number = inode.value - kKeptDumpInodeBase;
      co_return fetched;
    }
    if (!fetched.failed_with(ErrorCode::kCorrupt)) co_return fetched;
    ++result_.dumps_passed_over;
  }
  co_return Error(ErrorCode::kNotFound, "no whole dump of the metadata is on these chunkservers");
}

Task<Result<RescueResult>> Rescue::all() {
  Disk& disk = world_.disk();
  Result<void> step = co_await pool_->run(
      [&disk, folder = options_.folder] { return check_free_folder(disk, folder); });
  if (step) step = co_await hear();
  if (step) step = co_await find_dump();
  if (!step) co_return step.error();
  ImportOptions import;
  import.dump = options_.folder + "/rescued-dump";
  import.folder = options_.folder;
  import.address = options_.address;
  import.master = MasterId(world_.random().next_id());
  import.wall_ns = world_.clock().wall().ns;
  import.boot_id = world_.boot_id();
  import.source = RestoreSource::kRescue;
  std::vector<FoundChunk> found = files_chunks(servers_);
  RescueResult* result = &result_;
  import.more = [&found, result](const Machine& machine, const ImportOptions::Apply& apply) {
    return attach(machine, apply, found, *result);
  };
  Result<ImportResult> imported = co_await pool_->run([&disk, &import] { return import_dump(disk, import); });
  if (!imported) co_return imported.error();
  result_.imported = std::move(*imported);
  if (result_.imported.dump.header.cluster != servers_.front()->cluster)
    co_return Error(ErrorCode::kWrongCluster, "the dump is of another cluster than the chunkservers");
  step = co_await pool_->run([&disk, path = import.dump] { return disk.remove_tree(path); });
  if (!step) co_return step.error();
  co_return std::move(result_);
}

}  // namespace

Task<Result<RescueResult>> rescue(World& world, RescueOptions options) {
  if (options.servers.empty()) co_return Error(ErrorCode::kInvalid, "no chunkserver is named");
  Rescue work(world, std::move(options));
  Result<RescueResult> result = co_await work.run();
  co_return result;
}

}  // namespace cairn
