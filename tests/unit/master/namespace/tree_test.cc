// Names: create, link, unlink, rmdir, rename, as Linux does them.
#include "common/base/units.h"
#include "tests/unit/master/namespace/machine_fixture.h"

namespace cairn {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Create = MachineTest;
using Link = MachineTest;
using Remove = MachineTest;
using Rename = MachineTest;

TEST_F(Create, GivesTheAttributesAskedFor) {
  const MutationReply reply = *create(kRootInode, "f", FileType::kRegular, 0640);
  EXPECT_EQ(reply.attributes.type, FileType::kRegular);
  EXPECT_EQ(reply.attributes.mode, 0640u);
  EXPECT_EQ(reply.attributes.uid, 10u);
  EXPECT_EQ(reply.attributes.gid, 20u);
  EXPECT_EQ(reply.attributes.nlink, 1u);
  EXPECT_EQ(reply.attributes.size, 0u);
  EXPECT_EQ(reply.attributes.goal, 3);
  EXPECT_EQ(reply.attributes.min_copies, 2);
  EXPECT_EQ(attributes(reply.attributes.inode), reply.attributes);
  EXPECT_EQ(attributes(kRootInode), reply.parent);
  EXPECT_EQ(reply.parent.size, 1u);
}

TEST_F(Create, MovesTheParentsTimesAndChange) {
  const Attributes before = attributes(kRootInode);
  ASSERT_TRUE(create(kRootInode, "f"));
  const Attributes after = attributes(kRootInode);
  EXPECT_GT(after.mtime, before.mtime);
  EXPECT_GT(after.ctime, before.ctime);
  EXPECT_GT(after.change, before.change);
  EXPECT_EQ(after.atime, before.atime);
}

TEST_F(Create, MovesTheParentsTimesThoughTheClockStandsStill) {
  SessionMutation first = leader.mutation(session, CreateOp{.parent = kRootInode, .name = "a"});
  SessionMutation second = leader.mutation(session, CreateOp{.parent = kRootInode, .name = "b"});
  second.now = first.now;
  const MutationReply a = *leader.ask<MutationReply>(first);
  const MutationReply b = *leader.ask<MutationReply>(second);
  EXPECT_GT(b.parent.mtime, a.parent.mtime);
}

TEST_F(Create, DirectoryHasTwoLinksAndGivesItsParentOne) {
  const MutationReply reply = *create(kRootInode, "d", FileType::kDirectory, 0755);
  EXPECT_EQ(reply.attributes.nlink, 2u);
  EXPECT_EQ(reply.parent.nlink, 3u);
}

TEST_F(Create, ExistingNameFails) {
  file(kRootInode, "f");
  EXPECT_ERROR(create(kRootInode, "f"), ErrorCode::kExists);
  EXPECT_ERROR(create(kRootInode, "f", FileType::kDirectory), ErrorCode::kExists);
}

TEST_F(Create, BadNamesFail) {
  EXPECT_ERROR(create(kRootInode, ""), ErrorCode::kInvalid);
  EXPECT_ERROR(create(kRootInode, "."), ErrorCode::kInvalid);
  EXPECT_ERROR(create(kRootInode, ".."), ErrorCode::kInvalid);
  EXPECT_ERROR(create(kRootInode, "a/b"), ErrorCode::kInvalid);
  EXPECT_ERROR(create(kRootInode, std::string("a\0b", 3)), ErrorCode::kInvalid);
  EXPECT_ERROR(create(kRootInode, std::string(256, 'x')), ErrorCode::kNameTooLong);
  EXPECT_TRUE(create(kRootInode, std::string(255, 'x')));
}

TEST_F(Create, UnderAFileFails) {
  EXPECT_ERROR(create(file(kRootInode, "f"), "x"), ErrorCode::kNotDirectory);
}

TEST_F(Create, UnderARemovedDirectoryIsStale) {
  const InodeId d = directory(kRootInode, "d");
  ASSERT_TRUE(rmdir(kRootInode, "d"));
  EXPECT_ERROR(create(d, "x"), ErrorCode::kStale);
}

TEST_F(Create, SetGidParentGivesItsGroup) {
  const InodeId d = create(kRootInode, "d", FileType::kDirectory, 02775)->attributes.inode;
  ASSERT_TRUE(mutate(SetAttributesOp{.inode = d, .gid = 99}));
  const Attributes f = create(d, "f")->attributes;
  EXPECT_EQ(f.gid, 99u);
  EXPECT_EQ(f.mode, 0644u);
  const Attributes sub = create(d, "sub", FileType::kDirectory, 0755)->attributes;
  EXPECT_EQ(sub.gid, 99u);
  EXPECT_EQ(sub.mode, 02755u);
}

TEST_F(Create, SymlinkKeepsItsTarget) {
  const Attributes a =
      mutate(CreateOp{.parent = kRootInode, .name = "l", .type = FileType::kSymlink, .symlink_target = "to/there"})
          ->attributes;
  EXPECT_EQ(a.size, 8u);
  EXPECT_EQ(a.mode, 0777u);
  EXPECT_EQ(*machine().read_link(a.inode, ReadMode::kMayBlock), "to/there");
  EXPECT_EQ(machine().lookup(kRootInode, "l", ReadMode::kMayBlock)->symlink_target, "to/there");
  EXPECT_ERROR(machine().read_link(kRootInode, ReadMode::kMayBlock), ErrorCode::kInvalid);
}

TEST_F(Create, SymlinkTargetsHaveALimit) {
  EXPECT_ERROR(mutate(CreateOp{.parent = kRootInode, .name = "l", .type = FileType::kSymlink}), ErrorCode::kNotFound);
  EXPECT_ERROR(
      mutate(CreateOp{
          .parent = kRootInode, .name = "l", .type = FileType::kSymlink, .symlink_target = std::string(4096, 'x')}),
      ErrorCode::kNameTooLong);
  EXPECT_TRUE(mutate(CreateOp{
      .parent = kRootInode, .name = "l", .type = FileType::kSymlink, .symlink_target = std::string(4095, 'x')}));
}

TEST_F(Create, OnlyDevicesHaveANumber) {
  EXPECT_EQ(mutate(CreateOp{.parent = kRootInode, .name = "c", .type = FileType::kCharDevice, .rdev = 0x103})
                ->attributes.rdev,
            0x103u);
  EXPECT_EQ(
      mutate(CreateOp{.parent = kRootInode, .name = "p", .type = FileType::kFifo, .rdev = 0x103})->attributes.rdev, 0u);
  EXPECT_ERROR(mutate(CreateOp{.parent = kRootInode, .name = "x", .type = static_cast<FileType>(99)}),
               ErrorCode::kInvalid);
}

TEST_F(Create, GoalComesFromTheDirectory) {
  const InodeId d = directory(kRootInode, "d");
  ASSERT_TRUE(mutate(SetGoalOp{.inode = d, .goal = 5, .min_copies = 4}));
  const Attributes sub = create(d, "sub", FileType::kDirectory)->attributes;
  const Attributes f = create(sub.inode, "f")->attributes;
  EXPECT_EQ(f.goal, 5);
  EXPECT_EQ(f.min_copies, 4);
}

TEST_F(Link, SharesTheInode) {
  const InodeId f = file(kRootInode, "f");
  const MutationReply reply = *link(f, kRootInode, "g");
  EXPECT_EQ(reply.attributes.nlink, 2u);
  EXPECT_EQ(find(kRootInode, "g"), f);
  EXPECT_EQ(reply.new_parent.size, 2u);
}

TEST_F(Link, ErrorsAreThoseOfLinux) {
  const InodeId f = file(kRootInode, "f");
  const InodeId d = directory(kRootInode, "d");
  EXPECT_ERROR(link(f, kRootInode, "d"), ErrorCode::kExists);
  EXPECT_ERROR(link(d, kRootInode, "x"), ErrorCode::kPermission);
  EXPECT_ERROR(link(f, f, "x"), ErrorCode::kNotDirectory);
  EXPECT_ERROR(link(InodeId{999}, kRootInode, "x"), ErrorCode::kStale);
  ASSERT_TRUE(unlink(kRootInode, "f", {session}));
  EXPECT_ERROR(link(f, kRootInode, "x"), ErrorCode::kNotFound);
}

TEST_F(Link, HasALimit) {
  const InodeId f = file(kRootInode, "f");
  // All links in few entries: only the last steps matter.
  std::vector<Command> links;
  for (uint32_t i = 1; i < kMaxLinks; ++i)
    links.push_back(leader.mutation(session, LinkOp{f, kRootInode, "l" + std::to_string(i)}));
  for (const Reply& reply : leader.entry(std::move(links)))
    ASSERT_TRUE(reply);
  EXPECT_EQ(attributes(f).nlink, kMaxLinks);
  EXPECT_ERROR(link(f, kRootInode, "one-too-many"), ErrorCode::kTooManyLinks);
}

TEST_F(Remove, UnlinkTakesOneName) {
  const InodeId f = file(kRootInode, "f");
  ASSERT_TRUE(link(f, kRootInode, "g"));
  const MutationReply reply = *unlink(kRootInode, "f");
  EXPECT_EQ(reply.attributes.nlink, 1u);
  EXPECT_EQ(reply.parent.size, 1u);
  EXPECT_FALSE(find(kRootInode, "f"));
  EXPECT_EQ(find(kRootInode, "g"), f);
}

TEST_F(Remove, LastNameTakesTheInode) {
  const InodeId f = file(kRootInode, "f");
  EXPECT_EQ(machine().counters().inodes, 2u);
  EXPECT_EQ(unlink(kRootInode, "f")->attributes.nlink, 0u);
  EXPECT_ERROR(machine().get_attributes(f, ReadMode::kMayBlock), ErrorCode::kStale);
  EXPECT_EQ(machine().counters().inodes, 1u);
}

TEST_F(Remove, ErrorsAreThoseOfLinux) {
  const InodeId d = directory(kRootInode, "d");
  file(kRootInode, "f");
  file(d, "in");
  EXPECT_ERROR(unlink(kRootInode, "d"), ErrorCode::kIsDirectory);
  EXPECT_ERROR(unlink(kRootInode, "none"), ErrorCode::kNotFound);
  EXPECT_ERROR(rmdir(kRootInode, "f"), ErrorCode::kNotDirectory);
  EXPECT_ERROR(rmdir(kRootInode, "d"), ErrorCode::kNotEmpty);
  EXPECT_ERROR(rmdir(kRootInode, "none"), ErrorCode::kNotFound);
  EXPECT_ERROR(rmdir(kRootInode, "."), ErrorCode::kInvalid);
}

TEST_F(Remove, RmdirTakesTheParentsLink) {
  directory(kRootInode, "d");
  const MutationReply reply = *rmdir(kRootInode, "d");
  EXPECT_EQ(reply.parent.nlink, 2u);
  EXPECT_EQ(reply.attributes.nlink, 0u);
}

TEST_F(Remove, OpenFileStaysAsAnOrphanUntilTheLastHolderLetsGo) {
  const SessionId other = leader.open_session();
  const InodeId f = file(kRootInode, "f");
  ASSERT_TRUE(unlink(kRootInode, "f", {other, session, session, SessionId{999}}));
  EXPECT_EQ(attributes(f).nlink, 0u);
  EXPECT_THAT(*machine().orphan_holders(f, ReadMode::kMayBlock), ElementsAre(session, other));
  EXPECT_EQ(machine().counters().orphans, 1u);
  ASSERT_TRUE(mutate(ReleaseOrphansOp{{f}}));
  EXPECT_EQ(attributes(f).nlink, 0u);
  ASSERT_TRUE(mutate(ReleaseOrphansOp{{f}}));
  ASSERT_TRUE(leader.mutate(other, ReleaseOrphansOp{{f}}));
  EXPECT_ERROR(machine().get_attributes(f, ReadMode::kMayBlock), ErrorCode::kStale);
  EXPECT_EQ(machine().counters().orphans, 0u);
}

TEST_F(Remove, HolderThatHasEndedDoesNotCount) {
  const SessionId other = leader.open_session();
  ASSERT_TRUE(leader.tell(EndSession{other}));
  const InodeId f = file(kRootInode, "f");
  ASSERT_TRUE(unlink(kRootInode, "f", {other}));
  EXPECT_ERROR(machine().get_attributes(f, ReadMode::kMayBlock), ErrorCode::kStale);
}

TEST_F(Rename, MovesAFile) {
  const InodeId d = directory(kRootInode, "d");
  const InodeId f = file(kRootInode, "f");
  const MutationReply reply = *rename(kRootInode, "f", d, "g");
  EXPECT_EQ(reply.attributes.inode, f);
  EXPECT_EQ(reply.parent.inode, kRootInode);
  EXPECT_EQ(reply.new_parent.inode, d);
  EXPECT_FALSE(reply.replaced.inode);
  EXPECT_FALSE(find(kRootInode, "f"));
  EXPECT_EQ(find(d, "g"), f);
  EXPECT_EQ(attributes(kRootInode).size, 1u);
  EXPECT_EQ(attributes(d).size, 1u);
}

TEST_F(Rename, MovesADirectoryWithItsLinks) {
  const InodeId a = directory(kRootInode, "a");
  const InodeId b = directory(kRootInode, "b");
  const InodeId sub = directory(a, "sub");
  ASSERT_TRUE(rename(a, "sub", b, "sub"));
  EXPECT_EQ(attributes(a).nlink, 2u);
  EXPECT_EQ(attributes(b).nlink, 3u);
  EXPECT_EQ(machine().read_directory(sub, 0, 10, false, ReadMode::kMayBlock)->parent, b);
}

TEST_F(Rename, ReplacesAFile) {
  const InodeId f = file(kRootInode, "f");
  const InodeId g = file(kRootInode, "g");
  const MutationReply reply = *rename(kRootInode, "f", kRootInode, "g");
  EXPECT_EQ(reply.replaced.inode, g);
  EXPECT_EQ(reply.replaced.nlink, 0u);
  EXPECT_EQ(find(kRootInode, "g"), f);
  EXPECT_EQ(attributes(kRootInode).size, 1u);
  EXPECT_ERROR(machine().get_attributes(g, ReadMode::kMayBlock), ErrorCode::kStale);
}

TEST_F(Rename, ReplacedOpenFileBecomesAnOrphan) {
  file(kRootInode, "f");
  const InodeId g = file(kRootInode, "g");
  ASSERT_TRUE(mutate(
      RenameOp{.parent = kRootInode, .name = "f", .new_parent = kRootInode, .new_name = "g", .holders = {session}}));
  EXPECT_EQ(attributes(g).nlink, 0u);
  EXPECT_THAT(*machine().orphan_holders(g, ReadMode::kMayBlock), ElementsAre(session));
}

TEST_F(Rename, ReplacesAnEmptyDirectory) {
  const InodeId a = directory(kRootInode, "a");
  const InodeId b = directory(kRootInode, "b");
  ASSERT_TRUE(rename(kRootInode, "a", kRootInode, "b"));
  EXPECT_EQ(find(kRootInode, "b"), a);
  EXPECT_EQ(attributes(kRootInode).nlink, 3u);
  EXPECT_ERROR(machine().get_attributes(b, ReadMode::kMayBlock), ErrorCode::kStale);
}

TEST_F(Rename, ReplacingNonEmptyDirectoryFails) {
  directory(kRootInode, "a");
  file(directory(kRootInode, "b"), "x");
  EXPECT_ERROR(rename(kRootInode, "a", kRootInode, "b"), ErrorCode::kNotEmpty);
}

TEST_F(Rename, TypesMustMatch) {
  directory(kRootInode, "d");
  file(kRootInode, "f");
  EXPECT_ERROR(rename(kRootInode, "d", kRootInode, "f"), ErrorCode::kNotDirectory);
  EXPECT_ERROR(rename(kRootInode, "f", kRootInode, "d"), ErrorCode::kIsDirectory);
}

TEST_F(Rename, IntoOwnSubtreeFails) {
  const InodeId a = directory(kRootInode, "a");
  const InodeId b = directory(a, "b");
  const InodeId c = directory(b, "c");
  EXPECT_ERROR(rename(kRootInode, "a", a, "x"), ErrorCode::kInvalid);
  EXPECT_ERROR(rename(kRootInode, "a", c, "x"), ErrorCode::kInvalid);
}

TEST_F(Rename, OntoAnAncestorFails) {
  const InodeId a = directory(kRootInode, "a");
  const InodeId b = directory(a, "b");
  file(b, "f");
  directory(b, "d");
  EXPECT_ERROR(rename(b, "f", kRootInode, "a"), ErrorCode::kNotEmpty);
  EXPECT_ERROR(rename(b, "d", kRootInode, "a"), ErrorCode::kNotEmpty);
  EXPECT_ERROR(mutate(RenameOp{.parent = b, .name = "d", .new_parent = kRootInode, .new_name = "a", .exchange = true}),
               ErrorCode::kInvalid);
}

TEST_F(Rename, OntoAnotherNameOfTheInodeDoesNothing) {
  const InodeId f = file(kRootInode, "f");
  ASSERT_TRUE(link(f, kRootInode, "g"));
  const Attributes before = attributes(f);
  const Attributes root_before = attributes(kRootInode);
  ASSERT_TRUE(rename(kRootInode, "f", kRootInode, "g"));
  EXPECT_EQ(attributes(f), before);
  EXPECT_EQ(attributes(kRootInode), root_before);
  EXPECT_THAT(names(kRootInode), ElementsAre("f", "g"));
}

TEST_F(Rename, OntoItselfDoesNothing) {
  const InodeId d = directory(kRootInode, "d");
  ASSERT_TRUE(rename(kRootInode, "d", kRootInode, "d"));
  EXPECT_EQ(find(kRootInode, "d"), d);
}

TEST_F(Rename, NoReplaceFailsOnAnExistingName) {
  file(kRootInode, "f");
  file(kRootInode, "g");
  EXPECT_ERROR(mutate(RenameOp{
                   .parent = kRootInode, .name = "f", .new_parent = kRootInode, .new_name = "g", .no_replace = true}),
               ErrorCode::kExists);
  EXPECT_TRUE(mutate(
      RenameOp{.parent = kRootInode, .name = "f", .new_parent = kRootInode, .new_name = "h", .no_replace = true}));
}

TEST_F(Rename, ExchangeSwapsAFileAndADirectory) {
  const InodeId a = directory(kRootInode, "a");
  const InodeId f = file(a, "f");
  const InodeId d = directory(kRootInode, "d");
  const MutationReply reply =
      *mutate(RenameOp{.parent = a, .name = "f", .new_parent = kRootInode, .new_name = "d", .exchange = true});
  EXPECT_EQ(reply.attributes.inode, f);
  EXPECT_EQ(reply.replaced.inode, d);
  EXPECT_EQ(find(a, "f"), d);
  EXPECT_EQ(find(kRootInode, "d"), f);
  EXPECT_EQ(attributes(a).nlink, 3u);
  EXPECT_EQ(attributes(kRootInode).nlink, 3u);
  EXPECT_EQ(machine().read_directory(d, 0, 1, false, ReadMode::kMayBlock)->parent, a);
}

TEST_F(Rename, FlagsThatExcludeOneAnother) {
  file(kRootInode, "f");
  EXPECT_ERROR(mutate(RenameOp{.parent = kRootInode,
                               .name = "f",
                               .new_parent = kRootInode,
                               .new_name = "g",
                               .no_replace = true,
                               .exchange = true}),
               ErrorCode::kInvalid);
  EXPECT_ERROR(
      mutate(RenameOp{.parent = kRootInode, .name = "f", .new_parent = kRootInode, .new_name = "g", .exchange = true}),
      ErrorCode::kNotFound);
  EXPECT_ERROR(rename(kRootInode, "none", kRootInode, "g"), ErrorCode::kNotFound);
}

using ReadDirectory = MachineTest;

TEST_F(ReadDirectory, CookiesStayWhileTheDirectoryChanges) {
  for (const char* name : {"a", "b", "c", "d"})
    file(kRootInode, name);
  ReadDirectoryReply first = *machine().read_directory(kRootInode, 0, 2, false, ReadMode::kMayBlock);
  EXPECT_FALSE(first.end);
  ASSERT_EQ(first.entries.size(), 2u);
  EXPECT_GT(first.entries[0].cookie, 2u);
  ASSERT_TRUE(unlink(kRootInode, "a"));
  ASSERT_TRUE(unlink(kRootInode, "b"));
  file(kRootInode, "e");
  ReadDirectoryReply rest =
      *machine().read_directory(kRootInode, first.entries[1].cookie, 10, true, ReadMode::kMayBlock);
  EXPECT_TRUE(rest.end);
  ASSERT_EQ(rest.entries.size(), 3u);
  EXPECT_EQ(rest.entries[0].name, "c");
  EXPECT_EQ(rest.entries[2].name, "e");
  EXPECT_EQ(rest.entries[2].attributes->inode, rest.entries[2].inode);
}

TEST_F(ReadDirectory, ReplacedNameKeepsItsPlace) {
  for (const char* name : {"a", "b", "c"})
    file(kRootInode, name);
  ASSERT_TRUE(rename(kRootInode, "c", kRootInode, "a"));
  EXPECT_THAT(names(kRootInode), ElementsAre("a", "b"));
}

TEST_F(ReadDirectory, LargeDirectoryInPages) {
  std::vector<Command> creates;
  for (int i = 0; i < 1000; ++i)
    creates.push_back(leader.mutation(session, CreateOp{.parent = kRootInode, .name = std::to_string(i)}));
  leader.entry(std::move(creates));
  uint64_t cookie = 0;
  int seen = 0;
  for (bool end = false; !end;) {
    ReadDirectoryReply page = *machine().read_directory(kRootInode, cookie, 77, false, ReadMode::kMayBlock);
    for (const DirectoryEntry& entry : page.entries)
      EXPECT_EQ(entry.name, std::to_string(seen++));
    end = page.end;
    ASSERT_TRUE(end || page.entries.size() == 77);
    if (!page.entries.empty()) cookie = page.entries.back().cookie;
  }
  EXPECT_EQ(seen, 1000);
}

TEST_F(ReadDirectory, OfAFileFails) {
  EXPECT_ERROR(machine().read_directory(file(kRootInode, "f"), 0, 1, false, ReadMode::kMayBlock),
               ErrorCode::kNotDirectory);
  EXPECT_THAT(names(directory(kRootInode, "d")), IsEmpty());
}

TEST_F(ReadDirectory, DotAndDotDotCanBeLookedUp) {
  const InodeId a = directory(kRootInode, "a");
  const InodeId b = directory(a, "b");
  EXPECT_EQ(find(b, ".."), a);
  EXPECT_EQ(find(b, "."), b);
  EXPECT_EQ(find(kRootInode, ".."), kRootInode);
}

}  // namespace
}  // namespace cairn
