// FileReader: where data begins and ends (SEEK_DATA, SEEK_HOLE).
#include <algorithm>
#include <utility>

#include "common/base/units.h"
#include "common/rpc/rpc_typed.h"
#include "fs/client/file_reader.h"

namespace cairn {

namespace {
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

Task<Result<std::optional<uint64_t>>> FileReader::seek(uint64_t offset, uint64_t end, bool data, FileWriter* writer) {
  auto last = static_cast<uint32_t>((end - 1) / kChunkSizeBytes);
  while (offset < end) {
    auto index = static_cast<uint32_t>(offset / kChunkSizeBytes);
    Result<uint32_t> there = co_await next_chunk(index, last, writer);
    if (!there) co_return there.error();
    if (!data && *there > index) co_return std::optional<uint64_t>(offset);
    if (*there > last) break;
    uint64_t begin = uint64_t{*there} * kChunkSizeBytes;
    Result<Map> map = co_await map_of(*there, writer);
    if (!map) co_return map.error();
    auto from = static_cast<uint32_t>(std::max(offset, begin) - begin);
    auto to = static_cast<uint32_t>(std::min(end - begin, kChunkSizeBytes));
    uint32_t found = data ? first_data(*map, from, to) : first_hole(*map, from, to);
    if (found < to) co_return std::optional<uint64_t>(begin + found);
    offset = begin + to;
  }
  co_return std::optional<uint64_t>();
}

Task<Result<uint32_t>> FileReader::next_chunk(uint32_t index, uint32_t last, FileWriter* writer) {
  uint32_t ours = last + 1;  // that the masters may not know yet
  if (std::optional<uint32_t> open = writer ? writer->next_chunk(index) : std::nullopt) ours = std::min(ours, *open);
  if (ours == index) co_return ours;
  GetLayoutRequest request;
  request.inode = inode_;
  request.first_index = index;
  request.count = last - index + 1;
  auto reply = co_await master_.ask(request);
  if (!reply) co_return reply.error();
  co_return reply->chunks.empty() ? ours : std::min(ours, reply->chunks.front().index);
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
