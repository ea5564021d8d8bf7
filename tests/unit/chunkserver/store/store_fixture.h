// A store under test, driven from straight-line code: every call runs the LocalWorld until it has its answer.
#pragma once

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <gtest/gtest.h>
#include <memory>
#include <stdlib.h>
#include <string>
#include <vector>

#include "chunkserver/store/chunk_store.h"
#include "common/base/crc32c.h"
#include "common/base/random.h"
#include "common/runtime/memory_disk.h"
#include "common/runtime/posix_disk.h"
#include "tests/unit/chunkserver/store/local_world.h"

namespace cairn {

inline constexpr StoreIdentity kTestIdentity{ClusterId(0xC1), ServerId(0x51), 0};

enum class DiskKind { kMemory, kPosix };

struct StoreParam {
  DiskKind disk = DiskKind::kMemory;
  KvKind kv = KvKind::kMemory;
  uint32_t inline_limit_bytes = 16 * kKiB;
  const char* name = "";
};
inline std::string param_name(const testing::TestParamInfo<StoreParam>& info) {
  return info.param.name;
}
inline const StoreParam kAllParams[] = {
    {DiskKind::kMemory, KvKind::kMemory, 16 * kKiB, "MemoryDiskMemoryKv"},
    {DiskKind::kMemory, KvKind::kLevelDb, 16 * kKiB, "MemoryDiskLevelDb"},
    {DiskKind::kMemory, KvKind::kLevelDb, kChunkSizeBytes, "MemoryDiskAllInside"},
    {DiskKind::kMemory, KvKind::kMemory, 0, "MemoryDiskAllInLog"},
    {DiskKind::kPosix, KvKind::kLevelDb, 16 * kKiB, "PosixDiskLevelDb"},
    {DiskKind::kPosix, KvKind::kMemory, 0, "PosixDiskAllInLog"},
};

// The piece checksums of a write.
inline std::vector<uint32_t> piece_checksums(uint32_t offset, std::span<const std::byte> bytes) {
  std::vector<uint32_t> sums;
  while (!bytes.empty()) {
    size_t piece = std::min<size_t>(bytes.size(), kBlockSizeBytes - offset % kBlockSizeBytes);
    sums.push_back(crc32c(bytes.first(piece)));
    bytes = bytes.subspan(piece);
    offset += static_cast<uint32_t>(piece);
  }
  return sums;
}

inline Buffer random_bytes(Random& random, size_t size) {
  Buffer out = Buffer::allocate(size);
  for (size_t i = 0; i < size;) {
    uint64_t word = random.next_u64();
    size_t part = std::min(sizeof word, size - i);
    std::memcpy(out.mutable_span().data() + i, &word, part);
    i += part;
  }
  return out;
}

// One store on one disk.
class StoreUnderTest {
 public:
  explicit StoreUnderTest(StoreParam param, uint64_t seed = 1) : seed_(seed) {
    if (param.disk == DiskKind::kPosix) {
      std::string name = testing::TempDir() + "cairn-store-XXXXXX";
      temp_ = ::mkdtemp(name.data());
      disk_ = make_posix_disk();
    } else {
      auto memory = std::make_unique<MemoryDisk>();
      memory_ = memory.get();
      disk_ = std::move(memory);
    }
    options.folder = temp_ + "/store";
    options.kv = param.kv;
    options.inline_limit_bytes = param.inline_limit_bytes;
    options.segment_size_bytes = 1 * kMiB;
    options.reserve_bytes = 0;
    world = std::make_unique<LocalWorld>(*disk_, seed_);
  }
  ~StoreUnderTest() {
    kill();
    if (!temp_.empty()) std::filesystem::remove_all(temp_);
  }

  Result<void> try_open(StoreIdentity identity = kTestIdentity) {
    Result<std::unique_ptr<ChunkStore>> opened = world->wait(ChunkStore::open(*world, options, identity));
    if (!opened) return opened.error();
    store = std::move(*opened);
    store->on_bad_chunk([this](ChunkId chunk, const Error& error) { bad.emplace_back(chunk, error.code); });
    return {};
  }
  void open() {
    Result<void> opened = try_open();
    ASSERT_TRUE(opened.has_value()) << opened.error().message();
  }
  void close() {
    world->wait(store->close());
    store.reset();
    world->settle();
  }
  void reopen() {
    close();
    new_world();
    open();
  }
  // The process dies; the disk keeps what was written.
  void kill() {
    if (memory_) memory_->set_frozen(true);
    world->drop_everything();
    store.reset();
    world->drop_everything();
    if (memory_) memory_->set_frozen(false);
  }
  // The machine loses power.
  void power_cut(Random* keep = nullptr) {
    kill();
    memory_->crash(keep);
    ++boots_;
    new_world();
  }
  void new_world() {
    world = std::make_unique<LocalWorld>(*disk_, ++seed_);
    world->set_boot_id("boot-" + std::to_string(boots_));
    world->set_slow_disk(slow_disk);
  }

