// The thinnest path from end to end, in the simulated world: what is written through one mount is read through another, from every
// chunkserver, also after crashes.
#include <gtest/gtest.h>

#include <string>

#include "tests/support/sim_cluster.h"

namespace cairn {
namespace {

using FS = FileSystem;

Buffer pattern(size_t size, uint8_t seed) {
  Buffer buffer = Buffer::allocate(size);
  for (size_t i = 0; i < size; ++i) buffer.mutable_span()[i] = static_cast<std::byte>((i * 31 + i / 4096 + seed) & 0xff);
  return buffer;
}

std::string text_of(const Payload& payload) { return std::string(flatten(payload).view()); }

Task<Result<InodeId>> write_file(FS& fs, std::string name, Buffer data, bool sync) {
  Result<Entry> made = co_await fs.create(kRootInode, name, 0644, {});
  if (!made) co_return made.error();
  InodeId inode = made->attributes.inode;
  Result<FS::HandleId> handle = fs.opened_by_create(inode, {.read = true, .write = true});
  if (!handle) co_return handle.error();
  constexpr size_t kPiece = 1 << 20;
  for (size_t at = 0; at < data.size(); at += kPiece) {
    Result<void> written = co_await fs.write(*handle, at, data.slice(at, std::min(kPiece, data.size() - at)));
    if (!written) co_return written.error();
  }
  Result<void> done = co_await fs.flush(*handle);
  if (done && sync) done = co_await fs.fsync(*handle, false);
  co_await fs.release(*handle);
  if (!done) co_return done.error();
  co_return inode;
}

Task<Result<Payload>> read_file_of(FS& fs, std::string name) {
  Result<Entry> entry = co_await fs.lookup(kRootInode, name);
  if (!entry) co_return entry.error();
  if (!entry->attributes.inode) co_return Error(ErrorCode::kNotFound, name);
  Result<FS::Opened> opened = co_await fs.open(entry->attributes.inode, {.read = true});
  if (!opened) co_return opened.error();
  Payload all;
  Result<void> failed;
  for (uint64_t at = 0; at < opened->attributes.size && failed;) {
    Result<Payload> piece = co_await fs.read(opened->handle, at, 1 << 20);
    if (!piece) failed = piece.error();
    if (!piece || piece->empty()) break;
    at += payload_size(*piece);
    for (Buffer& buffer : *piece) all.push_back(buffer);
  }
  co_await fs.release(opened->handle);
  if (!failed) co_return failed.error();
  co_return all;
}

#define ASSERT_DONE(result)                                    \
  ASSERT_TRUE((result).has_value()) << "it did not end";      \
  ASSERT_TRUE((result)->has_value()) << (result)->error().message()

class EndToEnd : public testing::Test {
 protected:
  void write(SimCluster& cluster, const std::string& name, const Buffer& data, bool sync = true) {
    auto written = cluster.run<Result<InodeId>>(0, [&](FS& fs) { return write_file(fs, name, data, sync); });
    ASSERT_DONE(written);
  }
  void expect_content(SimCluster& cluster, size_t mount, const std::string& name, const Buffer& data) {
    auto read = cluster.run<Result<Payload>>(mount, [&](FS& fs) { return read_file_of(fs, name); });
    ASSERT_DONE(read);
    EXPECT_TRUE(text_of(**read) == data.view()) << name << ": other content";
  }
};

TEST_F(EndToEnd, AFileWrittenOnOneMountIsReadOnAnother) {
  SimCluster cluster(1, {.mounts = 2});
  ASSERT_TRUE(cluster.start());
  Buffer small = pattern(5000, 1);
  Buffer large = pattern(70 << 20, 2);  // more than a chunk
  write(cluster, "small", small);
  write(cluster, "large", large);
  expect_content(cluster, 0, "small", small);
  expect_content(cluster, 1, "small", small);
  expect_content(cluster, 1, "large", large);
}

Task<Result<void>> make_and_ask(FS& fs, SimCluster& cluster, InodeId& folder) {
  Result<Entry> entry = co_await fs.make_directory(kRootInode, "d", 0755, {});
  if (!entry) co_return entry.error();
  folder = entry->attributes.inode;
  TimePoint before = cluster.simulator().now();
  for (int i = 0; i < 100; ++i) {
    Result<AttributesView> view = co_await fs.get_attributes(folder);
    Result<Entry> absent = co_await fs.lookup(folder, "name" + std::to_string(i));
    if (!view || !absent || absent->attributes.inode) co_return Error(ErrorCode::kIo, "a wrong answer");
  }
  EXPECT_EQ(cluster.simulator().now(), before) << "a question went over the network";
  Result<Entry> file = co_await fs.create(folder, "mine", 0644, {});
  if (!file) co_return file.error();
  Result<Entry> found = co_await fs.lookup(folder, "mine");
  if (!found || found->attributes.inode != file->attributes.inode) co_return Error(ErrorCode::kIo, "own name unseen");
  co_return Result<void>();
}

// The kernel asks for a directory's attributes and for each new name before it makes the name: a mount that has just heard
// both answers by itself. It believes itself for a second at most.
TEST_F(EndToEnd, WhatAMountHasHeardIsNotAskedAgainAndNotBelievedForLongerThanASecond) {
  SimCluster cluster(7, {.mounts = 2});
  ASSERT_TRUE(cluster.start());
  InodeId folder;
  auto made = cluster.run<Result<void>>(0, [&](FS& fs) { return make_and_ask(fs, cluster, folder); });
  ASSERT_DONE(made);
  auto theirs = cluster.run<Result<Entry>>(1, [&](FS& fs) { return fs.make_directory(folder, "theirs", 0755, {}); });
  ASSERT_DONE(theirs);
  cluster.simulator().run_for(std::chrono::seconds(1));
  auto seen = cluster.run<Result<Entry>>(0, [&](FS& fs) { return fs.lookup(folder, "theirs"); });
  ASSERT_DONE(seen);
  EXPECT_EQ((*seen)->attributes.inode, (*theirs)->attributes.inode);
  auto view = cluster.run<Result<AttributesView>>(0, [&](FS& fs) { return fs.get_attributes(folder); });
  ASSERT_DONE(view);
  EXPECT_EQ((*view)->attributes.nlink, 3u);
}

TEST_F(EndToEnd, AChunkserverKilledWhileWritingLosesNothing) {
  SimCluster cluster(2, {.mounts = 2});
  ASSERT_TRUE(cluster.start());
  cluster.simulator().after(std::chrono::milliseconds(30), [&] { cluster.server(1).crash(Crash::kProcess); });
  Buffer data = pattern(20 << 20, 3);
  write(cluster, "file", data);
  expect_content(cluster, 1, "file", data);
}

TEST_F(EndToEnd, WhatWasSyncedSurvivesAPowerCutOfEverything) {
  SimCluster cluster(3, {.mounts = 1});
  ASSERT_TRUE(cluster.start());
  Buffer data = pattern(3 << 20, 4);
  write(cluster, "file", data, true);
  cluster.mount_node(0).crash(Crash::kPower);
  for (size_t i = 0; i < cluster.servers(); ++i) cluster.server(i).crash(Crash::kPower);
  cluster.master().crash(Crash::kPower);
  ASSERT_TRUE(cluster.start());
  expect_content(cluster, 0, "file", data);
}

TEST_F(EndToEnd, TheMasterRestartsInTheMiddle) {
  SimCluster cluster(4, {.mounts = 1});
  ASSERT_TRUE(cluster.start());
  cluster.simulator().after(std::chrono::milliseconds(20), [&] { cluster.master().crash(Crash::kProcess); });
  cluster.simulator().after(std::chrono::seconds(5), [&] { cluster.start_master(); });
  Buffer data = pattern(8 << 20, 5);
  write(cluster, "a", data);
  write(cluster, "b", data);
  expect_content(cluster, 0, "a", data);
  expect_content(cluster, 0, "b", data);
}

TEST_F(EndToEnd, TheSameSeedGivesTheSameTrace) {
  auto hash_of = [](uint64_t seed) {
    SimCluster cluster(seed, {.mounts = 1});
    EXPECT_TRUE(cluster.start());
    Buffer data = pattern(2 << 20, 6);
    auto written = cluster.run<Result<InodeId>>(0, [&](FS& fs) { return write_file(fs, "x", data, true); });
    EXPECT_TRUE(written.has_value() && written->has_value());
    return cluster.simulator().trace_hash();
  };
  EXPECT_EQ(hash_of(7), hash_of(7));
  EXPECT_NE(hash_of(7), hash_of(8));
}

}  // namespace
}  // namespace cairn
