#include "master/leases/shared_leases.h"

#include <algorithm>

namespace cairn {

// It is free, and whoever is first in the queue has not asked again yet.
static constexpr uint64_t kRetryMs = 10;

SharedLeases::SharedLeases(SharedLeasesOptions options) : options_(options) {}

void SharedLeases::begin_term(uint64_t term, uint64_t now_ms) {
  *this = SharedLeases(options_);
  term_ = term;
  // Whoever the leader before gave an exclusive lease may go on for its time.
  not_before_ms_ = now_ms + options_.lease_ms;
}

Lease SharedLeases::lease_of(uint32_t duration_ms) {
  return Lease{.duration_ms = duration_ms, .term = term_, .sequence = ++sequence_};
}

Lease SharedLeases::share(SessionId session, InodeId inode, uint64_t now_ms) {
  auto exclusive = exclusive_.find(inode);
  if (exclusive != exclusive_.end()) {
    drop_silent_waiters(exclusive->second, now_ms);
    bool theirs = exclusive->second.holder != session && exclusive->second.until_ms > now_ms;
    bool awaited = std::ranges::any_of(exclusive->second.waiters,
                                       [&](const Exclusive::Waiter& waiter) { return waiter.session != session; });
    if (theirs || awaited) return lease_of(0);
  }
  auto [entry, is_new] = shared_[inode].try_emplace(session, 0);
  if (is_new && ++shared_count_ > options_.leases_max) {
    --shared_count_;
    shared_[inode].erase(session);
    if (shared_[inode].empty()) shared_.erase(inode);
    return lease_of(0);
  }
  entry->second = now_ms + options_.lease_ms;
  return lease_of(options_.lease_ms);
}

void SharedLeases::drop_silent_waiters(Exclusive& exclusive, uint64_t now_ms) const {
  std::erase_if(exclusive.waiters,
                [&](const Exclusive::Waiter& waiter) { return waiter.asked_ms + options_.waiter_ms < now_ms; });
}

SharedLeases::Acquired SharedLeases::acquire(SessionId session, InodeId inode, uint64_t now_ms) {
  if (exclusive_.size() >= options_.leases_max && !exclusive_.contains(inode)) {
    return {.lease = std::nullopt, .try_again_ms = now_ms + options_.lease_ms};
  }
  Exclusive& exclusive = exclusive_[inode];
  drop_silent_waiters(exclusive, now_ms);
  auto place = std::ranges::find(exclusive.waiters, session, &Exclusive::Waiter::session);
  bool is_free = exclusive.holder == session || exclusive.until_ms <= now_ms;
  bool is_next = exclusive.waiters.empty() || exclusive.waiters.front().session == session;
  bool others_wait = std::ranges::any_of(exclusive.waiters,
                                         [&](const Exclusive::Waiter& waiter) { return waiter.session != session; });
  bool still_theirs = exclusive.holder == session && exclusive.until_ms > now_ms && !others_wait;
  if (now_ms >= not_before_ms_ && is_free && (is_next || still_theirs)) {
    if (place != exclusive.waiters.end()) exclusive.waiters.erase(place);
    exclusive.holder = session;
    exclusive.refused_since_ms = 0;
    exclusive.until_ms = now_ms + options_.lease_ms;
    unheld_.erase(inode);
    return {.lease = lease_of(options_.lease_ms)};
  }
  if (place == exclusive.waiters.end()) {
    exclusive.waiters.push_back({session, now_ms});
  } else {
    place->asked_ms = now_ms;
  }
  return {.lease = std::nullopt, .try_again_ms = std::max({exclusive.until_ms, not_before_ms_, now_ms + kRetryMs})};
}

std::optional<Lease> SharedLeases::renew(SessionId session, InodeId inode, uint64_t now_ms) {
  // Whoever holds it without our knowing (the leader before gave it) may still use it: nobody else can be told "yes"
  // now.
  if (now_ms < not_before_ms_) return std::nullopt;
  auto found = exclusive_.find(inode);
  if (found == exclusive_.end()) return acquire(session, inode, now_ms).lease;
  Exclusive& exclusive = found->second;
  drop_silent_waiters(exclusive, now_ms);
  bool others_wait = std::ranges::any_of(exclusive.waiters,
                                         [&](const Exclusive::Waiter& waiter) { return waiter.session != session; });
  bool taken = exclusive.holder != session && exclusive.until_ms > now_ms;
  if (taken) return std::nullopt;
  if (others_wait) {
    if (exclusive.holder == session && exclusive.until_ms > now_ms) {
      if (exclusive.refused_since_ms == 0) exclusive.refused_since_ms = now_ms;
      if (now_ms < exclusive.refused_since_ms + options_.flush_ms) exclusive.until_ms = now_ms + options_.lease_ms;
    }
    return std::nullopt;
  }
  exclusive.refused_since_ms = 0;
  exclusive.holder = session;
  exclusive.until_ms = now_ms + options_.lease_ms;
  exclusive.waiters.clear();
  unheld_.erase(inode);
  return lease_of(options_.lease_ms);
}

bool SharedLeases::release(SessionId session, InodeId inode, uint64_t now_ms) {
  auto found = exclusive_.find(inode);
  if (found == exclusive_.end() || found->second.holder != session) return false;
  drop_silent_waiters(found->second, now_ms);
  found->second.until_ms = 0;
  if (!found->second.waiters.empty()) return true;
  exclusive_.erase(found);
  return false;
}

std::optional<SessionId> SharedLeases::holder(InodeId inode, uint64_t now_ms) const {
  auto found = exclusive_.find(inode);
  if (found == exclusive_.end() || found->second.until_ms <= now_ms) return std::nullopt;
  return found->second.holder;
}

uint64_t SharedLeases::unheld_since(InodeId inode, uint64_t now_ms) {
  if (holder(inode, now_ms)) return now_ms;
  if (unheld_.size() >= options_.leases_max && !unheld_.contains(inode)) return now_ms;
  Watched& watched = unheld_.try_emplace(inode, Watched{.since_ms = now_ms}).first->second;
  watched.asked_ms = now_ms;
  return watched.since_ms;
}

void SharedLeases::forget_waiter(SessionId session, InodeId inode) {
  auto found = exclusive_.find(inode);
  if (found == exclusive_.end()) return;
  std::erase_if(found->second.waiters, [&](const Exclusive::Waiter& waiter) { return waiter.session == session; });
}

void SharedLeases::open(SessionId session, InodeId inode) {
  open_[inode].insert(session);
  open_by_[session].insert(inode);
}

void SharedLeases::close(SessionId session, InodeId inode) {
  auto sessions = open_.find(inode);
  if (sessions != open_.end()) {
    sessions->second.erase(session);
    if (sessions->second.empty()) open_.erase(sessions);
  }
  auto inodes = open_by_.find(session);
  if (inodes != open_by_.end()) {
    inodes->second.erase(inode);
    if (inodes->second.empty()) open_by_.erase(inodes);
  }
}

std::vector<SessionId> SharedLeases::holders(InodeId inode) const {
  auto found = open_.find(inode);
  if (found == open_.end()) return {};
  return {found->second.begin(), found->second.end()};
}

uint64_t SharedLeases::open_files(SessionId session) const {
  auto found = open_by_.find(session);
  return found == open_by_.end() ? 0 : found->second.size();
}

void SharedLeases::reclaim(SessionId session, const std::vector<InodeId>& inodes) {
  for (InodeId inode : inodes)
    open(session, inode);
}

bool SharedLeases::end_session(SessionId session) {
  if (auto known = open_by_.find(session); known != open_by_.end()) {
    std::set<InodeId> before = known->second;
    for (InodeId inode : before)
      close(session, inode);
  }
  bool awaited = false;
  for (auto it = exclusive_.begin(); it != exclusive_.end();) {
    std::erase_if(it->second.waiters, [&](const Exclusive::Waiter& waiter) { return waiter.session == session; });
    if (it->second.holder == session) it->second.until_ms = 0;
    bool unused = it->second.until_ms == 0 && it->second.waiters.empty();
    if (it->second.until_ms == 0 && !unused) awaited = true;
    it = unused ? exclusive_.erase(it) : std::next(it);
  }
  for (auto it = shared_.begin(); it != shared_.end();) {
    shared_count_ -= it->second.erase(session);
    it = it->second.empty() ? shared_.erase(it) : std::next(it);
  }
  return awaited;
}

void SharedLeases::expire(uint64_t now_ms) {
  for (auto it = exclusive_.begin(); it != exclusive_.end();) {
    drop_silent_waiters(it->second, now_ms);
    bool unused = it->second.until_ms <= now_ms && it->second.waiters.empty();
    it = unused ? exclusive_.erase(it) : std::next(it);
  }
  std::erase_if(unheld_, [&](const auto& entry) { return entry.second.asked_ms + options_.unwatch_ms <= now_ms; });
  for (auto it = shared_.begin(); it != shared_.end();) {
    shared_count_ -= std::erase_if(it->second, [&](const auto& entry) { return entry.second <= now_ms; });
    it = it->second.empty() ? shared_.erase(it) : std::next(it);
  }
}

size_t SharedLeases::size() const {
  return shared_count_ + exclusive_.size();
}

}  // namespace cairn
