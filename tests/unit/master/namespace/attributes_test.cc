// setattr, xattrs, goals, truncate.
#include "common/base/units.h"
#include "tests/unit/master/namespace/machine_fixture.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using SetAttributes = MachineTest;
using Xattr = MachineTest;
using Truncate = MachineTest;
using SetGoal = MachineTest;

TEST_F(SetAttributes, ChangesWhatIsAskedFor) {
  const InodeId f = file(kRootInode, "f");
  const Attributes before = attributes(f);
  const Attributes after =
      mutate(SetAttributesOp{.inode = f, .mode = 04711, .uid = 1, .gid = 2, .atime = -5, .mtime = 77})->attributes;
  EXPECT_EQ(after.mode, 04711u);
  EXPECT_EQ(after.uid, 1u);
  EXPECT_EQ(after.gid, 2u);
  EXPECT_EQ(after.atime, -5);
  EXPECT_EQ(after.mtime, 77);
  EXPECT_GT(after.ctime, before.ctime);
  EXPECT_GT(after.change, before.change);
  EXPECT_EQ(after.data_change, before.data_change);
  EXPECT_EQ(attributes(f), after);
}

TEST_F(SetAttributes, NothingAskedForChangesNothing) {
  const InodeId f = file(kRootInode, "f");
  const Attributes before = attributes(f);
  EXPECT_EQ(mutate(SetAttributesOp{.inode = f})->attributes, before);
  EXPECT_EQ(attributes(f), before);
}

TEST_F(SetAttributes, OwnerChangeTakesSetIdBits) {
  const InodeId f = create(kRootInode, "f", FileType::kRegular, 06755)->attributes.inode;
  EXPECT_EQ(mutate(SetAttributesOp{.inode = f, .uid = 5})->attributes.mode, 0755u);
  const InodeId lock = create(kRootInode, "l", FileType::kRegular, 02644)->attributes.inode;
  EXPECT_EQ(mutate(SetAttributesOp{.inode = lock, .gid = 5})->attributes.mode,
            02644u);  // mandatory locking, not set-gid
  const InodeId d = create(kRootInode, "d", FileType::kDirectory, 02755)->attributes.inode;
  EXPECT_EQ(mutate(SetAttributesOp{.inode = d, .uid = 5})->attributes.mode, 02755u);
}

TEST_F(SetAttributes, GoneInodeIsStale) {
  EXPECT_ERROR(mutate(SetAttributesOp{.inode = InodeId{999}, .mode = 0}), ErrorCode::kStale);
}

TEST_F(SetAttributes, NowIsTheTimeOfTheChange) {
  const InodeId f = file(kRootInode, "f");
  const Attributes after = mutate(SetAttributesOp{.inode = f, .atime_now = true, .mtime_now = true})->attributes;
  EXPECT_EQ(after.atime, after.ctime);
  EXPECT_EQ(after.mtime, after.ctime);
}

TEST_F(Xattr, SetGetListRemove) {
  const InodeId f = file(kRootInode, "f");
  ASSERT_TRUE(mutate(SetXattrOp{.inode = f, .name = "user.b", .value = std::string("\0x", 2)}));
  ASSERT_TRUE(mutate(SetXattrOp{.inode = f, .name = "user.a", .value = ""}));
  EXPECT_EQ(*machine().get_xattr(f, "user.b", ReadMode::kMayBlock), std::string("\0x", 2));
  EXPECT_EQ(*machine().get_xattr(f, "user.a", ReadMode::kMayBlock), "");
  EXPECT_THAT(*machine().list_xattr(f, ReadMode::kMayBlock), ElementsAre("user.a", "user.b"));
  ASSERT_TRUE(mutate(RemoveXattrOp{f, "user.a"}));
  EXPECT_ERROR(machine().get_xattr(f, "user.a", ReadMode::kMayBlock), ErrorCode::kNoData);
  EXPECT_ERROR(mutate(RemoveXattrOp{f, "user.a"}), ErrorCode::kNoData);
  EXPECT_THAT(*machine().list_xattr(f, ReadMode::kMayBlock), ElementsAre("user.b"));
}

