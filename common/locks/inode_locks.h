// InodeLocks: the locks of one inode, of whatever sessions: byte ranges as fcntl(2) has them, and whole files as
// flock(2) has them. Both live side by side and know nothing of each other.
//
// Pure: it neither waits nor asks anybody. Not thread-safe. Bounded at kInodeLocksMax; every call costs time in
// proportion to the locks that are there.
#pragma once

#include <compare>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/base/result.h"
#include "common/proto/meta_types.h"

namespace cairn {

// More are refused with kNoLocks. What a record of them takes, 64 KiB, is written with each change.
inline constexpr size_t kInodeLocksMax = 2048;

struct LockOwner {
  SessionId session;
  uint64_t owner = 0;

  auto operator<=>(const LockOwner&) const = default;
};
LockOwner owner_of(const FileLock& lock);
// kInvalid: an empty or impossible range, or half a flock.
Result<void> check_lock(const FileLock& lock);
// Both are there, and one excludes the other: the same kind, another owner, a byte in common, not both shared.
bool in_the_way(const FileLock& a, const FileLock& b);

class InodeLocks {
 public:
  bool empty() const { return locks_.empty(); }
  // By kind, session, owner and start. Of one owner and kind they do not overlap, and such as touch differ in mode.
  const std::vector<FileLock>& all() const { return locks_; }

  // The first one in the way of `wanted`, by start.
  std::optional<FileLock> conflict(const FileLock& wanted) const;
  std::vector<FileLock> conflicts(const FileLock& wanted) const;
  // Sets the range, or takes it away (kUnlock): what its owner had there is replaced, what is left of it on both sides
  // stays. Nobody else may be in the way. kNoLocks: there would be too many; nothing is changed.
  Result<void> set(const FileLock& lock);
  // What its owner has of the range, cut to it: what set() would replace.
  std::vector<FileLock> within(const FileLock& range) const;
  // All of one owner, of both kinds. False: it had none.
  bool release(const LockOwner& owner);
  bool release_session(SessionId session);
  bool has_owner(const LockOwner& owner) const;
  bool has_session(SessionId session) const;
  bool has_others(SessionId session) const;
  std::vector<FileLock> of_session(SessionId session) const;
  // As it is: a lock that set() would have merged with its neighbour may be there twice. For what comes from set()
  // elsewhere.
  void add(const FileLock& lock);

  bool operator==(const InodeLocks&) const = default;

 private:
  std::vector<FileLock> locks_;
};

// docs/formats.md, "Metadata records": locks of an inode.
std::string encode(const InodeLocks& locks);
Result<void> decode(std::string_view bytes, InodeLocks& locks);

}  // namespace cairn
