#include "master/namespace/transaction.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/base/check.h"

namespace cairn {

Transaction::Transaction(const KvStore& store, RecordCache& cache, const LogContext& context, const Tables& before)
    : store_(store),
      cache_(cache),
      context_(context),
      before_(before),
      counters_(before.counters),
      counters_saved_(before.counters) {}

std::optional<ClusterRecord> Transaction::cluster() const {
  return changes_.contains(keys::cluster()) ? RecordReader::cluster() : before_.cluster;
}

std::optional<ServerRecord> Transaction::server(ServerId id) const {
  if (changes_.contains(keys::server(id))) return RecordReader::server(id);
  auto found = before_.servers.find(id);
  if (found == before_.servers.end()) return std::nullopt;
  return found->second;
}

std::optional<SessionRecord> Transaction::session(SessionId id) const {
  if (auto changed = sessions_.find(id); changed != sessions_.end()) return changed->second;
  auto found = before_.sessions.find(id);
  if (found == before_.sessions.end()) return std::nullopt;
  return found->second;
}

InodeLocks Transaction::locks(InodeId inode) const {
  if (auto changed = changes_.find(keys::locks(inode)); changed != changes_.end()) {
    InodeLocks locks;
    if (changed->second) CHECK(decode(*changed->second, locks).has_value());  // encoded in this entry
    return locks;
  }
  auto found = before_.locks.find(inode);
  return found == before_.locks.end() ? InodeLocks() : found->second;
}

void Transaction::put_locks(InodeId inode, const InodeLocks& locks) {
  const InodeLocks before = this->locks(inode);
  if (before == locks) return;
  std::set<SessionId> had, has;
  for (const FileLock& lock : before.all())
    had.insert(lock.session);
  for (const FileLock& lock : locks.all())
    has.insert(lock.session);
  for (SessionId session : had) {
    if (!has.contains(session)) erase(keys::session_locks(session, inode));
  }
  for (SessionId session : has) {
    if (!had.contains(session)) put(keys::session_locks(session, inode), std::string());
  }
  if (!locks.empty()) {
    put(keys::locks(inode), encode(locks));
  } else if (!had.empty()) {
    erase(keys::locks(inode));
  }
}

void Transaction::set_session(SessionId id, SessionChange session) {
  auto [it, fresh] = sessions_.try_emplace(id);
  session_undo_.push_back({id, fresh ? std::nullopt : std::optional<SessionChange>(std::move(it->second))});
  it->second = std::move(session);
}

void Transaction::finish() {
  for (const auto& [id, session] : sessions_) {
    if (session) {
      put(keys::session(id), encode(*session));
    } else {
      erase(keys::session(id));
    }
  }
  put(keys::counters(), encode(counters_));
}

bool Transaction::take_inline_removals(uint32_t count) {
  if (count > inline_removals_left_) return false;
  inline_removals_left_ -= count;
  return true;
}

void Transaction::put(std::string key, std::string value) {
  set(std::move(key), std::move(value));
}
void Transaction::erase(std::string key) {
  set(std::move(key), std::nullopt);
}

void Transaction::set(std::string key, std::optional<std::string> value) {
  auto [it, fresh] = changes_.try_emplace(std::move(key));
  undo_.push_back(Undo{&*it, !fresh, fresh ? std::nullopt : std::move(it->second)});
  it->second = std::move(value);
}

void Transaction::savepoint() {
  undo_.clear();
  session_undo_.clear();
  counters_saved_ = counters_;
  inline_removals_saved_ = inline_removals_left_;
}

void Transaction::rollback() {
  for (auto undo = undo_.rbegin(); undo != undo_.rend(); ++undo) {
    if (undo->was_changed) {
      undo->change->second = std::move(undo->value);
    } else {
      changes_.erase(changes_.find(undo->change->first));
    }
  }
  undo_.clear();
  for (auto undo = session_undo_.rbegin(); undo != session_undo_.rend(); ++undo) {
    if (undo->before) {
      sessions_[undo->id] = std::move(*undo->before);
    } else {
      sessions_.erase(undo->id);
    }
  }
  session_undo_.clear();
  counters_ = counters_saved_;
  inline_removals_left_ = inline_removals_saved_;
}

Result<std::optional<std::string>> Transaction::load(std::string_view key) const {
  if (auto changed = changes_.find(key); changed != changes_.end()) return changed->second;
  const bool is_cached = keys::is_looked_up(key);
  if (is_cached) {
    if (std::optional<RecordCache::Value> cached = cache_.find(key)) return std::move(*cached);
  }
  Result<std::string> stored = store_.get(key);
  if (!stored && !stored.failed_with(ErrorCode::kNotFound)) return stored.error();
  std::optional<std::string> value;
  if (stored) value = std::move(*stored);
  if (is_cached) cache_.insert(key, value);
  return value;
}

Result<void> Transaction::load_range(std::string_view prefix, std::string_view from, const Visit& visit) const {
  // The entry's own changes in the range, sorted; a scan is rare (removals, ticks), a change is not: so they are not
  // kept sorted.
  std::vector<const Changes::value_type*> changed;
  for (const Changes::value_type& change : changes_) {
    if (std::string_view key = change.first; key.starts_with(prefix) && key >= from) changed.push_back(&change);
  }
  std::sort(changed.begin(), changed.end(), [](const auto* a, const auto* b) { return a->first < b->first; });

  auto next = changed.begin();
  bool go_on = true;
  // Visits changes up to `key` (all, if none); true if one of them is `key` itself.
  auto visit_changes_to = [&](std::optional<std::string_view> key) {
    while (go_on && next != changed.end() && (!key || (*next)->first <= *key)) {
      const Changes::value_type& change = **next++;
      if (change.second) go_on = visit(change.first, *change.second);
      if (key && change.first == *key) return true;
    }
    return false;
  };
  Result<void> done = scan_store(store_, prefix, from, [&](std::string_view key, std::string_view value) {
    const bool replaced = visit_changes_to(key);
    if (go_on && !replaced) go_on = visit(key, value);
    return go_on;
  });
  if (!done) return done;
  visit_changes_to(std::nullopt);
  return {};
}

Result<void> scan_store(const KvStore& store, std::string_view prefix, std::string_view from,
                        const RecordReader::Visit& visit) {
  std::unique_ptr<KvIterator> it = store.iterate();
  for (it->seek(std::max(prefix, from)); it->valid() && it->key().starts_with(prefix); it->next()) {
    if (!visit(it->key(), it->value())) return {};
  }
  return it->status();
}

}  // namespace cairn
