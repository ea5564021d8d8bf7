// The store on the real loop, real pools and a real disk: many tasks at once, each with chunks of its own whose bytes
// it knows. What races between threads would show here, above all under the thread sanitizer.
#include <filesystem>
#include <gtest/gtest.h>
#include <stdlib.h>

#include "chunkserver/store/chunk_store.h"
#include "common/base/crc32c.h"
#include "common/base/random.h"
#include "common/runtime/real_world.h"
#include "common/runtime/task_group.h"
#include "tests/unit/chunkserver/store/store_fixture.h"

namespace cairn {
namespace {

constexpr size_t kWorkers = 12;
constexpr int kSteps = 60;
constexpr uint32_t kBytes = 600'000;

class Threads {
 public:
  Threads(RealWorld& world, StoreOptions options)
      : world_(world), options_(std::move(options)), tasks_(world.executor(), world.clock()) {}

  Task<int> main() {
    for (int round = 0; round < 2; ++round) {
      Result<std::unique_ptr<ChunkStore>> opened = co_await ChunkStore::open(world_, options_, kTestIdentity);
      EXPECT_TRUE(opened) << opened.error().message();
      if (!opened) co_return 1;
      store_ = std::move(*opened);
      std::vector<Future<void>> done;
      for (size_t i = 0; i < kWorkers; ++i) {
        Promise<void> promise(world_.executor());
        done.push_back(promise.future());
        tasks_.spawn(work(i, round, std::move(promise)));
      }
      for (Future<void>& future : done) {
        Result<void> ended = co_await std::move(future);
        EXPECT_TRUE(ended);
      }
      co_await store_->close();
      store_.reset();
    }
    co_await tasks_.stop();
    co_return 0;
  }

 private:
  Task<void> work(size_t worker, int round, Promise<void> done) {
    std::unique_ptr<Random> random = make_seeded_random(worker * 10 + static_cast<uint64_t>(round));
    ChunkId chunk(1 + worker);
    std::string& content = contents_[worker];
    uint64_t& sequence = sequences_[worker];
    if (round > 0) co_await check(chunk, content);
    for (int step = 0; step < kSteps; ++step) {
      uint64_t dice = random->below(10);
      if (dice < 6) {
        uint32_t size = 1 + static_cast<uint32_t>(random->below(random->chance(1, 2) ? 5000 : 250'000));
        uint32_t offset = static_cast<uint32_t>(random->below(kBytes - size));
        if (random->chance(1, 2)) offset -= offset % kBlockSizeBytes;
        Buffer data = random_bytes(*random, size);
        if (content.size() < offset + size) content.resize(offset + size, '\0');
        content.replace(offset, size, data.view());
        ChunkWrite write{.chunk = chunk, .version = 1, .sequence = ++sequence, .offset = offset, .length = size};
        write.checksums = piece_checksums(offset, data.span());
        write.data = std::move(data);
        Result<WriteResult> written = co_await store_->write(std::move(write), world_.clock().now() + 60s);
        EXPECT_TRUE(written) << written.error().message();
      } else if (dice < 8) {
        std::vector<SyncItem> items(1, SyncItem{chunk, 1, sequence});
        std::vector<Result<WriteResult>> synced = co_await store_->sync(std::move(items));
        EXPECT_TRUE(synced.front() || sequence == 0);
      } else {
        co_await check(chunk, content);
      }
    }
    done.set({});
  }
  Task<void> check(ChunkId chunk, std::string expected) {
    Result<ReadResult> got = co_await store_->read(chunk, 1, 0, kBytes);
    if (expected.empty()) co_return;
    EXPECT_TRUE(got) << got.error().message();
    if (!got) co_return;
    EXPECT_EQ(got->length, expected.size());
    EXPECT_TRUE(StoreUnderTest::checked(*got, 0, static_cast<uint32_t>(expected.size())).value() == expected);
  }

  RealWorld& world_;
  StoreOptions options_;
  std::unique_ptr<ChunkStore> store_;
  std::string contents_[kWorkers];
  uint64_t sequences_[kWorkers] = {};
  TaskGroup tasks_;
};

TEST(StoreThreads, ManyTasksOnRealPoolsSeeTheirOwnBytes) {
  std::string name = testing::TempDir() + "cairn-store-XXXXXX";
  std::string folder = ::mkdtemp(name.data());
  {
    std::unique_ptr<RealWorld> world = RealWorld::make({});
    StoreOptions options{.folder = folder + "/store", .segment_size_bytes = 4 * kMiB, .reserve_bytes = 0};
    options.cache_limit_bytes = 100'000;
    Threads threads(*world, options);
    EXPECT_EQ(world->run(threads.main()), 0);
  }
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace cairn
