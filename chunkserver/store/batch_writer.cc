#include "chunkserver/store/batch_writer.h"

#include <cstring>

#include "common/base/bytes.h"

namespace cairn {

void BatchWriter::add(ChunkId chunk, BodyId body, const ExtentMap::Plan& plan) {
  ByteWriter owner;
  owner.u64(chunk.value);
  for (const ExtentMap::GroupChange& change : plan.groups) {
    std::string key = store_keys::extents(body, change.group);
    if (change.erase) {
      erase(key);
    } else {
      put(key, change.record);
    }
    for (uint32_t segment : change.new_segments)
      put(store_keys::user(segment, body, change.group), owner.str());
    for (uint32_t segment : change.gone_segments)
      erase(store_keys::user(segment, body, change.group));
  }
  for (uint32_t block : plan.inline_erase)
    erase(store_keys::inline_block(body, block));
  for (const auto& [block, bytes] : plan.inline_put) {
    inline_.emplace_back(store_keys::inline_block(body, block), bytes);
    bytes_ += kBlockSizeBytes;
  }
}

void BatchWriter::add_freed(const std::vector<LogRange>& ranges) {
  for (const LogRange& range : ranges) {
    ByteWriter blocks;
    blocks.varint(range.blocks);
    put(store_keys::freed(range.place), blocks.str());
    freed_.push_back(range);
  }
}

const WriteBatch& BatchWriter::fill() {
  for (const auto& [key, bytes] : inline_)
    batch_.put(key, without_zeros(bytes.span()));
  inline_.clear();
  return batch_;
}

std::string_view without_zeros(std::span<const std::byte> bytes) {
  size_t size = bytes.size();
  while (size >= sizeof(uint64_t)) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + size - sizeof word, sizeof word);
    if (word != 0) break;
    size -= sizeof word;
  }
  while (size > 0 && bytes[size - 1] == std::byte{0})
    --size;
  return {reinterpret_cast<const char*>(bytes.data()), size};
}

}  // namespace cairn
