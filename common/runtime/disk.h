// The seam for disks: files and folders, blocking; called on a BlockingPool, or by LevelDB's own threads through kv/'s Env.
//
// Three of them: PosixDisk; MemoryDisk, which knows for each byte and name whether it is durable, and can crash (drop what was not
// synced, all or a random part), fail after n operations, be full, or be slow; both under one test suite. Thread-safe; a File is for one
// thread at a time unless noted.
// Durable means: file data after sync(); a name (create, rename, remove, link) after sync_folder() of its folder. That is what POSIX
// promises, and all that may be relied on.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"

namespace cairn {

class File {
 public:
  virtual ~File() = default;  // closes; does not sync

  // Up to out.size() bytes at `offset`; fewer only at the end of the file. Thread-safe.
  virtual Result<size_t> read(uint64_t offset, std::span<std::byte> out) = 0;
  // The same without waiting for the disk (RWF_NOWAIT); kAgain if that cannot be done. Thread-safe.
  virtual Result<size_t> read_cached(uint64_t offset, std::span<std::byte> out) = 0;
  // All of `data` at `offset`. kNoSpace, kIo. Thread-safe for ranges that do not overlap.
  virtual Result<void> write(uint64_t offset, std::span<const std::byte> data) = 0;
  virtual Result<void> write_gather(uint64_t offset, std::span<const std::span<const std::byte>> pieces) = 0;
  // fdatasync. An error is final: the caller must not retry and believe (fsyncgate).
  virtual Result<void> sync() = 0;
  virtual Result<void> truncate(uint64_t size) = 0;
  // fallocate: reserves [offset, offset + size); the file grows to its end unless keep_size.
  virtual Result<void> allocate(uint64_t offset, uint64_t size, bool keep_size) = 0;
  // FALLOC_FL_PUNCH_HOLE: the range reads as zeros and its space is free. kNotSupported where the filesystem cannot.
  virtual Result<void> punch_hole(uint64_t offset, uint64_t size) = 0;
  virtual Result<uint64_t> size() = 0;
};

struct OpenFlags {
  bool create = false;
  bool exclusive = false;  // with create: kExists if it is there
  bool truncate = false;
  bool direct = false;     // O_DIRECT: offsets, sizes and memory must be multiples of 4096; kInvalid where it can't be done
  bool read_only = false;
};

struct DiskSpace {
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;  // what an ordinary user may still write
};

// Keeps a folder for one process; let go by the destructor (or the process's end).
class FolderLock {
 public:
  virtual ~FolderLock() = default;
};

class Disk {
 public:
  virtual ~Disk() = default;
  virtual Result<std::unique_ptr<File>> open(const std::string& path, OpenFlags flags) = 0;
  virtual Result<bool> exists(const std::string& path) = 0;
  virtual Result<uint64_t> file_size(const std::string& path) = 0;
  virtual Result<std::vector<std::string>> list(const std::string& folder) = 0;  // names, sorted
  virtual Result<void> make_folder(const std::string& path) = 0;                 // parents too; fine if it is there
  virtual Result<void> remove(const std::string& path) = 0;                      // a file or an empty folder
  virtual Result<void> remove_tree(const std::string& path) = 0;                 // fine if it is not there
  virtual Result<void> rename(const std::string& from, const std::string& to) = 0;
  virtual Result<void> link(const std::string& from, const std::string& to) = 0;
  virtual Result<void> sync_folder(const std::string& folder) = 0;
  virtual Result<DiskSpace> space(const std::string& folder) = 0;
  // kBusy if another process has it.
  virtual Result<std::unique_ptr<FolderLock>> lock_folder(const std::string& folder) = 0;
};

// Whole small files. write_file is atomic and durable: a temporary name, sync, rename, sync_folder.
Result<std::string> read_file(Disk& disk, const std::string& path);
Result<void> write_file(Disk& disk, const std::string& path, std::string_view content);

}  // namespace cairn
