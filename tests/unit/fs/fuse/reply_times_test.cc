#include "fs/fuse/reply_times.h"

#include <gtest/gtest.h>
#include <optional>

namespace cairn {
namespace {

using namespace std::chrono_literals;
constexpr InodeId kD(7), kOther(8);

class TwinClock : public Clock {
 public:
  TimePoint now() const override { return now_; }
  WallTime wall() const override { return {}; }
  TimerId call_at(TimePoint, std::move_only_function<void()>) override { return 1; }
  void cancel(TimerId) override {}
  TimePoint now_ = TimePoint{} + 1h;
};

class ReplyTimesTest : public ::testing::Test {
 protected:
  TwinClock clock_;
  ReplyTimes times_{clock_, 5s};
};

TEST_F(ReplyTimesTest, NamesHaveASecondAtMostWithoutAnEpoch) {
  EXPECT_EQ(1s, times_.of_name(kD, 10s));
  EXPECT_EQ(500ms, times_.of_name(kD, 500ms));
  EXPECT_EQ(10s, times_.of_attributes(kD, 10s));
  times_.set_epoch(true);
  EXPECT_EQ(10s, times_.of_name(kD, 10s));
}

TEST_F(ReplyTimesTest, NothingHasATimeoutWhileItIsRecalled) {
  {
    ReplyTimes::Recall one = times_.recall_attributes(kD);
    std::optional<ReplyTimes::Recall> two(times_.recall_attributes(kD));
    two.reset();
    EXPECT_EQ(0s, times_.of_attributes(kD, 1s));
    EXPECT_EQ(1s, times_.of_attributes(kOther, 1s));
    EXPECT_EQ(1s, times_.of_name(kD, 1s));
  }
  EXPECT_EQ(1s, times_.of_attributes(kD, 1s));
  {
    ReplyTimes::Recall all = times_.recall_everything();
    EXPECT_EQ(0s, times_.of_attributes(kOther, 1s));
    EXPECT_EQ(0s, times_.of_name(kOther, 1s));
  }
  EXPECT_EQ(1s, times_.of_name(kOther, 1s));
}

TEST_F(ReplyTimesTest, NamesOfADirectoryHaveNoneForAWhileAfterAConflict) {
  std::optional<ReplyTimes::Recall> recall(times_.recall_names(kD));
  EXPECT_EQ(0s, times_.of_name(kD, 1s));
  recall.reset();
  EXPECT_EQ(0s, times_.of_name(kD, 1s));
  EXPECT_EQ(1s, times_.of_name(kOther, 1s));
  EXPECT_LE(times_.names_until(kD), clock_.now());
  clock_.now_ += 5s;
  EXPECT_EQ(1s, times_.of_name(kD, 1s));
}

TEST_F(ReplyTimesTest, KnowsUntilWhenNamesMayBeInUse) {
  EXPECT_LE(times_.names_until(kD), clock_.now());
  times_.of_name(kD, 1s);
  TimePoint until = clock_.now() + 1s + ReplyTimes::kTakenWithin;
  times_.of_name(kD, 10ms);
  EXPECT_EQ(until, times_.names_until(kD));
  EXPECT_LE(times_.names_until(kOther), clock_.now());
  EXPECT_EQ(until, times_.all_names_until());
  times_.names_forgotten();
  EXPECT_LE(times_.names_until(kD), clock_.now());
}

TEST_F(ReplyTimesTest, ForgetsNoDirectoryAmongTooMany) {
  times_.of_name(kD, 1s);
  TimePoint until = times_.names_until(kD);
  for (uint64_t i = 100; i < 100'000; ++i)
    times_.of_name(InodeId(i), 1s);
  EXPECT_EQ(until, times_.names_until(kD));
  clock_.now_ += 2s;
  for (uint64_t i = 100; i < 100'000; ++i)
    times_.of_name(InodeId(i), 1s);
  EXPECT_GE(times_.names_until(InodeId(200)), clock_.now() + 1s);
}

TEST_F(ReplyTimesTest, ContentIsContendedForAWhile) {
  EXPECT_FALSE(times_.is_contended(kD));
  times_.content_contended(kD);
  EXPECT_TRUE(times_.is_contended(kD));
  clock_.now_ += 3s;
  times_.content_contended(kD);
  clock_.now_ += 3s;
  times_.content_contended(kOther);
  EXPECT_TRUE(times_.is_contended(kD));
  clock_.now_ += 5s;
  EXPECT_FALSE(times_.is_contended(kD));
}

}  // namespace
}  // namespace cairn
