// The FUSE side on a real mount, over a file system in memory: what programs do to files, by system calls. Each runs
// twice: as the kernel is, and with its newer features masked off.
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <functional>
#include <linux/fs.h>
#include <map>
#include <set>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/base/units.h"
#include "tests/system/mount_fixture.h"

namespace cairn {
namespace {

class FuseFiles : public MountFixture, public ::testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    MountFixture::SetUp();
    if (!HasFatalFailure()) mount_with({});
  }
  void mount_with(std::vector<std::string> options) {
    if (GetParam()) options.push_back("old_kernel");
    mount(options);
  }
};
INSTANTIATE_TEST_SUITE_P(Kernel, FuseFiles, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Masked" : "Full"; });

struct stat stat_of(const std::string& path) {
  struct stat out{};
  EXPECT_EQ(0, ::lstat(path.c_str(), &out)) << path << ": " << std::strerror(errno);
  return out;
}

std::string pattern(size_t size, unsigned seed) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i)
    text[i] = static_cast<char>((i * 2654435761u + seed * 97u) >> 13);
  return text;
}

// errno of a call that should fail.
template <class T>
int error_of(T result) {
  return result == static_cast<T>(-1) ? errno : 0;
}

std::set<std::string> names_in(const std::string& folder) {
  std::set<std::string> names;
  DIR* open = ::opendir(folder.c_str());
  EXPECT_NE(nullptr, open) << std::strerror(errno);
  while (dirent* entry = ::readdir(open))
    EXPECT_TRUE(names.insert(entry->d_name).second) << entry->d_name << " twice";
  ::closedir(open);
  return names;
}

// ---------------------------------------------------------------- data

TEST_P(FuseFiles, ReadBackWhatWasWritten) {
  // Sizes around the limits: a page, the threshold above which a WRITE's buffer is taken, one request, several.
  std::vector<size_t> sizes = {
      0, 1, 4095, 4096, 4097, kMiB / 2 - 1, kMiB / 2, kMiB - 1, kMiB, kMiB + 1, 5 * kMiB + 12345};
  for (size_t size : sizes) {
    std::string content = pattern(size, static_cast<unsigned>(size));
    std::string file = path("f" + std::to_string(size));
    write_file_at(file, content);
    EXPECT_EQ(static_cast<off_t>(size), stat_of(file).st_size);
    EXPECT_TRUE(read_file_at(file) == content) << size;
    // Not from the kernel's pages.
    int fd = ::open(file.c_str(), O_RDONLY | O_DIRECT);
    ASSERT_GE(fd, 0);
    void* memory = ::aligned_alloc(4096, 8 * kMiB);
    ssize_t got = ::read(fd, memory, 8 * kMiB);
    ASSERT_EQ(static_cast<ssize_t>(size), got);
    EXPECT_EQ(0, std::memcmp(memory, content.data(), size)) << size;
    ::free(memory);
    ::close(fd);
  }
}

