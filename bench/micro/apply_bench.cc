// What the state machine costs: creates, commits and removals applied in entries of 100 commands (a busy log batches
// like that), look-ups and attributes from memory. On the store in memory, and on LevelDB over a disk in memory:
// processor time, without a disk's.
#include <benchmark/benchmark.h>
#include <memory>
#include <string>
#include <vector>

#include "common/base/check.h"
#include "common/kv/leveldb_store.h"
#include "common/kv/memory_store.h"
#include "common/runtime/memory_disk.h"
#include "master/namespace/machine.h"

namespace cairn {
namespace {

enum Store : int64_t { kMemory = 0, kLevelDb = 1 };

class Bench {
 public:
  explicit Bench(int64_t kind) {
    if (kind == kMemory) {
      store_ = MemoryStore::in_memory();
    } else {
      Result<std::unique_ptr<LevelDbStore>> opened = LevelDbStore::open(disk_, "meta");
      CHECK(opened);
      store_ = std::move(*opened);
    }
    machine_ = std::move(*Machine::open(*store_));
    apply({MakeCluster{.cluster = ClusterId{1}}});
    for (uint64_t id : {1, 2, 3})
      apply({RegisterServer{.server = ServerId{id}, .address = "host:1", .boot_id = "b"}});
    session_ = std::get<OpenSessionReply>(*apply({OpenSession{}})[0]).session;
  }

  std::vector<Reply> apply(std::vector<Command> commands) {
    LogEntry entry{.context = {.index = ++index_, .term = 1, .log_time_ms = index_, .wall_ns = 1},
                   .commands = std::move(commands)};
    Result<std::vector<Reply>> replies = machine_->apply(entry);
    CHECK(replies);
    return std::move(*replies);
  }
  Command mutation(MetaOp op, uint64_t in_flight = 100) {
    ++sequence_;
    return SessionMutation{.session = session_,
                           .sequence = sequence_,
                           .first_unacknowledged = sequence_ > in_flight ? sequence_ - in_flight : 1,
                           .now = static_cast<FileTime>(sequence_),
                           .op = std::move(op)};
  }
  MutationReply mutate(MetaOp op) { return std::get<MutationReply>(*apply({mutation(std::move(op))})[0]); }
  InodeId directory(const std::string& name) {
    return mutate(CreateOp{.parent = kRootInode, .name = name, .type = FileType::kDirectory, .mode = 0755})
        .attributes.inode;
  }
  Machine& machine() { return *machine_; }

