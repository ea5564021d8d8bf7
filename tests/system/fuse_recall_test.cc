// Recalls on a real kernel: what another mount changes is seen at once, and no recall hangs, whatever requests the
// kernel has under way. The file system in memory plays the other mounts (its "elsewhere" orders), allows everything to
// be cached for ten minutes, and holds chosen requests.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/runtime/real_world.h"
#include "tests/system/mount_fixture.h"

namespace cairn {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

enum class Kernel { kFull, kWithoutEpoch, kOld };

class FuseRecall : public MountFixture, public ::testing::WithParamInterface<Kernel> {
 protected:
  void SetUp() override {
    MountFixture::SetUp();
    if (!HasFatalFailure()) mount_with({});
  }
  void mount_with(std::vector<std::string> options) {
    options.insert(options.end(), {"controls", "valid_long"});
    if (GetParam() == Kernel::kWithoutEpoch) options.push_back("no_epoch");
    if (GetParam() == Kernel::kOld) options.push_back("old_kernel");
    mount(options);
    for (size_t i = 0; i < kProcesses; ++i)
      write_file_at(path("through" + std::to_string(i)), "");
    ASSERT_EQ(0, ::mkdir(path("d").c_str(), 0755));
  }
  void TearDown() override {
    for (pid_t pid : children_)
      ::kill(pid, SIGKILL);
    MountFixture::TearDown();
  }

  ino_t number_of(const std::string& name) const {
    struct stat attributes{};
    EXPECT_EQ(0, ::lstat(path(name).c_str(), &attributes)) << name << ": " << std::strerror(errno);
    return attributes.st_ino;
  }
  uint32_t mode_of(const std::string& name) const {
    struct stat attributes{};
    return ::lstat(path(name).c_str(), &attributes) == 0 ? attributes.st_mode & 07777 : 0;
  }
  bool there(const std::string& name) const { return ::access(path(name).c_str(), F_OK) == 0; }

  // An order to the file system, through an inode that no other process uses: setxattr holds its lock.
  bool order(const char* what, const std::string& value) const {
    std::string through = path("through" + std::to_string(process_));
    return ::setxattr(through.c_str(), what, value.data(), value.size(), 0) == 0;
  }
  bool order(const char* what, ino_t about) const { return order(what, std::to_string(about)); }
  bool order_name(const char* what, const std::string& folder, const std::string& name) const {
    return order(what, std::to_string(number_of(folder)) + "/" + name);
  }

