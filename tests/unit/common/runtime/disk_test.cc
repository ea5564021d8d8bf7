// What every disk does, on the real one and on the one in memory.
#include "common/runtime/disk.h"

#include <filesystem>
#include <gtest/gtest.h>
#include <memory>
#include <stdlib.h>
#include <string>
#include <vector>

#include "common/base/buffer.h"
#include "common/runtime/memory_disk.h"
#include "common/runtime/posix_disk.h"

namespace cairn {
namespace {

struct TestDisk {
  std::unique_ptr<Disk> disk;
  std::string folder;
  bool on_real_files = false;
  ~TestDisk() {
    if (on_real_files) std::filesystem::remove_all(folder);
  }
};

std::unique_ptr<TestDisk> make_posix() {
  // On the disk that holds the build, not on a tmpfs: O_DIRECT and holes are meant to be tested.
  std::string folder = std::filesystem::current_path() / "cairn-disk-XXXXXX";
  if (!::mkdtemp(folder.data())) return nullptr;
  return std::unique_ptr<TestDisk>(new TestDisk{make_posix_disk(), folder, true});
}

std::unique_ptr<TestDisk> make_memory() {
  auto disk = std::make_unique<MemoryDisk>();
  EXPECT_TRUE(disk->make_folder("/data"));
  return std::unique_ptr<TestDisk>(new TestDisk{std::move(disk), "/data", false});
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string read_at(File& file, uint64_t offset, size_t size) {
  std::string text(size, '?');
  Result<size_t> got = file.read(offset, std::as_writable_bytes(std::span(text)));
  if (!got) return got.error().message();
  text.resize(*got);
  return text;
}

class DiskTest : public testing::TestWithParam<std::unique_ptr<TestDisk> (*)()> {
 protected:
  std::unique_ptr<TestDisk> test_disk = GetParam()();
  Disk& disk = *test_disk->disk;

  std::string at(const std::string& name) { return test_disk->folder + "/" + name; }
  std::unique_ptr<File> open(const std::string& name, OpenFlags flags = {.create = true}) {
    auto file = disk.open(at(name), flags);
    EXPECT_TRUE(file) << file.error().message();
    return std::move(*file);
  }
  void put(const std::string& name, std::string_view text) {
    Result<void> written = open(name)->write(0, bytes_of(text));
    EXPECT_TRUE(written) << written.error().message();
  }
};

TEST_P(DiskTest, ReadsWhatWasWritten) {
  auto file = open("a");
  ASSERT_TRUE(file->write(0, bytes_of("hello")));
  ASSERT_TRUE(file->write(3, bytes_of("LOW!")));
  EXPECT_EQ(read_at(*file, 0, 100), "helLOW!");
  EXPECT_EQ(read_at(*file, 2, 3), "lLO");
  EXPECT_EQ(read_at(*file, 7, 3), "");
  EXPECT_EQ(read_at(*file, 1'000'000, 3), "");
  EXPECT_EQ(file->size(), 7u);
  EXPECT_EQ(disk.file_size(at("a")), 7u);
}

TEST_P(DiskTest, GapsReadAsZeros) {
  auto file = open("a");
  ASSERT_TRUE(file->write(10'000, bytes_of("x")));
  EXPECT_EQ(read_at(*file, 0, 20'000), std::string(10'000, '\0') + "x");
}

TEST_P(DiskTest, GatherWritesMoreThanASystemCallTakes) {
  std::string expected;
  std::vector<std::string> texts;
  for (int i = 0; i < 2500; ++i)
    texts.push_back(i % 5 == 0 ? "" : std::string(1 + i % 50, static_cast<char>('a' + i % 26)));
  std::vector<std::span<const std::byte>> pieces;
  for (const std::string& text : texts) {
    pieces.push_back(bytes_of(text));
    expected += text;
  }
  auto file = open("a");
  ASSERT_TRUE(file->write_gather(5, pieces));
  EXPECT_EQ(read_at(*file, 5, expected.size() + 1), expected);
}

TEST_P(DiskTest, TruncateCutsAndExtendsWithZeros) {
  auto file = open("a");
  ASSERT_TRUE(file->write(0, bytes_of(std::string(5000, 'x'))));
  ASSERT_TRUE(file->truncate(4097));
  ASSERT_TRUE(file->truncate(4099));
  EXPECT_EQ(read_at(*file, 4090, 100), std::string(7, 'x') + std::string(2, '\0'));
}

TEST_P(DiskTest, AllocateGrowsTheFileUnlessItKeepsItsSize) {
  auto file = open("a");
  ASSERT_TRUE(file->write(0, bytes_of("abc")));
  ASSERT_TRUE(file->allocate(0, 100'000, true));
  EXPECT_EQ(file->size(), 3u);
  ASSERT_TRUE(file->allocate(0, 8192, false));
  EXPECT_EQ(file->size(), 8192u);
  EXPECT_EQ(read_at(*file, 0, 10), std::string("abc") + std::string(7, '\0'));
  EXPECT_TRUE(file->allocate(0, 0, false));
}

TEST_P(DiskTest, PunchedHoleReadsAsZerosAndKeepsTheSize) {
  auto file = open("a");
  ASSERT_TRUE(file->write(0, bytes_of(std::string(20'000, 'x'))));
  ASSERT_TRUE(file->punch_hole(100, 10'000));
  EXPECT_EQ(file->size(), 20'000u);
  EXPECT_EQ(read_at(*file, 0, 20'000), std::string(100, 'x') + std::string(10'000, '\0') + std::string(9900, 'x'));
  ASSERT_TRUE(file->punch_hole(19'000, 1'000'000));
  EXPECT_EQ(file->size(), 20'000u);
}

TEST_P(DiskTest, CachedReadOfWhatWasJustWrittenGivesItOrSaysAgain) {
  auto file = open("a");
  ASSERT_TRUE(file->write(0, bytes_of("hello")));
  std::string text(10, '?');
  Result<size_t> got = file->read_cached(0, std::as_writable_bytes(std::span(text)));
  if (got) {
    EXPECT_EQ(text.substr(0, *got), "hello");
  } else {
    EXPECT_EQ(got.code(), ErrorCode::kAgain);
  }
}

TEST_P(DiskTest, OpenFollowsItsFlags) {
  EXPECT_TRUE(disk.open(at("a"), {}).failed_with(ErrorCode::kNotFound));
  put("a", "text");
  EXPECT_TRUE(disk.open(at("a"), {.create = true, .exclusive = true}).failed_with(ErrorCode::kExists));
  auto reader = open("a", {.read_only = true});
  EXPECT_EQ(read_at(*reader, 0, 10), "text");
  EXPECT_TRUE(reader->write(0, bytes_of("x")).failed_with(ErrorCode::kBadHandle));
  EXPECT_EQ(open("a", {.truncate = true})->size(), 0u);
  EXPECT_TRUE(disk.open(at("no/a"), {.create = true}).failed_with(ErrorCode::kNotFound));
  EXPECT_TRUE(disk.open(at("a/b"), {.create = true}).failed_with(ErrorCode::kNotDirectory));
  EXPECT_TRUE(disk.open(test_disk->folder, {}).failed_with(ErrorCode::kIsDirectory));
}

TEST_P(DiskTest, DirectAccessWantsAlignment) {
  auto opened = disk.open(at("a"), {.create = true, .direct = true});
  if (opened.failed_with(ErrorCode::kInvalid)) GTEST_SKIP() << "this filesystem has no O_DIRECT";
  ASSERT_TRUE(opened);
  Buffer buffer = Buffer::zeros(8192);
  buffer.mutable_span()[5000] = std::byte{'x'};
  File& file = **opened;
  ASSERT_TRUE(file.write(4096, buffer.span()));
  EXPECT_TRUE(file.write(100, buffer.span()).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(file.write(0, buffer.span().subspan(0, 1000)).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(file.write(0, buffer.span().subspan(512, 4096)).failed_with(ErrorCode::kInvalid));
  ASSERT_TRUE(file.truncate(4096 + 5001));
  Buffer out = Buffer::allocate(16384);
  Result<size_t> got = file.read(4096, out.mutable_span());
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_EQ(*got, 5001u);
  EXPECT_EQ(out.view().substr(0, 5001), buffer.view().substr(0, 5001));
}

TEST_P(DiskTest, ListsNamesInOrder) {
  put("b", "");
  put("a", "");
  ASSERT_TRUE(disk.make_folder(at("c/d/e")));
  ASSERT_TRUE(disk.make_folder(at("c/d")));
  EXPECT_EQ(*disk.list(test_disk->folder), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(*disk.list(at("c")), (std::vector<std::string>{"d"}));
  EXPECT_TRUE(disk.list(at("x")).failed_with(ErrorCode::kNotFound));
  EXPECT_TRUE(disk.list(at("a")).failed_with(ErrorCode::kNotDirectory));
  EXPECT_TRUE(disk.make_folder(at("a")).failed_with(ErrorCode::kNotDirectory));
  EXPECT_TRUE(disk.make_folder(at("a/b")).failed_with(ErrorCode::kNotDirectory));
}

TEST_P(DiskTest, RemoveTakesFilesAndEmptyFolders) {
  put("a", "text");
  ASSERT_TRUE(disk.make_folder(at("c/d")));
  EXPECT_EQ(disk.exists(at("a")), true);
  ASSERT_TRUE(disk.remove(at("a")));
  EXPECT_EQ(disk.exists(at("a")), false);
  EXPECT_TRUE(disk.remove(at("a")).failed_with(ErrorCode::kNotFound));
  EXPECT_TRUE(disk.remove(at("c")).failed_with(ErrorCode::kNotEmpty));
  EXPECT_TRUE(disk.remove(at("c/d")));
  put("c/x", "text");
  EXPECT_TRUE(disk.remove_tree(at("c")));
  EXPECT_EQ(disk.exists(at("c")), false);
  EXPECT_TRUE(disk.remove_tree(at("c")));
}

TEST_P(DiskTest, RemovedFileLivesWhileItIsOpen) {
  put("a", "text");
  auto file = open("a");
  ASSERT_TRUE(disk.remove(at("a")));
  put("a", "new");
  EXPECT_EQ(read_at(*file, 0, 10), "text");
}

TEST_P(DiskTest, RenameReplaces) {
  put("a", "new");
  put("b", "old");
  ASSERT_TRUE(disk.rename(at("a"), at("b")));
  EXPECT_EQ(*read_file(disk, at("b")), "new");
  EXPECT_EQ(disk.exists(at("a")), false);
  EXPECT_TRUE(disk.rename(at("a"), at("b")).failed_with(ErrorCode::kNotFound));
  ASSERT_TRUE(disk.make_folder(at("c/d")));
  EXPECT_TRUE(disk.rename(at("b"), at("c")).failed_with(ErrorCode::kIsDirectory));
  EXPECT_TRUE(disk.rename(at("c"), at("b")).failed_with(ErrorCode::kNotDirectory));
  EXPECT_TRUE(disk.rename(at("c"), at("c/d/e")).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(disk.rename(at("b"), at("b")));
  EXPECT_TRUE(disk.rename(at("b"), at("c/d/b")));
  EXPECT_EQ(*read_file(disk, at("c/d/b")), "new");
}

TEST_P(DiskTest, LinkGivesASecondName) {
  put("a", "text");
  ASSERT_TRUE(disk.link(at("a"), at("b")));
  EXPECT_TRUE(disk.link(at("a"), at("b")).failed_with(ErrorCode::kExists));
  ASSERT_TRUE(disk.remove(at("a")));
  put("b", "TE");
  EXPECT_EQ(*read_file(disk, at("b")), "TExt");
}

TEST_P(DiskTest, WholeFilesAreReplacedAtOnce) {
  ASSERT_TRUE(write_file(disk, at("a"), "one"));
  ASSERT_TRUE(write_file(disk, at("a"), "two and more"));
  EXPECT_EQ(*read_file(disk, at("a")), "two and more");
  EXPECT_EQ(disk.list(test_disk->folder)->size(), 1u);
  EXPECT_TRUE(read_file(disk, at("b")).failed_with(ErrorCode::kNotFound));
}

TEST_P(DiskTest, FolderIsLockedOnce) {
  auto first = disk.lock_folder(test_disk->folder);
  ASSERT_TRUE(first);
  EXPECT_TRUE(disk.lock_folder(test_disk->folder).failed_with(ErrorCode::kBusy));
  first->reset();
  EXPECT_TRUE(disk.lock_folder(test_disk->folder));
  EXPECT_TRUE(disk.list(test_disk->folder)->empty());
  EXPECT_TRUE(disk.lock_folder(at("x")).failed_with(ErrorCode::kNotFound));
}

TEST_P(DiskTest, SpaceIsKnown) {
  Result<DiskSpace> space = disk.space(test_disk->folder);
  ASSERT_TRUE(space);
  EXPECT_GT(space->free_bytes, 0u);
  EXPECT_GE(space->total_bytes, space->free_bytes);
}

TEST_P(DiskTest, SyncsSucceed) {
  auto file = open("a");
  ASSERT_TRUE(file->write(0, bytes_of("x")));
  EXPECT_TRUE(file->sync());
  EXPECT_TRUE(disk.sync_folder(test_disk->folder));
  EXPECT_TRUE(disk.sync_folder(at("x")).failed_with(ErrorCode::kNotFound));
}

INSTANTIATE_TEST_SUITE_P(Posix, DiskTest, testing::Values(&make_posix));
INSTANTIATE_TEST_SUITE_P(Memory, DiskTest, testing::Values(&make_memory));

}  // namespace
}  // namespace cairn
