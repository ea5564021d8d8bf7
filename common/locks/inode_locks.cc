#include "common/locks/inode_locks.h"

#include <algorithm>
#include <tuple>

#include "common/base/bytes.h"

namespace cairn {
namespace {

constexpr uint8_t kFormat = 1;

auto order_of(const FileLock& lock) {
  return std::tuple(lock.kind, lock.session, lock.owner, lock.start);
}
bool before(const FileLock& a, const FileLock& b) {
  return order_of(a) < order_of(b);
}
bool same_holder(const FileLock& a, const FileLock& b) {
  return a.kind == b.kind && owner_of(a) == owner_of(b);
}
bool overlap(const FileLock& a, const FileLock& b) {
  return a.start <= b.end && b.start <= a.end;
}
// The second begins where the first ends; ends are at most kLockRangeEnd, so that nothing wraps.
bool meet(const FileLock& a, const FileLock& b) {
  return a.end + 1 == b.start || b.end + 1 == a.start;
}

}  // namespace

LockOwner owner_of(const FileLock& lock) {
  return {lock.session, lock.owner};
}

Result<void> check_lock(const FileLock& lock) {
  if (lock.start > lock.end || lock.end > kLockRangeEnd) return Error(ErrorCode::kInvalid, "the range of a lock");
  bool whole = lock.start == 0 && lock.end == kLockRangeEnd;
  if (lock.kind == LockKind::kFlock && !whole) return Error(ErrorCode::kInvalid, "a flock is of the whole file");
  return {};
}

bool in_the_way(const FileLock& a, const FileLock& b) {
  if (a.kind != b.kind || owner_of(a) == owner_of(b) || !overlap(a, b)) return false;
  return a.mode == LockMode::kExclusive || b.mode == LockMode::kExclusive;
}

std::vector<FileLock> InodeLocks::conflicts(const FileLock& wanted) const {
  std::vector<FileLock> found;
  for (const FileLock& lock : locks_) {
    if (wanted.mode != LockMode::kUnlock && in_the_way(lock, wanted)) found.push_back(lock);
  }
  std::ranges::sort(found, {}, [](const FileLock& lock) { return std::tuple(lock.start, order_of(lock)); });
  return found;
}

std::optional<FileLock> InodeLocks::conflict(const FileLock& wanted) const {
  std::vector<FileLock> found = conflicts(wanted);
  if (found.empty()) return std::nullopt;
  return found.front();
}

Result<void> InodeLocks::set(const FileLock& lock) {
  if (Result<void> right = check_lock(lock); !right) return right;
  FileLock merged = lock;
  std::vector<FileLock> after;
  after.reserve(locks_.size() + 2);
  for (const FileLock& old : locks_) {
    bool near = same_holder(old, lock) && (overlap(old, lock) || (old.mode == lock.mode && meet(old, lock)));
    if (!near) {
      after.push_back(old);
    } else if (old.mode == lock.mode) {
      merged.start = std::min(merged.start, old.start);
      merged.end = std::max(merged.end, old.end);
    } else {
      FileLock left = old;
      left.end = lock.start - 1;
      if (old.start < lock.start) after.push_back(left);
      FileLock right = old;
      right.start = lock.end + 1;
      if (old.end > lock.end) after.push_back(right);
    }
  }
  if (lock.mode != LockMode::kUnlock) after.push_back(merged);
  // What makes them fewer is never refused, and what only splits one is: as the kernel does it.
  if (after.size() > kInodeLocksMax && after.size() > locks_.size())
    return Error(ErrorCode::kNoLocks, "more than " + std::to_string(kInodeLocksMax) + " locks on one file");
  std::ranges::sort(after, before);
  locks_ = std::move(after);
  return {};
}

std::vector<FileLock> InodeLocks::within(const FileLock& range) const {
  std::vector<FileLock> found;
  for (const FileLock& lock : locks_) {
    if (!same_holder(lock, range) || !overlap(lock, range)) continue;
    FileLock piece = lock;
    piece.start = std::max(lock.start, range.start);
    piece.end = std::min(lock.end, range.end);
    found.push_back(piece);
  }
  return found;
}

bool InodeLocks::release(const LockOwner& owner) {
  return std::erase_if(locks_, [&](const FileLock& lock) { return owner_of(lock) == owner; }) > 0;
}

bool InodeLocks::release_session(SessionId session) {
  return std::erase_if(locks_, [&](const FileLock& lock) { return lock.session == session; }) > 0;
}

bool InodeLocks::has_owner(const LockOwner& owner) const {
  return std::ranges::any_of(locks_, [&](const FileLock& lock) { return owner_of(lock) == owner; });
}

bool InodeLocks::has_session(SessionId session) const {
  return std::ranges::any_of(locks_, [&](const FileLock& lock) { return lock.session == session; });
}

bool InodeLocks::has_others(SessionId session) const {
  return std::ranges::any_of(locks_, [&](const FileLock& lock) { return lock.session != session; });
}

std::vector<FileLock> InodeLocks::of_session(SessionId session) const {
  std::vector<FileLock> found;
  std::ranges::copy_if(locks_, std::back_inserter(found),
                       [&](const FileLock& lock) { return lock.session == session; });
  return found;
}

void InodeLocks::add(const FileLock& lock) {
  locks_.insert(std::ranges::upper_bound(locks_, lock, before), lock);
}

std::string encode(const InodeLocks& locks) {
  ByteWriter w(16 + locks.all().size() * 32);
  w.u8(kFormat);
  w.varint(locks.all().size());
  for (const FileLock& lock : locks.all()) {
    w.varint(lock.session.value);
    w.u64(lock.owner);
    w.u8(static_cast<uint8_t>(lock.kind));
    w.u8(static_cast<uint8_t>(lock.mode));
    w.varint(lock.start);
    w.varint(lock.end - lock.start);
    w.varint(lock.pid);
  }
  return w.take();
}

Result<void> decode(std::string_view bytes, InodeLocks& locks) {
  ByteReader r(bytes);
  locks = {};
  if (r.u8() != kFormat) return Error(ErrorCode::kCorrupt, "locks: unknown format");
  for (uint64_t left = r.varint(); left > 0 && r.ok(); --left) {
    FileLock lock;
    lock.session = SessionId{r.varint()};
    lock.owner = r.u64();
    uint8_t kind = r.u8();
    uint8_t mode = r.u8();
    lock.start = r.varint();
    lock.end = lock.start + r.varint();
    lock.pid = static_cast<uint32_t>(r.varint());
    lock.kind = static_cast<LockKind>(kind);
    lock.mode = static_cast<LockMode>(mode);
    bool known = (kind == 1 || kind == 2) && (mode == 2 || mode == 3);
    if (!r.ok() || !known || !check_lock(lock)) return Error(ErrorCode::kCorrupt, "locks: one that cannot be");
    locks.add(lock);
  }
  return r.finish("locks");
}

}  // namespace cairn
