#include "master/leases/lease_table.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "common/base/check.h"

namespace cairn {

namespace {
// Above 15/16 of what may be held somebody is asked to give an eighth of what it has back.
constexpr size_t kFull = 16;
constexpr size_t kGiveBackPart = 8;

bool nearly_full(size_t count, size_t most) {
  return count > most - most / kFull;
}
}  // namespace

LeaseTable::LeaseTable(LeaseTableOptions options) : options_(options), slots_(options.slots) {
  CHECK(std::has_single_bit(options.slots));
}

LeaseTable::~LeaseTable() = default;

void LeaseTable::begin_term(uint64_t term) {
  term_ = term;
  sequence_ = 0;
  shared_count_ = 0;
  std::ranges::fill(slots_, Slot{});
  shared_.clear();
  lists_.clear();
  free_lists_.clear();
  exclusive_.clear();
  numbers_.clear();
  sessions_.clear();
  free_numbers_.clear();
  changes_.clear();
  changing_.clear();
}

// ---------------------------------------------------------------- sessions and lists

LeaseTable::Session& LeaseTable::session_of(SessionId session) {
  if (Session* known = find_session(session)) return *known;
  uint32_t number = 0;
  if (free_numbers_.empty()) {
    number = static_cast<uint32_t>(sessions_.size());
    sessions_.emplace_back();
  } else {
    number = free_numbers_.back();
    free_numbers_.pop_back();
  }
  sessions_[number] = std::make_unique<Session>();
  sessions_[number]->id = session;
  sessions_[number]->number = number;
  numbers_[session] = number;
  return *sessions_[number];
}

LeaseTable::Session* LeaseTable::find_session(SessionId session) {
  auto found = numbers_.find(session);
  return found == numbers_.end() ? nullptr : sessions_[found->second].get();
}

const LeaseTable::Session* LeaseTable::find_session(SessionId session) const {
  auto found = numbers_.find(session);
  return found == numbers_.end() ? nullptr : sessions_[found->second].get();
}

void LeaseTable::drop_if_unused(Session& session) {
  if (!session.unused()) return;
  uint32_t number = session.number;
  numbers_.erase(session.id);
  free_numbers_.push_back(number);
  sessions_[number].reset();
}

const std::vector<uint32_t>* LeaseTable::list_of(const Sharers& sharers) const {
  return sharers.is_list ? &lists_[sharers.number] : nullptr;
}

std::vector<SessionId> LeaseTable::sharers_of(InodeId inode) const {
  auto found = shared_.find(inode);
  if (found == shared_.end()) return {};
  const std::vector<uint32_t>* list = list_of(found->second);
  if (!list) return {sessions_[found->second.number]->id};
  std::vector<SessionId> all;
  all.reserve(list->size());
  for (uint32_t number : *list)
    all.push_back(sessions_[number]->id);
  return all;
}

bool LeaseTable::others_share(SessionId session, InodeId inode) const {
  auto found = shared_.find(inode);
  if (found == shared_.end()) return false;
  return found->second.is_list || sessions_[found->second.number]->id != session;
}

void LeaseTable::add_shared(Session& session, InodeId inode) {
  if (!session.shared.insert(inode).second) return;
  ++shared_count_;
  auto [entry, is_first] = shared_.try_emplace(inode, Sharers{.number = session.number});
  if (is_first) return;
  Sharers& sharers = entry->second;
  if (!sharers.is_list) {
    uint32_t list = 0;
    if (free_lists_.empty()) {
      list = static_cast<uint32_t>(lists_.size());
      lists_.emplace_back();
    } else {
      list = free_lists_.back();
      free_lists_.pop_back();
    }
    lists_[list].push_back(sharers.number);
    sharers = {.number = list, .is_list = true};
  }
  lists_[sharers.number].push_back(session.number);
}

void LeaseTable::remove_shared(Session& session, InodeId inode) {
  if (session.shared.erase(inode) == 0) return;
  --shared_count_;
  auto found = shared_.find(inode);
  CHECK(found != shared_.end());
  Sharers& sharers = found->second;
  if (!sharers.is_list) {
    shared_.erase(found);
    return;
  }
  std::vector<uint32_t>& list = lists_[sharers.number];
  auto place = std::ranges::find(list, session.number);
  CHECK(place != list.end());
  *place = list.back();
  list.pop_back();
  if (list.size() > 1) return;
  uint32_t freed = sharers.number;
  sharers = {.number = list.front(), .is_list = false};
  list = std::vector<uint32_t>();
  free_lists_.push_back(freed);
}

// What it has changed by itself is not what somebody read before.
void LeaseTable::end_exclusive(Session& session, InodeId inode) {
  session.exclusive.erase(inode);
  exclusive_.erase(inode);
  touch(inode, session.id);
}

// ---------------------------------------------------------------- marks

size_t LeaseTable::slot_index(InodeId inode) const {
  // The upper half: the lower bits of the hash (a product) depend on the lower bits of the inode only.
  return (std::hash<InodeId>()(inode) >> 32) & (slots_.size() - 1);
}

void LeaseTable::touch(InodeId inode, SessionId by) {
  Slot& slot = slots_[slot_index(inode)];
  if (slot.who != by) slot = {.last = slot.last, .last_other = slot.last, .who = by};
  slot.last = ++sequence_;
}

bool LeaseTable::touched_since(InodeId inode, uint64_t at) const {
  return slots_[slot_index(inode)].last > at;
}

bool LeaseTable::touched_by_others_since(InodeId inode, SessionId session, uint64_t at) const {
  const Slot& slot = slots_[slot_index(inode)];
  return (slot.who == session ? slot.last_other : slot.last) > at;
}

Lease LeaseTable::lease(bool given) {
  // A refusal has a number, too: of nothing that was given.
  if (given) ++sequence_;
  return {.duration_ms = given ? 1u : 0u, .term = term_, .sequence = sequence_};
}

// ---------------------------------------------------------------- reads

Lease LeaseTable::share(SessionId session, InodeId inode, Mark mark, bool may_hold) {
  if (!may_hold || mark.term != term_ || changing_.contains(inode) || touched_since(inode, mark.at))
    return lease(false);
  if (recalled(session, inode)) return lease(false);
  std::optional<SessionId> exclusive = writer(inode);
  if (exclusive) return lease(*exclusive == session);
  if (const Session* known = find_session(session); known && known->shared.contains(inode)) return lease(true);
  if (shared_count_ >= options_.leases_max || shared_of(session) >= options_.session_max) return lease(false);
  add_shared(session_of(session), inode);
  return lease(true);
}

std::optional<SessionId> LeaseTable::writer(InodeId inode) const {
  auto found = exclusive_.find(inode);
  if (found == exclusive_.end()) return std::nullopt;
  return found->second;
}

bool LeaseTable::holds(SessionId session, InodeId inode) const {
  const Session* known = find_session(session);
  return known && (known->shared.contains(inode) || known->exclusive.contains(inode));
}

// ---------------------------------------------------------------- changes

ChangeId LeaseTable::begin_change(SessionId by, std::vector<Touched> touched) {
  ChangeId id = ++last_change_;
  Change& change = changes_[id];
  change.by = by;
  change.touched = std::move(touched);
  for (const Touched& object : change.touched) {
    touch(object.inode, by);
    std::vector<ChangeId>& changes = changing_[object.inode];
    if (changes.empty() || changes.back() != id) changes.push_back(id);
  }
  change.began = sequence_;
  return id;
}

Recall& LeaseTable::add_pending(Session& session, ChangeId change, RecallKind kind, InodeId inode) {
  Pending pending{.recall = {.sequence = ++sequence_, .kind = kind, .inode = inode}, .change = change};
  return session.pending.emplace(sequence_, std::move(pending)).first->second.recall;
}

void LeaseTable::ask_sharer(Change& change, ChangeId id, size_t index, SessionId holder, std::vector<Asked>& out) {
  const Touched& object = change.touched[index];
  if (holder == change.by || !change.told.insert({holder, 2 * index}).second) return;
  RecallKind kind = object.kind == RecallKind::kWriter ? RecallKind::kContent : object.kind;
  Recall& recall = add_pending(*find_session(holder), id, kind, object.inode);
  recall.name = object.name;
  ++change.pending;
  out.push_back({.session = holder, .recall = recall});
}

void LeaseTable::ask_writer(Change& change, ChangeId id, size_t index, SessionId holder, std::vector<Asked>& out) {
  const Touched& object = change.touched[index];
  if (holder == change.by || !change.told.insert({holder, 2 * index + 1}).second) return;
  bool all = object.kind == RecallKind::kContent || object.kind == RecallKind::kWriter;
  RecallKind kind = all ? RecallKind::kWriter : RecallKind::kReader;
  ++change.pending;
  out.push_back({.session = holder, .recall = add_pending(*find_session(holder), id, kind, object.inode)});
}

std::vector<LeaseTable::Asked> LeaseTable::recalls_for(ChangeId change) {
  std::vector<Asked> asked;
  auto found = changes_.find(change);
  if (found == changes_.end()) return asked;
  for (size_t i = 0; i < found->second.touched.size(); ++i) {
    InodeId inode = found->second.touched[i].inode;
    if (std::optional<SessionId> exclusive = writer(inode)) ask_writer(found->second, change, i, *exclusive, asked);
    for (SessionId holder : sharers_of(inode))
      ask_sharer(found->second, change, i, holder, asked);
  }
  return asked;
}

// The change, if it waits for nobody any more.
ChangeId LeaseTable::one_less_pending(ChangeId change) {
  auto found = changes_.find(change);
  if (found == changes_.end()) return 0;
  return --found->second.pending == 0 ? change : 0;
}

LeaseTable::Answered LeaseTable::answered(SessionId session, const RecallAnswer& answer) {
  Session* known = find_session(session);
  if (!known) return {};
  auto found = known->pending.find(answer.sequence);
  if (found == known->pending.end()) return {};
  Recall recall = std::move(found->second.recall);
  ChangeId change = found->second.change;
  known->pending.erase(found);
  if (recall.kind == RecallKind::kLocksBroken) {
    drop_if_unused(*known);
    return {.known = true, .complete = 0};
  }
  bool exclusive = known->exclusive.contains(recall.inode);
  bool goes = answer.returned || recall.kind == RecallKind::kContent || recall.kind == RecallKind::kWriter;
  if (recall.kind == RecallKind::kGiveBack) {
    known->asked_to_give = false;
  } else if (exclusive && (goes || recall.kind == RecallKind::kReader)) {
    end_exclusive(*known, recall.inode);
    if (!goes) add_shared(*known, recall.inode);
  } else if (goes) {
    remove_shared(*known, recall.inode);
  }
  drop_if_unused(*known);
  return {.known = true, .complete = one_less_pending(change)};
}

bool LeaseTable::recalled(SessionId session, InodeId inode) const {
  const Session* known = find_session(session);
  return known &&
         std::ranges::any_of(known->pending, [&](const auto& entry) { return entry.second.recall.inode == inode; });
}

bool LeaseTable::asked_for_all(SessionId session, InodeId inode) const {
  const Session* known = find_session(session);
  return known && std::ranges::any_of(known->pending, [&](const auto& entry) {
           const Recall& recall = entry.second.recall;
           return recall.inode == inode && (recall.kind == RecallKind::kContent || recall.kind == RecallKind::kWriter);
         });
}

size_t LeaseTable::pending(ChangeId change) const {
  auto found = changes_.find(change);
  return found == changes_.end() ? 0 : found->second.pending;
}

bool LeaseTable::alone(ChangeId change, InodeId inode) const {
  auto found = changing_.find(inode);
  return found == changing_.end() ||
         std::ranges::all_of(found->second, [&](ChangeId other) { return other == change; });
}

Lease LeaseTable::share_changed(ChangeId change, InodeId inode, bool may_hold) {
  auto found = changes_.find(change);
  if (found == changes_.end()) return lease(false);
  const Change& own = found->second;
  auto changing = changing_.find(inode);
  bool touches = changing != changing_.end() && std::ranges::find(changing->second, change) != changing->second.end();
  if (!touches) return share(own.by, inode, {.term = term_, .at = own.began}, may_hold);
  bool only_own = std::ranges::all_of(changing->second, [&](ChangeId id) { return changes_.at(id).by == own.by; });
  if (!may_hold || !only_own || recalled(own.by, inode)) return lease(false);
  if (touched_by_others_since(inode, own.by, own.began)) return lease(false);
  if (std::optional<SessionId> exclusive = writer(inode)) return lease(*exclusive == own.by);
  if (holds(own.by, inode)) return lease(true);
  if (shared_count_ >= options_.leases_max || shared_of(own.by) >= options_.session_max) return lease(false);
  add_shared(session_of(own.by), inode);
  return lease(true);
}

void LeaseTable::end_change(ChangeId change) {
  auto found = changes_.find(change);
  if (found == changes_.end()) return;
  for (const Touched& object : found->second.touched) {
    touch(object.inode, found->second.by);
    auto changing = changing_.find(object.inode);
    if (changing == changing_.end()) continue;
    std::erase(changing->second, change);
    if (changing->second.empty()) changing_.erase(changing);
  }
  changes_.erase(found);
}

// ---------------------------------------------------------------- exclusive

Lease LeaseTable::give_exclusive(Session& session, InodeId inode) {
  remove_shared(session, inode);
  session.exclusive.insert(inode);
  exclusive_[inode] = session.id;
  return lease(true);
}

Lease LeaseTable::make_exclusive(ChangeId change, SessionId session, InodeId inode) {
  if (recalled(session, inode)) return lease(false);
  std::optional<SessionId> exclusive = writer(inode);
  if (exclusive) return lease(*exclusive == session);
  bool known = changes_.contains(change);
  if (!known || !alone(change, inode) || others_share(session, inode) || exclusive_of(session) >= options_.session_max)
    return lease(false);
  return give_exclusive(session_of(session), inode);
}

Lease LeaseTable::make_exclusive_new(SessionId session, InodeId inode) {
  std::optional<SessionId> exclusive = writer(inode);
  if (exclusive) return lease(*exclusive == session);
  if (changing_.contains(inode) || others_share(session, inode) || exclusive_of(session) >= options_.session_max)
    return lease(false);
  return give_exclusive(session_of(session), inode);
}

Lease LeaseTable::exclusive_of(SessionId session, InodeId inode) {
  return lease(writer(inode) == session && !recalled(session, inode));
}

std::optional<LeaseTable::Asked> LeaseTable::recall_for_reader(InodeId inode, SessionId reader) {
  std::optional<SessionId> exclusive = writer(inode);
  if (!exclusive || *exclusive == reader || reader_pending(inode)) return std::nullopt;
  return Asked{.session = *exclusive, .recall = add_pending(*find_session(*exclusive), 0, RecallKind::kReader, inode)};
}

bool LeaseTable::reader_pending(InodeId inode) const {
  std::optional<SessionId> exclusive = writer(inode);
  if (!exclusive) return false;
  return std::ranges::any_of(find_session(*exclusive)->pending, [&](const auto& entry) {
    const Recall& recall = entry.second.recall;
    return recall.inode == inode && (recall.kind == RecallKind::kReader || recall.kind == RecallKind::kWriter);
  });
}

bool LeaseTable::lower(SessionId session, InodeId inode, bool keep_shared) {
  Session* known = find_session(session);
  if (!known || !known->exclusive.contains(inode)) return false;
  end_exclusive(*known, inode);
  if (keep_shared) add_shared(*known, inode);
  drop_if_unused(*known);
  return true;
}

// ---------------------------------------------------------------- sessions

Result<void> LeaseTable::reclaim(SessionId session, const std::vector<HeldLease>& leases) {
  for (const HeldLease& held : leases) {
    std::optional<SessionId> exclusive = writer(held.inode);
    bool conflict = exclusive ? *exclusive != session : held.exclusive && others_share(session, held.inode);
    if (conflict || changing_.contains(held.inode))
      return Error(ErrorCode::kConflict, "a lease on inode " + to_string(held.inode) + " is somebody else's");
    if (shared_of(session) + exclusive_of(session) >= 2 * options_.session_max)
      return Error(ErrorCode::kConflict, "more leases than a session may have");
    if (exclusive) continue;
    if (held.exclusive) {
      give_exclusive(session_of(session), held.inode);
    } else {
      add_shared(session_of(session), held.inode);
    }
  }
  return {};
}

LeaseTable::Asked LeaseTable::locks_broken(SessionId session, InodeId inode) {
  return {.session = session, .recall = add_pending(session_of(session), 0, RecallKind::kLocksBroken, inode)};
}

void LeaseTable::give_back(SessionId session, const std::vector<InodeId>& inodes) {
  Session* known = find_session(session);
  if (!known) return;
  for (InodeId inode : inodes)
    remove_shared(*known, inode);
  drop_if_unused(*known);
}

std::vector<ChangeId> LeaseTable::end_session(SessionId session) {
  std::vector<ChangeId> complete;
  Session* known = find_session(session);
  if (!known) return complete;
  for (const auto& [sequence, pending] : std::exchange(known->pending, {})) {
    if (ChangeId change = one_less_pending(pending.change)) complete.push_back(change);
  }
  std::vector<InodeId> shared(known->shared.begin(), known->shared.end());
  for (InodeId inode : shared)
    remove_shared(*known, inode);
  std::vector<InodeId> exclusive(known->exclusive.begin(), known->exclusive.end());
  for (InodeId inode : exclusive)
    end_exclusive(*known, inode);
  drop_if_unused(*known);
  return complete;
}

std::vector<Recall> LeaseTable::pending_of(SessionId session, uint64_t after, size_t count) const {
  std::vector<Recall> recalls;
  const Session* known = find_session(session);
  if (!known) return recalls;
  auto next = known->pending.upper_bound(after);
  for (; next != known->pending.end() && recalls.size() < count; ++next)
    recalls.push_back(next->second.recall);
  return recalls;
}

uint64_t LeaseTable::oldest_pending(SessionId session) const {
  const Session* known = find_session(session);
  return known && !known->pending.empty() ? known->pending.begin()->first : 0;
}

std::optional<LeaseTable::Asked> LeaseTable::greediest() {
  bool all_full = nearly_full(shared_count_, options_.leases_max);
  Session* most = nullptr;
  for (const std::unique_ptr<Session>& session : sessions_) {
    if (!session || session->asked_to_give || session->shared.empty()) continue;
    if (!all_full && !nearly_full(session->shared.size(), options_.session_max)) continue;
    if (!most || session->shared.size() > most->shared.size()) most = session.get();
  }
  if (!most) return std::nullopt;
  most->asked_to_give = true;
  Recall& recall = add_pending(*most, 0, RecallKind::kGiveBack, InodeId{});
  recall.count = static_cast<uint32_t>(most->shared.size() / kGiveBackPart + 1);
  return Asked{.session = most->id, .recall = recall};
}

// ---------------------------------------------------------------- for people and metrics

std::vector<LeaseTable::Holder> LeaseTable::holders(InodeId inode) const {
  std::vector<Holder> all;
  if (std::optional<SessionId> exclusive = writer(inode)) all.push_back({.session = *exclusive, .exclusive = true});
  for (SessionId session : sharers_of(inode))
    all.push_back({.session = session});
  for (Holder& holder : all)
    holder.recalled = recalled(holder.session, inode);
  std::ranges::sort(all, {}, &Holder::session);
  return all;
}

uint64_t LeaseTable::oldest_pending(SessionId session, InodeId inode) const {
  const Session* known = find_session(session);
  if (!known) return 0;
  auto found =
      std::ranges::find_if(known->pending, [&](const auto& entry) { return entry.second.recall.inode == inode; });
  return found == known->pending.end() ? 0 : found->first;
}

std::vector<LeaseTable::Changing> LeaseTable::changing(InodeId inode) const {
  std::vector<Changing> all;
  auto found = changing_.find(inode);
  if (found == changing_.end()) return all;
  for (ChangeId id : found->second) {
    const Change& change = changes_.at(id);
    for (const Touched& touched : change.touched) {
      Changing one{.by = change.by, .touched = touched, .pending = change.pending};
      if (touched.inode == inode && std::ranges::find(all, one) == all.end()) all.push_back(one);
    }
  }
  return all;
}

size_t LeaseTable::shared_of(SessionId session) const {
  const Session* known = find_session(session);
  return known ? known->shared.size() : 0;
}

size_t LeaseTable::exclusive_of(SessionId session) const {
  const Session* known = find_session(session);
  return known ? known->exclusive.size() : 0;
}

size_t LeaseTable::pending_of(SessionId session) const {
  const Session* known = find_session(session);
  return known ? known->pending.size() : 0;
}

}  // namespace cairn
