// After a restore: what chunkservers hold is compared with records that may be older than they are. First every server
// is heard, and the records are brought up to the newest versions (ops/restore.cc); until then no chunk is read,
// written, repaired or deleted. From then on everything works, but what only servers know is kept, until the operator
// accepts that it is not needed.
#include <algorithm>
#include <map>
#include <utility>

#include <fmt/chrono.h>

#include "common/base/log.h"
#include "master/service/chunk_keeper_impl.h"

namespace cairn {

namespace {
constexpr size_t kAdoptedAtOnce = 1024;  // chunks in one command
constexpr Duration kSettlePeriod = std::chrono::milliseconds(200);
constexpr Duration kSettleWait = std::chrono::seconds(5);
constexpr uint32_t kUnknownPageMax = 8192;
constexpr uint32_t kLostShownMax = 1024;

std::string when(int64_t wall_ns) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(static_cast<std::time_t>(wall_ns / 1'000'000'000)));
}

Error not_settled() {
  return Error(ErrorCode::kOverload, "the metadata was restored: chunkservers are being asked what they hold");
}
}  // namespace

bool ChunkKeeper::Impl::unsettled() const {
  std::optional<RestoreRecord> restore = core.machine().restore();
  return restore && !restore->settled;
}

Task<Result<void>> ChunkKeeper::Impl::wait_settled() {
  TimePoint until = now() + kSettleWait;
  while (unsettled()) {
    Result<void> waited = co_await recovered.wait_until(core.world().clock(), until);
    if (!waited) co_return not_settled();
  }
  co_return Result<void>();
}

std::vector<ServerId> ChunkKeeper::Impl::not_reported() const {
  std::vector<ServerId> out;
  for (const ServerEntry& entry : core.machine().servers()) {
    const LiveServer* live = servers.find(entry.id);
    if (!live || !live->reported) out.push_back(entry.id);
  }
  return out;
}

// Copies may be on any server, also on one that came after the export was made: all that are known have to be heard,
// and others have a moment to come. One that is gone for good the operator removes.
Task<void> ChunkKeeper::Impl::run_settle(uint64_t of_leadership) {
  TimePoint earliest = now() + std::chrono::milliseconds(options.restore_settle_ms);
  while (current(of_leadership) && unsettled()) {
    if (now() >= earliest && not_reported().empty()) {
      Result<ReplyBody> settled = co_await core.propose(SettleRestore{});
      if (settled) log_info("master.restore_settled", "servers={}", core.machine().servers().size());
      if (!settled) log_warning("master.restore_not_settled", "error={}", quoted(settled.error().message()));
    }
    Result<void> slept = co_await tasks.sleep_for(kSettlePeriod);
    if (!slept) co_return;
  }
  recovered.notify_all();
  work.notify_all();
}

Task<bool> ChunkKeeper::Impl::adopt(ServerId server, uint64_t incarnation, std::vector<AdoptReplicas::Item> items) {
  for (size_t begin = 0; begin < items.size(); begin += kAdoptedAtOnce) {
    AdoptReplicas command{.server = server, .incarnation = incarnation, .chunks = {}};
    size_t end = std::min(items.size(), begin + kAdoptedAtOnce);
    command.chunks.assign(items.begin() + static_cast<ptrdiff_t>(begin), items.begin() + static_cast<ptrdiff_t>(end));
    Result<ReplyBody> adopted = co_await core.propose(std::move(command));
    if (!adopted) {
      log_warning("master.adopt_failed", "server={} error={}", server, quoted(adopted.error().message()));
      co_return false;
    }
  }
  log_info("master.adopted", "server={} chunks={}", server, items.size());
  co_return true;
}

void ChunkKeeper::Impl::note_unknown(ServerId server, Unknown found) {
  unknown[server] = std::move(found);
  totals.reset();
}

ChunkKeeper::Impl::UnknownTotals ChunkKeeper::Impl::unknown_totals() const {
  if (totals) return *totals;
  UnknownTotals sum;
  std::map<ChunkId, uint32_t> lengths;
  for (const auto& [server, held] : unknown) {
    sum.chunks += held.more;
    sum.stale += held.stale;
    for (const ReplicaStatus& status : held.chunks)
      lengths[status.chunk] = std::max(lengths[status.chunk], status.length);
  }
  sum.chunks += lengths.size();
  for (const auto& [chunk, length] : lengths)
    sum.bytes += length;
  totals = sum;
  return sum;
}

void ChunkKeeper::Impl::add_restore_warnings(std::vector<std::string>& warnings) const {
  std::optional<RestoreRecord> restore = core.machine().restore();
  if (!restore) return;
  std::string from = restore->source == RestoreSource::kRescue ? "rescued from chunkservers, as of " : "imported from an export of ";
  std::string text = "the metadata was " + from + when(restore->taken_ns);
  if (!restore->settled) {
    text += "; no chunk is used before each chunkserver has said what it holds";
    for (ServerId server : not_reported()) {
      text += "; waiting for " + address_of(server).address + " (if it is gone for good: cairn server remove " +
              to_string(server) + " --force)";
    }
  } else {
    UnknownTotals sum = unknown_totals();
    text += "; " + std::to_string(sum.chunks) + " chunks (" + std::to_string(sum.bytes) +
            " bytes) on the chunkservers are of no file, and are kept: cairn metadata check lists them, "
            "cairn metadata accept lets them be deleted";
  }
  warnings.push_back(std::move(text));
}

Task<Result<RestoreStatusReply>> ChunkKeeper::restore_status(RestoreStatusRequest request) {
  Impl& keeper = *impl_;
  RestoreStatusReply reply;
  auto ask = [](Machine& machine) -> Result<std::vector<ChunkEntry>> {
    std::vector<ChunkEntry> lost;
    for (ChunkId after{}; lost.size() < kLostShownMax;) {
      Result<std::vector<ChunkEntry>> page = machine.chunks_to_repair(after, 1024);
      if (!page) return page;
      if (page->empty()) break;
      after = page->back().id;
      for (ChunkEntry& entry : *page) {
        bool gone = entry.chunk.refs > 0 && entry.chunk.current_copies() == 0;
        if (gone && lost.size() < kLostShownMax) lost.push_back(std::move(entry));
      }
    }
    return lost;
  };
  if (!request.after) {
    Result<std::vector<ChunkEntry>> lost = co_await keeper.core.read_blocking(ask);
    if (!lost) co_return lost.error();
    for (const ChunkEntry& entry : *lost) {
      reply.lost.push_back({.chunk = entry.id,
                            .inode = entry.chunk.owner,
                            .index = entry.chunk.index,
                            .length = entry.chunk.length,
                            .version = entry.chunk.version});
    }
  }
  reply.lost_chunks = keeper.core.machine().counters().lost;
  std::optional<RestoreRecord> restore = keeper.core.machine().restore();
  if (!restore) co_return reply;
  reply.restored = true;
  reply.from_chunkservers = restore->source == RestoreSource::kRescue;
  reply.taken_ns = restore->taken_ns;
  reply.settled = restore->settled;
  for (ServerId server : keeper.not_reported())
    reply.waiting_for.push_back(keeper.address_of(server).address);
  Impl::UnknownTotals sum = keeper.unknown_totals();
  reply.unknown_chunks = sum.chunks;
  reply.unknown_bytes = sum.bytes;
  reply.stale_replicas = sum.stale;
  std::map<ChunkId, UnknownChunk> page;
  for (const auto& [server, held] : keeper.unknown) {
    for (const ReplicaStatus& status : held.chunks) {
      if (status.chunk <= request.after) continue;
      UnknownChunk& chunk = page[status.chunk];
      chunk.chunk = status.chunk;
      chunk.inode = status.inode;
      chunk.index = status.index;
      chunk.length = std::max(chunk.length, status.length);
      chunk.version = std::max(chunk.version, status.version);
      ++chunk.replicas;
    }
  }
  uint32_t count = std::clamp<uint32_t>(request.count, 1, kUnknownPageMax);
  for (auto& [id, chunk] : page) {
    if (reply.chunks.size() == count) break;
    reply.chunks.push_back(chunk);
  }
  co_return reply;
}

Task<Result<EmptyReply>> ChunkKeeper::accept_restore() {
  Impl& keeper = *impl_;
  Result<ReplyBody> accepted = co_await keeper.core.propose(AcceptRestore{}, true);
  if (!accepted) co_return accepted.error();
  Impl::UnknownTotals sum = keeper.unknown_totals();
  log_warning("master.restore_accepted", "unknown_chunks={} unknown_bytes={}", sum.chunks, sum.bytes);
  keeper.unknown.clear();
  keeper.totals.reset();
  for (ServerId server : keeper.servers.ids())
    keeper.servers.find(server)->ask_again = true;
  co_return EmptyReply{};
}

}  // namespace cairn
