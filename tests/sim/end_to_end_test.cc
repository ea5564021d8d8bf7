// The thinnest path from end to end, in the simulated world: what is written through one mount is read through another, from every
// chunkserver, also after crashes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "common/base/units.h"
#include "common/runtime/sync.h"
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
  before = cluster.simulator().now();
  Result<Entry> absent = co_await fs.lookup(folder, "other");
  if (!absent || absent->attributes.inode) co_return Error(ErrorCode::kIo, "a wrong answer");
  EXPECT_EQ(cluster.simulator().now(), before) << "an own change made the other names unknown";
  co_return Result<void>();
}

// The kernel asks for a directory's attributes and for each new name before it makes the name: a mount that has just heard
// both answers by itself, until somebody else changes something.
TEST_F(EndToEnd, WhatAMountHasHeardIsNotAskedAgainUntilItIsRecalled) {
  SimCluster cluster(7, {.mounts = 2});
  ASSERT_TRUE(cluster.start());
  InodeId folder;
  auto made = cluster.run<Result<void>>(0, [&](FS& fs) { return make_and_ask(fs, cluster, folder); });
  ASSERT_DONE(made);
  auto theirs = cluster.run<Result<Entry>>(1, [&](FS& fs) { return fs.make_directory(folder, "theirs", 0755, {}); });
  ASSERT_DONE(theirs);
  auto view = cluster.run<Result<AttributesView>>(0, [&](FS& fs) { return fs.get_attributes(folder); });
  ASSERT_DONE(view);
  EXPECT_EQ((*view)->attributes.nlink, 3u);
  auto seen = cluster.run<Result<Entry>>(0, [&](FS& fs) { return fs.lookup(folder, "theirs"); });
  ASSERT_DONE(seen);
  EXPECT_EQ((*seen)->attributes.inode, (*theirs)->attributes.inode);
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

// A master that was stopped for longer than a session's time heard nobody in it: that is not the sessions' silence.
TEST_F(EndToEnd, AMasterThatWasStoppedEndsNoSession) {
  SimCluster cluster(8, {.mounts = 1});
  ASSERT_TRUE(cluster.start());
  Buffer data = pattern(300000, 4);
  write(cluster, "before", data);
  SessionId session = cluster.file_system(0)->session();
  cluster.master().pause();
  cluster.simulator().run_for(std::chrono::seconds(40));
  cluster.master().resume();
  cluster.simulator().run_for(std::chrono::seconds(15));
  EXPECT_EQ(cluster.file_system(0)->session(), session);
  EXPECT_EQ(cluster.registered_servers(), 3u);
  expect_content(cluster, 0, "before", data);
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

// The states of all chunks that are part of a file.
std::vector<ChunkState> chunk_states(SimCluster& cluster) {
  std::vector<ChunkState> states;
  Result<std::vector<ChunkEntry>> chunks = cluster.master_server()->machine().chunks(ChunkId{}, 1000);
  for (const ChunkEntry& entry : chunks ? *chunks : std::vector<ChunkEntry>()) {
    if (entry.chunk.refs > 0) states.push_back(entry.chunk.state);
  }
  return states;
}

Task<Result<void>> write_and_sync(FS& fs, FS::HandleId handle, uint64_t offset, Buffer data) {
  constexpr size_t kPiece = 1 << 20;
  for (size_t at = 0; at < data.size(); at += kPiece) {
    Result<void> written = co_await fs.write(handle, offset + at, data.slice(at, std::min(kPiece, data.size() - at)));
    if (!written) co_return written;
  }
  Result<void> synced = co_await fs.fsync(handle, false);
  co_return synced;
}

Task<Result<FS::HandleId>> create_open(FS& fs, std::string name) {
  Result<Entry> made = co_await fs.create(kRootInode, name, 0644, {});
  if (!made) co_return made.error();
  co_return fs.opened_by_create(made->attributes.inode, {.read = true, .write = true});
}

Task<Result<Payload>> read_handle(FS& fs, FS::HandleId handle, uint32_t size) {
  Result<Payload> data = co_await fs.read(handle, 0, size);
  co_return data;
}

TEST_F(EndToEnd, AChunkThatIsOpenAndNotWrittenIsSealed) {
  SimCluster cluster(8, {.mounts = 2});
  ASSERT_TRUE(cluster.start());
  auto opened = cluster.run<Result<FS::HandleId>>(0, [](FS& fs) { return create_open(fs, "idle"); });
  ASSERT_DONE(opened);
  FS::HandleId handle = **opened;
  Buffer data = pattern(300'000, 1);
  auto write_at = [&](uint64_t offset, Buffer bytes) {
    return cluster.run<Result<void>>(0, [&](FS& fs) { return write_and_sync(fs, handle, offset, bytes); });
  };
  auto written = write_at(0, data);
  ASSERT_DONE(written);
  // A writer that goes on, however slowly, keeps its chunk: each write begins the time anew.
  for (int i = 1; i <= 3; ++i) {
    cluster.simulator().run_for(std::chrono::seconds(45));
    EXPECT_THAT(chunk_states(cluster), testing::ElementsAre(ChunkState::kOpen)) << i;
    written = write_at(0, data);
    ASSERT_DONE(written);
  }
  cluster.simulator().run_for(std::chrono::seconds(90));
  EXPECT_THAT(chunk_states(cluster), testing::ElementsAre(ChunkState::kSealed));
  // The handle is as good as before: for writing, and for reading.
  Buffer more = pattern(100'000, 2);
  written = write_at(300'000, more);
  ASSERT_DONE(written);
  EXPECT_THAT(chunk_states(cluster), testing::ElementsAre(ChunkState::kOpen));
  Buffer both = Buffer::allocate(400'000);
  std::ranges::copy(data.span(), both.mutable_span().begin());
  std::ranges::copy(more.span(), both.mutable_span().begin() + 300'000);
  expect_content(cluster, 1, "idle", both);
  // Sealed once more.
  cluster.simulator().run_for(std::chrono::seconds(90));
  EXPECT_THAT(chunk_states(cluster), testing::ElementsAre(ChunkState::kSealed));
  auto read = cluster.run<Result<Payload>>(0, [&](FS& fs) { return read_handle(fs, handle, 400'000); });
  ASSERT_DONE(read);
  EXPECT_TRUE(text_of(**read) == both.view());
  expect_content(cluster, 1, "idle", both);
}

Task<Result<void>> close_handle(FS& fs, FS::HandleId handle) {
  co_await fs.release(handle);
  co_return Result<void>();
}

// The client lets go with a commit that is to seal and cannot, because a server is joining; nobody comes back to the file.
TEST_F(EndToEnd, AChunkThatItsLastCloseCouldNotSealIsSealedLater) {
  SimCluster cluster(9, {.mounts = 2});
  ASSERT_TRUE(cluster.start());
  cluster.server(2).crash(Crash::kProcess);
  auto opened = cluster.run<Result<FS::HandleId>>(0, [](FS& fs) { return create_open(fs, "late"); });
  ASSERT_DONE(opened);
  Buffer data = pattern(20 << 20, 3);
  auto written = cluster.run<Result<void>>(0, [&](FS& fs) { return write_and_sync(fs, **opened, 0, data); });
  ASSERT_DONE(written);
  cluster.start_server(2);
  auto joining = [&] {
    Result<std::vector<ChunkEntry>> chunks = cluster.master_server()->machine().chunks(ChunkId{}, 1000);
    return chunks && std::ranges::any_of(*chunks, [](const ChunkEntry& entry) {
      return entry.chunk.refs > 0 && entry.chunk.pending && !entry.chunk.pending->joiners.empty();
    });
  };
  ASSERT_TRUE(cluster.simulator().run_until(joining, std::chrono::seconds(120)));
  auto closed = cluster.run<Result<void>>(0, [&](FS& fs) { return close_handle(fs, **opened); });
  ASSERT_DONE(closed);
  cluster.simulator().run_for(std::chrono::seconds(20));
  ASSERT_THAT(chunk_states(cluster), testing::ElementsAre(ChunkState::kOpen)) << "then this test shows nothing";
  cluster.simulator().run_for(std::chrono::seconds(80));
  EXPECT_THAT(chunk_states(cluster), testing::ElementsAre(ChunkState::kSealed));
  expect_content(cluster, 1, "late", data);
}

Task<Result<void>> unlink_name(FS& fs, std::string name) {
  Result<void> done = co_await fs.unlink(kRootInode, name);
  co_return done;
}

// The mount keeps what is not yet written, however long the master is away; its session goes on, because log time stood.
TEST_F(EndToEnd, WhatIsDirtyWhenTheMasterGoesIsWrittenWhenItIsBack) {
  SimCluster cluster(12, {.mounts = 2});
  ASSERT_TRUE(cluster.start());
  // Mount 0 has a chunk open for its file; mount 1 has written nothing yet, and was never granted a chunk.
  FS::HandleId handles[2];
  for (size_t i : {0, 1}) {
    auto opened = cluster.run<Result<FS::HandleId>>(i, [&](FS& fs) { return create_open(fs, std::to_string(i)); });
    ASSERT_DONE(opened);
    handles[i] = **opened;
  }
  auto synced = cluster.run<Result<void>>(0, [&](FS& fs) { return write_and_sync(fs, handles[0], 0, pattern(100, 1)); });
  ASSERT_DONE(synced);
  Buffer data = pattern(200'000, 2);
  SessionId sessions[2];
  for (size_t i : {0, 1}) {
    sessions[i] = cluster.file_system(i)->session();
    auto written =
        cluster.run<Result<void>>(i, [&](FS& fs) -> Task<Result<void>> { return fs.write(handles[i], 0, data); });
    ASSERT_DONE(written);
  }
  cluster.master().crash(Crash::kPower);
  cluster.simulator().run_for(std::chrono::minutes(10));
  for (size_t i : {0, 1}) {
    EXPECT_FALSE(cluster.file_system(i)->unsynced().empty());
    // Whoever waits for it learns that it is not on disk: behind an attempt in the background, a minute each.
    TimePoint asked = cluster.simulator().now();
    auto refused = cluster.run<Result<void>>(
        i, [&](FS& fs) -> Task<Result<void>> { return fs.fsync(handles[i], false); }, std::chrono::minutes(4));
    ASSERT_TRUE(refused.has_value());
    EXPECT_FALSE(refused->has_value());
    EXPECT_LT(cluster.simulator().now() - asked, std::chrono::seconds(130));
  }
  cluster.start_master();
  for (size_t i : {0, 1}) {
    FileSystem* fs = cluster.file_system(i);
    ASSERT_TRUE(cluster.simulator().run_until([&] { return fs->unsynced().empty(); }, std::chrono::seconds(70)));
    EXPECT_EQ(fs->session(), sessions[i]);
    expect_content(cluster, 1 - i, std::to_string(i), data);
  }
}

// More open files than one message tells: a new master hears of all of them before it lets names go.
TEST_F(EndToEnd, AfterARestartOfTheMasterAllOpenFilesAreStillOpen) {
  constexpr int kFiles = 25;
  SimClusterOptions options{.mounts = 2};
  options.client.reclaim_page = 10;
  SimCluster cluster(10, options);
  ASSERT_TRUE(cluster.start());
  std::vector<FS::HandleId> handles;
  for (int i = 0; i < kFiles; ++i) {
    auto opened = cluster.run<Result<FS::HandleId>>(0, [&](FS& fs) { return create_open(fs, std::to_string(i)); });
    ASSERT_DONE(opened);
    handles.push_back(**opened);
    auto written = cluster.run<Result<void>>(
        0, [&](FS& fs) { return write_and_sync(fs, handles.back(), 0, pattern(1000, static_cast<uint8_t>(i))); });
    ASSERT_DONE(written);
  }
  cluster.master().crash(Crash::kProcess);
  cluster.start_master();
  for (int i = 0; i < kFiles; ++i) {
    auto removed = cluster.run<Result<void>>(1, [&](FS& fs) { return unlink_name(fs, std::to_string(i)); });
    ASSERT_DONE(removed);
  }
  cluster.simulator().run_for(std::chrono::seconds(90));  // the grace time of chunks, too
  EXPECT_EQ(cluster.master_server()->machine().counters().chunks, uint64_t{kFiles});
  for (int i = 0; i < kFiles; ++i) {
    FS::HandleId handle = handles[static_cast<size_t>(i)];
    auto read = cluster.run<Result<Payload>>(0, [&](FS& fs) { return read_handle(fs, handle, 1000); });
    ASSERT_DONE(read);
    EXPECT_TRUE(text_of(**read) == pattern(1000, static_cast<uint8_t>(i)).view()) << i;
  }
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

// ---------------------------------------------------------------- what the random simulation found, and rules of
// recovery

struct OpenFile {
  InodeId inode;
  FS::HandleId handle = 0;
};

class OneOpenFile : public EndToEnd {
 protected:
  static Task<Result<OpenFile>> make(FS& fs) {
    Result<Entry> made = co_await fs.create(kRootInode, "file", 0644, {});
    if (!made) co_return made.error();
    Result<FS::HandleId> handle = fs.opened_by_create(made->attributes.inode, {.read = true, .write = true});
    if (!handle) co_return handle.error();
    co_return OpenFile{made->attributes.inode, *handle};
  }
  static Task<Result<void>> write_at(FS& fs, FS::HandleId handle, uint64_t offset, Buffer data) {
    Result<void> written = co_await fs.write(handle, offset, std::move(data));
    co_return written;
  }
  static Task<Result<void>> sync(FS& fs, FS::HandleId handle) {
    Result<void> synced = co_await fs.fsync(handle, false);
    co_return synced;
  }
  static Task<void> write_and_flush(FS* fs, FS::HandleId handle, Buffer data) {
    (void)co_await fs->write(handle, 0, std::move(data));
    (void)co_await fs->flush(handle);
  }
  static Task<void> read_into(FS* fs, std::shared_ptr<std::optional<Result<Payload>>> out) {
    Result<Payload> read = co_await read_file_of(*fs, "file");
    *out = std::move(read);
  }

  // A file with `old_` in it, durable, and open on mount 0.
  void open_file(SimCluster& cluster) {
    auto made = cluster.run<Result<OpenFile>>(0, [](FS& fs) { return make(fs); });
    ASSERT_DONE(made);
    file_ = **made;
    put(cluster, 0, old_, {});
    fsync(cluster, {});
  }
  // `expected`: none for success.
  void put(SimCluster& cluster, uint64_t offset, const Buffer& data, std::optional<ErrorCode> expected) {
    auto done = cluster.run<Result<void>>(0, [&](FS& fs) { return write_at(fs, file_.handle, offset, data); });
    expect(done, expected);
  }
  void fsync(SimCluster& cluster, std::optional<ErrorCode> expected) {
    auto done = cluster.run<Result<void>>(0, [&](FS& fs) { return sync(fs, file_.handle); });
    expect(done, expected);
  }
  static void expect(const std::optional<Result<void>>& done, std::optional<ErrorCode> expected) {
    ASSERT_TRUE(done.has_value()) << "it did not end";
    if (expected) {
      EXPECT_TRUE(done->failed_with(*expected)) << (*done ? "succeeded" : done->error().message());
    } else {
      EXPECT_TRUE(done->has_value()) << done->error().message();
    }
  }
  // The store keeps more than that in reserve.
  static void fill_disk(SimNode& server) {
    DiskSpace space = *server.memory_disk().space("/");
    server.memory_disk().set_capacity(space.total_bytes - space.free_bytes + 128 * kMiB);
    server.simulator().run_for(5s);
  }
  static void empty_disk(SimNode& server) {
    server.memory_disk().set_capacity(SimClusterOptions{}.chunkserver_disk_bytes);
    server.simulator().run_for(5s);
  }
  static void between_servers(SimCluster& cluster, bool blocked) {
    for (size_t a = 0; a < cluster.servers(); ++a) {
      for (size_t b = 0; b < a; ++b) {
        if (blocked) cluster.simulator().block(cluster.server(a), cluster.server(b));
        if (blocked) continue;
        cluster.simulator().reset_connections(cluster.server(a), cluster.server(b));  // nothing is delivered late
        cluster.simulator().unblock(cluster.server(a), cluster.server(b));
      }
    }
  }
  // A writer that dies when only the head of the chain has its last write, `new_`.
  void die_with_a_write_on_one_replica(SimCluster& cluster) {
    open_file(cluster);
    between_servers(cluster, true);
    cluster.mount_node(0).spawn(write_and_flush(cluster.file_system(0), file_.handle, new_));
    cluster.simulator().run_for(300ms);
    cluster.mount_node(0).crash(Crash::kProcess);
    cluster.simulator().run_for(7s);  // the head gives up sending it on; the session has not ended yet
    between_servers(cluster, false);
  }

  Buffer old_ = pattern(200'000, 1);  // long enough for the value log
  Buffer new_ = pattern(200'000, 2);
  OpenFile file_;
};

TEST_F(OneOpenFile, WhereNoOtherServerHasRoomAFullOneIsToldAndNothingThatWasSyncedIsLost) {
  SimCluster cluster(8, {.mounts = 2});
  ASSERT_TRUE(cluster.start());
  open_file(cluster);
  fill_disk(cluster.server(1));
  put(cluster, 0, pattern(200'000, 9), {});  // two of three take it
  fsync(cluster, ErrorCode::kNoSpace);
  empty_disk(cluster.server(1));
  // The numbers of these writes were used before, by those that were given up.
  put(cluster, 0, new_, {});
  fsync(cluster, {});
  for (size_t i = 0; i < cluster.servers(); ++i) {
    cluster.server(i).crash(Crash::kPower);
    cluster.simulator().run_for(2s);
    expect_content(cluster, 1, "file", new_);
    cluster.start_server(i);
    ASSERT_TRUE(cluster.simulator().run_until([&] { return cluster.registered_servers() == 3; }, 60s));
  }
}

TEST_F(OneOpenFile, AWriteThatFailedWhileNobodyWaitedForItIsToldByTheNextFsync) {
  SimCluster cluster(9, {.mounts = 1});
  ASSERT_TRUE(cluster.start());
  open_file(cluster);
  fill_disk(cluster.server(1));
  put(cluster, 0, pattern(5000, 3), {});
  put(cluster, 100'000, pattern(5000, 4), {});  // elsewhere, so that the first is sent
  cluster.simulator().run_for(50ms);            // less than the mount waits before it makes things durable by itself
  fsync(cluster, ErrorCode::kNoSpace);
}

TEST_F(OneOpenFile, AFlippedByteOnAnyServerDoesNotHoldUpTheRecoveryOfADeadWritersChunk) {
  for (size_t victim = 0; victim < 3; ++victim) {
    SimCluster cluster(10, {.mounts = 1});
    ASSERT_TRUE(cluster.start());
    open_file(cluster);
    MemoryDisk& disk = cluster.server(victim).memory_disk();
    std::vector<std::string> segments = *disk.list("/data/log");
    ASSERT_FALSE(segments.empty());
    ASSERT_TRUE(disk.flip_byte("/data/log/" + segments.front(), 20'000));
    cluster.mount_node(0).crash(Crash::kPower);
    for (size_t i = 0; i < cluster.servers(); ++i)
      cluster.server(i).crash(Crash::kPower);
    cluster.master().crash(Crash::kPower);
    ASSERT_TRUE(cluster.start());
    cluster.simulator().run_for(30s);  // the dead writer's session has ended, and all is settled
    expect_content(cluster, 0, "file", old_);
    write(cluster, "another", new_);
    auto opened =
        cluster.run<Result<FS::Opened>>(0, [&](FS& fs) { return fs.open(file_.inode, {.read = true, .write = true}); });
    ASSERT_DONE(opened);
    file_.handle = (*opened)->handle;
    put(cluster, 0, new_, {});
    fsync(cluster, {});
    expect_content(cluster, 0, "file", new_);
  }
}

TEST_F(OneOpenFile, TheReplicaWithMostIsWhatADeadWriterLeft) {
  SimCluster cluster(11, {.mounts = 2});
  ASSERT_TRUE(cluster.start());
  die_with_a_write_on_one_replica(cluster);
  cluster.simulator().run_for(20s);
  for (size_t i = 0; i < cluster.servers(); ++i) {
    cluster.server(i).crash(Crash::kProcess);
    cluster.simulator().run_for(2s);
    expect_content(cluster, 1, "file", new_);
    cluster.start_server(i);
    ASSERT_TRUE(cluster.simulator().run_until([&] { return cluster.registered_servers() == 3; }, 60s));
  }
}

TEST_F(OneOpenFile, NobodyReadsWhatADeadWriterLeftBeforeItIsSettled) {
  SimCluster cluster(12, {.mounts = 2});
  ASSERT_TRUE(cluster.start());
  die_with_a_write_on_one_replica(cluster);
  // Nothing can be settled while the master reaches no server.
  for (size_t i = 0; i < cluster.servers(); ++i)
    cluster.simulator().block(cluster.master(), cluster.server(i));
  cluster.simulator().run_for(12s);  // the session has ended
  auto read = std::make_shared<std::optional<Result<Payload>>>();
  cluster.mount_node(1).spawn(read_into(cluster.file_system(1), read));
  cluster.simulator().run_for(3s);
  EXPECT_FALSE(read->has_value()) << "read before it was settled";
  for (size_t i = 0; i < cluster.servers(); ++i)
    cluster.simulator().unblock(cluster.master(), cluster.server(i));
  ASSERT_TRUE(cluster.simulator().run_until([&] { return read->has_value(); }, 60s));
  ASSERT_TRUE(**read) << (**read).error().message();
  EXPECT_TRUE(text_of(***read) == new_.view());
}

// Rule 1: accepted is not durable, so the writer keeps it. Every replica forgets it, and the fsync brings it all the same.
TEST_F(OneOpenFile, WhatEveryReplicaForgotBeforeTheFsyncIsSentAgain) {
  SimCluster cluster(14, {.mounts = 2});
  ASSERT_TRUE(cluster.start());
  open_file(cluster);
  cluster.mount_node(0).spawn(write_and_flush(cluster.file_system(0), file_.handle, new_));
  cluster.simulator().run_for(100ms);  // less than the mount waits before it makes things durable by itself
  for (size_t i = 0; i < cluster.servers(); ++i)
    cluster.server(i).crash(Crash::kPower);
  for (size_t i = 0; i < cluster.servers(); ++i)
    cluster.start_server(i);
  fsync(cluster, {});
  expect_content(cluster, 1, "file", new_);
}

// One mount sees its own writes, also those that are not durable and that some replicas, or all, have forgotten.
TEST_F(OneOpenFile, WhatReplicasForgotIsNotReadFromThem) {
  for (bool all : {false, true}) {
    SimCluster cluster(16, {.mounts = 1});
    ASSERT_TRUE(cluster.start());
    open_file(cluster);
    cluster.mount_node(0).spawn(write_and_flush(cluster.file_system(0), file_.handle, new_));
    cluster.simulator().run_for(100ms);
    for (size_t i = 0; i < cluster.servers(); ++i) {
      if (all || i < 2) cluster.server(i).crash(Crash::kPower);
    }
    for (size_t i = 0; i < cluster.servers(); ++i) {
      if (all || i < 2) cluster.start_server(i);
    }
    expect_content(cluster, 0, "file", new_);
  }
}

TEST_F(OneOpenFile, AnFsyncWithoutServersEndsAndNothingIsLostWhenTheyAreBack) {
  SimCluster cluster(15, {.mounts = 2});
  ASSERT_TRUE(cluster.start());
  open_file(cluster);
  cluster.mount_node(0).spawn(write_and_flush(cluster.file_system(0), file_.handle, new_));
  cluster.simulator().run_for(100ms);
  for (size_t i = 1; i < cluster.servers(); ++i)
    cluster.server(i).crash(Crash::kPower);
  TimePoint before = cluster.simulator().now();
  fsync(cluster, ErrorCode::kIo);
  EXPECT_LE(cluster.simulator().now() - before, 70s);
  for (size_t i = 1; i < cluster.servers(); ++i)
    cluster.start_server(i);
  fsync(cluster, {});
  expect_content(cluster, 1, "file", new_);
}

}  // namespace
}  // namespace cairn
