// Recalls through the service: who waits for whom, for how long, and what an answer may say meanwhile.
#include <algorithm>
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

CreateOp create(const std::string& name) {
  return {.parent = kRootInode, .name = name, .mode = 0644};
}

class Recalls : public ::testing::Test {
 protected:
  bool given(const Lease& lease) { return lease.duration_ms != 0; }
  TimePoint now() { return master_.simulator().now(); }

  SimMaster master_{1, settings()};
  SimClient anna_{master_, "anna"};
  SimClient bert_{master_, "bert"};
};

TEST_F(Recalls, AChangeWaitsForTheHoldersAnswer) {
  auto waiting = anna_.begin(TakeRecallsRequest{});
  Result<EntryReply> missing = anna_.lookup("x");
  ASSERT_TRUE(missing);
  ASSERT_TRUE(given(missing->parent_lease));
  auto made = bert_.begin_mutation(create("x"));
  ASSERT_TRUE(master_.done(waiting, milliseconds(500)));  // told at once
  ASSERT_TRUE(**waiting);
  ASSERT_EQ((**waiting)->recalls.size(), 1u);
  Recall recall = (**waiting)->recalls[0];
  EXPECT_EQ(recall.kind, RecallKind::kName);
  EXPECT_EQ(recall.inode, kRootInode);
  EXPECT_EQ(recall.name, "x");
  EXPECT_GT(recall.sequence, missing->parent_lease.sequence);
  EXPECT_FALSE(master_.done(made, milliseconds(500)));
  anna_.answer(recall.sequence);
  ASSERT_TRUE(master_.done(made, milliseconds(500)));
  ASSERT_TRUE(**made);
  EXPECT_TRUE(given((**made)->parent_lease));
  EXPECT_TRUE(given(anna_.lookup("x")->parent_lease));
}

TEST_F(Recalls, ReadsDuringAChangeSeeTheOldStateAndGetNoLease) {
  InodeId file = anna_.mutate(create("x"))->attributes.inode;
  auto set = bert_.begin_mutation(SetAttributesOp{.inode = file, .mode = 0600});
  master_.simulator().run_for(milliseconds(100));
  ASSERT_EQ(anna_.recalls().size(), 1u);
  Result<AttributesReply> seen = anna_.ask(GetAttributesRequest{.inode = file});
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->attributes.mode, 0644u);
  EXPECT_FALSE(given(seen->lease));
  Result<EntryReply> entry = anna_.lookup("x");
  EXPECT_FALSE(given(entry->lease));
  EXPECT_TRUE(given(entry->parent_lease));  // the directory is not being changed
  Result<ReadDirectoryReply> page =
      anna_.ask(ReadDirectoryRequest{.directory = kRootInode, .count_max = 10, .plus = true});
  ASSERT_EQ(page->entries.size(), 1u);
  EXPECT_FALSE(page->entries[0].leased);
  EXPECT_TRUE(given(page->lease));
  anna_.answer(anna_.recalls().at(0).sequence);
  ASSERT_TRUE(master_.done(set, milliseconds(500)));
  seen = anna_.ask(GetAttributesRequest{.inode = file});
  EXPECT_EQ(seen->attributes.mode, 0600u);
  EXPECT_TRUE(given(seen->lease));
  page = anna_.ask(ReadDirectoryRequest{.directory = kRootInode, .count_max = 10, .plus = true});
  EXPECT_TRUE(page->entries[0].leased);
}

TEST_F(Recalls, WrongLateAndDoubledAnswersChangeNothing) {
  anna_.hold_root();
  auto made = bert_.begin_mutation(create("x"));
  master_.simulator().run_for(milliseconds(100));
  uint64_t sequence = anna_.recalls().at(0).sequence;
  anna_.answer(sequence + 7);
  bert_.answer(sequence);                                                                           // it was not asked
  ASSERT_TRUE(anna_.ask(AnswerRecallsRequest{.term = anna_.term() + 1, .answers = {{sequence}}}));  // another term's
  EXPECT_FALSE(master_.done(made, milliseconds(500)));
  anna_.answer(sequence);
  ASSERT_TRUE(master_.done(made, milliseconds(500)));
  anna_.hold_root();
  auto second = bert_.begin_mutation(UnlinkOp{.parent = kRootInode, .name = "x"});
  master_.simulator().run_for(milliseconds(100));
  anna_.answer(sequence);  // once more: not what is asked now
  EXPECT_FALSE(master_.done(second, milliseconds(500)));
  for (const Recall& recall : anna_.recalls())
    anna_.answer(recall.sequence);
  EXPECT_TRUE(master_.done(second, milliseconds(500)));
}

