// Records on disk: what is written is read again, and what is damaged is refused.
#include "master/namespace/records.h"

#include "common/base/random.h"
#include "master/namespace/keys.h"
#include "master/namespace/reply_codec.h"
#include "tests/unit/master/namespace/machine_fixture.h"

namespace cairn {
namespace {

InodeRecord full_inode() {
  InodeRecord r;
  r.attributes = {.type = FileType::kSymlink,
                  .mode = 07777,
                  .uid = UINT32_MAX,
                  .gid = 5,
                  .nlink = 65000,
                  .rdev = 77,
                  .size = 1ull << 60,
                  .allocated_bytes = 12,
                  .atime = -1,
                  .mtime = INT64_MIN,
                  .ctime = INT64_MAX,
                  .btime = 3,
                  .change = UINT64_MAX,
                  .data_change = 9,
                  .goal = 9,
                  .min_copies = 8};
  r.parent = InodeId{UINT64_MAX};
  r.next_cookie = 1ull << 50;
  r.chunk_count = 7;
  r.xattr_count = 3;
  r.xattr_bytes = 100;
  r.xattr_name_bytes = 30;
  r.epoch = 2;
  r.cuts = {{1, 2}, {3, 4}};
  r.symlink_target = std::string("a\0b", 3);
  return r;
}

ChunkRecord full_chunk() {
  ChunkRecord r;
  r.state = ChunkState::kSealed;
  r.version = 5;
  r.highest_version = 9;
  r.session = SessionId{4};
  r.refs = 2;
  r.goal = 3;
  r.min_copies = 2;
  r.length = 1 << 26;
  r.allocated_bytes = 4096;
  r.owner = InodeId{6};
  r.index = 8;
  r.replicas = {{ServerId{UINT64_MAX}, ReplicaState::kBad, 3}, {ServerId{2}, ReplicaState::kCurrent, 1}};
  r.pending = PendingRaise{9, SessionId{1}, {ServerId{2}}, {ServerId{3}, ServerId{4}}};
  return r;
}

template <class Record>
Record round_trip(const Record& record) {
  Record again;
  EXPECT_TRUE(decode(encode(record), again));
  return again;
}

TEST(Records, AreReadAsTheyWereWritten) {
  EXPECT_EQ(round_trip(full_inode()), full_inode());
  EXPECT_EQ(round_trip(full_chunk()), full_chunk());
  const ChunkRef ref{ChunkId{3}, 100, 4096, 7};
  EXPECT_EQ(round_trip(ref), ref);
  CounterRecord counters;
  counters.applied_index = 1;
  counters.garbage = UINT64_MAX;
  counters.next_work = 5;
  EXPECT_EQ(round_trip(counters), counters);
}

// Every truncation and every extension is refused, whatever the record.
template <class Record>
void expect_damage_is_refused(const Record& record) {
  const std::string bytes = encode(record);
  Record out;
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_TRUE(decode(std::string_view(bytes).substr(0, size), out).failed_with(ErrorCode::kCorrupt)) << size;
  }
  EXPECT_TRUE(decode(bytes + "x", out).failed_with(ErrorCode::kCorrupt));
  std::string other_format = bytes;
  other_format[0] = 99;
  EXPECT_TRUE(decode(other_format, out).failed_with(ErrorCode::kCorrupt));
}

TEST(Records, DamageIsRefused) {
  expect_damage_is_refused(full_inode());
  expect_damage_is_refused(full_chunk());
  expect_damage_is_refused(DentryRecord{InodeId{1}, FileType::kFifo, 3});
  expect_damage_is_refused(CookieRecord{InodeId{1}, FileType::kFifo, "name"});
  expect_damage_is_refused(ChunkRef{});
  expect_damage_is_refused(SessionRecord{.host = "h"});
  expect_damage_is_refused(ServerRecord{.address = "a"});
  expect_damage_is_refused(GarbageRecord{1, 2});
  expect_damage_is_refused(OrphanRecord{{SessionId{1}, SessionId{2}}});
  expect_damage_is_refused(WorkRecord{});
  expect_damage_is_refused(ClusterRecord{.keys = {{1, "k"}, {2, "l"}}});
  expect_damage_is_refused(CounterRecord{});
}

TEST(Records, RandomBytesNeverCrashTheDecoders) {
  std::unique_ptr<Random> random = make_seeded_random(7);
  for (int i = 0; i < 20'000; ++i) {
    std::string bytes = i % 2 == 0 ? encode(full_inode()) : encode(full_chunk());
    for (int flips = 0; flips < 3; ++flips)
      bytes[1 + random->below(bytes.size() - 1)] = static_cast<char>(random->next_u64());
    InodeRecord inode;
    ChunkRecord chunk;
    ClusterRecord cluster;
    (void)decode(bytes, inode).has_value();
    (void)decode(bytes, chunk).has_value();
    (void)decode(bytes, cluster).has_value();
    (void)decode_reply(bytes).has_value();
  }
}

TEST(Records, RepliesAreReadAsTheyWereWritten) {
  MutationReply reply;
  reply.attributes = full_inode().attributes;
  reply.attributes.inode = InodeId{5};
  reply.replaced = reply.attributes;
  reply.grants = {{.chunk = ChunkId{1}, .version = 2, .replicas = {{ServerId{3}, "host:1"}}, .min_copies = 2}};
  EXPECT_EQ(**decode_reply(encode_reply(reply)), reply);
  const Result<Result<MutationReply>> error = decode_reply(encode_reply(Error(ErrorCode::kExists, "why")));
  EXPECT_EQ(error->error().code, ErrorCode::kExists);
  EXPECT_EQ(error->error().context, "why");
  EXPECT_TRUE(decode_reply("").failed_with(ErrorCode::kCorrupt));
}

TEST(Keys, SortByIdAndName) {
  EXPECT_LT(keys::inode(InodeId{255}), keys::inode(InodeId{256}));
  EXPECT_LT(keys::dentry(InodeId{1}, "a"), keys::dentry(InodeId{1}, "ab"));
  EXPECT_LT(keys::dentry(InodeId{1}, "ab"), keys::dentry(InodeId{1}, "b"));
  EXPECT_LT(keys::cookie(InodeId{1}, 3), keys::cookie(InodeId{1}, 4));
  EXPECT_LT(keys::cookie_start(InodeId{1}, 3), keys::cookie(InodeId{1}, 3));
  EXPECT_GT(keys::cookie_start(InodeId{1}, 3), keys::cookie(InodeId{1}, 2));
  EXPECT_LT(keys::garbage_due(ServerId{1}, 10, ChunkId{9}), keys::garbage_due(ServerId{1}, 11, ChunkId{1}));
}

TEST(Keys, GiveTheirPartsBack) {
  EXPECT_EQ(keys::name_of(keys::dentry(InodeId{1}, "name")), "name");
  EXPECT_EQ(keys::ref_index(keys::ref(InodeId{1}, 77)), 77u);
  const std::string key = keys::garbage_due(ServerId{1}, 10, ChunkId{9});
  EXPECT_EQ(keys::first_id(key), 1u);
  EXPECT_EQ(keys::second_id(key), 10u);
  EXPECT_EQ(keys::third_id(key), 9u);
  EXPECT_TRUE(keys::inode(InodeId{5}).starts_with(keys::prefix(keys::Kind::kInode, 5)));
}

}  // namespace
}  // namespace cairn