 private:
  MemoryDisk disk_;
  std::unique_ptr<KvStore> store_;
  std::unique_ptr<Machine> machine_;
  SessionId session_;
  uint64_t index_ = 0, sequence_ = 0;
};

constexpr int kPerEntry = 100;
constexpr int kPerDirectory = 1000;

std::string name_of(uint64_t i) {
  return "file-" + std::to_string(i);
}

void apply_create(benchmark::State& state) {
  Bench bench(state.range(0));
  uint64_t made = 0;
  InodeId directory;
  for (auto _ : state) {
    if (made % kPerDirectory == 0) directory = bench.directory("d" + std::to_string(made));
    std::vector<Command> commands;
    for (int i = 0; i < kPerEntry; ++i)
      commands.push_back(bench.mutation(CreateOp{.parent = directory, .name = name_of(made++), .mode = 0644}));
    for (const Reply& reply : bench.apply(std::move(commands)))
      CHECK(reply);
  }
  state.SetItemsProcessed(static_cast<int64_t>(made));
}
BENCHMARK(apply_create)->ArgName("leveldb")->Arg(kMemory)->Arg(kLevelDb)->Unit(benchmark::kMicrosecond);

// One file from nothing to nothing: create, a grant, a commit that seals, unlink.
void apply_small_file(benchmark::State& state) {
  Bench bench(state.range(0));
  const InodeId directory = bench.directory("d");
  const std::vector<std::vector<ServerId>> placements(kPerEntry, {ServerId{1}, ServerId{2}, ServerId{3}});
  uint64_t files = 0;
  for (auto _ : state) {
    const MutationReply granted = bench.mutate(GrantChunksOp{.placements = placements});
    std::vector<Command> commands;
    for (int i = 0; i < kPerEntry; ++i)
      commands.push_back(bench.mutation(CreateOp{.parent = directory, .name = name_of(files + i), .mode = 0644}));
    std::vector<Reply> created = bench.apply(std::move(commands));
    commands.clear();
    for (int i = 0; i < kPerEntry; ++i) {
      commands.push_back(bench.mutation(CommitOp{.inode = std::get<MutationReply>(*created[i]).attributes.inode,
                                                 .size_at_least = 4096,
                                                 .chunks = {{.chunk = granted.grants[i].chunk,
                                                             .version = 1,
                                                             .allocated_bytes = 4096,
                                                             .length = 4096,
                                                             .seal = true}}}));
    }
    for (const Reply& reply : bench.apply(std::move(commands)))
      CHECK(reply);
    commands.clear();
    for (int i = 0; i < kPerEntry; ++i)
      commands.push_back(bench.mutation(UnlinkOp{.parent = directory, .name = name_of(files + i)}));
    for (const Reply& reply : bench.apply(std::move(commands)))
      CHECK(reply);
    files += kPerEntry;
  }
  state.SetItemsProcessed(static_cast<int64_t>(files));
}
BENCHMARK(apply_small_file)->ArgName("leveldb")->Arg(kMemory)->Arg(kLevelDb)->Unit(benchmark::kMicrosecond);

// An entry of one mutation: the cost of an entry itself.
void apply_single(benchmark::State& state) {
  Bench bench(state.range(0));
  const InodeId inode = bench.mutate(CreateOp{.parent = kRootInode, .name = "f"}).attributes.inode;
  for (auto _ : state)
    bench.mutate(SetAttributesOp{.inode = inode, .mode = 0600});
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(apply_single)->ArgName("leveldb")->Arg(kMemory)->Arg(kLevelDb)->Unit(benchmark::kMicrosecond);

void lookup(benchmark::State& state) {
  Bench bench(kMemory);
  const InodeId directory = bench.directory("d");
  constexpr uint64_t kFiles = 10'000;
  for (uint64_t i = 0; i < kFiles; ++i)
    bench.mutate(CreateOp{.parent = directory, .name = name_of(i)});
  const auto mode = static_cast<ReadMode>(state.range(0));
  uint64_t i = 0;
  for (auto _ : state) {
    i = (i + 7919) % kFiles;
    Result<EntryReply> reply = bench.machine().lookup(directory, name_of(i), mode);
    CHECK(reply && reply->attributes.inode);
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(lookup)->ArgName("may_block")->Arg(0)->Arg(1);

void get_attributes(benchmark::State& state) {
  Bench bench(kMemory);
  const InodeId directory = bench.directory("d");
  for (auto _ : state)
    benchmark::DoNotOptimize(bench.machine().get_attributes(directory, ReadMode::kMemoryOnly));
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(get_attributes);

void read_directory_plus(benchmark::State& state) {
  Bench bench(state.range(0));
  const InodeId directory = bench.directory("d");
  for (uint64_t i = 0; i < kPerDirectory; ++i)
    bench.mutate(CreateOp{.parent = directory, .name = name_of(i)});
  for (auto _ : state) {
    Result<ReadDirectoryReply> reply =
        bench.machine().read_directory(directory, 0, kPerDirectory, true, ReadMode::kMayBlock);
    CHECK(reply && reply->entries.size() == kPerDirectory);
  }
  state.SetItemsProcessed(state.iterations() * kPerDirectory);
}
BENCHMARK(read_directory_plus)->ArgName("leveldb")->Arg(kMemory)->Arg(kLevelDb)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace cairn