TEST_F(Recalls, ASilentHolderIsFencedWhenItsTimeIsOver) {
  anna_.hold_root();
  auto made = bert_.begin_mutation(create("x"));
  TimePoint asked = now();
  TimePoint believes{};
  while (!made->has_value() && now() < asked + seconds(20)) {
    // Bert has everything answered, and lives on.
    ASSERT_TRUE(bert_.ask(RenewSessionRequest{.known_term = bert_.term()}));
    TimePoint sent = now();
    Result<RenewSessionReply> renewed = anna_.ask(RenewSessionRequest{.known_term = anna_.term()});
    if (renewed) believes = std::max(believes, sent + milliseconds(renewed->duration_ms));
    master_.simulator().run_for(milliseconds(200));
  }
  ASSERT_TRUE(made->has_value());
  ASSERT_TRUE(**made);
  // No sooner than Anna has stopped believing, and not much later.
  EXPECT_GE(now(), believes);
  EXPECT_GE(now() - asked, seconds(3));
  EXPECT_LE(now() - asked, milliseconds(4500));
  EXPECT_LE(believes - asked, milliseconds(3100));
  Result<RenewSessionReply> late = anna_.ask(RenewSessionRequest{.known_term = anna_.term()});
  for (int i = 0; i < 5 && late.failed_with(ErrorCode::kUnavailable); ++i)
    late = anna_.ask(RenewSessionRequest{.known_term = anna_.term()});
  EXPECT_TRUE(late.failed_with(ErrorCode::kSessionEnded));
  EXPECT_NE(master_.node().metrics().render().find("cairn_master_sessions_fenced_total 1"), std::string::npos);
}

// Attempts of clients are shorter than the time of a session.
TEST_F(Recalls, AskingAgainDoesNotGiveTheSilentMoreTime) {
  anna_.hold_root();
  auto made = bert_.begin(MutateRequest{.op = create("x")}, milliseconds(700));
  TimePoint asked = now();
  while (now() < asked + seconds(20)) {
    ASSERT_TRUE(master_.done(made, seconds(1)));
    if (**made) break;
    made = bert_.begin_again(create("x"), milliseconds(700));
    ASSERT_TRUE(bert_.ask(RenewSessionRequest{.known_term = bert_.term()}));
    // Anna lives on, and is told all of them, but answers none.
    if (now() < asked + seconds(2)) ASSERT_TRUE(anna_.ask(RenewSessionRequest{.known_term = anna_.term()}));
  }
  ASSERT_TRUE(**made);
  EXPECT_GE(now() - asked, seconds(3));
  EXPECT_LE(now() - asked, seconds(5));
}

TEST_F(Recalls, WhileTheMasterIsStoppedNobodysSilenceCounts) {
  anna_.hold_root();
  auto made = bert_.begin_mutation(create("x"));
  master_.simulator().run_for(milliseconds(500));
  master_.node().pause();
  master_.simulator().run_for(seconds(8));
  master_.node().resume();
  ASSERT_TRUE(master_.done(made, seconds(1)));
  EXPECT_TRUE((**made).failed_with(ErrorCode::kUnavailable));  // the connection has been given up
  made = bert_.begin_again(create("x"), seconds(60));
  EXPECT_FALSE(master_.done(made, milliseconds(500)));
  EXPECT_FALSE(anna_.recalls().empty());  // it has not been ended
  // The first attempt goes on at the master, and the second after it.
  for (int i = 0; i < 2; ++i) {
    for (const Recall& recall : anna_.recalls())
      anna_.answer(recall.sequence);
    master_.simulator().run_for(milliseconds(100));
  }
  ASSERT_TRUE(master_.done(made, milliseconds(500)));
  EXPECT_TRUE(**made);
  EXPECT_NE(master_.node().metrics().render().find("cairn_master_sessions_fenced_total 0"), std::string::npos);
}

