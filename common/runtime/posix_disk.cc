#include "common/runtime/posix_disk.h"

#include <algorithm>
#include <array>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <unistd.h>
#include <utility>

namespace cairn {

namespace {

// Runs a system call again while signals interrupt it.
template <class F>
auto retried(F call) {
  auto result = call();
  while (result < 0 && errno == EINTR)
    result = call();
  return result;
}

class Fd {
 public:
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&&) = delete;
  ~Fd() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }

 private:
  int fd_;
};

class PosixFile final : public File {
 public:
  PosixFile(Fd fd, std::string path, bool direct) : fd_(std::move(fd)), path_(std::move(path)), direct_(direct) {}

  Result<size_t> read(uint64_t offset, std::span<std::byte> out) override {
    if (direct_ && !aligned(offset, out)) return misaligned();
    size_t got = 0;
    while (got < out.size()) {
      ssize_t n = retried(
          [&] { return ::pread(fd_.get(), out.data() + got, out.size() - got, static_cast<off_t>(offset + got)); });
      if (n < 0) return errno_error("reading " + path_);
      if (n == 0) break;
      got += static_cast<size_t>(n);
      // A direct read that ends within a block has met the end of the file; going on would be out of alignment.
      if (direct_ && n % 4096 != 0) break;
    }
    return got;
  }

  Result<size_t> read_cached(uint64_t offset, std::span<std::byte> out) override {
    if (direct_ && !aligned(offset, out)) return misaligned();
    iovec vector{out.data(), out.size()};
    ssize_t n = retried([&] { return ::preadv2(fd_.get(), &vector, 1, static_cast<off_t>(offset), RWF_NOWAIT); });
    if (n < 0) {
      if (errno == EOPNOTSUPP) return ErrorCode::kAgain;
      return errno_error("reading " + path_);
    }
    size_t got = static_cast<size_t>(n);
    if (got == out.size()) return got;
    // A short read without waiting is either the end of the file or the edge of what is in memory.
    Result<uint64_t> end = size();
    if (!end) return end.error();
    if (offset + got < *end) return ErrorCode::kAgain;
    return got;
  }

  Result<void> write(uint64_t offset, std::span<const std::byte> data) override {
    return write_gather(offset, std::span(&data, 1));
  }

  Result<void> write_gather(uint64_t offset, std::span<const std::span<const std::byte>> pieces) override {
    uint64_t end = offset;
    for (std::span<const std::byte> one : pieces) {
      if (direct_ && !aligned(end, one)) return misaligned();
      end += one.size();
    }
    size_t piece = 0;
    size_t within = 0;  // bytes of pieces[piece] that are written
    while (piece < pieces.size()) {
      std::array<iovec, 64> vectors;
      size_t count = 0;
      for (size_t i = piece; i < pieces.size() && count < vectors.size(); ++i) {
        std::span<const std::byte> rest = i == piece ? pieces[i].subspan(within) : pieces[i];
        if (!rest.empty()) vectors[count++] = iovec{const_cast<std::byte*>(rest.data()), rest.size()};
      }
      if (count == 0) break;
      ssize_t n = retried(
          [&] { return ::pwritev(fd_.get(), vectors.data(), static_cast<int>(count), static_cast<off_t>(offset)); });
      if (n < 0) return errno_error("writing " + path_);
      if (n == 0) return Error(ErrorCode::kIo, "writing " + path_ + ": nothing was written");
      offset += static_cast<uint64_t>(n);
      size_t left = static_cast<size_t>(n);
      while (piece < pieces.size() && left >= pieces[piece].size() - within) {
        left -= pieces[piece].size() - within;
        ++piece;
        within = 0;
      }
      within += left;
    }
    return {};
  }

  Result<void> sync() override {
    // Not retried, not even for EINTR's sake: a failed fdatasync may have dropped the pages.
    if (::fdatasync(fd_.get()) != 0) return errno_error("syncing " + path_);
    return {};
  }
  Result<void> truncate(uint64_t size) override {
    if (retried([&] { return ::ftruncate(fd_.get(), static_cast<off_t>(size)); }) != 0) {
      return errno_error("truncating " + path_);
    }
    return {};
  }
  Result<void> allocate(uint64_t offset, uint64_t size, bool keep_size) override {
    return fall(keep_size ? FALLOC_FL_KEEP_SIZE : 0, offset, size, "reserving space in ");
  }
  Result<void> punch_hole(uint64_t offset, uint64_t size) override {
    return fall(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, size, "punching a hole in ");
  }
  Result<uint64_t> size() override {
    struct stat status{};
    if (::fstat(fd_.get(), &status) != 0) return errno_error("the size of " + path_);
    return static_cast<uint64_t>(status.st_size);
  }

 private:
  // Some disks would take 512; what works on one is to work on all.
  static bool aligned(uint64_t offset, std::span<const std::byte> memory) {
    return (offset | memory.size() | reinterpret_cast<uintptr_t>(memory.data())) % 4096 == 0;
  }
  Error misaligned() const { return Error(ErrorCode::kInvalid, "O_DIRECT out of alignment on " + path_); }

