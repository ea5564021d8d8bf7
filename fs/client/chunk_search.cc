#include "fs/client/chunk_search.h"

#include <algorithm>

namespace cairn {

// Most files have a chunk there, and an answer costs the master something for each chunk in it: the range that is asked
// about grows only as long as nothing is found.
Task<Result<uint64_t>> next_chunk_of(MasterLink& master, InodeId inode, uint64_t index, uint64_t last,
                                     TimePoint deadline) {
  for (uint64_t count = 1; index <= last; count *= 64) {
    GetLayoutRequest request;
    request.inode = inode;
    request.first_index = static_cast<uint32_t>(index);
    request.count = static_cast<uint32_t>(std::min<uint64_t>({count, last - index + 1, UINT32_MAX}));
    auto reply = co_await master.ask_until(request, deadline);
    if (!reply) co_return reply.error();
    if (!reply->chunks.empty()) co_return reply->chunks.front().index;
    index += request.count;
  }
  co_return last + 1;
}

}  // namespace cairn