// Pages that were written through a mapping, after the writer has lowered its lease.
TEST_F(Recalls, WhoIsAskedCommitsFirstWhatItStillHas) {
  InodeId file = anna_.make("f");
  ASSERT_TRUE(anna_.ask(ReleaseWriteLeaseRequest{.inode = file, .keep_shared = true}));
  auto bert = bert_.begin(WriteLeaseRequest{.inode = file});
  EXPECT_FALSE(master_.done(bert, milliseconds(200)));
  std::vector<Recall> recalls = anna_.recalls();
  ASSERT_EQ(recalls.size(), 1u);
  EXPECT_EQ(recalls[0].kind, RecallKind::kContent);
  ASSERT_TRUE(anna_.mutate(CommitOp{.inode = file, .size_at_least = 77}));
  EXPECT_FALSE(bert->has_value());
  anna_.answer(recalls[0].sequence);
  ASSERT_TRUE(master_.done(bert, milliseconds(500)));
  ASSERT_TRUE(**bert);
  EXPECT_EQ((**bert)->attributes.size, 77u);
}

// Several may have such pages of one chunk, also who asks for the lease: nobody waits for who waits for him.
TEST_F(Recalls, OneAfterTheOtherWritesWhatItHasStored) {
  SimClient cora(master_, "cora");
  InodeId file = anna_.make("f");
  ASSERT_TRUE(anna_.ask(ReleaseWriteLeaseRequest{.inode = file, .keep_shared = true}));
  ASSERT_TRUE(given(bert_.ask(GetAttributesRequest{.inode = file})->lease));
  ASSERT_TRUE(given(cora.ask(GetAttributesRequest{.inode = file})->lease));
  EXPECT_TRUE(anna_.ask(WriteLeaseRequest{.inode = file, .renew = true}).failed_with(ErrorCode::kWait));
  auto bert = bert_.begin(WriteLeaseRequest{.inode = file});
  EXPECT_FALSE(master_.done(bert, milliseconds(200)));
  Result<WriteLeaseReply> anna = anna_.ask(WriteLeaseRequest{.inode = file, .renew = true});
  ASSERT_TRUE(anna);
  EXPECT_FALSE(given(anna->lease));
  auto next = cora.begin(WriteLeaseRequest{.inode = file, .renew = true});
  EXPECT_FALSE(master_.done(next, milliseconds(200)));
  ASSERT_TRUE(anna_.mutate(CommitOp{.inode = file, .size_at_least = 77}));
  EXPECT_TRUE(bert_.recalls().empty());
  anna_.answer(anna_.recalls().at(0).sequence);
  ASSERT_TRUE(master_.done(next, milliseconds(200)));
  EXPECT_EQ((**next)->attributes.size, 77u);
  ASSERT_TRUE(cora.mutate(CommitOp{.inode = file, .size_at_least = 88}));
  EXPECT_FALSE(bert->has_value());
  cora.answer(cora.recalls().at(0).sequence);
  ASSERT_TRUE(master_.done(bert, milliseconds(500)));
  EXPECT_EQ((**bert)->attributes.size, 88u);
}

// The recall overtakes the grant: the one who is asked does not know that it has the lease.
TEST_F(Recalls, WhoIsAskedForTheLeaseHasItsTurn) {
  InodeId file = anna_.make("f");
  auto bert = bert_.begin(WriteLeaseRequest{.inode = file});
  EXPECT_FALSE(master_.done(bert, milliseconds(200)));
  auto turn = anna_.begin(WriteLeaseRequest{.inode = file, .renew = true});
  EXPECT_TRUE(master_.done(turn, milliseconds(200)));
}

TEST_F(Recalls, ACommitWithoutTheLeaseIsSeenByOthersWhenItIsAnswered) {
  InodeId file = anna_.make("f");
  ASSERT_TRUE(anna_.ask(ReleaseWriteLeaseRequest{.inode = file}));
  ASSERT_TRUE(given(bert_.ask(GetAttributesRequest{.inode = file})->lease));
  auto commit = anna_.begin_mutation(CommitOp{.inode = file, .size_at_least = 5});
  EXPECT_FALSE(master_.done(commit, milliseconds(200)));
  std::vector<Recall> recalls = bert_.recalls();
  ASSERT_EQ(recalls.size(), 1u);
  EXPECT_EQ(recalls[0].kind, RecallKind::kContent);
  bert_.answer(recalls[0].sequence);
  EXPECT_TRUE(master_.done(commit, milliseconds(500)));
}

