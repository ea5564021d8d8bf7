// Whatever arrives, decode() ends with a value or with kBadMessage.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <gtest/gtest.h>
#include <string>
#include <string_view>

#include "common/base/random.h"
#include "common/proto/codec.h"
#include "tests/unit/common/proto/plain_value.h"

namespace cairn {
namespace {

using testing::random_value;

template <class T>
void expect_refused(std::string_view bytes) {
  Result<T> decoded = decode<T>(bytes);
  ASSERT_FALSE(decoded.has_value());
  EXPECT_EQ(decoded.code(), ErrorCode::kBadMessage) << decoded.error().message();
  EXPECT_FALSE(decoded.error().context.empty());
}

std::string words(std::initializer_list<uint64_t> list) {
  std::string bytes(list.size() * sizeof(uint64_t), '\0');
  std::copy_n(reinterpret_cast<const char*>(list.begin()), bytes.size(), bytes.begin());
  return bytes;
}

// ---------------------------------------------------------------- random damage

constexpr int kMutationsOfAType = 3000;

// One step of damage; half of them aim at whole words, where pointers and lengths are.
void damage(std::string& bytes, Random& random) {
  if (bytes.empty()) {
    bytes.assign(8, '\0');
    return;
  }
  const size_t at = random.below(bytes.size());
  const size_t word = at & ~size_t{7};
  switch (random.below(8)) {
    case 0:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
      break;
    case 1:
      bytes[at] = static_cast<char>(random.next_u64());
      break;
    case 2:
      bytes.resize(random.chance(1, 4) ? at : word);
      break;
    case 3:
      bytes.append(8 * (1 + random.below(4)), static_cast<char>(random.next_u64()));
      break;
    case 4:  // one word over another: pointers that meet or go round in circles
      bytes.replace(word, 8, bytes.substr(random.below(bytes.size()) & ~size_t{7}, 8));
      break;
    case 5: {  // a random list, struct or far pointer with small numbers
      const uint64_t pointer =
          random.below(4) | (random.below(64) << 2) | (random.below(64) << 32) | (random.below(64) << 48);
      bytes.replace(word, 8, reinterpret_cast<const char*>(&pointer), 8);
      break;
    }
    case 6:
      bytes.insert(word, 8, static_cast<char>(random.next_u64()));
      break;
    default:
      bytes.erase(word, 8);
      break;
  }
}

template <class T>
void expect_damage_is_survived() {
  auto random = make_seeded_random(0xBAD);
  int accepted = 0;
  for (int i = 0; i < kMutationsOfAType; i++) {
    std::string bytes = encode(random_value<T>(*random));
    for (uint64_t steps = 1 + random->below(4); steps > 0; steps--)
      damage(bytes, *random);
    Result<T> decoded = decode<T>(bytes);
    if (!decoded) {
      ASSERT_EQ(decoded.code(), ErrorCode::kBadMessage);
      continue;
    }
    accepted++;
    // What was accepted is a proper value: it can be said again, and then means the same.
    const std::string again = encode(*decoded);
    Result<T> decoded_again = decode<T>(again);
    ASSERT_TRUE(decoded_again.has_value()) << decoded_again.error().message();
    ASSERT_EQ(encode(*decoded_again), again);
  }
  EXPECT_GT(accepted, 0);
  EXPECT_LT(accepted, kMutationsOfAType);
}

#define CAIRN_TEST_DAMAGE(type)                  \
  TEST(DamagedMessagesAreValuesOrErrors, type) { \
    expect_damage_is_survived<type>();           \
  }
CAIRN_MESSAGES(CAIRN_TEST_DAMAGE)

// Every cut of a message: the frame said more than came, or less.
template <class T>
void expect_cuts_are_refused() {
  auto random = make_seeded_random(0xC07);
  for (int i = 0; i < 20; i++) {
    const std::string bytes = encode(random_value<T>(*random));
    for (size_t length = 0; length < bytes.size(); length++) {
      expect_refused<T>(std::string_view(bytes).substr(0, length));
    }
  }
}

#define CAIRN_TEST_CUTS(type)              \
  TEST(MessagesCutShortAreRefused, type) { \
    expect_cuts_are_refused<type>();       \
  }
CAIRN_MESSAGES(CAIRN_TEST_CUTS)

TEST(BadMessage, RandomBytesAreValuesOrErrors) {
  auto random = make_seeded_random(3);
  for (int i = 0; i < 20000; i++) {
    std::string bytes(random->below(24) * 8, '\0');
    for (char& c : bytes)
      c = static_cast<char>(random->next_u64());
    // A table of one segment of the right length: what follows is looked at.
    const uint32_t table[2] = {0, static_cast<uint32_t>(bytes.size() / 8)};
    bytes.insert(0, reinterpret_cast<const char*>(table), sizeof(table));
    Result<StatusReply> status = decode<StatusReply>(bytes);
    if (!status) ASSERT_EQ(status.code(), ErrorCode::kBadMessage);
    Result<MutateRequest> mutate = decode<MutateRequest>(bytes);
    if (!mutate) ASSERT_EQ(mutate.code(), ErrorCode::kBadMessage);
  }
}

// ---------------------------------------------------------------- bounds, one by one

TEST(BadMessage, EmptyOrUnevenOrTooLong) {
  expect_refused<LookupRequest>("");
  expect_refused<LookupRequest>("abc");
  expect_refused<LookupRequest>(encode(LookupRequest()) + "x");
  expect_refused<LookupRequest>(encode(LookupRequest()) + std::string(8, '\0'));
  expect_refused<LookupRequest>(std::string(kMaxMessageBytes + 8, '\0'));
}

TEST(BadMessage, SegmentTableOfNonsense) {
  expect_refused<LookupRequest>(words({0x00000000ffffffff}));           // 2^32 segments
  expect_refused<LookupRequest>(words({0xffffffff00000000, 0}));        // one of 32 GiB
  expect_refused<LookupRequest>(words({0x0000000100000005, 0, 0, 0}));  // six, most of them missing
  expect_refused<LookupRequest>(words({0x000000010000ffff, 0, 0, 0, 0}));
}

TEST(BadMessage, UnknownEnumerants) {
  for (uint16_t type : {0, 8, 9, 255, 65535}) {
    DirectoryEntry entry{.name = "x", .type = static_cast<FileType>(type)};
    ReadDirectoryReply page;
    page.entries.push_back(entry);
    if (static_cast<FileType>(type) == FileType(0) || type > 7) expect_refused<ReadDirectoryReply>(encode(page));
  }
  expect_refused<ChunkWriteRequest>(encode(ChunkWriteRequest{.kind = static_cast<WriteKind>(4)}));
  expect_refused<ChunkWriteRequest>(encode(ChunkWriteRequest{.kind = static_cast<WriteKind>(0)}));
  RaiseVersionReply reply;
  reply.status.state = static_cast<ChunkState>(3);
  expect_refused<RaiseVersionReply>(encode(reply));

  for (uint8_t role : {uint8_t{0}, uint8_t{4}, uint8_t{255}}) {
    MasterStatusReply status;
    status.members.push_back({.master = MasterId(1), .role = static_cast<MasterRole>(role)});
    expect_refused<MasterStatusReply>(encode(status));
  }
}

TEST(BadMessage, UnknownOperation) {
  const std::string op = encode(MetaOp(LinkOp{.inode = InodeId(1)}));
  // Table, root pointer, then the word that holds the union's number.
  for (uint16_t number : {0, 17, 18, 0x7fff, 0xffff}) {
    std::string changed = op;
    std::memcpy(changed.data() + 16, &number, sizeof(number));
    expect_refused<MetaOp>(changed);
  }
  EXPECT_TRUE(decode<MetaOp>(op).has_value());
}

TEST(BadMessage, StringsHaveABound) {
  EXPECT_TRUE(decode<GetXattrReply>(encode(GetXattrReply{std::string(kMaxStringBytes, 'x')})).has_value());
  expect_refused<GetXattrReply>(encode(GetXattrReply{std::string(kMaxStringBytes + 1, 'x')}));
  expect_refused<OpenSessionRequest>(encode(OpenSessionRequest{.host = std::string(kMaxStringBytes + 1, 'x')}));
}

TEST(BadMessage, ListsHaveABound) {
  CloseRequest close;
  close.inodes.resize(kMaxListItems);
  EXPECT_TRUE(decode<CloseRequest>(encode(close)).has_value());
  close.inodes.resize(kMaxListItems + 1);
  expect_refused<CloseRequest>(encode(close));
}

TEST(BadMessage, ReplicasHaveABoundOfTheirOwn) {
  ChunkGrant grant;
  grant.replicas.resize(kMaxReplicaItems);
  EXPECT_TRUE(decode<ChunkGrant>(encode(grant)).has_value());
  grant.replicas.resize(kMaxReplicaItems + 1);
  expect_refused<ChunkGrant>(encode(grant));
}

// ListXattrReply: a struct of one pointer, to a list of pointers.
TEST(BadMessage, OneStringCannotBeCountedManyTimes) {
  constexpr uint64_t kNames = 1000;
  const std::string text(4096, 'x');
  std::string bytes =
      words({(1 + 1 + kNames + text.size() / 8) << 32, uint64_t{1} << 48, 1 | 6ull << 32 | kNames << 35});
  for (uint64_t i = 0; i < kNames; i++)
    bytes += words({1 | (kNames - 1 - i) << 2 | 2ull << 32 | uint64_t{text.size()} << 35});
  bytes += text;
  expect_refused<ListXattrReply>(bytes);
}

TEST(BadMessage, AListOfNothingTakesNoMemory) {
  // A list of 60,000 structs without fields, in four words.
  const uint64_t tag = uint64_t{60000} << 2;
  const std::string bytes = words({uint64_t{3} << 32, uint64_t{1} << 48, 1 | 7ull << 32, tag});
  expect_refused<ChunkWriteReply>(bytes);
  expect_refused<ChunkSyncReply>(bytes);
}

// Why codec.h tells those who keep a value to check its size: this one came in half a MiB and goes out in more than
// one.
TEST(BadMessage, AValueOfShortStructsGrowsWhenItIsEncodedAgain) {
  const uint64_t items = kMaxListItems;
  std::string bytes = words({(6 + items) << 32,             // the table
                             1ull << 32 | 1ull << 48,       // the root: one word of data, one pointer
                             9, 1ull << 48,                 // a commit, which is nothing but a pointer
                             1 | 7ull << 32 | items << 35,  // to a list of structs
                             items << 2 | 1ull << 32});     // of one word each
  bytes += std::string((items + 1) * 8, '\0');
  Result<MetaOp> op = decode<MetaOp>(bytes);
  ASSERT_TRUE(op.has_value()) << op.error().message();
  EXPECT_EQ(std::get<CommitOp>(*op).chunks.size(), items);
  const std::string again = encode(*op);
  EXPECT_GT(again.size(), kMaxMessageBytes);
  expect_refused<MetaOp>(again);
}

}  // namespace
}  // namespace cairn
