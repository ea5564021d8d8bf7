// A write that was accepted and is then given up, because a replica's disk is full and no other server has room: what is
// read of the file afterwards is what is on disk (docs/consistency.md, "Versions" 7). Found by simulation seed 7.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "common/base/units.h"
#include "tests/support/sim_cluster.h"

namespace cairn {
namespace {

using FS = FileSystem;
using namespace std::chrono_literals;

struct OpenFile {
  InodeId inode;
  FS::HandleId handle = 0;
};

// Counts how often it was told to let pages go.
class CountingKernel : public KernelCaches {
 public:
  Task<void> forget_pages(InodeId) override {
    ++asked;
    co_return;
  }
  Task<void> forget_attributes(InodeId) override { co_return; }
  Task<void> forget_name(InodeId, std::string) override { co_return; }
  Task<void> forget_everything() override { co_return; }
  size_t asked = 0;
};

Task<Result<OpenFile>> make(FS& fs) {
  Result<Entry> made = co_await fs.create(kRootInode, "file", 0644, {});
  if (!made) co_return made.error();
  Result<FS::HandleId> handle = fs.opened_by_create(made->attributes.inode, {.read = true, .write = true});
  if (!handle) co_return handle.error();
  co_return OpenFile{made->attributes.inode, *handle};
}

Task<Result<Payload>> read_range(FS& fs, InodeId inode, uint64_t offset, uint32_t size) {
  Result<FS::Opened> opened = co_await fs.open(inode, {.read = true});
  if (!opened) co_return opened.error();
  Result<Payload> data = co_await fs.read(opened->handle, offset, size);
  co_await fs.release(opened->handle);
  co_return data;
}

class GivenUp : public testing::Test {
 protected:
  static constexpr uint64_t kStart = kChunkSizeBytes;  // in the second chunk: the first stays open, and the file with what was written
  static constexpr size_t kOld = 200'000;              // long enough for the value log
  static constexpr uint64_t kLostAt = kStart + 100'000;

  void SetUp() override {
    ASSERT_TRUE(cluster_.start());
    auto made = cluster_.run<Result<OpenFile>>(0, [](FS& fs) { return make(fs); });
    ASSERT_TRUE(made && *made);
    file_ = **made;
    ASSERT_EQ(put(0, 'a', 1), ErrorCode{});
    ASSERT_EQ(put(kStart, 'a', kOld), ErrorCode{});
    ASSERT_EQ(fsync(), ErrorCode{});
  }
  // The store keeps more than that in reserve.
  void fill_disk(SimNode& server) {
    DiskSpace space = *server.memory_disk().space("/");
    server.memory_disk().set_capacity(space.total_bytes - space.free_bytes + 128 * kMiB);
    cluster_.simulator().run_for(5s);
  }
  static ErrorCode code_of(const std::optional<Result<void>>& done) {
    if (!done) return ErrorCode::kTimeout;
    return *done ? ErrorCode{} : done->code();
  }
  ErrorCode put(uint64_t offset, char letter, size_t size) {
    Buffer data = Buffer::copy_of(std::string(size, letter));
    return code_of(cluster_.run<Result<void>>(0, [&](FS& fs) { return fs.write(file_.handle, offset, data); }));
  }
  ErrorCode fsync() {
    return code_of(cluster_.run<Result<void>>(0, [&](FS& fs) { return fs.fsync(file_.handle, false); }));
  }
  // As each mount reads it; each asks another replica first.
  std::vector<std::string> as_read() {
    std::vector<std::string> all;
    for (size_t mount = 0; mount < cluster_.mounts(); ++mount) {
      auto read = cluster_.run<Result<Payload>>(
          mount, [&](FS& fs) { return read_range(fs, file_.inode, kStart, 2 * kOld); });
      EXPECT_TRUE(read && *read);
      all.push_back(read && *read ? std::string(flatten(**read).view()) : std::string());
    }
    return all;
  }
  void power_cut_of_everything() {
    for (size_t i = 0; i < cluster_.mounts(); ++i)
      cluster_.mount_node(i).crash(Crash::kPower);
    for (size_t i = 0; i < cluster_.servers(); ++i)
      cluster_.server(i).crash(Crash::kPower);
    cluster_.master().crash(Crash::kPower);
    ASSERT_TRUE(cluster_.start());
  }