TEST_F(Xattr, CreateAndReplaceFlags) {
  const InodeId f = file(kRootInode, "f");
  EXPECT_ERROR(mutate(SetXattrOp{.inode = f, .name = "user.a", .replace_only = true}), ErrorCode::kNoData);
  EXPECT_TRUE(mutate(SetXattrOp{.inode = f, .name = "user.a", .value = "1", .create_only = true}));
  EXPECT_ERROR(mutate(SetXattrOp{.inode = f, .name = "user.a", .create_only = true}), ErrorCode::kExists);
  EXPECT_TRUE(mutate(SetXattrOp{.inode = f, .name = "user.a", .value = "22", .replace_only = true}));
  EXPECT_EQ(*machine().get_xattr(f, "user.a", ReadMode::kMayBlock), "22");
}

TEST_F(Xattr, Limits) {
  const InodeId f = file(kRootInode, "f");
  EXPECT_ERROR(mutate(SetXattrOp{.inode = f, .name = ""}), ErrorCode::kRange);
  EXPECT_ERROR(mutate(SetXattrOp{.inode = f, .name = std::string(256, 'n')}), ErrorCode::kRange);
  EXPECT_ERROR(mutate(SetXattrOp{.inode = f, .name = "user.a", .value = std::string(kMaxXattrValueBytes + 1, 'v')}),
               ErrorCode::kTooBig);
  for (int i = 0; i < 15; ++i) {
    ASSERT_TRUE(mutate(
        SetXattrOp{.inode = f, .name = "user." + std::to_string(i), .value = std::string(kMaxXattrValueBytes, 'v')}));
  }
  ErrorCode last{};
  for (int i = 15; i < 17; ++i) {
    Result<MutationReply> reply = mutate(
        SetXattrOp{.inode = f, .name = "user." + std::to_string(i), .value = std::string(kMaxXattrValueBytes, 'v')});
    if (!reply) last = reply.code();
  }
  EXPECT_EQ(last, ErrorCode::kNoSpace);
}

TEST_F(Xattr, GoWithTheirInodeAtOnceOrByAndBy) {
  const InodeId few = file(kRootInode, "few"), many = file(kRootInode, "many");
  ASSERT_TRUE(mutate(SetXattrOp{.inode = few, .name = "user.a", .value = "1"}));
  for (int i = 0; i < 20; ++i)
    ASSERT_TRUE(mutate(SetXattrOp{.inode = many, .name = "user." + std::to_string(i), .value = "1"}));
  ASSERT_TRUE(unlink(kRootInode, "few"));
  EXPECT_FALSE(machine().work_pending());
  ASSERT_TRUE(unlink(kRootInode, "many"));
  EXPECT_TRUE(machine().work_pending());
  leader.settle();
  bool found = false;
  auto it = leader.store().iterate();
  for (it->seek("x"); it->valid() && it->key().starts_with("x"); it->next())
    found = true;
  EXPECT_FALSE(found);
}

TEST_F(Truncate, OnlyRegularFiles) {
  EXPECT_ERROR(resize(directory(kRootInode, "d"), 0), ErrorCode::kIsDirectory);
  EXPECT_ERROR(resize(create(kRootInode, "p", FileType::kFifo)->attributes.inode, 0), ErrorCode::kInvalid);
  const InodeId f = file(kRootInode, "f");
  EXPECT_ERROR(resize(f, kMaxFileSizeBytes + 1), ErrorCode::kFileTooBig);
  EXPECT_TRUE(resize(f, kMaxFileSizeBytes));
}

