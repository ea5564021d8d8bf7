// The chunk store on a real disk: small synced writes (rate, latency), sequential writing (MB/s, processor time per
// GB), random reads from the disk and from the page cache. CAIRN_BENCH_DIR names the folder (default: the current one).
// Cold reads drop the machine's page cache where that is allowed (root), and say so.
#include <algorithm>
#include <benchmark/benchmark.h>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <string>
#include <sys/resource.h>
#include <vector>

#include "chunkserver/store/chunk_store.h"
#include "common/base/check.h"
#include "common/base/crc32c.h"
#include "common/base/log.h"
#include "common/base/random.h"
#include "common/runtime/real_world.h"
#include "common/runtime/task_group.h"

namespace cairn {
namespace {

double processor_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  auto seconds = [](const timeval& t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

Buffer random_bytes(Random& random, size_t size) {
  Buffer out = Buffer::allocate(size);
  for (size_t i = 0; i + 8 <= size; i += 8) {
    uint64_t word = random.next_u64();
    std::memcpy(out.mutable_span().data() + i, &word, 8);
  }
  return out;
}

bool drop_page_cache() {
  std::FILE* file = std::fopen("/proc/sys/vm/drop_caches", "w");
  if (!file) return false;
  bool done = std::fputs("1\n", file) >= 0;
  return std::fclose(file) == 0 && done;
}

// What one run does and what it found.
struct Job {
  enum class Kind { kSyncedWrites, kNewChunks, kSequential, kReads } kind = Kind::kSyncedWrites;
  size_t in_flight = 1;
  uint64_t count = 0;
  uint32_t size_bytes = 4096;
  bool cold = false;
  uint32_t inline_limit_bytes = 64 * kKiB;

  double seconds = 0;
  double processor = 0;
  bool dropped_cache = false;
  std::vector<double> latencies_us;
};

class Bench {
 public:
  Bench(RealWorld& world, Job& job) : world_(world), job_(job), tasks_(world.executor(), world.clock()) {
    const char* base = std::getenv("CAIRN_BENCH_DIR");
    folder_ = std::string(base ? base : ".") + "/store-bench";
    std::filesystem::remove_all(folder_);
  }
  ~Bench() { std::filesystem::remove_all(folder_); }

  Task<int> main() {
    co_await open();
    block_ = random_bytes(*random_, 4 * kMiB);
    sums_ = block_checksums(block_.span());
    bool reads = job_.kind == Job::Kind::kReads;
    if (reads) {
      co_await write_range(kReadBytes);
      co_await store_->close();
      store_.reset();
      if (job_.cold) job_.dropped_cache = drop_page_cache();
      co_await open();
      if (!job_.cold) {
        for (uint64_t at = 0; at < kReadBytes; at += kMiB)
          co_await read_at(at, kMiB);
      }
    } else if (job_.kind == Job::Kind::kSyncedWrites) {
      co_await write_range(kSyncedBytes);
    }
    left_ = job_.count;
    double processor = processor_seconds();
    TimePoint start = world_.clock().now();
    std::vector<Future<void>> done;
    for (size_t i = 0; i < job_.in_flight; ++i) {
      Promise<void> promise(world_.executor());
      done.push_back(promise.future());
      tasks_.spawn(run_one(i, std::move(promise)));
    }
    for (Future<void>& future : done) {
      Result<void> ended = co_await std::move(future);
      CHECK(ended.has_value());
    }
    job_.seconds = std::chrono::duration<double>(world_.clock().now() - start).count();
    job_.processor = processor_seconds() - processor;
    co_await tasks_.stop();
    co_await store_->close();
    store_.reset();
    co_return 0;
  }

 private:
  static constexpr uint64_t kReadBytes = 1 * kGiB;
  static constexpr uint64_t kSyncedBytes = 256 * kMiB;

  Task<void> open() {
    StoreOptions options{.folder = folder_, .inline_limit_bytes = job_.inline_limit_bytes};
    Result<std::unique_ptr<ChunkStore>> opened =
        co_await ChunkStore::open(world_, options, {ClusterId(1), ServerId(1), 0});
    CHECK(opened.has_value());
    store_ = std::move(*opened);
  }
  Task<void> write_at(uint64_t position, uint32_t size, uint32_t shift) {
    ChunkId chunk(1 + position / kChunkSizeBytes);
    ChunkWrite write{
        .chunk = chunk, .version = 1, .offset = static_cast<uint32_t>(position % kChunkSizeBytes), .length = size};
    if (sequences_.size() <= chunk.value) sequences_.resize(chunk.value + 1);
    write.sequence = ++sequences_[chunk.value];
    write.data = block_.slice(shift * kBlockSizeBytes, size);
    write.checksums.assign(sums_.begin() + shift, sums_.begin() + shift + size / kBlockSizeBytes);
    Result<WriteResult> done = co_await store_->write(std::move(write), world_.clock().now() + 30s);
    CHECK(done.has_value());
  }
  Task<void> sync(ChunkId chunk) {
    std::vector<SyncItem> items(1, SyncItem{chunk, 1, sequences_[chunk.value]});
    std::vector<Result<WriteResult>> done = co_await store_->sync(std::move(items));
    CHECK(done.front().has_value());
  }
  Task<void> write_range(uint64_t bytes) {
    for (uint64_t at = 0; at < bytes; at += kMiB)
      co_await write_at(at, kMiB, static_cast<uint32_t>(at / kMiB % 768));
    for (uint64_t i = 1; i <= bytes / kChunkSizeBytes; ++i)
      co_await sync(ChunkId(i));
  }
  Task<void> read_at(uint64_t position, uint32_t size) {
    Result<ReadResult> got = co_await store_->read(ChunkId(1 + position / kChunkSizeBytes), 1,
                                                   static_cast<uint32_t>(position % kChunkSizeBytes), size);
    CHECK(got.has_value() && got->length == size);
  }

  Task<void> run_one(size_t worker, Promise<void> done) {
    while (left_ > 0) {
      uint64_t number = job_.count - left_--;
      TimePoint start = world_.clock().now();
      switch (job_.kind) {
        case Job::Kind::kSyncedWrites: {
          // Each worker keeps to its own chunks, as files would.
          uint64_t chunks = kSyncedBytes / kChunkSizeBytes;
          uint64_t chunk = worker % chunks;
          uint64_t block = random_->below(kChunkSizeBytes / job_.size_bytes);
          co_await write_at(chunk * kChunkSizeBytes + block * job_.size_bytes, job_.size_bytes,
                            static_cast<uint32_t>(random_->below(512)));
          co_await sync(ChunkId(1 + chunk));
          break;
        }
        case Job::Kind::kNewChunks: {
          co_await write_at((1000 + number) * kChunkSizeBytes, job_.size_bytes,
                            static_cast<uint32_t>(random_->below(512)));
          if (number % 100 == 99) co_await sync(ChunkId(1001 + number));
          break;
        }
        case Job::Kind::kSequential: {
          co_await write_at(number * job_.size_bytes, job_.size_bytes, static_cast<uint32_t>(number % 512));
          if (left_ == 0) {
            for (uint64_t i = 1; i < sequences_.size(); ++i)
              co_await sync(ChunkId(i));
          }
          break;
        }
        case Job::Kind::kReads: {
          co_await read_at(random_->below(kReadBytes / job_.size_bytes) * job_.size_bytes, job_.size_bytes);
          break;
        }
      }
      job_.latencies_us.push_back(std::chrono::duration<double, std::micro>(world_.clock().now() - start).count());
    }
    done.set({});
  }

  RealWorld& world_;
  Job& job_;
  std::string folder_;
  std::unique_ptr<Random> random_ = make_seeded_random(1);
  Buffer block_;
  std::vector<uint32_t> sums_;
  std::vector<uint64_t> sequences_;
  std::unique_ptr<ChunkStore> store_;
  uint64_t left_ = 0;
  TaskGroup tasks_;
};

void run(benchmark::State& state, Job job) {
  set_log_level(LogLevel::kWarning);
  for (auto _ : state) {
    job.latencies_us.clear();
    LoopOptions loop;
    if (const char* poll = std::getenv("CAIRN_BENCH_POLL_US")) loop.poll = std::chrono::microseconds(std::atoi(poll));
    std::unique_ptr<RealWorld> world = RealWorld::make(loop);
    Bench bench(*world, job);
    world->run(bench.main());
    state.SetIterationTime(job.seconds);
  }
  std::sort(job.latencies_us.begin(), job.latencies_us.end());
  auto at = [&](double part) {
    return job.latencies_us[static_cast<size_t>(part * static_cast<double>(job.latencies_us.size() - 1))];
  };
  double bytes = static_cast<double>(job.count) * job.size_bytes;
  state.counters["per_s"] = static_cast<double>(job.count) / job.seconds;
  state.counters["MB_per_s"] = bytes / job.seconds / 1e6;
  state.counters["cpu_s_per_GB"] = job.processor / (bytes / 1e9);
  state.counters["cpu_us_each"] = job.processor * 1e6 / static_cast<double>(job.count);
  state.counters["p50_us"] = at(0.5);
  state.counters["p99_us"] = at(0.99);
  if (job.kind == Job::Kind::kReads && job.cold) state.counters["cache_dropped"] = job.dropped_cache ? 1 : 0;
}

void BM_SyncedWrites4K(benchmark::State& state) {
  run(state, {.kind = Job::Kind::kSyncedWrites,
              .in_flight = static_cast<size_t>(state.range(0)),
              .count = 4000u * (state.range(0) > 1 ? 4 : 1)});
}
BENCHMARK(BM_SyncedWrites4K)->Arg(1)->Arg(16)->UseManualTime()->Iterations(1)->Unit(benchmark::kMillisecond);

// The size against the threshold: where the value log begins to pay.
void BM_SyncedWritesBySize(benchmark::State& state) {
  run(state, {.kind = Job::Kind::kSyncedWrites,
              .in_flight = 4,
              .count = 1500,
              .size_bytes = static_cast<uint32_t>(state.range(0) * kKiB),
              .inline_limit_bytes = static_cast<uint32_t>(state.range(1) * kKiB)});
}
BENCHMARK(BM_SyncedWritesBySize)
    ->ArgsProduct({{8, 16, 32, 64, 128, 256}, {0, 1024}})
    ->ArgNames({"KiB", "inline_KiB"})
    ->UseManualTime()
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

// Small files, as an archive brings them: one sync for a hundred.
void BM_NewChunks4K(benchmark::State& state) {
  run(state, {.kind = Job::Kind::kNewChunks, .in_flight = 16, .count = 20'000});
}
BENCHMARK(BM_NewChunks4K)->UseManualTime()->Iterations(1)->Unit(benchmark::kMillisecond);

void BM_SequentialWrite1M(benchmark::State& state) {
  run(state, {.kind = Job::Kind::kSequential,
              .in_flight = static_cast<size_t>(state.range(0)),
              .count = 3072,
              .size_bytes = 1 * kMiB});
}
BENCHMARK(BM_SequentialWrite1M)->Arg(1)->Arg(4)->UseManualTime()->Iterations(1)->Unit(benchmark::kMillisecond);

void BM_RandomReads(benchmark::State& state) {
  bool cold = state.range(2) != 0;
  run(state, {.kind = Job::Kind::kReads,
              .in_flight = static_cast<size_t>(state.range(1)),
              .count = cold ? 5000u : 50'000u,
              .size_bytes = static_cast<uint32_t>(state.range(0) * kKiB),
              .cold = cold});
}
BENCHMARK(BM_RandomReads)
    ->ArgsProduct({{4, 64}, {1, 16}, {0, 1}})
    ->ArgNames({"KiB", "in_flight", "cold"})
    ->UseManualTime()
    ->Iterations(1)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace cairn
