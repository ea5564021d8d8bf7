// FileReader: where data begins and ends (SEEK_DATA, SEEK_HOLE).
#include <algorithm>
#include <utility>

#include "common/base/units.h"
#include "common/rpc/rpc_typed.h"
#include "fs/client/chunk_search.h"
#include "fs/client/file_reader.h"

namespace cairn {

namespace {
constexpr Duration kSeekTime = std::chrono::seconds(30);

// In [from, end) of the chunk; `end` if there is none.
uint32_t first_data(const std::vector<ChunkMapReply::Range>& map, uint32_t from, uint32_t end) {
  for (const ChunkMapReply::Range& range : map) {
    if (range.offset + range.length > from) return std::min(std::max(from, range.offset), end);
  }
  return end;
}
uint32_t first_hole(const std::vector<ChunkMapReply::Range>& map, uint32_t from, uint32_t end) {
  for (const ChunkMapReply::Range& range : map) {
    if (range.offset > from) break;
    from = std::max(from, range.offset + range.length);
  }
  return std::min(from, end);
}
}  // namespace

Task<Result<uint64_t>> FileReader::seek(uint64_t offset, uint64_t end, bool data, FileWriter* writer) {
  TimePoint until = world_.clock().now() + kSeekTime;
  uint64_t last = (end - 1) / kChunkSizeBytes;
  while (offset < end) {
    // To take for data what is not looked at is right, if not useful.
    if (world_.clock().now() >= until) co_return data ? offset : end;
    uint64_t index = offset / kChunkSizeBytes;
    Result<uint64_t> there = co_await next_chunk(index, last, writer);
    if (!there) co_return there.error();
    if (!data && *there > index) co_return offset;
    if (*there > last) break;
    uint64_t begin = *there * kChunkSizeBytes;
    Result<Map> map = co_await map_of(static_cast<uint32_t>(*there), writer);
    if (!map) co_return map.error();
    auto from = static_cast<uint32_t>(std::max(offset, begin) - begin);
    auto to = static_cast<uint32_t>(std::min(end - begin, kChunkSizeBytes));
    uint32_t found = data ? first_data(*map, from, to) : first_hole(*map, from, to);
    if (found < to) co_return begin + found;
    offset = begin + to;
  }
  co_return end;
}

Task<Result<uint64_t>> FileReader::next_chunk(uint64_t index, uint64_t last, FileWriter* writer) {
  uint64_t ours = last + 1;  // that the masters may not know yet
  if (auto open = writer ? writer->next_chunk(static_cast<uint32_t>(index)) : std::nullopt)
    ours = std::min<uint64_t>(ours, *open);
  if (ours == index) co_return ours;
  Result<uint64_t> theirs = co_await next_chunk_of(master_, inode_, index, last, world_.clock().now() + kSeekTime);
  if (!theirs) co_return theirs;
  co_return std::min(ours, *theirs);
}

Task<Result<FileReader::Map>> FileReader::map_of(uint32_t index, FileWriter* writer) {
  Map map;
  auto ask = [this, &map](ReplicaAddress replica, Place place) {
    return map_of_replica(std::move(replica), std::move(place), &map);
  };
  Result<void> asked = co_await ask_replicas(index, 0, writer, std::move(ask));
  if (!asked) co_return asked.error();
  co_return map;
}

Task<Result<void>> FileReader::map_of_replica(ReplicaAddress replica, Place place, Map* out) {
  ChunkMapRequest request;
  request.capability = place.capability;
  request.chunk = place.chunk;
  request.version = place.version;
  RpcClient::CallOptions options{.deadline = world_.clock().now() + kChunkReadDeadline};
  TimePoint asked = world_.clock().now();
  auto answer = co_await typed_call(servers_.client(replica.address), std::move(request), options);
  if (!answer) {
    ErrorCode code = answer.error().code;
    if (code == ErrorCode::kUnavailable || code == ErrorCode::kTimeout) servers_.note_failure(replica, asked);
    co_return answer.error().in("the map of a chunk from " + replica.address);
  }
  servers_.note_success(replica);
  const ReplicaStatus& status = answer->reply.status;
  if (std::max(status.sequence, status.synced_sequence) < place.sequence)
    co_return Error(ErrorCode::kMissingWrites, replica.address + " has not all that was written");
  Map map;
  uint64_t behind = 0;
  for (ChunkMapReply::Range range : answer->reply.data) {
    if (range.offset < behind || range.length == 0 || uint64_t{range.offset} + range.length > kChunkSizeBytes)
      co_return Error(ErrorCode::kBadMessage, replica.address + ": a map that cannot be");
    behind = uint64_t{range.offset} + range.length;
    if (range.offset >= place.limit) break;
    range.length = std::min(range.length, place.limit - range.offset);
    map.push_back(range);
  }
  *out = std::move(map);
  co_return Result<void>();
}

}  // namespace cairn