TEST_F(Truncate, GrowingChangesOnlyTheSize) {
  const InodeId f = file_with_chunks("f", 1);
  const Attributes before = attributes(f);
  const Attributes after = resize(f, 3 * kChunkSizeBytes)->attributes;
  EXPECT_EQ(after.size, 3 * kChunkSizeBytes);
  EXPECT_EQ(after.allocated_bytes, before.allocated_bytes);
  EXPECT_GT(after.data_change, before.data_change);
  EXPECT_GT(after.mtime, before.mtime);
  const std::vector<FileChunk> chunks = *machine().layout(f, 0, 10, ReadMode::kMayBlock);
  ASSERT_EQ(chunks.size(), 1u);
  EXPECT_EQ(chunks[0].limit, UINT32_MAX);
}

TEST_F(Truncate, DropsWholeChunksAndLimitsTheOneThatIsCut) {
  const InodeId f = file_with_chunks("f", 3);
  EXPECT_EQ(attributes(f).allocated_bytes, 3 * 4096u);
  const uint64_t garbage_before = machine().counters().garbage;
  ASSERT_TRUE(resize(f, kChunkSizeBytes + 100));
  std::vector<FileChunk> chunks = *machine().layout(f, 0, 10, ReadMode::kMayBlock);
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[0].limit, UINT32_MAX);
  EXPECT_EQ(chunks[1].limit, 100u);
  EXPECT_EQ(machine().counters().garbage, garbage_before + 3);
  EXPECT_EQ(machine().counters().chunks, 2u);
  // What was cut off does not come back when the file grows again.
  ASSERT_TRUE(resize(f, 3 * kChunkSizeBytes));
  chunks = *machine().layout(f, 0, 10, ReadMode::kMayBlock);
  ASSERT_EQ(chunks.size(), 2u);
  EXPECT_EQ(chunks[1].limit, 100u);
  // Cut again, above: the limit stays the lower one.
  ASSERT_TRUE(resize(f, kChunkSizeBytes + 500));
  EXPECT_EQ(machine().layout(f, 1, 1, ReadMode::kMayBlock)->at(0).limit, 100u);
}

TEST_F(Truncate, LimitIsLiftedByACommitThatHasTrimmed) {
  const InodeId f = file(kRootInode, "f");
  const ChunkGrant g = grant();
  ASSERT_TRUE(commit(f, 0, g, 8192));
  ASSERT_TRUE(resize(f, 100));
  EXPECT_EQ(attributes(f).allocated_bytes, 4096u);
  ASSERT_TRUE(commit(f, 0, g, 8192));
  EXPECT_EQ(machine().layout(f, 0, 1, ReadMode::kMayBlock)->at(0).limit, 100u);
  EXPECT_EQ(attributes(f).allocated_bytes, 4096u);
  ASSERT_TRUE(commit(f, 0, g, 8192, true));
  EXPECT_EQ(machine().layout(f, 0, 1, ReadMode::kMayBlock)->at(0).limit, UINT32_MAX);
  EXPECT_EQ(attributes(f).allocated_bytes, 8192u);
}

TEST_F(Truncate, ToNothingDropsAll) {
  const InodeId f = file_with_chunks("f", 2);
  ASSERT_TRUE(resize(f, 0));
  EXPECT_THAT(*machine().layout(f, 0, 10, ReadMode::kMayBlock), IsEmpty());
  EXPECT_EQ(attributes(f).allocated_bytes, 0u);
  EXPECT_EQ(machine().counters().chunks, 0u);
  EXPECT_EQ(machine().counters().allocated_bytes, 0u);
}

// A file of 2,000 chunks is more than one entry removes.
class LargeFile : public MachineTest {
 protected:
  static constexpr uint32_t kChunks = 2000;
  void SetUp() override {
    MachineTest::SetUp();
    inode = file(kRootInode, "large");
    write(0, kChunks);
  }
  void write(uint32_t first, uint32_t end) {
    for (uint32_t at = first; at < end; at += 500) {
      const uint32_t count = std::min(500u, end - at);
      const std::vector<ServerId> chain = {ServerId{1}, ServerId{2}, ServerId{3}};
      MutationReply reply = *mutate(GrantChunksOp{.placements = std::vector(count, chain)});
      CommitOp op{.inode = inode, .size_at_least = (at + count) * kChunkSizeBytes};
      for (uint32_t i = 0; i < count; ++i) {
        op.chunks.push_back({.index = at + i, .chunk = reply.grants[i].chunk, .version = 1, .allocated_bytes = 4096});
      }
      ASSERT_TRUE(mutate(op));
    }
  }
  uint64_t visible(uint32_t first, uint32_t count) {
    return machine().layout(inode, first, count, ReadMode::kMayBlock)->size();
  }
  InodeId inode;
};

