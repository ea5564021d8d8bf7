#include "common/runtime/read_predictor.h"

#include <gtest/gtest.h>

namespace cairn {
namespace {

int tries(ReadPredictor& predictor, int reads, bool something) {
  int tried = 0;
  for (int i = 0; i < reads; ++i) {
    if (!predictor.worth_trying()) continue;
    ++tried;
    predictor.found(something);
  }
  return tried;
}

TEST(ReadPredictor, GoesOnWhileThereIsSomething) {
  ReadPredictor predictor;
  EXPECT_EQ(tries(predictor, 100, true), 100);
}

TEST(ReadPredictor, SeldomTriesWhatIsAlwaysEmptyButDoesNotGiveUp) {
  ReadPredictor predictor;
  int tried = tries(predictor, 160, false);
  EXPECT_LE(tried, 3 + 10);
  EXPECT_GE(tried, 3 + 9);
}

TEST(ReadPredictor, OneHitBringsItBack) {
  ReadPredictor predictor;
  tries(predictor, 100, false);
  EXPECT_GE(tries(predictor, 100, true), 84);
}

TEST(ReadPredictor, OneMissDoesNotStopIt) {
  ReadPredictor predictor;
  predictor.found(false);
  EXPECT_TRUE(predictor.worth_trying());
}

}  // namespace
}  // namespace cairn
