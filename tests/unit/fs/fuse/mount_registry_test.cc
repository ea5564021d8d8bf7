#include "fs/fuse/mount_registry.h"

#include <cstdlib>
#include <gtest/gtest.h>

#include "common/runtime/memory_disk.h"

namespace cairn {
namespace {

class Registry : public ::testing::Test {
 protected:
  void SetUp() override { ::setenv("CAIRN_RUN_DIR", "/registry", 1); }
  MemoryDisk disk_;
};

TEST_F(Registry, IsEmptyWithoutAFolder) {
  Result<std::vector<MountRecord>> mounts = list_mounts(disk_);
  ASSERT_TRUE(mounts) << mounts.error().message();
  EXPECT_TRUE(mounts->empty());
  EXPECT_TRUE(find_mount(disk_, "/mnt").failed_with(ErrorCode::kNotFound));
}

TEST_F(Registry, GivesBackWhatWasWritten) {
  MountRecord record = new_mount_record("/mnt/with = and spaces", "tcp:a:1,tcp:b:2");
  ASSERT_TRUE(write_mount_record(disk_, record));
  Result<std::vector<MountRecord>> mounts = list_mounts(disk_);
  ASSERT_TRUE(mounts);
  ASSERT_EQ(1u, mounts->size());
  const MountRecord& found = mounts->front();
  EXPECT_EQ(record.mountpoint, found.mountpoint);
  EXPECT_EQ(record.masters, found.masters);
  EXPECT_EQ(record.process, found.process);
  EXPECT_EQ(record.guardian, found.guardian);
  EXPECT_EQ(record.socket, found.socket);
  EXPECT_EQ(record.log_file, found.log_file);
  EXPECT_EQ(record.path, found.path);
  EXPECT_TRUE(find_mount(disk_, "/mnt/with = and spaces"));
  remove_mount_record(disk_, record);
  EXPECT_TRUE(find_mount(disk_, "/mnt/with = and spaces").failed_with(ErrorCode::kNotFound));
}

TEST_F(Registry, ForgetsMountsWhoseProcessIsGone) {
  MountRecord record = new_mount_record("/mnt/a", "tcp:a:1");
  record.process.start_time += 1;  // another process had this id
  ASSERT_TRUE(write_mount_record(disk_, record));
  Result<std::vector<MountRecord>> mounts = list_mounts(disk_);
  ASSERT_TRUE(mounts);
  EXPECT_TRUE(mounts->empty());
  EXPECT_FALSE(disk_.exists(record.path).value_or(true));
}

TEST_F(Registry, ABrokenRunFileIsNoMount) {
  ASSERT_TRUE(disk_.make_folder("/registry"));
  ASSERT_TRUE(write_file(disk_, "/registry/x.mount", "pid=99999999999999\n=\nnonsense"));
  ASSERT_TRUE(write_file(disk_, "/registry/other.log", "mountpoint=/mnt\n"));
  Result<std::vector<MountRecord>> mounts = list_mounts(disk_);
  ASSERT_TRUE(mounts);
  EXPECT_TRUE(mounts->empty());
}

TEST_F(Registry, MountpointsOfOneNameHaveTheirOwnFiles) {
  MountRecord a = new_mount_record("/a/data", "x");
  MountRecord b = new_mount_record("/b/data", "x");
  EXPECT_NE(a.path, b.path);
  EXPECT_TRUE(a.path.starts_with("/registry/data-"));
  MountRecord long_one = new_mount_record("/" + std::string(255, 'n'), "x");
  EXPECT_LT(long_one.socket.size(), 108u - 40);  // a Unix socket's path, with a longer folder
}

}  // namespace
}  // namespace cairn