TEST_F(Recalls, ACommitThatOnlySealsAsksNobody) {
  InodeId file = anna_.make("f");
  ASSERT_TRUE(anna_.ask(ReleaseWriteLeaseRequest{.inode = file}));
  ASSERT_TRUE(given(bert_.ask(GetAttributesRequest{.inode = file})->lease));
  auto commit = anna_.begin_mutation(CommitOp{.inode = file, .chunks = {{.chunk = ChunkId{1}, .seal = true}}});
  EXPECT_TRUE(master_.done(commit, milliseconds(200)));
  EXPECT_TRUE(bert_.recalls().empty());
}

TEST_F(Recalls, EachOperationRecallsWhatItTouches) {
  using Kind = RecallKind;
  InodeId file = bert_.mutate(create("f"))->attributes.inode;
  bert_.mutate(create("g")).value();
  CreateOp directory = create("d");
  directory.type = FileType::kDirectory;
  InodeId d = bert_.mutate(directory)->attributes.inode;
  directory.name = "e";
  InodeId e = bert_.mutate(directory)->attributes.inode;
  struct Case {
    const char* what;
    MetaOp op;
    std::vector<std::pair<InodeId, Kind>> recalled;
  };
  const InodeId root = kRootInode;
  const std::vector<Case> cases{
      {"link", LinkOp{file, root, "f2"}, {{root, Kind::kName}, {file, Kind::kAttributes}}},
      {"xattr", SetXattrOp{.inode = file, .name = "user.x", .value = "1"}, {{file, Kind::kAttributes}}},
      {"chmod", SetAttributesOp{.inode = file, .mode = 0600}, {{file, Kind::kAttributes}}},
      {"truncate", SetAttributesOp{.inode = file, .size = 9}, {{file, Kind::kContent}}},
      {"rename",
       RenameOp{root, "f2", root, "f3"},
       {{root, Kind::kName}, {root, Kind::kName}, {file, Kind::kAttributes}}},
      {"unlink", UnlinkOp{root, "f3", {}}, {{root, Kind::kName}, {file, Kind::kAttributes}}},
      {"move", RenameOp{root, "d", e, "d"}, {{root, Kind::kName}, {e, Kind::kName}, {d, Kind::kContent}}},
      {"rmdir of one that is not empty", RmdirOp{root, "e"}, {{root, Kind::kName}}},
      {"rmdir", RmdirOp{e, "d"}, {{e, Kind::kName}, {d, Kind::kContent}}},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.what);
    for (InodeId inode : {root, file, d, e})
      ASSERT_TRUE(given(anna_.ask(GetAttributesRequest{.inode = inode})->lease)) << inode.value;
    auto done = bert_.begin_mutation(one.op);
    master_.simulator().run_for(milliseconds(50));
    std::vector<std::pair<InodeId, Kind>> recalled;
    for (const Recall& recall : anna_.recalls()) {
      recalled.emplace_back(recall.inode, recall.kind);
      anna_.answer(recall.sequence);
    }
    EXPECT_EQ(recalled, one.recalled);
    EXPECT_TRUE(master_.done(done, milliseconds(500)));
    ASSERT_TRUE(bert_.ask(RenewSessionRequest{.known_term = bert_.term()}));
    ASSERT_TRUE(anna_.ask(RenewSessionRequest{.known_term = anna_.term()}));
  }
}