  // A process of its own, so that nothing that hangs holds up the test.
  pid_t start(const std::function<bool()>& work) {
    ++started_;
    pid_t pid = ::fork();
    if (pid == 0) {
      process_ = started_ % kProcesses;
      ::_exit(work() ? 0 : 1);
    }
    children_.insert(pid);
    return pid;
  }
  // True if it gave true by then.
  bool ended_well(pid_t pid, seconds limit) {
    if (!wait_for_end(pid, limit)) return false;
    int status = 0;
    ::waitpid(pid, &status, 0);
    children_.erase(pid);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  // Until the mount has received a request of that kind and not answered it.
  void wait_for_requests(int count) {
    std::string line = "\ncairn_fuse_requests_waiting " + std::to_string(count) + "\n";
    for (int i = 0; i < 2000; ++i) {
      if (metrics().find(line) != std::string::npos) return;
    }
    ADD_FAILURE() << "not " << count << " requests wait";
  }
  std::string metrics() {
    std::unique_ptr<RealWorld> world = RealWorld::make({});
    std::string text;
    world->run(ask(world.get(), &text));
    return text;
  }
  Task<int> ask(RealWorld* world, std::string* out) {
    Result<ControlAnswer> answer =
        co_await ask_mount(*world, record_.socket, "/metrics", world->clock().now() + seconds(10));
    if (answer) *out = answer->body;
    co_return 0;
  }
  double metric(const std::string& name) {
    std::istringstream text(metrics());
    for (std::string line; std::getline(text, line);) {
      if (line.starts_with(name + " ")) return std::stod(line.substr(name.size() + 1));
    }
    return 0;
  }

  static constexpr size_t kProcesses = 12;  // at a time
  size_t process_ = 0;
  size_t started_ = 0;
  std::set<pid_t> children_;
};
std::string name_of(const ::testing::TestParamInfo<Kernel>& info) {
  if (info.param == Kernel::kFull) return "Full";
  return info.param == Kernel::kOld ? "Old" : "WithoutEpoch";
}
INSTANTIATE_TEST_SUITE_P(Kernel, FuseRecall, ::testing::Values(Kernel::kFull, Kernel::kWithoutEpoch, Kernel::kOld),
                         name_of);

char first_byte(const std::string& file, off_t at = 0) {
  int fd = ::open(file.c_str(), O_RDONLY);
  char byte = '?';
  EXPECT_EQ(1, ::pread(fd, &byte, 1, at)) << std::strerror(errno);
  ::close(fd);
  return byte;
}

// ---------------------------------------------------------------- seen at once

TEST_P(FuseRecall, NamesThatOthersRemoveAreGoneAtOnce) {
  for (int i = 0; i < 20; ++i) {
    std::string name = std::to_string(i);
    write_file_at(path("d/" + name), "x");
    ASSERT_TRUE(there("d/" + name));
    ASSERT_TRUE(order_name("user.elsewhere-unlink", "d", name));
    EXPECT_FALSE(there("d/" + name));
    EXPECT_EQ(ENOENT, errno);
  }
}

TEST_P(FuseRecall, NamesThatOthersMakeAreThereAtOnce) {
  for (int i = 0; i < 20; ++i) {
    std::string name = std::to_string(i);
    ASSERT_FALSE(there("d/" + name));
    ASSERT_TRUE(order_name("user.elsewhere-create", "d", name));
    EXPECT_TRUE(there("d/" + name));
  }
}

TEST_P(FuseRecall, AttributesThatOthersChangeAreSeenAtOnce) {
  for (int i = 0; i < 20; ++i) {
    std::string name = "d/" + std::to_string(i);
    write_file_at(path(name), "x");
    ASSERT_EQ(0644u, mode_of(name));
    ASSERT_TRUE(order("user.elsewhere-chmod", number_of(name)));
    EXPECT_EQ(0600u, mode_of(name));
  }
}

TEST_P(FuseRecall, ContentThatOthersChangeIsSeenAtOnceByReadersAndMappings) {
  write_file_at(path("f"), std::string(300'000, 'a'));
  int fd = ::open(path("f").c_str(), O_RDONLY);
  auto* mapped = static_cast<const char*>(::mmap(nullptr, 300'000, PROT_READ, MAP_SHARED, fd, 0));
  ASSERT_NE(MAP_FAILED, static_cast<const void*>(mapped));
  for (char expected = 'a'; expected < 'k'; ++expected) {
    char byte = 0;
    ASSERT_EQ(1, ::pread(fd, &byte, 1, 200'000));
    EXPECT_EQ(expected, byte);
    EXPECT_EQ(expected, mapped[100'000]);
    EXPECT_EQ(expected, first_byte(path("f")));
    ASSERT_TRUE(order("user.elsewhere-write", number_of("f")));
  }
  ::munmap(const_cast<char*>(mapped), 300'000);
  ::close(fd);
}

TEST_P(FuseRecall, AListingThatIsBeingReadTakesNothingBack) {
  constexpr int kFiles = 900;
  auto name = [](int i) { return std::string(100, 'n') + std::to_string(i); };
  for (int i = 0; i < kFiles; ++i)
    write_file_at(path("d/" + name(i)), "");
  DIR* listing = ::opendir(path("d").c_str());
  ASSERT_NE(nullptr, ::readdir(listing));
  for (int i = 1; i < kFiles; i += 100)
    ASSERT_TRUE(order("user.elsewhere-chmod", number_of("d/" + name(i))));
  ASSERT_TRUE(order_name("user.elsewhere-unlink", "d", name(kFiles - 2)));
  while (dirent* entry = ::readdir(listing))
    mode_of(std::string("d/") + entry->d_name);  // the kernel gets attributes with the names while somebody wants them
  ::closedir(listing);
  for (int i = 1; i < kFiles; i += 100)
    EXPECT_EQ(0600u, mode_of("d/" + name(i))) << i;
  EXPECT_FALSE(there("d/" + name(kFiles - 2)));
}

TEST_P(FuseRecall, AFileThatSeveralMountsWriteIsReadPastThePages) {
  write_file_at(path("f"), std::string(10'000, 'a'));
  ASSERT_EQ('a', first_byte(path("f")));
  ASSERT_TRUE(order("user.elsewhere-write", number_of("f")));
  int fd = ::open(path("f").c_str(), O_RDWR);
  const std::string kReads = "cairn_fuse_request_seconds_count{op=\"read\"}";
  double before = metric(kReads);
  char page[4096];
  for (int i = 0; i < 5; ++i)
    ASSERT_EQ(4096, ::pread(fd, page, 4096, 0));
  double reads = metric(kReads) - before;
  if (GetParam() == Kernel::kOld) {
    EXPECT_LE(reads, 1);  // where such a handle could not be mapped
  } else {
    EXPECT_EQ(5, reads);
  }
  auto* mapped = static_cast<char*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  ASSERT_NE(MAP_FAILED, static_cast<void*>(mapped));
  EXPECT_EQ('b', mapped[0]);
  mapped[0] = 'M';
  ASSERT_EQ(0, ::msync(mapped, 4096, MS_SYNC));
  EXPECT_EQ('M', first_byte(path("f")));
  EXPECT_EQ(1, ::pwrite(fd, "W", 1, 1));
  EXPECT_EQ('W', first_byte(path("f"), 1));
  ASSERT_TRUE(order("user.elsewhere-write", number_of("f")));
  EXPECT_EQ('N', mapped[0]);
  ::munmap(mapped, 4096);
  ::close(fd);
}

// ---------------------------------------------------------------- while requests are under way

// As right after the mount, again and again: names, attributes and pages are cached although others changed them.
class FuseRecallBusy : public FuseRecall {
 protected:
  void SetUp() override {
    MountFixture::SetUp();
    if (!HasFatalFailure()) mount_with({"no_conflicts"});
  }
};
INSTANTIATE_TEST_SUITE_P(Kernel, FuseRecallBusy, ::testing::Values(Kernel::kFull, Kernel::kWithoutEpoch, Kernel::kOld),
                         name_of);

TEST_P(FuseRecallBusy, ANameIsForgottenWhileAnOwnCreateWaits) {
  write_file_at(path("d/f"), "x");
  ASSERT_TRUE(there("d/f"));
  ASSERT_TRUE(order("user.hold-changes", number_of("d")));
  std::string about = std::to_string(number_of("d")) + "/f";
  pid_t creator = start([this] { return ::open(path("d/new").c_str(), O_CREAT | O_RDWR, 0644) >= 0; });
  wait_for_requests(1);
  pid_t recall = start([this, about] { return order("user.elsewhere-unlink", about); });
  EXPECT_TRUE(ended_well(recall, seconds(10)));
  EXPECT_FALSE(wait_for_end(creator, seconds(0)));
  ASSERT_TRUE(order("user.hold-changes", 0));
  EXPECT_TRUE(ended_well(creator, seconds(10)));
  EXPECT_FALSE(there("d/f"));
  EXPECT_TRUE(there("d/new"));
}

TEST_P(FuseRecallBusy, ANameIsForgottenWhileAnOwnUnlinkWaitsBehindWhichOthersQueue) {
  for (const char* name : {"d/f", "d/g", "d/h"})
    write_file_at(path(name), "x");
  std::string about = std::to_string(number_of("d")) + "/";
  // The recall is under way when the unlink comes, and others come behind it.
  pid_t lister = start([this] {
    for (int i = 0; i < 300; ++i) {
      DIR* open = ::opendir(path("d").c_str());
      while (open && ::readdir(open)) {
      }
      ::closedir(open);
    }
    return true;
  });
  ASSERT_TRUE(order("user.hold-changes", number_of("d")));
  pid_t unlinker = start([this] { return ::unlink(path("d/g").c_str()) == 0; });
  wait_for_requests(1);
  pid_t creator = start([this] { return ::mkdir(path("d/sub").c_str(), 0755) == 0; });
  for (const char* name : {"f", "h"}) {
    pid_t recall = start([this, about, name] { return order("user.elsewhere-unlink", about + name); });
    EXPECT_TRUE(ended_well(recall, seconds(10))) << name;
  }
  ASSERT_TRUE(order("user.hold-changes", 0));
  EXPECT_TRUE(ended_well(unlinker, seconds(10)));
  EXPECT_TRUE(ended_well(creator, seconds(10)));
  EXPECT_TRUE(ended_well(lister, seconds(30)));
  for (const char* name : {"d/f", "d/g", "d/h"})
    EXPECT_FALSE(there(name)) << name;
  EXPECT_TRUE(there("d/sub"));
}

TEST_P(FuseRecallBusy, PagesAreForgottenWhileReadsAreAnswered) {
  write_file_at(path("f"), std::string(2'000'000, 'a'));
  ASSERT_TRUE(order("user.forget-pages", number_of("f")));
  ASSERT_TRUE(order("user.hold-reads", number_of("f")));
  int fd = ::open(path("f").c_str(), O_RDONLY);
  pid_t reader = start([fd] {
    char byte = 0;
    return ::pread(fd, &byte, 1, 1'000'000) == 1;
  });
  wait_for_requests(1);
  pid_t recall = start([this] { return order("user.elsewhere-write", number_of("f")); });
  pid_t second = start([fd] {
    char byte = 0;
    return ::pread(fd, &byte, 1, 0) == 1;
  });
  ASSERT_TRUE(order("user.elsewhere-chmod", number_of("d")));  // others go on
  ASSERT_TRUE(order("user.hold-reads", 0));
  EXPECT_TRUE(ended_well(reader, seconds(10)));
  EXPECT_TRUE(ended_well(second, seconds(10)));
  EXPECT_TRUE(ended_well(recall, seconds(10)));
  for (off_t at : {0, 500'000, 1'000'000, 1'999'999})
    EXPECT_EQ('b', first_byte(path("f"), at)) << at;
  ::close(fd);
}

TEST_P(FuseRecallBusy, PagesAreForgottenWhileAnOwnWriteOfAPartWaits) {
  for (bool cached : {false, true}) {
    std::string file = path(cached ? "cached" : "f");
    write_file_at(file, std::string(100'000, 'a'));
    ino_t number = number_of(cached ? "cached" : "f");
    ASSERT_TRUE(order("user.forget-pages", number));
    if (cached) {
      EXPECT_EQ('a', first_byte(file, 50'000));
    }
    int fd = ::open(file.c_str(), O_RDWR);
    ASSERT_TRUE(order("user.hold-writes", number));
    pid_t writer = start([fd] { return ::pwrite(fd, "WWWW", 4, 50'001) == 4; });
    wait_for_requests(1);
    pid_t recall = start([this, number] { return order("user.elsewhere-write", number); });
    EXPECT_TRUE(ended_well(recall, seconds(10))) << cached;
    if (cached) {
      // In the page that is being written.
      EXPECT_EQ('b', first_byte(file, 50'010));
    }
    ASSERT_TRUE(order("user.hold-writes", 0));
    EXPECT_TRUE(ended_well(writer, seconds(10)));
    ::close(fd);
    EXPECT_EQ('W', first_byte(file, 50'001)) << cached;
    EXPECT_EQ('b', first_byte(file, 50'005)) << cached;
    EXPECT_EQ('b', first_byte(file, 0)) << cached;
  }
}

TEST_P(FuseRecallBusy, EverythingIsForgottenWhileAChangeWaits) {
  write_file_at(path("d/f"), "x");
  ASSERT_TRUE(there("d/f"));
  ASSERT_TRUE(order("user.hold-changes", number_of("d")));
  pid_t creator = start([this] { return ::mkdir(path("d/new").c_str(), 0755) == 0; });
  wait_for_requests(1);
  pid_t recall = start([this] { return order("user.forget-everything", "0"); });
  EXPECT_TRUE(ended_well(recall, seconds(10)));
  ASSERT_TRUE(order("user.hold-changes", 0));
  EXPECT_TRUE(ended_well(creator, seconds(10)));
}

// ---------------------------------------------------------------- storm

class FuseRecallStorm : public FuseRecall {
 protected:
  static constexpr int kSeconds = 20;
  static constexpr int kFiles = 12;

  // What the processes have done, where all see it.
  struct Shared {
    volatile bool over;
    volatile uint64_t steps[16];
    volatile int failed_errno[16];
    char what[16][64];
  };
  void SetUp() override {
    MountFixture::SetUp();
    if (!HasFatalFailure()) mount_with({"takes_ms=1", "no_conflicts"});
    shared_ = static_cast<Shared*>(
        ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
    for (int i = 0; i < kFiles; ++i)
      write_file_at(file(static_cast<size_t>(i)), std::string(40'000, 'a'));
  }
  std::string file(size_t i) const { return path("d/f" + std::to_string(i % kFiles)); }
  pid_t worker(size_t who, std::function<const char*(size_t step)> step) {
    return start([this, who, step] {
      ::alarm(kSeconds * 3);
      for (size_t i = 0; !shared_->over; ++i) {
        const char* failed = step(i);
        if (failed) {
          shared_->failed_errno[who] = errno;
          std::strncpy(shared_->what[who], failed, 63);
          return false;
        }
        shared_->steps[who] = i + 1;
      }
      return true;
    });
  }
  static bool in_state_d(pid_t pid) {
    std::ifstream stat("/proc/" + std::to_string(pid) + "/stat");
    std::string text{std::istreambuf_iterator<char>(stat), {}};
    size_t end = text.rfind(')');
    return end != std::string::npos && end + 2 < text.size() && text[end + 2] == 'D';
  }

  Shared* shared_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Kernel, FuseRecallStorm, ::testing::Values(Kernel::kFull, Kernel::kWithoutEpoch), name_of);

const char* make_and_remove(const std::string& mine, size_t step) {
  int fd = ::open(mine.c_str(), O_CREAT | O_EXCL | O_RDWR, 0644);
  if (fd < 0) return "create";
  bool good = ::pwrite(fd, "some bytes", 10, 7) == 10;
  ::close(fd);
  if (!good) return "write of a new file";
  if (step % 3 == 0 && ::link(mine.c_str(), (mine + "-link").c_str()) != 0) return "link";
  if (step % 3 == 0 && ::unlink((mine + "-link").c_str()) != 0) return "unlink of a link";
  if (step % 2 == 0 && ::rename(mine.c_str(), (mine + "-moved").c_str()) != 0) return "rename";
  if (::unlink((step % 2 == 0 ? mine + "-moved" : mine).c_str()) != 0) return "unlink";
  return nullptr;
}

const char* list(const std::string& folder) {
  DIR* open = ::opendir(folder.c_str());
  if (!open) return "opendir";
  errno = 0;
  while (dirent* entry = ::readdir(open)) {
    struct stat attributes{};
    if (::fstatat(::dirfd(open), entry->d_name, &attributes, 0) != 0 && errno != ENOENT) return "stat";
    errno = 0;
  }
  if (errno != 0) return "readdir";
  ::closedir(open);
  return nullptr;
}

const char* read_all(const std::string& name) {
  int fd = ::open(name.c_str(), O_RDONLY);
  if (fd < 0) return "open";
  char bytes[40'000];
  bool good = ::pread(fd, bytes, sizeof bytes, 0) == 40'000;
  ::close(fd);
  return good ? nullptr : "read";
}

const char* write_part(const std::string& name, size_t step) {
  int fd = ::open(name.c_str(), O_RDWR);
  if (fd < 0) return "open for writing";
  std::string bytes(1 + step * 37 % 9000, 'w');
  bool good = ::pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(step * 101 % 30'000)) ==
              static_cast<ssize_t>(bytes.size());
  ::close(fd);
  return good ? nullptr : "write";
}

const char* map_and_store(const std::string& name, size_t step) {
  int fd = ::open(name.c_str(), O_RDWR);
  if (fd < 0) return "open for mmap";
  void* mapped = ::mmap(nullptr, 40'000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (mapped == MAP_FAILED) return "mmap";
  auto* bytes = static_cast<volatile char*>(mapped);
  bytes[step * 997 % 40'000] = 'm';
  char sum = 0;
  for (size_t i = 0; i < 40'000; i += 4096)
    sum = static_cast<char>(sum + bytes[i]);
  bytes[0] = sum;
  bool good = step % 4 != 0 || ::msync(mapped, 40'000, MS_SYNC) == 0;
  ::munmap(mapped, 40'000);
  return good ? nullptr : "msync";
}

TEST_P(FuseRecallStorm, NobodyHangsAndNothingFails) {
  std::vector<pid_t> workers;
  size_t who = 0;
  auto add = [&](std::function<const char*(size_t)> step) { workers.push_back(worker(who++, std::move(step))); };
  for (std::string name : {"d/one", "d/two"})
    add([this, name](size_t i) { return make_and_remove(path(name), i); });
  add([this](size_t i) {
    if (::mkdir(path("d/sub").c_str(), 0755) != 0) return "mkdir";
    const char* inner = make_and_remove(path("d/sub/x"), i);
    return inner ? inner : ::rmdir(path("d/sub").c_str()) == 0 ? nullptr : "rmdir";
  });
  add([this](size_t) { return list(path("d")); });
  add([this](size_t i) { return read_all(file(i)); });
  add([this](size_t i) { return write_part(file(i), i); });
  add([this](size_t i) { return map_and_store(file(i * 5), i); });
  pid_t storm = start([this] { return order("user.storm", std::to_string(kSeconds * 1000)); });

  std::map<size_t, int> stuck;  // samples of a process in state D at one step
  std::map<size_t, uint64_t> step;
  int worst = 0;
  constexpr int kSamplesASecond = 10;
  for (int i = 0; i < (kSeconds + 5) * kSamplesASecond; ++i) {
    for (size_t w = 0; w < workers.size(); ++w) {
      bool same = step[w] == shared_->steps[w] && in_state_d(workers[w]);
      stuck[w] = same ? stuck[w] + 1 : 0;
      step[w] = shared_->steps[w];
      worst = std::max(worst, stuck[w]);
    }
    if (wait_for_end(storm, milliseconds(1000 / kSamplesASecond))) break;
  }
  shared_->over = true;
  EXPECT_LE(worst, 2 * kSamplesASecond) << "tenths of a second in state D";
  EXPECT_TRUE(ended_well(storm, seconds(20)));
  for (size_t w = 0; w < workers.size(); ++w) {
    EXPECT_TRUE(ended_well(workers[w], seconds(20)))
        << w << ": " << shared_->what[w] << ": " << std::strerror(shared_->failed_errno[w]);
    EXPECT_GT(shared_->steps[w], 10u) << w;
    RecordProperty("steps" + std::to_string(w), std::to_string(shared_->steps[w]));
  }
}

}  // namespace
}  // namespace cairn
