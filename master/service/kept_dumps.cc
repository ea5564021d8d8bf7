// All metadata, from time to time, as chunks on the chunkservers: what `cairn rescue` begins with when every master is
// lost. The leader writes them like a client, a piece at a time, so that memory is bounded.
#include <algorithm>
#include <utility>

#include "common/base/crc32c.h"
#include "common/base/log.h"
#include "common/base/units.h"
#include "master/service/chunk_keeper_impl.h"
#include "master/service/export_service.h"

namespace cairn {

namespace {
constexpr Duration kFirstDump = std::chrono::seconds(60);  // a new cluster has one soon
constexpr Duration kRetryDump = std::chrono::seconds(60);
constexpr Duration kPieceDeadline = std::chrono::seconds(20);
}  // namespace

struct ChunkKeeper::Impl::DumpChunk {
  InodeId inode;
  uint32_t index = 0;
  ChunkGrant grant;
  std::string capability;
  uint32_t length = 0;
  uint64_t sequence = 0;
};

Task<void> ChunkKeeper::Impl::run_dumps(uint64_t of_leadership) {
  const Duration interval = std::chrono::milliseconds(options.dump_interval_ms);
  Duration wait = std::min(interval, kFirstDump);
  uint64_t kept_at = 0;
  for (;;) {
    Result<void> slept = co_await tasks.sleep_for(wait);
    if (!slept || !current(of_leadership)) co_return;
    wait = interval;
    // What only ticks have changed since need not be kept again.
    const CounterRecord counters = core.machine().counters();
    const uint64_t ticks_since = (options.dump_interval_ms / 1000 + 1) * 2;
    if (unsettled() || (kept_at != 0 && counters.applied_index <= kept_at + ticks_since)) continue;
    Result<uint64_t> bytes = co_await keep_dump(of_leadership);
    if (!current(of_leadership)) co_return;
    if (bytes) {
      kept_at = core.machine().applied_index();
      log_info("master.dump_kept", "bytes={}", *bytes);
    } else {
      wait = std::min(interval, kRetryDump);
      log_warning("master.dump_not_kept", "error={}", quoted(bytes.error().message()));
    }
  }
}

Task<Result<std::shared_ptr<ChunkKeeper::Impl::DumpChunk>>> ChunkKeeper::Impl::next_dump_chunk(InodeId inode,
                                                                                                uint32_t index) {
  ChooseRequest choose;
  choose.count = core.machine().cluster().default_goal;
  choose.count_min = 1;  // one copy is better than none
  Result<std::vector<ServerId>> chosen = choose_servers(servers.view(), choose, core.world().random().next_u64());
  if (!chosen) co_return chosen.error();
  Result<MutationReply> granted =
      co_await core.propose_for<MutationReply>(GrantKeptDumpChunk{.inode = inode, .servers = std::move(*chosen)});
  if (!granted) co_return granted.error();
  auto chunk = std::make_shared<DumpChunk>();
  chunk->inode = inode;
  chunk->index = index;
  chunk->grant = std::move(granted->grants.at(0));
  chunk->capability = sign(chunk->grant.chunk, chunk->grant.version, SessionId{}, CapabilityRights::kWrite);
  co_return chunk;
}

// On disk on every replica when it returns, if it is the last of its chunk.
Task<Result<void>> ChunkKeeper::Impl::write_dump_piece(std::shared_ptr<DumpChunk> chunk, Buffer data, bool last) {
  ChunkWriteRequest request;
  request.capability = chunk->capability;
  request.chunk = chunk->grant.chunk;
  request.version = chunk->grant.version;
  request.sequence = ++chunk->sequence;
  request.offset = chunk->length;
  request.length = static_cast<uint32_t>(data.size());
  request.checksums = block_checksums(data.span());
  request.sync = last;
  request.inode = chunk->inode;
  request.index = chunk->index;
  const std::vector<ReplicaAddress>& replicas = chunk->grant.replicas;
  request.chain.assign(replicas.begin() + 1, replicas.end());
  LiveServer* server = servers.find(replicas.front().server);
  if (!server || !server->client) co_return Error(ErrorCode::kUnavailable, "a chunkserver that is not known");
  chunk->length += request.length;
  Payload payload;
  payload.push_back(std::move(data));
  auto answer = co_await typed_call(*server->client, std::move(request), {.deadline = now() + kPieceDeadline},
                                    std::move(payload));
  if (!answer) co_return answer.error();
  for (const ReplicaAck& ack : answer->reply.acks) {
    if (ack.error != 0) co_return Error(error_code_from_wire(ack.error), ack.context);
  }
  if (answer->reply.acks.size() != replicas.size())
    co_return Error(ErrorCode::kTooFewReplicas, "not every replica of a dump has answered");
  co_return Result<void>();
}

Task<Result<uint64_t>> ChunkKeeper::Impl::keep_dump(uint64_t of_leadership) {
  Result<MutationReply> begun = co_await core.propose_for<MutationReply>(BeginKeptDump{});
  if (!begun) co_return begun.error();
  const InodeId inode = begun->attributes.inode;
  std::unique_ptr<BlockingPool> pool = core.world().make_pool("dump", 1);
  auto maker = std::make_unique<DumpMaker>(core.machine().records(), "cairn-master", core.world().clock().wall().ns);
  std::shared_ptr<DumpChunk> chunk;
  std::string waiting;
  uint64_t written = 0;
  uint32_t chunks = 0;
  while (!maker->ended() || !waiting.empty()) {
    while (!maker->ended() && waiting.size() < kDumpPageBytes) {
      DumpMaker* made = maker.get();
      Result<std::string> part = co_await pool->run([made] { return made->next(); });
      if (!part) co_return part.error();
      waiting += *part;
    }
    if (!current(of_leadership)) co_return Error(ErrorCode::kNotLeader);
    if (!chunk) {
      Result<std::shared_ptr<DumpChunk>> next = co_await next_dump_chunk(inode, chunks++);
      if (!next) co_return next.error();
      chunk = std::move(*next);
    }
    // Whole MiBs, so that pieces begin where blocks do and end where chunks do.
    const size_t piece = std::min<size_t>(waiting.size(), kDumpPageBytes);
    const bool all = maker->ended() && piece == waiting.size();
    const bool full = chunk->length + piece == kChunkSizeBytes;
    Result<void> stored = co_await write_dump_piece(chunk, Buffer::copy_of(std::string_view(waiting).substr(0, piece)), all || full);
    if (!stored) co_return stored.error();
    waiting.erase(0, piece);
    written += piece;
    if (full) chunk.reset();
  }
  Result<ReplyBody> finished = co_await core.propose(FinishKeptDump{.inode = inode, .size = written});
  if (!finished) co_return finished.error();
  co_return written;
}

}  // namespace cairn