TEST_F(Recalls, AReaderWaitsForTheWriterAndALookupDoesNot) {
  InodeId file = anna_.make("f");
  Result<EntryReply> entry = bert_.lookup("f");
  ASSERT_TRUE(entry);
  EXPECT_FALSE(given(entry->lease));
  EXPECT_TRUE(anna_.recalls().empty());
  auto seen = bert_.begin(GetAttributesRequest{.inode = file});
  EXPECT_FALSE(master_.done(seen, milliseconds(300)));
  std::vector<Recall> recalls = anna_.recalls();
  ASSERT_EQ(recalls.size(), 1u);
  EXPECT_EQ(recalls[0].kind, RecallKind::kReader);
  // It commits what it has written while it is asked for it.
  ASSERT_TRUE(anna_.mutate(CommitOp{.inode = file, .size_at_least = 1000}));
  EXPECT_FALSE(seen->has_value());
  anna_.answer(recalls[0].sequence);
  ASSERT_TRUE(master_.done(seen, milliseconds(500)));
  ASSERT_TRUE(**seen);
  EXPECT_EQ((**seen)->attributes.size, 1000u);
  EXPECT_TRUE(given((**seen)->lease));
}

TEST_F(Recalls, WritersAreServedInTheOrderInWhichTheyAsked) {
  SimClient cora(master_, "cora");
  InodeId file = anna_.make("f");
  EXPECT_TRUE(given(anna_.ask(WriteLeaseRequest{.inode = file, .renew = true})->lease));
  auto bert = bert_.begin(WriteLeaseRequest{.inode = file});
  master_.simulator().run_for(milliseconds(50));
  auto gone = cora.begin(WriteLeaseRequest{.inode = file}, milliseconds(300));  // does not wait that long
  auto impatient = bert_.begin(WriteLeaseRequest{.inode = file, .renew = true});
  master_.simulator().run_for(milliseconds(500));
  EXPECT_TRUE((*impatient)->failed_with(ErrorCode::kWait));
  EXPECT_FALSE(bert->has_value());
  auto next = cora.begin(WriteLeaseRequest{.inode = file});
  master_.simulator().run_for(milliseconds(100));
  std::vector<Recall> recalls = anna_.recalls();
  ASSERT_EQ(recalls.size(), 1u);  // for the first of them only
  EXPECT_EQ(recalls[0].kind, RecallKind::kWriter);
  anna_.answer(recalls[0].sequence);
  ASSERT_TRUE(master_.done(bert, milliseconds(500)));
  ASSERT_TRUE(**bert);
  EXPECT_FALSE(master_.done(next, milliseconds(300)));
  // It gives it back by itself; the recall is answered after that.
  recalls = bert_.recalls();
  ASSERT_EQ(recalls.size(), 1u);
  ASSERT_TRUE(bert_.ask(ReleaseWriteLeaseRequest{.inode = file}));
  bert_.answer(recalls[0].sequence);
  ASSERT_TRUE(master_.done(next, milliseconds(500)));
  EXPECT_TRUE(**next);
}

TEST_F(Recalls, WhatWasGivenBackIsNotAskedFor) {
  anna_.hold_root();
  Result<LeaseNumberReply> number = anna_.ask(ReturnLeasesRequest{.term = anna_.term(), .inodes = {kRootInode}});
  ASSERT_TRUE(number);
  EXPECT_EQ(number->term, anna_.term());
  EXPECT_GT(number->sequence, 0u);
  auto made = bert_.begin_mutation(create("x"));
  EXPECT_TRUE(master_.done(made, milliseconds(500)));
}

TEST_F(Recalls, AWriterThatIsQuietLetsOthersReadWithoutBeingAsked) {
  InodeId file = anna_.make("f");
  ASSERT_TRUE(anna_.ask(ReturnLeasesRequest{.term = anna_.term() + 1, .lowered = {file}}));  // of another term
  EXPECT_FALSE(given(bert_.lookup("f")->lease));
  ASSERT_TRUE(anna_.ask(ReturnLeasesRequest{.term = anna_.term(), .lowered = {file, kRootInode}}));
  EXPECT_TRUE(given(bert_.lookup("f")->lease));
  auto bert = bert_.begin(WriteLeaseRequest{.inode = file});
  EXPECT_FALSE(master_.done(bert, milliseconds(200)));
  EXPECT_EQ(anna_.recalls().at(0).kind, RecallKind::kContent);  // it has kept it shared
}

TEST_F(Recalls, CommandsHoldNothing) {
  SimClient command(master_, "command", "");
  Result<EntryReply> entry = command.lookup("x");
  ASSERT_TRUE(entry);
  EXPECT_FALSE(given(entry->parent_lease));
  auto made = bert_.begin_mutation(create("x"));
  EXPECT_TRUE(master_.done(made, milliseconds(500)));
}