  Result<void> fall(int mode, uint64_t offset, uint64_t size, const char* doing) {
    if (size == 0) return {};
    if (retried([&] { return ::fallocate(fd_.get(), mode, static_cast<off_t>(offset), static_cast<off_t>(size)); }) !=
        0) {
      return errno_error(doing + path_);
    }
    return {};
  }

  Fd fd_;
  std::string path_;
  bool direct_;
};

class PosixFolderLock final : public FolderLock {
 public:
  explicit PosixFolderLock(Fd fd) : fd_(std::move(fd)) {}

 private:
  Fd fd_;  // flock goes with the last descriptor
};

class PosixDisk final : public Disk {
 public:
  Result<std::unique_ptr<File>> open(const std::string& path, OpenFlags flags) override {
    int mode = flags.read_only ? O_RDONLY : O_RDWR;
    if (flags.create) mode |= O_CREAT;
    if (flags.create && flags.exclusive) mode |= O_EXCL;
    if (flags.truncate) mode |= O_TRUNC;
    if (flags.direct) mode |= O_DIRECT;
    Fd fd(retried([&] { return ::open(path.c_str(), mode | O_CLOEXEC, 0600); }));
    if (!fd) return errno_error("opening " + path);
    struct stat status{};
    if (::fstat(fd.get(), &status) != 0) return errno_error("opening " + path);
    if (S_ISDIR(status.st_mode)) return Error(ErrorCode::kIsDirectory, "opening " + path);
    return std::make_unique<PosixFile>(std::move(fd), path, flags.direct);
  }

  Result<bool> exists(const std::string& path) override {
    struct stat status{};
    if (::stat(path.c_str(), &status) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return errno_error("looking for " + path);
  }

  Result<uint64_t> file_size(const std::string& path) override {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0) return errno_error("the size of " + path);
    return static_cast<uint64_t>(status.st_size);
  }

  Result<std::vector<std::string>> list(const std::string& folder) override {
    std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(folder.c_str()), ::closedir);
    if (!dir) return errno_error("listing " + folder);
    std::vector<std::string> names;
    errno = 0;
    while (dirent* entry = ::readdir(dir.get())) {
      std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(std::move(name));
      errno = 0;
    }
    if (errno != 0) return errno_error("listing " + folder);
    std::sort(names.begin(), names.end());
    return names;
  }

  Result<void> make_folder(const std::string& path) override {
    for (size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
      std::string part = path.substr(0, end);
      if (::mkdir(part.c_str(), 0700) != 0) {
        int failed = errno;
        struct stat status{};
        bool there = ::stat(part.c_str(), &status) == 0;
        if (there && !S_ISDIR(status.st_mode)) return Error(ErrorCode::kNotDirectory, "making " + path);
        errno = failed;
        if (!there) return errno_error("making " + path);
      }
      if (end == std::string::npos) return {};
    }
  }

  Result<void> remove(const std::string& path) override {
    if (::unlink(path.c_str()) == 0) return {};
    if (errno == EISDIR && ::rmdir(path.c_str()) == 0) return {};
    return errno_error("removing " + path);
  }

  Result<void> remove_tree(const std::string& path) override {
    struct stat status{};
    if (::lstat(path.c_str(), &status) != 0) {
      if (errno == ENOENT) return {};
      return errno_error("removing " + path);
    }
    if (S_ISDIR(status.st_mode)) {
      Result<std::vector<std::string>> names = list(path);
      if (!names) return names.error();
      for (const std::string& name : *names) {
        Result<void> removed = remove_tree(path + "/" + name);
        if (!removed) return removed;
      }
    }
    return remove(path);
  }

  Result<void> rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) return errno_error("renaming " + from + " to " + to);
    return {};
  }
  Result<void> link(const std::string& from, const std::string& to) override {
    if (::link(from.c_str(), to.c_str()) != 0) return errno_error("linking " + from + " to " + to);
    return {};
  }

  Result<void> sync_folder(const std::string& folder) override {
    Fd fd(retried([&] { return ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (!fd || ::fsync(fd.get()) != 0) return errno_error("syncing the folder " + folder);
    return {};
  }

  Result<DiskSpace> space(const std::string& folder) override {
    struct statvfs status{};
    if (retried([&] { return ::statvfs(folder.c_str(), &status); }) != 0) return errno_error("the space of " + folder);
    return DiskSpace{status.f_blocks * status.f_frsize, status.f_bavail * status.f_frsize};
  }

  Result<std::unique_ptr<FolderLock>> lock_folder(const std::string& folder) override {
    // The folder itself is locked: no file that would have to be told from others.
    Fd fd(retried([&] { return ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
    if (!fd) return errno_error("locking " + folder);
    if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
      if (errno == EWOULDBLOCK) return Error(ErrorCode::kBusy, folder + " is in use by another process");
      return errno_error("locking " + folder);
    }
    return std::make_unique<PosixFolderLock>(std::move(fd));
  }
};

}  // namespace

std::unique_ptr<Disk> make_posix_disk() {
  return std::make_unique<PosixDisk>();
}

}  // namespace cairn
