// From a state to a dump, and from the dump to the folder of a master that recovers it.
#include "master/restore/import.h"

#include <gtest/gtest.h>
#include <memory>
#include <string>

#include "common/kv/memory_store.h"
#include "common/runtime/memory_disk.h"
#include "master/consensus/master_folder.h"
#include "master/consensus/recovery.h"
#include "master/service/export_service.h"
#include "master/service/machine_adapter.h"

namespace cairn {
namespace {

constexpr ClusterId kCluster{0xC1};
constexpr FileTime kWall = 1'700'000'000'000'000'000;

class ImportTest : public ::testing::Test {
 protected:
  ImportTest() : store_(MemoryStore::in_memory()), machine_(Machine::open(*store_).value()) {
    apply(MakeCluster{.cluster = kCluster});
    apply(RotateKeys{{.id = 1, .key = "the secret that no file holds"}});
    apply(RegisterServer{.server = ServerId{1}, .address = "s:1", .boot_id = "b", .incarnation = 1});
    session_ = std::get<OpenSessionReply>(apply(OpenSession{.host = "h"})).session;
    for (uint64_t i = 1; i <= 50; ++i) {
      apply(MutateRequest{.session = session_,
                          .sequence = i,
                          .first_unacknowledged = i,
                          .op = CreateOp{.parent = kRootInode, .name = "f" + std::to_string(i), .mode = 0644}});
    }
  }

  ReplyBody apply(Command command) {
    LogEntry entry;
    entry.context = {.index = ++index_, .term = 3, .log_time_ms = 5000 + index_, .wall_ns = kWall, .seed = 1};
    entry.commands.push_back(std::move(command));
    Result<std::vector<Reply>> replies = machine_->apply(entry);
    EXPECT_TRUE(replies && replies->front());
    return std::move(*replies->front());
  }
  std::string dump() {
    DumpMaker maker(machine_->records(), "test 1", kWall);
    std::string all;
    while (!maker.ended())
      all += maker.next().value();
    return all;
  }
  Result<ImportResult> import(const std::string& bytes) {
    EXPECT_TRUE(write_file(disk_, "/dump", bytes));
    return import_dump(disk_, options());
  }
  static ImportOptions options() {
    return {.dump = "/dump",
            .folder = "/restored",
            .address = "m:1",
            .master = MasterId{9},
            .wall_ns = kWall,
            .boot_id = "boot",
            .memory_store = true};
  }

  MemoryDisk disk_;
  std::unique_ptr<MemoryStore> store_;
  std::unique_ptr<Machine> machine_;
  SessionId session_;
  uint64_t index_ = 0;
};

TEST_F(ImportTest, AnExportHoldsNoKeys) {
  const std::string bytes = dump();
  ASSERT_TRUE(write_file(disk_, "/dump", bytes));
  std::unique_ptr<File> file = disk_.open("/dump", {.read_only = true}).value();
  bool cluster_seen = false;
  Result<DumpSummary> read = read_dump(dump_source(*file), [&](std::string_view key, std::string_view value) -> Result<void> {
    EXPECT_EQ(value.find("the secret"), std::string_view::npos) << key;
    cluster_seen |= key == "A";
    return {};
  });
  ASSERT_TRUE(read) << read.error().message();
  EXPECT_TRUE(cluster_seen);
  EXPECT_EQ(read->header.cluster, kCluster);
  EXPECT_EQ(read->header.applied_index, index_);
}

TEST_F(ImportTest, AMasterRecoversWhatWasExported) {
  Result<ImportResult> imported = import(dump());
  ASSERT_TRUE(imported) << imported.error().message();
  EXPECT_EQ(imported->inodes, 51u);
  MachineAdapter adapter(disk_, {.memory_store = true});
  ReplicatedLogOptions log;
  log.folder = "/restored";
  log.cluster = kCluster;
  Result<RecoveredMaster> recovered = recover_master(disk_, log, "another boot", adapter);
  ASSERT_TRUE(recovered) << recovered.error().message();
  EXPECT_EQ(recovered->state_index, index_ + 1);
  EXPECT_GT(recovered->position.term, 3 + kRestoreMargin - 1) << "chunkservers obey the highest term that they have heard";
  EXPECT_GE(recovered->last_log_time_ms, 5000 + index_ + kRestoreMargin) << "log time never goes back";
  Machine& machine = adapter.machine();
  EXPECT_TRUE(machine.lookup(kRootInode, "f50", ReadMode::kMayBlock)->attributes.inode);
  EXPECT_EQ((machine.session(session_)).code(), ErrorCode::kSessionEnded);
  EXPECT_FALSE(machine.restore()->settled);
  EXPECT_EQ(recovered->folder.identity().master, MasterId{9});
}

TEST_F(ImportTest, ADamagedDumpMakesNothing) {
  const std::string bytes = dump();
  for (size_t size : {size_t{0}, size_t{10}, bytes.size() / 2, bytes.size() - 1}) {
    EXPECT_EQ((import(bytes.substr(0, size))).code(), ErrorCode::kCorrupt);
    EXPECT_FALSE(disk_.exists("/restored").value());
  }
}

TEST_F(ImportTest, AFolderThatIsNotFreeIsLeftAlone) {
  const std::string bytes = dump();
  ASSERT_TRUE(disk_.make_folder("/restored"));
  ASSERT_TRUE(write_file(disk_, "/restored/mine", "x"));
  EXPECT_EQ((import(bytes)).code(), ErrorCode::kNotEmpty);
  ASSERT_TRUE(disk_.remove("/restored/mine"));
  ASSERT_TRUE(import(bytes)) << "an empty folder is free";
  EXPECT_EQ((import(bytes)).code(), ErrorCode::kNotEmpty) << "it is a master's now";
}

TEST_F(ImportTest, AnAttemptThatWasCutOffCanBeMadeAgain) {
  const std::string bytes = dump();
  ASSERT_TRUE(import(bytes));
  ASSERT_TRUE(disk_.remove("/restored/identity"));  // it is written last
  EXPECT_TRUE(import(bytes));
}

}  // namespace
}  // namespace cairn
