// A memory_mount on a temporary folder, for tests that work through real system calls. What is left of it is cleared
// away however the test ends, also when it is killed or when a call hangs (then no signal reaches the test: a process
// beside it watches).
#pragma once

#include <chrono>
#include <gtest/gtest.h>
#include <optional>
#include <string>
#include <vector>

#include "fs/fuse/mount_registry.h"

namespace cairn {

class MountFixture : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  // Mounts; the options are memory_mount's.
  void mount(const std::vector<std::string>& options = {});
  // Runs memory_mount on any mountpoint; gives its exit status, and what it said.
  int run_mount_program(const std::string& mountpoint, const std::vector<std::string>& options, std::string* said);

  std::string path(const std::string& name) const { return mountpoint_ + "/" + name; }
  // True if it has ended by then.
  static bool wait_for_end(pid_t pid, std::chrono::milliseconds limit);
  bool mounted() const;
  std::string log_text() const;

  std::string folder_;
  int watchdog_ = -1;  // pipe: closed without a word, or left open too long, it clears everything away
  std::string mountpoint_;
  MountRecord record_;  // after mount()
};

// Whole files by plain system calls; failures are errors of the test.
void write_file_at(const std::string& path, std::string_view content);
std::string read_file_at(const std::string& path);
// Runs in a child process; true if `work` gave true there.
bool in_child(const std::function<bool()>& work);

}  // namespace cairn
