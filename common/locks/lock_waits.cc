#include "common/locks/lock_waits.h"

#include <algorithm>

namespace cairn {

LockWaits::Id LockWaits::add(InodeId inode, const FileLock& lock, uint64_t place) {
  Id id = ++last_;
  if (place == 0) place = last_place_ + 1;
  last_place_ = std::max(last_place_, place);
  waits_[id] = {.inode = inode, .lock = lock, .place = place};
  queues_[inode].insert({place, id});
  if (lock.kind == LockKind::kPosix) owners_[owner_of(lock)].insert(id);
  ++sessions_[lock.session];
  return id;
}

void LockWaits::remove(Id id) {
  auto found = waits_.find(id);
  if (found == waits_.end()) return;
  const Wait& wait = found->second;
  auto queue = queues_.find(wait.inode);
  queue->second.erase({wait.place, id});
  if (queue->second.empty()) queues_.erase(queue);
  if (auto owner = owners_.find(owner_of(wait.lock)); owner != owners_.end()) {
    owner->second.erase(id);
    if (owner->second.empty()) owners_.erase(owner);
  }
  if (auto session = sessions_.find(wait.lock.session); --session->second == 0) sessions_.erase(session);
  waits_.erase(found);
}

const LockWaits::Wait* LockWaits::find(Id id) const {
  auto found = waits_.find(id);
  return found == waits_.end() ? nullptr : &found->second;
}

std::vector<LockWaits::Id> LockWaits::free_now(InodeId inode, InodeLocks locks) const {
  std::vector<Id> free;
  auto queue = queues_.find(inode);
  if (queue == queues_.end()) return free;
  for (const auto& [place, id] : queue->second) {
    const FileLock& lock = waits_.at(id).lock;
    if (locks.conflict(lock)) continue;
    free.push_back(id);
    locks.add(lock);
  }
  return free;
}

bool LockWaits::in_a_circle(Id id, const LocksOf& locks_of) const {
  const Wait* first = find(id);
  if (!first || first->lock.kind != LockKind::kPosix) return false;
  const LockOwner self = owner_of(first->lock);
  std::set<LockOwner> seen;
  std::vector<Id> open{id};
  while (!open.empty()) {
    const Wait& wait = waits_.at(open.back());
    open.pop_back();
    for (const FileLock& blocker : locks_of(wait.inode).conflicts(wait.lock)) {
      const LockOwner owner = owner_of(blocker);
      if (owner == self) return true;
      if (!seen.insert(owner).second) continue;
      auto waiting = owners_.find(owner);
      if (waiting != owners_.end()) open.insert(open.end(), waiting->second.begin(), waiting->second.end());
    }
  }
  return false;
}

std::vector<InodeId> LockWaits::inodes() const {
  std::vector<InodeId> all;
  for (const auto& [inode, queue] : queues_)
    all.push_back(inode);
  return all;
}

std::vector<LockWaits::Wait> LockWaits::of_inode(InodeId inode) const {
  std::vector<Wait> all;
  auto queue = queues_.find(inode);
  if (queue == queues_.end()) return all;
  for (const auto& [place, id] : queue->second)
    all.push_back(waits_.at(id));
  return all;
}

size_t LockWaits::of_session(SessionId session) const {
  auto found = sessions_.find(session);
  return found == sessions_.end() ? 0 : found->second;
}

bool LockWaits::others_wait(InodeId inode, SessionId session) const {
  auto queue = queues_.find(inode);
  return queue != queues_.end() && std::ranges::any_of(queue->second, [&](const auto& entry) {
           return waits_.at(entry.second).lock.session != session;
         });
}

void LockWaits::clear() {
  waits_.clear();
  queues_.clear();
  owners_.clear();
  sessions_.clear();
}

}  // namespace cairn