TEST_P(FuseFiles, WritesInTheMiddleAndHoles) {
  int fd = ::open(path("f").c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(3, ::pwrite(fd, "end", 3, 3 * kMiB + 5));
  EXPECT_EQ(5, ::pwrite(fd, "begin", 5, 10));
  std::string expected(3 * kMiB + 8, '\0');
  expected.replace(10, 5, "begin").replace(3 * kMiB + 5, 3, "end");
  EXPECT_TRUE(read_file_at(path("f")) == expected);
  EXPECT_EQ(0, ::fsync(fd));
  EXPECT_EQ(0, ::fdatasync(fd));
  ::close(fd);
}

TEST_P(FuseFiles, TruncatingCutsAndExtendsWithZeros) {
  std::string file = path("f");
  write_file_at(file, pattern(10'000, 1));
  EXPECT_EQ(0, ::truncate(file.c_str(), 5'000));
  EXPECT_EQ(pattern(10'000, 1).substr(0, 5'000), read_file_at(file));
  int fd = ::open(file.c_str(), O_RDWR);
  EXPECT_EQ(0, ::ftruncate(fd, 9'000));
  EXPECT_EQ(pattern(10'000, 1).substr(0, 5'000) + std::string(4'000, '\0'), read_file_at(file));
  ::close(fd);
  fd = ::open(file.c_str(), O_WRONLY | O_TRUNC);
  EXPECT_EQ(0, stat_of(file).st_size);
  ::close(fd);
  EXPECT_EQ(EISDIR, error_of(::truncate(mountpoint_.c_str(), 0)));
}

TEST_P(FuseFiles, MappedPagesAndWritesSeeEachOther) {
  int fd = ::open(path("f").c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_EQ(0, ::ftruncate(fd, 8192));
  auto* shared = static_cast<char*>(::mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  ASSERT_NE(MAP_FAILED, static_cast<void*>(shared));
  std::strcpy(shared + 100, "mapped");
  char seen[7] = {};
  EXPECT_EQ(6, ::pread(fd, seen, 6, 100));
  EXPECT_STREQ("mapped", seen);
  EXPECT_EQ(5, ::pwrite(fd, "wrote", 5, 5000));
  EXPECT_STREQ("wrote", shared + 5000);
  EXPECT_EQ(0, ::msync(shared, 8192, MS_SYNC));
  ::munmap(shared, 8192);
  ::close(fd);
  // What the file system has, not the kernel.
  fd = ::open(path("f").c_str(), O_RDONLY | O_DIRECT);
  void* memory = ::aligned_alloc(4096, 8192);
  EXPECT_EQ(8192, ::read(fd, memory, 8192));
  EXPECT_STREQ("mapped", static_cast<char*>(memory) + 100);
  EXPECT_STREQ("wrote", static_cast<char*>(memory) + 5000);
  ::free(memory);
  ::close(fd);
}

TEST_P(FuseFiles, MappedPagesOfAnAppendingHandleStayInTheirPlace) {
  write_file_at(path("f"), std::string(4096, 'a'));
  int fd = ::open(path("f").c_str(), O_RDWR | O_APPEND);
  auto* shared = static_cast<char*>(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  bool mapped = shared != MAP_FAILED;
  if (GetParam()) {  // docs/consistency.md, "What FUSE does not let through"
    EXPECT_FALSE(mapped);
    EXPECT_EQ(ENODEV, errno);
  } else {
    ASSERT_TRUE(mapped);
    shared[7] = 'B';
    EXPECT_EQ(0, ::msync(shared, 4096, MS_SYNC));
    ::munmap(shared, 4096);
  }
  EXPECT_EQ(1, ::write(fd, "c", 1));
  ::close(fd);
  EXPECT_EQ(4097, stat_of(path("f")).st_size);
  EXPECT_EQ(mapped ? "aaaaaaaBa" : "aaaaaaaaa", read_file_at(path("f")).substr(0, 9));
}

TEST_P(FuseFiles, AppendsOfManyProcessesLoseNothing) {
  constexpr int kProcesses = 4, kLines = 100;
  std::string file = path("log");
  write_file_at(file, "");
  std::vector<pid_t> children;
  for (int p = 0; p < kProcesses; ++p) {
    pid_t pid = ::fork();
    if (pid == 0) {
      int fd = ::open(file.c_str(), O_WRONLY | O_APPEND);
      bool good = fd >= 0;
      for (int i = 0; good && i < kLines; ++i) {
        std::string line = "process " + std::to_string(p) + " line " + std::to_string(i) + "\n";
        good = ::write(fd, line.data(), line.size()) == static_cast<ssize_t>(line.size());
      }
      ::_exit(good ? 0 : 1);
    }
    children.push_back(pid);
  }
  for (pid_t pid : children) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    EXPECT_EQ(0, status);
  }
  std::string text = read_file_at(file);
  EXPECT_EQ(kProcesses * kLines, std::ranges::count(text, '\n'));
  for (int p = 0; p < kProcesses; ++p) {
    EXPECT_NE(text.npos, text.find("process " + std::to_string(p) + " line 99\n"));
  }
}

TEST_P(FuseFiles, AFileWithoutANameLivesUntilItsLastClose) {
  write_file_at(path("f"), "content");
  int fd = ::open(path("f").c_str(), O_RDWR);
  ASSERT_EQ(0, ::unlink(path("f").c_str()));
  EXPECT_EQ(ENOENT, error_of(::access(path("f").c_str(), F_OK)));
  struct stat attributes{};
  ASSERT_EQ(0, ::fstat(fd, &attributes));
  EXPECT_EQ(0u, attributes.st_nlink);
  EXPECT_EQ(4, ::pwrite(fd, "more", 4, 7));
  char seen[12] = {};
  EXPECT_EQ(11, ::pread(fd, seen, 11, 0));
  EXPECT_STREQ("contentmore", seen);
  EXPECT_EQ(0, ::close(fd));
}

TEST_P(FuseFiles, LibraryFallbacksWork) {
  int from = ::open(path("from").c_str(), O_RDWR | O_CREAT, 0644);
  EXPECT_EQ(0, ::posix_fallocate(from, 0, 20'000));
  EXPECT_EQ(20'000, stat_of(path("from")).st_size);
  EXPECT_EQ(EOPNOTSUPP, error_of(::fallocate(from, FALLOC_FL_KEEP_SIZE, 0, 40'000)));
  EXPECT_EQ(5, ::pwrite(from, "bytes", 5, 6'000));
  int to = ::open(path("to").c_str(), O_RDWR | O_CREAT, 0644);
  loff_t at = 0;
  ssize_t copied = ::copy_file_range(from, &at, to, nullptr, 20'000, 0);
  EXPECT_EQ(20'000, copied);
  EXPECT_EQ(read_file_at(path("from")), read_file_at(path("to")));
  EXPECT_EQ(20'000, ::lseek(from, 0, SEEK_HOLE));
  EXPECT_EQ(0, ::lseek(from, 0, SEEK_DATA));
  ::close(from);
  ::close(to);
}

TEST_P(FuseFiles, LocksExcludeWithinTheMount) {
  int fd = ::open(path("f").c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_EQ(0, ::flock(fd, LOCK_EX));
  struct flock range{.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10, .l_pid = 0};
  ASSERT_EQ(0, ::fcntl(fd, F_SETLK, &range));
  EXPECT_TRUE(in_child([&] {
    int other = ::open(path("f").c_str(), O_RDWR);
    bool busy = ::flock(other, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK;
    return busy && ::fcntl(other, F_SETLK, &range) == -1 && errno == EAGAIN;
  }));
  ::close(fd);
}

// ---------------------------------------------------------------- names

TEST_P(FuseFiles, RenamesReplaceRefuseAndExchange) {
  write_file_at(path("a"), "a");
  write_file_at(path("b"), "b");
  EXPECT_EQ(EEXIST, error_of(::renameat2(AT_FDCWD, path("a").c_str(), AT_FDCWD, path("b").c_str(), RENAME_NOREPLACE)));
  EXPECT_EQ(0, ::renameat2(AT_FDCWD, path("a").c_str(), AT_FDCWD, path("b").c_str(), RENAME_EXCHANGE));
  EXPECT_EQ("b", read_file_at(path("a")));
  EXPECT_EQ("a", read_file_at(path("b")));
  EXPECT_EQ(0, ::rename(path("a").c_str(), path("b").c_str()));
  EXPECT_EQ("b", read_file_at(path("b")));
  EXPECT_EQ(ENOENT, error_of(::access(path("a").c_str(), F_OK)));
  ASSERT_EQ(0, ::mkdir(path("d").c_str(), 0755));
  ASSERT_EQ(0, ::mkdir(path("e").c_str(), 0755));
  EXPECT_EQ(0, ::rename(path("b").c_str(), path("d/inside").c_str()));
  EXPECT_EQ(ENOTEMPTY, error_of(::rename(path("e").c_str(), path("d").c_str())));
  EXPECT_EQ(0, ::rename(path("d").c_str(), path("e").c_str()));
  EXPECT_EQ("b", read_file_at(path("e/inside")));
}

TEST_P(FuseFiles, LinksShareOneInode) {
  write_file_at(path("a"), "text");
  ASSERT_EQ(0, ::link(path("a").c_str(), path("b").c_str()));
  EXPECT_EQ(stat_of(path("a")).st_ino, stat_of(path("b")).st_ino);
  EXPECT_EQ(2u, stat_of(path("a")).st_nlink);
  ASSERT_EQ(0, ::unlink(path("a").c_str()));
  EXPECT_EQ(1u, stat_of(path("b")).st_nlink);
  EXPECT_EQ("text", read_file_at(path("b")));
  std::string long_target(4095, 't');
  ASSERT_EQ(0, ::symlink(long_target.c_str(), path("long").c_str()));
  char target[4097] = {};
  EXPECT_EQ(4095, ::readlink(path("long").c_str(), target, 4096));
  EXPECT_EQ(long_target, target);
  ASSERT_EQ(0, ::symlink("b", path("short").c_str()));
  EXPECT_EQ("text", read_file_at(path("short")));
}

TEST_P(FuseFiles, WrongNamesGiveTheirErrors) {
  ASSERT_EQ(0, ::mkdir(path("d").c_str(), 0755));
  write_file_at(path("d/f"), "");
  EXPECT_EQ(ENOTEMPTY, error_of(::rmdir(path("d").c_str())));
  EXPECT_EQ(EISDIR, error_of(::unlink(path("d").c_str())));
  EXPECT_EQ(ENOTDIR, error_of(::rmdir(path("d/f").c_str())));
  EXPECT_EQ(ENOTDIR, error_of(::open(path("d/f/x").c_str(), O_RDONLY)));
  EXPECT_EQ(EEXIST, error_of(::mkdir(path("d").c_str(), 0755)));
  EXPECT_EQ(EEXIST, error_of(::open(path("d/f").c_str(), O_CREAT | O_EXCL | O_RDWR, 0644)));
  EXPECT_EQ(ENOENT, error_of(::open(path("nothing").c_str(), O_RDONLY)));
  EXPECT_EQ(ENAMETOOLONG, error_of(::mkdir(path(std::string(256, 'n')).c_str(), 0755)));
  std::string longest = path(std::string(255, 'n'));
  EXPECT_EQ(0, ::mkdir(longest.c_str(), 0755));
  EXPECT_EQ(0, ::rmdir(longest.c_str()));
}

TEST_P(FuseFiles, SpecialFilesWork) {
  ASSERT_EQ(0, ::mkfifo(path("fifo").c_str(), 0600));
  EXPECT_TRUE(S_ISFIFO(stat_of(path("fifo")).st_mode));
  int both = ::open(path("fifo").c_str(), O_RDWR);
  EXPECT_EQ(2, ::write(both, "hi", 2));
  char seen[3] = {};
  EXPECT_EQ(2, ::read(both, seen, 2));
  EXPECT_STREQ("hi", seen);
  ::close(both);

  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path("socket").c_str(), sizeof address.sun_path - 1);
  int listener = ::socket(AF_UNIX, SOCK_STREAM, 0);
  ASSERT_EQ(0, ::bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address)) << std::strerror(errno);
  ASSERT_EQ(0, ::listen(listener, 1));
  int client = ::socket(AF_UNIX, SOCK_STREAM, 0);
  EXPECT_EQ(0, ::connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address));
  EXPECT_TRUE(S_ISSOCK(stat_of(path("socket")).st_mode));
  ::close(client);
  ::close(listener);

  ASSERT_EQ(0, ::mknod(path("null").c_str(), S_IFCHR | 0666, makedev(1, 3)));
  EXPECT_EQ(makedev(1, 3), stat_of(path("null")).st_rdev);
  ASSERT_EQ(0, ::mknod(path("block").c_str(), S_IFBLK | 0600, makedev(259, 70'000)));
  EXPECT_EQ(makedev(259, 70'000), stat_of(path("block")).st_rdev);
  int null = ::open(path("null").c_str(), O_RDWR);
  EXPECT_EQ(1, ::write(null, "x", 1));
  EXPECT_EQ(0, ::read(null, seen, 1));
  ::close(null);
  ASSERT_EQ(0, ::mknod(path("regular").c_str(), S_IFREG | 0640, 0));
  EXPECT_EQ(S_IFREG | 0640u, stat_of(path("regular")).st_mode);
}

// ---------------------------------------------------------------- listings

TEST_P(FuseFiles, AListingIsWholeWhileEntriesAreRemovedAndMade) {
  constexpr int kFiles = 5000;
  std::string folder = path("many");
  ASSERT_EQ(0, ::mkdir(folder.c_str(), 0755));
  for (int i = 0; i < kFiles; ++i) {
    int fd = ::open((folder + "/" + std::to_string(i)).c_str(), O_CREAT | O_WRONLY | O_EXCL, 0644);
    ASSERT_GE(fd, 0) << i;
    ::close(fd);
  }
  EXPECT_EQ(kFiles + 2u, names_in(folder).size());
  DIR* open = ::opendir(folder.c_str());
  std::map<std::string, int> seen;
  int turn = 0;
  size_t removed = 0;
  while (dirent* entry = ::readdir(open)) {
    ++seen[entry->d_name];
    if (entry->d_name[0] != '.') EXPECT_EQ(DT_REG, entry->d_type);
    // Every second one goes, before or after it was seen, and others come.
    if (turn < kFiles && turn % 2 == 0) {
      ASSERT_EQ(0, ::unlink((folder + "/" + std::to_string(kFiles - 1 - turn)).c_str()));
      ++removed;
    }
    if (turn == 1000) write_file_at(folder + "/new", "");
    ++turn;
  }
  ::closedir(open);
  for (auto& [name, count] : seen)
    EXPECT_EQ(1, count) << name;
  for (int i = 0; i < kFiles; i += 2)  // those that stayed
    EXPECT_EQ(1u, seen.count(std::to_string(i))) << i;
  EXPECT_EQ(1u, seen.count(".") * seen.count(".."));
  EXPECT_GT(removed, 1000u);
  EXPECT_EQ(kFiles - removed + 3, names_in(folder).size());
}

TEST_P(FuseFiles, AListingCanBeRewoundAndSoughtIn) {
  std::string folder = path("d");
  ASSERT_EQ(0, ::mkdir(folder.c_str(), 0755));
  for (int i = 0; i < 2500; ++i)
    ASSERT_EQ(0, ::mknod((folder + "/" + std::to_string(i)).c_str(), S_IFREG | 0644, 0));
  DIR* open = ::opendir(folder.c_str());
  std::vector<std::pair<long, std::string>> entries;  // position before it, name
  long position = ::telldir(open);
  while (dirent* entry = ::readdir(open)) {
    entries.emplace_back(position, entry->d_name);
    position = ::telldir(open);
  }
  ASSERT_EQ(2502u, entries.size());
  for (size_t i : {2000u, 3u, 1u, 0u, 2501u, 1234u}) {
    ::seekdir(open, entries[i].first);
    dirent* entry = ::readdir(open);
    ASSERT_NE(nullptr, entry) << i;
    EXPECT_EQ(entries[i].second, entry->d_name);
  }
  write_file_at(folder + "/new", "");
  ::rewinddir(open);
  bool found = false;
  while (dirent* entry = ::readdir(open))
    found = found || std::string_view(entry->d_name) == "new";
  EXPECT_TRUE(found);
  ::closedir(open);
}

TEST_P(FuseFiles, DotDotIsTheParent) {
  ASSERT_EQ(0, ::mkdir(path("d").c_str(), 0755));
  ASSERT_EQ(0, ::mkdir(path("d/e").c_str(), 0755));
  DIR* open = ::opendir(path("d/e").c_str());
  std::map<std::string, ino_t> inodes;
  while (dirent* entry = ::readdir(open))
    inodes[entry->d_name] = entry->d_ino;
  ::closedir(open);
  EXPECT_EQ(stat_of(path("d/e")).st_ino, inodes["."]);
  EXPECT_EQ(stat_of(path("d")).st_ino, inodes[".."]);
  EXPECT_EQ(3u, stat_of(path("d")).st_nlink);
}

TEST_P(FuseFiles, ManyProcessesWorkInOneFolder) {
  ASSERT_EQ(0, ::mkdir(path("d").c_str(), 0755));
  std::vector<pid_t> children;
  for (int p = 0; p < 6; ++p) {
    pid_t pid = ::fork();
    if (pid == 0) {
      bool good = true;
      for (int i = 0; good && i < 100; ++i) {
        std::string mine = path("d/" + std::to_string(p) + "-" + std::to_string(i));
        int fd = ::open(mine.c_str(), O_CREAT | O_EXCL | O_RDWR, 0644);
        std::string content = pattern(3000, static_cast<unsigned>(i));
        good = fd >= 0 && ::write(fd, content.data(), content.size()) == 3000;
        std::string seen(3000, 0);
        good = good && ::pread(fd, seen.data(), 3000, 0) == 3000 && seen == content;
        ::close(fd);
        if (i % 3 == 0) good = good && ::unlink(mine.c_str()) == 0;
        if (i % 3 == 1) good = good && ::rename(mine.c_str(), (mine + "-moved").c_str()) == 0;
      }
      ::_exit(good ? 0 : 1);
    }
    children.push_back(pid);
  }
  for (pid_t pid : children) {
    int status = 0;
    ::waitpid(pid, &status, 0);
    EXPECT_EQ(0, status);
  }
  EXPECT_EQ(6u * 66 + 2, names_in(path("d")).size());
}

// ---------------------------------------------------------------- attributes

TEST_P(FuseFiles, TimesAreKeptToTheNanosecond) {
  write_file_at(path("f"), "");
  timespec times[2] = {{.tv_sec = -5, .tv_nsec = 123'456'789}, {.tv_sec = 1'700'000'000, .tv_nsec = 987'654'321}};
  ASSERT_EQ(0, ::utimensat(AT_FDCWD, path("f").c_str(), times, 0));
  struct stat seen = stat_of(path("f"));
  EXPECT_EQ(-5, seen.st_atim.tv_sec);
  EXPECT_EQ(123'456'789, seen.st_atim.tv_nsec);
  EXPECT_EQ(1'700'000'000, seen.st_mtim.tv_sec);
  EXPECT_EQ(987'654'321, seen.st_mtim.tv_nsec);
  times[0].tv_nsec = UTIME_OMIT;
  times[1].tv_nsec = UTIME_NOW;
  ASSERT_EQ(0, ::utimensat(AT_FDCWD, path("f").c_str(), times, 0));
  seen = stat_of(path("f"));
  EXPECT_EQ(-5, seen.st_atim.tv_sec);
  EXPECT_GT(seen.st_mtim.tv_sec, 1'700'000'000);
}

TEST_P(FuseFiles, ModesAndOwnersAreTheCallers) {
  mode_t before = ::umask(027);
  write_file_at(path("f"), "");
  ::umask(before);
  EXPECT_EQ(S_IFREG | 0640u, stat_of(path("f")).st_mode);
  ASSERT_EQ(0, ::chmod(path("f").c_str(), 01777));
  EXPECT_EQ(S_IFREG | 01777u, stat_of(path("f")).st_mode);
  ASSERT_EQ(0, ::chown(path("f").c_str(), 1234, 4321));
  EXPECT_EQ(1234u, stat_of(path("f")).st_uid);
  EXPECT_EQ(4321u, stat_of(path("f")).st_gid);
  ASSERT_EQ(0, ::chmod(mountpoint_.c_str(), 0777));
  EXPECT_TRUE(in_child(
      [&] { return ::setgid(65534) == 0 && ::setuid(65534) == 0 && ::mkdir(path("own").c_str(), 0700) == 0; }));
  EXPECT_EQ(65534u, stat_of(path("own")).st_uid);
  // default_permissions: the kernel refuses others.
  ASSERT_EQ(0, ::chmod(path("f").c_str(), 0600));
  EXPECT_TRUE(in_child([&] {
    return ::setgid(65534) == 0 && ::setuid(65534) == 0 && ::open(path("f").c_str(), O_RDONLY) == -1 && errno == EACCES;
  }));
}

TEST_P(FuseFiles, AWriteByAnotherClearsSetIdBits) {
  std::string file = path("f");
  auto prepare = [&] {
    write_file_at(file, "program");
    ASSERT_EQ(0, ::chmod(file.c_str(), 06777));
    ASSERT_EQ(S_IFREG | 06777u, stat_of(file).st_mode);
  };
  auto as_other = [](const std::function<bool()>& work) {
    return in_child([&] { return ::setgid(65534) == 0 && ::setuid(65534) == 0 && work(); });
  };
  prepare();
  EXPECT_TRUE(as_other([&] {
    int fd = ::open(file.c_str(), O_WRONLY);
    return ::write(fd, "x", 1) == 1;
  }));
  EXPECT_EQ(S_IFREG | 0777u, stat_of(file).st_mode);
  prepare();
  EXPECT_TRUE(as_other([&] { return ::truncate(file.c_str(), 2) == 0; }));
  EXPECT_EQ(S_IFREG | 0777u, stat_of(file).st_mode);
  prepare();
  EXPECT_TRUE(as_other([&] { return ::open(file.c_str(), O_WRONLY | O_TRUNC) >= 0; }));
  EXPECT_EQ(S_IFREG | 0777u, stat_of(file).st_mode);
  prepare();
  int fd = ::open(file.c_str(), O_WRONLY);
  EXPECT_EQ(1, ::write(fd, "x", 1));  // root may keep them
  ::close(fd);
  EXPECT_EQ(S_IFREG | 06777u, stat_of(file).st_mode);
  EXPECT_EQ(0, ::chown(file.c_str(), 5, 5));
  EXPECT_EQ(S_IFREG | 0777u, stat_of(file).st_mode);
}

TEST_P(FuseFiles, ExtendedAttributesAreKept) {
  std::string file = path("f");
  write_file_at(file, "");
  const char* name = file.c_str();
  char value[64];
  EXPECT_EQ(ENODATA, error_of(::getxattr(name, "user.none", value, sizeof value)));
  EXPECT_EQ(ENODATA, error_of(::setxattr(name, "user.a", "1", 1, XATTR_REPLACE)));
  EXPECT_EQ(0, ::setxattr(name, "user.a", "12345", 5, XATTR_CREATE));
  EXPECT_EQ(EEXIST, error_of(::setxattr(name, "user.a", "1", 1, XATTR_CREATE)));
  EXPECT_EQ(0, ::setxattr(name, "user.empty", "", 0, 0));
  EXPECT_EQ(5, ::getxattr(name, "user.a", nullptr, 0));
  EXPECT_EQ(ERANGE, error_of(::getxattr(name, "user.a", value, 4)));
  ASSERT_EQ(5, ::getxattr(name, "user.a", value, sizeof value));
  EXPECT_EQ("12345", std::string_view(value, 5));
  EXPECT_EQ(0, ::getxattr(name, "user.empty", value, sizeof value));
  constexpr std::string_view kNames("user.a\0user.empty\0", 18);
  EXPECT_EQ(18, ::listxattr(name, nullptr, 0));
  EXPECT_EQ(ERANGE, error_of(::listxattr(name, value, 17)));
  ASSERT_EQ(18, ::listxattr(name, value, sizeof value));
  EXPECT_EQ(kNames, std::string_view(value, 18));
  std::string large(65'536, 'x');
  EXPECT_EQ(0, ::setxattr(name, "user.large", large.data(), large.size(), 0));
  std::string seen(65'536, 0);
  EXPECT_EQ(65'536, ::getxattr(name, "user.large", seen.data(), seen.size()));
  EXPECT_TRUE(seen == large);
  EXPECT_EQ(0, ::removexattr(name, "user.a"));
  EXPECT_EQ(ENODATA, error_of(::removexattr(name, "user.a")));
  EXPECT_EQ(EOPNOTSUPP, error_of(::getxattr(name, "system.posix_acl_access", value, sizeof value)));
}

TEST_P(FuseFiles, SpaceIsTold) {
  struct statvfs space{};
  ASSERT_EQ(0, ::statvfs(mountpoint_.c_str(), &space));
  EXPECT_EQ(64 * kGiB, space.f_blocks * space.f_frsize);
  EXPECT_EQ(48 * kGiB, space.f_bavail * space.f_frsize);
  EXPECT_EQ(255u, space.f_namemax);
}

// ---------------------------------------------------------------- with a file system of special ways

class FuseAppend : public MountFixture {};

TEST_F(FuseAppend, IsSeenWhereItLandedAlthoughTheKernelThoughtOtherwise) {
  mount({"appends_elsewhere"});
  int fd = ::open(path("log").c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_EQ(0, ::fcntl(fd, F_SETFL, O_APPEND));  // opened with O_APPEND it would have no pages
  std::string expected;
  for (int i = 0; i < 20; ++i) {
    std::string line = "line " + std::to_string(i) + "\n";
    ASSERT_EQ(static_cast<ssize_t>(line.size()), ::write(fd, line.data(), line.size()));
    expected += "x" + line;
    // The last byte is there as soon as its pages have been dropped: right after the answer, for which nobody waits.
    char last[64] = {};
    off_t at = static_cast<off_t>(expected.size() - line.size());
    for (int attempt = 0; attempt < 1'000'000 && std::string_view(last, line.size()) != line; ++attempt) {
      ASSERT_LE(0, ::pread(fd, last, line.size(), at));
      ::sched_yield();
    }
    EXPECT_EQ(line, std::string_view(last, line.size()));
  }
  ::close(fd);
  EXPECT_EQ(expected, read_file_at(path("log")));
}

// Of a long listing the kernel takes a little at a time: what it gets later is as old as the first of it.
class FuseLongListings : public FuseFiles {
 protected:
  static constexpr size_t kFiles = 900;
  std::string file(size_t i) const { return path("d/" + std::string(100, 'n') + std::to_string(i)); }
  void SetUp() override {
    FuseFiles::SetUp();
    ASSERT_EQ(0, ::mkdir(path("d").c_str(), 0755));
    for (size_t i = 0; i < kFiles; ++i)
      write_file_at(file(i), "1");
    listing_ = ::opendir(path("d").c_str());
    ASSERT_NE(nullptr, listing_);
    ASSERT_NE(nullptr, ::readdir(listing_));
  }
  void TearDown() override {
    if (listing_) ::closedir(listing_);
    FuseFiles::TearDown();
  }
  DIR* listing_ = nullptr;
};
INSTANTIATE_TEST_SUITE_P(Kernel, FuseLongListings, ::testing::Bool(),
                         [](const auto& info) { return info.param ? "Masked" : "Full"; });

TEST_P(FuseLongListings, DoNotTakeBackWhatWasDoneMeanwhile) {
  for (size_t i = 0; i < kFiles; ++i) {
    int fd = ::open(file(i).c_str(), O_WRONLY | O_APPEND);
    ASSERT_EQ(1, ::write(fd, "2", 1));
    ASSERT_EQ(0, ::close(fd));
    ASSERT_EQ(0, ::chmod(file(i).c_str(), 0600));
  }
  size_t seen = 0;
  while (dirent* entry = ::readdir(listing_)) {
    if (entry->d_name[0] == '.') continue;
    ++seen;
    struct stat now = stat_of(path("d/") + entry->d_name);
    EXPECT_EQ(2, now.st_size) << entry->d_name;
    EXPECT_EQ(0600u, now.st_mode & 07777u) << entry->d_name;
  }
  EXPECT_EQ(kFiles, seen);
}

TEST_P(FuseLongListings, DoNotBringBackNamesThatAreGone) {
  std::string renamed = file(kFiles - 1);
  std::string removed = file(kFiles - 2);
  ASSERT_EQ(0, ::rename(renamed.c_str(), path("moved").c_str()));
  ASSERT_EQ(0, ::unlink(removed.c_str()));
  while (dirent* entry = ::readdir(listing_)) {
    std::string name = path("d/") + entry->d_name;
    if (name != renamed && name != removed)
      stat_of(name);  // the kernel gets attributes with the names while somebody wants them
  }
  EXPECT_EQ(ENOENT, error_of(::access(renamed.c_str(), F_OK)));
  EXPECT_EQ(ENOENT, error_of(::access(removed.c_str(), F_OK)));
}

}  // namespace
}  // namespace cairn
