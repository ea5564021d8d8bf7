#include "master/leases/open_files.h"

#include <gtest/gtest.h>

#include "master/leases/unheld_files.h"

namespace cairn {
namespace {

constexpr SessionId kAnna{1}, kBert{2};
constexpr InodeId kFile{10}, kOther{11};

TEST(OpenFiles, KnowsWhoHasWhatOpenOnce) {
  OpenFiles files;
  files.open(kBert, kFile);
  files.open(kAnna, kFile);
  files.open(kAnna, kFile);
  files.open(kAnna, kOther);
  EXPECT_EQ(files.holders(kFile), (std::vector<SessionId>{kAnna, kBert}));
  EXPECT_EQ(files.count(kAnna), 2u);
  files.close(kAnna, kFile);
  EXPECT_EQ(files.holders(kFile), std::vector<SessionId>{kBert});
  files.close(kAnna, kFile);  // again: nothing
  EXPECT_EQ(files.count(kAnna), 1u);
}

TEST(OpenFiles, ReclaimAddsToWhatIsKnown) {
  OpenFiles files;
  files.open(kAnna, kOther);
  files.reclaim(kAnna, {kFile});
  EXPECT_EQ(files.holders(kFile), std::vector<SessionId>{kAnna});
  EXPECT_EQ(files.holders(kOther), std::vector<SessionId>{kAnna});
}

TEST(OpenFiles, NothingIsLeftOfASessionThatHasEnded) {
  OpenFiles files;
  files.open(kAnna, kFile);
  files.open(kBert, kFile);
  files.end_session(kAnna);
  EXPECT_EQ(files.holders(kFile), std::vector<SessionId>{kBert});
  EXPECT_EQ(files.count(kAnna), 0u);
  files.clear();
  EXPECT_TRUE(files.holders(kFile).empty());
}

TEST(UnheldFiles, CountsFromTheFirstQuestionWhileNobodyWrites) {
  LeaseTable table;
  table.begin_term(1);
  UnheldFiles unheld(table);
  EXPECT_EQ(unheld.unheld_since(kFile, 1000), 1000u);
  EXPECT_EQ(unheld.unheld_since(kFile, 9000), 1000u);
  ASSERT_NE(table.make_exclusive_new(kAnna, kFile).duration_ms, 0u);
  unheld.taken(kFile);
  EXPECT_EQ(unheld.unheld_since(kFile, 10'000), 10'000u);
  table.lower(kAnna, kFile, false);
  EXPECT_EQ(unheld.unheld_since(kFile, 11'000), 11'000u);
  EXPECT_EQ(unheld.unheld_since(kFile, 12'000), 11'000u);
}

TEST(UnheldFiles, ForgetsWhatNobodyAsksAbout) {
  LeaseTable table;
  UnheldFiles unheld(table, 1);
  EXPECT_EQ(unheld.unheld_since(kFile, 1000), 1000u);
  EXPECT_EQ(unheld.unheld_since(kOther, 2000), 2000u);
  EXPECT_EQ(unheld.unheld_since(kOther, 3000), 3000u);  // no room to watch it
  unheld.expire(1000 + kUnwatchMs);
  EXPECT_EQ(unheld.unheld_since(kOther, 70'000), 70'000u);
  EXPECT_EQ(unheld.unheld_since(kOther, 71'000), 70'000u);
}

}  // namespace
}  // namespace cairn
