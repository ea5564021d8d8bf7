#include "tests/system/mount_fixture.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <poll.h>
#include <spawn.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/runtime/posix_disk.h"

extern char** environ;

namespace cairn {

namespace {

// A hanging call ends here, before CTest's own limit.
constexpr std::chrono::milliseconds kTestTime = std::chrono::seconds(60);

[[noreturn]] void watch_test(int pipe, pid_t test, const std::string& mountpoint) {
  pollfd waited{.fd = pipe, .events = POLLIN, .revents = 0};
  int ready = ::poll(&waited, 1, static_cast<int>(kTestTime.count()));
  char word = 0;
  if (ready == 1 && ::read(pipe, &word, 1) == 1) ::_exit(0);
  std::fprintf(stderr, "%s: the mount is ended\n", ready == 1 ? "the test has died" : "a call hangs");
  std::unique_ptr<Disk> disk = make_posix_disk();
  Result<std::vector<MountRecord>> mounts = list_mounts(*disk);
  for (const KernelMount& mount : kernel_mounts()) {
    if (mount.mountpoint != mountpoint) continue;
    abort_connection(mount.device_minor, mountpoint);
    detach_mount(mount.device_minor, mountpoint);
  }
  if (mounts) {
    for (const MountRecord& record : *mounts)
      ::kill(record.process.pid, SIGKILL);
  }
  if (ready != 1) ::kill(test, SIGKILL);
  ::_exit(1);
}

}  // namespace

void MountFixture::SetUp() {
  char name[] = "/tmp/cairn-fuse-test-XXXXXX";
  ASSERT_NE(nullptr, ::mkdtemp(name));
  folder_ = std::filesystem::canonical(name).string();
  mountpoint_ = folder_ + "/mount";
  std::filesystem::create_directory(mountpoint_);
  ASSERT_EQ(0, ::chmod(name, 0755));  // tests act as other users too
  ::setenv("CAIRN_RUN_DIR", (folder_ + "/run").c_str(), 1);
  int ends[2];
  ASSERT_EQ(0, ::pipe2(ends, O_CLOEXEC));
  pid_t test = ::getpid();
  if (::fork() == 0) {
    ::close(ends[1]);
    watch_test(ends[0], test, mountpoint_);
  }
  ::close(ends[0]);
  watchdog_ = ends[1];
}

void MountFixture::TearDown() {
  if (is_alive(record_.guardian)) ::kill(record_.guardian.pid, SIGTERM);
  if (!wait_for_end(record_.process.pid, std::chrono::seconds(10)) && is_alive(record_.process)) {
    ADD_FAILURE() << "the mount's process does not end:\n" << log_text();
    ::kill(record_.process.pid, SIGKILL);
  }
  if (mounted()) ::umount2(mountpoint_.c_str(), MNT_FORCE);
  if (mounted()) ::umount2(mountpoint_.c_str(), MNT_DETACH);
  wait_for_end(record_.guardian.pid, std::chrono::seconds(5));
  [[maybe_unused]] ssize_t written = ::write(watchdog_, "k", 1);
  ::close(watchdog_);
  while (::waitpid(-1, nullptr, WNOHANG) > 0) {
  }
  EXPECT_EQ(std::string::npos, log_text().find("Sanitizer")) << "the mount's process has a fault";
  if (HasFailure()) std::fprintf(stderr, "%s", log_text().c_str());
  std::error_code failed;
  std::filesystem::remove_all(folder_, failed);
}

int MountFixture::run_mount_program(const std::string& mountpoint, const std::vector<std::string>& options,
                                    std::string* said) {
  const char* build = std::getenv("CAIRN_BUILD_DIR");
  std::filesystem::path beside = std::filesystem::read_symlink("/proc/self/exe").parent_path();
  std::string program = build ? std::string(build) + "/tests/memory_mount" : (beside / "memory_mount").string();
  std::vector<std::string> words = {program, mountpoint};
  words.insert(words.end(), options.begin(), options.end());
  std::vector<char*> arguments;
  for (std::string& word : words)
    arguments.push_back(word.data());
  arguments.push_back(nullptr);
  std::string output = folder_ + "/said";
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t pid = 0;
  int failed = ::posix_spawn(&pid, program.c_str(), &actions, nullptr, arguments.data(), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) {
    *said = program + ": " + std::strerror(failed);
    return -1;
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  *said = read_file_at(output);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

void MountFixture::mount(const std::vector<std::string>& options) {
  std::string said;
  ASSERT_EQ(0, run_mount_program(mountpoint_, options, &said)) << said;
  std::unique_ptr<Disk> disk = make_posix_disk();
  Result<MountRecord> record = find_mount(*disk, mountpoint_);
  ASSERT_TRUE(record) << record.error().message();
  record_ = *record;
}

bool MountFixture::wait_for_end(pid_t pid, std::chrono::milliseconds limit) {
  if (pid <= 0) return true;
  int fd = static_cast<int>(::syscall(SYS_pidfd_open, pid, 0));
  if (fd < 0) return errno == ESRCH;
  pollfd waited{.fd = fd, .events = POLLIN, .revents = 0};
  int ready = ::poll(&waited, 1, static_cast<int>(limit.count()));
  ::close(fd);
  return ready == 1;
}

bool MountFixture::mounted() const {
  std::vector<KernelMount> mounts = kernel_mounts();
  return std::ranges::find(mounts, mountpoint_, &KernelMount::mountpoint) != mounts.end();
}

std::string MountFixture::log_text() const {
  return record_.log_file.empty() ? std::string() : read_file_at(record_.log_file);
}

void write_file_at(const std::string& path, std::string_view content) {
  int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  ASSERT_GE(fd, 0) << path << ": " << std::strerror(errno);
  EXPECT_EQ(static_cast<ssize_t>(content.size()), ::write(fd, content.data(), content.size()));
  EXPECT_EQ(0, ::close(fd));
}

std::string read_file_at(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path << ": " << std::strerror(errno);
  return {std::istreambuf_iterator<char>(file), {}};
}

bool in_child(const std::function<bool()>& work) {
  pid_t pid = ::fork();
  if (pid == 0) ::_exit(work() ? 0 : 1);
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

}  // namespace cairn
