#include <mutex>
#include <utility>

#include "common/runtime/memory_disk_nodes.h"

namespace cairn {

namespace {

bool aligned(uint64_t offset, std::span<const std::byte> memory) {
  return (offset | memory.size() | reinterpret_cast<uintptr_t>(memory.data())) % 4096 == 0;
}

}  // namespace

class MemoryDisk::OpenFile final : public File {
 public:
  OpenFile(MemoryDisk& disk, NodePtr node, std::string path, OpenFlags flags)
      : disk_(disk), node_(std::move(node)), path_(std::move(path)), flags_(flags), life_(disk.crashes_) {
    ++node_->open_files;
    disk_.count_space(*node_);
  }
  ~OpenFile() override {
    std::lock_guard lock(disk_.mutex_);
    if (life_ == disk_.crashes_) {
      --node_->open_files;
      disk_.count_space(*node_);
    }
    node_.reset();
  }

  Result<size_t> read(uint64_t offset, std::span<std::byte> out) override {
    std::lock_guard lock(disk_.mutex_);
    Result<void> ready = check(offset, out);
    if (!ready) return ready.error();
    ++disk_.counters_.reads;
    disk_.spend(disk_.speed_.operation, out.size());
    return node_->content.read(offset, out);
  }

  Result<size_t> read_cached(uint64_t offset, std::span<std::byte> out) override {
    std::lock_guard lock(disk_.mutex_);
    Result<void> ready = check(offset, out);
    if (!ready) return ready.error();
    if (disk_.nothing_cached_) return ErrorCode::kAgain;
    return node_->content.read(offset, out);
  }

  Result<void> write(uint64_t offset, std::span<const std::byte> data) override {
    return write_gather(offset, std::span(&data, 1));
  }

  Result<void> write_gather(uint64_t offset, std::span<const std::span<const std::byte>> pieces) override {
    std::lock_guard lock(disk_.mutex_);
    std::vector<std::byte> data;
    for (std::span<const std::byte> piece : pieces) {
      Result<void> ready = check(offset + data.size(), piece);
      if (!ready) return ready;
      data.insert(data.end(), piece.begin(), piece.end());
    }
    Result<void> room = check_writable(offset, data.size());
    if (!room) return room;
    return change("writing ", [&] {
      ++disk_.counters_.writes;
      disk_.counters_.bytes_written += data.size();
      disk_.spend(Duration::zero(), data.size());
      node_->content.write(offset, std::move(data));
    });
  }

  Result<void> sync() override {
    std::lock_guard lock(disk_.mutex_);
    Result<void> ready = check(0, {});
    if (!ready) return ready;
    return change("syncing ", [&] {
      ++disk_.counters_.syncs;
      disk_.spend(disk_.speed_.sync, 0);
      node_->content.sync();
    });
  }

  Result<void> truncate(uint64_t size) override {
    std::lock_guard lock(disk_.mutex_);
    Result<void> ready = check_writable(0, 0);
    if (!ready) return ready;
    return change("truncating ", [&] { node_->content.truncate(size); });
  }

  Result<void> allocate(uint64_t offset, uint64_t size, bool keep_size) override {
    std::lock_guard lock(disk_.mutex_);
    Result<void> ready = check_writable(offset, size);
    if (!ready || size == 0) return ready;
    return change("reserving space in ", [&] { node_->content.allocate(offset, size, keep_size); });
  }

  Result<void> punch_hole(uint64_t offset, uint64_t size) override {
    std::lock_guard lock(disk_.mutex_);
    Result<void> ready = check_writable(0, 0);
    if (!ready || size == 0) return ready;
    return change("punching a hole in ", [&] { node_->content.punch_hole(offset, size); });
  }

  Result<uint64_t> size() override {
    std::lock_guard lock(disk_.mutex_);
    Result<void> ready = check(0, {});
    if (!ready) return ready.error();
    return node_->content.size();
  }

 private:
  Result<void> check(uint64_t offset, std::span<const std::byte> memory) const {
    if (life_ != disk_.crashes_) return Error(ErrorCode::kIo, path_ + " was open before the crash");
    if (flags_.direct && !aligned(offset, memory)) {
      return Error(ErrorCode::kInvalid, "O_DIRECT out of alignment on " + path_);
    }
    return disk_.check_working(path_);
  }
  // Also that there is room for the range.
  Result<void> check_writable(uint64_t offset, uint64_t size) const {
    Result<void> ready = check(0, {});
    if (!ready) return ready;
    if (flags_.read_only) return Error(ErrorCode::kBadHandle, path_);
    uint64_t missing = node_->content.missing_bytes(offset, size);
    if (missing > 0 && disk_.used_bytes_ + missing > disk_.capacity_bytes_) return Error(ErrorCode::kNoSpace, path_);
    return {};
  }
  template <class F>
  Result<void> change(const char* doing, F effect) {
    Result<void> done = disk_.change(doing + path_, std::move(effect));
    disk_.count_space(*node_);
    return done;
  }

  MemoryDisk& disk_;
  NodePtr node_;
  std::string path_;
  OpenFlags flags_;
  uint64_t life_;  // of the disk: its crashes
};

std::unique_ptr<File> MemoryDisk::make_file(NodePtr node, const std::string& path, OpenFlags flags) {
  return std::make_unique<OpenFile>(*this, std::move(node), path, flags);
}

}  // namespace cairn