TEST_F(LargeFile, RemovalIsDoneInSteps) {
  ASSERT_TRUE(unlink(kRootInode, "large"));
  EXPECT_LT(leader.store().changed.size(), 50u);
  EXPECT_TRUE(machine().work_pending());
  leader.tick();
  EXPECT_EQ(machine().counters().chunks, kChunks - 1024);
  leader.settle();
  EXPECT_EQ(machine().counters().chunks, 0u);
  EXPECT_EQ(machine().counters().allocated_bytes, 0u);
  EXPECT_EQ(machine().counters().garbage, 3u * kChunks);
}

TEST_F(LargeFile, TruncateHidesAtOnceWhatItRemovesLater) {
  ASSERT_TRUE(resize(inode, 10 * kChunkSizeBytes));
  EXPECT_TRUE(machine().work_pending());
  ASSERT_TRUE(resize(inode, kChunks * kChunkSizeBytes));
  EXPECT_EQ(visible(0, kChunks), 10u);
  // A new chunk where an old one still waits for its removal, and it stays.
  write(50, 51);
  EXPECT_EQ(visible(0, kChunks), 11u);
  leader.settle();
  EXPECT_EQ(visible(0, kChunks), 11u);
  EXPECT_EQ(machine().counters().chunks, 11u);
  EXPECT_EQ(attributes(inode).allocated_bytes, 11 * 4096u);
  EXPECT_THAT(machine().inode(inode, ReadMode::kMayBlock)->cuts, IsEmpty());
}

TEST_F(LargeFile, TruncatedTwiceAndRemovedBeforeTheFirstIsDone) {
  ASSERT_TRUE(resize(inode, 10 * kChunkSizeBytes));
  ASSERT_TRUE(resize(inode, kChunks * kChunkSizeBytes));
  ASSERT_TRUE(resize(inode, 5 * kChunkSizeBytes));
  EXPECT_EQ(visible(0, kChunks), 5u);
  leader.tick();
  ASSERT_TRUE(unlink(kRootInode, "large"));
  leader.settle();
  EXPECT_EQ(machine().counters().chunks, 0u);
  EXPECT_EQ(machine().counters().allocated_bytes, 0u);
}

TEST_F(SetGoal, ReachesTheChunksByAndBy) {
  const InodeId f = file_with_chunks("f", 3);
  EXPECT_EQ(machine().counters().healthy, 3u);
  ASSERT_TRUE(mutate(SetGoalOp{.inode = f, .goal = 2}));
  leader.settle();
  EXPECT_EQ(machine().counters().over_goal, 3u);
  EXPECT_EQ(machine().chunks_to_repair(ChunkId{}, 10)->size(), 3u);
  EXPECT_EQ(machine().layout(f, 0, 1, ReadMode::kMayBlock)->at(0).chunk.goal, 2);
}

TEST_F(SetGoal, MinCopiesNeverAboveTheGoal) {
  const InodeId f = file(kRootInode, "f");
  EXPECT_EQ(mutate(SetGoalOp{.inode = f, .goal = 1})->attributes.min_copies, 1);
  EXPECT_EQ(mutate(SetGoalOp{.inode = f, .goal = 4, .min_copies = 9})->attributes.min_copies, 4);
  EXPECT_ERROR(mutate(SetGoalOp{.inode = f, .goal = 10}), ErrorCode::kInvalid);
}

}  // namespace
}  // namespace cairn
