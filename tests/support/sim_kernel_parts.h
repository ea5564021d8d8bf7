// What the SimKernel's sources share.
#pragma once

#include <array>
#include <cerrno>
#include <cstring>
#include <set>

#include "tests/support/sim_kernel.h"

namespace cairn {

struct SimKernel::Page {
  uint64_t index = 0;
  bool in_cache = true;
  bool up_to_date = false;
  bool locked = false;
  bool dirty = false;       // by a store
  bool write_back = false;  // a WRITE of it is under way
  std::array<char, kSimPageBytes> data{};
};

struct SimKernel::Dentry {
  std::string name;
  InodePtr inode;  // none: known not to be there
  TimePoint until{};
  uint64_t epoch = 0;
};

struct SimKernel::Inode : std::enable_shared_from_this<SimKernel::Inode> {
  Inode(SimKernel& kernel_in, uint64_t number_in, Executor& executor)
      : kernel(kernel_in),
        number(number_in),
        lock(std::make_shared<RwLock>(executor)),
        one_at_a_time(std::make_shared<RwLock>(executor)),
        moved(executor) {}
  Inode(const Inode&) = delete;
  Inode& operator=(const Inode&) = delete;
  ~Inode() { kernel.evicted(*this); }

  bool directory() const { return (attributes.mode & 0170000) == 0040000; }
  bool open() const { return opens > 0; }

  SimKernel& kernel;
  const uint64_t number;
  uint64_t lookups = 0;
  uint64_t opens = 0;
  fuse_attr attributes{};
  TimePoint attributes_until{};
  uint64_t version = 0;
  uint64_t put_away = 0;  // answers about its attributes that came too late
  uint64_t size = 0;
  bool size_unstable = false;             // a change of it is under way
  std::shared_ptr<RwLock> lock;           // shared with who holds it
  std::shared_ptr<RwLock> one_at_a_time;  // a directory without parallel_dirops: likewise
  // A directory's.
  std::map<std::string, DentryPtr> names;
  std::set<std::string> looked_up;  // at this moment
  // Where a directory is: it has one name.
  std::weak_ptr<Inode> parent;
  std::weak_ptr<Dentry> dentry;
  // A file's.
  std::map<uint64_t, PagePtr> pages;
  std::vector<std::weak_ptr<File>> writers;  // handles that may write dirty pages back
  Condition moved;                           // a page's lock, or `looked_up`
};

struct SimKernel::File {
  InodePtr inode;
  uint64_t handle = 0;
  uint32_t open_flags = 0;  // FOPEN_*
  int flags = 0;            // O_*
  bool created = false;
  bool closed = false;
};

struct SimKernel::Answer {
  int error = 0;
  std::string body;

  template <class T>
  T as(size_t at = 0) const {
    T out{};
    if (body.size() > at) std::memcpy(&out, body.data() + at, std::min(sizeof out, body.size() - at));
    return out;
  }
};

struct SimKernel::Pending {
  uint64_t unique = 0;
  uint32_t opcode = 0;
  std::string message;
  OnReply on_reply;                         // in the process's call
  std::shared_ptr<Promise<bool>> answered;  // none: nobody waits; shared with the timer that is to wake
  std::shared_ptr<Answer> answer;           // shared with who waits
};

template <class T>
std::string bytes_of(const T& value) {
  return std::string(reinterpret_cast<const char*>(&value), sizeof value);
}

inline std::string with_name(std::string body, const std::string& name) {
  return body + name + '\0';
}

}  // namespace cairn
