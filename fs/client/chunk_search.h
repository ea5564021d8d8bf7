// Which parts of a file have a chunk, as the masters know it: files may be nearly all hole.
//
// Loop thread only.
#pragma once

#include "common/proto/meta_types.h"
#include "fs/client/master_link.h"

namespace cairn {

// The first index in [index, last] that has a chunk; `last` + 1 if there is none. The link must outlive it.
Task<Result<uint64_t>> next_chunk_of(MasterLink& master, InodeId inode, uint64_t index, uint64_t last,
                                     TimePoint deadline);

}  // namespace cairn
