#include "chunkserver/store/key_layout.h"

namespace cairn {
namespace {

constexpr uint8_t kRecordFormat = 1;

Result<void> check_format(ByteReader& reader, std::string_view what) {
  uint8_t format = reader.u8();
  if (!reader.ok()) return Error(ErrorCode::kCorrupt, std::string(what));
  if (format > kRecordFormat) return Error(ErrorCode::kNotSupported, std::string(what) + " of a newer format");
  if (format == 0) return Error(ErrorCode::kCorrupt, std::string(what));
  return {};
}

}  // namespace

namespace store_keys {
namespace {

ByteWriter start(char letter) {
  ByteWriter out;
  out.u8(static_cast<uint8_t>(letter));
  return out;
}

}  // namespace

std::string prefix(char letter) {
  return std::string(1, letter);
}

std::string prefix(char letter, uint64_t number) {
  ByteWriter out = start(letter);
  out.key_u64(number);
  return out.take();
}

std::string segment_prefix(char letter, uint32_t segment) {
  ByteWriter out = start(letter);
  out.key_u32(segment);
  return out.take();
}

std::string store() {
  return prefix(kStoreLetter);
}
std::string chunk(ChunkId chunk) {
  return prefix(kChunkLetter, chunk.value);
}
std::string doomed(BodyId body) {
  return prefix(kDoomedLetter, body.value);
}
std::string segment(uint32_t segment) {
  return segment_prefix(kSegmentLetter, segment);
}

std::string extents(BodyId body, uint32_t group) {
  ByteWriter out = start(kExtentsLetter);
  out.key_u64(body.value);
  out.key_u32(group);
  return out.take();
}

std::string inline_block(BodyId body, uint32_t block) {
  ByteWriter out = start(kInlineLetter);
  out.key_u64(body.value);
  out.key_u32(block);
  return out.take();
}

std::string freed(LogPlace place) {
  ByteWriter out = start(kFreedLetter);
  out.key_u32(place.segment);
  out.key_u32(place.block);
  return out.take();
}

std::string shared(LogPlace place) {
  ByteWriter out = start(kSharedLetter);
  out.key_u32(place.segment);
  out.key_u32(place.block);
  return out.take();
}

std::string user(uint32_t segment, BodyId body, uint32_t group) {
  ByteWriter out = start(kUserLetter);
  out.key_u32(segment);
  out.key_u64(body.value);
  out.key_u32(group);
  return out.take();
}

Result<BodyKey> parse_body_key(std::string_view key) {
  ByteReader reader(key);
  reader.u8();
  BodyKey out;
  out.body = BodyId(reader.key_u64());
  out.number = reader.key_u32();
  Result<void> finished = reader.finish("key of a body");
  if (!finished) return finished.error();
  return out;
}

Result<LogPlace> parse_place_key(std::string_view key) {
  ByteReader reader(key);
  reader.u8();
  LogPlace out;
  out.segment = reader.key_u32();
  out.block = reader.key_u32();
  Result<void> finished = reader.finish("key of a place");
  if (!finished) return finished.error();
  return out;
}

Result<UserKey> parse_user_key(std::string_view key) {
  ByteReader reader(key);
  reader.u8();
  UserKey out;
  out.segment = reader.key_u32();
  out.body = BodyId(reader.key_u64());
  out.group = reader.key_u32();
  Result<void> finished = reader.finish("key of a segment's user");
  if (!finished) return finished.error();
  return out;
}

Result<uint64_t> parse_number_key(std::string_view key) {
  ByteReader reader(key);
  reader.u8();
  uint64_t number = reader.key_u64();
  Result<void> finished = reader.finish("key of a number");
  if (!finished) return finished.error();
  return number;
}

Result<uint32_t> parse_segment_key(std::string_view key) {
  ByteReader reader(key);
  reader.u8();
  uint32_t segment = reader.key_u32();
  Result<void> finished = reader.finish("key of a segment");
  if (!finished) return finished.error();
  return segment;
}

}  // namespace store_keys

std::string StoreRecord::encode() const {
  ByteWriter out;
  out.u8(kRecordFormat);
  out.varint(next_body);
  out.varint(highest_chunk);
  out.varint(chunks);
  out.varint(boot);
  out.string(boot_id);
  return out.take();
}

Result<StoreRecord> StoreRecord::decode(std::string_view in) {
  ByteReader reader(in);
  Result<void> format = check_format(reader, "store record");
  if (!format) return format.error();
  StoreRecord out;
  out.next_body = reader.varint();
  out.highest_chunk = reader.varint();
  out.chunks = reader.varint();
  out.boot = static_cast<uint32_t>(reader.varint());
  out.boot_id = std::string(reader.string());
  Result<void> finished = reader.finish("store record");
  if (!finished) return finished.error();
  return out;
}

std::string StoredChunkRecord::encode() const {
  ByteWriter out;
  out.u8(kRecordFormat);
  out.varint(body.value);
  out.varint(version);
  out.u8(static_cast<uint8_t>(state));
  out.varint(synced_sequence);
  out.varint(length_bytes);
  out.varint(allocated_blocks);
  out.varint(boot);
  out.varint(owner.inode.value);
  out.varint(owner.index);
  out.varint(owner.file_size_bytes);
  return out.take();
}

Result<StoredChunkRecord> StoredChunkRecord::decode(std::string_view in) {
  ByteReader reader(in);
  Result<void> format = check_format(reader, "chunk record");
  if (!format) return format.error();
  StoredChunkRecord out;
  out.body = BodyId(reader.varint());
  out.version = reader.varint();
  uint8_t state = reader.u8();
  out.synced_sequence = reader.varint();
  uint64_t length = reader.varint();
  uint64_t allocated = reader.varint();
  out.boot = static_cast<uint32_t>(reader.varint());
  out.owner.inode = InodeId(reader.varint());
  out.owner.index = static_cast<uint32_t>(reader.varint());
  out.owner.file_size_bytes = reader.varint();
  Result<void> finished = reader.finish("chunk record");
  if (!finished) return finished.error();
  bool known_state =
      state == static_cast<uint8_t>(ChunkState::kOpen) || state == static_cast<uint8_t>(ChunkState::kSealed);
  if (!known_state || !out.body || length > kChunkSizeBytes || allocated > kBlocksPerChunk) {
    return Error(ErrorCode::kCorrupt, "chunk record");
  }
  out.state = static_cast<ChunkState>(state);
  out.length_bytes = static_cast<uint32_t>(length);
  out.allocated_blocks = static_cast<uint32_t>(allocated);
  return out;
}

std::string SegmentRecord::encode() const {
  ByteWriter out;
  out.u8(kRecordFormat);
  out.varint(live_blocks);
  out.varint(shared_ranges);
  out.u8(closed ? 1 : 0);
  return out.take();
}

Result<SegmentRecord> SegmentRecord::decode(std::string_view in) {
  ByteReader reader(in);
  Result<void> format = check_format(reader, "segment record");
  if (!format) return format.error();
  SegmentRecord out;
  out.live_blocks = static_cast<uint32_t>(reader.varint());
  out.shared_ranges = static_cast<uint32_t>(reader.varint());
  out.closed = reader.u8() != 0;
  Result<void> finished = reader.finish("segment record");
  if (!finished) return finished.error();
  return out;
}

std::string SharedRecord::encode() const {
  ByteWriter out;
  out.u8(kRecordFormat);
  out.varint(blocks);
  out.varint(references);
  return out.take();
}

Result<SharedRecord> SharedRecord::decode(std::string_view in) {
  ByteReader reader(in);
  Result<void> format = check_format(reader, "shared range");
  if (!format) return format.error();
  SharedRecord out;
  out.blocks = static_cast<uint32_t>(reader.varint());
  out.references = static_cast<uint32_t>(reader.varint());
  Result<void> finished = reader.finish("shared range");
  if (!finished) return finished.error();
  if (out.blocks == 0 || out.references < 2) return Error(ErrorCode::kCorrupt, "shared range");
  return out;
}

}  // namespace cairn
