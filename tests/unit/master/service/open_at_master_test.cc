// Which files a session has open, as the master sees it, when messages are lost or late.
#include <gtest/gtest.h>

#include "tests/unit/master/service/sim_master.h"

namespace cairn {
namespace {

using testing::milliseconds;
using testing::seconds;
using testing::SimClient;
using testing::SimMaster;

MasterSettings settings() {
  MasterSettings settings;
  settings.session_time = seconds(3);
  return settings;
}

class OpenAtMaster : public ::testing::Test {
 protected:
  // Bert takes the file's only name away; Anna answers what she is asked.
  void remove(const std::string& name) {
    auto removed = bert_.begin_mutation(UnlinkOp{.parent = kRootInode, .name = name});
    for (int round = 0; round < 20 && !removed->has_value(); ++round) {
      for (const Recall& recall : anna_.recalls())
        anna_.answer(recall.sequence);
      master_.simulator().run_for(milliseconds(50));
    }
    ASSERT_TRUE(removed->has_value());
    ASSERT_TRUE(**removed);
  }
  bool there(InodeId file) { return anna_.ask(GetAttributesRequest{.inode = file}).has_value(); }

  // The term of a leader that knows nothing yet; Bert has told it all that he has.
  uint64_t fail_over() {
    master_.restart();
    Result<RenewSessionReply> renewed = bert_.ask(RenewSessionRequest{.known_term = bert_.term()});
    CHECK(renewed);
    anna_.set_term(renewed->term);
    bert_.set_term(renewed->term);
    CHECK(bert_.ask(RenewSessionRequest{.known_term = renewed->term}));
    return renewed->term;
  }

  SimMaster master_{1, settings()};
  SimClient anna_{master_, "anna"};
  SimClient bert_{master_, "bert"};
};

TEST_F(OpenAtMaster, AFileLivesUntilItIsClosed) {
  InodeId file = anna_.make("f");
  remove("f");
  EXPECT_TRUE(there(file));
  ASSERT_TRUE(anna_.ask(CloseRequest{.inodes = {file}}));
  EXPECT_FALSE(there(file));
}

TEST_F(OpenAtMaster, ACloseThatWasHeldUpDoesNotCloseWhatIsOpenAgain) {
  InodeId file = anna_.make("f");
  anna_.reconnect();
  ASSERT_TRUE(anna_.ask(CloseRequest{.inodes = {file}}));
  ASSERT_TRUE(anna_.ask(OpenRequest{.inode = file}));
  EXPECT_TRUE(anna_.ask_late(CloseRequest{.inodes = {file}}).failed_with(ErrorCode::kUnavailable));
  remove("f");
  EXPECT_TRUE(there(file));
}

TEST_F(OpenAtMaster, ALeaseIsNotGivenBackByWhatWasHeldUp) {
  InodeId file = anna_.make("f");
  anna_.reconnect();
  ASSERT_TRUE(anna_.ask(RenewSessionRequest{.known_term = anna_.term()}));
  EXPECT_FALSE(anna_.ask_late(ReleaseWriteLeaseRequest{.inode = file}));
  EXPECT_FALSE(anna_.ask_late(ReturnLeasesRequest{.term = anna_.term(), .lowered = {file}}));
  auto seen = bert_.begin(GetAttributesRequest{.inode = file});
  EXPECT_FALSE(master_.done(seen, milliseconds(300)));
  std::vector<Recall> recalls = anna_.recalls();
  ASSERT_EQ(recalls.size(), 1u);
  EXPECT_EQ(recalls[0].kind, RecallKind::kReader);
}

TEST_F(OpenAtMaster, WhatIsSaidOverTheConnectionBeforeCountsUntilTheNextIsUsed) {
  InodeId file = anna_.make("f");
  anna_.reconnect();
  EXPECT_TRUE(anna_.ask_late(CloseRequest{.inodes = {file}}));
  remove("f");
  EXPECT_FALSE(there(file));
}

// The leader died between the creation and its answer.
TEST_F(OpenAtMaster, AFileIsOpenWhoseCreatorHasNoAnswerYet) {
  InodeId file = anna_.make("f");
  uint64_t term = fail_over();
  ASSERT_TRUE(anna_.ask(RenewSessionRequest{.known_term = term, .unanswered = {anna_.last_sequence()}}));
  remove("f");
  EXPECT_TRUE(there(file));
  ASSERT_TRUE(anna_.ask(CloseRequest{.inodes = {file}}));
  EXPECT_FALSE(there(file));
}

TEST_F(OpenAtMaster, NothingElseIsOpenForWantOfAnAnswer) {
  InodeId file = anna_.make("f");
  ASSERT_TRUE(anna_.mutate(SetAttributesOp{.inode = file, .mode = 0600}));
  uint64_t changed = anna_.last_sequence();
  ASSERT_TRUE(anna_.mutate(CreateOp{.parent = kRootInode, .name = "d", .type = FileType::kDirectory, .mode = 0755}));
  uint64_t made = anna_.last_sequence();
  uint64_t term = fail_over();
  ASSERT_TRUE(anna_.ask(RenewSessionRequest{.known_term = term, .unanswered = {changed, made, 1000}}));
  remove("f");
  EXPECT_FALSE(there(file));
}

}  // namespace
}  // namespace cairn
