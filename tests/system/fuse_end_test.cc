// How a mount ends: cleanly, or by the guardian's hand; and what cannot be mounted at all.
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/runtime/posix_disk.h"
#include "common/runtime/real_world.h"
#include "tests/system/mount_fixture.h"

namespace cairn {
namespace {

using std::chrono::seconds;

class MountEnd : public MountFixture {
 protected:
  // Asks the mount's control socket.
  Result<ControlAnswer> ask(const std::string& what) {
    std::unique_ptr<RealWorld> world = RealWorld::make({});
    Result<ControlAnswer> answer = Error(ErrorCode::kIo);
    world->run(ask_on(world.get(), what, &answer));
    return answer;
  }
  // An order to the file system. Each is given through another inode: setxattr holds the lock of its own.
  bool order(const char* what, const std::string& through, ino_t about) {
    std::string number = std::to_string(about);
    return ::setxattr(through.c_str(), what, number.data(), number.size(), 0) == 0;
  }
  bool forget_pages(ino_t inode) { return order("user.forget-pages", path("through"), inode); }
  bool hold_reads(ino_t inode) { return order("user.hold-reads", mountpoint_, inode); }
  ino_t prepare_file() {
    write_file_at(path("through"), "");
    write_file_at(path("f"), std::string(100'000, 'x'));
    struct stat attributes{};
    EXPECT_EQ(0, ::stat(path("f").c_str(), &attributes));
    return attributes.st_ino;
  }
  // True when a metric has that value.
  bool wait_for_metric(const std::string& name, int value) {
    std::string line = "\n" + name + " " + std::to_string(value) + "\n";
    for (int i = 0; i < 20'000; ++i) {
      Result<ControlAnswer> metrics = ask("/metrics");
      if (!metrics) return false;
      if (metrics->body.find(line) != std::string::npos) return true;
    }
    return false;
  }
  Task<int> ask_on(RealWorld* world, std::string what, Result<ControlAnswer>* out) {
    *out = co_await ask_mount(*world, record_.socket, what, world->clock().now() + seconds(10));
    co_return 0;
  }
};

TEST_F(MountEnd, UmountEndsTheProcess) {
  mount();
  write_file_at(path("f"), "text");
  ASSERT_EQ(0, ::umount2(mountpoint_.c_str(), 0)) << std::strerror(errno);
  EXPECT_TRUE(wait_for_end(record_.process.pid, seconds(10)));
  EXPECT_TRUE(wait_for_end(record_.guardian.pid, seconds(10)));
  EXPECT_NE(std::string::npos, log_text().find("mount.ended")) << log_text();
  EXPECT_NE(std::string::npos, log_text().find("clean=true")) << log_text();
  EXPECT_FALSE(std::filesystem::exists(record_.path));
  EXPECT_FALSE(std::filesystem::exists(record_.socket));
}

TEST_F(MountEnd, TheTermSignalUnmountsEvenWithOpenFiles) {
  mount();
  int fd = ::open(path("f").c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(0, ::kill(record_.guardian.pid, SIGTERM));
  EXPECT_TRUE(wait_for_end(record_.process.pid, seconds(15)));
  EXPECT_FALSE(mounted());
  EXPECT_NE(std::string::npos, log_text().find("clean=true")) << log_text();
  EXPECT_EQ(-1, ::write(fd, "x", 1));
  EXPECT_EQ(ENOTCONN, errno);
  ::close(fd);
}

TEST_F(MountEnd, WhatCouldNotBeWrittenIsNamed) {
  mount({"never_durable"});
  write_file_at(path("f"), "text");
  struct stat attributes{};
  ASSERT_EQ(0, ::stat(path("f").c_str(), &attributes));
  ASSERT_EQ(0, ::umount2(mountpoint_.c_str(), 0));
  EXPECT_TRUE(wait_for_end(record_.process.pid, seconds(10)));
  std::string expected = "mount.not_written inode=" + std::to_string(attributes.st_ino) + " bytes=4";
  EXPECT_NE(std::string::npos, log_text().find(expected)) << log_text();
  EXPECT_NE(std::string::npos, log_text().find("clean=false")) << log_text();
}

TEST_F(MountEnd, AKilledProcessLeavesNothingThatHangs) {
  mount();
  int fd = ::open(path("f").c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(0, ::kill(record_.process.pid, SIGKILL));
  EXPECT_TRUE(wait_for_end(record_.guardian.pid, seconds(10)));
  EXPECT_EQ(-1, ::write(fd, "x", 1));
  EXPECT_EQ(ENOTCONN, errno);
  ::close(fd);
  EXPECT_FALSE(mounted());
  struct stat attributes{};
  EXPECT_EQ(0, ::stat(mountpoint_.c_str(), &attributes));  // the plain folder again
  mount();                                                 // and it can be used again
  write_file_at(path("f"), "again");
}

// The case for which the guardian is another process: the dead one is held in the kernel by its own mount.
TEST_F(MountEnd, AProcessKilledWhileTheKernelHoldsItsNotificationIsCleared) {
  mount({"controls", "no_conflicts"});
  ino_t inode = prepare_file();
  ASSERT_TRUE(forget_pages(inode));
  ASSERT_TRUE(hold_reads(inode));
  pid_t reader = ::fork();
  if (reader == 0) {
    char byte = 0;
    int fd = ::open(path("f").c_str(), O_RDONLY);
    ssize_t got = ::read(fd, &byte, 1);
    ::_exit(got == -1 ? 0 : 10 + static_cast<int>(got));
  }
  ASSERT_TRUE(wait_for_metric("cairn_fuse_requests_waiting", 1));
  pid_t notifier = ::fork();
  if (notifier == 0) ::_exit(forget_pages(inode) ? 1 : 0);  // blocks behind the page of the held read
  ASSERT_TRUE(wait_for_metric("cairn_fuse_notifications_waiting", 1));
  ASSERT_EQ(0, ::kill(record_.process.pid, SIGKILL));
  EXPECT_TRUE(wait_for_end(record_.guardian.pid, seconds(10))) << log_text();
  EXPECT_NE(std::string::npos, log_text().find("mount.died")) << log_text();
  int status = 0;
  EXPECT_EQ(reader, ::waitpid(reader, &status, 0));
  EXPECT_EQ(0, status);
  EXPECT_EQ(notifier, ::waitpid(notifier, &status, 0));
  EXPECT_EQ(0, status);
  EXPECT_FALSE(mounted());
}

TEST_F(MountEnd, ANotificationDoesNotStopTheLoop) {
  mount({"controls", "no_conflicts"});
  ino_t inode = prepare_file();
  ASSERT_TRUE(forget_pages(inode));
  ASSERT_TRUE(hold_reads(inode));
  pid_t reader = ::fork();
  if (reader == 0) {
    char byte = 0;
    int fd = ::open(path("f").c_str(), O_RDONLY);
    ::_exit(::read(fd, &byte, 1) == 1 && byte == 'x' ? 0 : 1);
  }
  ASSERT_TRUE(wait_for_metric("cairn_fuse_requests_waiting", 1));
  pid_t notifier = ::fork();
  if (notifier == 0) ::_exit(forget_pages(inode) ? 0 : 1);
  ASSERT_TRUE(wait_for_metric("cairn_fuse_notifications_waiting", 1));
  // Others are served meanwhile; then the read is answered, and with it the notification.
  for (int i = 0; i < 50; ++i)
    write_file_at(path("other" + std::to_string(i)), "served");
  ASSERT_TRUE(hold_reads(0));
  int status = 0;
  EXPECT_EQ(reader, ::waitpid(reader, &status, 0));
  EXPECT_EQ(0, status);
  EXPECT_EQ(notifier, ::waitpid(notifier, &status, 0));
  EXPECT_EQ(0, status);
}

TEST_F(MountEnd, TheGuardiansDeathEndsTheMountCleanly) {
  mount();
  ASSERT_EQ(0, ::kill(record_.guardian.pid, SIGKILL));
  EXPECT_TRUE(wait_for_end(record_.process.pid, seconds(10)));
  EXPECT_FALSE(mounted());
  EXPECT_NE(std::string::npos, log_text().find("clean=true")) << log_text();
}

TEST_F(MountEnd, TheControlSocketAnswers) {
  mount();
  write_file_at(path("f"), "text");
  Result<ControlAnswer> health = ask("/health");
  ASSERT_TRUE(health) << health.error().message();
  EXPECT_EQ(200, health->status);
  EXPECT_EQ("ok\n", health->body);
  Result<ControlAnswer> sync = ask("/sync");
  ASSERT_TRUE(sync);
  EXPECT_EQ(200, sync->status);
  Result<ControlAnswer> metrics = ask("/metrics");
  ASSERT_TRUE(metrics);
  EXPECT_NE(std::string::npos, metrics->body.find("cairn_fuse_request_seconds_count{op=\"write\"} 1")) << metrics->body;
  Result<ControlAnswer> other = ask("/other");
  ASSERT_TRUE(other);
  EXPECT_EQ(404, other->status);
}

TEST_F(MountEnd, ASyncThatFailsSaysSo) {
  mount({"never_durable"});
  write_file_at(path("f"), "text");
  Result<ControlAnswer> sync = ask("/sync");
  ASSERT_TRUE(sync);
  EXPECT_EQ(500, sync->status);
  EXPECT_NE(std::string::npos, sync->body.find("not on disk"));
}

TEST_F(MountEnd, MountsAreFoundByTheirMountpoint) {
  mount();
  std::unique_ptr<Disk> disk = make_posix_disk();
  std::filesystem::create_symlink(mountpoint_, folder_ + "/link");
  for (const std::string& name : {mountpoint_, mountpoint_ + "/", folder_ + "/link", folder_ + "/run/../mount"}) {
    Result<MountRecord> found = find_mount(*disk, name);
    ASSERT_TRUE(found) << name;
    EXPECT_EQ(record_.process, found->process);
    EXPECT_EQ("tcp:memory:1,tcp:memory:2", found->masters);
  }
  EXPECT_TRUE(find_mount(*disk, folder_).failed_with(ErrorCode::kNotFound));
  std::vector<KernelMount> mounts = kernel_mounts();
  ASSERT_TRUE(mounted());
  EXPECT_EQ("memory:1,memory:2", masters_of_source(mounts.back().source));
}

TEST_F(MountEnd, AReadOnlyMountRefusesChanges) {
  mount({"ro"});
  EXPECT_EQ(-1, ::mkdir(path("d").c_str(), 0755));
  EXPECT_EQ(EROFS, errno);
}

TEST_F(MountEnd, WhatCannotBeMountedOnIsNamed) {
  std::string said;
  EXPECT_EQ(1, run_mount_program(folder_ + "/missing", {}, &said));
  EXPECT_NE(std::string::npos, said.find("missing: No such file or directory")) << said;
  write_file_at(folder_ + "/file", "");
  EXPECT_EQ(1, run_mount_program(folder_ + "/file", {}, &said));
  EXPECT_NE(std::string::npos, said.find("/file is not a directory")) << said;
  mount();
  EXPECT_EQ(1, run_mount_program(mountpoint_, {}, &said));
  EXPECT_NE(std::string::npos, said.find("is already a Cairn mount of memory:1,memory:2 (process ")) << said;
}

TEST_F(MountEnd, WhatFailsBeforeTheMountIsReadyIsToldToTheCaller) {
  std::string said;
  EXPECT_EQ(1, run_mount_program(mountpoint_, {"no_master"}, &said));
  EXPECT_NE(std::string::npos, said.find("no master answers at memory:1, memory:2")) << said;
  EXPECT_FALSE(mounted());
  // Both options and errors of libfuse.
  EXPECT_EQ(1, run_mount_program(mountpoint_, {"options=nonsense=1"}, &said));
  EXPECT_NE(std::string::npos, said.find("nonsense=1")) << said;
  EXPECT_FALSE(mounted());
}

}  // namespace
}  // namespace cairn
