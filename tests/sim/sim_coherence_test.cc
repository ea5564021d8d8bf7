// Two mounts see one filesystem: after an operation on one has returned, the other sees it with its next one, without
// time passing in between; and what nobody changes costs no message.
#include <algorithm>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/units.h"
#include "common/runtime/sync.h"
#include "common/runtime/task_group.h"
#include "tests/support/sim_cluster.h"

namespace cairn {
namespace {

using FS = FileSystem;
using namespace std::chrono_literals;

Buffer text(const std::string& bytes) {
  Buffer buffer = Buffer::allocate(bytes.size());
  std::ranges::copy(std::as_bytes(std::span(bytes)), buffer.mutable_span().begin());
  return buffer;
}

Task<Result<void>> write_at(FS& fs, FS::HandleId handle, uint64_t offset, std::string bytes) {
  Result<void> written = co_await fs.write(handle, offset, text(bytes));
  co_return written;
}

Task<bool> close_it(FS& fs, FS::HandleId handle) {
  co_await fs.release(handle);
  co_return true;
}

Task<Result<std::string>> read_at(FS& fs, FS::HandleId handle, uint64_t offset, uint32_t size) {
  Result<Payload> data = co_await fs.read(handle, offset, size);
  if (!data) co_return data.error();
  co_return std::string(flatten(*data).view());
}

class Coherence : public testing::Test {
 protected:
  explicit Coherence(SimClusterOptions options = {.mounts = 2}) : cluster_(11, options) { started_ = cluster_.start(); }
  void SetUp() override { ASSERT_TRUE(started_); }

  template <class T>
  T run(size_t mount, std::function<Task<Result<T>>(FS&)> operation, Duration limit = 120s) {
    auto done = cluster_.run<Result<T>>(mount, std::move(operation), limit);
    if (!done) {
      ADD_FAILURE() << "it did not end";
      return T{};
    }
    if (!*done) {
      ADD_FAILURE() << done->error().message();
      return T{};
    }
    return std::move(**done);
  }
  void run_void(size_t mount, std::function<Task<Result<void>>(FS&)> operation, Duration limit = 120s) {
    auto done = cluster_.run<Result<void>>(mount, std::move(operation), limit);
    ASSERT_TRUE(done.has_value()) << "it did not end";
    ASSERT_TRUE(done->has_value()) << done->error().message();
  }
  InodeId lookup(size_t mount, const std::string& name, InodeId parent = kRootInode) {
    return run<Entry>(mount, [&](FS& fs) { return fs.lookup(parent, name); }).attributes.inode;
  }
  Attributes attributes(size_t mount, InodeId inode) {
    return run<AttributesView>(mount, [&](FS& fs) { return fs.get_attributes(inode); }).attributes;
  }
  InodeId make_directory(size_t mount, const std::string& name, InodeId parent = kRootInode) {
    return run<Entry>(mount, [&](FS& fs) { return fs.make_directory(parent, name, 0755, {}); }).attributes.inode;
  }
  // Made and open.
  FS::HandleId create(size_t mount, const std::string& name, InodeId* inode = nullptr, InodeId parent = kRootInode) {
    InodeId made = run<Entry>(mount, [&](FS& fs) { return fs.create(parent, name, 0644, {}); }).attributes.inode;
    if (inode) *inode = made;
    Result<FS::HandleId> handle = cluster_.file_system(mount)->opened_by_create(made, {.read = true, .write = true});
    EXPECT_TRUE(handle);
    return handle ? *handle : 0;
  }
  FS::HandleId open(size_t mount, InodeId inode, bool write = true) {
    return run<FS::Opened>(mount, [&](FS& fs) { return fs.open(inode, {.read = true, .write = write}); }).handle;
  }
  void close(size_t mount, FS::HandleId handle) {
    (void)cluster_.run<bool>(mount, [&](FS& fs) { return close_it(fs, handle); });
  }
  void write(size_t mount, FS::HandleId handle, uint64_t offset, const std::string& bytes) {
    run_void(mount, [&](FS& fs) { return write_at(fs, handle, offset, bytes); });
  }
  std::string read(size_t mount, FS::HandleId handle, uint64_t offset = 0, uint32_t size = 1 << 20) {
    return run<std::string>(mount, [&](FS& fs) { return read_at(fs, handle, offset, size); });
  }
  std::vector<std::string> list(size_t mount, InodeId directory, bool plus = true) {
    std::vector<std::string> names;
    uint64_t cookie = 0;
    for (;;) {
      FS::Listing listing =
          run<FS::Listing>(mount, [&](FS& fs) { return fs.read_directory(directory, cookie, 100, plus); });
      for (const DirectoryEntry& entry : listing.entries)
        names.push_back(entry.name);
      if (listing.end || listing.entries.empty()) break;
      cookie = listing.entries.back().cookie;
    }
    std::ranges::sort(names);
    return names;
  }
  // Everything that a mount may know of a directory and of a name in it.
  void look(size_t mount, InodeId directory, const std::string& name) {
    (void)attributes(mount, directory);
    (void)list(mount, directory);
    if (InodeId inode = lookup(mount, name, directory)) (void)attributes(mount, inode);
  }
  double requests(size_t mount) {
    return cluster_.mount_node(mount).metrics().counter("cairn_client_master_requests_total", "").value();
  }

