// A file that is open stays readable without names, whatever else is on its way between the mount and the masters.
#include <algorithm>
#include <gtest/gtest.h>
#include <optional>
#include <string>
#include <utility>

#include "tests/support/sim_cluster.h"

namespace cairn {
namespace {

using FS = FileSystem;
using namespace std::chrono_literals;

const std::string kContent = "what is in it";

Task<Result<InodeId>> make(FS& fs, std::string name) {
  Result<Entry> made = co_await fs.create(kRootInode, name, 0644, {});
  if (!made) co_return made.error();
  Result<FS::HandleId> handle = fs.opened_by_create(made->attributes.inode, {.read = true, .write = true});
  if (!handle) co_return handle.error();
  Result<void> done = co_await fs.write(*handle, 0, Buffer::copy_of(kContent));
  if (done) done = co_await fs.fsync(*handle, false);
  co_await fs.release(*handle);
  if (!done) co_return done.error();
  co_return made->attributes.inode;
}

// Opened again so long after it was closed: before, while and after the masters are told that it was closed.
class OpenedAgain : public testing::TestWithParam<int> {};

TEST_P(OpenedAgain, WhileItsCloseIsOnTheWayIsOpen) {
  // A round trip takes a fifth of the time between two messages about closed files.
  SimOptions slow{.latency_min = 19ms, .latency_max = 20ms};
  SimCluster cluster(5, {.masters = 3, .mounts = 2, .simulator = slow});
  ASSERT_TRUE(cluster.start());
  auto made = cluster.run<Result<InodeId>>(0, [](FS& fs) { return make(fs, "file"); });
  ASSERT_TRUE(made && *made);
  cluster.simulator().run_for(GetParam() * 10ms);
  auto opened = cluster.run<Result<FS::Opened>>(0, [&](FS& fs) { return fs.open(**made, {.read = true}); });
  ASSERT_TRUE(opened && *opened);
  cluster.simulator().run_for(300ms);
  auto removed = cluster.run<Result<void>>(1, [](FS& fs) { return fs.unlink(kRootInode, "file"); });
  ASSERT_TRUE(removed && *removed);
  auto read = cluster.run<Result<Payload>>(0, [&](FS& fs) { return fs.read((*opened)->handle, 0, 100); });
  ASSERT_TRUE(read);
  ASSERT_TRUE(*read) << (*read).error().message();
  EXPECT_EQ(flatten(**read).view(), kContent);
}
INSTANTIATE_TEST_SUITE_P(AfterTensOfMs, OpenedAgain, testing::Range(0, 30));

Task<Result<FS::HandleId>> make_and_keep_open(FS& fs) {
  Result<Entry> made = co_await fs.create(kRootInode, "file", 0644, {});
  if (!made) co_return made.error();
  Result<FS::HandleId> handle = fs.opened_by_create(made->attributes.inode, {.read = true, .write = true});
  if (!handle) co_return handle.error();
  Result<void> done = co_await fs.write(*handle, 0, Buffer::copy_of(kContent));
  if (done) done = co_await fs.fsync(*handle, false);
  if (!done) co_return done.error();
  co_return *handle;
}

// That it cannot say what is in the log does not mean that there is nothing: the writer would throw away what it keeps.
// Found by simulation seed 1125 with three masters.
TEST(CutOffMaster, ThatIsToldOfAFailedReplicaDoesNotSayThatTheChunkIsGone) {
  SimCluster cluster(6, {.masters = 3});
  ASSERT_TRUE(cluster.start());
  auto handle = cluster.run<Result<FS::HandleId>>(0, [](FS& fs) { return make_and_keep_open(fs); });
  ASSERT_TRUE(handle && *handle);
  std::optional<size_t> leading = cluster.leading_master();
  ASSERT_TRUE(leading);
  for (size_t i = 0; i < cluster.masters(); ++i) {
    if (i != *leading) cluster.simulator().block(cluster.master(*leading), cluster.master(i));
  }
  cluster.server(1).crash(Crash::kProcess);
  auto written = cluster.run<Result<void>>(
      0, [&](FS& fs) { return fs.write(**handle, kContent.size(), Buffer::copy_of(kContent)); });
  ASSERT_TRUE(written && *written);
  auto synced = cluster.run<Result<void>>(0, [&](FS& fs) { return fs.fsync(**handle, false); });
  ASSERT_TRUE(synced);
  EXPECT_TRUE(*synced) << (*synced).error().message();
}

}  // namespace
}  // namespace cairn
