#include "common/base/log.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <regex>
#include <thread>
#include <vector>

#include "common/base/check.h"
#include "common/base/ids.h"

namespace cairn {
namespace {

class Log : public testing::Test {
 protected:
  void SetUp() override {
    // A folder of the test's own: CTest runs tests of one binary side by side.
    std::string name = testing::UnitTest::GetInstance()->current_test_info()->name();
    folder_ = std::filesystem::temp_directory_path() / ("cairn_log_" + std::to_string(::getpid()) + name);
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override {
    start_logging("cairn", LogLevel::kWarning);
    std::filesystem::remove_all(folder_);
  }
  std::string path(std::string_view name = "log") const { return (folder_ / name).string(); }
  static std::vector<std::string> lines(const std::string& path) {
    std::ifstream in(path);
    std::vector<std::string> all;
    for (std::string line; std::getline(in, line);)
      all.push_back(line);
    return all;
  }
  std::filesystem::path folder_;
};

TEST_F(Log, ALineIsTimeLevelProgramEventFields) {
  start_logging("cairn-test", LogLevel::kInfo, path());
  log_info("chunk.sealed", "chunk={} version={}", ChunkId{0xab}, 7);
  log_warning("disk.slow", "{}", "");
  auto all = lines(path());
  ASSERT_EQ(all.size(), 2u);
  EXPECT_TRUE(std::regex_match(
      all[0],
      std::regex(
          R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z info cairn-test chunk\.sealed chunk=00000000000000ab version=7)")))
      << all[0];
  EXPECT_TRUE(all[1].ends_with(" warning cairn-test disk.slow")) << all[1];
}

TEST_F(Log, LowerLevelsAreLeftOut) {
  start_logging("cairn-test", LogLevel::kWarning, path());
  log_info("not.this", "");
  log_error("this", "");
  set_log_level(LogLevel::kOff);
  log_error("nor.this", "");
  set_log_level(LogLevel::kDebug);
  log_debug("and.this", "");
  auto all = lines(path());
  ASSERT_EQ(all.size(), 2u);
  EXPECT_TRUE(all[0].ends_with("error cairn-test this"));
  EXPECT_TRUE(all[1].ends_with("debug cairn-test and.this"));
}

TEST_F(Log, AValueCannotForgeALine) {
  start_logging("cairn-test", LogLevel::kInfo, path());
  log_info("name.seen", "name={}", "a\n2020-01-01T00:00:00Z error forged");
  log_info("name.seen", "name={}", quoted("a\"b\\c\x01\n"));
  auto all = lines(path());
  ASSERT_EQ(all.size(), 2u);
  EXPECT_TRUE(all[0].ends_with("name=a\\n2020-01-01T00:00:00Z error forged"));
  EXPECT_TRUE(all[1].ends_with("name=\"a\\\"b\\\\c\\x01\\n\""));
}

TEST_F(Log, ReopenGoesOnInANewFileAfterRotation) {
  start_logging("cairn-test", LogLevel::kInfo, path());
  log_info("before", "");
  std::filesystem::rename(path(), path("log.1"));
  log_info("still.the.old", "");
  reopen_log();
  log_info("after", "");
  EXPECT_EQ(lines(path("log.1")).size(), 2u);
  ASSERT_EQ(lines(path()).size(), 1u);
  EXPECT_TRUE(lines(path())[0].ends_with("after"));
}

TEST_F(Log, LinesOfManyThreadsDoNotMix) {
  start_logging("cairn-test", LogLevel::kInfo, path());
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; t++) {
    threads.emplace_back([t] {
      for (int i = 0; i < 250; i++)
        log_info("tick", "thread={} text={}", t, std::string(100, static_cast<char>('a' + t)));
    });
  }
  for (auto& thread : threads)
    thread.join();
  auto all = lines(path());
  ASSERT_EQ(all.size(), 1000u);
  std::regex form(R"(\S+ info cairn-test tick thread=\d text=([a-d])\1{99})");
  for (const auto& line : all)
    ASSERT_TRUE(std::regex_match(line, form)) << line;
}

TEST_F(Log, AFileThatCannotBeOpenedFallsBackToStandardError) {
  testing::internal::CaptureStderr();
  start_logging("cairn-test", LogLevel::kInfo, path("no/such/folder/log"));
  log_info("here", "");
  EXPECT_NE(testing::internal::GetCapturedStderr().find("cairn-test here"), std::string::npos);
}

TEST_F(Log, AFailedCheckIsOnTerminalAndInTheFile) {
  int one = 1;
  EXPECT_DEATH(
      {
        start_logging("cairn-test", LogLevel::kInfo, path("death"));
        CHECK(one == 2);
      },
      "CHECK failed: .*log_test.cc:[0-9]+: one == 2");
  auto all = lines(path("death"));
  ASSERT_EQ(all.size(), 1u);
  EXPECT_NE(all[0].find("error cairn-test check.failed at="), std::string::npos);
}

}  // namespace
}  // namespace cairn
