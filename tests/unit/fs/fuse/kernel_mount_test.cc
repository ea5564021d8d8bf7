#include "fs/fuse/kernel_mount.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "fs/fuse/process_id.h"

namespace cairn {
namespace {

TEST(KernelMounts, AreThoseOfCairnWithTheirNamesUnescaped) {
  std::vector<KernelMount> mounts = parse_mountinfo(
      "22 27 0:20 / /proc rw,nosuid - proc proc rw\n"
      "42 27 0:39 / /mnt/my\\040files rw,relatime shared:7 master:1 - fuse.cairn cairn\\043a:9400,b:9400 rw,user_id=0\n"
      "43 27 0:40 / /mnt/other ro,relatime - fuse.cairn cairn#[::1]:9400 ro\n"
      "44 27 0:41 / /mnt/third rw - fuse.sshfs cairn#fake rw\n"
      "45 27 8:1 / /readable\\134 roomy - fuse.cairn cairn#x rw");
  ASSERT_EQ(3u, mounts.size());
  EXPECT_EQ("/mnt/my files", mounts[0].mountpoint);
  EXPECT_EQ("cairn#a:9400,b:9400", mounts[0].source);
  EXPECT_EQ(39u, mounts[0].device_minor);
  EXPECT_FALSE(mounts[0].read_only);
  EXPECT_EQ("[::1]:9400", masters_of_source(mounts[1].source));
  EXPECT_TRUE(mounts[1].read_only);
  EXPECT_EQ("/readable\\", mounts[2].mountpoint);
  EXPECT_FALSE(mounts[2].read_only);
}

TEST(KernelMounts, BrokenLinesAreLeftOut) {
  EXPECT_TRUE(parse_mountinfo("").empty());
  EXPECT_TRUE(parse_mountinfo("\n\n42 27\n- fuse.cairn").empty());
  EXPECT_TRUE(parse_mountinfo("42 27 nonsense / /mnt rw - fuse.cairn cairn#a rw").empty());
}

TEST(KernelMounts, ASourceNamesItsMasters) {
  EXPECT_EQ("a:1,b:2", masters_of_source("cairn#a:1,b:2"));
  EXPECT_EQ("", masters_of_source("a:1"));
  EXPECT_EQ("", masters_of_source(""));
}

TEST(ProcessId, AnIdThatWasUsedAgainIsAnotherProcess) {
  std::optional<ProcessId> self = find_process(::getpid());
  ASSERT_TRUE(self);
  EXPECT_TRUE(is_alive(*self));
  EXPECT_FALSE(is_alive({.pid = self->pid, .start_time = self->start_time + 1}));
  EXPECT_FALSE(is_alive({}));
  EXPECT_FALSE(find_process(1 << 30));
  EXPECT_FALSE(is_zombie(::getpid()));
}

}  // namespace
}  // namespace cairn
