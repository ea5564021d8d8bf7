#include "common/base/error.h"

#include <cerrno>
#include <gtest/gtest.h>
#include <set>

#include "common/base/result.h"

namespace cairn {
namespace {

TEST(Error, FileErrorsKeepTheErrnoOfTheirName) {
  EXPECT_EQ(to_errno(ErrorCode::kNotFound), ENOENT);
  EXPECT_EQ(to_errno(ErrorCode::kNotEmpty), ENOTEMPTY);
  EXPECT_EQ(to_errno(ErrorCode::kQuota), EDQUOT);
  EXPECT_EQ(to_errno(ErrorCode::kBadHandle), EBADF);
}

TEST(Error, ErrorsBetweenServersReachApplicationsAsEio) {
  for (uint16_t number = 100; number <= 117; number++) {
    EXPECT_EQ(to_errno(static_cast<ErrorCode>(number)), EIO) << number;
    EXPECT_NE(to_string(static_cast<ErrorCode>(number)), "unknown") << number;
  }
}

TEST(Error, EveryFileErrorSurvivesTheWayThroughErrno) {
  for (uint16_t number = 1; number <= 30; number++) {
    auto code = static_cast<ErrorCode>(number);
    EXPECT_EQ(from_errno(to_errno(code)), code) << number;
  }
}

TEST(Error, NamesAreDistinct) {
  std::set<std::string_view> names;
  for (uint16_t number = 1; number <= 117; number++) {
    auto code = static_cast<ErrorCode>(number);
    if (error_code_from_wire(number) != code) continue;
    EXPECT_TRUE(names.insert(to_string(code)).second) << to_string(code);
  }
  EXPECT_EQ(names.size(), 30u + 18u);
}

TEST(Error, NumbersThatNobodyKnowsBecomeIo) {
  EXPECT_EQ(error_code_from_wire(0), ErrorCode::kIo);
  EXPECT_EQ(error_code_from_wire(31), ErrorCode::kIo);
  EXPECT_EQ(error_code_from_wire(65535), ErrorCode::kIo);
  EXPECT_EQ(error_code_from_wire(107), ErrorCode::kCorrupt);
  EXPECT_EQ(from_errno(EXDEV + 100000), ErrorCode::kIo);
}

TEST(Error, ABrokenConnectionIsUnavailable) {
  EXPECT_EQ(from_errno(ECONNRESET), ErrorCode::kUnavailable);
  EXPECT_EQ(from_errno(EPIPE), ErrorCode::kUnavailable);
}

TEST(Error, InPutsWhatTheCallerWasDoingInFront) {
  Error error(ErrorCode::kNoSpace, "disk full");
  EXPECT_EQ(error.in("writing x").message(), "no_space: writing x: disk full");
  EXPECT_EQ(Error(ErrorCode::kNoSpace).in("writing x").message(), "no_space: writing x");
  EXPECT_EQ(Error(ErrorCode::kNoSpace).message(), "no_space");
}

TEST(Error, OfTheLastSystemCallNamesItsReason) {
  errno = ENOENT;
  Error error = errno_error("open /x");
  EXPECT_EQ(error.code, ErrorCode::kNotFound);
  EXPECT_EQ(error.context, "open /x: No such file or directory");
}

TEST(Result, HoldsAValueOrAnError) {
  Result<int> good = 7;
  EXPECT_TRUE(good.has_value());
  EXPECT_FALSE(good.failed_with(ErrorCode::kIo));
  Result<int> bad = Error(ErrorCode::kStale, "x");
  EXPECT_TRUE(bad.failed_with(ErrorCode::kStale));
  Result<void> done;
  EXPECT_TRUE(done.has_value());
  Result<void> failed = ErrorCode::kBusy;
  EXPECT_EQ(failed.code(), ErrorCode::kBusy);
}

}  // namespace
}  // namespace cairn
