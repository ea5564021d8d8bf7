// Sealing the chunks that a living session left open and does not write any more: a handle stays open and idle, or the
// commit of a last close could not seal (a raise was pending), or a writer gave a chunk up.
//
// It is recovery, of a writer that lives, and sound for this reason: whoever has something to write holds the file's
// write lease, until it is durable and committed. If nobody has held it for kIdleChunkSealMs, nobody has anything to
// write; and a writer that comes back later has let go of the chunks it knows after kWriterKeepsChunksMs without a
// lease, half of that, so that it asks for them again and gets them under a version of its own. Both times are
// measured from the same end of a lease, each on its own clock; the writer's ends no later than the master's.
#include <algorithm>
#include <utility>

#include "common/base/log.h"
#include "common/proto/meta_types.h"
#include "master/service/chunk_keeper_impl.h"

namespace cairn {

namespace {
constexpr Duration kSealPeriod = std::chrono::seconds(10);
constexpr uint32_t kPageMax = 256;
static_assert(kIdleChunkSealMs >= 2 * kWriterKeepsChunksMs);
static_assert(kUnwatchMs > 2 * (kSealPeriod / std::chrono::milliseconds(1)));
}  // namespace

Task<void> ChunkKeeper::Impl::run_sealing(uint64_t of_leadership) {
  for (;;) {
    Result<void> slept = co_await tasks.sleep_for(kSealPeriod);
    if (!slept || !current(of_leadership)) co_return;
    if (unsettled()) continue;
    for (const SessionEntry& entry : core.machine().sessions()) {
      if (!entry.session.ended) co_await seal_idle_of(entry.id, of_leadership);
    }
  }
}

Task<void> ChunkKeeper::Impl::seal_idle_of(SessionId session, uint64_t of_leadership) {
  ChunkId after;
  while (current(of_leadership)) {
    auto ask = [session, after](Machine& machine) { return machine.open_chunks(session, after, kPageMax); };
    Result<std::vector<ChunkEntry>> page = co_await core.read_blocking(ask);
    if (!page || page->empty() || !current(of_leadership)) co_return;
    after = page->back().id;
    for (ChunkEntry& entry : *page) {
      if (running.size() >= options.repairs_at_once * 4) co_return;  // the next round goes on
      if (!idle(entry)) continue;
      running.insert(entry.id);
      tasks.spawn(seal_idle(std::move(entry)));
    }
  }
}

// Also begins to watch the file's lease.
bool ChunkKeeper::Impl::idle(const ChunkEntry& entry) {
  // Granted and not yet part of a file; or repair is at it, and a raise that is pending is finished first.
  if (entry.chunk.refs == 0 || entry.chunk.pending) return false;
  auto milliseconds = std::chrono::duration_cast<std::chrono::milliseconds>(now().time_since_epoch());
  uint64_t now_ms = static_cast<uint64_t>(milliseconds.count());
  if (unheld.unheld_since(entry.chunk.owner, now_ms) + kIdleChunkSealMs > now_ms) return false;
  return !running.contains(entry.id) && !retry.contains(entry.id);
}

Task<void> ChunkKeeper::Impl::seal_idle(ChunkEntry entry) {
  {
    Semaphore::Permit turn = co_await lock(entry.id);
    // A writer that came back meanwhile, and has raised the version, keeps it.
    Result<ChunkRecord> found = co_await record(entry.id);
    bool same = found && found->state == ChunkState::kOpen && found->version == entry.chunk.version && !found->pending;
    if (same && idle({.id = {}, .chunk = *found})) {
      Result<Raised> sealed = co_await raise(entry.id, SessionId{}, {}, false, {});
      if (sealed) {
        log_info("master.idle_sealed", "chunk={} inode={} version={}", entry.id, entry.chunk.owner, sealed->version);
      } else {
        log_warning("master.idle_seal_failed", "chunk={} error={}", entry.id, quoted(sealed.error().message()));
        retry[entry.id] = now() + kSealPeriod;
      }
    }
  }
  running.erase(entry.id);
}

}  // namespace cairn
