#include "fs/client/file_reader.h"

#include <algorithm>
#include <utility>

#include "common/base/crc32c.h"
#include "common/base/log.h"
#include "common/base/units.h"

namespace cairn {

namespace {
constexpr uint32_t kLayoutChunks = 32;  // 2 GiB of a file in one answer
constexpr int kRoundsMax = 4;           // over all replicas, with a fresh layout each
constexpr Duration kRoundPause = std::chrono::milliseconds(100);
constexpr int kRoundPauseDoublings = 3;
// While a version is raised (a replica joins) the replicas are ahead of what the master says: that passes.
constexpr Duration kRaiseWait = std::chrono::seconds(20);

// [from, from + size) of what a replica sent, which begins at `begin`; zeros beyond its end and from `limit` on.
Payload cut(const Buffer& data, uint32_t begin, uint32_t from, uint32_t size, uint32_t limit) {
  Payload out;
  uint64_t end = std::min<uint64_t>({uint64_t{from} + size, begin + data.size(), limit});
  uint64_t have = end > from ? end - from : 0;
  if (have > 0) out.push_back(data.slice(from - begin, static_cast<size_t>(have)));
  if (have < size) out.push_back(Buffer::zeros(static_cast<size_t>(size - have)));
  return out;
}

// The replica has another version than the layout says.
bool says_moved(ErrorCode code) {
  return code == ErrorCode::kOldVersion || code == ErrorCode::kNewVersion || code == ErrorCode::kNotFound;
}
}  // namespace

FileReader::FileReader(World& world, MasterLink& master, ServerPool& servers, LeaseKeeper& leases, InodeId inode)
    : world_(world), master_(master), servers_(servers), leases_(leases), inode_(inode) {}

Task<Result<Payload>> FileReader::read(uint64_t offset, uint32_t size, FileWriter* writer) {
  Payload out;
  while (size > 0) {
    uint32_t index = static_cast<uint32_t>(offset / kChunkSizeBytes);
    uint32_t in_chunk = static_cast<uint32_t>(offset % kChunkSizeBytes);
    uint32_t part = static_cast<uint32_t>(std::min<uint64_t>(size, kChunkSizeBytes - in_chunk));
    Result<Payload> piece = co_await read_piece(index, in_chunk, part, writer);
    if (!piece) co_return piece;
    for (Buffer& buffer : *piece)
      out.push_back(std::move(buffer));
    offset += part;
    size -= part;
  }
  co_return out;
}

Task<Result<void>> FileReader::load_layout(uint32_t index) {
  GetLayoutRequest request;
  request.inode = inode_;
  request.first_index = index / kLayoutChunks * kLayoutChunks;
  request.count = kLayoutChunks;
  bool held = leases_.usable(inode_);
  uint64_t recall = leases_.last_recall(inode_);
  auto reply = co_await master_.ask(request);
  if (!reply) co_return reply.error();
  layout_.clear();
  layout_first_ = request.first_index;
  // The lease was held all the time. (One that came with this answer is no lease on the attributes that are known.)
  bool still = leases_.usable(inode_) && leases_.last_recall(inode_) == recall;
  layout_leased_ = held && still && reply->lease.duration_ms > 0;
  for (ChunkLocation& location : reply->chunks) {
    uint32_t at = location.index;
    layout_[at] = std::move(location);
  }
  co_return Result<void>();
}

Task<Result<FileReader::Place>> FileReader::find(uint32_t index, FileWriter* writer) {
  Place place;
  std::shared_ptr<ChunkWriter> open = writer ? writer->chunk(index) : nullptr;
  // One that is broken was taken over by another session, or lost: the masters know what is there.
  if (open && !open->broken()) {
    // What was written is on all replicas before it is read back, and asked for: one that has restarted since may have
    // lost what is not on disk.
    place.sequence = open->last_sequence();
    Result<void> accepted = co_await open->wait_accepted(world_.clock().now() + kChunkWriteDeadline);
    if (!accepted) co_return accepted.error();
    co_await open->renew_capability();
    place.chunk = open->grant().chunk;
    place.version = open->grant().version;
    place.replicas = open->grant().replicas;
    place.capability = open->grant().capability;
    co_return place;
  }
  bool leased = layout_leased_ && (leases_.shared(inode_) || leases_.reads_as_before(inode_));
  bool known = leased && index >= layout_first_ && index - layout_first_ < kLayoutChunks;
  if (!known) {
    Result<void> loaded = co_await load_layout(index);
    if (!loaded) co_return loaded.error();
  }
  auto found = layout_.find(index);
  if (found != layout_.end()) {
    const ChunkLocation& location = found->second;
    place.chunk = location.chunk;
    place.version = location.version;
    place.limit = location.limit;
    place.replicas = location.replicas;
    place.capability = location.capability;
  }
  co_return place;
}

Task<Result<Payload>> FileReader::read_piece(uint32_t index, uint32_t offset, uint32_t size, FileWriter* writer) {
  Payload data;
  auto ask = [this, offset, size, &data](ReplicaAddress replica, Place place) {
    return read_replica(std::move(replica), std::move(place), offset, size, &data);
  };
  Result<void> asked = co_await ask_replicas(index, offset, writer, std::move(ask));
  if (!asked) co_return asked.error();
  if (data.empty()) data.push_back(Buffer::zeros(size));
  co_return data;
}

Task<Result<void>> FileReader::ask_replicas(uint32_t index, uint32_t offset, FileWriter* writer, AskReplica ask) {
  Error last(ErrorCode::kIo);
  TimePoint give_up = world_.clock().now() + kRaiseWait;
  bool moved = false;
  for (int round = 0; round < kRoundsMax || (moved && world_.clock().now() < give_up); ++round) {
    Result<Place> place = co_await find(index, writer);
    if (!place) co_return place.error();
    if (!place->chunk || offset >= place->limit) co_return Result<void>();
    std::vector<ReplicaAddress> order = order_of(*place);
    std::optional<Error> elsewhere;
    for (const ReplicaAddress& replica : order) {
      // Where others have answered, if only that the layout is old, nobody waits for one that is known not to.
      if (round == 0 && &replica != &order.front() && servers_.silent(replica.address)) continue;
      Result<void> answered = co_await ask(replica, *place);
      if (answered) co_return answered;
      last = answered.error();
      if (says_moved(last.code)) elsewhere = last;
      // Another one may have missed what this one knows of, and would give what was before: the master is asked first.
      if (last.code == ErrorCode::kOldVersion && round == 0) break;
    }
    // A server that does not answer, and so is asked last, says nothing about what the others have said.
    if (elsewhere) last = *elsewhere;
    forget_layout();
    if (writer && last.code == ErrorCode::kOldVersion && writer->superseded(index)) continue;
    std::shared_ptr<ChunkWriter> open = writer ? writer->chunk(index) : nullptr;
    if (last.code == ErrorCode::kOldVersion && open) co_await open->refused_as_old(place->version);
    moved = says_moved(last.code);
    if (last.code == ErrorCode::kMissingWrites && open) {  // they are sent again
      Result<void> synced = co_await open->sync(give_up);
      moved = synced.has_value();
    }
    if (moved && round == 0) continue;  // the layout was old: the new one answers at once
    TimePoint until = world_.clock().now() + kRoundPause * (1 << std::min(round, kRoundPauseDoublings));
    Promise<void> pause(world_.executor());
    Clock::TimerId timer = world_.clock().call_at(until, [&pause] { pause.set({}); });
    Result<void> slept = co_await pause.future();
    world_.clock().cancel(timer);
    if (!slept) break;
  }
  log_warning("client.read_failed", "inode={} chunk_index={} error={}", inode_, index, quoted(last.message()));
  co_return Error(ErrorCode::kIo,
                  "chunk " + std::to_string(index) + " of inode " + to_string(inode_) + ": " + last.message());
}

// One replica of a chunk serves this mount, another one the next mount: their page caches do not all hold the same.
// Those that failed lately come last.
std::vector<ReplicaAddress> FileReader::order_of(const Place& place) const {
  std::vector<ReplicaAddress> order, avoided;
  size_t count = place.replicas.size();
  for (size_t i = 0; i < count; ++i) {
    const ReplicaAddress& replica = place.replicas[(place.chunk.value + master_.session().value + i) % count];
    (servers_.avoid(replica.address) ? avoided : order).push_back(replica);
  }
  order.insert(order.end(), avoided.begin(), avoided.end());
  return order;
}

Task<Result<void>> FileReader::read_replica(ReplicaAddress replica, Place place, uint32_t offset, uint32_t size,
                                            Payload* out) {
  ChunkReadRequest request;
  request.capability = place.capability;
  request.chunk = place.chunk;
  request.version = place.version;
  request.offset = offset;
  request.length = size;
  request.sequence = place.sequence;
  RpcClient::CallOptions options{.deadline = world_.clock().now() + kChunkReadDeadline};
  TimePoint asked = world_.clock().now();
  auto answer = co_await typed_call(servers_.client(replica.address), std::move(request), options);
  if (answer) servers_.note_success(replica);
  if (!answer) {
    ErrorCode code = answer.error().code;
    if (code == ErrorCode::kUnavailable || code == ErrorCode::kTimeout) servers_.note_failure(replica, asked);
    if (code == ErrorCode::kCorrupt) co_await report_bad(place.chunk, place.version, replica.server, code);
    co_return answer.error().in("reading " + to_string(place.chunk) + " from " + replica.address);
  }
  const ChunkReadReply& reply = answer->reply;
  Buffer data = flatten(answer->payload);
  bool shape = reply.length == data.size() && reply.offset <= offset && offset - reply.offset < kBlockSizeBytes;
  if (!shape) co_return Error(ErrorCode::kBadMessage, replica.address + ": answered another range than asked for");
  if (block_checksums(data.span()) != reply.checksums) {
    co_await report_bad(place.chunk, place.version, replica.server, ErrorCode::kCorrupt);
    co_return Error(ErrorCode::kCorrupt,
                    "chunk " + to_string(place.chunk) + " from " + replica.address + ": wrong checksum");
  }
  *out = cut(data, reply.offset, offset, size, place.limit);
  co_return Result<void>();
}

Task<void> FileReader::report_bad(ChunkId chunk, uint64_t version, ServerId server, ErrorCode error) {
  log_warning("client.bad_replica", "chunk={} version={} server={} error={}", chunk, version, server, to_string(error));
  ReportBadReplicaRequest request;
  request.chunk = chunk;
  request.version = version;
  request.server = server;
  request.error = static_cast<uint16_t>(error);
  auto told = co_await master_.ask_until(request, world_.clock().now() + kChunkReadDeadline);
  if (!told) log_warning("client.report_failed", "chunk={} error={}", chunk, quoted(told.error().message()));
}

}  // namespace cairn
