// Filling a copy from another replica: atomic, beside what is here, with new writes in between.
#include "tests/unit/chunkserver/store/store_fixture.h"

namespace cairn {
namespace {

constexpr ChunkId kA{101};

Buffer filled(size_t size, char byte) {
  return Buffer::copy_of(std::string(size, byte));
}

class Install : public testing::TestWithParam<StoreParam> {
 protected:
  void SetUp() override { t.open(); }
  Result<void> begin(uint64_t version, uint64_t sequence) {
    return t.world->wait(t.store->begin_install(kA, version, sequence, {}));
  }
  Result<void> fill(uint64_t version, uint32_t offset, Buffer data) {
    std::vector<uint32_t> sums = block_checksums(data.span());
    return t.world->wait(t.store->fill(kA, version, offset, {std::move(data)}, std::move(sums)));
  }
  Result<ReplicaStatus> finish(uint64_t version, uint32_t length, bool seal = true) {
    return t.world->wait(t.store->finish_install(kA, version, length, seal));
  }
  StoreUnderTest t{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Kinds, Install, testing::ValuesIn(kAllParams), param_name);

TEST_P(Install, WhatWasHereStaysReadableUntilTheCopyIsFinished) {
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(100'000, 'o')));
  ASSERT_TRUE(t.sync(kA, 1, 1));
  ASSERT_TRUE(begin(2, 7));
  ASSERT_TRUE(fill(2, 0, filled(150'000, 'n')));
  EXPECT_EQ(t.read(kA, 1, 0, 10).value(), std::string(10, 'o'));
  EXPECT_TRUE(t.read(kA, 2, 0, 10).failed_with(ErrorCode::kMissingWrites));
  EXPECT_TRUE(t.sync(kA, 2, 7).failed_with(ErrorCode::kMissingWrites)) << "it is no copy yet";
  EXPECT_EQ(t.status(kA)->version, 1u);
  Result<ReplicaStatus> done = finish(2, 150'000);
  ASSERT_TRUE(done) << done.error().message();
  EXPECT_TRUE(done->complete);
  EXPECT_TRUE(done->verified);
  EXPECT_EQ(done->state, ChunkState::kSealed);
  EXPECT_EQ(done->synced_sequence, 7u);
  EXPECT_EQ(t.read(kA, 2, 0, 150'000).value(), std::string(150'000, 'n'));
  t.reopen();
  EXPECT_EQ(t.read(kA, 2, 0, 150'000).value(), std::string(150'000, 'n'));
  EXPECT_EQ(t.store->space().chunks, 1u);
}

TEST_P(Install, AnUnfinishedCopyDoesNotSurviveARestart) {
  ASSERT_TRUE(begin(2, 7));
  ASSERT_TRUE(fill(2, 0, filled(150'000, 'n')));
  EXPECT_FALSE(t.status(kA)->complete);
  t.world->run_for(10s);  // its bytes are on disk by now
  t.kill();
  t.new_world();
  t.open();
  EXPECT_TRUE(t.status(kA).failed_with(ErrorCode::kNotFound));
  t.world->run_for(30s);
  t.reopen();
  EXPECT_TRUE(t.disk().list(t.options.folder + "/log")->empty());
}

TEST_P(Install, NewWritesWinOverWhatIsFilledWhicheverComesFirst) {
  ASSERT_TRUE(begin(2, 10));
  ASSERT_TRUE(t.write(kA, 2, 11, 5000, filled(100, 'w')));     // a part of a block that is not there yet
  ASSERT_TRUE(t.write(kA, 2, 12, 40'960, filled(8192, 'w')));  // whole blocks
  ASSERT_TRUE(fill(2, 0, filled(100'000, 'n')));
  ASSERT_TRUE(t.write(kA, 2, 13, 70'000, filled(100, 'w')));   // over what is filled
  ASSERT_TRUE(t.write(kA, 2, 14, 200'000, filled(100, 'w')));  // beyond it
  std::string expected(100'000, 'n');
  expected.resize(200'100, '\0');
  for (auto [at, size] : {std::pair(5000, 100), {40'960, 8192}, {70'000, 100}, {200'000, 100}}) {
    expected.replace(static_cast<size_t>(at), static_cast<size_t>(size), std::string(static_cast<size_t>(size), 'w'));
  }
  ASSERT_TRUE(finish(2, 100'000, /*seal=*/false));
  EXPECT_EQ(t.status(kA)->sequence, 14u);
  EXPECT_EQ(t.status(kA)->length, 200'100u);
  EXPECT_EQ(t.read(kA, 2, 0, 200'100).value(), expected);
  ASSERT_TRUE(t.write(kA, 2, 15, 0, filled(10, 'z'))) << "the chunk is open and goes on";
  t.reopen();
  expected.replace(0, 10, "zzzzzzzzzz");
  EXPECT_EQ(t.read(kA, 2, 0, 200'100).value(), expected);
}

TEST_P(Install, ATruncationCutsWhatIsFilledLater) {
  ASSERT_TRUE(begin(2, 10));
  ASSERT_TRUE(t.truncate(kA, 2, 11, 50'000));
  ASSERT_TRUE(t.zero(kA, 2, 12, 10'000, 10'000));
  ASSERT_TRUE(fill(2, 0, filled(100'000, 'n')));
  ASSERT_TRUE(finish(2, 100'000));
  EXPECT_EQ(t.status(kA)->length, 50'000u);
  std::string expected(50'000, 'n');
  expected.replace(10'000, 10'000, std::string(10'000, '\0'));
  EXPECT_EQ(t.read(kA, 2, 0, 50'000).value(), expected);
}

TEST_P(Install, BytesThatDoNotMatchAreNotFilled) {
  ASSERT_TRUE(begin(2, 1));
  Buffer data = filled(8192, 'n');
  EXPECT_TRUE(t.world->wait(t.store->fill(kA, 2, 0, {data}, {1, 2})).failed_with(ErrorCode::kCorrupt));
  EXPECT_TRUE(t.world->wait(t.store->fill(kA, 2, 100, {data}, {1, 2})).failed_with(ErrorCode::kInvalid));
  EXPECT_TRUE(fill(3, 0, data).failed_with(ErrorCode::kNewVersion));
}

TEST_P(Install, AnAbandonedCopyLeavesNothing) {
  ASSERT_TRUE(t.write(kA, 1, 1, 0, filled(100, 'o')));
  ASSERT_TRUE(begin(2, 1));
  ASSERT_TRUE(fill(2, 0, filled(150'000, 'n')));
  ASSERT_TRUE(t.world->wait(t.store->abandon_install(kA, 2)));
  EXPECT_TRUE(finish(2, 150'000).failed_with(ErrorCode::kNotFound));
  EXPECT_EQ(t.read(kA, 1, 0, 100).value(), std::string(100, 'o'));
  EXPECT_TRUE(begin(1, 1)) << "the same version may be filled again: a repair";
  ASSERT_TRUE(t.raise(kA, 1, 5));
  EXPECT_TRUE(begin(4, 1).failed_with(ErrorCode::kOldVersion));
}

TEST_P(Install, HolesStayHoles) {
  ASSERT_TRUE(begin(1, 1));
  ASSERT_TRUE(fill(1, 0, filled(4096, 'a')));
  ASSERT_TRUE(fill(1, 1'000'000 / 4096 * 4096, filled(5000, 'b')));
  uint32_t length = 1'000'000 / 4096 * 4096 + 5000;
  Result<ReplicaStatus> done = finish(1, length);
  ASSERT_TRUE(done);
  EXPECT_EQ(done->length, length);
  EXPECT_EQ(done->allocated_bytes, 3u * 4096);
}

}  // namespace
}  // namespace cairn