  SimCluster cluster_;
  bool started_ = false;
};

class BothWays : public Coherence, public testing::WithParamInterface<size_t> {
 protected:
  size_t here() const { return GetParam(); }
  size_t there() const { return 1 - GetParam(); }
};
INSTANTIATE_TEST_SUITE_P(Coherence, BothWays, testing::Values(0u, 1u));

TEST_P(BothWays, Names) {
  InodeId d = make_directory(0, "d");
  InodeId e = make_directory(1, "e");
  look(here(), d, "a");
  look(there(), d, "a");
  EXPECT_FALSE(lookup(there(), "a", d));
  InodeId file;
  FS::HandleId handle = create(here(), "a", &file, d);
  EXPECT_EQ(lookup(there(), "a", d), file);
  EXPECT_EQ(attributes(there(), d).size, 1u);
  EXPECT_THAT(list(there(), d), testing::ElementsAre("a"));
  look(there(), d, "b");
  run<Entry>(here(), [&](FS& fs) { return fs.link(file, d, "b"); });
  EXPECT_EQ(lookup(there(), "b", d), file);
  EXPECT_EQ(attributes(there(), file).nlink, 2u);
  EXPECT_THAT(list(there(), d), testing::ElementsAre("a", "b"));
  look(there(), e, "c");
  run_void(here(), [&](FS& fs) { return fs.rename(d, "b", e, "c", 0); });
  EXPECT_FALSE(lookup(there(), "b", d));
  EXPECT_EQ(lookup(there(), "c", e), file);
  EXPECT_THAT(list(there(), d), testing::ElementsAre("a"));
  EXPECT_THAT(list(there(), e), testing::ElementsAre("c"));
  run_void(here(), [&](FS& fs) { return fs.unlink(e, "c"); });
  EXPECT_FALSE(lookup(there(), "c", e));
  EXPECT_EQ(attributes(there(), file).nlink, 1u);
  EXPECT_THAT(list(there(), e), testing::IsEmpty());
  run_void(here(), [&](FS& fs) { return fs.remove_directory(kRootInode, "e"); });
  EXPECT_FALSE(lookup(there(), "e"));
  (void)handle;
}

TEST_P(BothWays, AttributesAndExtendedAttributes) {
  InodeId file;
  FS::HandleId handle = create(0, "f", &file);
  (void)handle;
  EXPECT_EQ(attributes(there(), file).mode, 0644u);
  FS::Changes changes;
  changes.mode = 0600;
  changes.mtime = 12345;
  run<AttributesView>(here(), [&](FS& fs) { return fs.set_attributes(file, changes); });
  EXPECT_EQ(attributes(there(), file).mode, 0600u);
  EXPECT_EQ(attributes(there(), file).mtime, 12345);
  EXPECT_EQ(attributes(here(), file).mtime, 12345);
  EXPECT_THAT(run<std::vector<std::string>>(there(), [&](FS& fs) { return fs.list_xattr(file); }), testing::IsEmpty());
  run_void(here(), [&](FS& fs) { return fs.set_xattr(file, "user.a", "1", false, false); });
  EXPECT_EQ(run<std::string>(there(), [&](FS& fs) { return fs.get_xattr(file, "user.a"); }), "1");
  run_void(here(), [&](FS& fs) { return fs.set_xattr(file, "user.a", "2", false, false); });
  EXPECT_EQ(run<std::string>(there(), [&](FS& fs) { return fs.get_xattr(file, "user.a"); }), "2");
  run_void(here(), [&](FS& fs) { return fs.remove_xattr(file, "user.a"); });
  EXPECT_THAT(run<std::vector<std::string>>(there(), [&](FS& fs) { return fs.list_xattr(file); }), testing::IsEmpty());
}

TEST_P(BothWays, DataAndSizes) {
  InodeId file;
  FS::HandleId handles[2];
  handles[here()] = create(here(), "f", &file);
  handles[there()] = open(there(), file);
  EXPECT_EQ(read(there(), handles[there()]), "");
  write(here(), handles[here()], 0, "one");
  EXPECT_EQ(attributes(there(), file).size, 3u);
  EXPECT_EQ(read(there(), handles[there()]), "one");
  write(here(), handles[here()], 0, "two, and more");
  EXPECT_EQ(read(there(), handles[there()]), "two, and more");
  write(there(), handles[there()], 3, "XX");
  EXPECT_EQ(read(here(), handles[here()]), "twoXXand more");
  FS::Changes cut;
  cut.size = 4;
  run<AttributesView>(here(), [&](FS& fs) { return fs.set_attributes(file, cut); });
  EXPECT_EQ(read(there(), handles[there()]), "twoX");
  EXPECT_EQ(attributes(there(), file).size, 4u);
  cut.size = 6;
  run<AttributesView>(there(), [&](FS& fs) { return fs.set_attributes(file, cut); });
  EXPECT_EQ(read(here(), handles[here()]), std::string("twoX\0\0", 6));
  EXPECT_EQ(attributes(here(), file), attributes(there(), file));
}

TEST_F(Coherence, AppendsFromTwoMountsFollowOneAnother) {
  InodeId file;
  FS::HandleId handles[2];
  handles[0] = create(0, "log", &file);
  handles[1] = open(1, file);
  std::string expected;
  for (int i = 0; i < 40; ++i) {
    std::string line = "line " + std::to_string(i) + "\n";
    size_t mount = static_cast<size_t>(i / 3 % 2);
    uint64_t at = run<uint64_t>(mount, [&](FS& fs) { return fs.append(handles[mount], text(line)); });
    EXPECT_EQ(at, expected.size());
    expected += line;
  }
  EXPECT_EQ(read(0, handles[0]), expected);
  EXPECT_EQ(read(1, handles[1]), expected);
}

TEST_F(Coherence, ASecondLookAtAQuietTreeAsksNothing) {
  InodeId d = make_directory(0, "d");
  std::vector<InodeId> files;
  for (int i = 0; i < 250; ++i) {
    InodeId file;
    FS::HandleId handle = create(0, "f" + std::to_string(i), &file, d);
    write(0, handle, 0, "x");
    run_void(0, [&](FS& fs) { return fs.flush(handle); });
    close(0, handle);
    files.push_back(file);
  }
  cluster_.simulator().run_for(2s);
  auto walk = [&](size_t mount) {
    EXPECT_EQ(list(mount, d).size(), 250u);
    EXPECT_FALSE(lookup(mount, "missing", d));
    for (size_t i = 0; i < files.size(); ++i) {
      EXPECT_EQ(lookup(mount, "f" + std::to_string(i), d), files[i]);
      EXPECT_EQ(attributes(mount, files[i]).size, 1u);
      if (i > 20) continue;
      FS::HandleId handle = open(mount, files[i], false);
      EXPECT_EQ(read(mount, handle), "x");
      close(mount, handle);
      EXPECT_THAT(run<std::vector<std::string>>(mount, [&](FS& fs) { return fs.list_xattr(files[i]); }),
                  testing::IsEmpty());
    }
  };
  for (size_t mount : {0u, 1u}) {
    walk(mount);
    cluster_.simulator().run_for(60s);
    double before = requests(mount);
    walk(mount);
    EXPECT_EQ(requests(mount), before) << "mount " << mount;
  }
}

TEST_F(Coherence, AMountThatIsCutOffIsFencedAndTheOtherGoesOn) {
  InodeId file;
  FS::HandleId handles[2];
  handles[0] = create(0, "f", &file);
  handles[1] = open(1, file);
  write(0, handles[0], 0, "durable");
  run_void(0, [&](FS& fs) { return fs.fsync(handles[0], false); });
  write(0, handles[0], 0, "is lost");
  cluster_.mount_node(0).pause();
  TimePoint before = cluster_.simulator().now();
  write(1, handles[1], 7, "!");
  EXPECT_LT(cluster_.simulator().now() - before, 25s);
  EXPECT_EQ(read(1, handles[1], 7), "!");
  cluster_.simulator().run_for(60s);
  cluster_.mount_node(0).resume();
  auto late = cluster_.run<Result<void>>(0, [&](FS& fs) { return fs.fsync(handles[0], false); });
  ASSERT_TRUE(late.has_value());
  EXPECT_FALSE(late->has_value()) << "what was lost is told";
  EXPECT_EQ(read(0, handles[0]), read(1, handles[1]));
}

TEST_F(Coherence, AMountThatWasStoppedForAMinuteServesNothingOld) {
  InodeId d = make_directory(0, "d");
  InodeId file;
  FS::HandleId handle = create(0, "f", &file, d);
  write(0, handle, 0, "old");
  run_void(0, [&](FS& fs) { return fs.fsync(handle, false); });
  FS::HandleId theirs = open(1, file);
  look(1, d, "f");
  EXPECT_EQ(read(1, theirs), "old");
  cluster_.mount_node(1).pause();
  cluster_.simulator().run_for(60s);
  write(0, handle, 0, "new");
  run_void(0, [&](FS& fs) { return fs.rename(d, "f", d, "g", 0); });
  FS::Changes changes;
  changes.mode = 0600;
  run<AttributesView>(0, [&](FS& fs) { return fs.set_attributes(file, changes); });
  cluster_.mount_node(1).resume();
  EXPECT_FALSE(lookup(1, "f", d));
  EXPECT_EQ(lookup(1, "g", d), file);
  EXPECT_EQ(attributes(1, file).mode, 0600u);
  EXPECT_EQ(read(1, theirs), "new");
}

// As the kernel: it lets go of the pages only when what a process had stored in one of them is written.
class StoredPage : public KernelCaches {
 public:
  StoredPage(World& world, FS& fs, FS::HandleId handle)
      : fs_(fs), handle_(handle), writes_(world.executor()), tasks_(world.executor(), world.clock()) {}
  bool synced = false;  // somebody syncs it at once
  Task<void> forget_pages(InodeId) override {
    asked = true;
    while (!write)
      co_await writes_.wait();
    written = co_await fs_.write_pages(handle_, 0, text("stored"));
    if (!synced) co_return;
    tasks_.spawn(sync());
    (void)co_await tasks_.sleep_for(200ms);
  }
  Task<void> forget_attributes(InodeId) override { co_return; }
  Task<void> forget_name(InodeId, std::string) override { co_return; }
  Task<void> forget_everything() override { co_return; }
  void go() {
    write = true;
    writes_.notify_all();
  }