  // ---- calls

  Result<WriteResult> write(ChunkId chunk, uint64_t version, uint64_t sequence, uint32_t offset, Buffer data) {
    ChunkWrite write{.chunk = chunk, .version = version, .sequence = sequence, .offset = offset};
    write.length = static_cast<uint32_t>(data.size());
    write.checksums = piece_checksums(offset, data.span());
    write.data = std::move(data);
    return world->wait(store->write(std::move(write), world->now() + 1000s));
  }
  Result<WriteResult> zero(ChunkId chunk, uint64_t version, uint64_t sequence, uint32_t offset, uint32_t length) {
    ChunkWrite write{.chunk = chunk,
                     .version = version,
                     .sequence = sequence,
                     .kind = WriteKind::kZero,
                     .offset = offset,
                     .length = length};
    return world->wait(store->write(std::move(write), world->now() + 1000s));
  }
  Result<WriteResult> truncate(ChunkId chunk, uint64_t version, uint64_t sequence, uint32_t offset) {
    ChunkWrite write{
        .chunk = chunk, .version = version, .sequence = sequence, .kind = WriteKind::kTruncate, .offset = offset};
    return world->wait(store->write(std::move(write), world->now() + 1000s));
  }
  Result<WriteResult> sync(ChunkId chunk, uint64_t version, uint64_t sequence) {
    return world->wait(store->sync({{chunk, version, sequence}})).front();
  }
  Result<ReplicaStatus> status(ChunkId chunk) { return world->wait(store->status(chunk)); }
  Result<void> remove(ChunkId chunk, uint64_t version) { return world->wait(store->remove(chunk, version)); }
  Result<ReplicaStatus> seal(ChunkId chunk, uint64_t version, uint64_t sequence) {
    return world->wait(store->seal(chunk, version, sequence));
  }
  Result<ReplicaStatus> raise(ChunkId chunk, uint64_t from, uint64_t to) {
    return world->wait(store->raise(chunk, from, to));
  }
  // The bytes of [offset, offset + length), zeros behind the chunk's end; kCorrupt if a checksum does not match.
  Result<std::string> read(ChunkId chunk, uint64_t version, uint32_t offset, uint32_t length) {
    Result<ReadResult> got = world->wait(store->read(chunk, version, offset, length));
    if (!got) return got.error();
    return checked(*got, offset, length);
  }
  static Result<std::string> checked(const ReadResult& got, uint32_t offset, uint32_t length) {
    std::string bytes(flatten(got.data).view());
    EXPECT_EQ(bytes.size(), got.length);
    EXPECT_EQ(got.offset % kBlockSizeBytes, 0u);
    EXPECT_EQ(got.checksums.size(), (got.length + kBlockSizeBytes - 1) / kBlockSizeBytes);
    for (size_t i = 0; i < got.checksums.size(); ++i) {
      std::string_view block = std::string_view(bytes).substr(i * kBlockSizeBytes, kBlockSizeBytes);
      if (crc32c(block) != got.checksums[i]) {
        return Error(ErrorCode::kCorrupt, "block at " + std::to_string(got.offset + i * kBlockSizeBytes));
      }
    }
    size_t skip = offset - got.offset;
    std::string out = bytes.size() > skip ? bytes.substr(skip, length) : std::string();
    out.resize(length, '\0');
    return out;
  }

  Disk& disk() { return *disk_; }
  MemoryDisk& memory() { return *memory_; }
  // Bytes that the segments take on the disk (a MemoryDisk counts holes as free).
  uint64_t used_bytes() {
    DiskSpace space = disk_->space(options.folder).value();
    return space.total_bytes - space.free_bytes;
  }

  StoreOptions options;
  bool slow_disk = false;  // of the worlds to come
  std::unique_ptr<LocalWorld> world;
  std::unique_ptr<ChunkStore> store;
  std::vector<std::pair<ChunkId, ErrorCode>> bad;

 private:
  uint64_t seed_;
  uint64_t boots_ = 1;
  std::string temp_;
  std::unique_ptr<Disk> disk_;
  MemoryDisk* memory_ = nullptr;
};

}  // namespace cairn
