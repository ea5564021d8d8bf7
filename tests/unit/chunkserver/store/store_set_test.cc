// Several data directories as one store.
#include "chunkserver/store/store_set.h"

#include "common/base/log.h"
#include "tests/unit/chunkserver/store/store_fixture.h"

namespace cairn {
namespace {

Buffer filled(size_t size, char byte) {
  return Buffer::copy_of(std::string(size, byte));
}

// Three directories on one MemoryDisk; one of them can be made to fail.
class OneFolderFails final : public Disk {
 public:
  explicit OneFolderFails(Disk& disk) : disk_(disk) {}
  void fail(std::string prefix) { prefix_ = std::move(prefix); }

  Result<std::unique_ptr<File>> open(const std::string& path, OpenFlags flags) override {
    if (bad(path)) return failure(path);
    Result<std::unique_ptr<File>> file = disk_.open(path, flags);
    if (!file) return file.error();
    return std::unique_ptr<File>(std::make_unique<Watched>(*this, path, std::move(*file)));
  }
  Result<bool> exists(const std::string& path) override {
    if (bad(path)) return failure(path);
    return disk_.exists(path);
  }
  Result<uint64_t> file_size(const std::string& path) override { return disk_.file_size(path); }
  Result<std::vector<std::string>> list(const std::string& folder) override { return disk_.list(folder); }
  Result<void> make_folder(const std::string& path) override { return disk_.make_folder(path); }
  Result<void> remove(const std::string& path) override { return disk_.remove(path); }
  Result<void> remove_tree(const std::string& path) override { return disk_.remove_tree(path); }
  Result<void> rename(const std::string& from, const std::string& to) override { return disk_.rename(from, to); }
  Result<void> link(const std::string& from, const std::string& to) override { return disk_.link(from, to); }
  Result<void> sync_folder(const std::string& folder) override { return disk_.sync_folder(folder); }
  Result<DiskSpace> space(const std::string& folder) override { return disk_.space(folder); }
  Result<std::unique_ptr<FolderLock>> lock_folder(const std::string& folder) override {
    return disk_.lock_folder(folder);
  }

 private:
  bool bad(const std::string& path) const { return !prefix_.empty() && path.starts_with(prefix_); }
  static Error failure(const std::string& path) { return Error(ErrorCode::kIo, path + ": this disk has failed"); }

  class Watched final : public File {
   public:
    Watched(OneFolderFails& disk, std::string path, std::unique_ptr<File> file)
        : disk_(disk), path_(std::move(path)), file_(std::move(file)) {}
    Result<size_t> read(uint64_t offset, std::span<std::byte> out) override { return file_->read(offset, out); }
    Result<size_t> read_cached(uint64_t offset, std::span<std::byte> out) override {
      return file_->read_cached(offset, out);
    }
    Result<void> write(uint64_t offset, std::span<const std::byte> data) override {
      if (disk_.bad(path_)) return failure(path_);
      return file_->write(offset, data);
    }
    Result<void> write_gather(uint64_t offset, std::span<const std::span<const std::byte>> pieces) override {
      if (disk_.bad(path_)) return failure(path_);
      return file_->write_gather(offset, pieces);
    }
    Result<void> sync() override {
      if (disk_.bad(path_)) return failure(path_);
      return file_->sync();
    }
    Result<void> truncate(uint64_t size) override { return file_->truncate(size); }
    Result<void> allocate(uint64_t offset, uint64_t size, bool keep_size) override {
      return file_->allocate(offset, size, keep_size);
    }
    Result<void> punch_hole(uint64_t offset, uint64_t size) override { return file_->punch_hole(offset, size); }
    Result<uint64_t> size() override { return file_->size(); }

   private:
    OneFolderFails& disk_;
    std::string path_;
    std::unique_ptr<File> file_;
  };