  Task<void> sync() { (void)co_await fs_.fsync(handle_, false); }

  bool asked = false, write = false;
  std::optional<Result<void>> written;

 private:
  FS& fs_;
  FS::HandleId handle_;
  Condition writes_;
  TaskGroup tasks_;
};

class CoherenceOfThree : public Coherence {
 protected:
  CoherenceOfThree() : Coherence({.masters = 3, .mounts = 2}) {}
};

// The one who wanted to write has gone with the master that asked for it: nobody recalls it any more.
TEST_F(CoherenceOfThree, APageStoredInAMappingIsWrittenThoughNobodyAsksForItAnyMore) {
  InodeId file;
  FS::HandleId theirs = create(0, "f", &file);
  write(0, theirs, 0, "before");
  run_void(0, [&](FS& fs) { return fs.fsync(theirs, false); });
  FS::HandleId ours = open(1, file);
  EXPECT_EQ(read(1, ours), "before");
  StoredPage kernel(cluster_.mount_node(1), *cluster_.file_system(1), ours);
  cluster_.file_system(1)->set_kernel_caches(&kernel);
  cluster_.mount_node(0).spawn([](FS& fs, FS::HandleId handle) -> Task<void> {
    (void)co_await fs.write(handle, 0, text("theirs"));
  }(*cluster_.file_system(0), theirs));
  ASSERT_TRUE(cluster_.simulator().run_until([&] { return kernel.asked; }, 5s));
  cluster_.mount_node(0).pause();
  std::optional<size_t> leader = cluster_.leading_master();
  ASSERT_TRUE(leader);
  cluster_.master(*leader).crash(Crash::kProcess);
  ASSERT_TRUE(cluster_.simulator().run_until(
      [&] { return cluster_.leading_master() && cluster_.leading_master() != leader; }, 10s));
  cluster_.simulator().run_for(2s);  // the mount has told it what it holds
  kernel.go();
  // The session of the one who has gone has to end first.
  EXPECT_TRUE(cluster_.simulator().run_until([&] { return kernel.written.has_value(); }, 30s));
  ASSERT_TRUE(kernel.written.has_value());
  EXPECT_TRUE(kernel.written->has_value()) << kernel.written->error().message();
  cluster_.file_system(1)->set_kernel_caches(nullptr);
  EXPECT_EQ(read(1, ours), "stored");
}

// A mount that lost its exclusive lease to a reader keeps the chunk that it has open, and seals it after its last
// close. By then it may be asking for the lease again, and the other mount, which lets go, may have stored in a
// mapping.
TEST_F(Coherence, AChunkThatWasOnlyToBeSealedMayBeSomebodyElsesByThen) {
  for (Duration wait = 0ms; wait < 40ms; wait += 2ms) {
    std::string name = "f" + std::to_string(wait.count());
    InodeId file;
    FS::HandleId first = create(0, name, &file);
    write(0, first, 0, "before");
    run_void(0, [&](FS& fs) { return fs.fsync(first, false); });
    FS::HandleId theirs = open(1, file);
    EXPECT_EQ(read(1, theirs), "before");
    StoredPage kernel(cluster_.mount_node(1), *cluster_.file_system(1), theirs);
    kernel.synced = kernel.write = true;
    cluster_.file_system(1)->set_kernel_caches(&kernel);
    std::optional<Result<void>> written;
    cluster_.mount_node(0).spawn([](FS& fs, FS::HandleId handle, std::optional<Result<void>>* out) -> Task<void> {
      Result<void> done = co_await fs.write(handle, 6, text(" after"));
      *out = std::move(done);
    }(*cluster_.file_system(0), first, &written));
    close(0, first);
    cluster_.simulator().run_for(wait);
    FS::HandleId again = open(0, file);
    ASSERT_TRUE(cluster_.simulator().run_until([&] { return written.has_value(); }, 10s));
    EXPECT_TRUE(written->has_value()) << wait.count() << ": " << written->error().message();
    cluster_.simulator().run_for(1s);
    auto synced = cluster_.run<Result<void>>(0, [&](FS& fs) { return fs.fsync(again, false); });
    ASSERT_TRUE(synced);
    EXPECT_TRUE(synced->has_value()) << wait.count() << ": " << synced->error().message();
    cluster_.file_system(1)->set_kernel_caches(nullptr);
    EXPECT_EQ(read(1, theirs), "stored after");
    EXPECT_EQ(read(0, again), "stored after");
  }
}

// It may have asked for a chunk under the session before: what it had is lost, and there is nothing to send any more.
TEST_F(Coherence, AnFsyncEndsWithItsSession) {
  InodeId file;
  FS::HandleId ours = create(0, "f", &file);
  write(0, ours, 0, "before");
  close(0, ours);
  cluster_.simulator().run_for(1s);
  ours = open(0, file);
  write(0, ours, 0, "after");
  cluster_.simulator().block(cluster_.mount_node(0), cluster_.master(0));
  std::optional<Result<void>> synced;
  cluster_.mount_node(0).spawn([](FS& fs, FS::HandleId handle, std::optional<Result<void>>* out) -> Task<void> {
    Result<void> done = co_await fs.fsync(handle, false);
    *out = std::move(done);
  }(*cluster_.file_system(0), ours, &synced));
  cluster_.simulator().run_for(15s);
  EXPECT_FALSE(synced.has_value());
  cluster_.simulator().unblock_all();
  ASSERT_TRUE(cluster_.simulator().run_until([&] { return synced.has_value(); }, 10s));
  EXPECT_FALSE(synced->has_value());
  write(0, ours, 0, "again");
  run_void(0, [&](FS& fs) { return fs.fsync(ours, false); });
  EXPECT_EQ(read(1, open(1, file)), "againe");
}

// A rename brings a lease on what it moves: what is open goes by what came with it.
TEST_F(Coherence, WhatIsOpenIsReadAsItIsAfterARename) {
  InodeId file;
  close(0, create(0, "f", &file));
  FS::HandleId ours = open(0, file, false);
  FS::HandleId theirs = open(1, file);
  write(1, theirs, 0, "theirs");
  close(1, theirs);
  cluster_.simulator().run_for(10s);  // quiet: they have lowered their lease
  run_void(0, [&](FS& fs) { return fs.rename(kRootInode, "f", kRootInode, "g", 0); });
  EXPECT_EQ(read(0, ours), "theirs");
}

// The seal after a last close, and changes of times, wait at the master for changes by others, which ask this mount.
TEST_F(Coherence, ARecallDoesNotWaitForWhatWaitsForIt) {
  for (Duration wait = 0ms; wait < 40ms; wait += 1ms) {
    std::string name = "f" + std::to_string(wait.count());
    InodeId file;
    FS::HandleId ours = create(0, name, &file);
    write(0, ours, 0, "content");
    run_void(0, [&](FS& fs) { return fs.fsync(ours, false); });
    FS::HandleId theirs = open(1, file);
    EXPECT_EQ(read(1, theirs), "content");
    close(0, ours);
    cluster_.simulator().run_for(wait);
    int done = 0;
    auto change = [](FS& fs, InodeId inode, uint32_t mode, int* count) -> Task<void> {
      FS::Changes changes;
      if (mode % 3 != 0) changes.mode = mode;
      if (mode % 3 != 1) changes.mtime = FileTime(mode);
      auto changed = co_await fs.set_attributes(inode, changes);
      if (changed) ++*count;
    };
    TimePoint began = cluster_.simulator().now();
    for (uint32_t mode = 0600; mode < 0606; ++mode) {
      size_t mount = mode % 2;
      cluster_.mount_node(mount).spawn(change(*cluster_.file_system(mount), file, mode, &done));
    }
    ASSERT_TRUE(cluster_.simulator().run_until([&] { return done == 6; }, 60s));
    EXPECT_LT(cluster_.simulator().now() - began, 1s) << wait.count();
    close(1, theirs);
  }
}

}  // namespace
}  // namespace cairn
