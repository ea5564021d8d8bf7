// The machine around the operations: what is in memory, restarts, equal logs and equal states, failures of the store,
// readers beside apply.
#include <atomic>

#include "common/runtime/thread_pool.h"
#include "tests/unit/master/namespace/machine_fixture.h"

namespace cairn {
namespace {

// Completions are not waited for: the pool's destructor waits for the work itself.
class NoLoop final : public Executor {
 public:
  void post(std::move_only_function<void()>) override {}
  bool on_loop() const override { return true; }  // the test's thread stands for it
};

using ::testing::SizeIs;

using MemoryOnly = MachineTest;
using MachineState = MachineTest;

TEST_F(MemoryOnly, AnswersWhatWasJustWritten) {
  const InodeId d = directory(kRootInode, "d");
  const InodeId f = file(d, "f");
  ASSERT_TRUE(commit(f, 0, grant()));
  const uint64_t gets = leader.store().gets;
  EXPECT_EQ(machine().lookup(d, "f", ReadMode::kMemoryOnly)->attributes.inode, f);
  EXPECT_EQ(machine().get_attributes(f, ReadMode::kMemoryOnly)->inode, f);
  EXPECT_THAT(*machine().layout(f, 0, 1000, ReadMode::kMemoryOnly), SizeIs(1));
  EXPECT_THAT(machine().read_directory(d, 0, 100, true, ReadMode::kMemoryOnly)->entries, SizeIs(1));
  EXPECT_EQ(leader.store().gets, gets);
}

TEST_F(MemoryOnly, DoesNotTouchTheStore) {
  const InodeId f = file(kRootInode, "f");
  leader.restart();
  const uint64_t gets = leader.store().gets;
  EXPECT_ERROR(machine().lookup(kRootInode, "f", ReadMode::kMemoryOnly), ErrorCode::kNotCached);
  EXPECT_ERROR(machine().get_attributes(f, ReadMode::kMemoryOnly), ErrorCode::kNotCached);
  EXPECT_ERROR(machine().list_xattr(f, ReadMode::kMemoryOnly), ErrorCode::kNotCached);
  EXPECT_EQ(leader.store().gets, gets);
}

TEST_F(MemoryOnly, AsksAStoreThatNeedsNoDisk) {
  const InodeId f = file(kRootInode, "f");
  leader.restart();
  leader.store().cached = true;
  EXPECT_EQ(machine().lookup(kRootInode, "f", ReadMode::kMemoryOnly)->attributes.inode, f);
  EXPECT_FALSE(machine().lookup(kRootInode, "g", ReadMode::kMemoryOnly)->attributes.inode);
}

TEST_F(MemoryOnly, RemembersWhatABlockingReadFound) {
  const InodeId f = file(kRootInode, "f");
  leader.restart();
  EXPECT_EQ(find(kRootInode, "f"), f);
  EXPECT_FALSE(find(kRootInode, "none"));
  EXPECT_EQ(machine().lookup(kRootInode, "f", ReadMode::kMemoryOnly)->attributes.inode, f);
  EXPECT_FALSE(machine().lookup(kRootInode, "none", ReadMode::kMemoryOnly)->attributes.inode);
}

TEST_F(MemoryOnly, PrefetchBringsWhatApplyNeeds) {
  const InodeId d = directory(kRootInode, "d");
  const InodeId f = file(kRootInode, "f");
  const ChunkGrant g = grant();
  const std::vector<MetaOp> ops = {
      CreateOp{.parent = d, .name = "new"},
      LinkOp{f, d, "link"},
      RenameOp{.parent = kRootInode, .name = "f", .new_parent = d, .new_name = "moved"},
      SetAttributesOp{.inode = f, .mode = 0600},
      SetXattrOp{.inode = f, .name = "user.a", .value = "v"},
      CommitOp{.inode = f, .size_at_least = 1, .chunks = {{.chunk = g.chunk, .version = 1}}},
      SetGoalOp{.inode = f, .goal = 2},
      RemoveXattrOp{f, "user.a"},
      UnlinkOp{.parent = d, .name = "moved"},
      UnlinkOp{.parent = d, .name = "link"},  // the last one: the chunk goes too
  };
  for (const MetaOp& op : ops) {
    leader.restart();
    const Command command = leader.mutation(session, op);
    EXPECT_ERROR(machine().prefetch(command, ReadMode::kMemoryOnly), ErrorCode::kNotCached);
    ASSERT_TRUE(machine().prefetch(command, ReadMode::kMayBlock));
    EXPECT_TRUE(machine().prefetch(command, ReadMode::kMemoryOnly));
    const uint64_t gets = leader.store().gets;
    EXPECT_TRUE(leader.ask<MutationReply>(command));
    EXPECT_EQ(leader.store().gets, gets) << op.index();
  }
}

// A log with a bit of everything: sessions that end, orphans, work, failing commands.
std::vector<LogEntry> busy_log(Leader& leader) {
  leader.make_cluster();
  leader.add_servers({1, 2, 3});
  const SessionId a = leader.open_session(), b = leader.open_session();
  std::vector<InodeId> files;
  for (int i = 0; i < 30; ++i) {
    const SessionId session = i % 3 == 0 ? b : a;
    const std::string name = "f" + std::to_string(i % 20);
    Result<MutationReply> made = leader.mutate(session, CreateOp{.parent = kRootInode, .name = name});
    if (!made) {
      EXPECT_TRUE(leader.mutate(session, UnlinkOp{.parent = kRootInode, .name = name, .holders = {a, b}}));
      continue;
    }
    const InodeId inode = made->attributes.inode;
    const ChunkGrant g =
        leader.mutate(session, GrantChunksOp{.placements = {{ServerId{1}, ServerId{2}, ServerId{3}}}})->grants[0];
    if (i % 2 == 0) {
      EXPECT_TRUE(
          leader.mutate(session, CommitOp{.inode = inode,
                                          .size_at_least = 9,
                                          .chunks = {{.chunk = g.chunk, .version = 1, .allocated_bytes = 4096}}}));
    }
    EXPECT_TRUE(leader.mutate(session, SetXattrOp{.inode = inode, .name = "user.x", .value = name}));
    files.push_back(inode);
    leader.tick(100);
  }
  for (InodeId inode : files)
    EXPECT_TRUE(leader.mutate(a, SetGoalOp{.inode = inode, .goal = 2}) || true);
  leader.pass(kSessionMs / 2);
  EXPECT_TRUE(leader.tell(RenewSessions{{a}}));
  leader.tick(kSessionMs / 2);
  leader.next_term();
  for (int i = 0; i < 5; ++i)
    leader.tick(500);
  return leader.log();
}

uint64_t replay(const std::vector<LogEntry>& log, KvStore& store, size_t cache_bytes, size_t restart_each) {
  std::unique_ptr<Machine> machine;
  for (size_t i = 0; i < log.size(); ++i) {
    if (machine == nullptr || (restart_each != 0 && i % restart_each == 0)) {
      machine.reset();
      machine = std::move(*Machine::open(store, {.cache_bytes = cache_bytes}));
    }
    EXPECT_TRUE(machine->apply(log[i]));
  }
  return *machine->state_hash();
}

TEST(Determinism, EqualLogsGiveEqualStatesWhateverTheCacheAndTheRestarts) {
  Leader leader;
  const std::vector<LogEntry> log = busy_log(leader);
  ASSERT_GT(log.size(), 100u);
  for (size_t restart_each : {0, 1, 7, 50}) {
    for (size_t cache_bytes : {size_t{0}, size_t{3000}, size_t{1} << 20}) {
      auto store = MemoryStore::in_memory();
      EXPECT_EQ(replay(log, *store, cache_bytes, restart_each), leader.hash()) << restart_each << ", " << cache_bytes;
    }
  }
}

TEST(Determinism, LevelDbHoldsTheSameStateAsMemory) {
  Leader leader;
  const std::vector<LogEntry> log = busy_log(leader);
  MemoryDisk disk;
  Result<std::unique_ptr<LevelDbStore>> store = LevelDbStore::open(disk, "meta");
  ASSERT_TRUE(store);
  EXPECT_EQ(replay(log, **store, 1 << 20, 0), leader.hash());
}

TEST(Determinism, HashTellsStatesApart) {
  Leader a, b;
  a.make_cluster();
  b.make_cluster();
  EXPECT_EQ(a.hash(), b.hash());
  a.command(Tick{}).value();
  EXPECT_NE(a.hash(), b.hash());
}

TEST_F(MachineState, SurvivesARestart) {
  const InodeId f = file(kRootInode, "f");
  const uint64_t hash = leader.hash();
  const CounterRecord counters = machine().counters();
  leader.restart();
  EXPECT_EQ(leader.hash(), hash);
  EXPECT_EQ(machine().counters(), counters);
  EXPECT_TRUE(machine().session(session));
  EXPECT_THAT(machine().servers(), SizeIs(3));
  EXPECT_EQ(machine().cluster().cluster, ClusterId{7});
  EXPECT_NE(file(kRootInode, "g"), f);
}

TEST_F(MachineState, WantsTicksUntilTheLastTraceIsGone) {
  EXPECT_TRUE(machine().wants_ticks());
  ASSERT_TRUE(commit(file(kRootInode, "f"), 0, grant()));
  ASSERT_TRUE(unlink(kRootInode, "f"));
  ASSERT_TRUE(leader.tell(EndSession{session}));
  leader.settle();
  leader.tick();
  EXPECT_EQ(machine().sessions().size(), 0u);
  EXPECT_TRUE(machine().wants_ticks());  // garbage runs out by log time
  for (uint64_t server : {1, 2, 3})
    ASSERT_TRUE(leader.tell(RemoveGarbage{ServerId{server}, {ChunkId{1}}}));
  EXPECT_FALSE(machine().wants_ticks());
}

TEST_F(MachineState, FailureOfTheStoreIsReported) {
  leader.store().fail_writes = true;
  const SessionMutation m = leader.mutation(session, CreateOp{.parent = kRootInode, .name = "a"});
  Result<std::vector<Reply>> replies = machine().apply({.context = {.index = 1000}, .commands = {m}});
  EXPECT_TRUE(replies.failed_with(ErrorCode::kIo));
}

TEST_F(MachineState, DamagedRecordIsReportedAndNothingIsWritten) {
  file(kRootInode, "f");
  WriteBatch batch;
  batch.put(keys::inode(kRootInode), "\x63 not an inode");
  ASSERT_TRUE(leader.store().write(batch, false));
  leader.restart();
  EXPECT_ERROR(machine().lookup(kRootInode, "f", ReadMode::kMayBlock), ErrorCode::kCorrupt);
  leader.store().changed.clear();
  const SessionMutation m = leader.mutation(session, CreateOp{.parent = kRootInode, .name = "a"});
  EXPECT_TRUE(machine().apply({.context = {.index = 1000}, .commands = {m}}).failed_with(ErrorCode::kCorrupt));
  EXPECT_TRUE(leader.store().changed.empty());
}

TEST_F(MachineState, CheckpointOfTheStoreIsAMachine) {
  const InodeId f = file(kRootInode, "f");
  MemoryDisk disk;
  Result<std::unique_ptr<MemoryStore>> store = MemoryStore::open(disk, "live");
  ASSERT_TRUE(store);
  replay(leader.log(), **store, 1 << 20, 0);
  ASSERT_TRUE((*store)->checkpoint("copy", [] {}));
  ASSERT_TRUE(MemoryStore::copy_checkpoint(disk, "copy", "again"));
  Result<std::unique_ptr<MemoryStore>> restored = MemoryStore::open(disk, "again");
  ASSERT_TRUE(restored);
  std::unique_ptr<Machine> again = std::move(*Machine::open(**restored));
  EXPECT_EQ(*again->state_hash(), leader.hash());
  EXPECT_EQ(again->lookup(kRootInode, "f", ReadMode::kMayBlock)->attributes.inode, f);
}

// Each entry moves a file between two directories: a reader sees it in exactly one of them, in either mode, whatever
// apply is doing.
TEST_F(MachineState, ReadersSeeWholeEntries) {
  const InodeId a = directory(kRootInode, "a");
  const InodeId b = directory(kRootInode, "b");
  file(a, "f");
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> reads = 0;
  auto reader = [&](ReadMode mode) {
    while (!stop) {
      Result<ReadDirectoryReply> root = machine().read_directory(kRootInode, 0, 10, true, mode);
      if (!root) continue;
      uint64_t entries = 0;
      for (const DirectoryEntry& entry : root->entries)
        entries += entry.attributes->size;
      EXPECT_EQ(entries, 1u);
      ++reads;
    }
  };
  NoLoop loop;
  ThreadPool pool(loop, "readers", 2);
  pool.submit([&] { reader(ReadMode::kMemoryOnly); }, [] {});
  pool.submit([&] { reader(ReadMode::kMayBlock); }, [] {});
  for (int i = 0; i < 2000 || reads < 100; ++i) {
    const InodeId from = i % 2 == 0 ? a : b;
    const SessionMutation m = leader.mutation(
        session, RenameOp{.parent = from, .name = "f", .new_parent = from == a ? b : a, .new_name = "f"});
    ASSERT_TRUE(leader.command(m));
  }
  stop = true;
}

TEST(Cache, IsBoundedAndForgetsTheOldest) {
  RecordCache cache(10'000);
  for (int i = 0; i < 1000; ++i)
    cache.insert("key" + std::to_string(i), std::string(100, 'v'));
  EXPECT_LE(cache.bytes(), 10'000u);
  EXPECT_FALSE(cache.find("key0"));
  EXPECT_TRUE(cache.find("key999"));
  EXPECT_EQ(**cache.find("key999"), std::string(100, 'v'));
}

TEST(Cache, KeepsWhatTheStoreDoesNotHaveYet) {
  RecordCache cache(1000);
  cache.insert("a", std::string("old"));
  for (int i = 0; i < 100; ++i)
    cache.put_pinned("pinned" + std::to_string(i), std::string("new"));
  cache.put_pinned("a", std::nullopt);
  cache.insert("a", std::string("what the store still says"));
  ASSERT_TRUE(cache.find("a"));
  EXPECT_FALSE(*cache.find("a"));
  EXPECT_EQ(cache.entries(), 101u);
  cache.put_pinned("a", std::string(100, 'l'));  // larger than what was there
  EXPECT_EQ(**cache.find("a"), std::string(100, 'l'));
  cache.unpin_all();
  EXPECT_LE(cache.bytes(), 1000u);
}

TEST(Cache, KeepsWhatIsAskedForAgain) {
  RecordCache cache(10'000);
  for (int i = 0; i < 1000; ++i) {
    cache.insert("key" + std::to_string(i), std::string(100, 'v'));
    EXPECT_TRUE(cache.find("key0"));
  }
  EXPECT_LE(cache.bytes(), 10'000u);
}

}  // namespace
}  // namespace cairn