TEST_F(Recalls, TwoWhoChangeOneDirectoryWaitForEachOthersAnswersOnly) {
  anna_.hold_root();
  bert_.hold_root();
  auto one = anna_.begin_mutation(create("x"));
  auto two = bert_.begin_mutation(create("y"));
  master_.simulator().run_for(milliseconds(200));
  EXPECT_FALSE(one->has_value());
  EXPECT_FALSE(two->has_value());
  anna_.answer(anna_.recalls().at(0).sequence);
  ASSERT_TRUE(master_.done(two, milliseconds(300)));
  EXPECT_FALSE(one->has_value());
  bert_.answer(bert_.recalls().at(0).sequence);
  ASSERT_TRUE(master_.done(one, milliseconds(300)));
  EXPECT_FALSE(given((**one)->parent_lease));  // Bert has changed it since
}

TEST_F(Recalls, ASessionThatEndsByItselfIsNotWaitedFor) {
  anna_.hold_root();
  auto made = bert_.begin_mutation(create("x"));
  EXPECT_FALSE(master_.done(made, milliseconds(200)));
  ASSERT_TRUE(anna_.ask(CloseSessionRequest{}));
  EXPECT_TRUE(master_.done(made, milliseconds(300)));
}

TEST_F(Recalls, AfterAFailoverChangesWaitUntilAllHaveSaidWhatTheyHold) {
  InodeId file = anna_.make("f");
  master_.restart();
  Result<RenewSessionReply> renewed = bert_.ask(RenewSessionRequest{.known_term = bert_.term()});
  ASSERT_TRUE(renewed);
  EXPECT_TRUE(renewed->reclaim);
  EXPECT_GT(renewed->term, bert_.term());
  uint64_t term = renewed->term;
  anna_.set_term(term);
  bert_.set_term(term);
  auto made = bert_.begin_mutation(create("x"));
  auto seen = bert_.begin(GetAttributesRequest{.inode = file});
  Result<EntryReply> entry = bert_.lookup("f");  // names are read meanwhile
  ASSERT_TRUE(entry);
  EXPECT_TRUE(given(entry->parent_lease));
  EXPECT_FALSE(given(entry->lease));
  ASSERT_TRUE(bert_.ask(RenewSessionRequest{.known_term = term}));
  EXPECT_FALSE(master_.done(made, milliseconds(300)));
  ASSERT_TRUE(anna_.ask(RenewSessionRequest{.known_term = term, .leases = {{file, true}, {kRootInode, false}}}));
  master_.simulator().run_for(milliseconds(300));
  EXPECT_FALSE(made->has_value());
  EXPECT_FALSE(seen->has_value());
  std::vector<Recall> recalls = anna_.recalls();
  ASSERT_EQ(recalls.size(), 2u);
  for (const Recall& recall : recalls)
    anna_.answer(recall.sequence);
  EXPECT_TRUE(master_.done(made, milliseconds(500)));
  EXPECT_TRUE(master_.done(seen, milliseconds(500)));
  EXPECT_TRUE(given((**seen)->lease));
}

TEST_F(Recalls, AWrongClaimEndsItsSession) {
  InodeId file = anna_.make("f");
  master_.restart();
  Result<RenewSessionReply> renewed = anna_.ask(RenewSessionRequest{.known_term = anna_.term()});
  ASSERT_TRUE(renewed);
  uint64_t term = renewed->term;
  ASSERT_TRUE(anna_.ask(RenewSessionRequest{.known_term = term, .leases = {{file, true}}}));
  Result<RenewSessionReply> claimed = bert_.ask(RenewSessionRequest{.known_term = term, .leases = {{file, true}}});
  EXPECT_TRUE(claimed.failed_with(ErrorCode::kSessionEnded));
  EXPECT_TRUE(anna_.mutate(create("x")));
  EXPECT_TRUE(given(anna_.ask(WriteLeaseRequest{.inode = file})->lease));
}