  SimCluster cluster_{7, {.mounts = 3}};
  OpenFile file_;
};

TEST_F(GivenUp, WhatIsReadAfterTheNextFsyncIsTheSameOnAllReplicasAndSurvivesAPowerCut) {
  fill_disk(cluster_.server(1));
  ASSERT_EQ(put(kLostAt, 'b', kOld), ErrorCode{});  // two of three take it
  ASSERT_EQ(fsync(), ErrorCode::kNoSpace);
  // The loss has been told, once, and there is still no room. The size that the write brought is part of the file now.
  ASSERT_EQ(fsync(), ErrorCode{});
  std::vector<std::string> before = as_read();
  ASSERT_EQ(before[0].substr(0, kLostAt - kStart), std::string(kLostAt - kStart, 'a'));
  EXPECT_TRUE(before[1] == before[0]);
  EXPECT_TRUE(before[2] == before[0]);
  power_cut_of_everything();
  for (const std::string& after : as_read())
    EXPECT_TRUE(after == before[0]);
}

// The full one cannot take a copy of what only one other has: it is the other that gives way.
TEST_F(GivenUp, WhereTwoOfThreeAreFullTheOneThatTookTheWriteGivesWay) {
  fill_disk(cluster_.server(1));
  fill_disk(cluster_.server(2));
  ASSERT_EQ(put(kLostAt, 'b', kOld), ErrorCode{});
  TimePoint before = cluster_.simulator().now();
  ASSERT_EQ(fsync(), ErrorCode::kNoSpace);
  EXPECT_LE(cluster_.simulator().now() - before, 10s);
  ASSERT_EQ(fsync(), ErrorCode{});
  std::string expected = std::string(kOld, 'a') + std::string(kLostAt + kOld - kStart - kOld, '\0');
  for (const std::string& content : as_read())
    EXPECT_TRUE(content == expected);
  power_cut_of_everything();
  for (const std::string& content : as_read())
    EXPECT_TRUE(content == expected);
}

Task<Result<void>> write_and_sync(FS& fs, InodeId inode, uint64_t offset, Buffer data) {
  Result<FS::Opened> opened = co_await fs.open(inode, {.read = true, .write = true});
  if (!opened) co_return opened.error();
  Result<void> done = co_await fs.write(opened->handle, offset, std::move(data));
  if (done) done = co_await fs.fsync(opened->handle, false);
  co_await fs.release(opened->handle);
  co_return done;
}

// The content has not moved, but the chunk has another version since. Found by simulation seeds 1190 and 1584 with three
// masters.
TEST_F(GivenUp, WhereAnotherMountGaveItsWriteUpTheFirstOneWritesOn) {
  fill_disk(cluster_.server(1));
  Buffer data = Buffer::copy_of(std::string(kOld, 'b'));
  auto other = cluster_.run<Result<void>>(
      1, [&](FS& fs) { return write_and_sync(fs, file_.inode, kLostAt, data); });
  ASSERT_EQ(code_of(other), ErrorCode::kNoSpace);
  cluster_.server(1).memory_disk().set_capacity(8ull << 30);
  cluster_.simulator().run_for(5s);
  ASSERT_EQ(put(kStart, 'c', 1), ErrorCode{});
  ASSERT_EQ(fsync(), ErrorCode{});
  for (const std::string& content : as_read())
    EXPECT_EQ(content.substr(0, 2), "ca");
}

TEST_F(GivenUp, AFileThatLostAWriteCanBeRemovedWhileThereIsNoRoom) {
  fill_disk(cluster_.server(1));
  ASSERT_EQ(put(kLostAt, 'b', kOld), ErrorCode{});
  ASSERT_EQ(fsync(), ErrorCode::kNoSpace);
  auto removed = cluster_.run<Result<void>>(0, [](FS& fs) { return fs.unlink(kRootInode, "file"); });
  EXPECT_EQ(code_of(removed), ErrorCode{});
}

TEST_F(GivenUp, TheKernelForgetsThePagesOfWhatWasLost) {
  CountingKernel kernel;
  cluster_.file_system(0)->set_kernel_caches(&kernel);
  fill_disk(cluster_.server(1));
  kernel.asked = 0;
  ASSERT_EQ(put(kLostAt, 'b', kOld), ErrorCode{});
  ASSERT_EQ(fsync(), ErrorCode::kNoSpace);
  EXPECT_GE(kernel.asked, 1u);
  cluster_.file_system(0)->set_kernel_caches(nullptr);
}

}  // namespace
}  // namespace cairn
