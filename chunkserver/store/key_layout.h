// Keys and records of the chunk store in its key-value store: docs/formats.md, "Chunk store". Keys are one letter and
// big-endian numbers, so that what belongs together lies together; records begin with their format, and one of a newer
// format is kNotSupported.
//
// Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "chunkserver/store/chunk_store.h"
#include "chunkserver/store/extent_map.h"
#include "common/base/bytes.h"
#include "common/base/ids.h"
#include "common/base/result.h"

namespace cairn::store_keys {

// A body is the blocks of one copy of a chunk: it has a number of its own (never used again), so that a copy can be
// filled beside the one it will replace, and a removed one be taken apart later.
using BodyId = Id<struct BodyTag>;

inline constexpr char kStoreLetter = 'a';
inline constexpr char kChunkLetter = 'c';
inline constexpr char kDoomedLetter = 'd';
inline constexpr char kExtentsLetter = 'e';
inline constexpr char kFreedLetter = 'f';
inline constexpr char kInlineLetter = 'i';
inline constexpr char kSharedLetter = 'n';
inline constexpr char kUserLetter = 'r';
inline constexpr char kSegmentLetter = 's';

std::string store();                                              // -> StoreRecord
std::string chunk(ChunkId chunk);                                 // -> StoredChunkRecord
std::string doomed(BodyId body);                                  // a body that no chunk has: to be taken apart
std::string extents(BodyId body, uint32_t group);                 // -> ExtentGroup
std::string freed(LogPlace place);                                // -> number of blocks: to be punched
std::string inline_block(BodyId body, uint32_t block);            // -> the block's bytes, zeros at its end left out
std::string shared(LogPlace place);                               // -> SharedRecord
std::string user(uint32_t segment, BodyId body, uint32_t group);  // -> chunk: this group refers to that segment
std::string segment(uint32_t segment);                            // -> SegmentRecord

// All keys that begin so.
std::string prefix(char letter);
std::string prefix(char letter, uint64_t number);  // chunk, body
std::string segment_prefix(char letter, uint32_t segment);

// Reads a key after its letter.
struct BodyKey {
  BodyId body;
  uint32_t number = 0;
};  // extents, inline_block
Result<BodyKey> parse_body_key(std::string_view key);
Result<LogPlace> parse_place_key(std::string_view key);  // freed, shared
struct UserKey {
  uint32_t segment = 0;
  BodyId body;
  uint32_t group = 0;
};
Result<UserKey> parse_user_key(std::string_view key);
Result<uint64_t> parse_number_key(std::string_view key);  // chunk, doomed
Result<uint32_t> parse_segment_key(std::string_view key);

}  // namespace cairn::store_keys

namespace cairn {

using BodyId = store_keys::BodyId;

struct StoreRecord {
  uint64_t next_body = 1;
  uint64_t highest_chunk = 0;  // no chunk with a higher id has ever been here
  uint64_t chunks = 0;         // how many records of chunks there are
  uint32_t boot = 0;           // counts the restarts of the machine that this store has seen
  std::string boot_id;

  std::string encode() const;
  static Result<StoreRecord> decode(std::string_view in);
};

struct StoredChunkRecord {
  BodyId body;
  uint64_t version = 0;
  ChunkState state = ChunkState::kOpen;
  uint64_t synced_sequence = 0;
  uint32_t length_bytes = 0;
  uint32_t allocated_blocks = 0;
  uint32_t boot = 0;  // StoreRecord::boot when it was last known to be right
  OwnerHint owner;

  std::string encode() const;
  static Result<StoredChunkRecord> decode(std::string_view in);
  bool operator==(const StoredChunkRecord&) const = default;
};

struct SegmentRecord {
  uint32_t live_blocks = 0;
  uint32_t shared_ranges = 0;
  bool closed = false;  // nothing in the file is unaccounted for: each block is live, or a hole, or in a `freed` record

  std::string encode() const;
  static Result<SegmentRecord> decode(std::string_view in);
};

struct SharedRecord {
  uint32_t blocks = 0;
  uint32_t references = 0;

  std::string encode() const;
  static Result<SharedRecord> decode(std::string_view in);
};

}  // namespace cairn
