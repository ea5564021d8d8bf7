#include "fs/fuse/caller_state.h"

#include <csignal>
#include <cstdio>
#include <gtest/gtest.h>
#include <string>
#include <sys/syscall.h>
#include <unistd.h>

namespace cairn {
namespace {

std::string status(const std::string& thread, const std::string& process,
                   const std::string& blocked = "0000000000000000", const std::string& ignored = "0000000000000000") {
  return "Name:\tdd\nState:\tD (disk sleep)\nSigQ:\t1/127\nSigPnd:\t" + thread + "\nShdPnd:\t" + process +
         "\nSigBlk:\t" + blocked + "\nSigIgn:\t" + ignored + "\nSigCgt:\t0000000000002000\n";
}
const std::string kNone = "0000000000000000";
const std::string kKill = "0000000000000100";
const std::string kInterrupt = "0000000000000002";
const std::string kAlarm = "0000000000002000";

TEST(CallerState, WhoIsBeingKilledIs) {
  EXPECT_EQ(caller_state_of(status(kKill, kNone)), CallerState::kKilled);
  EXPECT_EQ(caller_state_of(status(kNone, kKill)), CallerState::kKilled);
  EXPECT_EQ(caller_state_of(status("0000000000002100", kInterrupt)), CallerState::kKilled);
}

TEST(CallerState, TimersAndChildrenStopNobody) {
  EXPECT_EQ(caller_state_of(status(kAlarm, kNone)), CallerState::kWaits);
  EXPECT_EQ(caller_state_of(status(kNone, "0000000000012a00")), CallerState::kWaits);  // USR1, USR2, ALRM, CHLD
  EXPECT_EQ(caller_state_of(status(kNone, kNone)), CallerState::kWaits);
  EXPECT_EQ(caller_state_of(""), CallerState::kWaits);
}

TEST(CallerState, WhoIsAskedToStopIsUnlessItDoesNotListen) {
  for (int signal : {SIGINT, SIGTERM, SIGQUIT, SIGHUP}) {
    char set[17];
    std::snprintf(set, sizeof set, "%016lx", 1UL << (signal - 1));
    EXPECT_EQ(caller_state_of(status(kNone, set)), CallerState::kAskedToStop) << signal;
    EXPECT_EQ(caller_state_of(status(kNone, set, set)), CallerState::kWaits) << signal;
    EXPECT_EQ(caller_state_of(status(kNone, set, kNone, set)), CallerState::kWaits) << signal;
  }
}

TEST(CallerState, AThreadThatIsThereWaitsAndOneThatIsNotHasEnded) {
  EXPECT_EQ(caller_state(static_cast<int>(::syscall(SYS_gettid))), CallerState::kWaits);
  EXPECT_EQ(caller_state(0x3FFFFFFF), CallerState::kKilled);
  EXPECT_EQ(caller_state(0), CallerState::kAskedToStop);
}

}  // namespace
}  // namespace cairn
