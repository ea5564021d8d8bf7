// Random operations, on memory and on LevelDB, with caches of any size and restarts in between, compared with a plain
// model of a tree; at the end everything is removed, and no record may be left behind.
#include "common/base/random.h"

#include "tests/unit/master/namespace/machine_fixture.h"
#include "tests/unit/master/namespace/tree_model.h"

namespace cairn {
namespace {

class RandomTree {
 public:
  RandomTree(uint64_t seed, std::unique_ptr<KvStore> store)
      : leader_(std::move(store)), random_(make_seeded_random(seed)) {
    leader_.make_cluster();
    leader_.add_servers({1, 2, 3});
    sessions_ = {leader_.open_session(), leader_.open_session()};
  }

  void run(int steps) {
    for (int step = 0; step < steps && !::testing::Test::HasFailure(); ++step) {
      SCOPED_TRACE("step " + std::to_string(step));
      one_step();
      if (random_->chance(1, 2000)) leader_.restart(random_->below(2) == 0 ? 2000 : 1 << 20);
      if (step % 1000 == 999) compare();
    }
    compare();
    remove_everything();
  }

 private:
  // ------------------------------------------------------------ drawing
  InodeId any_inode() {
    if (random_->chance(1, 200)) return InodeId{1 + random_->below(10'000)};  // mostly gone
    auto it = model_.nodes.lower_bound(InodeId{random_->below(highest_.value + 1)});
    return it == model_.nodes.end() ? kRootInode : it->first;
  }
  InodeId any_directory() {
    for (int i = 0; i < 10; ++i) {
      const InodeId id = any_inode();
      if (model_.nodes.contains(id) && model_.nodes.at(id).is_directory()) return id;
    }
    return random_->chance(1, 5) ? any_inode() : kRootInode;
  }
  std::string any_name() {
    if (random_->chance(1, 300)) {
      static const std::string kOdd[] = {"", ".", "..", "a/b", std::string(256, 'x'), std::string(255, 'y')};
      return kOdd[random_->below(std::size(kOdd))];
    }
    return "n" + std::to_string(random_->below(12));
  }
  // One that is there, mostly.
  std::string name_in(InodeId directory) {
    auto node = model_.nodes.find(directory);
    if (node == model_.nodes.end() || node->second.entries.empty() || random_->chance(1, 8)) return any_name();
    auto it = node->second.entries.begin();
    std::advance(it, static_cast<long>(random_->below(node->second.entries.size())));
    return it->first;
  }
  std::vector<SessionId> any_holders() {
    std::vector<SessionId> holders;
    for (SessionId session : sessions_) {
      if (random_->chance(1, 4)) holders.push_back(session);
    }
    return holders;
  }
  SessionId any_session() { return sessions_[random_->below(sessions_.size())]; }

  // ------------------------------------------------------------ doing
  void one_step() {
    switch (random_->below(16)) {
      case 0:
      case 1:
      case 2:
        return create();
      case 3:
        return check(LinkOp{any_inode(), any_directory(), any_name()}, [&](const auto& op) { return model_.link(op); });
      case 4:
      case 5:
        return unlink();
      case 6:
        return rmdir();
      case 7:
      case 8:
      case 9:
        return rename();
      case 10:
        return resize();
      case 11:
        return commit();
      case 12:
        return xattr();
      case 13:
        return release();
      case 14:
        return chmod();
      case 15:
        return leader_.tick(random_->below(2));
    }
  }

  template <class Op, class Expect>
  void check(const Op& op, Expect expect) {
    const Result<MutationReply> reply = leader_.mutate(any_session(), op);
    same(reply, expect(op), typeid(Op).name());
  }
  void same(const Result<MutationReply>& reply, ErrorCode expected, const char* what) {
    const ErrorCode got = reply ? TreeModel::kOk : reply.error().code;
    EXPECT_EQ(got, expected) << what << ": " << to_string(got) << " instead of " << to_string(expected);
  }

  void create() {
    static constexpr FileType kTypes[] = {FileType::kRegular,   FileType::kRegular,   FileType::kRegular,
                                          FileType::kDirectory, FileType::kDirectory, FileType::kSymlink,
                                          FileType::kFifo};
    CreateOp op{.parent = any_directory(),
                .name = any_name(),
                .type = kTypes[random_->below(std::size(kTypes))],
                .mode = static_cast<uint32_t>(random_->below(01000)),
                .gid = static_cast<uint32_t>(random_->below(3))};
    if (op.type == FileType::kDirectory && random_->chance(1, 4)) op.mode |= 02000;
    if (op.type == FileType::kSymlink) op.symlink_target = "to/" + op.name;
    const Result<MutationReply> reply = leader_.mutate(any_session(), op);
    const InodeId made = reply ? reply->attributes.inode : InodeId{};
    same(reply, model_.create(op, made), "create");
    if (reply) {
      EXPECT_GT(made, highest_) << "a number was used again";
      highest_ = made;
    }
  }
  void unlink() {
    const InodeId parent = any_directory();
    check(UnlinkOp{parent, name_in(parent), any_holders()}, [&](const auto& op) { return model_.unlink(op); });
  }
  void rmdir() {
    const InodeId parent = any_directory();
    check(RmdirOp{parent, name_in(parent)}, [&](const auto& op) { return model_.rmdir(op); });
  }
  void rename() {
    RenameOp op{.parent = any_directory(), .new_parent = any_directory()};
    if (random_->chance(1, 3)) op.new_parent = op.parent;
    op.name = name_in(op.parent);
    op.new_name = random_->chance(1, 2) ? name_in(op.new_parent) : any_name();
    op.no_replace = random_->chance(1, 8);
    op.exchange = random_->chance(1, 6);
    op.holders = any_holders();
    check(op, [&](const auto& o) { return model_.rename(o); });
  }
  void resize() {
    const InodeId inode = any_inode();
    const uint64_t size = random_->below(4) * kChunkSizeBytes + random_->below(3) * 1000;
    const Result<MutationReply> reply = leader_.mutate(any_session(), SetAttributesOp{.inode = inode, .size = size});
    same(reply, model_.resize(inode, size), "resize");
  }
  void chmod() {
    const InodeId inode = any_inode();
    const auto mode = static_cast<uint32_t>(random_->below(01000));
    const Result<MutationReply> reply = leader_.mutate(any_session(), SetAttributesOp{.inode = inode, .mode = mode});
    EXPECT_EQ(reply.has_value(), model_.nodes.contains(inode));
    if (reply) model_.nodes.at(inode).mode = mode;
  }
  void commit() {
    const InodeId inode = any_inode();
    const auto index = static_cast<uint32_t>(random_->below(4));
    const SessionId session = sessions_[0];
    ChunkId chunk;
    auto node = model_.nodes.find(inode);
    const bool there = node != model_.nodes.end() && node->second.chunks.contains(index);
    if (there && !random_->chance(1, 10)) {
      chunk = node->second.chunks.at(index).id;
    } else {
      chunk = leader_.mutate(session, GrantChunksOp{.placements = {{ServerId{1}, ServerId{2}, ServerId{3}}}})
                  ->grants[0]
                  .chunk;
    }
    const uint64_t end = index * kChunkSizeBytes + 1 + random_->below(5000);
    const bool trimmed = random_->chance(1, 2);
    const Result<MutationReply> reply = leader_.mutate(
        session,
        CommitOp{
            .inode = inode,
            .size_at_least = end,
            .chunks = {{.index = index, .chunk = chunk, .version = 1, .allocated_bytes = 8192, .trimmed = trimmed}}});
    same(reply, model_.commit(inode, index, chunk, end, trimmed), "commit");
    if (!reply) {
      ASSERT_TRUE(leader_.mutate(session, ReturnChunksOp{{chunk}}));
    }
  }
  void xattr() {
    const std::string name = "user." + std::to_string(random_->below(4));
    if (random_->chance(1, 3)) {
      return check(RemoveXattrOp{any_inode(), name}, [&](const auto& op) { return model_.remove_xattr(op); });
    }
    SetXattrOp op{.inode = any_inode(), .name = name, .value = std::string(random_->below(40), 'v')};
    op.create_only = random_->chance(1, 5);
    op.replace_only = !op.create_only && random_->chance(1, 5);
    check(op, [&](const auto& o) { return model_.set_xattr(o); });
  }
  void release() {
    const SessionId session = any_session();
    const InodeId inode = any_inode();
    ASSERT_TRUE(leader_.mutate(session, ReleaseOrphansOp{{inode}}));
    model_.release(session, inode);
  }

  // ------------------------------------------------------------ comparing
  void compare() {
    Machine& machine = leader_.machine();
    uint64_t orphans = 0, open_chunks = 0;
    for (const auto& [id, node] : model_.nodes) {
      Result<InodeRecord> found = machine.inode(id, ReadMode::kMayBlock);
      ASSERT_TRUE(found) << to_string(id);
      const Attributes& a = found->attributes;
      EXPECT_EQ(a.type, node.type);
      EXPECT_EQ(a.mode, node.mode) << to_string(id);
      EXPECT_EQ(a.gid, node.gid);
      EXPECT_EQ(a.nlink, model_.nlink(id)) << to_string(id);
      EXPECT_EQ(found->symlink_target, node.target);
      EXPECT_EQ(found->xattr_count, node.xattrs.size());
      if (node.type == FileType::kRegular) {
        EXPECT_EQ(a.size, node.size) << to_string(id);
      }
      orphans += !node.holders.empty();
      open_chunks += node.chunks.size();
      compare_chunks(id, node);
      for (const auto& [name, value] : node.xattrs)
        EXPECT_EQ(*machine.get_xattr(id, name, ReadMode::kMayBlock), value);
      if (node.is_directory()) compare_listing(id, node);
    }
    const CounterRecord counters = machine.counters();
    EXPECT_EQ(counters.inodes, model_.nodes.size());
    EXPECT_EQ(counters.orphans, orphans);
    EXPECT_EQ(counters.chunks, open_chunks);
    EXPECT_EQ(counters.healthy, open_chunks);
    EXPECT_EQ(counters.granted, 0u);
  }
  void compare_listing(InodeId id, const TreeModel::Node& node) {
    const ReadDirectoryReply listing = *leader_.machine().read_directory(id, 0, 4000, true, ReadMode::kMayBlock);
    EXPECT_TRUE(listing.end);
    EXPECT_EQ(listing.parent, node.parent);
    EXPECT_EQ(listing.directory.size, node.entries.size());
    std::map<std::string, InodeId> entries;
    for (const DirectoryEntry& entry : listing.entries) {
      entries[entry.name] = entry.inode;
      ASSERT_TRUE(entry.attributes);
      EXPECT_EQ(entry.attributes->type, entry.type);
      EXPECT_EQ(leader_.machine().lookup(id, entry.name, ReadMode::kMayBlock)->attributes, *entry.attributes);
    }
    EXPECT_EQ(entries, node.entries);
  }
  void compare_chunks(InodeId id, const TreeModel::Node& node) {
    std::map<uint32_t, std::pair<ChunkId, uint32_t>> expected, got;
    for (const auto& [index, chunk] : node.chunks)
      expected[index] = {chunk.id, chunk.limit};
    for (const FileChunk& chunk : *leader_.machine().layout(id, 0, 1000, ReadMode::kMayBlock))
      got[chunk.index] = {chunk.id, chunk.limit};
    EXPECT_EQ(got, expected) << to_string(id);
  }

  void remove_everything() {
    remove_below(kRootInode);
    for (const auto& [name, value] : model_.nodes.at(kRootInode).xattrs) {
      ASSERT_TRUE(leader_.mutate(sessions_[0], RemoveXattrOp{kRootInode, name}));
    }
    for (SessionId session : sessions_)
      ASSERT_TRUE(leader_.tell(EndSession{session}));
    leader_.settle();
    leader_.tick();
    for (uint64_t server : {1, 2, 3}) {
      std::vector<GarbageEntry> due;
      do {
        due = *leader_.machine().due_garbage(ServerId{server}, UINT64_MAX, 1000);
        RemoveGarbage remove{.server = ServerId{server}};
        for (const GarbageEntry& entry : due)
          remove.chunks.push_back(entry.chunk);
        ASSERT_TRUE(leader_.tell(remove));
      } while (!due.empty());
    }
    std::string kinds;
    auto it = leader_.store().iterate();
    for (it->seek(""); it->valid(); it->next())
      kinds.push_back(it->key().front());
    EXPECT_EQ(kinds, "ABivvv") << "records were left behind";  // cluster, counters, root, servers
    const CounterRecord counters = leader_.machine().counters();
    EXPECT_EQ(counters.inodes, 1u);
    EXPECT_EQ(counters.chunks + counters.granted + counters.garbage + counters.allocated_bytes + counters.orphans +
                  counters.work,
              0u);
  }
  void remove_below(InodeId directory) {
    const std::map<std::string, InodeId> entries = model_.nodes.at(directory).entries;
    for (const auto& [name, inode] : entries) {
      if (model_.nodes.at(inode).is_directory()) {
        remove_below(inode);
        ASSERT_TRUE(leader_.mutate(sessions_[0], RmdirOp{directory, name}));
      } else {
        ASSERT_TRUE(leader_.mutate(sessions_[0], UnlinkOp{directory, name, {}}));
      }
    }
  }

  Leader leader_;
  std::unique_ptr<Random> random_;
  TreeModel model_;
  std::vector<SessionId> sessions_;
  InodeId highest_{1};
};

class RandomOperations : public ::testing::TestWithParam<uint64_t> {};

TEST_P(RandomOperations, MatchTheModelInMemory) {
  RandomTree tree(GetParam(), MemoryStore::in_memory());
  tree.run(15'000);
}

TEST_P(RandomOperations, MatchTheModelOnLevelDb) {
  MemoryDisk disk;
  LevelDbOptions options;
  options.write_buffer_bytes = 64 * kKiB;
  Result<std::unique_ptr<LevelDbStore>> store = LevelDbStore::open(disk, "meta", options);
  ASSERT_TRUE(store);
  RandomTree tree(GetParam() + 1000, std::move(*store));
  tree.run(4'000);
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomOperations, ::testing::Values(1, 2, 3, 4));

}  // namespace
}  // namespace cairn
