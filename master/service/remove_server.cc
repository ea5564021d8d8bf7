// Forgetting a chunkserver that is gone for good: what would be lost with it is looked for first.
#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "master/service/chunk_keeper_impl.h"

namespace cairn {

namespace {
constexpr uint32_t kPageMax = 1024;
constexpr size_t kNamedMax = 100;

std::string loss_of(const RemoveServerReply& found) {
  std::string text = std::to_string(found.lost) + " chunks have no other copy that can be reached now (inodes";
  for (size_t i = 0; i < std::min<size_t>(found.lost_inodes.size(), 5); ++i)
    text += " " + to_string(found.lost_inodes[i]);
  return text + (found.lost_inodes.size() > 5 ? " ...)" : ")");
}
}  // namespace

// The copies that count are those that somebody could read now: another server may be as gone as this one.
bool ChunkKeeper::Impl::only_copy(const ChunkRecord& chunk, ServerId server) const {
  bool here = false;
  for (const ReplicaRecord& replica : chunk.replicas) {
    if (replica.state != ReplicaState::kCurrent) continue;
    if (replica.server == server) here = true;
    if (replica.server != server && servers.alive(replica.server)) return false;
  }
  return here && chunk.refs > 0;  // granted and not yet part of a file: nothing is lost
}

Task<Result<RemoveServerReply>> ChunkKeeper::remove_server(RemoveServerRequest request) {
  Impl& keeper = *impl_;
  co_await settle();
  Result<ServerRecord> known = keeper.core.machine().server(request.server);
  if (!known) co_return Error(ErrorCode::kNotFound, "there is no chunkserver " + to_string(request.server));
  if (!keeper.servers.dead(request.server)) {
    co_return Error(ErrorCode::kBusy, "chunkserver " + known->address + " was heard of within the last " +
                                          std::to_string(keeper.options.repair_delay_ms / 1000) + " s");
  }
  RemoveServerReply found;
  ChunkId after;
  for (;;) {
    auto ask = [server = request.server, after](Machine& machine) {
      return machine.chunks_on(server, after, kPageMax);
    };
    Result<std::vector<ChunkEntry>> page = co_await keeper.core.read_blocking(ask);
    if (!page) co_return page.error();
    if (page->empty()) break;
    after = page->back().id;
    found.chunks += page->size();
    for (const ChunkEntry& entry : *page) {
      if (!keeper.only_copy(entry.chunk, request.server)) continue;
      ++found.lost;
      bool named = std::ranges::find(found.lost_inodes, entry.chunk.owner) != found.lost_inodes.end();
      if (!named && found.lost_inodes.size() < kNamedMax) found.lost_inodes.push_back(entry.chunk.owner);
    }
  }
  if (found.lost > 0 && !request.force) co_return Error(ErrorCode::kNotEmpty, loss_of(found));
  // It may have come back while its chunks were looked at.
  if (!keeper.servers.dead(request.server))
    co_return Error(ErrorCode::kBusy, "chunkserver " + known->address + " is back");
  Result<ReplyBody> dropped = co_await keeper.core.propose(DropServer{request.server}, true);
  if (!dropped) co_return dropped.error();
  log_warning("master.server_removed", "server={} address={} chunks={} lost={}", request.server, known->address,
              found.chunks, found.lost);
  keeper.servers.forget(request.server);
  keeper.work.notify_all();
  co_return found;
}

}  // namespace cairn