TEST_F(Recalls, WhoDoesNotComeBackIsWaitedForItsTimeAndNoLonger) {
  anna_.hold_root();
  master_.restart();
  TimePoint began = now();
  Result<RenewSessionReply> renewed = bert_.ask(RenewSessionRequest{.known_term = bert_.term()});
  ASSERT_TRUE(renewed);
  uint64_t term = renewed->term;
  auto made = bert_.begin_mutation(create("x"));
  while (!made->has_value() && now() < began + seconds(20)) {
    ASSERT_TRUE(bert_.ask(RenewSessionRequest{.known_term = term}));
    master_.simulator().run_for(milliseconds(300));
  }
  ASSERT_TRUE(made->has_value());
  EXPECT_TRUE(**made);
  EXPECT_GE(now() - began, milliseconds(2500));
  EXPECT_LE(now() - began, seconds(7));
}

class RecallsAtTheEnd : public Recalls {
 protected:
  // One request of each kind that waits for somebody.
  void let_all_wait() {
    InodeId file = anna_.make("f");
    anna_.hold_root();
    waiting_ = bert_.begin_mutation(create("x"));
    behind_ = cora_.begin_mutation(create("x"));
    reader_ = bert_.begin(GetAttributesRequest{.inode = file});
    writer_ = bert_.begin(WriteLeaseRequest{.inode = file});
    next_writer_ = cora_.begin(WriteLeaseRequest{.inode = file});
    taking_ = bert_.begin(TakeRecallsRequest{});
    master_.simulator().run_for(milliseconds(300));
    EXPECT_FALSE(answered(false));
  }
  // All of them, or some of them.
  bool answered(bool all) const {
    std::vector<bool> each{waiting_->has_value(), behind_->has_value(),      reader_->has_value(),
                           writer_->has_value(),  next_writer_->has_value(), taking_->has_value()};
    auto count = std::ranges::count(each, true);
    return all ? count == static_cast<ptrdiff_t>(each.size()) : count > 0;
  }

  SimClient cora_{master_, "cora"};
  SimClient::Waiting<MutateRequest> waiting_, behind_;
  SimClient::Waiting<GetAttributesRequest> reader_;
  SimClient::Waiting<WriteLeaseRequest> writer_, next_writer_;
  SimClient::Waiting<TakeRecallsRequest> taking_;
};

TEST_F(RecallsAtTheEnd, AMasterStopsAlthoughOthersWait) {
  let_all_wait();
  bool stopped = false;
  master_.stop(stopped);
  EXPECT_TRUE(master_.simulator().run_until([&] { return stopped; }, seconds(3)));
  EXPECT_TRUE(master_.simulator().run_until([&] { return answered(true); }, seconds(5)));
}

TEST_F(RecallsAtTheEnd, AMasterThatDiesLeavesNobodyWaiting) {
  let_all_wait();
  master_.restart();
  EXPECT_TRUE(master_.simulator().run_until([&] { return answered(true); }, seconds(5)));
}

// What was read before a change, and is answered after it began, has no lease: or the change waits for the reader.
TEST_F(Recalls, AReaderThatIsNotAskedHasNoLeaseOnTheOldState) {
  for (int i = 0; i < 200; ++i) {
    std::string name = "n" + std::to_string(i);
    auto read = anna_.begin(LookupRequest{.parent = kRootInode, .name = name});
    master_.simulator().run_for(std::chrono::microseconds(master_.simulator().random().below(1500)));
    auto made = bert_.begin_mutation(create(name));
    ASSERT_TRUE(master_.done(read, milliseconds(500)));
    bool believes = !(**read)->attributes.inode && given((**read)->parent_lease);
    if (believes) EXPECT_FALSE(master_.done(made, milliseconds(100))) << i;
    for (const Recall& recall : anna_.recalls())
      anna_.answer(recall.sequence);
    ASSERT_TRUE(master_.done(made, milliseconds(500)));
    // Nothing is held at the beginning of the next round.
    ASSERT_TRUE(anna_.ask(ReturnLeasesRequest{.term = anna_.term(), .inodes = {kRootInode}}));
    ASSERT_TRUE(anna_.ask(RenewSessionRequest{.known_term = anna_.term()}));
    ASSERT_TRUE(bert_.ask(RenewSessionRequest{.known_term = bert_.term()}));
  }
}

}  // namespace
}  // namespace cairn
