#include "chunkserver/replication/version_rule.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

ReplicaView here(uint64_t version, uint64_t taken, uint64_t handed) {
  return {.present = true, .version = version, .synced = 0, .taken = taken, .handed = handed};
}

TEST(VersionRule, NextWriteIsTaken) {
  EXPECT_EQ(judge_write(here(2, 5, 5), 2, 6), WriteVerdict::kTake);
}

TEST(VersionRule, WriteBehindOnesOnTheirWayIsTaken) {
  EXPECT_EQ(judge_write(here(2, 5, 8), 2, 9), WriteVerdict::kTake);
}

TEST(VersionRule, RepeatedWriteIsDoneOnlyWhenItHasBeenTaken) {
  EXPECT_EQ(judge_write(here(2, 5, 8), 2, 5), WriteVerdict::kDone);
  EXPECT_EQ(judge_write(here(2, 5, 8), 2, 1), WriteVerdict::kDone);
  // On its way: it may still fail, so the repeated one must meet the same end.
  EXPECT_EQ(judge_write(here(2, 5, 8), 2, 6), WriteVerdict::kTake);
}

TEST(VersionRule, GapWaits) {
  EXPECT_EQ(judge_write(here(2, 5, 5), 2, 7), WriteVerdict::kWait);
}

TEST(VersionRule, LowerVersionIsRefusedWhateverItsSequence) {
  for (uint64_t sequence : {1, 5, 6, 9}) {
    EXPECT_EQ(judge_write(here(3, 5, 5), 2, sequence), WriteVerdict::kOldVersion) << sequence;
  }
}

TEST(VersionRule, HigherVersionIsRefusedUntilTheReplicaHasBeenRaised) {
  for (uint64_t sequence : {1, 5, 6, 9}) {
    EXPECT_EQ(judge_write(here(3, 5, 5), 4, sequence), WriteVerdict::kNewVersion) << sequence;
  }
}

TEST(VersionRule, SealedChunkTakesNothingNew) {
  ReplicaView sealed = here(2, 5, 5);
  sealed.sealed = true;
  EXPECT_EQ(judge_write(sealed, 2, 6), WriteVerdict::kOldVersion);
  EXPECT_EQ(judge_write(sealed, 2, 7), WriteVerdict::kOldVersion);
  EXPECT_EQ(judge_write(sealed, 2, 5), WriteVerdict::kDone);
}

TEST(VersionRule, UnknownChunkBeginsWithItsFirstWrite) {
  EXPECT_EQ(judge_write({}, 4, 1), WriteVerdict::kTake);
  EXPECT_EQ(judge_write({}, 4, 2), WriteVerdict::kWait);
}

TEST(VersionRule, UnknownChunkThatWasRaisedBeginsAtThatVersion) {
  ReplicaView fenced{.version = 3};
  EXPECT_EQ(judge_write(fenced, 2, 1), WriteVerdict::kOldVersion);
  EXPECT_EQ(judge_write(fenced, 3, 1), WriteVerdict::kTake);
}

TEST(VersionRule, AfterARestartWhatIsOnDiskIsWhatHasBeenTaken) {
  ReplicaStatus status;
  status.version = 2;
  status.sequence = 0;
  status.synced_sequence = 4;
  ReplicaView view = view_of(status);
  EXPECT_EQ(view.taken, 4u);
  EXPECT_EQ(judge_write(view, 2, 5), WriteVerdict::kTake);
  EXPECT_EQ(judge_write(view, 2, 6), WriteVerdict::kWait);
  EXPECT_EQ(judge_sync(view, 2, 4), SyncVerdict::kSync);
  EXPECT_EQ(judge_sync(view, 2, 5), SyncVerdict::kMissingWrites);
}

TEST(VersionRule, SyncWaitsForWhatIsOnItsWay) {
  EXPECT_EQ(judge_sync(here(2, 5, 8), 2, 5), SyncVerdict::kSync);
  EXPECT_EQ(judge_sync(here(2, 5, 8), 2, 8), SyncVerdict::kWait);
  EXPECT_EQ(judge_sync(here(2, 5, 8), 2, 9), SyncVerdict::kMissingWrites);
}

TEST(VersionRule, SyncOfAnotherVersionIsRefused) {
  EXPECT_EQ(judge_sync(here(2, 5, 5), 1, 1), SyncVerdict::kOldVersion);
  EXPECT_EQ(judge_sync(here(2, 5, 5), 3, 1), SyncVerdict::kNewVersion);
  EXPECT_EQ(judge_sync({}, 1, 1), SyncVerdict::kMissingWrites);
}

TEST(VersionRule, RefusalSaysWhatIsHere) {
  ReplicaView view = here(2, 5, 5);
  Error error = refusal(WriteVerdict::kWait, view, 2, 9);
  EXPECT_EQ(error.code, ErrorCode::kMissingWrites);
  ReplicaAck ack = acknowledge(ServerId(1), 4, view, error);
  EXPECT_EQ(ack.error, static_cast<uint16_t>(ErrorCode::kMissingWrites));
  EXPECT_EQ(ack.sequence, 5u);
  EXPECT_EQ(ack.incarnation, 4u);
  EXPECT_NE(ack.context.find("writes up to 5"), std::string::npos) << ack.context;
}

TEST(VersionRule, ChunkThatIsNotHereLacksEveryWrite) {
  ReplicaAck ack = acknowledge(ServerId(1), 4, {}, Error(ErrorCode::kNotFound));
  EXPECT_EQ(ack.error, static_cast<uint16_t>(ErrorCode::kMissingWrites));
  EXPECT_EQ(ack.sequence, 0u);
}

}  // namespace
}  // namespace cairn