  Disk& disk_;
  std::string prefix_;
};

class StoreSetTest : public testing::Test {
 protected:
  ~StoreSetTest() override {
    world.drop_everything();
    set.reset();
  }
  Result<void> open(StoreIdentity identity = kTestIdentity) {
    std::vector<StoreOptions> options;
    for (const char* folder : {"/d1", "/d2", "/d3"}) {
      options.push_back({.folder = folder, .kv = KvKind::kMemory, .segment_size_bytes = kMiB, .reserve_bytes = 0});
    }
    Result<std::unique_ptr<ChunkStore>> opened = world.wait(StoreSet::open_set(world, options, identity));
    if (!opened) return opened.error();
    set = std::move(*opened);
    set->on_bad_chunk([this](ChunkId chunk, const Error&) { bad.push_back(chunk); });
    return {};
  }
  Result<WriteResult> write(ChunkId chunk, uint64_t sequence, Buffer data) {
    ChunkWrite write{.chunk = chunk, .version = 1, .sequence = sequence};
    write.length = static_cast<uint32_t>(data.size());
    write.checksums = piece_checksums(0, data.span());
    write.data = std::move(data);
    return world.wait(set->write(std::move(write), world.now() + 1s));
  }
  std::string read(ChunkId chunk, uint32_t length) {
    Result<ReadResult> got = world.wait(set->read(chunk, 1, 0, length));
    if (!got) return got.error().message();
    return StoreUnderTest::checked(*got, 0, length).value();
  }
  MemoryDisk memory;
  OneFolderFails disk{memory};
  LocalWorld world{disk, 5};
  std::unique_ptr<ChunkStore> set;
  std::vector<ChunkId> bad;
};

TEST_F(StoreSetTest, ChunksSpreadOverDirectoriesAndAreFoundAgain) {
  ASSERT_TRUE(open());
  std::vector<SyncItem> items;
  for (uint64_t i = 1; i <= 60; ++i) {
    ASSERT_TRUE(write(ChunkId(i), 1, filled(5000, static_cast<char>('a' + i % 26))));
    items.push_back({ChunkId(i), 1, 1});
  }
  for (const auto& result : world.wait(set->sync(items)))
    EXPECT_TRUE(result);
  world.wait(set->close());
  set.reset();
  ASSERT_TRUE(open({}));
  EXPECT_EQ(set->identity().cluster, kTestIdentity.cluster);
  EXPECT_EQ(set->space().chunks, 60u);
  EXPECT_EQ(set->space().stores, 3u);
  for (uint64_t i = 1; i <= 60; ++i)
    EXPECT_EQ(read(ChunkId(i), 5000), std::string(5000, static_cast<char>('a' + i % 26)));
  std::vector<uint64_t> listed;
  ChunkId after;
  for (bool last = false; !last;) {
    Result<ChunkPage> page = world.wait(set->list(after, 7));
    ASSERT_TRUE(page);
    for (const ReplicaStatus& status : page->chunks)
      listed.push_back(status.chunk.value);
    last = page->last;
    if (!page->chunks.empty()) after = page->chunks.back().chunk;
  }
  ASSERT_EQ(listed.size(), 60u);
  EXPECT_TRUE(std::is_sorted(listed.begin(), listed.end()));
}

TEST_F(StoreSetTest, ADirectoryThatFailsIsTakenOutAndItsChunksAreReported) {
  set_log_level(LogLevel::kOff);
  ASSERT_TRUE(open());
  std::vector<SyncItem> items;
  for (uint64_t i = 1; i <= 60; ++i) {
    ASSERT_TRUE(write(ChunkId(i), 1, filled(5000, 'a')));
    items.push_back({ChunkId(i), 1, 1});
  }
  for (const auto& result : world.wait(set->sync(items)))
    ASSERT_TRUE(result);
  disk.fail("/d2");
  for (SyncItem& item : items) {
    // Those in the failed directory fail; this is how it is noticed.
    Result<WriteResult> second = write(item.chunk, 2, filled(5000, 'b'));
    if (second) item.sequence = 2;
  }
  size_t failed = 0;
  for (const auto& result : world.wait(set->sync(items)))
    failed += !result;
  world.settle();
  EXPECT_GT(failed, 5u);
  EXPECT_LT(failed, 40u);
  std::sort(bad.begin(), bad.end());
  bad.erase(std::unique(bad.begin(), bad.end()), bad.end());
  EXPECT_EQ(bad.size(), failed);
  EXPECT_EQ(set->space().stores, 2u);
  EXPECT_EQ(set->space().stores_failed, 1u);
  EXPECT_FALSE(set->failed());
  Result<ChunkPage> page = world.wait(set->list(ChunkId(), 100));
  ASSERT_TRUE(page);
  EXPECT_EQ(page->chunks.size(), 60u - failed);
  // A lost chunk is made again elsewhere, and new ones go to what is left.
  Buffer copy = filled(5000, 'c');
  ASSERT_TRUE(world.wait(set->begin_install(bad.front(), 1, 1, {})));
  ASSERT_TRUE(world.wait(set->fill(bad.front(), 1, 0, {copy}, block_checksums(copy.span()))));
  ASSERT_TRUE(world.wait(set->finish_install(bad.front(), 1, 5000, true)));
  EXPECT_EQ(read(bad.front(), 5000), copy.view());
  for (uint64_t i = 100; i < 120; ++i)
    EXPECT_TRUE(write(ChunkId(i), 1, filled(100, 'n')));
}

TEST_F(StoreSetTest, ADirectoryThatCannotBeReadIsLeftOutAndAWrongOneRefusesAll) {
  set_log_level(LogLevel::kOff);
  ASSERT_TRUE(open());
  world.wait(set->close());
  set.reset();
  EXPECT_TRUE(open({ClusterId(9), ServerId(9), 0}).failed_with(ErrorCode::kWrongCluster));
  disk.fail("/d3");
  ASSERT_TRUE(open());
  EXPECT_EQ(set->space().stores, 2u);
  EXPECT_EQ(set->space().stores_failed, 1u);
}

TEST_F(StoreSetTest, ACloneLiesBesideItsSource) {
  ASSERT_TRUE(open());
  for (uint64_t i = 1; i <= 10; ++i) {
    ASSERT_TRUE(write(ChunkId(i), 1, filled(100'000, 'a')));
    ASSERT_TRUE(world.wait(set->seal(ChunkId(i), 1, 1)));
    ASSERT_TRUE(world.wait(set->clone(ChunkId(i), 1, ChunkId(100 + i), 1, {})));
    EXPECT_EQ(read(ChunkId(100 + i), 100'000), std::string(100'000, 'a'));
    ASSERT_TRUE(world.wait(set->remove(ChunkId(i), 1)));
    EXPECT_EQ(read(ChunkId(100 + i), 100'000), std::string(100'000, 'a'));
  }
}

}  // namespace
}  // namespace cairn
